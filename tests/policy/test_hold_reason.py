"""Hold reasons, and the note about them in the spool."""

from __future__ import annotations

import re
from pathlib import Path

from sdwatch.errors import WebUIBusyError, WebUIError, WebUINotUsableError, WebUIServerError
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.diagnosis import Explanation, diagnose
from sdwatch.policy.failure.facts import Blamed, FailureFacts
from sdwatch.policy.failure.hold_reason import (
    Cure,
    Held,
    HoldReason,
    Lack,
    StartFailure,
    crashed_repeatedly,
    failed_self_test,
    found_by_call,
    internal_error,
    no_answer,
    no_room,
    not_started,
    seen_by_probe,
    start_failed,
)
from sdwatch.policy.kinds.a1111 import A1111
from sdwatch.policy.kinds.forge import FORGE
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.sdnext import SDNEXT
from sdwatch.policy.kinds.table import KINDS
from sdwatch.policy.kinds.unknown import UNKNOWN
from sdwatch.policy.report.hold_text import hold_text
from sdwatch.webui.process.readiness import cannot_kill, not_writable, operation_hangs
from tests.support.tables import table

YOURSELF = "sdwatch did not start it and cannot"
OPTION = " --config /sd/sdwatch.yaml"


def verdict_on(error: WebUIError) -> Explanation:
    return diagnose(FailureFacts(error), builtin_signatures())


OOM = verdict_on(WebUIServerError("500", status=500, said="CUDA out of memory"))
TAKEN = StartFailure.PORT_TAKEN
KNOWN = next(s for s in builtin_signatures() if s.name == "flag unknown")


def test_the_whole_note() -> None:
    hold_reason = HoldReason(
        "the WebUI did not start", "Correct `command`.", lines=("error: unrecognized arguments",)
    )
    tried = (("2026-11-23T14:21:37.000Z", "exit code 2"), ("2026-11-23T14:21:47.000Z", "again"))
    assert hold_text("sim", Held(hold_reason, "2026-11-23T14:21:37.000Z", tried, 3), OPTION) == (
        """\
the WebUI did not start

Fault:     the WebUI; no job is to blame
WebUI:     sim, on hold since 2026-11-23T14:21:37.000Z (UTC)

What was tried, with the result (times are UTC; 3 earlier attempts left out):
  2026-11-23T14:21:37.000Z  exit code 2
  2026-11-23T14:21:47.000Z  again

The lines of the WebUI's output that matter (more in the state folder, webui-sim/):
  | error: unrecognized arguments

What to do:
  Correct `command`.

  A change in the config counts from the next start of sdwatch, so restart it then.

  No job is lost, and none fails because of this: they wait in inbox/ and in working/,
  and resume automatically once it recovers; sdwatch keeps checking.

  To have it tried again now, type this, or delete this file (a cool-down still has to end):
    sdwatch resume --config /sd/sdwatch.yaml
"""
    )


def test_the_note_does_not_say_that_no_job_failed_if_some_did() -> None:
    held = Held(crashed_repeatedly(["run-1", "run-2", "run-3"]), "then", (("then", "x"),))
    text = hold_text("sim", held, OPTION)
    assert text.startswith("3 different jobs in a row crashed the WebUI")
    assert "No job is lost" not in text
    assert "No other job fails because of this" in text
    assert "    sdwatch retry run-1 run-2 run-3 --config /sd/sdwatch.yaml\n" in text


def test_the_note_says_how_often_a_call_is_sent_if_only_calls_find_what_is_wrong() -> None:
    full = verdict_on(WebUIServerError("500", status=500, said="No space left on device"))
    held = Held(found_by_call(full.cause, full, managed=True), "then", (("then", "x"),))
    text = hold_text("sim", held, OPTION)
    assert "No job is lost" in text
    assert "none fails" not in text
    assert (
        "  Only a call shows whether it has, and one that was sent 5 times fails its job.\n" in text
    )


def test_the_note_of_run_once_says_how_to_start_again() -> None:
    text = hold_text("sim", Held(HoldReason("x"), "then", (("then", "x"),)), OPTION, ended=True)
    assert "sdwatch has stopped because of this hold (--once)" in text
    assert "    sdwatch run --config /sd/sdwatch.yaml\n" in text
    assert "sdwatch resume" not in text


def test_a_full_disk_cannot_be_tried_sooner() -> None:
    text = hold_text("sim", Held(no_room("5 MB free, less than min_free (1000 MB)"), "then"))
    assert "Fault:     the machine" in text
    assert "retention" in text
    assert "sdwatch resume" not in text


