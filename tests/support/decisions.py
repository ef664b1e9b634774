"""What sdwatch decides, as plain values and without a word for people: see noise.py."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from sdwatch.cli.shared.live_display import _STYLES, LiveShow
from sdwatch.cli.shared.webui_client import _advice
from sdwatch.config import WebUIConfig
from sdwatch.errors import WebUIBusyError, WebUIError, WebUINotUsableError, WebUIServerError
from sdwatch.known_signatures import builtin_signatures
from sdwatch.lane.lane import Lane
from sdwatch.monitor.holds import Holds
from sdwatch.policy.failure import recovery, reply_checks
from sdwatch.policy.failure.check_levels import LEVELS
from sdwatch.policy.failure.diagnosis import diagnose, key_to_trace
from sdwatch.policy.failure.facts import Diagnosis, FailureFacts
from sdwatch.policy.failure.hold_reason import (
    Held,
    HoldCode,
    HoldKey,
    HoldReason,
    Lack,
    NoCall,
    StartFailure,
    crashed_repeatedly,
    failed_self_test,
    found_by_call,
    internal_error,
    no_answer,
    no_room,
    not_started,
    seen_by_probe,
    self_test_due,
    start_failed,
)
from sdwatch.policy.failure.lasting import LastingStates
from sdwatch.policy.failure.matching import FailedStart, ends_start, why_not_started
from sdwatch.policy.failure.recovery import BlameTest
from sdwatch.policy.failure.reply_checks import Picture, ReplyContents
from sdwatch.policy.lane.instant import Instant
from sdwatch.policy.lane.lane_hold import HoldState
from sdwatch.policy.report.envelope import attempt_from, cancelled_envelope, with_attempts
from sdwatch.policy.report.notice import Notice, Topic
from sdwatch.policy.report.why import About, Evidence, why_text
from sdwatch.spool.folders import Spool
from sdwatch.webui.http.api import WebUIAPI
from sdwatch.webui.http.checked_reply import ReplyChecks
from sdwatch.webui.http.reply import error_for
from tests.policy import causes
from tests.support.fakes import FakeClient, FakeProcess, picture, reply, settings_of
from tests.support.helpers import FakeClock
from tests.support.histories import ModelWebUI, night
from tests.support.monitored import job, journal, monitored
from tests.support.recorders import recorder_alone


def decisions() -> dict[str, Any]:
    """All of them, by their subject."""
    return {
        "the recovery gate": list(_gate()),
        "the self-test": list(_self_test()),
        "diagnoses": list(_diagnoses()),
        "replies": list(_replies()),
        "starts": list(_starts()),
        "holds": list(_hold_reasons()),
        "blame": list(_nights()),
        "calls": list(_calls()),
        "notes": _notes(),
        "what lasts": _lasting(),
        "the display": _display(),
        "what a command advises": _asked(),
        "a night": _a_night(),
    }


def _gate() -> Iterator[Any]:
    ways = itertools.product(
        Diagnosis, (0, 1, 2), (True, False), (1, 5), (True, False), (True, False), (True, False)
    )
    for diagnosis, attempts, on, sent, known, managed, limit in ways:
        decision = recovery.decide(
            diagnosis, attempts, on, sent, known, managed=managed, time_limit=limit
        )
        crash = recovery.needs_restart(diagnosis, False, decision)
        yield decision.action, decision.ground, decision.excuses, crash


def _self_test() -> Iterator[Any]:
    for result, first, excused, sent in itertools.product(BlameTest, (True, False), (0, 1), (2, 5)):
        unhealthy = "it ended" if result in (BlameTest.FAILED, BlameTest.HELD) else ""
        decision = recovery.after_self_test(
            result, unhealthy, first_call=first, excused=excused, sent=sent
        )
        yield decision.action, decision.ground, decision.blame, decision.excuses


def _samples() -> list[causes.Sample]:
    lists = (value for value in vars(causes).values() if isinstance(value, list | tuple))
    return [each for found in lists for each in found if isinstance(each, causes.Sample)]


def _failures() -> Iterator[FailureFacts]:
    for sample in _samples():
        kind, _, said = sample.text.partition(": ")
        error = WebUIServerError("x", status=500, kind=kind if said else "", said=said or kind)
        yield FailureFacts(error)
        silent = WebUIServerError("x", status=500, said="Internal Server Error")
        yield FailureFacts(silent, log=("Traceback (most recent call last):", "  x", sample.text))
        yield FailureFacts(
            silent, process_gone=True, exit_code=-9, log=(sample.text,), memory_low=True
        )
    for status in (400, 401, 403, 404, 405, 408, 413, 422, 429, 500, 502, 503, 504, 524):
        for body in (b"", b"Not Found", b'{"detail": "Not Found"}', b'{"detail": "no image"}'):
            yield FailureFacts(error_for(status, body, "txt2img", "txt2img"))


def _diagnoses() -> Iterator[Any]:
    signatures = builtin_signatures()
    for facts in _failures():
        explanation = diagnose(facts, signatures)
        key = key_to_trace(explanation, facts.error)
        shared = key.shared(str).digest if key else ""
        found = (
            explanation.diagnosis,
            explanation.poisons,
            explanation.blames,
            explanation.is_known,
        )
        yield (
            *found,
            type(facts.error).__name__,
            explanation.key.signature,
            shared,
            explanation.repeats,
        )


def _replies() -> Iterator[Any]:
    size = {"width": 64, "height": 64, "sampler_name": "Euler", "seed": 1}
    for pictures, info, log in (
        ([], {}, ()),
        ([Picture((32, 64))], {}, ()),
        ([Picture((64, 64), one_colour=True)], {}, ()),
        ([Picture((64, 64))], {"sampler_name": "DPM", "seed": 2}, ()),
        ([Picture((64, 64))], {}, ("Couldn't find VAE named x", "Networks not found: y")),
        ([Picture((64, 64))], {}, ("*** Error running process: /w/extensions/a/s.py",)),
    ):
        made = ReplyContents(pictures, info, log=log)
        yield [each.key for each in reply_checks.findings("txt2img", size, made)]
    for data, level in ((picture(size=(32, 32)), "fail"), (picture(size=(32, 32)), "warn")):
        try:
            kinds = ReplyChecks({**LEVELS, "size": level}).check("txt2img", size, reply(data))
            yield [each.key for each in kinds]
        except WebUIError as error:
            yield (
                type(error).__name__,
                error.kind,
                error.facts,
                diagnose(FailureFacts(error)).diagnosis,
            )


def _starts() -> Iterator[Any]:
    signatures = builtin_signatures()
    for sample in _samples():
        known = why_not_started(FailedStart(([sample.text],), 1), signatures)
        yield known and known.name, ends_start(sample.text, signatures)
        for failure in StartFailure if known else ():
            yield _of(start_failed("it ended", known, failure))
    for failure in StartFailure:
        yield _of(start_failed("port 1 is taken by busy", None, failure))
    for lack, managed in itertools.product(Lack, (True, False)):
        yield _of(seen_by_probe("port 1 is taken by busy", lack, managed=managed))


def _of(hold_reason: HoldReason) -> Any:
    key = hold_reason.key.code.name, _plain(hold_reason.key.facts)
    return (
        *key,
        hold_reason.blame,
        hold_reason.cure.name,
        bool(hold_reason.advice),
        hold_reason.failed_runs,
    )


def _plain(facts: Any) -> Any:
    """Enums by their names: their values are words."""
    if isinstance(facts, tuple):
        return [_plain(each) for each in facts]
    return getattr(facts, "digest", None) or getattr(facts, "name", facts)


def _explanations() -> Iterator[Any]:
    busy = WebUIBusyError("x", status=429)
    unusable = WebUINotUsableError("x", status=401)
    memory = WebUIServerError("x", status=500, said="CUDA out of memory")
    for error in (busy, unusable, memory):
        yield diagnose(FailureFacts(error), builtin_signatures())


def _hold_reasons() -> Iterator[Any]:
    for managed in (True, False):
        for lack in Lack:
            yield _of(seen_by_probe("it is busy", lack, managed=managed))
        yield _of(no_answer("it is busy", managed=managed))
        for explanation in _explanations():
            yield _of(failed_self_test("the canary", explanation, managed=managed))
            yield _of(found_by_call("it is busy", explanation, managed=managed))
    for hold_reason in (
        crashed_repeatedly(["a"]),
        no_room("x"),
        internal_error("x"),
        self_test_due(),
    ):
        yield _of(hold_reason)
    yield _of(not_started("no such folder. Make it."))
    hold = HoldState()
    for hold_reason in (
        no_answer("a", managed=True),
        no_answer("b", managed=True),
        self_test_due(),
    ):
        hold = hold.update(hold_reason, Instant(0.0, 0.0, ""))
    yield len(hold.tried)


def _nights() -> Iterator[Any]:
    innocent = [f"good {name}" for name in "abc"]
    for jobs in (
        ["oom one", "oom two", "oom-leaks-once x", *innocent],
        ["generic one", "generic two", "generic-once x", *innocent],
        ["broken one", "oom two", "broken three", "oom four", "broken five", *innocent],
        ["good a", "kills x", "poisons y", *innocent],
    ):
        for managed in (True, False):
            ended = night(jobs, ModelWebUI(), managed=managed, by_hand=True)
            lane = ended.lane
            posts = [ended.posts(job) for job in jobs]
            yield ended.done, ended.failed, posts, lane.webui.incarnation, lane.webui.self_tests
    ended = night(innocent, ModelWebUI(fault="tiny-only"))
    yield ended.done, ended.failed, ended.waiting


def _calls() -> Iterator[Any]:
    """The crash-aware call, its ledger, and what WHY.txt makes of that: its lines by number."""
    errors: tuple[WebUIError, ...] = (
        WebUIServerError("x", status=500, kind="KeyError", said="'x'"),
        WebUIServerError("x", status=500, said="CUDA out of memory. Tried to allocate 2 GiB"),
        WebUIBusyError("x", status=429),
        error_for(422, b'{"detail": [{"loc": ["body", "x"], "msg": "y"}]}', "txt2img", "txt2img"),
    )
    for error, recovers in itertools.product(errors, (True, False)):
        recorder = recorder_alone()
        settings = settings_of(recovery=recovers)
        api = WebUIAPI(FakeClient(error), FakeProcess(), recorder, settings=settings)
        outcome = api.generate_images_with_recovery("txt2img", {"prompt": "x"})
        assert outcome.envelope is not None
        about = About("20261123-142137.125-castle-b12c", "castle.yaml", option=" --config x")
        text = why_text(outcome.envelope, about, Evidence())
        attempts = [
            (a.action, a.ground, a.failure, a.counted, a.crashed, a.repeats)
            for a in recorder.attempts
        ]
        envelope = outcome.envelope
        whose = envelope.diagnosis, envelope.blame, envelope.self_test_passed, envelope.failure
        yield outcome.later, *whose, attempts, len(text.splitlines())
    record = {"event": "call_failed", "call": "1.1", "decision": "restart and retry (it may cure)"}
    yield attempt_from(record).action, attempt_from(record).failure
    tested = {"event": "call_self_tested", "call": "1.1", "unhealthy": "it died"}
    envelope = with_attempts(cancelled_envelope(), [record, tested])
    yield envelope.self_test_passed, len(envelope.attempts), envelope.blame


class _StandIn:
    """A lane, as far as it is on hold or not."""

    name = "sim"
    held: Held | None = None
    released = 0

    def release(self) -> None:
        self.released += 1


def _notes() -> Any:
    """Which notices there are of holds, and which notes lie in the spool."""
    reported: list[Any] = []
    lane = _StandIn()
    lanes = [cast(Lane, lane)]
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "HOLD-sim.txt"
        clock = cast(Any, FakeClock())
        holds = Holds(
            Spool(Path(folder), "me"),
            ["sim"],
            clock=clock,
            report=lambda notice: reported.append((notice.topic.name, notice.subject)),
        )
        full = NoCall("5 MB free, less than min_free", HoldKey(HoldCode.NO_ROOM))
        share = NoCall("share gone: less than min_free", HoldKey(HoldCode.SHARE_GONE))
        for everything in (None, full, replace(full, text="4 MB free"), share, None):
            holds.report(lanes, everything)
            reported.append(note.exists())
        for hold_reason in (
            no_answer("a", managed=True),
            no_answer("b", managed=True),
            self_test_due(),
        ):
            lane.held = Held(hold_reason, "then")
            holds.report(lanes, None)
            reported.append(note.exists())
        note.unlink()
        holds.report(lanes, None)
        return reported, lane.released


def _lasting() -> Any:
    disk = LastingStates()
    words = itertools.cycle(("No space left", "it is full"))
    keys = itertools.chain([28] * 300, [30] * 300, [28] * 300)
    return [at for at, key in enumerate(keys) if disk.persists("run", key, next(words), at)]


def _display() -> Any:
    show = LiveShow(lambda: {"hold": "", "lanes": []}, "/spool")
    for topic, subject in itertools.product(Topic, ("a", "b", "a")):
        show.notify(Notice(f"{subject}: done: on hold: failed: x", topic, subject, "/done/x"))
    events = [notice for _, notice in show._events]
    return [(each.topic.name, each.subject, _STYLES.get(each.topic, "")) for each in events]


def _asked() -> Any:
    """After which looks a command only looks again, and says so."""
    from sdwatch.webui.process.readiness import ProbeResult, Seen

    webui = WebUIConfig.model_validate({"name": "x", "url": "http://127.0.0.1:1"})
    results = [ProbeResult(False, seen.value, seen=seen) for seen in Seen]
    advice = [_advice(result, webui) for result in results]
    return [advice.count(each) for each in advice]


_PLAN = """
- fault: structured-500
  when: {prompt: cursed}
  times: always
