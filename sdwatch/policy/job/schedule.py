"""Who is next: the order of the jobs that wait. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar


class Waiting(Protocol):
    """What the order looks at: `priority` (higher first), `mtime` (seconds), `source` (path)."""

    @property
    def priority(self) -> int: ...
    @property
    def mtime(self) -> float: ...
    @property
    def source(self) -> str: ...


W = TypeVar("W", bound=Waiting)


def in_order(waiting: Iterable[W]) -> list[W]:
    """By priority, then the older first, then by path, so that the order is always the same."""
    return sorted(waiting, key=lambda job: (-job.priority, job.mtime, job.source))
