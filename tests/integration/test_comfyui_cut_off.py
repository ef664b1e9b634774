"""sdwatch is killed again and again while one prompt runs: its result counts, however often."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from sdwatch.spool.run import JOURNAL
from tests.integration.test_comfyui import ask, comfyui, job, output, runs_now
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, journal

DEATHS = 3


def die_in_one_prompt(spool: Monitored, deaths: int = DEATHS) -> str:
    """Kill the monitor so often, by default until the call would fail: the id of the prompt,
    which runs on."""
    spool.drop("castle.yaml", job(steps=60))
    for death in range(deaths):
        spool.start_process()
        started = death + 1
        wait_until(
            lambda started=started: spool.working() and len(
                journal(spool.working()[0], "call_started")
            ) == started and runs_now(spool),
            60,
            "the call has started",
        )  # fmt: skip
        spool.kill()
    (prompt_id,) = runs_now(spool)
    return prompt_id


def test_the_result_of_a_prompt_in_which_sdwatch_died_three_times_is_taken(tmp_path: Path) -> None:
    with comfyui(tmp_path, "--step-time", "0.5") as spool:
        prompt_id = die_in_one_prompt(spool)
        spool.start(once=True)
        spool.ended()
        assert (len(spool.done()), spool.failed()) == (1, []), spool.told
        assert [folder.name for folder in output(tmp_path).iterdir()] == [prompt_id]


def test_pictures_that_are_there_are_taken_after_three_deaths_of_sdwatch_and_one_of_comfyui(
    tmp_path: Path,
) -> None:
    with comfyui(tmp_path, "--step-time", "0.5") as spool:
        prompt_id = die_in_one_prompt(spool)
        wait_until(lambda: prompt_id in ask(spool, f"history/{prompt_id}"), 60, "its end")
        psutil.Process(spool.webui_pid()).kill()
        spool.start(once=True)
        spool.ended()
        assert (len(spool.done()), spool.failed()) == (1, []), spool.told
        assert [folder.name for folder in output(tmp_path).iterdir()] == [prompt_id]


def test_without_a_result_the_run_fails_and_is_not_sent_again(tmp_path: Path) -> None:
    with comfyui(tmp_path, "--step-time", "0.5") as spool:
        die_in_one_prompt(spool)
        psutil.Process(spool.webui_pid()).kill()
        spool.start(once=True)
        spool.ended()
        (run,) = spool.failed()
        why = (run / "WHY.txt").read_text(encoding="utf-8")
        assert "sdwatch was killed 3 times during this call" in why
        assert "request itself" not in why
        assert spool.stats()["posts"] == 1


def busy_before(spool: Monitored) -> None:
    """Write into the journal that the call was sent four times before, and the WebUI was busy."""
    (run,) = spool.working()
    file = run / JOURNAL
    *before, last = file.read_text(encoding="utf-8").splitlines()
    started = {**json.loads(last), "prompt_id": ""}
    assert started["event"] == "call_started"
    failed = {
        "event": "call_failed",
        "at": started["at"],
        "call": started["call"],
        "error": "WebUIBusyError",
        "diagnosis": "busy",
        "message": "it was answered 503",
        "counted": False,
        "action": "hold",
    }
    lines = [*before, *([json.dumps(started), json.dumps(failed)] * 4), last]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("has_result", [True, False])
def test_a_call_that_was_sent_five_times_is_asked_for_its_result_and_not_sent_again(
    tmp_path: Path, has_result: bool
) -> None:
    with comfyui(tmp_path, "--step-time", "0.5") as spool:
        die_in_one_prompt(spool, deaths=1)
        busy_before(spool)
        if not has_result:
            psutil.Process(spool.webui_pid()).kill()
        spool.start(once=True)
        spool.ended()
        assert spool.stats()["posts"] == 1
        if has_result:
            assert (len(spool.done()), spool.failed()) == (1, []), spool.told
            return
        (run,) = spool.failed()
        why = (run / "WHY.txt").read_text(encoding="utf-8")
        assert why.startswith("gave up after 5 attempts without a usable reply"), why
        assert "it was answered 503" in why
