"""Death at each message between a run and its lane; and what a dead monitor left in the log."""

from __future__ import annotations

import errno
import gc
import threading
from pathlib import Path

import pytest

from sdwatch.system.failpoints import Failpoint
from tests.support.death import Death, Points, listening
from tests.support.every_point import die_at
from tests.support.monitored import job, journal, monitored


def never(effect: Failpoint) -> None:
    raise AssertionError(effect)


class Arrow(Points):
    """Death at the n-th message of this kind."""

    def __init__(self, label: str, number: int) -> None:
        super().__init__(0, never)
        self._label = label
        self._left = number

    def __call__(self, effect: Failpoint) -> None:
        super().__call__(effect)
        with self._lock:
            self._left -= effect.label == self._label
            if self._left == 0:
                self.dead = True
                raise Death(effect)


class RefusesAStart(Arrow):
    """The disk refuses to record the start of the first POST; the monitor dies at the next one."""

    def __init__(self) -> None:
        super().__init__("BeforePost", 2)
        self._thread = 0

    def __call__(self, effect: Failpoint) -> None:
        if effect.label == "BeforePost" and not self._thread:
            self._thread = threading.get_ident()
        elif effect.label == "append" and self._thread == threading.get_ident():
            self._thread = -1
            raise OSError(errno.ENOSPC, "no space left", str(effect.path))
        super().__call__(effect)


ARROWS = [
    *(("BeforePost", number) for number in (1, 2, 3)),
    *(("Recorded", number) for number in (1, 2, 3, 4)),
    ("FailureExplained", 1),
    ("RecordFailure", 1),
]
"""Of a night with three calls; the second one crashes the WebUI once."""


@pytest.mark.parametrize(("label", "number"), ARROWS)
def test_nothing_is_lost_or_doubled_by_a_death_at_this_message(
    tmp_path: Path, label: str, number: int
) -> None:
    die_at(tmp_path, Arrow(label, number))


def test_nothing_is_lost_or_doubled_by_a_death_after_a_refused_record(tmp_path: Path) -> None:
    die_at(tmp_path, RefusesAStart())


def test_what_a_webui_printed_of_a_call_that_was_cut_off_is_read_when_it_is_adopted(
    tmp_path: Path,
) -> None:
    """Its GPU was lost in that call. It still answers, so without its log it would be sent the next
    call, which would fail for nothing."""
    faults = "- {fault: device-suspended, when: {prompt: castle}, times: once}"
    arrow = Arrow("FailureExplained", 1)
    with monitored(tmp_path, faults=faults, settings={"settle": 0, "cooldown": [0.05]}) as spool:
        spool.drop("castle.yaml", job("a castle"))
        with listening(arrow):
            spool.run_until(lambda: arrow.dead)
        gc.collect()
        (started,) = journal(spool.working()[0], "call_started")
        assert started["lane"] == "sim"
        assert len(started["log_offset"]) == 2
        spool.start(once=True)
        spool.ended()
        (run,) = spool.done()
        assert [r["incarnation"] for r in journal(run, "call_started")] == [1, 2]
        assert not journal(run, "call_failed"), "no attempt was spent on it"
