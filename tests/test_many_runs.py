"""What a monitor does in each round costs little with many runs too."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdwatch.monitor.runs import ActiveRun, ActiveRuns
from sdwatch.monitor.suspended import SuspendedRuns
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.spool.archive import Spool
from sdwatch.stages.settings import RunSettings
from sdwatch.webui.http.run_control import RunControl
from tests.support.helpers import FakeClock


@dataclass
class SlowFolder:
    """A run whose folder takes 0.01 s to look at."""

    clock: FakeClock
    looked: int = 0
    run_id: str = "run"
    cancelled: bool = field(default=False)

    def cancel_asked(self) -> bool:
        self.looked += 1
        self.clock.advance(0.01)
        return self.cancelled


def test_looking_for_cancelled_runs_takes_a_tenth_of_the_time(tmp_path: Path) -> None:
    clock = FakeClock()
    suspended = SuspendedRuns(clock, JobRules())
    runs = ActiveRuns(
        Spool(tmp_path, "w"), suspended, clock=clock, settings=RunSettings(), wake=lambda: None
    )
    folder, control, nobody = SlowFolder(clock), RunControl(), Any
    run: Any = folder
    lane: Any = nobody
    runs._active += [ActiveRun(run, lane, control, lane)] * 10
    runs.cancel_where_asked()
    assert folder.looked == 10
    folder.cancelled = True
    clock.advance(0.8)
    runs.cancel_where_asked()
    assert not control.given_up.is_set()
    clock.advance(0.2)
    runs.cancel_where_asked()
    assert control.given_up.is_set()
