"""The recorder reads its call's earlier attempts from the journal of the run."""

from __future__ import annotations

from pathlib import Path

from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.spool.recorder import RunRecorder
from tests.support.fakes import Workplace


def test_attempts_of_a_job_that_was_replaced_do_not_count_for_the_new_one(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    run = place.claimed("prompt: a castle\n")
    failed = {"call": "1.1", "diagnosis": "server error", "counted": True, "action": "restart"}
    run.record("call_started", call="1.1", attempt=1, incarnation=1)
    run.record("call_failed", **failed)
    run.record("job_changed")
    recorder = RunRecorder(run, Redactor(), place.clock)
    recorder.select_call("1.1", {"prompt": "a tower"})
    assert (recorder.counted, recorder.sent) == (0, 0)
    run.record("call_started", call="1.1", attempt=1, incarnation=1)
    run.record("call_failed", **failed)
    recorder.select_call("1.1", {"prompt": "a tower"})
    assert (recorder.counted, recorder.sent) == (1, 1)
