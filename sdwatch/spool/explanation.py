"""Write the explanation of a failed run, for people and for programs: WHY.txt and error.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sdwatch.policy.failure.error_lines import lines_that_matter, uncut, without_headings
from sdwatch.policy.failure.tracebacks import names_exception
from sdwatch.policy.report.decisions import decisions_in
from sdwatch.policy.report.envelope import ErrorEnvelope, with_attempts
from sdwatch.policy.report.why import About, Evidence, Shown, why_text
from sdwatch.spool.diagnostics import (
    ENVELOPE,
    HOST_SNAPSHOT,
    MOST_SETS,
    PAYLOAD,
    TAIL,
    WHY,
    evidence_files,
    numbered,
    read_evidence,
    read_json,
)
from sdwatch.spool.folders import Spool
from sdwatch.spool.run import Run
from sdwatch.system import disk
from sdwatch.system.versions import versions


def explain(
    run: Run, spool: Spool, envelope: ErrorEnvelope, webui: Mapping[str, Any] | None = None
) -> None:
    """Write WHY.txt and error.json of a run. `webui`: the one that it ran on. Raises OSError."""
    write_explanation(
        run.folder,
        envelope,
        _about(run, spool),
        records=run.records,
        webui=webui,
        written_by=run.ledger.evidence,
    )


def _about(run: Run, spool: Spool) -> About:
    calls = run.ledger.calls.values()
    return About(
        run_id=run.run_id,
        source=run.source,
        images=[image.name for call in calls for image in call.pictures],
        at=run.now(),
        sent=any(call.sent for call in calls),
        option=spool.option,
    )


def write_explanation(
    run_dir: Path,
    envelope: ErrorEnvelope,
    about: About,
    *,
    records: Sequence[Mapping[str, Any]] = (),
    webui: Mapping[str, Any] | None = None,
    written_by: Mapping[str, str] | None = None,
) -> None:
    """Write WHY.txt and error.json. `records`: the run's journal, for what the gate decided;
    `webui`: the one that it ran on; `written_by`: the evidence in its journal, each file with its
    call. A death may have kept files from the journal. Raises OSError."""
    there = evidence_files(run_dir)
    files = [*there, *(name for name in envelope.evidence if name not in there)]
    envelope = replace(with_attempts(envelope, records), evidence=tuple(files))
    written = envelope.as_json() | {
        "decisions": decisions_in(records),
        "versions": versions(),
        "webui": dict(webui or {}),
    }
    disk.write_json(run_dir / ENVELOPE, written)
    number = _set_of(envelope.call, files, written_by or {})
    text = why_text(envelope, about, _evidence_in(run_dir, files, number, envelope))
    disk.write(run_dir / WHY, disk.encoded(text))


def _set_of(call: str, files: Sequence[str], written_by: Mapping[str, str]) -> int:
    """Return the number of the newest set of evidence that is of this call, or may be, or (for no
    call) is there; 0 for none."""
    tails = {n: numbered(TAIL, n) for n in range(1, MOST_SETS + 1)}
    writers = {n: written_by.get(tail, "") for n, tail in tails.items() if tail in files}
    if call:
        own = [n for n, writer in writers.items() if writer == call]
        return max(own or [n for n, writer in writers.items() if not writer], default=0)
    return max(writers, default=0)


def _evidence_in(
    run_dir: Path, files: Sequence[str], number: int, envelope: ErrorEnvelope
) -> Evidence:
    """Return what WHY.txt shows of a set; what cannot be read is left out. The tail may have what
    the WebUI printed for other calls: its lines are used only if those of this call are not
    known."""
    if not number:
        return Evidence(files=files)
    tail = numbered(TAIL, number)
    printed = read_evidence(run_dir, tail).decode("utf-8", "replace")
    own = envelope.attempts[-1].lines if envelope.attempts else None
    return Evidence(
        payload=read_json(run_dir, numbered(PAYLOAD, number)),
        host_snapshot=read_json(run_dir, numbered(HOST_SNAPSHOT, number)),
        lines=lines_that_matter(printed) if own is None else own,
        tail_name=tail,
        shows=_shown(printed, own),
        files=files,
    )


def _shown(printed: str, own: Sequence[str] | None) -> Shown:
    """Return what of a call's `own` lines the tail has. Without known lines no exception can be
    attributed to the call."""
    lines = without_headings(printed)
    if not lines:
        return Shown.NOTHING
    raised = [uncut(line) for line in own or () if names_exception(line)]
    has_it = any(line.startswith(each) for each in raised for line in lines)
    return Shown.EXCEPTION if has_it else Shown.LINES
