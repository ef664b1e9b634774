"""A crash on the way: evidence, one restart, one retry, and an ending that explains itself.

With a fake process manager and client first, then with a real simulator that is killed by SIGKILL
in the middle of its reply.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUIBusyError,
    WebUIError,
    WebUINotUsableError,
    WebUIReplyError,
    WebUIServerError,
    WebUIStuckError,
    WebUIUnreachableError,
)
from sdwatch.known_signatures import builtin_signatures
from sdwatch.lane.lane import Lane
from sdwatch.policy.failure.diagnosis import FailureFacts, diagnose
from sdwatch.policy.failure.exits import exit_in_words
from sdwatch.policy.failure.facts import FailureKey
from sdwatch.policy.failure.recovery import TRACED_TO_OTHERS
from sdwatch.policy.lane.events import ProcessExited, Stalled
from sdwatch.spool.recorder import RunRecorder
from sdwatch.stages.run_end import RunEnd
from sdwatch.stages.runner import StageRunner
from sdwatch.webui.http.api import WebUIAPI
from sdwatch.webui.http.call import Outcome
from sdwatch.webui.http.reply import error_for
from sdwatch.webui.http.run_control import RunControl
from tests.support.fakes import (
    Answer,
    FakeClient,
    FakeProcess,
    Workplace,
    envelope,
    events,
    journal,
    picture,
    reply,
    server_error,
)
from tests.support.helpers import ended_by, wait_until
from tests.support.lanes import lane_of, simulator
from tests.support.recorders import recorder_alone
from tests.support.scripted_lane import ScriptedLane

KILLED = ended_by(9)  # by the simulator
BOTH = ("stage_failure_payload.json", "webui_tail.log")
SECOND = ("stage_failure_payload.2.json", "webui_tail.2.log")
PAYLOAD: dict[str, Any] = {
    "prompt": "a purple hippopotamus",
    "negative_prompt": "blurry watermark",
    "steps": 4,
    "alwayson_scripts": {"ADetailer": {"args": [True, {"ad_prompt": "sleepy eyelashes"}]}},
}
SECRETS = ("purple", "hippopotamus", "watermark", "eyelashes")
JOB = """\
stages:
  - txt2img:
      prompt: a purple hippopotamus
      negative_prompt: blurry watermark
      width: 64
      height: 64
      steps: 4
      alwayson_scripts: {ADetailer: {args: [true, {ad_prompt: sleepy eyelashes}]}}
