"""Write WHY.txt, which explains a failed run to a tired person. Pure: an envelope in, text out.

Plain words: the cause first, the commands to type last. Times are UTC, as in the journal.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sdwatch.policy.failure.exits import ended_cleanly, was_killed
from sdwatch.policy.failure.facts import Blamed, Diagnosis, is_memory_low
from sdwatch.policy.failure.recovery import ACTIONS, TRACED_TO_OTHERS, Action, Ground
from sdwatch.policy.job.calls.payload import DEFAULT_SCALE, hires_size
from sdwatch.policy.privacy.printable import counted, printable, printable_text
from sdwatch.policy.report.command import typed
from sdwatch.policy.report.envelope import CUT_SHORT, ErrorEnvelope, FailedAttempt, Unsent
from sdwatch.policy.workflow import WORKFLOW


class Shown(Enum):
    """What the evidence file with the WebUI's last lines shows of the call that failed last."""

    NOTHING = "no line"
    LINES = "lines"
    EXCEPTION = "lines, and the exception of this call"


_MEANS: Mapping[str, str] = {
    Diagnosis.POISONED: ": the WebUI answers, but cannot generate until it is restarted",
    Diagnosis.SILENT: ": the WebUI reported success, but did not deliver what was asked for",
}
"""What a diagnosis means that does not say it."""

_SIZE = ("width", "height")
_ASKED = (
    ("steps", "{} steps"),
    ("batch_size", "batch of {}"),
    ("sampler_name", "sampler {}"),
    ("upscaling_resize", "enlarged {} times"),
    ("upscaler_1", "with {}"),
)


@dataclass(frozen=True)
class Evidence:
    """The evidence of the last failure. `payload`: sanitised; `host_snapshot`: as in machine.json;
    `lines`: what the WebUI printed, free of prompts; `tail_name`: the file with the WebUI's last
    lines; `shows`: what that file has; `files`: the names of all evidence files."""

    payload: Mapping[str, Any] = field(default_factory=dict)
    host_snapshot: Mapping[str, Any] = field(default_factory=dict)
    lines: Sequence[str] = ()
    tail_name: str = ""
    shows: Shown = Shown.NOTHING
    files: Sequence[str] = ()


@dataclass(frozen=True)
class About:
    """The run that failed. `at`: when it ended (UTC); `sent`: whether anything was sent to a WebUI;
    `option`: what the commands need so that they work in any folder (see report/command.py)."""

    run_id: str
    source: str
    images: Sequence[str] = ()
    at: str = ""
    sent: bool = True
    option: str = ""


def why_text(envelope: ErrorEnvelope, about: About, evidence: Evidence = Evidence()) -> str:
    """Return the whole text of WHY.txt."""
    more = "" if evidence.shows is Shown.NOTHING else f"more in {evidence.tail_name}"
    return joined(
        [envelope.message],
        _failed_points(envelope),
        [f"Fault:     {_blamed(envelope, evidence)}", *_facts(envelope, about, evidence)],
        _tried(envelope, about),
        log_part(evidence.lines, more),
        _to_do(envelope, about, evidence),
        _files(evidence),
    )


_MOST_POINTS = 50


def _failed_points(envelope: ErrorEnvelope) -> Iterator[str]:
    """List the points that failed, by their values."""
    failed = envelope.failed_points
    if failed:
        yield "The points that failed:"
    for point in failed[:_MOST_POINTS]:
        values = f" ({printable(point.values)})" if point.values else ""
        yield f"  point {point.number}{values}: {point.diagnosis}: {printable(point.message)}"
    if len(failed) > _MOST_POINTS:
        yield f"  and {len(failed) - _MOST_POINTS} more; error.json has them all"
    if failed and envelope.diagnosis not in CUT_SHORT:
        yield "What follows is about the first of them."


def joined(*parts: Iterable[str]) -> str:
    """Return the parts that are not empty, with an empty line between them."""
    texts = ("\n".join(part).rstrip() for part in parts)
    text = "\n\n".join(filter(None, texts)) + "\n"
    return printable_text(text)


