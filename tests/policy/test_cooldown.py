"""The cool-down is a function of the crash history (promise 6)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdwatch.policy.lane.crash_history import Crash, CrashHistory
from sdwatch.policy.lane.instant import Instant
from tests.support.tables import table

LIST = (5.0, 10.0, 20.0, 300.0)
BOOT_A = "a"
BOOT_B = "b"


def crash(wall: float = 10_000.0, boot: float = 500.0, boot_id: str = BOOT_A) -> Crash:
    return Crash("crash", Instant(wall, boot, boot_id))


@table(("number", "seconds"), [(1, 5), (2, 10), (3, 20), (4, 300), (5, 300), (99, 300)])
def test_the_nth_crash_has_the_nth_entry_and_the_last_repeats(number: int, seconds: float) -> None:
    assert CrashHistory(LIST).entry(number) == seconds


def test_without_a_crash_nothing_is_waited_for() -> None:
    assert CrashHistory(LIST).remaining(Instant(0, 0, BOOT_A)) == 0


@table(
    ("now", "left"),
    [
        (Instant(10_000, 500, BOOT_A), 10),
        (Instant(10_004, 504, BOOT_A), 6),
        (Instant(10_010, 510, BOOT_A), 0),
        (Instant(99_999, 9_999, BOOT_A), 0),
        # Within one boot nobody can shorten or lengthen it by setting the clock.
        (Instant(0, 504, BOOT_A), 6),
        (Instant(9_999_999, 504, BOOT_A), 6),
        # After a reboot only the wall clock is left, whatever the boot clock says.
        (Instant(10_004, 1, BOOT_B), 6),
        (Instant(10_010, 1, BOOT_B), 0),
        (Instant(10_004, 9_999, BOOT_B), 6),
        # ... and it may be wrong: years behind, years ahead.
        (Instant(0, 1, BOOT_B), 10),
        (Instant(9_999_999, 1, BOOT_B), 0),
    ],
)
def test_what_is_left_after_two_crashes_in_a_row(now: Instant, left: float) -> None:
    assert CrashHistory(LIST, (crash(wall=9_000, boot=1), crash())).remaining(now) == left


seconds = st.floats(-1e12, 1e12)
instants = st.builds(Instant, seconds, seconds, st.sampled_from([BOOT_A, BOOT_B, ""]))


@pytest.mark.slow
@given(
    crashes=st.lists(st.builds(Crash, st.just("crash"), instants), min_size=1, max_size=9),
    cooldown=st.lists(st.floats(0, 1e6), min_size=1, max_size=8),
    now=instants,
)
def test_whatever_the_clocks_say_it_stays_between_nothing_and_the_entry(
    crashes: list[Crash], cooldown: list[float], now: Instant
) -> None:
    history = CrashHistory(tuple(cooldown), tuple(crashes))
    left = history.remaining(now)
    assert 0 <= left <= history.entry(len(crashes))
    assert left == CrashHistory(tuple(cooldown), tuple(crashes)).remaining(now)
