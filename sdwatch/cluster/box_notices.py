"""What people hear of boxes: one that is gone or back, a broker that is, and jobs that no machine
can take. Like the holds of lanes: once each, then at growing intervals."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping

from sdwatch.cluster.boxes import Boxes
from sdwatch.cluster.broker import NOT_REACHED, Broker
from sdwatch.policy.failure.hold_reason import HoldKey
from sdwatch.policy.failure.lasting import LastingStates
from sdwatch.policy.naming import some_of
from sdwatch.policy.report.notice import Notice, Topic
from sdwatch.system.clock import Clock

WAITS_FOR_TAGS = 600.0
"""Seconds for which a job may wait for tags that no machine has until there is a notice: a box may
only be off."""


class ContactLines:
    """Reports that the broker does not answer, each reason once, and that it answers then. Used by
    the main thread. `report`: gets lines for people."""

    def __init__(self, broker: Broker, report: Callable[[str], None]) -> None:
        self._broker = broker
        self._report = report
        self._keys = set[Hashable]()  # reported since it answered last

    def look(self) -> None:
        """Report what has changed."""
        broker, key = self._broker, self._broker.down_by
        if broker.is_up:
            if self._keys:
                self._report(f"the broker at {broker.place} answers")
            self._keys.clear()
        elif key is not None and key not in self._keys:
            # The first one may be that a connection ended before its reason was read.
            self._keys.add(key)
            said = f"does not answer: {broker.why_down}; sdwatch keeps trying"
            self._report(f"the broker at {broker.place} {said}")


class BoxNotices:
    """Used by the main thread. `report`: gets notices for people."""

    def __init__(self, report: Callable[[Notice], None], clock: Clock) -> None:
        self._report = report
        self._clock = clock
        self._lasting = LastingStates()
        self._alive: set[str] = set()  # boxes that have answered since the start
        self._was_asked = False
        self._waits_since: float | None = None

    def report(
        self, boxes: Boxes, broker_down: str, waiting: Mapping[str, tuple[str, ...]]
    ) -> None:
        """Report what has changed. `broker_down`: why it does not answer, '' where it does;
        `waiting`: jobs with the tags that no machine has."""
        self._was_asked = self._was_asked or broker_down != NOT_REACHED
        down = f"the broker does not answer: {broker_down}" if broker_down else ""
        self._say("broker", down if self._was_asked else "")
        self._alive |= {name for name in boxes.seen if boxes.answers(name)}
        for name in sorted(self._alive & boxes.seen.keys()):
            gone = "" if boxes.answers(name) else "it has not shown itself; its runs go elsewhere"
            if broker_down:
                gone = ""  # nobody can
            self._say(f"box {name}", gone)
        self._say("jobs", self._without_tags(waiting))

    def _without_tags(self, waiting: Mapping[str, tuple[str, ...]]) -> str:
        now = self._clock.monotonic()
        if not waiting:
            self._waits_since = None
            return ""
        self._waits_since = now if self._waits_since is None else self._waits_since
        if now - self._waits_since < WAITS_FOR_TAGS:
            return ""
        tags = sorted({tag for lacks in waiting.values() for tag in lacks})
        return f"{some_of(sorted(waiting))}: no machine has the tags {some_of(tags)}"

    def _say(self, subject: str, wrong: str) -> None:
        now = self._clock.monotonic()
        if wrong and (line := self._lasting.persists(subject, HoldKey(), wrong, now)):
            self._report(Notice(f"{subject}: on hold: {line}", Topic.ON_HOLD, subject))
        elif not wrong and self._lasting.is_over(subject, now):
            self._report(Notice(f"{subject}: resumes", Topic.RESUMED, subject))