def _facts(envelope: ErrorEnvelope, about: About, evidence: Evidence) -> Iterator[str]:
    kind = f" ({envelope.error})" if envelope.error else ""
    yield f"Diagnosis: {envelope.diagnosis}{_MEANS.get(envelope.diagnosis, '')}{kind}"
    yield f"Job:       {printable(about.source)}"
    yield f"Run:       {about.run_id}"
    if about.at:
        yield f"Ended:     {about.at} (UTC)"
    if envelope.call:
        *point, stage, number = envelope.call.split(".")
        at = "".join(f"point {each.removeprefix('p')}, " for each in point)
        name = f" ({envelope.stage})" if envelope.stage else ""
        yield f"Where:     {at}stage {stage}{name}, call {number}"
    if asked := asked_for(evidence.payload):
        yield f"Asked for: {asked}"
    if host := host_line(evidence.host_snapshot):
        yield f"Machine:   {host}"
    if about.images:
        yield f"Images:    {len(about.images)} finished before the failure, kept in images/"


def asked_for(payload: Mapping[str, Any]) -> str:
    """Return a payload in a few words: sizes and names, never a prompt."""
    width, height = (payload.get(name) for name in _SIZE)
    size = [f"{width}x{height}"] if width and height else []
    more = [form.format(payload[name]) for name, form in _ASKED if payload.get(name)]
    workflow = payload.get(WORKFLOW)
    nodes = workflow.get("nodes") if isinstance(workflow, Mapping) else None
    if isinstance(nodes, Mapping):
        more.append(f"a workflow of {counted(len(nodes), 'node')}")
    return ", ".join([*size, *more, *_hires_asked(payload)])


def _hires_asked(payload: Mapping[str, Any]) -> Iterator[str]:
    """Describe the second pass of a txt2img: its size, its upscaler, its steps. A size that the job
    does not give is the WebUI's default, and is left out."""
    if payload.get("enable_hr") is not True:
        return
    width, height = payload.get("width"), payload.get("height")
    sides = [payload.get(name) for name in ("hr_resize_x", "hr_resize_y")]
    numbers = (*sides, payload.get("hr_scale"))
    if not all(number is None or isinstance(number, int | float) for number in numbers):
        yield "hires"
        return
    target = ""
    if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0:
        target = " to {}x{}".format(*hires_size((width, height), payload))
    scale = payload.get("hr_scale") or DEFAULT_SCALE
    how = "hires" if any(sides) else f"hires {scale:g} times"
    upscaler = payload.get("hr_upscaler")
    yield f"{how}{target}" + (f" with {upscaler}" if upscaler else "")
    if steps := payload.get("hr_second_pass_steps"):
        yield f"{steps} hires steps"
    if (strength := payload.get("denoising_strength")) is not None:
        yield f"denoising {strength}"


def host_line(host_snapshot: Mapping[str, Any]) -> str:
    """Return the free memory and disk space of the machine just before the failure."""
    seen = _memory_in(host_snapshot)
    parts = []
    if total := seen.get("memory_total"):
        free = seen.get("memory_available", 0)
        parts.append(f"{free / 1e9:.1f} of {total / 1e9:.1f} GB of RAM free")
    for name, free in (host_snapshot.get("disk_free") or {}).items():
        if isinstance(free, int):
            parts.append(f"{free / 1e9:.1f} GB free on the {name}'s disk")
    return f"{', '.join(parts)}, when last checked" if parts else ""


def _memory_in(host_snapshot: Mapping[str, Any]) -> Mapping[str, Any]:
    return host_snapshot.get("just_before") or host_snapshot.get("at_the_failure") or {}


_BLAMED = {
    Blamed.JOB: "the job",
    Blamed.WEBUI: "the WebUI; the job is probably fine",
    Blamed.MACHINE: "the machine; the job is probably fine",
    Blamed.SDWATCH: "sdwatch itself; the job is probably fine",
    Blamed.PERSON: "the setup, which a person has to fix; the job is probably fine",
    Blamed.UNKNOWN: "unknown: the job or the WebUI",
}


