"""WHY.txt, as somebody reads it who was woken by it."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import Any

import pytest

from sdwatch.errors import JobError, JobUnfitError, Problem
from sdwatch.policy.failure.diagnosis import Diagnosis
from sdwatch.policy.failure.facts import Blamed
from sdwatch.policy.failure.hold_reason import HoldReason
from sdwatch.policy.failure.recovery import TRACED_TO_OTHERS, Action, Decision, Ground, decide
from sdwatch.policy.report.decisions import decisions_in
from sdwatch.policy.report.envelope import (
    CANARY_HEALTHY,
    ErrorEnvelope,
    FailedAttempt,
    attempt_from,
    broken_envelope,
    cancelled_envelope,
    died_here_envelope,
    held_envelope,
    job_envelope,
    with_attempts,
)
from sdwatch.policy.report.why import About, Evidence, Shown, asked_for, why_text
from tests.support.tables import table

RUN = "20261123-142137.125-castle-b12c"
ATTEMPT = FailedAttempt(
    at="2026-11-23T14:21:37.000Z",
    seconds=3.21,
    diagnosis="server error",
    status=500,
    message="the WebUI answered 500: boom",
    incarnation=1,
    exit_code=None,
    counted=True,
    decision="restart and retry (a restart may cure it)",
    action=Action.RESTART,
    ground=Ground.MAY_CURE,
    why="a restart may cure it",
    failure="boom",
)
FAILED = ErrorEnvelope(
    error="WebUIServerError",
    diagnosis="server error",
    blame=Blamed.JOB,
    message="the WebUI answered 500: boom",
    advice="Try a smaller size.",
    stage="txt2img",
    call="1.2",
    attempts=(
        ATTEMPT,
        replace(
            ATTEMPT,
            message="another one",
            failure="another",
            action=Action.SELF_TEST,
            why="is it the job or the WebUI?",
        ),
    ),
    canary=CANARY_HEALTHY,
    self_test_passed=True,
    failure="boom",
)
EVIDENCE = Evidence(
    payload={"width": 512, "height": 768, "steps": 20, "sampler_name": "Euler a", "prompt": {}},
    host_snapshot={
        "just_before": {"memory_total": 16e9, "memory_available": 0.4e9},
        "disk_free": {"spool": 90_000_000_000},
    },
    lines=["Traceback", "RuntimeError: boom"],
    tail_name="webui_tail.2.log",
    shows=Shown.EXCEPTION,
    files=["webui_tail.log", "webui_tail.2.log"],
)


ABOUT = About(
    RUN, "castle.yaml", ["one.png"], at="2026-11-23T14:22:00.000Z", option=" --config /sd/a.yaml"
)


def why_of(envelope: ErrorEnvelope, evidence: Evidence = EVIDENCE) -> str:
    return why_text(envelope, ABOUT, evidence)


def test_the_whole_text() -> None:
    assert (
        why_of(FAILED)
        == f"""\
the WebUI answered 500: boom

Fault:     the job: the same call failed again after a restart, and the WebUI still generated a \
test picture
Diagnosis: server error (WebUIServerError)
Job:       castle.yaml
Run:       {RUN}
Ended:     2026-11-23T14:22:00.000Z (UTC)
Where:     stage 1 (txt2img), call 2
Asked for: 512x768, 20 steps, sampler Euler a
Machine:   0.4 of 16.0 GB of RAM free, 90.0 GB free on the spool's disk, when last checked
Images:    1 finished before the failure, kept in images/

What was tried (times are UTC):
  2026-11-23T14:21:37.000Z  server error after 3.2 s, HTTP 500 (incarnation 1 of the WebUI)
      then: restart and retry (a restart may cure it)
  2026-11-23T14:21:37.000Z  server error after 3.2 s, HTTP 500 (incarnation 1 of the WebUI)
      error: another one
      then: check whether the WebUI can still generate a small test picture (is it the job or \
the WebUI?)
  Then the WebUI was asked for a small test picture: it succeeded, so the WebUI is healthy.

The lines of the WebUI's output that matter (more in webui_tail.2.log):
  | Traceback
  | RuntimeError: boom

