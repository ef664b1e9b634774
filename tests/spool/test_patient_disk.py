"""What must not be missing in a run's journal is written, also where the disk refuses it for a
moment."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from sdwatch.errors import RunStoppedError
from sdwatch.spool.run import Run
from tests.support.fakes import Workplace, events
from tests.support.helpers import FakeClock


class Refusing:
    """A journal that refuses the next records."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int = 0) -> None:
        self.times = times
        record = Run.record

        def refused(run: Run, event: str, **data: Any) -> None:
            if self.times > 0:
                self.times -= 1
                raise OSError(errno.ENOSPC, "No space left on device")
            record(run, event, **data)

        monkeypatch.setattr(Run, "record", refused)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path, FakeClock())


def sent(place: Workplace) -> Run:
    """A run whose call is under way."""
    run = place.claimed("prompt: a castle\n")
    run.record("call_started", call="1.1", attempt=1, incarnation=1)
    return run


def cut_offs(run: Run) -> int:
    """As the next start reads its journal."""
    return Run(run.folder, FakeClock()).ledger.call("1.1").cut_offs


@pytest.mark.parametrize("stops", [False, True])
def test_a_call_that_is_given_up_does_not_read_as_cut_short(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, stops: bool
) -> None:
    run = sent(place)
    Refusing(monkeypatch, times=4)
    if stops:
        place.control.stop()
    place.recorder(run).call_given_up("the monitor was stopped")
    assert events(run.folder)[-1] == "call_given_up"
    assert cut_offs(run) == 0


def test_a_run_that_ends_does_not_wait_long_for_its_last_record(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sent(place)
    Refusing(monkeypatch, times=10_000)
    place.recorder(run).call_given_up("the monitor was stopped")
    assert isinstance(place.clock, FakeClock)
    assert sum(place.clock.waited) < 5


def test_a_post_that_is_not_sent_is_recorded_as_soon_as_the_disk_accepts_it(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sent(place)
    refusing = Refusing(monkeypatch, times=100)
    recorder = place.recorder(run)
    recorder.call_not_sent("the WebUI was no longer ready")
    assert refusing.times == 0
    assert events(run.folder)[-1] == "call_given_up"
    assert recorder.disk.refuses == ""
    recorder.call_not_sent("again")
    assert events(run.folder).count("call_given_up") == 1, "no call is under way"


def test_a_result_that_a_stopped_run_cannot_write_is_given_up_and_recorded(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sent(place)
    Refusing(monkeypatch, times=3)
    place.control.stop()
    with pytest.raises(RunStoppedError):
        place.recorder(run).disk.insist(lambda: run.record("call_finished", call="1.1", images=[]))
    assert events(run.folder)[-1] == "call_given_up"
    assert cut_offs(run) == 0