@table(
    ("hold_reason", "cause", "advice", "blame"),
    [
        (start_failed("exit code 2", KNOWN), f"{KNOWN.cause} (exit code 2)", "command", "WebUI"),
        (start_failed("exit code 1", None), "did not start: exit code 1", "by hand", "WebUI"),
        (
            seen_by_probe("it has no checkpoint: put one there", Lack.CHECKPOINT, managed=True),
            "cannot be used: it has no checkpoint",
            "models folder",
            "WebUI",
        ),
        (
            not_started(
                "port 1 is taken by pid 2, which was left alone", "End it, or another port."
            ),
            "port 1 is taken by pid 2, which was left alone",
            "End it, or another port.",
            "person",
        ),
        (
            start_failed("port 1 is taken by pid 2", None, TAKEN, advice="End it."),
            "was not started: port 1 is taken",
            "End it.",
            "person",
        ),
        (not_started("working folder not found: x"), "working folder not found", "`cwd`", "person"),
        (no_answer("refused", managed=False), "not ready: refused", YOURSELF, "person"),
        (no_answer("it loads", managed=True), "not ready: it loads", "keeps checking", "WebUI"),
        (
            seen_by_probe("it was started without --api: add that", Lack.API, managed=False),
            "without --api",
            YOURSELF,
            "WebUI",
        ),
        (
            failed_self_test("the canary", OOM, managed=True),
            "the canary failed: the GPU ran out of memory",
            "smaller",
            "WebUI",
        ),
        (failed_self_test("the canary", OOM, managed=False), "failed: the GPU", YOURSELF, "WebUI"),
        (
            found_by_call(
                "wants another", verdict_on(WebUINotUsableError("x", status=401)), managed=False
            ),
            "wants another",
            "--api-auth",
            "WebUI",
        ),
        (
            found_by_call("busy", verdict_on(WebUIBusyError("no progress")), managed=False),
            "busy",
            "Somebody else is using this WebUI",
            "person",
        ),
        (internal_error("KeyError('x')"), "internal error: KeyError", "report", "sdwatch"),
    ],
)
def test_each_hold_reason_names_cause_advice_and_who_is_to_blame(
    hold_reason: HoldReason, cause: str, advice: str, blame: str
) -> None:
    assert cause in hold_reason.cause
    assert advice in hold_reason.advice
    assert hold_reason.blame == blame
    assert hold_reason.cause == str(hold_reason)


def test_a_busy_webui_does_not_have_to_be_restarted() -> None:
    busy = found_by_call("busy", verdict_on(WebUIBusyError("no progress")), managed=False)
    assert YOURSELF not in busy.advice


BUSY = verdict_on(WebUIBusyError("no progress"))
UNUSABLE = verdict_on(WebUINotUsableError("x", status=401))


@table(
    ("hold_reason", "cure"),
    [
        (start_failed("it ended: exit code 3", None), Cure.RESTART),
        (start_failed("exit code 2", KNOWN), Cure.PERSON),
        (start_failed("port 1: x", None, TAKEN, advice="End it."), Cure.PERSON),
        (not_started("working folder not found: x"), Cure.PERSON),
        (seen_by_probe("x", Lack.PASSWORD, managed=True), Cure.PERSON),
        (no_answer("it loads", managed=True), Cure.TIME),
        (no_answer("refused", managed=False), Cure.PERSON),
        (failed_self_test("the canary", OOM, managed=True), Cure.RESTART),
        (failed_self_test("the canary", OOM, managed=False), Cure.PERSON),
        (failed_self_test("the canary", BUSY, managed=True), Cure.TIME),
        (failed_self_test("the canary", UNUSABLE, managed=True), Cure.PERSON),
        (found_by_call("busy", BUSY, managed=False), Cure.TIME),
        (found_by_call("wants another", UNUSABLE, managed=True), Cure.PERSON),
        (crashed_repeatedly(["run-1"]), Cure.TIME),
        (no_room("5 MB free"), Cure.PERSON),
        (internal_error("KeyError('x')"), Cure.RESTART),
    ],
)
def test_each_hold_reason_says_what_ends_it(hold_reason: HoldReason, cure: Cure) -> None:
    assert hold_reason.cure is cure


def test_the_note_says_that_an_edited_config_needs_a_restart() -> None:
    held = Held(HoldReason("x", "Give `password`."), "then")
    text = hold_text("sim", held, edited="/sd/sdwatch.yaml")
    advice, _, _ = text.partition("No job is lost")
    assert "Give `password`.\n\n  /sd/sdwatch.yaml has changed since sdwatch started" in advice


