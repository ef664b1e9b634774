"""A 200 that is no success: seen, and treated as what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from sdwatch.errors import WebUIReplyError
from sdwatch.webui.http.failure_evidence import NothingPrinted
from tests.support.fakes import FakeClient, FakeProcess, Workplace, picture, reply
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, job, journal, monitored

SLOW = ("--step-time", "0.1")


def plan(fault: str, times: str = "once") -> str:
    return f"- fault: {fault}\n  when: {{prompt: cursed}}\n  times: {times}\n"


def error_of(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "error.json").read_text(encoding="utf-8"))
    return value


def run_json(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return value


CURSED = job("a cursed castle", override_settings={"sd_model_checkpoint": "simulated-a"})


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("wrong-size", "the picture is 32x32, not 64x64"),
        ("black-image", "the picture is all of one colour"),
        ("wrong-model", "made with the model 'simulated-b', not with 'simulated-a'"),
        ("empty-images", "the reply has no image"),
    ],
)
def test_a_wrong_200_costs_a_restart_and_is_made_once_more(
    tmp_path: Path, fault: str, said: str
) -> None:
    with monitored(tmp_path, faults=plan(fault)) as spool:
        spool.drop("castle.yaml", CURSED)
        spool.start()
        spool.wait_for(done=1)
        spool.stop()

        (failed,) = journal(spool.done()[0], "call_failed")
        assert failed["diagnosis"] == "silent"
        assert said in failed["message"]
        assert [crash["kind"] for crash in spool.events("crash")] == ["silent"]
        assert (spool.stats()["posts"], spool.stats()["starts"]) == (2, 2)


def test_a_reply_that_is_always_wrong_is_the_jobs_own_and_the_next_job_is_done(
    tmp_path: Path,
) -> None:
    with monitored(tmp_path, faults=plan("black-image", "always")) as spool:
        spool.drop("bad.yaml", job("a cursed castle", priority=5))
        spool.drop("good.yaml", job())
        spool.start()
        spool.wait_for(done=1, failed=1)
        error = error_of(spool.failed()[0])
        assert (error["diagnosis"], error["blame"]) == ("silent", "job")
        assert "one colour" in error["message"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sampler_name": "Eulr"}, 'did you mean "Euler'),
        ({"scheduler": "carras"}, 'no scheduler "carras"; did you mean "Karras"?'),
        ({"override_settings": {"sd_model_checkpoint": "nope"}}, 'no checkpoint "nope"'),
    ],
)
def test_a_name_that_the_webui_does_not_know_costs_no_restart(
    tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    with monitored(tmp_path) as spool:
        spool.drop("castle.yaml", job(**fields))
        spool.start()
        spool.wait_for(failed=1)
        error = error_of(spool.failed()[0])
        assert (error["diagnosis"], error["blame"]) == ("bad request", "job")
        assert said in error["message"]
        assert spool.events("crash") == []


def test_fewer_images_than_asked_for_are_a_failure(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    run = place.claimed("prompt: a castle\nbatch_size: 2\n")
    client = FakeClient(reply(picture(1)), reply(picture(1), picture(2)))
    process = FakeProcess()
    assert place.recovering(run, client, process).run_to_end(place.spool) == "done"
    assert (len(client.posts), process.restarts) == (2, 1)


@pytest.mark.parametrize("kind", ["forge", "a1111", "sdnext", "sdcpp"])
def test_an_ordinary_job_is_as_it_was_asked_for(tmp_path: Path, kind: str) -> None:
    """No false alarm, whatever the WebUI's ways are."""
    flags = ("--kind", kind)
    image = "width: 64, height: 72, steps: 2, sampler_name: Euler, seed: 7, batch_size: 2"
    stages = f"""\
stages:
  - txt2img: {{prompt: a castle, {image}}}
  - img2img: {{prompt: a castle, {image.replace("64", "96")}, denoising_strength: 0.5}}
"""
    stages += "  - upscale: {upscaler_1: Lanczos}\n" if kind in ("forge", "a1111") else ""
    with monitored(tmp_path, flags=flags, settings={"allow": ["save_images"]}) as spool:
        spool.drop("castle.yaml", stages)
        spool.start()
        spool.wait_for(done=1)
        run = spool.done()[0]
        assert journal(run, "call_failed") == []
        assert [call.get("warnings") for call in run_json(run)["calls"] if "warnings" in call] == []
        assert spool.lane()["warnings"] == 0


