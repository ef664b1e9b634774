"""Which evidence WHY.txt and error.json name."""

from __future__ import annotations

import json
from pathlib import Path

from sdwatch.policy.failure.facts import Blamed, Diagnosis
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.policy.report.envelope import ErrorEnvelope
from sdwatch.policy.report.why import About
from sdwatch.spool.diagnostics import MOST_SETS, write_evidence
from sdwatch.spool.explanation import write_explanation
from sdwatch.spool.recorder import RunRecorder
from sdwatch.spool.run import Run
from sdwatch.system.clock import SystemClock


def evidence(folder: Path, width: int) -> tuple[str, ...]:
    return write_evidence(folder, {"width": width, "height": 8}, {"stdout": "x"}, Redactor())


def failed(call: str, files: tuple[str, ...]) -> ErrorEnvelope:
    return ErrorEnvelope("", Diagnosis.CRASH, Blamed.JOB, "it", "do", call=call, evidence=files)


def why_of(run: Run, call: str, files: tuple[str, ...] = ()) -> str:
    about = About(run.run_id, "job.yaml")
    write_explanation(run.folder, failed(call, files), about, written_by=run.ledger.evidence)
    return (run.folder / "WHY.txt").read_text(encoding="utf-8")


def new_run(folder: Path) -> Run:
    folder.mkdir()
    return Run(folder, SystemClock())


def test_evidence_whose_record_was_lost_is_listed_too(tmp_path: Path) -> None:
    """The monitor died between the files and their record; a later failure has both."""
    run = new_run(tmp_path / "run")
    lost, recorded = evidence(run.folder, 64), evidence(run.folder, 128)
    run.record("evidence", call="1.2", files=list(recorded))
    why = why_of(run, "1.2", recorded)
    assert "Asked for: 128x8" in why
    assert all(f"  {name}\n" in why for name in (*lost, *recorded))
    envelope = json.loads((run.folder / "error.json").read_text(encoding="utf-8"))
    assert envelope["evidence"] == [*lost, *recorded]


def test_lost_evidence_is_shown_where_there_is_no_other(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    evidence(run.folder, 64)
    assert "Asked for: 64x8" in why_of(run, "1.1")


def test_what_another_call_left_is_not_shown(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    run.record("evidence", call="1.1", files=list(evidence(run.folder, 64)))
    assert "Asked for" not in why_of(run, "1.2")


def test_a_set_belongs_to_the_call_that_wrote_it_last(tmp_path: Path) -> None:
    run = new_run(tmp_path / "run")
    recorder = RunRecorder(run, Redactor(), SystemClock())
    for number in range(1, MOST_SETS + 2):
        payload = {"width": 8 * number, "height": 8}
        recorder.select_call(f"1.{number}", payload)
        recorder.evidence(run.folder, payload, {"stdout": "x"})
    assert f"Asked for: {8 * (MOST_SETS + 1)}x8" in why_of(run, f"1.{MOST_SETS + 1}")
    assert "Asked for" not in why_of(run, f"1.{MOST_SETS}"), "it was replaced"