_OUTSIDE = "only this call fails, but the cause may lie outside the job: see What to do"
_ENDED_BY_SOMEBODY = (Diagnosis.INTERRUPTED, Unsent.CANCELLED)


def _blamed(envelope: ErrorEnvelope, evidence: Evidence) -> str:
    who = _BLAMED[envelope.blame]
    if envelope.blame is Blamed.PERSON and envelope.diagnosis in _ENDED_BY_SOMEBODY:
        return "nobody; somebody stopped it"
    if (
        envelope.blame is not Blamed.JOB
        or envelope.diagnosis == Diagnosis.BAD_REQUEST
        or not envelope.attempts
    ):
        return who
    last = envelope.attempts[-1]
    # Its text names somebody else than the job, or is about the WebUI's own state.
    is_outside = last.diagnosis == Diagnosis.POISONED or last.blames not in (None, Blamed.JOB)
    outside = f"; {_OUTSIDE}" if is_outside else ""
    again = f"the same call failed again{_in_between(envelope.attempts)}"
    if envelope.self_test_passed:
        by_somebody = _by_somebody(envelope, evidence.host_snapshot)
        unless = " (unless somebody stopped the WebUI each time)" if by_somebody else ""
        if any(each.ground is Ground.TRACED_BEFORE for each in envelope.attempts):
            again = TRACED_TO_OTHERS
        return f"{who}: {again}, and the WebUI still generated a test picture{unless}{outside}"
    if envelope.self_test_passed is False:
        return (
            f"probably {who}: the WebUI generated a test picture before this call, not after it"
            f"{outside}"
        )
    return f"probably {who}" + (f": {again}" if len(envelope.attempts) > 1 else "") + outside


def _in_between(attempts: Sequence[FailedAttempt]) -> str:
    """Return what was done before the last attempt, in words."""
    if len(attempts) < 2:
        return ""
    before = attempts[-2]
    if before.action is Action.RESTART:
        return " after a restart"
    # Earlier versions recorded the interrupt as what was decided.
    freed = before.ground is Ground.FREED or before.action is Action.INTERRUPT
    return " after an interrupt freed the WebUI" if freed else ""


def _by_somebody(envelope: ErrorEnvelope, host_snapshot: Mapping[str, Any]) -> bool:
    """Return whether the process ended as it does when somebody ends it: cleanly, or killed with
    SIGKILL although memory was not low."""
    code, seen = envelope.exit_code, _memory_in(host_snapshot)
    was_low = is_memory_low(seen.get("memory_available", 0), seen.get("memory_total", 0))
    ended = ended_cleanly(code) or (was_killed(code) and not was_low)
    return envelope.diagnosis == Diagnosis.CRASH and ended


def _tried(envelope: ErrorEnvelope, about: About) -> list[str]:
    if not about.sent:
        return ["What was tried:", "  Nothing was sent to a WebUI."]
    if not envelope.attempts:
        return []
    lines = ["What was tried (times are UTC):"]
    for attempt in envelope.attempts:
        lines += _attempt_lines(attempt, attempt.failure != envelope.failure)
    if envelope.self_test_passed is not None:
        failed = f"it failed ({envelope.canary})"
        result = "it succeeded, so the WebUI is healthy" if envelope.self_test_passed else failed
        lines.append(f"  Then the WebUI was asked for a small test picture: {result}.")
    return lines


