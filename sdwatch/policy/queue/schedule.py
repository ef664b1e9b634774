"""The order of the jobs that wait. Pure."""

from __future__ import annotations

from typing import Protocol, TypeAlias

Place: TypeAlias = tuple[int, int, str]
"""A place in the order: the smallest comes first. The last part is the source."""


class Waiting(Protocol):
    """What the order looks at: `priority` (higher first), `mtime_ns`, `source` (path)."""

    @property
    def priority(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def source(self) -> str: ...


def place_in_order(job: Waiting) -> Place:
    """Return a key to sort by: by priority, then the older first, then by path, so that the order
    is always the same."""
    return -job.priority, job.mtime_ns, job.source
