"""A WebUI that is not ours: it is waited for and asked, never started, never killed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sdwatch.webui.http.canary import Canary, SelfTestCall, SelfTestFailure
from tests.support.fakes import FakeClient, on_a_thread
from tests.support.helpers import free_port, wait_until
from tests.support.monitored import EXTERNAL, Monitored, has, job, journal, monitored
from tests.support.mounts import needs_share, share
from tests.support.proxy import limiting
from tests.webui.sim import Simulator, launch, running

COOLDOWN = 0.5
WEBUI = {**EXTERNAL, "start_limit": 1, "health": {"interval": 0.5, "timeout": 5, "failures": 100}}
SLOW = ("--step-time", "0.05")


class ByHand:
    """Somebody who starts and kills the WebUI of a spool; sdwatch does neither."""

    def __init__(self, spool: Monitored) -> None:
        self._spool = spool
        self._begun: list[Simulator] = []

    def start(self, *flags: str) -> Simulator:
        """Start it, and wait until it answers."""
        counters = str(self._spool.root / "simulator.json")
        sim = launch(self._spool.root, "--state", counters, *flags, port=self._spool.port)
        self._begun.append(sim)
        wait_until(sim.is_up, 30, f"it is up, see {sim.log}")
        return sim

    def kill(self) -> None:
        """Kill the one that was started last; it must have lived until now."""
        sim = self._begun[-1]
        assert sim.process.poll() is None, "somebody else ended it"
        sim.process.kill()
        sim.process.wait()

    def assert_left_alone(self) -> None:
        """The last one lives, and there was none that was not started by hand."""
        assert self._begun[-1].process.poll() is None
        assert self._spool.stats()["starts"] == len(self._begun)
        state = self._spool.state / "webui-sim"
        assert {path.name for path in state.iterdir()} <= {"crashes.jsonl", "webui.json"}

    def end(self) -> None:
        for sim in self._begun:
            sim.process.kill()
            sim.process.wait()


@contextmanager
def external(root: Path, **webui: Any) -> Iterator[tuple[Monitored, ByHand]]:
    """A spool whose WebUI is external, and who has it in his hands."""
    settings = {"cooldown": [COOLDOWN]}
    with monitored(root, settings=settings, webui={**WEBUI, **webui}) as spool:
        hands = ByHand(spool)
        try:
            yield spool, hands
        finally:
            hands.end()


def wait_lane_ready(spool: Monitored) -> None:
    wait_until(lambda: spool.lane().get("state") == "ready", 60, "the lane is ready")


def test_an_external_webui_that_is_up_is_used_and_left_running(tmp_path: Path) -> None:
    with external(tmp_path) as (spool, hands):
        hands.start()
        spool.drop("castle.yaml", job())
        spool.start()
        spool.wait_for(done=1)
        wait_lane_ready(spool)
        assert spool.lane()["managed"] is False
        spool.stop()
        hands.assert_left_alone()
        assert spool.crashes() == []


def test_while_it_is_down_jobs_stay_in_the_inbox_and_go_when_it_comes_up(tmp_path: Path) -> None:
    with external(tmp_path) as (spool, hands):
        spool.drop("castle.yaml", job())
        spool.start()
        wait_until(lambda: "refused" in spool.lane().get("hold", ""), 60, "status says why")
        assert spool.status()["next"] == ["castle.yaml"]
        assert spool.waiting() == ["castle.yaml"]
        assert not spool.working() + spool.failed()
        assert any("on hold" in line and "refused" in line for line in spool.told)
        note = spool.spool / "HOLD-sim.txt"
        wait_until(note.exists, 20, "the note")
        text = note.read_text(encoding="utf-8")
        assert "start it yourself" in text
        assert "sdwatch did not start it and cannot" in text

        hands.start()
        spool.wait_for(done=1)
        wait_until(lambda: spool.lane()["hold"] == "", 20, "status says no hold any more")
        spool.stop()
        hands.assert_left_alone()


def in_mid_call(spool: Monitored, hands: ByHand, **fields: Any) -> Path:
    """Start both with one job of a second; its run, whose first call is under way."""
    hands.start(*SLOW)
    spool.drop("castle.yaml", job(steps=20, **fields))
    spool.start()
    spool.wait_posts(1)
    return spool.working()[0]


def test_an_external_webui_killed_during_a_call_and_restarted_gets_one_retry_after_the_cooldown(
    tmp_path: Path,
) -> None:
    with external(tmp_path, start_limit=30) as (spool, hands):
        run = in_mid_call(spool, hands)
        hands.kill()
        hands.start(*SLOW)
        spool.wait_for(done=1)

        (done,) = spool.done()
        assert done.name == run.name
        (failure,) = journal(done, "call_failed")
        assert (failure["diagnosis"], failure["counted"]) == ("crash", True)
        assert len(journal(done, "call_started")) == spool.stats()["posts"] == 2
        crash, again = spool.crashes()
        assert (crash["event"], crash["kind"], again["event"]) == ("crash", "crash", "start")
        assert crash["cooldown"] == COOLDOWN
        assert again["boot"] >= crash["boot"] + COOLDOWN
        spool.stop()
        hands.assert_left_alone()


def test_an_external_webui_killed_during_a_call_and_left_down_makes_the_run_wait(
    tmp_path: Path,
) -> None:
    with external(tmp_path) as (spool, hands):
        run = in_mid_call(spool, hands)
        hands.kill()
        wait_until(lambda: "refused" in spool.lane()["hold"], 60, "status says why")
        spool.two_more_beats()
        assert spool.working() == [run]
        assert len(spool.events("crash")) == 1, "one outage is one crash"

        hands.start(*SLOW)
        spool.wait_for(done=1)
        assert spool.stats()["posts"] == 2
        spool.stop()
        hands.assert_left_alone()


@pytest.mark.parametrize(("cuts", "end"), [(2, "done"), (3, "failed")])
def test_a_job_whose_connection_broke_twice_is_blamed_only_if_it_breaks_again(
    tmp_path: Path, cuts: int, end: str
) -> None:
    """Its WebUI is healthy all the time, behind a network that is not."""
    with monitored(tmp_path, settings={"cooldown": [0.1]}, webui=WEBUI) as spool:
        port, counted = free_port(), ("--state", str(tmp_path / "simulator.json"))
        with running(tmp_path, *counted, port=port), limiting(spool.port, port, 60) as proxy:
            proxy.cuts = cuts
            spool.drop("castle.yaml", job())
            spool.start()
            spool.wait_for(**{end: 1})
            (run,) = spool.done() + spool.failed()
            tested = journal(run, "call_self_tested")
            spool.stop()
    grounds = ["was-gone", "last-and-healthy"]
    assert [each["ground"] for each in tested] == grounds[: cuts - 1]
    assert len(journal(run, "call_failed")) == cuts
    assert spool.stats()["posts"] == 3 - cuts


def test_a_refused_connection_costs_no_attempt(tmp_path: Path) -> None:
    """Between two of its health checks nothing shows that it is gone."""
    webui = {**WEBUI, "start_limit": 30, "health": {**WEBUI["health"], "interval": 3600}}
    with external(tmp_path, **webui) as (spool, hands):
        hands.start()
        spool.drop("castle.yaml", job())
        spool.start()
        spool.wait_for(done=1)
        hands.kill()
        spool.drop("tower.yaml", job())
        wait_until(lambda: len(spool.events("crash")) == 1, 60, "it is seen to be gone")
        hands.start()
        spool.wait_for(done=2)
        run = next(each for each in spool.done() if "tower" in each.name)
        assert journal(run, "call_failed") == []
        assert spool.stats()["posts"] == 2
        spool.stop()
        hands.assert_left_alone()


# -- its log


def test_the_end_of_its_log_file_is_in_the_evidence(tmp_path: Path) -> None:
    with external(tmp_path, start_limit=30) as (spool, hands):
        log = tmp_path / f"simulator-{spool.port}.log"
        spool.write_webui(log_file=str(log))
        run = in_mid_call(spool, hands)
        wait_until(lambda: "/20 [" in log.read_text(encoding="utf-8"), 20, "its bar moves")
        hands.kill()
        hands.start()
        spool.wait_for(done=1)
        tail = (spool.done()[0] / "webui_tail.log").read_text(encoding="utf-8")
        assert tail.startswith("===== log_file =====\n")
        assert "Uvicorn running on" in tail
        assert "/20 [" in tail
        assert spool.done()[0].name == run.name


def a_missing_file(path: Path) -> None:
    assert not path.exists()


def a_folder(path: Path) -> None:
    path.mkdir()


def an_empty_file(path: Path) -> None:
    path.touch()


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (a_missing_file, "is gone, or was never there"),
        (a_folder, "is a folder, not a log file"),
        (an_empty_file, "has no lines"),
        pytest.param(
            a_pipe, "is not a regular file", marks=pytest.mark.posix_only("named pipes in a folder")
        ),
    ],
)
def test_where_its_log_file_shows_nothing_the_evidence_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[Path], None], says: str
) -> None:
    log = tmp_path / "webui.log"
    with external(tmp_path, start_limit=30, log_file=str(log)) as (spool, hands):
        make(log)
        in_mid_call(spool, hands)
        hands.kill()
        hands.start()
        spool.wait_for(done=1)
        tail = (spool.done()[0] / "webui_tail.log").read_text(encoding="utf-8")
        assert tail.startswith("===== log_file =====\n(no output: ")
        assert says in tail
        assert not [record for record in caplog.records if record.exc_info]


def test_a_log_file_that_is_truncated_meanwhile_is_read_from_its_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with external(tmp_path, start_limit=30) as (spool, hands):
        log = tmp_path / f"simulator-{spool.port}.log"
        spool.write_webui(log_file=str(log))
        in_mid_call(spool, hands)
        os.truncate(log, 0)
        with open(log, "a", encoding="utf-8") as file:
            file.write("a line after it\n")
        hands.kill()
        hands.start()
        spool.wait_for(done=1)
        tail = (spool.done()[0] / "webui_tail.log").read_text(encoding="utf-8")
        assert "a line after it" in tail
        assert not [record for record in caplog.records if record.exc_info]


def test_without_a_log_file_the_evidence_says_how_to_have_one(tmp_path: Path) -> None:
    with external(tmp_path, start_limit=30) as (spool, hands):
        in_mid_call(spool, hands)
        hands.kill()
        hands.start()
        spool.wait_for(done=1)
        tail = (spool.done()[0] / "webui_tail.log").read_text(encoding="utf-8")
        assert "name its `log_file` in the config" in tail


@needs_share
def test_a_log_file_on_a_share_that_hangs_keeps_no_run_from_its_end(tmp_path: Path) -> None:
    with share(tmp_path) as mounted, ExitStack() as thaws:
        (mounted.served / "webui.log").write_text("an earlier line\n", encoding="utf-8")
        log = mounted.folder / "webui.log"
        with external(tmp_path, start_limit=30, log_file=str(log)) as (spool, hands):
            in_mid_call(spool, hands)
            thaws.callback(mounted.thaw)
            mounted.freeze()
            hands.kill()
            hands.start()
            spool.wait_for(done=1)
            tail = (spool.done()[0] / "webui_tail.log").read_text(encoding="utf-8")
            assert tail.startswith(f"===== log_file =====\n(no output: {log} did not answer")
            (failure,) = journal(spool.done()[0], "call_failed")
            assert failure["diagnosis"] == "crash"
            spool.drop("tower.yaml", job())
            spool.wait_for(done=2)
            spool.stop()


# -- as it should not be started


def test_restarted_without_the_api_while_idle_the_next_job_does_not_fail(
    tmp_path: Path,
) -> None:
    with external(tmp_path) as (spool, hands):
        hands.start()
        spool.start()
        wait_lane_ready(spool)
        hands.kill()
        hands.start("--no-api")
        spool.drop("castle.yaml", job())
        wait_until(lambda: spool.lane()["hold"], 60, "the lane is on hold")
        wait_until(lambda: spool.status()["queued"], 60, "the job waits")
        assert not spool.failed()
        assert spool.stats()["posts"] == 0

        hands.kill()
        hands.start()
        spool.wait_for(done=1)
        (failure,) = journal(spool.done()[0], "call_failed")
        assert (failure["diagnosis"], failure["counted"]) == ("not usable", False)
        assert spool.stats()["posts"] == 1
        wait_until(lambda: spool.lane()["hold"] == "", 20, "status says no hold any more")
        spool.stop()
        hands.assert_left_alone()


def test_an_external_webui_restarted_without_the_api_makes_the_run_wait(tmp_path: Path) -> None:
    with external(tmp_path) as (spool, hands):
        run = in_mid_call(spool, hands, n_iter=2)
        wait_until(has(spool.working, "call_finished", call="1.1"), 30, "the first call is done")
        spool.wait_posts(2)
        hands.kill()
        hands.start("--no-api")
        wait_until(lambda: "routes are not there" in spool.lane().get("hold", ""), 60, "a hold")
        assert spool.working() == [run]

        hands.kill()
        hands.start(*SLOW)
        spool.wait_for(done=1)
        (done,) = spool.done()
        (failure,) = journal(done, "call_failed")
        assert (failure["call"], failure["diagnosis"]) == ("1.2", "crash")
        assert spool.stats()["posts"] == 3
        spool.stop()
        hands.assert_left_alone()


# -- somebody else's generation on it


def somebody_generates(spool: Monitored, hands: ByHand, fault: str) -> tuple[Simulator, Any]:
    """Start it with a foreign client's generation under way, and drop a job; the future reply. The
    lane is on hold because our call was queued behind it."""
    plan = spool.root / "faults.yaml"
    plan.write_text(f"- {{fault: {fault}, when: {{prompt: foreign}}}}\n", encoding="utf-8")
    sim = hands.start(*SLOW, "--faults", str(plan))
    foreign = ThreadPoolExecutor(1).submit(sim.txt2img, prompt="a foreign picture", steps=4)
    wait_until(lambda: sim.state()["sampling_step"], 30, "the foreign generation is under way")
    spool.drop("castle.yaml", job())
    spool.start()
    wait_until(has(spool.working, "call_failed"), 60, "our call makes no progress")
    wait_until(
        lambda: "nothing is sent until it is idle" in spool.lane()["hold"], 20, "status says why"
    )
    return sim, foreign


HELD_UP = {"stall": 1, "health": {"interval": 0.3, "timeout": 5, "failures": 100}}


@pytest.fixture
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdwatch.webui.http.call_watch.PROBE_INTERVAL_S", 0.3)


@pytest.mark.usefixtures("_quick_looks")
def test_behind_somebodys_long_generation_a_call_waits_and_nothing_is_interrupted(
    tmp_path: Path,
) -> None:
    with external(tmp_path, **HELD_UP) as (spool, hands):
        sim, foreign = somebody_generates(spool, hands, "slow-steps, factor: 40")
        spool.wait_for(done=1)
        assert foreign.result().status_code == 200
        assert foreign.result().json()["images"]
        assert not sim.state()["interrupted"]
        assert not [line for line in sim.lines() if "/interrupt" in line]
        (failure,) = journal(spool.done()[0], "call_failed")
        assert (failure["diagnosis"], failure["counted"]) == ("busy", False)
        assert "may be somebody else's" in failure["message"]
        assert spool.crashes() == []
        spool.stop()
        hands.assert_left_alone()


@pytest.mark.usefixtures("_quick_looks")
def test_an_external_webui_that_hangs_holds_the_lane_and_costs_no_job_until_it_is_restarted_by_hand(
    tmp_path: Path,
) -> None:
    with external(tmp_path, **HELD_UP) as (spool, hands):
        sim, foreign = somebody_generates(spool, hands, "hang, at: 0.5")
        for _ in range(3):
            spool.two_more_beats()
        assert "nothing is sent until it is idle" in spool.lane()["hold"]
        assert "restart it by hand" in spool.lane()["hold"]
        assert spool.stats()["posts"] == 2, "theirs and ours: nothing is resent blind"
        assert not sim.state()["interrupted"]
        assert not spool.failed()

        hands.kill()
        assert foreign.exception() is not None
        hands.start(*SLOW)
        spool.wait_for(done=1)
        assert spool.stats()["posts"] == 3
        wait_until(lambda: spool.lane()["hold"] == "", 20, "status says no hold any more")
        spool.stop()
        hands.assert_left_alone()


class Silent(FakeClient):
    """Never answers a generation."""

    def generate_images(self, *args: Any, **more: Any) -> Any:
        del args, more
        threading.Event().wait()


@pytest.mark.parametrize("ours", [True, False])
def test_a_canary_that_is_given_up_interrupts_only_a_managed_webui(ours: bool) -> None:
    client = Silent()
    canary = Canary(client, may_interrupt=ours, post=on_a_thread)  # type: ignore[arg-type]
    asked = SelfTestCall("txt2img", {}, "the canary", True)
    assert canary.ask(asked, lambda: "no progress") == SelfTestFailure("the canary: no progress")
    assert (client.interrupts, client.abandons) == (int(ours), 1)
