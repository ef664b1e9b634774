"""A command as a person types it, so that it works from any folder. Pure."""

from __future__ import annotations

import re
import shlex

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


def typed(words: str, option: str = "") -> str:
    """`sdwatch` with these words. `option`: see config_option."""
    return f"sdwatch {words}{option}"
