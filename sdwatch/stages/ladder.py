"""Make a call that ran out of memory in another way, as far as its job permits: `oom:`.

Each changed call has an id and a ledger of its own, and so its own retry. What was reached is
recorded before the first call of a rung, so that a run which resumes climbs on where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sdwatch.policy.failure.facts import Diagnosis
from sdwatch.policy.failure.ledger import Image, OtherFile
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.job.calls.oom_ladder import Rung, known_parts, ladder, parts_of
from sdwatch.policy.job.calls.payload import Call
from sdwatch.spool.run import Run
from sdwatch.stages.run_end import CallFailedError
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.run")


def may_climb(run: Run, error: CallFailedError) -> bool:
    """Return whether a call that failed with this error may be made in another way."""
    return bool(run.job and run.job.conduct.oom) and _ran_out(error)


def climb(
    call: Call,
    rungs: Iterable[Rung],
    error: CallFailedError,
    make: Callable[[Call], Sequence[Image]],
) -> Sequence[Image]:
    """Return the images of a call that ran out of memory with `error`, made by the first rung that
    succeeds. `make`: makes a call that is not finished and returns its images. Raises
    CallFailedError."""
    images: list[Image] = []
    made, tried = 0, list[str]()
    for rung in rungs:
        if rung.skipped:
            continue
        tried.append(rung.words)
        try:
            for part, after in parts_of(call, rung, made):
                images += make(part)
                made = after
        except CallFailedError as failed:
            if not _ran_out(failed):
                raise
            error = failed
        else:
            return images
    raise CallFailedError(_with_tries(error, tried)) from error


def rungs_of(
    run: Run,
    call: Call,
    payload: Mapping[str, Any],
    catalogue: Callable[[], Catalogue | None],
    insist: Callable[[Callable[[], None]], object],
) -> Iterator[Rung]:
    """Yield the rungs that were reached before, then record and yield the others. `catalogue`:
    returns what the WebUI has; `insist`: writes what must not be missing."""
    assert run.job is not None
    known = list(run.ledger.call(call.id).rungs)
    yield from known
    rungs = list(ladder(run.job.conduct.oom, call, payload, catalogue()))
    for rung in rungs[len(known) :]:
        record = partial(run.record, "oom_step", call=call.id, **rung.as_record())
        insist(record)
        how = f"{rung.step} is skipped: {rung.skipped}" if rung.skipped else f"now {rung.words}"
        event = about(LogEvent.WARNING, call=call.id)
        log.warning("%s: %s ran out of memory: %s", run.run_id, call.id, how, extra=event)
        yield rung


def parts_instead_of(call: Call, run: Run) -> Iterator[tuple[Call, tuple[Image, ...] | None]]:
    """Yield the calls that were made or started instead of this one, with their images."""
    ledger = run.ledger
    return known_parts(call, ledger.call(call.id).rungs, lambda part: ledger.call(part).images)


def other_files_of(call: Call, run: Run) -> list[OtherFile]:
    """Return the other files of a finished call, or of those that were made instead of it."""
    parts = (part.id for part, _ in parts_instead_of(call, run))
    return [file for id in (call.id, *parts) for file in run.ledger.call(id).files]


def _ran_out(error: CallFailedError) -> bool:
    return error.envelope.diagnosis == Diagnosis.OUT_OF_MEMORY


def _with_tries(error: CallFailedError, tried: Sequence[str]) -> Any:
    """Return why the last one failed, and what else was tried."""
    envelope = error.envelope
    if not tried:
        return envelope
    message = f"{envelope.message} (also {'; '.join(tried)})"
    return replace(envelope, message=message)


def changed_facts(call: Call) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Return what the manifest says of a changed call, and the warning about it; nothing of any
    other."""
    changed = call.changed
    if changed is None:
        return {}, []
    facts = {"of": changed.of, "step": str(changed.step), "how": changed.words}
    words = f"{changed.words}: call {changed.of} ran out of memory"
    return {"changed": facts}, [{"kind": "oom", "words": words}]
