"""Takes out of a text who wrote it and where: secrets, user names, home paths, host names. Pure.

For what is given to others, on top of the redaction of prompts (see redaction.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

SECRET = "<secret>"
USER = "<user>"
HOST = "<host>"

_SHORTEST_NAME = 3
_USUAL_NAMES = frozenset(
    ["root", "user", "users", "admin", "administrator", "public", "default", "home", "localhost"]
)
"""Names that say nothing of anybody; a log cannot be read without these words."""

_SECRETS = re.compile(
    r"\b(?:hf_|sk-|gh[pousr]_|github_pat_|glpat-|xox[abpr]-|r8_|AKIA)[A-Za-z0-9_\-]{8,}"
    r"|\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]+(?:\.[A-Za-z0-9_\-]*)?"  # a JSON web token
)
_SCHEMES = re.compile(r"\b(Bearer|Basic|Digest)(\s+)[A-Za-z0-9+/=_.~\-]{6,}", re.I)
_LABELLED = re.compile(
    r"""((?:passw(?:or)?d|passwd|pwd|secret|token|api[_-]?key|authorization|cookie|credentials?)"""
    r"""(?:\\?["'])?\s*[:=]\s*(?:\\?["'])?)(?!<secret>|hidden\b)[^\s"'\\,;&)}\]]+""",
    re.I,
)
_FLAG = re.compile(  # a flag begins where its dashes do, and is not gone through twice
    r"(?<!-)(--?(?=[\w-]{0,60}?(?:auth|token|passw|secret|key))[\w-]{1,120}+(?:=|\s++))"
    r"(?!-)[^\s\"']+",
    re.I,
)
_USERINFO = re.compile(r"(://)[^/\s:@\"']+:[^/\s@\"']+@")
_PROMPT = re.compile(  # but not what a validator says of the field
    r"(\b(?:negative[ _])?prompts?(?:\\?[\"'])?[ \t]*[:=][ \t]*+)"
    r"(?!<|\{|Input should|String should|Field required|Value error)[^\n]*?\w[^\n]*",
    re.I,
)
_SEPARATOR = r"(?:\\{1,4}|/)"
_WORD = r"[^\\/\s\"'<>|:*?,;()\[\]{}]"
_HOMES = re.compile(
    # Windows allows blanks in a user's name; they are told from a sentence by what follows.
    rf"(?:\b[A-Za-z]:{_SEPARATOR}|{_SEPARATOR})(?:Users|Documents and Settings){_SEPARATOR}"
    rf"(?P<windows>{_WORD}{{1,64}}(?: {_WORD}{{1,32}}){{0,2}}(?=\\)|{_WORD}{{1,64}})"
    rf"|/(?:var/)?home{_SEPARATOR}(?P<posix>{_WORD}{{1,64}})",
    re.I,
)
_ROOTS_HOME = re.compile(r"(?<![\w.~])/root(?=/|\b)")


class Anonymiser:
    """`redact` takes out the prompts and the secrets that are known. `users` and `hosts`: names
    that are known; user names that stand in home paths are learned by `learn`. `places`: paths with
    the name that each gets."""

    def __init__(
        self,
        redact: Callable[[str], str] = lambda text: text,
        *,
        users: Iterable[str] = (),
        hosts: Iterable[str] = (),
        places: Mapping[str, str] | None = None,
    ) -> None:
        self._redact = redact
        self._names = {name.lower(): USER for name in users if _tells(name)}
        self._names |= {name.lower(): HOST for name in hosts if _tells(name)}
        self._places = _by_length(places or {})

    def learn(self, text: str) -> None:
        """Remember whose home paths are in it: the name may stand alone elsewhere."""
        for found in _HOMES.finditer(text):
            whole = (found["windows"] or found["posix"]).strip(" .")
            for name in (whole, whole.partition(" ")[0]):
                if _tells(name):
                    self._names.setdefault(name.lower(), USER)

    def text(self, text: str) -> str:
        """`text` without all that."""
        for path, name in self._places:
            text = re.sub(re.escape(path), name, text, flags=re.I)
        text = _USERINFO.sub(rf"\1{SECRET}@", text)
        text = _SCHEMES.sub(rf"\1\2{SECRET}", text)
        text = _LABELLED.sub(rf"\1{SECRET}", text)
        text = _FLAG.sub(rf"\1{SECRET}", text)
        text = _SECRETS.sub(SECRET, text)
        text = self._redact(text)
        text = _PROMPT.sub(r"\1<hidden>", text)
        text = _ROOTS_HOME.sub("~", _HOMES.sub("~", text))
        return self._without_names(text)

    def value(self, value: Any) -> Any:
        """The same for a value as JSON has it; its keys are names of fields."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        return value

    def _without_names(self, text: str) -> str:
        for name in sorted(self._names, key=len, reverse=True):
            pattern = rf"(?<![^\W_]){re.escape(name)}(?![^\W_])"
            text = re.sub(pattern, self._names[name], text, flags=re.I)
        return text


def command_without_secrets(words: Iterable[str]) -> list[str]:
    """A command line's words; what follows a flag that speaks of a password or the like is
    hidden."""
    told: list[str] = []
    hide = False
    for word in words:
        flag, is_joined, _ = word.partition("=")
        speaks = flag.startswith("-") and re.search(r"auth|token|passw|secret|key", flag, re.I)
        if hide and not word.startswith("-"):
            told.append(SECRET)
        elif speaks and is_joined:
            told.append(f"{flag}={SECRET}")
        else:
            told.append(word)
        hide = bool(speaks) and not is_joined
    return told


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
