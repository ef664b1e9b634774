"""WHY.txt, as somebody reads it who was woken by it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sdwatch.errors import JobError, Problem
from sdwatch.policy.envelope import (
    ErrorEnvelope,
    FailedAttempt,
    broken_envelope,
    cancelled_envelope,
    decisions_in,
    died_here_envelope,
    job_envelope,
)
from sdwatch.policy.story import CANARY_WELL, Evidence, why_text

RUN = "20261123-142137.125-castle-b12c"
ATTEMPT = FailedAttempt(
    at="2026-11-23T14:21:37.000Z",
    seconds=3.21,
    diagnosis="server error",
    status=500,
    message="the WebUI answered 500: boom",
    generation=1,
    exit_code=None,
    counted=True,
    decision="restart and retry (a restart may cure it)",
)
FAILED = ErrorEnvelope(
    error="WebUIServerError",
    diagnosis="server error",
    blame="job",
    message="the WebUI answered 500: boom",
    advice="Read webui_tail.log.",
    stage="txt2img",
    call="1.2",
    attempts=(
        ATTEMPT,
        replace(ATTEMPT, message="another one", decision="ask the canary (the job, or the WebUI?)"),
    ),
    canary=CANARY_WELL,
)
EVIDENCE = Evidence(
    payload={"width": 512, "height": 768, "steps": 20, "sampler_name": "Euler a", "prompt": {}},
    machine={
        "just_before": {"memory_total": 16e9, "memory_available": 0.4e9},
        "disk_free": {"spool": 90_000_000_000},
    },
    lines=["Traceback", "RuntimeError: boom"],
    tail_name="webui_tail.2.log",
    files=["webui_tail.log", "webui_tail.2.log"],
)


def told(envelope: ErrorEnvelope, evidence: Evidence = EVIDENCE) -> str:
    return why_text(envelope, RUN, "castle.yaml", ["one.png"], evidence)


def test_the_whole_story() -> None:
    assert (
        told(FAILED)
        == f"""\
the WebUI answered 500: boom

Fault of:  the job: the same call failed again after a restart, and the WebUI drew a test picture
Diagnosis: server error (WebUIServerError)
Job:       castle.yaml
Run:       {RUN}
Where:     stage 1 (txt2img), call 2
Asked for: 512x768, 20 steps, sampler Euler a
Machine:   0.4 of 16.0 GB of memory free, 90.0 GB free on the spool's disk, when last looked at
Images:    1 finished before it, kept in images/

What was tried (times are UTC):
  2026-11-23T14:21:37.000Z  server error after 3.2 s, HTTP 500 (start number 1 of the WebUI)
      then: restart and retry (a restart may cure it)
  2026-11-23T14:21:37.000Z  server error after 3.2 s, HTTP 500 (start number 1 of the WebUI)
      it was: another one
      then: see whether the WebUI can still draw a small test picture (the job, or the WebUI?)
  Then the WebUI was asked for a small test picture: it drew it, so it is well.

What the WebUI printed, the lines that matter (more in webui_tail.2.log):
  | Traceback
  | RuntimeError: boom

What to do:
  Read webui_tail.2.log.

  sdwatch retry {RUN} --edit  change the job, then run it again
  sdwatch retry {RUN}         run it again as it is
  sdwatch replay {RUN}        send the failing call once, by hand
  sdwatch bundle {RUN}        one zip for a bug report, without prompts

Beside this file, free of prompts and images:
  webui_tail.log
  webui_tail.2.log
"""
    )


@pytest.mark.parametrize(
    ("envelope", "first", "fault", "commands"),
    [
        (cancelled_envelope(), "somebody cancelled", "nobody", ["retry"]),
        (
            job_envelope(JobError("a.yaml", [Problem(2, 1, "odd"), Problem(3, 1, "odder")])),
            "the job file is wrong: a.yaml:2:1: odd",
            "the job",
            ["retry --edit", "retry"],
        ),
        (
            died_here_envelope("1.1"),
            "the monitor died 3 times",
            "sdwatch itself",
            ["retry", "retry --edit", "replay", "bundle"],
        ),
        (
            broken_envelope("x"),
            "sdwatch itself broke",
            "sdwatch",
            ["retry", "retry --edit", "bundle"],
        ),
        (
            replace(FAILED, blame="WebUI", canary="no picture came"),
            "the WebUI answered 500",
            "the WebUI; the job may be as it should be",
            ["retry", "retry --edit", "replay", "bundle"],
        ),
        (
            replace(FAILED, blame="machine", diagnosis="storage"),
            "the WebUI answered 500",
            "the machine",
            ["retry", "retry --edit", "replay", "bundle"],
        ),
    ],
)
def test_each_kind_of_failure_names_its_fault_and_what_to_type(
    envelope: ErrorEnvelope, first: str, fault: str, commands: list[str]
) -> None:
    text = told(envelope, Evidence())
    assert text.startswith(first)
    assert f"Fault of:  {fault}" in text
    typed = [line.split("  ")[1] for line in text.splitlines() if line.startswith("  sdwatch ")]
    assert [line.removeprefix("sdwatch ").replace(f" {RUN}", "") for line in typed] == commands
    assert all(line == line.rstrip() for line in text.splitlines())


def test_the_decisions_of_the_gate_are_told_in_order() -> None:
    records = [
        {"event": "call_started", "call": "1.1"},
        {"event": "call_failed", "at": "a", "call": "1.1", "diagnosis": "crash", "decision": "one"},
        {"event": "call_proven", "at": "b", "call": "1.1", "unwell": "", "decision": "two"},
    ]
    assert decisions_in(records) == [
        {"at": "a", "call": "1.1", "diagnosis": "crash", "decision": "one"},
        {"at": "b", "call": "1.1", "diagnosis": "canary: the WebUI is well", "decision": "two"},
    ]
