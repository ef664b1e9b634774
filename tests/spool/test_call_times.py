"""What calls took on this machine, read from the journals of a spool."""

from __future__ import annotations

import json
from pathlib import Path

from sdwatch.policy.job.calls.call_sizes import CallSize
from sdwatch.policy.job.calls.estimate import TimedCall
from sdwatch.spool.archive import claim, publish
from sdwatch.spool.call_times import MOST_RUNS, read_call_times, timed_calls
from sdwatch.spool.folders import Spool
from tests.spool.spools import arrival_of, call, made_spool, picture
from tests.support.helpers import FakeClock


def run_of(spool: Spool, clock: FakeClock, name: str, seconds: float, outcome: str) -> None:
    """A run with a finished call, published, or still in working/."""
    run = claim(arrival_of(spool, clock, name), spool, clock)
    assert run is not None
    run.finish_call(call(), [picture()], 0, seconds=seconds, used={"steps": 20})
    clock.wall_now += 60
    if outcome:
        publish(run, spool, outcome, None)
    else:
        run.close()


def test_runs_in_work_and_ended_are_the_history(tmp_path: Path) -> None:
    spool, clock = made_spool(tmp_path), FakeClock()
    assert not read_call_times(spool.root)
    run_of(spool, clock, "a.yaml", 10.0, "done")
    run_of(spool, clock, "b.yaml", 12.0, "failed")
    run_of(spool, clock, "c.yaml", 20.0, "")
    assert read_call_times(spool.root).usual == 12.0


def test_of_many_runs_the_last_ones_count(tmp_path: Path) -> None:
    for number in range(MOST_RUNS + 10):
        folder = tmp_path / "done" / f"20260921-0000{number:02}.000_job_ab12"
        folder.mkdir(parents=True)
        record = {"event": "call_finished", "call": "1.1", "seconds": 900 if number < 10 else 5}
        (folder / "journal.jsonl").write_text(f"{json.dumps(record)}\n[torn", encoding="utf-8")
    times = read_call_times(tmp_path)
    assert (times.usual, len(times)) == (5, MOST_RUNS)


def test_a_spool_that_is_not_there_has_no_history(tmp_path: Path) -> None:
    assert not read_call_times(tmp_path / "gone")


def test_a_call_is_timed_with_its_size_newest_first() -> None:
    image = {"name": "a.png", "width": 64, "height": 32}
    records = [
        {"event": "call_finished", "seconds": 3, "images": [image]},
        {"event": "call_failed", "seconds": 99},
        {"event": "call_finished", "seconds": 4, "stage": "txt2img", "images": [image]},
    ]
    assert timed_calls(records) == [
        TimedCall(4.0, CallSize("txt2img", 2048)),
        TimedCall(3.0, None),
    ]