def _attempt_lines(attempt: FailedAttempt, is_another: bool) -> Iterator[str]:
    """Yield the lines about one attempt. `is_another`: it failed in another way than the first line
    of WHY.txt says."""
    status = f", HTTP {attempt.status}" if attempt.status else ""
    # The incarnations of a WebUI that is not ours are not counted.
    life = f" (incarnation {attempt.incarnation} of the WebUI)" if attempt.incarnation else ""
    yield f"  {attempt.at}  {attempt.diagnosis} after {attempt.seconds:.1f} s{status}{life}"
    if is_another:
        message, *more = attempt.message.splitlines() or [""]
        yield f"      error: {message}" + (" …" if more else "")
    if attempt.evidence and not attempt.repeats:
        yield f"      evidence: {attempt.evidence}"
    if attempt.action is not None:
        why = f" ({attempt.why})" if attempt.why else ""
        yield f"      then: {_THEN[attempt.action]}{why}"


_THEN = ACTIONS | {
    Action.SELF_TEST: "check whether the WebUI can still generate a small test picture",
    Action.HOLD: "keep the job and wait",
    Action.FAIL: "give up",
}


def log_part(lines: Sequence[str], where: str) -> list[str]:
    """Return what the WebUI printed; `where`: where the rest is, '' where there is no more."""
    if not lines:
        return []
    there = f" ({where})" if where else ""
    head = f"The lines of the WebUI's output that matter{there}:"
    return [head, *(f"  | {line}" for line in lines)]


def _to_do(envelope: ErrorEnvelope, about: About, evidence: Evidence) -> list[str]:
    lines = ["What to do:", f"  {envelope.advice}", *_where_to_look(envelope, evidence)]
    for what, words in _commands(envelope, about.run_id):
        lines += ["", f"  {what}:", f"    {typed(words, about.option)}"]
    return lines if about.option or not about.run_id else [*lines, "", _WHERE]


_LOOKED_UP = (
    Diagnosis.CRASH,
    Diagnosis.SERVER_ERROR,
    Diagnosis.OUT_OF_MEMORY,
    Diagnosis.NAN,
    Diagnosis.POISONED,
    Diagnosis.STUCK,
    Diagnosis.SILENT,
)
"""Diagnoses whose cause may be in the WebUI's output."""


def _where_to_look(envelope: ErrorEnvelope, evidence: Evidence) -> list[str]:
    """Return what can be read in the tail, but only if it is there."""
    has = {Shown.EXCEPTION: "has the exception", Shown.LINES: "has the WebUI's last lines"}
    may_help = envelope.diagnosis in _LOOKED_UP and envelope.attempts and evidence.shows in has
    return [f"  {evidence.tail_name} {has[evidence.shows]}."] if may_help else []


_WHERE = "  (Type these commands in this folder, or in the folder where sdwatch was started.)"

_ONLY_CHANGED = ("JobError", "WebUIBadRequestError", "NoImage")
"""Errors that come back for as long as the job is not changed."""


def _commands(envelope: ErrorEnvelope, run_id: str) -> Iterator[tuple[str, str]]:
    """Return the commands to type, each with its purpose; the most useful one first."""
    if not run_id:
        return
    again = ("Run it again as it is", f"retry {run_id}")
    edit = ("Change the job, then run it again", f"retry {run_id} --edit")
    if envelope.failed_points:
        yield "Make only the points that are missing", f"retry {run_id} --failed"
    if envelope.blame is Blamed.PERSON:
        yield again
    elif envelope.error in _ONLY_CHANGED:
        yield edit
    elif envelope.error == "JobUnfitError":
        yield from (edit, ("Once the WebUI can do it, run it again as it is", again[1]))
    else:
        yield from (edit, again) if envelope.blame is Blamed.JOB else (again, edit)
    if envelope.call and envelope.blame is not Blamed.PERSON:
        yield "Send the failing call once, by hand", f"replay {run_id}"
    if envelope.blame in (Blamed.WEBUI, Blamed.SDWATCH, Blamed.MACHINE) or envelope.attempts:
        yield "Make one zip for a bug report, without prompts", f"bundle {run_id}"


def _files(evidence: Evidence) -> list[str]:
    if not evidence.files:
        return []
    return [
        "Files beside this one, without prompts and images:",
        *(f"  {name}" for name in evidence.files),
    ]