NOISE = "--api user name no checkpoint is taken by busy"


@table("lack", Lack)
def test_the_advice_depends_on_what_a_webui_lacks_and_not_on_the_text(lack: Lack) -> None:
    advice = {seen_by_probe(text, lack, managed=True).advice for text in ("x", NOISE)}
    assert len(advice) == 1
    others = {seen_by_probe("x", other, managed=True).advice for other in Lack if other is not lack}
    assert not advice & others


@table("failure", StartFailure)
def test_cure_and_blame_depend_on_the_start_failure_and_not_on_the_text(
    failure: StartFailure,
) -> None:
    plain, noisy = (start_failed(text, None, failure) for text in ("x", NOISE))
    assert (plain.cure, plain.blame) == (noisy.cure, noisy.blame)
    is_taken = failure is StartFailure.PORT_TAKEN
    assert plain.cure is (Cure.PERSON if is_taken else Cure.RESTART)
    assert plain.blame is (Blamed.PERSON if is_taken else Blamed.WEBUI)


@table(
    ("failure", "key"),
    [
        (StartFailure.TOO_LATE, "start_limit"),
        (StartFailure.NO_SIGN_OF_LIFE, "stall"),
        (StartFailure.ENDED, ""),
        (StartFailure.BY_ITS_LOG, ""),
    ],
)
def test_a_failed_start_names_only_the_limit_that_ended_it(failure: StartFailure, key: str) -> None:
    advice = start_failed("x", None, failure).advice
    named = [name for name in ("start_limit", "stall") if f"`{name}`" in advice]
    assert named == [key] * bool(key)


@table("kind", KINDS.values(), ids=str)
def test_the_advice_about_a_password_is_a_whole_sentence(kind: Kind) -> None:
    advice = seen_by_probe("401", Lack.PASSWORD, managed=True, kind=kind).advice
    assert "in the config in its" not in advice
    assert re.search("Put those (of its --|that the proxy)", advice)


def test_a_wrong_password_is_the_setups_fault_and_calls_for_no_restart_of_the_webui() -> None:
    reason = seen_by_probe("401", Lack.PASSWORD, managed=False)
    assert YOURSELF not in reason.advice
    assert reason.blame is Blamed.PERSON


def test_a_webui_that_is_not_ready_may_be_running() -> None:
    advice = no_answer("its certificate is not trusted", managed=False).advice
    assert advice.startswith("If it is not running, start it")


@table("blame", Blamed)
def test_the_note_has_words_for_everyone_who_may_be_to_blame(blame: Blamed) -> None:
    text = hold_text("sim", Held(HoldReason("x", blame=blame), "2026-11-23T14:21:37.000Z"))
    assert f"Fault:  {blame}\n" not in text
    assert "Fault:  " in text


def test_one_attempt_that_is_left_out_is_one() -> None:
    held = Held(HoldReason("x"), "2026-11-23T14:21:37.000Z", (("then", "again"),), 1)
    assert "1 earlier attempt left out" in hold_text("sim", held)


def test_the_advice_of_a_failed_start_is_for_the_kind_of_its_webui() -> None:
    def advice(kind: Kind) -> str:
        return start_failed("exit code 2", KNOWN, kind=kind).advice

    assert "SD.Next knows neither --nowebui" in advice(SDNEXT)
    for kind in (FORGE, A1111, UNKNOWN):
        assert "neither --nowebui" not in advice(kind)


@table(
    "reason",
    [
        start_failed("exit code 2", KNOWN),
        not_started("working folder not found: x"),
        start_failed("x", None, StartFailure.TOO_LATE),
        seen_by_probe("401", Lack.PASSWORD, managed=True),
    ],
)
def test_advice_to_change_the_config_says_that_it_is_read_at_the_start(reason: HoldReason) -> None:
    assert re.search("restart sdwatch", reason.advice)


def test_what_differs_for_a_person_is_another_hold() -> None:
    """Else the change from one to the other is no news for an hour."""
    reasons = [
        not_writable(Path("state"), OSError(28, "No space left on device"))[1],
        cannot_kill([7])[1],
        operation_hangs()[1],
        not_started("command not found"),
        not_started("port 7860 is taken", "", StartFailure.PORT_TAKEN),
    ]
    assert len({reason.key for reason in reasons}) == len(reasons)
