"""The evidence of a failure, and its explanation for people: what goes into a run's folder.

Prompts, images and secrets are never in it: the payload is sanitised, and every text of this
generation's payloads is replaced wherever it appears.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdwatch import disk
from sdwatch.policy.envelope import ErrorEnvelope, FailedAttempt, printable
from sdwatch.policy.redaction import Redactor
from sdwatch.policy.sanitise import sanitise
from sdwatch.policy.verdict import Diagnosis

PAYLOAD = "stage_failure_payload.json"
TAIL = "webui_tail.log"
ENVELOPE = "error.json"
WHY = "WHY.txt"


def write_evidence(
    run_dir: Path,
    payload: Mapping[str, Any],
    tail: Mapping[str, str],
    redactor: Redactor,
) -> tuple[str, str]:
    """Write the sanitised payload and the WebUI's last lines; the names of the two files.

    A second failure gets `stage_failure_payload.2.json` and so on: nothing is overwritten.
    `tail`: `{"stdout": text, "stderr": text}`. Raises OSError.
    """
    number = 1
    while (run_dir / _numbered(PAYLOAD, number)).exists():
        number += 1
    names = _numbered(PAYLOAD, number), _numbered(TAIL, number)
    disk.write_json(run_dir / names[0], sanitise(payload))
    text = "".join(f"===== {stream} =====\n{tail[stream].rstrip()}\n\n" for stream in tail)
    disk.write(run_dir / names[1], disk.encoded(redactor.redact(text)))
    disk.sync_folder(run_dir)
    return names


def _numbered(name: str, number: int) -> str:
    stem, _, extension = name.rpartition(".")
    return name if number == 1 else f"{stem}.{number}.{extension}"


def write_explanation(
    run_dir: Path, envelope: ErrorEnvelope, run_id: str, source: str, images: Sequence[str]
) -> None:
    """WHY.txt and error.json. Raises OSError."""
    disk.write_json(run_dir / ENVELOPE, envelope.as_json())
    text = why_text(envelope, run_id, source, images)
    disk.write(run_dir / WHY, disk.encoded(text))


def why_text(envelope: ErrorEnvelope, run_id: str, source: str, images: Sequence[str]) -> str:
    """The explanation for somebody who was asleep: the cause first."""
    parts = [
        envelope.message,
        "",
        f"Job:       {printable(source)}",
        f"Run:       {run_id}",
        f"Diagnosis: {envelope.diagnosis}" + (f" ({envelope.error})" if envelope.error else ""),
        f"Fault of:  {_blamed(envelope)}",
    ]
    if envelope.call:
        stage, _, number = envelope.call.partition(".")
        parts.append(f"Where:     stage {stage} ({envelope.stage}), call {number}")
    if images:
        parts.append(f"Images:    {len(images)} finished before it, kept in images/")
    if envelope.attempts:
        parts += ["", "What was tried:", *map(_attempt_line, envelope.attempts)]
    parts += ["", "What to do:", f"  {envelope.advice}"]
    if run_id:
        parts.append(f"  To run it again: sdwatch retry {run_id}")
    if envelope.evidence:
        parts += ["", "Evidence beside this file (no prompts, no images in it):"]
        parts += [f"  {name}" for name in envelope.evidence]
    return "\n".join(parts) + "\n"


_BLAMED = {
    "job": "the job",
    "WebUI": "the WebUI",
    "machine": "the machine",
    "sdwatch": "sdwatch itself",
    "person": "nobody: somebody asked for it",
}


def _blamed(envelope: ErrorEnvelope) -> str:
    who = _BLAMED.get(envelope.blame, envelope.blame)
    guessed = envelope.blame == "job" and envelope.diagnosis != Diagnosis.BAD_REQUEST
    return f"{who}, as it seems: the same call failed again after a restart" if guessed else who


def _attempt_line(attempt: FailedAttempt) -> str:
    status = f"HTTP {attempt.status}, " if attempt.status else ""
    then = f" Then: {attempt.decision}." if attempt.decision else ""
    return (
        f"  {attempt.at}  {attempt.diagnosis} after {attempt.seconds:.1f} s "
        f"({status}WebUI generation {attempt.generation}): {attempt.message}.{then}"
    )
