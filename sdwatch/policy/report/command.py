"""Write a command as a person types it, so that it works in any folder. Pure."""

from __future__ import annotations

import re
import shlex

_UP_TO_QUOTE = re.compile(r'\\*"|.', re.DOTALL)
_PLAIN_ON_WINDOWS = re.compile(r"[\w\\/:.~-]+")


def config_option(config: str, windows: bool) -> str:
    """Return the option that each command needs to find this config, quoted for the system's shell;
    '' for the built-in config."""
    return f" --config {quoted(config, windows)}" if config else ""


def quoted(word: str, windows: bool) -> str:
    """Return one word of a command, quoted. On Windows both cmd and PowerShell accept the result,
    except for names with a `$` or a backtick, which PowerShell expands."""
    if not windows:
        return shlex.quote(word)
    return word if _PLAIN_ON_WINDOWS.fullmatch(word) else f'"{word}"'


def words_on_windows(line: str) -> list[str]:
    """Split a command line into words as programs on Windows do.

    Source: Microsoft, "Parsing C command-line arguments", and CommandLineToArgvW. Quotes may start
    anywhere in a word. A backslash is literal, except in a row of backslashes that ends at a quote:
    there each pair means one, and an odd one makes the quote literal. Two quotes inside quotes mean
    one literal quote. In the first word, a path, no backslash is special. Raises ValueError if a
    quote is not closed.
    """
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
    """Return the command `sdwatch` with these words. `option`: see config_option."""
    return f"sdwatch {words}{option}"
