"""A prompt that hangs inside a node: an interrupt has no effect there (measured with ComfyUI
0.33.0), and whoever comes next must not pay for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from tests.integration.test_comfyui import ask, comfyui, job, output, runs_now
from tests.integration.test_workflow_jobs import drop
from tests.support.helpers import wait_until
from tests.support.monitored import EXTERNAL, Monitored, journal
from tests.webui.comfy import node, through
from tests.webui.sim import running

HANGS_S = 3600.0
WORKFLOW = "stages: [{workflow: {file: portrait.json}}]\n"
PATIENT = {"stall": 4, "health": {"interval": 0.5, "timeout": 5}}


def sleeping(seconds: float = HANGS_S, colour: int = 7) -> dict[str, Any]:
    return through("SimulatedSleep", colour, seconds=seconds)


def _is_ready(spool: Monitored) -> None:
    wait_until(lambda: spool.lane().get("state") == "ready", 60, "it is ready")


def hangs(spool: Monitored, seconds: float = HANGS_S, name: str = "hangs") -> str:
    """Drop a job that hangs: the id of its prompt, once that runs."""
    _is_ready(spool)
    drop(spool, WORKFLOW, sleeping(seconds), name=name)
    wait_until(lambda: runs_now(spool), 60, "a prompt runs")
    return runs_now(spool)[0]


def cancelled(spool: Monitored) -> None:
    (spool.working()[0] / "cancel").touch()
    spool.wait_for(failed=1)


def attempts(run: Path) -> list[str]:
    """What became of the attempts of the only call of a run."""
    events = ("call_started", "call_given_up", "call_failed", "call_finished")
    return [record["event"] for record in journal(run) if record["event"] in events]


def sent_once(run: Path) -> bool:
    """Whether only one of the POSTs that were announced went out."""
    found = attempts(run)
    return found.count("call_started") == found.count("call_given_up") + 1


def test_a_cancelled_prompt_that_hangs_costs_the_next_job_nothing(tmp_path: Path) -> None:
    with comfyui(tmp_path, webui=PATIENT) as spool:
        spool.start()
        hung = hangs(spool)
        cancelled(spool)
        spool.drop("next.yaml", job())
        spool.wait_for(done=1, failed=1)
        (run,) = spool.done()
        assert attempts(run)[-1] == "call_finished"
        assert "call_failed" not in attempts(run), "it lost its first attempt"
        assert sent_once(run)
        assert spool.events("crash") == []
        (recycled,) = spool.events("recycled")
        assert "interrupt" in recycled["reason"]
        assert hung not in [folder.name for folder in output(tmp_path).iterdir()]
        assert spool.stats()["starts"] == 2


def test_the_next_job_waits_until_a_cancelled_prompt_that_ends_late_is_gone(
    tmp_path: Path,
) -> None:
    """It is over before the limit: nothing is restarted."""
    with comfyui(tmp_path, webui={**PATIENT, "stall": 60}) as spool:
        spool.start()
        hangs(spool, seconds=4)
        cancelled(spool)
        spool.drop("next.yaml", job())
        spool.wait_for(done=1, failed=1)
        assert attempts(spool.done()[0]) == ["call_started", "call_finished"]
        assert spool.stats()["starts"] == 1


def test_an_external_comfyui_is_waited_for_until_a_cancelled_prompt_ends(tmp_path: Path) -> None:
    base = tmp_path / "comfyui"
    with comfyui(tmp_path, webui={**EXTERNAL, **PATIENT}) as spool:
        flags = ("--kind", "comfyui", "--base-directory", str(base))
        with running(tmp_path, *flags, port=spool.port):
            spool.start()
            hangs(spool)
            cancelled(spool)
            spool.drop("next.yaml", job())
            wait_until(lambda: spool.lane().get("hold"), 60, "the hold")
            note = (spool.spool / "HOLD-sim.txt").read_text(encoding="utf-8")
            assert "Restart the WebUI by hand" in note
            assert ask(spool, "queue")["queue_pending"] == [], "nothing is sent behind it"
        with running(tmp_path, *flags, port=spool.port):
            spool.wait_for(done=1, failed=1)
            (run,) = spool.done()
            assert "call_failed" not in attempts(run)
            assert sent_once(run)
            spool.stop()


def test_a_cancel_takes_its_own_prompt_out_of_the_queue_of_an_external_comfyui(
    tmp_path: Path,
) -> None:
    """It would be made for nobody, once that of somebody else in front of it has ended."""
    base = tmp_path / "comfyui"
    with comfyui(tmp_path, webui=EXTERNAL) as spool:
        flags = ("--kind", "comfyui", "--base-directory", str(base))
        with running(tmp_path, *flags, port=spool.port):
            spool.start()
            _is_ready(spool)
            others = ask(spool, "prompt", prompt=sleeping(8, 3)).json()["prompt_id"]
            spool.drop("castle.yaml", job())
            wait_until(lambda: ask(spool, "queue")["queue_pending"], 60, "ours waits")
            cancelled(spool)
            wait_until(lambda: not ask(spool, "queue")["queue_pending"], 5, "ours is gone")
            assert runs_now(spool) == [others], "before the other one has ended"
            wait_until(lambda: ask(spool, f"history/{others}"), 60, "theirs has ended")
            assert ask(spool, f"history/{others}")[others]["status"]["status_str"] == "success"
            spool.stop()


def test_the_hanging_prompt_of_a_run_that_is_gone_costs_nobody_anything(tmp_path: Path) -> None:
    """It was cancelled while no monitor was there: the next one adopts a ComfyUI that hangs."""
    with comfyui(tmp_path, webui=PATIENT) as spool:
        spool.start_process()
        hangs(spool)
        spool.kill()
        (spool.working()[0] / "cancel").touch()
        spool.drop("next.yaml", job())
        spool.start(once=True)
        spool.ended()
        (run,) = spool.done()
        assert "call_failed" not in attempts(run)
        assert spool.events("crash") == []
        assert spool.stats()["starts"] == 2


def test_a_prompt_that_takes_long_outlives_the_monitor(tmp_path: Path) -> None:
    """Nothing of it is seen to move, and no self-test may end it."""
    with comfyui(tmp_path, "--step-time", "0.5", webui={"stall": 8}) as spool:
        spool.drop("castle.yaml", job(steps=40))
        spool.start_process()
        _is_ready(spool)
        wait_until(lambda: runs_now(spool), 60, "a prompt runs")
        (prompt_id,) = runs_now(spool)
        spool.kill()
        spool.start(once=True)
        spool.ended()
        assert len(spool.done()) == 1, spool.told
        assert [folder.name for folder in output(tmp_path).iterdir()] == [prompt_id]


def test_a_managed_comfyui_that_works_for_somebody_else_is_busy_and_is_not_restarted(
    tmp_path: Path,
) -> None:
    """Somebody uses its page, with a node that says nothing for long. Our prompt waits behind it,
    and its result is taken although nobody watched it."""
    with comfyui(tmp_path, webui=PATIENT) as spool:
        spool.start()
        _is_ready(spool)
        before = psutil.Process(spool.webui_pid())
        others = ask(spool, "prompt", prompt=sleeping(14, 3)).json()["prompt_id"]
        spool.drop("castle.yaml", job())
        wait_until(lambda: spool.lane().get("hold"), 60, "the hold")
        assert "did not send" in spool.lane()["hold"]
        assert runs_now(spool) == [others]
        spool.wait_for(done=1)
        (run,) = spool.done()
        (failed,) = journal(run, "call_failed")
        assert (failed["diagnosis"], failed["counted"]) == ("busy", False)
        assert ask(spool, f"history/{others}")[others]["status"]["status_str"] == "success"
        assert before.is_running()
        assert len(list(output(tmp_path).iterdir())) == 1, "one picture, made once"
        assert spool.events("crash") == []


def test_a_managed_comfyui_whose_worker_died_in_somebodys_prompt_is_restarted(
    tmp_path: Path,
) -> None:
    """Its log says so, and nothing of theirs can be lost any more."""
    with comfyui(tmp_path, webui=PATIENT) as spool:
        spool.start()
        _is_ready(spool)
        theirs = sleeping(3, 3)
        theirs["9"]["inputs"]["images"] = ["6", 0]
        theirs["6"] = node("SimulatedRaise", image=["5", 0], kind="keyboard")
        ask(spool, "prompt", prompt=theirs)
        spool.drop("castle.yaml", job())
        spool.wait_for(done=1)
        assert spool.stats()["starts"] == 2
