"""WHY.txt: a failed run told to somebody who was woken by it. Pure: an envelope in, text out.

Plain words, the cause first, and at the end what to type. Times are UTC, as in the journal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdwatch.policy.envelope import ErrorEnvelope, FailedAttempt
from sdwatch.policy.printable import printable, printable_text

CANARY_WELL = "it was well"
"""What an envelope's `canary` says where the WebUI drew the test picture."""

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
    """What lies beside the explanation, of the last failure. `payload`: sanitised; `tail`: free of
    prompts; `files`: the names of all evidence files."""

    payload: Mapping[str, Any] = field(default_factory=dict)
    machine: Mapping[str, Any] = field(default_factory=dict)
    lines: Sequence[str] = ()
    tail_name: str = ""
    files: Sequence[str] = ()


def why_text(
    envelope: ErrorEnvelope,
    run_id: str,
    source: str,
    images: Sequence[str],
    evidence: Evidence = Evidence(),
) -> str:
    """The whole explanation."""
    parts = [
        [envelope.message],
        [f"Fault of:  {_blamed(envelope)}", *_facts(envelope, run_id, source, images, evidence)],
        _tried(envelope),
        _log(evidence),
        _to_do(envelope, run_id, evidence),
        _files(evidence),
    ]
    text = "\n\n".join("\n".join(part).rstrip() for part in parts if part) + "\n"
    return printable_text(text)


def _facts(
    envelope: ErrorEnvelope,
    run_id: str,
    source: str,
    images: Sequence[str],
    evidence: Evidence,
) -> Iterator[str]:
    kind = f" ({envelope.error})" if envelope.error else ""
    yield f"Diagnosis: {envelope.diagnosis}{kind}"
    yield f"Job:       {printable(source)}"
    yield f"Run:       {run_id}"
    if envelope.call:
        stage, _, number = envelope.call.partition(".")
        name = f" ({envelope.stage})" if envelope.stage else ""
        yield f"Where:     stage {stage}{name}, call {number}"
    if asked := asked_for(evidence.payload):
        yield f"Asked for: {asked}"
    if machine := machine_line(evidence.machine):
        yield f"Machine:   {machine}"
    if images:
        yield f"Images:    {len(images)} finished before it, kept in images/"


def asked_for(payload: Mapping[str, Any]) -> str:
    """A payload in a few words: sizes and names, no prompt."""
    width, height = (payload.get(name) for name in _SIZE)
    size = [f"{width}x{height}"] if width and height else []
    more = [form.format(payload[name]) for name, form in _ASKED if payload.get(name)]
    return ", ".join([*size, *more])


def machine_line(machine: Mapping[str, Any]) -> str:
    """What the machine had left just before it failed."""
    seen = machine.get("just_before") or machine.get("at_the_failure") or {}
    told = []
    if total := seen.get("memory_total"):
        free = seen.get("memory_available", 0)
        told.append(f"{free / 1e9:.1f} of {total / 1e9:.1f} GB of memory free")
    for name, free in (machine.get("disk_free") or {}).items():
        if isinstance(free, int):
            told.append(f"{free / 1e9:.1f} GB free on the {name}'s disk")
    return f"{', '.join(told)}, when last looked at" if told else ""


_BLAMED = {
    "job": "the job",
    "WebUI": "the WebUI; the job may be as it should be",
    "machine": "the machine; the job may be as it should be",
    "sdwatch": "sdwatch itself; the job may be as it should be",
    "person": "nobody: somebody asked for it",
}


def _blamed(envelope: ErrorEnvelope) -> str:
    who = _BLAMED.get(envelope.blame, envelope.blame)
    if envelope.blame == "job" and envelope.canary == CANARY_WELL:
        return (
            f"{who}: the same call failed again after a restart, and the WebUI drew a test picture"
        )
    if envelope.blame == "job" and envelope.diagnosis != "bad request":
        return f"{who}, as it seems: the same call failed again after a restart"
    return who


def _tried(envelope: ErrorEnvelope) -> list[str]:
    if not envelope.attempts:
        return []
    told = ["What was tried (times are UTC):"]
    for attempt in envelope.attempts:
        told += _attempt_lines(attempt, envelope.message)
    if envelope.canary:
        well = envelope.canary == CANARY_WELL
        said = "it drew it, so it is well" if well else f"it could not draw it ({envelope.canary})"
        told.append(f"  Then the WebUI was asked for a small test picture: {said}.")
    return told


def _attempt_lines(attempt: FailedAttempt, cause: str) -> Iterator[str]:
    status = f", HTTP {attempt.status}" if attempt.status else ""
    yield (
        f"  {attempt.at}  {attempt.diagnosis} after {attempt.seconds:.1f} s"
        f"{status} (start number {attempt.generation} of the WebUI)"
    )
    if attempt.message != cause:
        message, *more = attempt.message.splitlines() or [""]
        yield f"      it was: {message}" + (" …" if more else "")
    if attempt.evidence and attempt.evidence not in attempt.message:
        yield f"      seen by: {attempt.evidence}"
    if attempt.decision:
        yield f"      then: {_plain(attempt.decision)}"


_PLAIN = {
    "ask the canary": "see whether the WebUI can still draw a small test picture",
    "hold": "keep the job and wait",
    "fail": "give up",
}


def _plain(decision: str) -> str:
    """A decision of the recovery gate without the words of its code."""
    action, bracket, why = decision.partition(" (")
    return f"{_PLAIN.get(action, action)}{bracket}{why}"


def _log(evidence: Evidence) -> list[str]:
    if not evidence.lines:
        return []
    head = f"What the WebUI printed, the lines that matter (more in {evidence.tail_name}):"
    return [head, *(f"  | {line}" for line in evidence.lines)]


def _to_do(envelope: ErrorEnvelope, run_id: str, evidence: Evidence) -> list[str]:
    advice = envelope.advice.replace("webui_tail.log", evidence.tail_name or "webui_tail.log")
    return [
        "What to do:",
        f"  {advice}",
        "",
        *(f"  {line}" for line in _commands(envelope, run_id)),
    ]


def _commands(envelope: ErrorEnvelope, run_id: str) -> Iterator[str]:
    """What to type: what helps first."""
    if not run_id:
        return
    again = (f"sdwatch retry {run_id}", "run it again as it is")
    edit = (f"sdwatch retry {run_id} --edit", "change the job, then run it again")
    replay = (f"sdwatch replay {run_id}", "send the failing call once, by hand")
    bundle = (f"sdwatch bundle {run_id}", "one zip for a bug report, without prompts")
    if envelope.blame == "person":
        chosen = [again]
    elif envelope.blame == "job":
        chosen = [edit, again]
    else:
        chosen = [again, edit]
    if envelope.call and envelope.blame != "person":
        chosen.append(replay)
    if envelope.blame in ("WebUI", "sdwatch", "machine") or envelope.attempts:
        chosen.append(bundle)
    width = max(len(command) for command, _ in chosen)
    for command, what in chosen:
        yield f"{command:<{width}}  {what}"


def _files(evidence: Evidence) -> list[str]:
    if not evidence.files:
        return []
    return [
        "Beside this file, free of prompts and images:",
        *(f"  {name}" for name in evidence.files),
    ]
