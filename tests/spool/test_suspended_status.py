"""A suspended run in the heartbeat: its journal, which may be long, is read once."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdwatch.monitor.later_jobs import LaterJobs
from sdwatch.monitor.run_status import run_status
from sdwatch.monitor.suspended import SuspendedRuns
from sdwatch.policy.job.calls.call_sizes import KnownSizes
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.spool.archive import claim
from tests.spool.spools import arrival_of, made_spool
from tests.support.helpers import FakeClock


def test_the_source_of_a_suspended_run_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, clock = made_spool(tmp_path), FakeClock()
    run = claim(arrival_of(spool, clock), spool, clock)
    assert run is not None
    run.close()
    suspended = SuspendedRuns(clock, JobRules())
    suspended.add(run.folder)
    shown = run_status((), suspended, KnownSizes(), LaterJobs(clock))
    assert [(each["source"], each["lane"], each["sizes"]) for each in shown] == [
        ("castle.yaml", "", [])
    ]
    monkeypatch.setattr("sdwatch.monitor.suspended.read_source", lambda _: pytest.fail("again"))
    assert run_status((), suspended, KnownSizes(), LaterJobs(clock)) == shown
    # Once somebody has read its job, its sizes are known.
    (each,) = suspended
    assert each.job is not None
    assert run_status((), suspended, KnownSizes(), LaterJobs(clock))[0]["sizes"]
