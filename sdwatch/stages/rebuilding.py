"""Make the payload of a call again, as it was sent, from what its run recorded."""

from __future__ import annotations

from typing import Any

from sdwatch.errors import SpoolError
from sdwatch.policy.failure.ledger import Image
from sdwatch.policy.job.calls.payload import Call, calls_of, point_of, taken_from
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.spool.run import Run
from sdwatch.stages.ladder import parts_instead_of
from sdwatch.stages.payloads import Payloads, names_of


def rebuild(
    run: Run, payloads: Payloads, rules: JobRules, call_id: str = ""
) -> tuple[Call, dict[str, Any]]:
    """Return a call and its payload, from the job file, the recorded seeds and the recorded images.
    Nothing is written.

    `call_id`: '' for the first call that is not finished. Raises JobError, CallFailedError for an
    image that is gone, SpoolError for an unknown call, OSError.
    """
    job = run.read_job(rules)
    if run.ledger.seeds is None:
        raise SpoolError(f"{run.run_id}: the run ended before its first call")
    run.plan()
    only = point_of(call_id) if call_id else 0
    for point in [only] if only else job.points:
        if point > job.points.total:
            break
        if (found := _rebuilt(run, payloads, job, point, call_id)) is not None:
            return found
    what = f"there is no call {call_id}" if call_id else "all its calls are finished"
    raise SpoolError(f"{run.run_id}: {what}")


def _rebuilt(
    run: Run, payloads: Payloads, job: Job, point: int, call_id: str
) -> tuple[Call, dict[str, Any]] | None:
    """Return a call of a point and its payload, None where it is in another one."""
    made: dict[int, list[Image]] = {0: []}
    several = point if job.points.are_several else 0
    for number, stage in enumerate(job.stages_of(point, run.random_seed), 1):
        inputs = names_of(made[taken_from(number, stage)])
        made[number] = []
        seeds = run.seeds_of(point, number, stage)
        for call in calls_of(number, stage, seeds, inputs, several):
            known = [(call, run.ledger.call(call.id).images), *parts_instead_of(call, run)]
            last, recorded = known[-1]
            if not call_id and recorded is None:
                return last, payloads.payload(stage, last)
            for each, images in known:
                if each.id == call_id:
                    return each, payloads.payload(stage, each)
                made[number] += images or ()
    return None