What to do:
  Try a smaller size.
  webui_tail.2.log has the exception.

  Change the job, then run it again:
    sdwatch retry {RUN} --edit --config /sd/a.yaml

  Run it again as it is:
    sdwatch retry {RUN} --config /sd/a.yaml

  Send the failing call once, by hand:
    sdwatch replay {RUN} --config /sd/a.yaml

  Make one zip for a bug report, without prompts:
    sdwatch bundle {RUN} --config /sd/a.yaml

Files beside this one, without prompts and images:
  webui_tail.log
  webui_tail.2.log
"""
    )


@table(
    ("envelope", "first", "fault", "commands"),
    [
        (cancelled_envelope(), "somebody cancelled", "nobody", ["retry"]),
        (
            job_envelope(JobError("a.yaml", [Problem(2, 1, "odd"), Problem(3, 1, "odder")])),
            "the job file is wrong: a.yaml:2:1: odd",
            "the job",
            ["retry --edit"],
        ),
        (
            died_here_envelope("1.1"),
            "sdwatch was killed 3 times",
            "sdwatch itself",
            ["retry", "retry --edit", "replay", "bundle"],
        ),
        (
            broken_envelope("x"),
            "internal error",
            "sdwatch",
            ["retry", "retry --edit", "bundle"],
        ),
        (
            replace(FAILED, blame=Blamed.WEBUI, canary="no picture came"),
            "the WebUI answered 500",
            "the WebUI; the job is probably fine",
            ["retry", "retry --edit", "replay", "bundle"],
        ),
        (
            replace(FAILED, blame=Blamed.MACHINE, diagnosis="storage"),
            "the WebUI answered 500",
            "the machine",
            ["retry", "retry --edit", "replay", "bundle"],
        ),
    ],
)
def test_each_kind_of_failure_names_its_fault_and_what_to_type(
    envelope: ErrorEnvelope, first: str, fault: str, commands: list[str]
) -> None:
    text = why_of(envelope, Evidence())
    assert text.startswith(first)
    assert f"Fault:     {fault}" in text
    assert typed_in(text) == commands
    assert all(line == line.rstrip() for line in text.splitlines())


def typed_in(text: str) -> list[str]:
    """The commands that it says to type, without what all have in common."""
    lines = [line.strip() for line in text.splitlines() if line.startswith("    sdwatch ")]
    common = (f" {RUN}", ABOUT.option, "sdwatch ")
    return [reduce(lambda line, part: line.replace(part, ""), common, line) for line in lines]


def test_without_a_config_file_it_says_where_to_type_the_commands() -> None:
    text = why_text(FAILED, replace(ABOUT, option=""), EVIDENCE)
    assert f"    sdwatch retry {RUN} --edit\n" in text
    assert "Type these commands in this folder" in text
    assert "Type these commands in this folder" not in why_of(FAILED)


def test_a_job_that_was_refused_says_that_nothing_was_sent_and_when() -> None:
    error = JobUnfitError("a.yaml", [Problem(2, 1, "no such sampler")])
    envelope = job_envelope(error, "http://127.0.0.1:7860")
    text = why_text(envelope, replace(ABOUT, sent=False))
    assert "Nothing was sent to a WebUI." in text
    assert f"Ended:     {ABOUT.at}" in text
    assert "`sdwatch check --against http://127.0.0.1:7860 FILE`" in text
    assert typed_in(text) == ["retry --edit", "retry"]
    assert "Once the WebUI can do it, run it again as it is" in text


def test_a_bad_request_cannot_be_retried_unchanged() -> None:
    text = why_of(
        replace(
            FAILED,
            error="WebUIBadRequestError",
            diagnosis="bad request",
            canary="",
            self_test_passed=None,
        )
    )
    assert typed_in(text) == ["retry --edit", "replay", "bundle"]


@table(
    ("decision", "again"),
    [
        (decide(Diagnosis.CRASH, 1), "failed again after a restart,"),
        (decide(Diagnosis.CRASH, 1, managed=False), "failed again,"),
        (
            Decision(Action.RETRY, Ground.FREED),
            "failed again after an interrupt freed the WebUI,",
        ),
        # as earlier versions recorded it
        (
            Decision(Action.INTERRUPT, Ground.FREED),
            "failed again after an interrupt freed the WebUI,",
        ),
        (decide(Diagnosis.INTERRUPTED, 1), "failed again,"),
    ],
)
def test_it_names_a_restart_only_if_there_was_one(decision: Decision, again: str) -> None:
    first = replace(ATTEMPT, action=decision.action, ground=decision.ground)
    text = why_of(replace(FAILED, attempts=(first, ATTEMPT)))
    assert f"the job: the same call {again} and the WebUI still generated a test picture\n" in text


def test_the_starts_of_a_webui_that_is_not_ours_are_not_numbered() -> None:
    text = why_of(replace(FAILED, attempts=(replace(ATTEMPT, incarnation=0),)))
    assert "of the WebUI)" not in text


def test_a_single_failure_did_not_fail_again() -> None:
    text = why_of(replace(FAILED, attempts=(ATTEMPT,), canary="", self_test_passed=None))
    assert "Fault:     probably the job\n" in text


def test_it_says_that_a_call_made_the_webui_unhealthy() -> None:
    text = why_of(replace(FAILED, canary="the canary failed", self_test_passed=False))
    assert "the WebUI generated a test picture before this call, not after it" in text


@table(
    ("code", "free", "said"),
    [
        (0, 9e9, True),
        (-15, 9e9, True),
        (-9, 9e9, True),
        (137, 9e9, True),
        (-9, 0.1e9, False),
        (-11, 9e9, False),
        (None, 9e9, False),
    ],
)
def test_the_job_is_not_blamed_for_sure_if_somebody_may_have_ended_the_webui(
    code: int | None, free: float, said: bool
) -> None:
    host = {"just_before": {"memory_total": 16e9, "memory_available": free}}
    failed = replace(FAILED, diagnosis="crash", exit_code=code)
    text = why_of(failed, replace(EVIDENCE, host_snapshot=host))
    assert ("unless somebody stopped the WebUI each time" in text) is said


@table(
    ("diagnosis", "blames", "outside"),
    [
        ("crash", "machine", True),
        ("server error", "person", True),
        ("server error", "job", False),
        ("server error", None, False),
        ("poisoned", None, True),
    ],
)
def test_a_text_that_names_somebody_else_is_not_under_the_jobs_fault_alone(
    diagnosis: str, blames: str | None, outside: bool
) -> None:
    record = {"message": "boom", "diagnosis": diagnosis, "blame": blames, "incarnation": 1}
    attempt = attempt_from(record)
    text = why_of(replace(FAILED, diagnosis=diagnosis, attempts=(ATTEMPT, attempt)))
    (fault,) = (line for line in text.splitlines() if line.startswith("Fault:"))
    assert fault.startswith("Fault:     the job: ")
    says = "; only this call fails, but the cause may lie outside the job: see What to do"
    assert fault.endswith(says) is outside


def test_it_says_that_a_failure_was_traced_before_and_keeps_its_diagnosis() -> None:
    decision = decide(Diagnosis.OUT_OF_MEMORY, 1, known=True)
    attempt = replace(ATTEMPT, action=decision.action, ground=decision.ground)
    text = why_of(replace(FAILED, diagnosis="out of memory", attempts=(attempt,)), Evidence())
    assert f"Fault:     the job: {TRACED_TO_OTHERS}" in text
    assert "Diagnosis: out of memory" in text
    assert "request" not in text


RECORDS = [
    {"event": "call_started", "call": "1.1"},
    {"event": "call_failed", "call": "1.1", "message": "finished later"},
    {"event": "call_finished", "call": "1.1"},
    {"event": "call_failed", "call": "1.2", "message": "boom", "seconds": 2, "incarnation": 1},
    {"event": "call_failed", "call": "1.2", "message": "boom again", "incarnation": 2},
    {"event": "call_self_tested", "call": "1.2", "unhealthy": "the canary failed"},
]


@pytest.mark.parametrize("envelope", [cancelled_envelope(), held_envelope(HoldReason("x"), ())])
def test_a_run_that_ended_for_another_reason_says_what_was_tried(envelope: ErrorEnvelope) -> None:
    known = with_attempts(envelope, RECORDS)
    assert [attempt.message for attempt in known.attempts] == ["boom", "boom again"]
    assert known.call == "1.2"
    text = why_of(known, Evidence())
    assert text.index("What was tried") < text.index("error: boom again")
    assert "it failed (the canary failed)" in text


def test_attempts_of_a_changed_job_and_unreadable_attempts_are_left_out() -> None:
    assert with_attempts(FAILED, RECORDS) is FAILED
    assert not with_attempts(cancelled_envelope(), RECORDS[:3]).attempts
    assert not with_attempts(cancelled_envelope(), [*RECORDS, {"event": "job_changed"}]).attempts
    broken = [{"event": "call_failed", "call": "1.1", "seconds": "soon"}]
    assert not with_attempts(cancelled_envelope(), broken).attempts


def test_the_decisions_of_the_gate_are_in_their_order() -> None:
    records = [
        {"event": "call_started", "call": "1.1"},
        {"event": "call_failed", "at": "a", "call": "1.1", "diagnosis": "crash", "decision": "one"},
        {"event": "call_self_tested", "at": "b", "call": "1.1", "unhealthy": "", "decision": "two"},
    ]
    assert decisions_in(records) == [
        {"at": "a", "call": "1.1", "diagnosis": "crash", "decision": "one"},
        {"at": "b", "call": "1.1", "diagnosis": "canary: the WebUI is healthy", "decision": "two"},
    ]


@pytest.mark.parametrize(
    ("shows", "said"),
    [
        (Shown.EXCEPTION, "webui_tail.2.log has the exception."),
        (Shown.LINES, "webui_tail.2.log has the WebUI's last lines."),
        (Shown.NOTHING, ""),
    ],
)
def test_the_advice_mentions_the_log_only_if_it_shows_something(shows: Shown, said: str) -> None:
    failed = replace(FAILED, advice="Try a smaller size.")
    text = why_of(failed, replace(EVIDENCE, shows=shows))
    to_do = text.partition("What to do:")[2].partition("Files beside this one")[0]
    assert ("webui_tail" in to_do) is bool(said)
    assert said in to_do
    assert ("more in webui_tail.2.log" in text) is bool(said)


@table("diagnosis", ["bad request", "busy", "interrupted", "not usable"])
def test_the_advice_does_not_mention_the_log_if_it_says_nothing(diagnosis: str) -> None:
    text = why_of(replace(FAILED, advice="Wait.", diagnosis=diagnosis), EVIDENCE)
    assert "has the exception" not in text


@table(
    ("fields", "said"),
    [
        ({"hr_scale": 1.5}, "hires 1.5 times to 768x1152"),
        ({}, "hires 2 times to 1024x1536"),
        ({"hr_scale": 2, "hr_upscaler": "R-ESRGAN 4x+"}, "2 times to 1024x1536 with R-ESRGAN 4x+"),
        ({"hr_resize_x": 600, "hr_resize_y": 900, "hr_scale": 3}, "hires to 600x900"),
        ({"hr_resize_x": 1024}, "hires to 1024x1536"),
        ({"hr_second_pass_steps": 12}, "12 hires steps"),
        ({"denoising_strength": 0.4}, "denoising 0.4"),
        ({"hr_scale": "many"}, ", hires"),
    ],
)
def test_asked_for_names_the_second_pass(fields: dict[str, Any], said: str) -> None:
    payload = {"width": 512, "height": 768, "steps": 20, "enable_hr": True, **fields}
    assert said in asked_for(payload)
    assert "hires" not in asked_for({**payload, "enable_hr": False})


def test_asked_for_names_no_target_size_if_the_job_gives_none() -> None:
    assert asked_for({"enable_hr": True, "hr_scale": 2}) == "hires 2 times"


@pytest.mark.parametrize(
    ("diagnosis", "fault"),
    [
        (Diagnosis.INTERRUPTED, "nobody; somebody stopped it"),
        (Diagnosis.SERVER_ERROR, "the setup, which a person has to fix; the job is probably fine"),
    ],
)
def test_what_a_person_has_to_fix_was_not_stopped_by_anybody(
    diagnosis: Diagnosis, fault: str
) -> None:
    text = why_text(replace(FAILED, diagnosis=diagnosis, blame=Blamed.PERSON), About(RUN, "a.yaml"))
    assert f"Fault:     {fault}\n" in text
