"""Evidence is bounded: in a run's folder, and over the runs that meet the same fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdwatch.errors import WebUIBusyError
from sdwatch.policy.failure.recovery import SENT_AT_MOST
from sdwatch.policy.lane.state import Setup
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.policy.report.why import Shown
from sdwatch.spool import diagnostics
from sdwatch.spool.diagnostics import (
    MOST_BYTES,
    MOST_SETS,
    evidence_files,
    write_evidence,
)
from sdwatch.spool.explanation import _shown
from sdwatch.spool.recorder import LASTS, Faults, RunRecorder
from sdwatch.spool.run import Run
from sdwatch.webui.http.api import WebUIAPI
from tests.support.fakes import FakeClient, FakeProcess
from tests.support.helpers import FakeClock
from tests.support.monitored import journal

TAIL = {"stdout": "said this", "stderr": "said that"}
MACHINE = {"gpu": "none"}


def write(folder: Path, word: str) -> tuple[str, ...]:
    return write_evidence(folder, {"steps": 1}, {"stdout": word}, Redactor(), MACHINE)


def test_a_run_has_so_many_sets_and_the_newest_replaces_the_last(tmp_path: Path) -> None:
    for number in range(1, 100):
        write(tmp_path, f"failure {number}")
    assert len(evidence_files(tmp_path)) == 3 * MOST_SETS == len(list(tmp_path.iterdir()))
    assert "failure 1\n" in (tmp_path / "webui_tail.log").read_text()
    assert "failure 4\n" in (tmp_path / "webui_tail.4.log").read_text()
    assert "failure 99\n" in (tmp_path / "webui_tail.5.log").read_text()


def test_each_file_is_bounded(tmp_path: Path) -> None:
    lines = "".join(f"{number} é\n" for number in range(200_000))
    payload = {f"field {number}": number for number in range(60_000)}
    write_evidence(tmp_path, payload, {"stdout": lines}, Redactor(), MACHINE)
    for name in evidence_files(tmp_path):
        assert (tmp_path / name).stat().st_size <= MOST_BYTES + 100
    tail = (tmp_path / "webui_tail.log").read_text(encoding="utf-8")
    assert "bytes left out" in tail
    assert "0 é" in tail
    assert "199999 é" in tail
    json.loads((tmp_path / "stage_failure_payload.json").read_text())


def recorder(folder: Path, clock: FakeClock, faults: Faults) -> RunRecorder:
    folder.mkdir()
    made = RunRecorder(Run(folder, clock), Redactor(), clock, faults=faults)
    made.select_call("1.1", {})
    return made


def test_a_fault_that_lasts_in_suspended_runs_has_evidence_once_and_is_counted(
    tmp_path: Path, clock: FakeClock
) -> None:
    faults = Faults(clock)
    for number in range(100):
        folder = tmp_path / f"run-{number}"
        files = recorder(folder, clock, faults).evidence(folder, {}, TAIL, fault="busy: 429")
        assert bool(files) is (number == 0)
        clock.now += LASTS - 1
    assert len(list(tmp_path.rglob("webui_tail*.log"))) == 1
    (counted,) = journal(tmp_path / "run-99", "same_fault")
    assert (counted["times"], counted["evidence_in"]) == (100, "run-0")


def test_another_fault_or_the_same_after_a_while_is_a_new_one(
    tmp_path: Path, clock: FakeClock
) -> None:
    faults = Faults(clock)
    for number, fault in enumerate(("busy: 429", "busy: 503", "busy: 429")):
        folder = tmp_path / f"run-{number}"
        assert recorder(folder, clock, faults).evidence(folder, {}, TAIL, fault=fault)
    clock.now += LASTS
    folder = tmp_path / "run-3"
    assert recorder(folder, clock, faults).evidence(folder, {}, TAIL, fault="busy: 429")


def test_a_failure_that_ends_a_run_is_never_spared(tmp_path: Path, clock: FakeClock) -> None:
    faults = Faults(clock)
    for number in range(3):
        folder = tmp_path / f"run-{number}"
        assert recorder(folder, clock, faults).evidence(folder, {}, TAIL)


def test_evidence_that_the_disk_did_not_take_is_written_by_the_next_run(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    faults = Faults(clock)
    first = recorder(tmp_path / "run-0", clock, faults)
    with monkeypatch.context() as patch:
        patch.setattr(diagnostics.disk, "sync_folder", full)
        assert first.evidence(tmp_path / "run-0", {}, TAIL, fault="busy") == ()
    second = recorder(tmp_path / "run-1", clock, faults)
    assert second.evidence(tmp_path / "run-1", {}, TAIL, fault="busy")


def test_a_share_that_is_away_for_a_moment_costs_no_evidence(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, write = clock.now, diagnostics.disk.write

    def away(path: Path, data: bytes) -> None:
        if path.name.startswith("webui_tail") and clock.now < began + 3:
            raise OSError(112, "Host is down")
        write(path, data)

    monkeypatch.setattr(diagnostics.disk, "write", away)
    folder = tmp_path / "run-0"
    files = recorder(folder, clock, Faults(clock)).evidence(folder, {}, TAIL)
    assert files == ("stage_failure_payload.json", "webui_tail.log")
    assert {path.name for path in folder.iterdir()} >= set(files)
    assert not list(folder.glob("*.2.*")), "one failure is one set"


def test_evidence_that_the_disk_never_takes_is_not_waited_for_for_long(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run is not over because of that, and its lane is not on hold."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(diagnostics.disk, "write", full)
    folder, began = tmp_path / "run-0", clock.now
    assert recorder(folder, clock, Faults(clock)).evidence(folder, {}, TAIL) == ()
    assert clock.now - began < Setup().record_limit / 2


def test_a_webui_that_is_busy_for_an_hour_leaves_evidence_once_and_its_end_has_its_own(
    tmp_path: Path, clock: FakeClock
) -> None:
    faults, busy = Faults(clock), WebUIBusyError("answered 429", status=429)
    folder = tmp_path / "run-0"
    made = recorder(folder, clock, faults)
    api = WebUIAPI(FakeClient(busy), FakeProcess(), made)
    for _ in range(SENT_AT_MOST):
        outcome = api.generate_images_with_recovery("txt2img", {}, folder, "job")
        clock.now += 600
    assert not outcome.later  # sent too often: it ends the run, and is not spared
    assert [record["times"] for record in journal(folder, "same_fault")] == [2, 3, 4]
    assert len(list(folder.glob("webui_tail*.log"))) == 2


@pytest.mark.parametrize(
    ("tail", "own", "shows"),
    [
        ("===== stdout =====\nTraceback\nKeyError: 'x'\n", ["KeyError: 'x'"], Shown.EXCEPTION),
        ("===== stdout =====\nTraceback\nKeyError: 'y'\n", ["KeyError: 'x'"], Shown.LINES),
        ("===== stdout =====\nTraceback\nKeyError: 'x'\n", [], Shown.LINES),
        ("===== stdout =====\nTraceback\nKeyError: 'x'\n", None, Shown.LINES),
        ("===== stdout =====\n(no output: the file is gone)\n", ["KeyError: 'x'"], Shown.NOTHING),
        ("", None, Shown.NOTHING),
    ],
)
def test_a_tail_shows_an_exception_only_where_it_is_the_calls_own(
    tail: str, own: list[str] | None, shows: Shown
) -> None:
    assert _shown(tail, own) is shows
