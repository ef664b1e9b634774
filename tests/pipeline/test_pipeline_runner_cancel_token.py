"""A run that is cancelled or stopped ends at once, whatever it waits for."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdwatch.lane.lane import Lane
from sdwatch.policy.failure.lifecycle import State
from sdwatch.spool.run import Run
from sdwatch.stages.run_end import RunEnd
from sdwatch.stages.runner import StageRunner
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.run_control import RunControl
from tests.support.fakes import (
    FakeClient,
    FakeProcess,
    PlainClient,
    Workplace,
    envelope,
    events,
    picture,
    reply,
    server_error,
)
from tests.support.helpers import wait_until
from tests.support.lanes import lane_of, simulator
from tests.webui.sim import Simulator, running

STAGES = {
    "txt2img": "  - txt2img: {prompt: a, width: 64, height: 64}\n",
    "img2img": "  - img2img: {prompt: a, init_images: a.png}\n",
    "extra-single-image": "  - upscale: {image: a.png, upscaling_resize: 1}\n",
}


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


class Running:
    """A run in its thread."""

    def __init__(self, runner: StageRunner, place: Workplace) -> None:
        self.runner = runner
        self.ending: RunEnd | None = None
        self._thread = threading.Thread(target=self._run, args=(place,))
        self._thread.start()

    def _run(self, place: Workplace) -> None:
        self.ending = self.runner.run_to_end(place.spool)

    def end(self) -> RunEnd | None:
        """How it ended; it must do so soon."""
        self._thread.join(20)
        assert not self._thread.is_alive(), self.runner.doing
        return self.ending


@contextmanager
def hanging(folder: Path, stage: str) -> Iterator[Simulator]:
    """A simulator whose first generation of `stage` never ends."""
    plan = f"- {{fault: hang, at: 0, when: {{stage: {stage}}}}}"
    with running(folder, plan=plan) as sim:
        yield sim


def generating(sim: Simulator) -> bool:
    return "SIMULATED fault: hang" in sim.lines() and bool(sim.state()["job"])


def assert_cancelled(folder: Path) -> None:
    told = envelope(folder)
    assert told["error"] == "RunCancelledError"
    assert told["diagnosis"] == "cancelled"
    why = (folder / "WHY.txt").read_text(encoding="utf-8")
    assert why.startswith("somebody cancelled this run")
    manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert manifest["outcome"] == "cancelled"
    assert events(folder)[-1] == "ended"


@pytest.mark.parametrize("stage", STAGES)
def test_a_cancelled_run_ends_without_waiting_for_the_generation(
    place: Workplace, tmp_path: Path, stage: str
) -> None:
    run = place.claimed(f"stages:\n{STAGES[stage]}", {"a.png": picture(1)})
    with hanging(tmp_path, stage) as sim:
        client = SDWebUIClient(sim.url(""))
        process = FakeProcess()
        active = Running(place.recovering(run, client, process), place)
        wait_until(lambda: generating(sim), why="the generation hangs")
        place.control.cancel()
        assert active.end() is RunEnd.CANCELLED
        state = sim.state()
        assert state["interrupted"], "the WebUI was interrupted"
        assert state["job"], "nobody waited for the generation"
        assert sim.stats()["posts"] == 1
        client.close()
    assert process.restarts == 0
    folder = place.failed()
    assert_cancelled(folder)
    assert events(folder)[-3:] == ["call_started", "call_given_up", "ended"]


def test_the_images_that_were_finished_before_a_cancel_are_kept(
    place: Workplace, tmp_path: Path
) -> None:
    run = place.claimed(f"stages:\n{STAGES['txt2img']}  - img2img: {{prompt: b}}\n")
    with hanging(tmp_path, "img2img") as sim:
        client = SDWebUIClient(sim.url(""))
        active = Running(place.recovering(run, client, FakeProcess()), place)
        wait_until(lambda: generating(sim), why="the second stage hangs")
        place.control.cancel()
        assert active.end() is RunEnd.CANCELLED
        client.close()
    (image,) = (place.failed() / "images").iterdir()
    with Image.open(io.BytesIO(image.read_bytes())) as kept:
        assert kept.size == (64, 64)
    assert_cancelled(place.failed())


def test_somebody_elses_webui_is_not_interrupted(place: Workplace, tmp_path: Path) -> None:
    run = place.claimed(f"stages:\n{STAGES['txt2img']}")
    with hanging(tmp_path, "txt2img") as sim:
        client = SDWebUIClient(sim.url(""))
        runner = place.recovering(run, client, FakeProcess(), managed=False)
        active = Running(runner, place)
        wait_until(lambda: generating(sim), why="the generation hangs")
        place.control.cancel()
        assert active.end() is RunEnd.CANCELLED
        assert not sim.state()["interrupted"]
        client.close()


def test_a_cancel_before_the_first_call_sends_nothing(place: Workplace) -> None:
    run, client = place.claimed("prompt: a"), PlainClient()
    place.control.cancel()
    runner = place.recovering(run, Nothing(client), FakeProcess())
    assert Running(runner, place).end() is RunEnd.CANCELLED
    assert client.posts == []
    assert_cancelled(place.failed())


class Nothing:
    """A client whose WebUI cannot be asked to stop what it does not do."""

    def __init__(self, client: PlainClient) -> None:
        self.generate_images = client.generate_images

    def interrupt(self) -> bool:
        return False

    def abandon(self) -> None: ...


def test_a_run_that_waits_for_its_turn_can_be_cancelled(place: Workplace, tmp_path: Path) -> None:
    plan = tmp_path / "faults.yaml"
    plan.write_text("- {fault: hang, at: 0, when: {generation: 1}}")
    first, first_control = place.claimed("prompt: b", name="first.yaml"), place.control
    with lane_of(simulator("--faults", str(plan)), tmp_path / "state", (0.1,)) as lane:
        before = on_lane(place, lane, run=first)
        wait_until(lambda: first_control.calling, why="another run has its turn")
        place.control = RunControl()
        active = on_lane(place, lane, "prompt: a")
        wait_until(lambda: "waits for its turn: stage 1 of 1" in active.runner.doing)
        place.control.cancel()
        assert active.end() is RunEnd.CANCELLED
        assert first_control.calling, "the other run has it still"
        assert_cancelled(place.failed())
        assert "call_started" not in events(place.failed())
        first_control.stop()
        before.end()


@contextmanager
def crashing_lane(place: Workplace, folder: Path) -> Iterator[Lane]:
    """A lane whose WebUI dies in its first generation, with a cool-down of an hour."""
    plan = folder / "faults.yaml"
    plan.write_text("- {fault: sigkill-mid-step, when: {generation: 1}}")
    config = simulator("--faults", str(plan))
    with lane_of(config, folder / "state", (3600.0,), clock=place.clock) as lane:
        yield lane


def on_lane(place: Workplace, lane: Lane, job: str = "", run: Run | None = None) -> Running:
    run = run or place.claimed(job)
    recorder = place.recorder(run)
    api = lane.api(recorder, place.control)
    runner = StageRunner(
        run,
        api,
        recorder,
        clock=place.clock,
        control=place.control,
    )
    return Running(runner, place)


def test_a_run_that_waits_out_a_cool_down_can_be_cancelled(
    place: Workplace, tmp_path: Path
) -> None:
    with crashing_lane(place, tmp_path) as lane:
        active = on_lane(place, lane, f"stages:\n{STAGES['txt2img']}")
        wait_until(lambda: lane.loop.state.life is State.COOLING_DOWN, why="it crashed")
        restart = "waits for the restart of its WebUI: stage 1 of 1 (txt2img), call 1 of 1"
        wait_until(lambda: active.runner.doing == restart, why="it says what it waits for")
        place.control.cancel()
        assert active.end() is RunEnd.CANCELLED
        assert lane.process.incarnation == 1, "nothing was started"
        assert lane.status()["cooldown_left"] > 3500
    folder = place.failed()
    assert_cancelled(folder)
    told = events(folder)
    assert told.count("call_started") == told.count("call_failed") == 1
    assert "stage_failure_payload.json" in {path.name for path in folder.iterdir()}


def test_a_run_that_waits_out_a_cool_down_stays_in_working_on_a_stop(
    place: Workplace, tmp_path: Path
) -> None:
    with crashing_lane(place, tmp_path) as lane:
        active = on_lane(place, lane, f"stages:\n{STAGES['txt2img']}")
        wait_until(lambda: lane.loop.state.life is State.COOLING_DOWN, why="it crashed")
        lane.start_stop()
        assert active.end() is RunEnd.STOPPED
    call = place.resumed().ledger.call("1.1")
    assert (call.counted, call.cut_offs, call.sent) == (1, 0, 1)


def test_a_stopped_run_stays_in_working_and_is_done_after_the_next_start(
    place: Workplace, tmp_path: Path
) -> None:
    run = place.claimed(f"stages:\n{STAGES['txt2img']}")
    with hanging(tmp_path, "txt2img") as sim:
        client = SDWebUIClient(sim.url(""))
        active = Running(place.recovering(run, client, FakeProcess()), place)
        wait_until(lambda: generating(sim), why="the generation hangs")
        place.control.stop()
        assert active.end() is RunEnd.STOPPED
        assert sim.state()["interrupted"]
        client.close()
    stopped = place.resumed()
    assert events(stopped.folder)[-2:] == ["call_started", "call_given_up"]
    assert not (stopped.folder / "WHY.txt").exists()
    call = stopped.ledger.call("1.1")
    assert (call.counted, call.cut_offs) == (0, 0)

    place.control = RunControl()
    with running(tmp_path) as sim:
        client = SDWebUIClient(sim.url(""))
        active = Running(place.recovering(stopped, client, FakeProcess()), place)
        assert active.end() is RunEnd.DONE
        client.close()
    assert len(list((place.done() / "images").iterdir())) == 1


def test_a_cancel_outranks_a_stop_that_came_before_it(place: Workplace) -> None:
    run = place.claimed("prompt: a")
    place.control.stop()
    place.control.cancel()
    client: Any = Nothing(PlainClient())
    assert Running(place.recovering(run, client, FakeProcess()), place).end() is RunEnd.CANCELLED


def test_clean_stops_use_up_no_attempt(place: Workplace) -> None:
    run = place.claimed(f"stages:\n{STAGES['txt2img']}")
    for _ in range(6):
        run.record("call_started", call="1.1", attempt=1, incarnation=1)
        run.record("call_given_up", call="1.1", why="the monitor was stopped")
    client = FakeClient(server_error(), reply(picture()))
    assert place.recovering(run, client, FakeProcess()).run_to_end(place.spool) is RunEnd.DONE
    assert len(client.posts) == 2, "failed, and tried once more"


def test_a_call_that_nobody_gave_up_is_sent_five_times_at_most(place: Workplace) -> None:
    run = place.claimed(f"stages:\n{STAGES['txt2img']}")
    for _ in range(4):
        run.record("call_started", call="1.1", attempt=1, incarnation=1)
        run.record("call_failed", call="1.1", counted=False, **BUSY)
    client = FakeClient(server_error(), reply(picture()))
    assert place.recovering(run, client, FakeProcess()).run_to_end(place.spool) is RunEnd.FAILED
    assert len(client.posts) == 1
    assert "gave up after 5 attempts" in (place.failed() / "journal.jsonl").read_text()


BUSY = {
    "diagnosis": "busy",
    "error": "WebUIBusyError",
    "status": 429,
    "message": "busy",
    "exit_code": None,
    "crashed": False,
    "evidence": "",
    "decision": "hold",
    "incarnation": 1,
    "seconds": 0.1,
}
