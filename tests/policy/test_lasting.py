from __future__ import annotations

from sdwatch.policy.failure.lasting import LastingStates, Recurring, in_words
from tests.support.tables import table

FULL = "No space left on device: /spool/working/run-1 (12 bytes)"


def test_what_lasts_is_reported_once_then_at_growing_intervals_and_at_its_end() -> None:
    disk = LastingStates()
    lines = {
        at: said for at in range(0, 4 * 3600, 2) if (said := disk.persists("run", 28, FULL, at))
    }
    assert lines[0] == FULL
    assert list(lines) == [0, 60, 180, 420, 900, 1860, 3780, 7380, 10980]
    assert lines[420] == f"still, after 7 min: {FULL}"
    assert disk.is_over("run", 4 * 3600) == "4 h"
    assert disk.is_over("run", 4 * 3600) == ""


def test_another_key_is_another_reason_and_other_words_are_none() -> None:
    disk = LastingStates()
    disk.persists("run", 28, FULL, 0)
    assert disk.persists("run", 28, FULL.replace("12", "11"), 1) == ""
    assert disk.persists("run", 30, "Read-only file system", 2) == "Read-only file system"


def test_what_comes_back_is_reported_again_at_once() -> None:
    disk = LastingStates()
    disk.persists("run", 28, FULL, 0)
    assert disk.is_on("run")
    disk.is_over("run", 1)
    assert disk.persists("run", 28, FULL, 2) == FULL


def test_what_comes_and_goes_is_new_once_until_it_was_away_for_a_minute() -> None:
    links = Recurring()
    assert links.is_new("zz", 0)
    for at in (30, 80, 130):
        links.forget(at - 1)
        assert not links.is_new("zz", at)
    links.forget(189)
    assert not links.is_new("zz", 189)
    links.forget(1000, but=("zz",))
    assert not links.is_new("zz", 1000)
    links.forget(1060)
    assert links.is_new("zz", 1061)


@table(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "1 h"), (7800, "2 h 10 min")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
