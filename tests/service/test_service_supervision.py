"""What the host of a service does about its monitor, by what that one reported and did not."""

from __future__ import annotations

import pytest

from sdwatch.service.definition import WATCHDOG_S
from sdwatch.service.manager import ServiceState
from sdwatch.service.supervision import (
    START_LIMIT_S,
    Due,
    Kill,
    Reported,
    ServiceEnd,
    Supervision,
    ending_of,
    reported,
)

NOTHING = Reported()
ALIVE = Reported(alive=True)
NOT_RESTARTED = (2, 4, 5)


class Rounds:
    """A supervision that is looked at each second."""

    def __init__(self, stop_limit: float = 70.0) -> None:
        self.now = 1000.0
        self.supervision = Supervision(WATCHDOG_S, stop_limit, self.now)

    def look(self, seen: Reported = NOTHING, *, asked: bool = False) -> Due:
        self.now += 1.0
        return self.supervision.look(seen, asked=asked, now=self.now)

    def until_killed(self, *, asked: bool = False, most: int = 2000) -> tuple[int, Kill | None]:
        """How many seconds pass until a kill is due, and why."""
        for second in range(1, most):
            if (due := self.look(asked=asked)).kill is not None:
                return second, due.kill
        return most, None


@pytest.mark.parametrize(
    ("code", "asked", "ending"),
    [
        (0, False, ServiceEnd.STOPPED),
        (0, True, ServiceEnd.STOPPED),
        (1, True, ServiceEnd.STOPPED),
        (5, True, ServiceEnd.STOPPED),
        (1, False, ServiceEnd.FAILED),
        (130, False, ServiceEnd.FAILED),
        (0xC0000005, False, ServiceEnd.FAILED),
        *[(code, False, ServiceEnd.NEEDS_A_PERSON) for code in NOT_RESTARTED],
    ],
)
def test_an_exit_code_decides_whether_the_service_is_restarted(
    code: int, asked: bool, ending: ServiceEnd
) -> None:
    assert ending_of(code, asked=asked, not_restarted=NOT_RESTARTED) is ending


def test_a_service_starts_until_its_monitor_is_ready() -> None:
    rounds = Rounds()
    assert rounds.look().state is ServiceState.STARTING
    assert rounds.look(ALIVE).state is ServiceState.STARTING
    assert rounds.look(Reported(ready=True)) == Due(ServiceState.RUNNING)


def test_a_monitor_that_is_slow_to_start_does_not_keep_the_service_from_being_stopped() -> None:
    rounds = Rounds()
    states = [rounds.look().state for _ in range(int(START_LIMIT_S) + 2)]
    assert states[0] is ServiceState.STARTING
    assert states[-1] is ServiceState.RUNNING


def test_a_monitor_that_reports_is_never_killed() -> None:
    rounds = Rounds()
    assert not [due for _ in range(5 * WATCHDOG_S) if (due := rounds.look(ALIVE)).kill]


def test_a_monitor_that_hangs_is_killed_once() -> None:
    rounds = Rounds()
    rounds.look(Reported(ready=True, alive=True))
    assert rounds.until_killed() == (WATCHDOG_S, Kill.HANGS)
    assert rounds.until_killed() == (2000, None)


def test_a_monitor_is_asked_to_stop_once_and_killed_after_its_limit() -> None:
    rounds = Rounds(stop_limit=70.0)
    assert rounds.look(asked=True) == Due(ServiceState.STOPPING, ask=True)
    assert rounds.look(ALIVE, asked=True) == Due(ServiceState.STOPPING)
    assert rounds.until_killed(asked=True) == (69, Kill.STOPS_TOO_LONG)


def test_a_stop_has_the_time_that_the_monitor_says_it_takes() -> None:
    rounds = Rounds(stop_limit=70.0)
    rounds.look(asked=True)
    rounds.look(Reported(stop_limit=300.0), asked=True)
    assert rounds.until_killed(asked=True) == (300, Kill.STOPS_TOO_LONG)


def test_a_stop_by_a_file_in_the_spool_is_a_stop_and_no_hang() -> None:
    rounds = Rounds(stop_limit=WATCHDOG_S + 100)
    rounds.look(Reported(ready=True, alive=True))
    due = rounds.look(Reported(stop_limit=WATCHDOG_S + 100))
    assert due == Due(ServiceState.STOPPING)
    assert rounds.until_killed() == (WATCHDOG_S + 100, Kill.STOPS_TOO_LONG)


def test_a_second_request_never_cuts_a_stop_short_that_is_under_way() -> None:
    rounds = Rounds()
    rounds.look(Reported(ready=True, alive=True))
    assert rounds.look(Reported(stop_limit=70.0)) == Due(ServiceState.STOPPING)
    assert rounds.look(asked=True) == Due(ServiceState.STOPPING)
    assert rounds.until_killed(asked=True) == (69, Kill.STOPS_TOO_LONG)


def test_reports_are_read_from_datagrams() -> None:
    assert reported([]) == NOTHING
    assert reported([b"WATCHDOG=1\nREADY=1\nSTATUS=idle"]) == Reported(ready=True, alive=True)
    stopping = b"STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=70000000"
    assert reported([b"WATCHDOG=1", stopping]) == Reported(alive=True, stop_limit=70.0)


@pytest.mark.parametrize(
    "datagram",
    [
        b"\xff\x00\xfe",
        b"STOPPING=1\nEXTEND_TIMEOUT_USEC=-1",
        b"STOPPING=1\nEXTEND_TIMEOUT_USEC=" + b"9" * 4000,
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=\u0663".encode(),
        b"EXTEND_TIMEOUT_USEC=1",
        b"xREADY=1",
    ],
)
def test_what_is_no_report_is_ignored(datagram: bytes) -> None:
    assert reported([datagram]) == NOTHING


def test_no_report_puts_a_stop_off_for_more_than_an_hour() -> None:
    assert reported([b"STOPPING=1\nEXTEND_TIMEOUT_USEC=999999999999999"]).stop_limit == 3600.0