- fault: sigkill-mid-step
  when: {prompt: deadly}
  times: once
"""


def _a_night() -> Any:
    """A real monitor with a simulator, and what became of each job."""
    with tempfile.TemporaryDirectory() as folder, monitored(Path(folder), faults=_PLAN) as spool:
        prompts = ("a castle", "a cursed castle", "a deadly castle", "another cursed castle")
        for number, prompt in enumerate(prompts):
            spool.drop(f"{number}.yaml", job(prompt, priority=9 - number))
        spool.drop("unknown.yaml", job(sampler_name="Eulr", priority=-1))
        spool.drop("mistake.yaml", job(stepz=5, priority=-2))
        spool.start(once=True)
        result = spool.ended()
        runs = {
            json.loads((run / "run.json").read_text("utf-8"))["source"]: _story(run)
            for run in [*spool.done(), *spool.failed()]
        }
        crashes = [(each["kind"], each["in_a_row"]) for each in spool.events("crash")]
        stats = {name: spool.stats()[name] for name in ("posts", "canaries", "starts")}
        return getattr(result, "name", result), dict(sorted(runs.items())), crashes, stats


def _story(run: Path) -> Any:
    """How it ended, by its folder: codes and numbers alone."""
    error = json.loads((run / "error.json").read_text("utf-8")) if "failed" in run.parts else {}
    ended = [error.get(key) for key in ("error", "diagnosis", "blame", "self_test_passed")]
    gate = [
        (record["event"], record["action"], record["ground"])
        for record in journal(run)
        if record["event"] in ("call_failed", "call_self_tested")
    ]
    return run.parent.name, ended, gate