"""
ECHO = "Traceback: could not draw 'a purple hippopotamus', sleepy eyelashes"


@dataclass
class Call:
    """One crash-aware call with everything around it faked."""

    client: FakeClient
    process: FakeProcess = field(default_factory=FakeProcess)
    setup: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lane = ScriptedLane(self.client, self.process, **self.setup)

    def make(self, run_dir: Path | None, recorder: RunRecorder | None = None) -> Outcome:
        api = WebUIAPI(
            self.client,
            self.process,
            recorder or recorder_alone(),
            settings=self.lane.settings,
            loop=self.lane,
        )
        return api.generate_images_with_recovery("txt2img", PAYLOAD, run_dir, "job-1")


def calling(*answers: Answer, process: FakeProcess | None = None, **setup: Any) -> Call:
    return Call(FakeClient(*answers), process or FakeProcess(), setup)


def key_of(error: WebUIError) -> FailureKey:
    """As two jobs may share it."""
    explanation = diagnose(FailureFacts(error), builtin_signatures())
    return recorder_alone().shared(explanation.key, PAYLOAD)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- the call alone, with fakes


def test_after_a_500_and_one_restart_the_call_succeeds_and_leaves_both_evidence_files(
    tmp_path: Path,
) -> None:
    call = calling(server_error(), reply())
    outcome = call.make(tmp_path)
    assert outcome.ok
    assert outcome.envelope is None
    assert call.process.restarts == 1
    assert call.client.posts == [("txt2img", PAYLOAD)] * 2
    assert names(tmp_path) == sorted(BOTH)
    assert call.lane.heard == [
        "sending txt2img", "crashed: server error", "sending txt2img", "succeeded",
    ]  # fmt: skip


def test_a_call_that_fails_again_fails_and_names_evidence_that_exists(tmp_path: Path) -> None:
    call = calling(server_error())
    outcome = call.make(tmp_path)
    assert (outcome.ok, outcome.later) == (False, False)
    assert call.process.restarts == 1
    assert len(call.client.posts) == 2
    assert outcome.envelope is not None
    assert outcome.envelope.evidence == (*BOTH, *SECOND)
    assert all((tmp_path / name).is_file() for name in outcome.envelope.evidence)
    assert [a.diagnosis for a in outcome.envelope.attempts] == ["server error"] * 2
    assert outcome.envelope.error == "WebUIServerError"
    assert outcome.envelope.blame == "job"


@pytest.mark.parametrize("second", [reply(), server_error()], ids=["cured", "fails again"])
def test_without_a_run_folder_no_files_and_the_same_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: Answer
) -> None:
    monkeypatch.chdir(tmp_path)
    call, other = calling(server_error(), second), calling(server_error(), second)
    outcome, with_folder = call.make(None), other.make(tmp_path)
    for name in (*BOTH, *SECOND):
        (tmp_path / name).unlink(missing_ok=True)
    assert names(tmp_path) == []
    assert (outcome.ok, outcome.later) == (with_folder.ok, with_folder.later)
    assert call.process.restarts == other.process.restarts == 1
    assert call.lane.heard == other.lane.heard
    if outcome.envelope is not None and with_folder.envelope is not None:
        assert outcome.envelope.evidence == ()
        assert outcome.envelope.message == with_folder.envelope.message


def test_a_restart_that_fails_is_a_failure_for_later_with_evidence(tmp_path: Path) -> None:
    process = FakeProcess(restarts_well=False)
    call = calling(server_error(), process=process, supervised=False)
    outcome = call.make(tmp_path)
    assert (outcome.ok, outcome.later) == (False, True)
    assert call.process.restarts == 1
    assert len(call.client.posts) == 1
    assert outcome.envelope is not None
    assert outcome.envelope.evidence == BOTH
    assert names(tmp_path) == sorted(BOTH)


@pytest.mark.parametrize(
    "error",
    [
        WebUIBadRequestError("POST txt2img was answered 422: steps: too many", status=422),
        error_for(500, b'{"detail": "Invalid encoded image"}', "txt2img", "txt2img"),
    ],
)
def test_a_bad_request_fails_at_once_without_a_restart(error: WebUIError, tmp_path: Path) -> None:
    call = calling(error)
    outcome = call.make(tmp_path)
    assert (outcome.ok, outcome.later) == (False, False)
    assert call.process.restarts == 0
    assert len(call.client.posts) == 1
    assert call.lane.heard == ["sending txt2img"]
    assert outcome.envelope is not None
    assert outcome.envelope.diagnosis == "bad request"


@pytest.mark.parametrize(
    "error",
    [
        server_error(),
        WebUIUnreachableError("connection reset"),
        WebUIReplyError("the reply has no image", status=200),
    ],
)
def test_with_recovery_off_it_fails_fast_with_evidence(error: WebUIError, tmp_path: Path) -> None:
    call = calling(error, recovery=False, supervised=False)
    outcome = call.make(tmp_path)
    assert (outcome.ok, outcome.later) == (False, False)
    assert call.process.restarts == 0
    assert len(call.client.posts) == 1
    assert outcome.envelope is not None
    assert outcome.envelope.evidence == BOTH
    assert names(tmp_path) == sorted(BOTH)


@pytest.mark.parametrize(
    "error",
    [
        WebUIBusyError("POST txt2img was answered 429", status=429),
        WebUINotUsableError("POST txt2img was answered 401", status=401),
    ],
)
def test_a_failure_that_is_not_the_jobs_fault_holds_the_lane_and_costs_no_attempt(
    error: WebUIError, tmp_path: Path
) -> None:
    call = calling(error)
    outcome = call.make(tmp_path)
    assert (outcome.ok, outcome.later) == (False, True)
    assert call.process.restarts == 0
    assert call.lane.heard.count("sending txt2img") == 1
    assert call.lane.reasons
    assert f"({error})" in call.lane.reasons[0]  # what it means, and what was said
    assert outcome.envelope is not None
    assert [attempt.counted for attempt in outcome.envelope.attempts] == [False]
    assert outcome.envelope.blame == "WebUI"


@pytest.mark.parametrize(
    "where", ["body", "tail", "unforeseen"], ids=["in the body", "in the log", "in a bug of ours"]
)
@pytest.mark.parametrize("with_folder", [True, False])
def test_no_prompt_is_in_the_evidence_though_everything_echoes_it(
    tmp_path: Path, where: str, with_folder: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(stage: str, payload: Any) -> Any:
        raise RuntimeError(f"{stage}: {payload}")

    tail = {"stdout": ECHO if where == "tail" else "", "stderr": json.dumps(PAYLOAD)}
    error: Answer = breaks if where == "unforeseen" else server_error(ECHO)
    call = calling(error, process=FakeProcess(tail=tail))
    outcome = call.make(tmp_path if with_folder else None)
    assert outcome.envelope is not None
    everything = [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()]
    assert len(everything) == (4 if with_folder else 0)
    everything += [json.dumps(outcome.envelope.as_json()), caplog.text]
    found = [s for text in everything for s in SECRETS if s in text]
    assert found == []


def test_the_evidence_has_length_and_digest_of_each_text(tmp_path: Path) -> None:
    calling(server_error(), reply()).make(tmp_path)
    kept = json.loads((tmp_path / BOTH[0]).read_text(encoding="utf-8"))
    assert kept["steps"] == 4
    assert kept["prompt"]["text"]["length"] == len(PAYLOAD["prompt"])
    nested = kept["alwayson_scripts"]["ADetailer"]["args"]
    assert nested[0] is True
    assert nested[1]["ad_prompt"]["text"]["length"] == len("sleepy eyelashes")


def test_a_process_that_ends_during_the_call_is_a_crash_whatever_the_reply_is(
    tmp_path: Path,
) -> None:
    def dies(stage: str, payload: Any) -> Any:
        del payload
        call.lane.tell(ProcessExited(1, -9))
        raise WebUIUnreachableError("connection reset", stage=stage)

    call = calling(dies, reply())
    assert call.make(tmp_path).ok
    assert call.lane.heard[1] == "crashed: crash"
    assert call.process.restarts == 1


def test_a_whole_reply_that_came_just_before_the_end_of_the_process_is_kept(
    tmp_path: Path,
) -> None:
    def dies(stage: str, payload: Any) -> Any:
        del stage, payload
        call.lane.tell(ProcessExited(1, -9))
        return reply()

    call = calling(dies)
    assert call.make(tmp_path).ok
    assert len(call.client.posts) == 1
    assert names(tmp_path) == []


def test_the_exit_of_an_earlier_incarnation_does_not_end_this_one(tmp_path: Path) -> None:
    call = calling(reply(), process=FakeProcess(incarnation=2))
    call.lane.tell(ProcessExited(1, -9))
    assert call.make(tmp_path).ok
    assert len(call.client.posts) == 1


def test_a_stall_of_an_earlier_call_does_not_end_this_one(tmp_path: Path) -> None:
    call = calling(reply())
    call.lane.tell(Stalled(0, 1, "no progress for 300 s"))
    assert call.make(tmp_path).ok
    assert call.client.interrupts == 0
    assert len(call.client.posts) == 1


def test_a_stuck_call_that_an_interrupt_frees_is_retried_without_a_restart(
    tmp_path: Path,
) -> None:
    freed = threading.Event()

    def hangs(stage: str, payload: Any) -> Any:
        del stage, payload
        call.lane.stall()
        assert freed.wait(20)
        return reply(picture(1))

    class Client(FakeClient):
        def interrupt(self) -> bool:
            freed.set()
            return super().interrupt()

    call = Call(Client(hangs, reply(picture(2))))
    outcome = call.make(tmp_path)
    assert outcome.reply == reply(picture(2))
    assert call.process.restarts == 0
    assert call.lane.heard == ["sending txt2img", "sending txt2img", "succeeded"]
    assert names(tmp_path) == sorted(BOTH)


def test_a_call_that_is_stuck_twice_fails_and_its_post_is_not_left_behind(
    tmp_path: Path,
) -> None:
    over = threading.Event()

    def hangs(stage: str, payload: Any) -> Any:
        del payload
        call.lane.stall()
        over.wait(20)
        raise WebUIUnreachableError("connection reset", stage=stage)

    class Client(FakeClient):
        def abandon(self) -> None:
            super().abandon()
            over.set()

    call = Call(Client(hangs, hangs), setup={"interrupt_wait": 0.05, "supervised": False})
    over_first = call.client
    outcome = call.make(tmp_path)
    assert (outcome.ok, outcome.later) == (False, False)
    assert outcome.envelope is not None
    assert [a.diagnosis for a in outcome.envelope.attempts] == ["stuck", "stuck"]
    assert call.process.restarts == 1
    assert over_first.abandons == 2


def test_after_a_second_failure_the_webui_is_tested_and_the_job_blamed(
    tmp_path: Path,
) -> None:
    call = calling(server_error())
    outcome = call.make(tmp_path)
    assert not outcome.later
    assert outcome.envelope is not None
    assert outcome.envelope.blame == "job"
    assert call.lane.heard[-1] == "self-test"
    assert call.lane.state.history.in_a_row == 0, "its crash is forgiven"
    assert len(call.client.posts) == 2


def test_a_webui_that_fails_its_self_test_is_blamed_once_and_the_call_gets_one_last_attempt(
    tmp_path: Path,
) -> None:
    call = calling(server_error())
    call.lane.self_tests = ["it is dead", "it is dead again"]
    recorder = recorder_alone()
    first = call.make(tmp_path, recorder=recorder)
    assert first.later
    assert (recorder.counted, recorder.excused) == (1, 1)
    second = call.make(tmp_path, recorder=recorder)
    assert not second.later
    assert second.envelope is not None
    assert second.envelope.blame == "job", "it drew the canary in between"
    assert len(call.client.posts) == 3


def test_a_death_between_the_second_failure_and_the_self_test_costs_no_third_attempt(
    tmp_path: Path,
) -> None:
    call = calling(server_error(), server_error(), reply())
    recorder = recorder_alone()
    call.make(tmp_path, recorder=recorder)
    again = call.make(tmp_path, recorder=recorder)
    assert not again.ok
    assert len(call.client.posts) == 2
    assert call.lane.heard.count("self-test") == 2


def test_a_failure_known_to_be_the_jobs_own_saves_the_restart_but_not_the_second_attempt(
    tmp_path: Path,
) -> None:
    error = WebUIServerError("the WebUI answered 500: KeyError: 'x'", status=500, said="'x'")
    call = calling(error)
    call.lane.knows(key_of(error))
    outcome = call.make(tmp_path)
    assert outcome.envelope is not None
    assert (outcome.envelope.diagnosis, outcome.envelope.blame) == ("server error", "job")
    assert TRACED_TO_OTHERS in outcome.envelope.attempts[0].decision
    assert len(call.client.posts) == 2
    assert call.process.restarts == 0


def test_an_innocent_call_that_meets_a_known_failure_once_succeeds_at_its_second_attempt(
    tmp_path: Path,
) -> None:
    error = WebUIServerError("the WebUI answered 500: KeyError: 'x'", status=500, said="'x'")
    call = calling(error, reply())
    call.lane.knows(key_of(error))
    assert call.make(tmp_path).ok
    assert call.process.restarts == 0


def test_a_known_failure_that_leaves_the_webui_unusable_costs_its_restart(tmp_path: Path) -> None:
    said = "CUDA error: device-side assert triggered"
    error = WebUIServerError(f"the WebUI answered 500: {said}", status=500, said=said)
    call = calling(error, reply())
    call.lane.knows(key_of(error))
    assert call.make(tmp_path).ok
    assert call.process.restarts == 1


def test_an_external_webui_is_never_interrupted(tmp_path: Path) -> None:
    call = calling(WebUIStuckError("no progress"), reply(), managed=False)
    assert call.make(tmp_path).ok
    assert call.client.interrupts == 0


# -- a whole run in a real spool, with fakes


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def test_a_run_with_a_500_on_its_way_is_done_with_both_evidence_files(place: Workplace) -> None:
    run, process = place.claimed(JOB), FakeProcess()
    client = FakeClient(server_error(ECHO), reply())
    assert place.recovering(run, client, process).run_to_end(place.spool) is RunEnd.DONE
    folder = place.done()
    assert process.restarts == 1
    assert {*BOTH, "images", "run.json", "job.yaml"} <= set(names(folder))
    assert "WHY.txt" not in names(folder)
    told = events(folder)
    assert told.count("call_started") == 2
    assert told.count("call_failed") == told.count("call_finished") == told.count("evidence") == 1
    (call,) = json.loads((folder / "run.json").read_text(encoding="utf-8"))["calls"]
    assert [attempt["outcome"] for attempt in call["attempts"]] == ["failed", "finished"]
    assert [attempt["incarnation"] for attempt in call["attempts"]] == [1, 2]


def test_a_run_that_fails_again_is_failed_and_explains_itself(place: Workplace) -> None:
    run, process = place.claimed(JOB), FakeProcess(tail={"stdout": ECHO, "stderr": ECHO})
    client = FakeClient(server_error(ECHO))
    assert place.recovering(run, client, process).run_to_end(place.spool) is RunEnd.FAILED
    folder = place.failed()
    assert process.restarts == 1
    assert len(client.posts) == 2
    told = envelope(folder)
    assert told["evidence"] == [*BOTH, *SECOND]
    assert all((folder / name).is_file() for name in told["evidence"])
    assert (told["call"], told["stage"], told["blame"]) == ("1.1", "txt2img", "job")
    assert [attempt["status"] for attempt in told["attempts"]] == [500, 500]
    why = (folder / "WHY.txt").read_text(encoding="utf-8")
    for name in told["evidence"]:
        assert name in why
    assert "restart and retry" in why
    for name in (*told["evidence"], "error.json", "WHY.txt"):
        text = (folder / name).read_text(encoding="utf-8")
        assert not any(secret in text for secret in SECRETS), name


def test_a_run_whose_webui_does_not_come_back_resumes_with_its_ledger(place: Workplace) -> None:
    """Without a lane there is nobody to wait for: it is tried again, and no third time."""
    run, client = place.claimed(JOB), FakeClient(server_error())
    runner = place.recovering(run, client, FakeProcess(restarts_well=False))
    assert runner.run_to_end(place.spool) is RunEnd.FAILED
    assert len(client.posts) == 2
    assert [a["counted"] for a in envelope(place.failed())["attempts"]] == [True, True]


def test_the_ledger_outlives_the_monitor_so_that_a_call_is_not_tried_a_third_time(
    place: Workplace,
) -> None:
    run = place.claimed(JOB)
    process = FakeProcess()

    def stops(stage: str, payload: Any) -> Any:
        del stage, payload
        place.control.stop()
        raise server_error()

    first = FakeClient(server_error(), stops)
    assert place.recovering(run, first, process).run_to_end(place.spool) is RunEnd.STOPPED
    place.control = RunControl()
    resumed, second = place.resumed(), FakeClient(server_error())
    ending = place.recovering(resumed, second, process).run_to_end(place.spool)
    assert ending is RunEnd.FAILED
    assert len(second.posts) == 1
    counted = [r["counted"] for r in journal(place.failed()) if r["event"] == "call_failed"]
    assert counted == [True, True]


# -- the same with the real simulator


@dataclass
class Real:
    """A lane whose WebUI is a simulator that it starts itself."""

    lane: Lane
    port: int
    state_dir: Path

    def stats(self) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.port}/simulator/stats"
        found: dict[str, Any] = requests.get(url, timeout=20).json()
        return found

    def crashes(self) -> list[dict[str, Any]]:
        lines = (self.state_dir / "crashes.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def run(self, place: Workplace, job: str) -> RunEnd:
        run = place.claimed(job)
        recorder = place.recorder(run)
        return StageRunner(
            run,
            self.lane.api(recorder, place.control),
            recorder,
            clock=place.clock,
            control=place.control,
        ).run_to_end(place.spool)


@contextmanager
def real_lane(folder: Path, plan: str) -> Iterator[Real]:
    (folder / "faults.yaml").write_text(plan, encoding="utf-8")
    plans = ("--faults", str(folder / "faults.yaml"), "--state", str(folder / "counters.json"))
    config = simulator(*plans, stop_grace=2.0)
    state_dir = folder / "state"
    with lane_of(config, state_dir, (0.05,)) as lane:
        yield Real(lane, config.port, state_dir)


def test_a_real_webui_killed_during_a_reply_is_restarted_once_and_the_run_is_done(
    place: Workplace, tmp_path: Path
) -> None:
    plan = "- {fault: sigkill-mid-reply, when: {generation: 1}}"
    with real_lane(tmp_path, plan) as real:
        assert real.run(place, JOB.replace("      alwayson", "      #")) is RunEnd.DONE
        assert real.stats()["posts"] == 2
        assert real.stats()["starts"] == 2
    folder = place.done()
    assert set(BOTH) <= set(names(folder))
    assert len(names(folder / "images")) == 1
    (failed,) = [r for r in journal(folder) if r["event"] == "call_failed"]
    assert failed["diagnosis"] == "crash"
    assert failed["exit_code"] == KILLED
    died = f"the WebUI died during the call ({exit_in_words(KILLED)})"
    assert failed["message"].startswith(died)
    happened = [r["event"] for r in real.crashes()]
    assert happened == ["start", "crash", "start"]
    tail = (folder / BOTH[1]).read_text(encoding="utf-8")
    assert "SIMULATED fault: sigkill-mid-reply" in tail


def test_a_real_webui_killed_in_each_reply_fails_the_run_after_two_posts(
    place: Workplace, tmp_path: Path
) -> None:
    plan = "- {fault: sigkill-mid-reply, when: {stage: txt2img}, times: always}"
    with real_lane(tmp_path, plan) as real:
        assert real.run(place, JOB.replace("      alwayson", "      #")) is RunEnd.FAILED
        wait_until(lambda: real.lane.ready, why="its lane brings it up again")
        assert real.stats()["posts"] == 2
    folder = place.failed()
    told = envelope(folder)
    assert {*BOTH, *SECOND} <= set(told["evidence"])
    assert all((folder / name).is_file() for name in told["evidence"])
    assert [a["diagnosis"] for a in told["attempts"]] == ["crash", "crash"]
    assert [a["exit_code"] for a in told["attempts"]] == [KILLED, KILLED]
    assert [a["incarnation"] for a in told["attempts"]] == [1, 2]
    texts = [(folder / n).read_text(encoding="utf-8") for n in (*told["evidence"], "WHY.txt")]
    assert not any(secret in text for text in texts for secret in SECRETS)
