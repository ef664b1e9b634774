"""Find the secrets of a config: passwords, keys and tokens in a WebUI's command line, in its
environment, beside them. A WebUI prints its command line when it starts. Pure.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sdwatch.policy.config.exposure import words_of
from sdwatch.policy.privacy.common_words import COMMON
from sdwatch.policy.privacy.credentials import looks_like_a_token

_NAME = re.compile(
    r"(?:^|[-_.])(?:\w{0,20}auth|auth[-_]?file|\w{0,20}tokens?|passw(?:or)?ds?|passwd|passphrase|pass|pwd"
    r"|secrets?|\w{0,20}key|keys|keyfile|ngrok|pin|credentials?|cookies?)"
    r"(?:$|[-_.](?:file|path|id|value|string|base64)?$|[-_.])",
    re.I,
)
_NO_NAME = re.compile(
    r"(?:^|[-_.])(?:key-?frames?|monkey|hotkey|keyboard|max[-_]tokens?|tokenizers?)", re.I
)
_FLAG = re.compile(r"--?[A-Za-z][\w.-]*")
_VARIABLE = re.compile(r"[A-Za-z_]\w*")
_FILE = re.compile(r"(?:^|[-_])(?:file|path|keyfile|certfile)$", re.I)
_WEAK_LETTERS, _WEAK_DIGITS, _SHORTEST = 6, 8, 4
_LONGEST = 10_000
_DEEPEST = 2  # a command within a command


@dataclass(frozen=True)
class Secret:
    """A secret of a config. `label`: the flag, variable or key that `value` stands behind."""

    value: str
    label: str


def is_weak(secret: str) -> bool:
    """Return whether a secret is so short or common that hiding it everywhere would make a log
    unreadable, such as `1`, `user`, `1234`."""
    text = secret.strip()
    if len(text) < _SHORTEST or text.casefold() in COMMON:
        return True
    if text.isascii() and text.isdigit():
        return len(text) < _WEAK_DIGITS
    return text.isascii() and text.isalpha() and text.islower() and len(text) < _WEAK_LETTERS


def secrets_of(
    command: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    username: str | None = None,
    password: str | None = None,
) -> Iterator[Secret]:
    """Return all secrets of a WebUI's config, each with its label; one may come twice."""
    if password:
        yield Secret(password, "password")
        if username:
            both = f"{username}:{password}"
            yield Secret(both, "auth")
            yield Secret(base64.b64encode(both.encode()).decode(), "Basic")
    yield from _in_command(list(command), 0)
    for name, value in (env or {}).items():
        if _names_one(name):
            yield from _values(name, value)
        elif "-" in value or "=" in value:
            yield from _in_command(words_of(value), 1)
        elif looks_like_a_token(value):
            yield Secret(value, name)


def secret_files(command: Iterable[str] = (), env: Mapping[str, str] | None = None) -> list[str]:
    """Return the paths of the files that have secrets in them, as `--gradio-auth-path` names
    them."""
    words = [*command, *(w for value in (env or {}).values() for w in words_of(value))]
    found = (
        value
        for flag, value in _flags(words)
        if _FILE.search(flag) and re.search("auth|pass|cred", flag, re.I)
    )
    return [value for value in found if value]


def in_file(text: str, label: str) -> Iterator[Secret]:
    """Return those of such a file: `user:password`, separated by commas or line ends."""
    for pair in re.split(r"[,\r\n]", text[:_LONGEST]):
        yield from _values(label, pair.strip())


def _names_one(name: str) -> bool:
    return _NAME.search(name.lstrip("-")) is not None and _NO_NAME.search(name.lstrip("-")) is None


def _in_command(words: list[str], depth: int) -> Iterator[Secret]:
    for flag, value in _flags(words):
        if flag and _names_one(flag):
            yield from _values(flag, value)
        elif looks_like_a_token(value):
            yield Secret(value, flag or "argument")
    if depth < _DEEPEST:
        for word in words:
            if re.search(r"\s", word) and "-" in word:  # sh -c "… --api-auth a:b"
                yield from _in_command(words_of(word), depth + 1)


def _flags(words: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each word that is a value, behind its flag or variable; '' for one without."""
    flag = ""
    for word in words:
        name, joined, value = word.partition("=")
        if joined and (_FLAG.fullmatch(name) or _VARIABLE.fullmatch(name)):
            yield name, value
            flag = ""
        elif _FLAG.fullmatch(word):
            flag = word
        else:
            yield flag, word  # more values may follow: `--gradio-auth a:b c:d`
            flag = flag if _names_one(flag) else ""


def _values(label: str, value: str) -> Iterator[Secret]:
    """Yield a value whole, and of `user:password,user2:password2` each pair and each password."""
    value = value.strip().strip("\"'")
    if not value or value.casefold() in ("true", "false", "none", "null"):
        return
    yield Secret(value, label)
    for pair in value.split(","):
        user, colon, password = pair.strip().partition(":")
        if colon and user and password and not password.startswith(("//", "\\")):
            yield Secret(pair.strip(), label)
            yield Secret(password, user)
            yield Secret(password, "password")
