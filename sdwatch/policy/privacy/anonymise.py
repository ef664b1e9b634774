"""Takes out of a text who wrote it and where: user, host and inbox names, home paths; and whatever
else others must not see, each by the file beside this one that knows how. Pure.

For what is given to others, on top of the redaction of prompts (see redaction.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sdwatch.policy.privacy.addresses import HOST, machines, without_addresses
from sdwatch.policy.privacy.common_words import tells_nothing
from sdwatch.policy.privacy.credentials import without_credentials
from sdwatch.policy.privacy.leftover_words import LeftoverWords
from sdwatch.policy.privacy.pseudonyms import without_slugs

USER = "<user>"

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
    rf"{_SEPARATOR}(?P<windows>{_WORD}{{1,64}}(?: {_WORD}{{1,32}}){{0,2}}(?=\\)|{_WORD}{{1,64}})"
    rf"|/(?:(?:var/)?home|(?:run/)?media){_SEPARATOR}(?P<posix>{_WORD}{{1,64}})"
    r"|/Volumes/[^/\n]{1,64}",
    re.I,
)
_SOMEBODYS_HOME = re.compile(r"(?<![\w/.~\\])~[A-Za-z_][\w.-]*")
_NAMED = re.compile(
    r"\b(?:(?:share_|os_)?user(?:name)?=|logged in as:?\s)\s*[\"']?(?!None\b)([A-Za-z][\w.\-]*\w)",
    re.I,
)
"""User names in a log."""

_PARTS = re.compile(r"[^\W_]+")
_ROOTS_HOME = re.compile(r"(?<![\w.~])/root(?=/|\b)")


class Anonymiser:
    """`redact` takes out the prompts and secrets that are known, `leftover_words` what is left.
    `users` and `hosts`: names that are known; user names that stand in home paths are learned by
    `learn`. `places`: paths with the name that each gets; `names`: the same of the inbox."""

    def __init__(
        self,
        redact: Callable[[str], str] = lambda text: text,
        *,
        leftover_words: LeftoverWords | None = None,
        users: Iterable[str] = (),
        hosts: Iterable[str] = (),
        places: Mapping[str, str] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        self._redact = redact
        self._leftover_words = leftover_words or LeftoverWords()
        self._people = {name.lower(): USER for name in users if _tells(name)}
        self._people |= {name.lower(): HOST for name in hosts if _tells(name)}
        self._names = {name.lower(): pseudonym for name, pseudonym in (names or {}).items()}
        self._places = _by_length(places or {})

    def learn(self, text: str) -> None:
        """Remember whose home paths and which machines are in it: names may stand alone."""
        for found in _HOMES.finditer(text):
            whole = (found["windows"] or found["posix"] or "").strip(" .")
            self._learn_people(whole, whole.partition(" ")[0])
        for found in _NAMED.finditer(text):
            self._learn_people(found[1])
        for name in filter(_tells, machines(text)):
            self._people.setdefault(name.lower(), HOST)

    def _learn_people(self, *names: str) -> None:
        for name in names:
            if _tells(name):
                self._people.setdefault(name.lower(), USER)

    def text(self, text: str) -> str:
        """`text` without all that."""
        for path, name in self._places:
            text = re.sub(re.escape(path), name, text, flags=re.I)
        text = _replaced(without_slugs(text), self._names)
        text = without_credentials(text)
        text = self._redact(text)
        text = _PROMPT.sub(r"\1<hidden>", text)
        text = without_addresses(text)
        text = _ROOTS_HOME.sub("~", _HOMES.sub("~", text))
        text = _SOMEBODYS_HOME.sub("~", text)
        return _replaced(self._leftover_words.hide(text), self._people)

    def value(self, value: Any) -> Any:
        """The same for a value as JSON has it. Its keys are names of fields; one that is not made
        of usual words may be a text."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self._key(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def _key(self, key: str) -> str:
        return key if all(map(tells_nothing, _PARTS.findall(key))) else self.text(key)


def _replaced(text: str, names: Mapping[str, str]) -> str:
    """Each name where it stands alone, the longest first."""
    lowered = text.lower()
    for name in sorted((name for name in names if name in lowered), key=len, reverse=True):
        pattern = rf"(?<![^\W_]){re.escape(name)}(?![^\W_])"
        text = re.sub(pattern, names[name], text, flags=re.I)
    return text


def _tells(name: str) -> bool:
    name = name.strip().lower()
    return len(name) >= _SHORTEST_NAME and name not in _USUAL_NAMES and not name.isdigit()


def _by_length(places: Mapping[str, str]) -> list[tuple[str, str]]:
    """The longest path first; each also as JSON and Python escape it, and with `/`."""
    forms: dict[str, str] = {}
    for path, name in places.items():
        if len(path) > len("/home"):
            for form in (path, path.replace("\\", "\\\\"), path.replace("\\", "/")):
                forms.setdefault(form, name)
    return sorted(forms.items(), key=lambda form: -len(form[0]))
