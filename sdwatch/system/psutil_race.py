"""A question to psutil that a process's end has come between."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Answer = TypeVar("Answer")

_TRIES = 5


def ask(question: Callable[P, Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
    """Return psutil's answer. It raises FileNotFoundError instead of NoSuchProcess where the files
    of a process were gone and are there when it looks again (`wrap_exceptions` in psutil 7.2.2,
    _pslinux.py): asked again, it knows which. Raises what `question` raises."""
    for _ in range(_TRIES - 1):
        with suppress(FileNotFoundError):
            return question(*args, **kwargs)
    return question(*args, **kwargs)
