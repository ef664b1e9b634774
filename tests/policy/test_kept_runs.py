"""What piles up goes oldest first, and never the newest."""

from __future__ import annotations

from sdwatch.policy.queue.oldest_first import Kept, too_much, too_old
from tests.support.tables import table

THINGS = [Kept("new", 1, 50), Kept("old", 30, 20), Kept("oldest", 40, 10), Kept("middle", 20, 30)]


@table(
    ("most_age", "gone"),
    [
        (None, []),
        (40, []),
        (39, ["oldest"]),
        (20, ["oldest", "old"]),
        (0, ["oldest", "old", "middle", "new"]),
    ],
)
def test_what_is_too_old_is_removed_oldest_first(most_age: float | None, gone: list[str]) -> None:
    assert too_old(THINGS, most_age) == gone


@table(
    ("most_bytes", "gone"),
    [
        (None, []),
        (110, []),
        (109, ["oldest"]),
        (100, ["oldest"]),
        (99, ["oldest", "old"]),
        (50, ["oldest", "old", "middle"]),
        (0, ["oldest", "old", "middle"]),
    ],
)
def test_the_oldest_are_removed_until_the_rest_fits(
    most_bytes: int | None, gone: list[str]
) -> None:
    assert too_much(THINGS, most_bytes) == gone


def test_nothing_is_never_too_much() -> None:
    assert too_much([], 0) == []