# -- somebody pressed Interrupt


def interrupt_in_mid_call(spool: Monitored) -> None:
    """As a person does it, in the WebUI's own page."""
    spool.wait_posts(1)
    url = f"http://127.0.0.1:{spool.port}/sdapi/v1/"

    def draws() -> bool:
        return bool(requests.get(url + "progress", timeout=10).json()["state"]["sampling_step"])

    wait_until(draws, 30, "it draws")
    requests.post(url + "interrupt", timeout=10)


def test_an_interrupted_call_is_made_once_more_without_a_restart(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=SLOW) as spool:
        spool.drop("castle.yaml", job(steps=20))
        spool.start()
        interrupt_in_mid_call(spool)
        spool.wait_for(done=1)
        (failed,) = journal(spool.done()[0], "call_failed")
        assert failed["diagnosis"] == "interrupted"
        assert spool.events("crash") == []
        assert (spool.stats()["posts"], spool.stats()["starts"]) == (2, 1)


def test_an_interrupt_that_only_warns_is_in_run_json_and_in_status(
    tmp_path: Path,
) -> None:
    settings = {"checks": {"interrupted": "warn"}}
    with monitored(tmp_path, flags=SLOW, settings=settings) as spool:
        spool.drop("castle.yaml", job(steps=20))
        spool.start()
        interrupt_in_mid_call(spool)
        spool.wait_for(done=1)
        run = spool.done()[0]
        (call,) = run_json(run)["calls"]
        assert [warning["kind"] for warning in call["warnings"]] == ["interrupted"]
        assert journal(run, "call_finished")[0]["warnings"] == call["warnings"]
        wait_until(lambda: spool.lane().get("warnings") == 1, 20, "status has the warning")
        assert "Interrupt" in spool.lane()["last_warning"]
        assert sum("somebody pressed Interrupt" in line for line in spool.told) == 1


NO_IMAGE = WebUIReplyError("the reply has no image", status=200, kind="no image")


@pytest.mark.parametrize(
    ("state", "log", "diagnosis", "restarts"),
    [
        ({"skipped": True}, (), "interrupted", 0),
        ({"interrupted": True}, ("INFO     Processed",), "interrupted", 0),
        ({"interrupted": True}, ("ERROR    Processing: RuntimeError x",), "server error", 1),
        ({"interrupted": True}, (), "silent", 1),  # nobody can tell
        ({}, ("INFO     Processed",), "silent", 1),
    ],
)
def test_the_log_distinguishes_a_200_without_an_image(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: dict[str, Any],
    log: tuple[str, ...],
    diagnosis: str,
    restarts: int,
) -> None:
    def good(*_: Any) -> Any:
        client.state = {}
        return reply()

    monkeypatch.setattr(NothingPrinted, "lines", lambda _: log)
    client, process, place = FakeClient(NO_IMAGE, good), FakeProcess(), Workplace(tmp_path)
    client.state = state
    run = place.claimed("prompt: a castle\n")
    assert place.recovering(run, client, process).run_to_end(place.spool) == "done"
    (failed,) = journal(place.done(), "call_failed")
    assert (failed["diagnosis"], process.restarts) == (diagnosis, restarts)


def test_a_question_that_fails_does_not_fail_a_good_call(tmp_path: Path) -> None:
    class Deaf(FakeClient):
        def progress(self, timeout: float) -> dict[str, Any]:
            raise WebUIReplyError(f"no answer within {timeout} s")

    place = Workplace(tmp_path)
    run = place.claimed("prompt: a castle\n")
    assert place.recovering(run, Deaf(), FakeProcess()).run_to_end(place.spool) == "done"
