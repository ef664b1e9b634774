"""A regular expression of a user's own file, which may be one that never ends. Pure.

A search that does not fit goes back and tries all other ways, which for `(a+)+b` are more than
anybody can wait for. `re` cannot be interrupted, and holds up every other thread meanwhile; `regex`
has a limit and does not. It is imported only for those who have such a file: it costs 2 MB.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

LIMIT_S = 1.0
"""Seconds for one search, of this process's CPU time where the system has that. 2,000 long lines
take some hundredths."""


class Expression(Protocol):
    """What a signature looks for with: a compiled expression."""

    @property
    def pattern(self) -> str:
        """Return its text."""

    def search(self, string: str, /) -> re.Match[str] | None:
        """Return the first match."""

    def finditer(self, string: str, /) -> Iterator[re.Match[str]]:
        """Yield each match."""


@dataclass(frozen=True)
class BuiltinExpression:
    """The re.Pattern of `pattern`, compiled when it is first used: a start would wait for hundreds,
    and most nights use none of them."""

    pattern: str

    @cached_property
    def search(self) -> Callable[[str], re.Match[str] | None]:
        """See Expression. Raises re.error for what is not an expression."""
        return self._compiled.search

    @cached_property
    def finditer(self) -> Callable[[str], Iterator[re.Match[str]]]:
        """See Expression. Raises re.error for what is not an expression."""
        return self._compiled.finditer

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.MULTILINE)


class OwnExpression:
    """Like re.Pattern, but a search ends after LIMIT_S, and no other is made after it.
    `on_limit`: is called with the expression then."""

    def __init__(self, text: str, on_limit: Callable[[str], None]) -> None:
        """Raises ValueError, with what is wrong, for what is not an expression."""
        import regex

        try:
            self._pattern: Any = regex.compile(text, regex.MULTILINE)
        except (regex.error, OverflowError) as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        except RecursionError:
            raise ValueError("has too many groups within each other") from None
        self.pattern = text
        self._on_limit = on_limit
        self._gave_up = False

    def search(self, string: str, /) -> re.Match[str] | None:
        """Return the first match; None too if the limit is or was reached."""
        return next(self.finditer(string), None)

    def finditer(self, string: str, /) -> Iterator[re.Match[str]]:
        """Yield each match, up to the limit."""
        if self._gave_up:
            return
        try:
            yield from self._pattern.finditer(string, timeout=LIMIT_S)
        except TimeoutError:
            self._gave_up = True
            self._on_limit(self.pattern)
