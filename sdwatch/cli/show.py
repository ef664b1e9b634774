"""`sdwatch show`: show one run: where it is, its calls with attempts and times, pictures, why."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdwatch.cli.shared.chosen_config import add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.progress_text import clock, local, progress_in_words
from sdwatch.cli.shared.run_by_name import all_runs, find, run_named, waiting_jobs
from sdwatch.errors import JobError
from sdwatch.policy.job.calls.payload import point_of, stage_of
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.page.overview import PointCard
from sdwatch.policy.privacy.printable import printable, printable_text
from sdwatch.policy.queue.run_names import FILES, IMAGES
from sdwatch.spool.diagnostics import ENVELOPE, WHY, evidence_files, read_evidence, read_json
from sdwatch.spool.failed_points import envelope_of, failed_points_in
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import read_heartbeats
from sdwatch.spool.journal import each_call
from sdwatch.spool.manifest import read_about
from sdwatch.spool.run import Run
from sdwatch.system.clock import SystemClock

_WIDTH = 100
_MOST_PICTURES = 20
_MOST_CALLS = 40
_MOST_POINTS = 20
_LONGEST = 10**7  # seconds; nothing takes four months


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument(
        "run", metavar="RUN|JOB", help="a run's id, its job's name, or a part of one"
    )
    parser.epilog = "If several runs match, they are listed; `.` means the run of this folder."


def main(args: argparse.Namespace) -> ExitCode:
    """Print it. Raises NotFoundError, ConfigError, OSError."""
    spool = choose_config(args.config).spool
    runs, jobs = all_runs(spool), waiting_jobs(spool)
    wanted = args.run if args.run in jobs else run_named(args.run)
    path = find(wanted, runs | jobs, "failed/, done/, working/ or the inbox")
    lines = _run(path, spool) if path.name in runs else _job(path, spool)
    for line in lines:
        print(printable_text(line))
    return ExitCode.OK


def _job(path: Path, spool: Spool) -> Iterator[str]:
    """Yield what is known of a job that waits."""
    source = path.relative_to(spool.inbox).as_posix()
    yield f"{source} waits in the inbox"
    yield f"  file        {path}"
    for beat in read_heartbeats(spool.root):
        if why := beat.get("waiting", {}).get(source):
            yield f"  worker {beat.get('worker')} reports: {why}"
    yield "  `sdwatch check` finds mistakes in it, `sdwatch cancel` cancels it"


def _run(folder: Path, spool: Spool) -> Iterator[str]:
    run = Run(folder, SystemClock())
    manifest, records = read_about(folder), run.records
    yield folder.name
    yield f"  state       {_state(run, spool)}"
    yield f"  folder      {folder}"
    yield f"  job         {printable(run.source) or '?'}"
    yield f"  claimed     {local(run.ledger.claimed.get('at'))}"
    if run.ledger.ended:
        ended = next((r.get("at") for r in records if r["event"] == "ended"), None)
        yield f"  ended       {local(ended)}"
    for webui in _mappings([manifest.get("webui")]):
        facts = (webui.get("name"), webui.get("kind"), webui.get("version"), webui.get("url"))
        yield f"  WebUI       {', '.join(str(fact) for fact in facts if fact) or 'none'}"
    envelope = envelope_of(folder)
    calls = [] if run.broken else list(each_call(lambda: records))
    yield from _points(calls, manifest, failed_points_in(envelope))
    yield from _calls(calls, _kinds(run, manifest))
    yield from _pictures(run)
    yield from _outputs(run)
    if evidence := evidence_files(folder):
        yield f"  evidence    {', '.join(evidence)}"
    if why := read_evidence(folder, WHY).decode("utf-8", "replace").rstrip():
        yield f"  why ({WHY})"
        yield textwrap.indent(why, "    ")


def _state(run: Run, spool: Spool) -> str:
    """Return how it ended, or what it does now."""
    if run.broken is not None:
        return f"its journal cannot be read: {run.broken}"
    if run.ledger.ended:
        envelope = read_json(run.folder, ENVELOPE)
        facts = [run.ledger.ended]
        if envelope:
            facts += [f"{envelope.get('diagnosis')}", f"fault: {envelope.get('blame')}"]
        return ", ".join(facts)
    for beat in read_heartbeats(spool.root):
        for known in beat.get("runs", []):
            if known.get("run_id") == run.run_id:
                progress = progress_in_words(known.get("progress") or {})
                return ", ".join(["working", str(known.get("doing")), *progress])
    return "in working/; no monitor works on it now"


def _kinds(run: Run, manifest: Mapping[str, Any]) -> list[str]:
    """Return the kinds of the stages as a job may write them, as far as they are known."""
    job = manifest.get("job")
    if isinstance(job, Mapping) and isinstance(job.get("stages"), list):
        names = [str(next(iter(stage), "")) for stage in _mappings(job["stages"])]
    else:
        try:
            names = [stage.kind for stage in run.read_job().stages]
        except (JobError, OSError):
            names = []
    return [STAGES[name].short_name if name in STAGES else name for name in names]


def _points(
    calls: list[dict[str, Any]], manifest: Mapping[str, Any], failed: Sequence[PointCard]
) -> Iterator[str]:
    """Yield how many points a job has, and which failed; nothing for a job without points."""
    started = {point_of(str(call["call"])) for call in calls} - {0}
    if not started:
        return
    job = manifest.get("job")
    total = job.get("points") if isinstance(job, Mapping) else None
    words = f"{len(started)} started" if total is None else f"{len(started)} of {total} started"
    if failed:
        words += f", {len(failed)} failed; `sdwatch retry --failed` makes these again"
    yield f"  points      {words}"
    for point in failed[:_MOST_POINTS]:
        values = f" ({point.values})" if point.values else ""
        yield f"    point {point.number}{values}: {point.diagnosis or 'failed'}"
    if len(failed) > _MOST_POINTS:
        yield f"    and {len(failed) - _MOST_POINTS} more; {ENVELOPE} has them all"


def _is_notable(call: Mapping[str, Any]) -> bool:
    """Return whether there is more to say of a call than that it finished at once."""
    attempts = _mappings(call["attempts"])
    finished = len(attempts) == 1 and attempts[-1].get("outcome") == "finished"
    return not finished or bool(call.get("warnings"))


def _calls(calls: list[dict[str, Any]], kinds: list[str]) -> Iterator[str]:
    """Yield the calls; of many those that did not finish at the first attempt, and the last."""
    yield "  calls       " + (f"{len(calls)} started" if calls else "none was started")
    if len(calls) > _MOST_CALLS:
        notable = [call for call in calls if _is_notable(call)][-_MOST_CALLS:]
        yield f"    {len(calls) - len(notable)} finished at the first attempt, and are not listed"
        calls = notable
    shown = ""
    for call in calls:
        stage = stage_of(str(call["call"]))
        if stage != shown:
            shown = stage
            known = stage.isdecimal() and 0 < int(stage) <= len(kinds)
            yield f"    stage {stage}{f', {kinds[int(stage) - 1]}' if known else ''}"
        attempts, images = _mappings(call["attempts"]), _mappings(call["images"])
        outcome = attempts[-1].get("outcome", "under way") if attempts else "not sent"
        made = f", {_count(len(images), 'image')}" if images else ""
        yield f"      {call['call']}  {outcome}{made}, {_count(len(attempts), 'attempt')}"
        if len(attempts) > 1 or outcome != "finished":
            yield from map(_attempt, attempts)
        for test in _mappings(call.get("canary")):
            passed = "passed" if test.get("self_test_passed") else "failed"
            yield f"           {local(test.get('at'))}  self-test {passed}: {test.get('decision')}"
        for warning in _mappings(call.get("warnings")):
            yield f"           warning: {warning.get('words', '')}"


def _attempt(attempt: Mapping[str, Any]) -> str:
    words = [str(attempt.get("outcome", "under way"))]
    seconds = attempt.get("seconds")
    if isinstance(seconds, int | float) and 0 <= seconds < _LONGEST:
        words.append(f"after {clock(seconds)}")
    if diagnosis := attempt.get("diagnosis"):
        words.append(f"({diagnosis})")
    head = f"           {local(attempt.get('began'))}  incarnation {attempt.get('incarnation')}: "
    line = head + " ".join(words)
    message = str(attempt.get("message", ""))
    indent = " " * 13
    return "\n".join(
        [line, *textwrap.wrap(message, _WIDTH, initial_indent=indent, subsequent_indent=indent)]
    )


def _pictures(run: Run) -> Iterator[str]:
    images = [image for call in run.ledger.calls.values() for image in call.pictures]
    yield f"  pictures    {len(images) or 'none'}"
    for image in images[-_MOST_PICTURES:]:
        grid = ", grid" if image.grid else ""
        yield f"    {IMAGES}/{image.name}  {image.width}x{image.height}{grid}"
    if len(images) > _MOST_PICTURES:
        yield f"    and {len(images) - _MOST_PICTURES} before these"
    files = [file for call in run.ledger.calls.values() for file in call.files]
    if files:
        yield f"  other files {len(files)}"
    for file in files[-_MOST_PICTURES:]:
        yield f"    {FILES}/{file.name}  {file.size:,} bytes"


def _outputs(run: Run) -> Iterator[str]:
    ledger = run.ledger
    if made := [name for image, name in ledger.outputs.items() if image in ledger.made]:
        yield f"  outputs     {len(made)}, such as {printable(made[-1])}"
    if ledger.outputs_refused:
        yield f"  outputs     not all are made yet: {printable(ledger.outputs_refused)}"


def _mappings(values: object) -> list[Mapping[str, Any]]:
    """Return the mappings in a list; whoever may write a run's folder may write anything."""
    return (
        [each for each in values if isinstance(each, Mapping)] if isinstance(values, list) else []
    )


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
