"""A command as a person types it, so that it works from any folder. Pure."""

from __future__ import annotations

import re
import shlex

_UP_TO_QUOTE = re.compile(r'\\*"|.', re.DOTALL)
_PLAIN_ON_WINDOWS = re.compile(r"[\w\\/:.~-]+")


def config_option(config: str, windows: bool) -> str:
    """What each command needs to find this config, quoted for the shell of the system; '' where
    there is none, so that the built-in one serves."""
    return f" --config {quoted(config, windows)}" if config else ""


def quoted(word: str, windows: bool) -> str:
    """One word of a command. On Windows as both cmd and PowerShell take it, but for names with a
    `$` or a backtick, which PowerShell reads otherwise."""
    if not windows:
        return shlex.quote(word)
    return word if _PLAIN_ON_WINDOWS.fullmatch(word) else f'"{word}"'


def words_on_windows(line: str) -> list[str]:
    """Return a command line as its words, as programs on Windows take it apart (Microsoft, Parsing
    C command-line arguments; CommandLineToArgvW). Quotes may start anywhere in a word. A backslash
    means itself, except in a row of them that ends at a quote: there each two mean one, and one
    left over makes the quote a plain sign. Two quotes inside quotes mean a plain one. In the first
    word, a path, no backslash is special. Raises ValueError where a quote is not closed."""
    words: list[str] = []
    word, is_word, is_quoted, at = "", False, False, 0
    while at < len(line):
        token = line[at : _UP_TO_QUOTE.match(line, at).end()]  # type: ignore[union-attr]
        at += len(token)
        if token.isspace() and not is_quoted:
            words += [word] if is_word else []
            word, is_word = "", False
            continue
        is_word = True
        slashes, escaped = divmod(len(token) - 1, 2) if words else (len(token) - 1, 0)
        if not token.endswith('"'):
            word += token
        elif escaped:
            word += "\\" * slashes + '"'
        elif words and is_quoted and line[at : at + 1] == '"':
            word += "\\" * slashes + '"'
            at += 1
        else:
            word += "\\" * slashes
            is_quoted = not is_quoted
    if is_quoted:
        raise ValueError("a quote is not closed")
    return [*words, word] if is_word else words


def typed(words: str, option: str = "") -> str:
    """`sdwatch` with these words. `option`: see config_option."""
    return f"sdwatch {words}{option}"
