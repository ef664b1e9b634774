"""Take out of a WebUI's log who ran it and where: what is left to do before evidence, which is free
of prompts and known secrets, may be shown to strangers. Pure.

Nobody can list all that may be private in a log. So a person sees it before it is given away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sdwatch.policy.privacy.addresses import without_addresses
from sdwatch.policy.privacy.credentials import without_credentials

_SHORTEST_NAME = 3
_USUAL_NAMES = frozenset(
    ["root", "user", "users", "admin", "administrator", "public", "default", "home", "localhost"]
)
"""Names that say nothing of anybody; a log cannot be read without these words."""

_PROMPT = re.compile(  # but not what a validator says of the field
    r"(\b(?:negative[ _])?prompts?(?:\\?[\"'])?[ \t]*[:=][ \t]*+)"
    r"(?!<|\{|Input should|String should|Field required|Value error)[^\n]*?\w[^\n]*",
    re.I,
)
_SEPARATOR = r"(?:\\{1,4}|/)"
_WORD = r"[^\\/\s\"'<>|:*?,;()\[\]{}]"
_HOMES = re.compile(
    # Windows allows blanks in a user's name; what follows distinguishes them from a sentence.
    rf"(?:\b[A-Za-z]:{_SEPARATOR}|{_SEPARATOR})(?:Users|Profiles|Documents and Settings)"
    rf"{_SEPARATOR}(?:{_WORD}{{1,64}}(?: {_WORD}{{1,32}}){{0,2}}(?=\\)|{_WORD}{{1,64}})"
    rf"|/(?:(?:var/)?home|(?:run/)?media){_SEPARATOR}{_WORD}{{1,64}}"
    r"|/Volumes/[^/\n]{1,64}|(?<![\w.~])/root(?=/|\b)|(?<![\w/.~\\])~[A-Za-z_][\w.-]*",
    re.I,
)


def log_for_others(text: str, places: Mapping[str, str], names: Mapping[str, str]) -> str:
    """Return the text with `~` for home folders, without addresses, credentials and prompts that
    are called so. `places`: paths, `names`: users and hosts, each with what it becomes."""
    text = _PROMPT.sub(r"\1<hidden>", without_credentials(_replaced(text, places)))
    return _replaced(_HOMES.sub("~", without_addresses(text)), names)


def _replaced(text: str, names: Mapping[str, str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        if len(name) >= _SHORTEST_NAME and name.lower() not in _USUAL_NAMES:
            pattern = rf"(?<![^\W_]){re.escape(name)}(?![^\W_])"
            text = re.sub(pattern, names[name], text, flags=re.I)
    return text
