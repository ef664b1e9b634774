"""What a host does about the monitor that it started: one that starts, runs, hangs, stops or ends.
Only decisions; windows_host.py carries them out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from sdwatch.service.manager import ServiceState

START_LIMIT_S = 60.0
"""Seconds until the service runs for Windows even if its monitor is not ready: one that starts can
neither be stopped nor asked."""

_LONGEST_STOP_S = 3600.0  # one that takes longer hangs
_NUMBER = re.compile(r"[0-9]{1,15}")


class ServiceEnd(Enum):
    """What the end of a monitor means for its service."""

    STOPPED = "it was asked to end, or had nothing more to do"
    NEEDS_A_PERSON = "the service ends with the monitor's exit code, and is not restarted"
    FAILED = "the service ends without having reported it, so that Windows restarts it"


def ending_of(code: int, *, asked: bool, not_restarted: Sequence[int]) -> ServiceEnd:
    """Return what an exit code means. `asked`: a stop was requested, by whatever means."""
    if asked or code == 0:
        return ServiceEnd.STOPPED
    return ServiceEnd.NEEDS_A_PERSON if code in not_restarted else ServiceEnd.FAILED


@dataclass(frozen=True)
class Reported:
    """What a monitor reported since the last look; see system.service_notifier. `stop_limit`:
    seconds that the clean stop may take which it has started; None where it has not."""

    ready: bool = False
    alive: bool = False
    stop_limit: float | None = None


def reported(datagrams: Sequence[bytes]) -> Reported:
    """Return what datagrams say. Any program of this machine may have sent one: what is not a
    report is ignored."""
    lines = [line for each in datagrams for line in each.decode("utf-8", "replace").splitlines()]
    limits = [line.partition("=")[2] for line in lines if line.startswith("EXTEND_TIMEOUT_USEC=")]
    seconds = [int(text) / 1e6 for text in limits if _NUMBER.fullmatch(text)]
    return Reported(
        ready="READY=1" in lines,
        alive="WATCHDOG=1" in lines,
        stop_limit=min(seconds[-1], _LONGEST_STOP_S) if "STOPPING=1" in lines and seconds else None,
    )


class Kill(Enum):
    """Why a monitor is killed; the value is for people."""

    STOPS_TOO_LONG = (
        "the monitor did not stop within its limit and was killed; its work resumes at the next "
        "start"
    )
    HANGS = "the monitor's main loop has not moved for longer than its limit; it was killed"


@dataclass(frozen=True)
class Due:
    """What is due now. `state`: as the service manager has to see it. `ask`: ask the monitor to
    stop. `kill`: why it has to be killed, or None."""

    state: ServiceState
    ask: bool = False
    kill: Kill | None = None


class Supervision:
    """Follows one monitor. `watchdog`: seconds without a report after which it hangs. `stop_limit`:
    seconds that a clean stop may take. `now`: in seconds, by a clock that stands still while the
    machine sleeps."""

    def __init__(self, watchdog: float, stop_limit: float, now: float) -> None:
        self._watchdog = watchdog
        self._stop_limit = stop_limit
        self._state = ServiceState.STARTING
        self._starts_until = now + START_LIMIT_S
        self._hangs_at = now + self._watchdog
        self._killed_at = float("inf")

    def look(self, seen: Reported, *, asked: bool, now: float) -> Due:
        """Return what is due. `seen`: since the last look. `asked`: a stop was requested. To be
        called each second."""
        if seen.alive:
            self._hangs_at = now + self._watchdog
        # Not where a file in the spool has asked: a second request would cut the call under way.
        is_new = asked and self._state is not ServiceState.STOPPING
        if is_new or seen.stop_limit is not None:
            # Its own limit counts as well: its config may have changed since the installation.
            limit = max(self._stop_limit, seen.stop_limit or 0.0)
            self._state, self._killed_at = ServiceState.STOPPING, now + limit
        elif self._state is ServiceState.STARTING and (seen.ready or now > self._starts_until):
            self._state = ServiceState.RUNNING
        return Due(self._state, ask=is_new, kill=self._late(now))

    def _late(self, now: float) -> Kill | None:
        """Return why it has to be killed, once."""
        is_stopping = self._state is ServiceState.STOPPING
        if now < (self._killed_at if is_stopping else self._hangs_at):
            return None
        self._killed_at = self._hangs_at = float("inf")
        return Kill.STOPS_TOO_LONG if is_stopping else Kill.HANGS
