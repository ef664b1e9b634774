"""A lane over ComfyUI, through the real monitor: its calls outlive connections and sdwatch."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests
from PIL import Image

from tests.support.helpers import wait_until
from tests.support.monitored import EXTERNAL, Monitored, journal, monitored
from tests.webui.comfy import MODEL, txt2img
from tests.webui.sim import running

SETTINGS = {"override_settings": {"sd_model_checkpoint": MODEL}}
CHECKPOINT = f"override_settings: {{sd_model_checkpoint: {MODEL}}}"
THREE_STAGES = f"""\
stages:
  - txt2img: {{prompt: a castle, width: 64, height: 64, steps: 2, seed: 5, {CHECKPOINT}}}
  - img2img: {{prompt: a castle at night, width: 64, height: 64, steps: 2, {CHECKPOINT}}}
  - extra-single-image: {{upscaling_resize: 2, upscaler_1: Lanczos}}
"""


def job(prompt: str = "a castle", **fields: Any) -> str:
    given = {"prompt": prompt, "width": 64, "height": 64, "steps": 2, "seed": 5, **SETTINGS}
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in {**given, **fields}.items())


@contextmanager
def comfyui(root: Path, *flags: str, **more: Any) -> Iterator[Monitored]:
    base = root / "comfyui"
    (base / "custom_nodes").mkdir(parents=True)
    flags = ("--kind", "comfyui", "--base-directory", str(base), *flags)
    with monitored(root, flags=flags, **more) as spool:
        yield spool


def output(root: Path) -> Path:
    return root / "comfyui" / "output" / "sdwatch"


def ask(spool: Monitored, path: str, **body: Any) -> Any:
    url = f"http://127.0.0.1:{spool.port}/{path}"
    if body:
        return requests.post(url, json=body, timeout=10)
    return requests.get(url, timeout=10).json()


def runs_now(spool: Monitored) -> list[str]:
    return [item[1] for item in ask(spool, "queue")["queue_running"]]


def manifest(run: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return found


def test_a_comfyui_is_found_by_itself_and_makes_the_three_stages(tmp_path: Path) -> None:
    with comfyui(tmp_path) as spool:
        spool.drop("castle.yaml", THREE_STAGES)
        spool.start(once=True)
        spool.ended()
        assert (len(spool.done()), spool.failed()) == (1, []), spool.told
        (run,) = spool.done()
        images = sorted((run / "images").iterdir())
        assert [Image.open(io.BytesIO(i.read_bytes())).size for i in images] == [
            (64, 64),
            (64, 64),
            (128, 128),
        ]
        about = manifest(run)
        assert about["webui"]["kind"] == "comfyui"
        assert about["webui"]["version"] == "0.33.0"
        started = [r for r in journal(run) if r["event"] == "call_started"]
        assert len({r["prompt_id"] for r in started}) == 3
        finished = [r for r in journal(run) if r["event"] == "call_finished"]
        assert finished[0]["model"] == Path(MODEL).stem
        assert finished[0]["used"]["seeds"] == [5]


# -- deaths


def _waits_in_a_prompt(spool: Monitored) -> str:
    """The id of the prompt that runs, once one does."""
    wait_until(lambda: spool.lane().get("state") == "ready", 60, "it is ready")
    wait_until(lambda: runs_now(spool), 60, "a prompt runs")
    return runs_now(spool)[0]


def test_a_prompt_outlives_the_monitor_and_is_not_sent_again(tmp_path: Path) -> None:
    """The monitor dies while it runs; the next one takes its result."""
    plan = "- {fault: slow-steps, when: {prompt: castle}, times: once, factor: 150}\n"
    with comfyui(tmp_path, faults=plan) as spool:
        spool.drop("castle.yaml", job(steps=4))
        spool.start_process()
        prompt_id = _waits_in_a_prompt(spool)
        spool.kill()
        spool.start(once=True)
        spool.ended()
        assert len(spool.done()) == 1, spool.told
        records = journal(spool.done()[0])
        sent = [r["prompt_id"] for r in records if r["event"] == "call_started"]
        assert sent[0] == prompt_id
        assert len(sent) == 2
        (call,) = manifest(spool.done()[0])["calls"]
        assert call["attempts"][-1]["prompt_id"] == prompt_id  # whose result it is
        assert [folder.name for folder in output(tmp_path).iterdir()] == [prompt_id]


def test_a_prompt_outlives_a_clean_stop_that_leaves_comfyui_running(tmp_path: Path) -> None:
    plan = "- {fault: slow-steps, when: {prompt: castle}, times: once, factor: 150}\n"
    settings = {"stop_grace": 0}
    with comfyui(tmp_path, faults=plan, settings=settings, webui={"leave_running": True}) as spool:
        spool.drop("castle.yaml", job(steps=4))
        spool.start()
        prompt_id = _waits_in_a_prompt(spool)
        spool.stop()
        spool.write_webui(leave_running=False)
        spool.start(once=True)
        spool.ended()
        assert len(spool.done()) == 1, spool.told
        assert [folder.name for folder in output(tmp_path).iterdir()] == [prompt_id]
        assert "call_given_up" in [r["event"] for r in journal(spool.done()[0])]


def test_a_result_that_was_ready_while_no_monitor_was_there_is_taken(tmp_path: Path) -> None:
    plan = "- {fault: slow-steps, when: {prompt: castle}, times: once, factor: 150}\n"
    with comfyui(tmp_path, faults=plan) as spool:
        spool.drop("castle.yaml", job(steps=4))
        spool.start_process()
        prompt_id = _waits_in_a_prompt(spool)
        spool.kill()
        wait_until(lambda: prompt_id in ask(spool, f"history/{prompt_id}"), 60, "its end")
        spool.start(once=True)
        spool.ended()
        assert len(spool.done()) == 1, spool.told
        assert [folder.name for folder in output(tmp_path).iterdir()] == [prompt_id]


def test_pictures_that_were_saved_before_both_died_are_taken(tmp_path: Path) -> None:
    """Queue and history are gone then; the files of the call's own folder are not."""
    plan = "- {fault: slow-steps, when: {prompt: castle}, times: once, factor: 150}\n"
    with comfyui(tmp_path, faults=plan) as spool:
        spool.drop("castle.yaml", job(steps=4))
        spool.start_process()
        prompt_id = _waits_in_a_prompt(spool)
        spool.kill()
        wait_until(lambda: prompt_id in ask(spool, f"history/{prompt_id}"), 60, "its end")
        psutil.Process(spool.webui_pid()).kill()
        spool.start(once=True)
        spool.ended()
        assert len(spool.done()) == 1, spool.told
        assert [folder.name for folder in output(tmp_path).iterdir()] == [prompt_id]
        (finished,) = [r for r in journal(spool.done()[0]) if r["event"] == "call_finished"]
        assert finished["used"]["steps"] == 4  # as the picture itself says


def test_a_comfyui_that_dies_in_a_prompt_is_restarted_and_sent_it_once_more(
    tmp_path: Path,
) -> None:
    plan = "- {fault: sigkill-mid-step, when: {prompt: castle}, times: once}\n"
    with comfyui(tmp_path, faults=plan) as spool:
        spool.drop("castle.yaml", job())
        spool.start(once=True)
        spool.ended()
        assert len(spool.done()) == 1, spool.told
        (run,) = spool.done()
        events = [r["event"] for r in journal(run)]
        assert events.count("call_started") == 2
        assert len(spool.events("start")) == 2


def test_an_identical_job_gets_a_picture_of_its_own(tmp_path: Path) -> None:
    """ComfyUI would name the file of the first one, which is gone."""
    with comfyui(tmp_path) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        spool.wait_for(done=1)
        for picture in output(tmp_path).rglob("*.png"):
            picture.unlink()
        spool.drop("castle-again.yaml", job())
        spool.wait_for(done=2)
        spool.stop()
        sums = {image.read_bytes() for run in spool.done() for image in run.glob("images/*")}
        assert len(list(output(tmp_path).rglob("*.png"))) == 1
        assert len(sums) <= 2


def test_a_picture_that_was_saved_just_before_comfyui_died_is_not_made_again(
    tmp_path: Path,
) -> None:
    plan = "- {fault: sigkill-before-reply, when: {prompt: castle}, times: once}\n"
    with comfyui(tmp_path, faults=plan) as spool:
        spool.drop("castle.yaml", job())
        spool.start(once=True)
        spool.ended()
        assert len(spool.done()) == 1, spool.told
        assert spool.stats()["posts"] == 1
        assert len(spool.events("start")) == 2


def test_a_worker_that_says_that_it_ended_is_not_waited_for(tmp_path: Path) -> None:
    """HTTP answers all the while (ComfyUI#16312); `stall` would be five minutes."""
    plan = "- {fault: worker-dies, when: {prompt: castle}, times: once}\n"
    with comfyui(tmp_path, faults=plan) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        spool.wait_for(done=1)
        spool.stop()
        (failed,) = journal(spool.done()[0], "call_failed")
        assert failed["diagnosis"] == "stuck"
        assert "has ended" in failed["message"]
        assert spool.stats()["starts"] == 2


def test_a_failure_names_its_node_and_no_evidence_has_the_prompt(tmp_path: Path) -> None:
    prompt = "the cursed castle of Xanadu"
    plan = "- {fault: structured-500, when: {prompt: cursed}, times: always}\n"
    with comfyui(tmp_path, faults=plan) as spool:
        spool.drop("castle.yaml", job(prompt, negative_prompt="Ozymandias"))
        spool.start()
        spool.wait_for(failed=1)
        spool.stop()
        (run,) = spool.failed()
        theirs = {"job.yaml", "run.json"}  # the submitter's own
        evidence = [path for path in run.iterdir() if path.is_file() and path.name not in theirs]
        assert len(evidence) >= 5
        for path in evidence:
            text = path.read_text(encoding="utf-8")
            assert "Xanadu" not in text, path.name
            assert "Ozymandias" not in text, path.name
        why = (run / "WHY.txt").read_text(encoding="utf-8")
        assert "node sample-1 of class KSampler" in why
        assert "execution.py" in why
        assert "^^^" not in why


# -- people


SLOW = ("--step-time", "0.2")


def test_a_cancelled_run_ends_its_prompt(tmp_path: Path) -> None:
    with comfyui(tmp_path, *SLOW) as spool:
        spool.drop("castle.yaml", job(steps=150))
        spool.start()
        prompt_id = _waits_in_a_prompt(spool)
        (spool.working()[0] / "cancel").touch()
        spool.wait_for(failed=1)
        wait_until(lambda: not runs_now(spool), 20, "nothing runs")
        entry = ask(spool, f"history/{prompt_id}")[prompt_id]
        assert entry["status"]["messages"][-1][0] == "execution_interrupted"
        assert spool.events("crash") == []
        spool.drop("next.yaml", job())
        spool.wait_for(done=1, failed=1)
        assert spool.stats()["starts"] == 1


def test_somebody_who_interrupts_costs_neither_a_restart_nor_a_job(tmp_path: Path) -> None:
    with comfyui(tmp_path, *SLOW) as spool:
        spool.drop("castle.yaml", job(steps=10))
        spool.start()
        prompt_id = _waits_in_a_prompt(spool)

        def has_ended() -> bool:  # one in the instant of its start is lost
            ask(spool, "interrupt", prompt_id=prompt_id)
            return bool(ask(spool, f"history/{prompt_id}"))

        wait_until(has_ended, 20, "its end")
        spool.wait_for(done=1)
        (failed,) = journal(spool.done()[0], "call_failed")
        assert failed["diagnosis"] == "interrupted"
        assert spool.stats()["starts"] == 1


def test_the_prompts_of_others_on_an_external_comfyui_are_left_alone(tmp_path: Path) -> None:
    """Ours waits behind them. One that was cancelled there is gone when the next one is sent."""
    base = tmp_path / "comfyui"
    with comfyui(tmp_path, webui=EXTERNAL) as spool:
        flags = ("--kind", "comfyui", "--base-directory", str(base), *SLOW)
        counted = ("--state", str(tmp_path / "simulator.json"))
        with running(tmp_path, *flags, *counted, port=spool.port):
            others = ask(spool, "prompt", prompt=txt2img(steps=50)).json()["prompt_id"]
            spool.drop("castle.yaml", job())
            spool.start()
            wait_until(lambda: len(ask(spool, "queue")["queue_pending"]) == 1, 60, "ours waits")
            (ours,) = [item[1] for item in ask(spool, "queue")["queue_pending"]]
            (spool.working()[0] / "cancel").touch()
            spool.wait_for(failed=1)
            assert runs_now(spool) == [others]
            spool.drop("next.yaml", job())
            spool.wait_for(done=1, failed=1)
            entry = ask(spool, f"history/{others}")[others]
            assert entry["status"]["status_str"] == "success"
            assert ask(spool, f"history/{ours}") == {}
            spool.stop()


def test_an_external_comfyui_whose_worker_died_in_our_prompt_is_held_as_hanging_and_not_as_busy(
    tmp_path: Path,
) -> None:
    """Its HTTP answers forever (ComfyUI#16312). The prompt in it is ours, so that it may be
    interrupted, and the attempt counts."""
    base, plan = tmp_path / "comfyui", "- {fault: worker-dies, when: {prompt: castle}, times: once}"
    patient = {"stall": 3, "health": {"interval": 0.5, "timeout": 5}}
    with comfyui(tmp_path, webui={**EXTERNAL, **patient}) as spool:
        flags = ("--kind", "comfyui", "--base-directory", str(base))
        with running(tmp_path, *flags, port=spool.port, plan=plan):
            spool.drop("castle.yaml", job())
            spool.start()
            wait_until(lambda: spool.lane().get("hold"), 60, "the hold")
            hold = spool.lane()["hold"]
            note = (spool.spool / "HOLD-sim.txt").read_text(encoding="utf-8")
            assert "an interrupt did not free it" in hold
            assert "somebody else" not in hold + note
            assert "Restart the WebUI by hand" in note
            assert len(runs_now(spool)) == 1, "nothing is sent behind it"
            assert ask(spool, "queue")["queue_pending"] == []
        with running(tmp_path, *flags, port=spool.port):
            spool.wait_for(done=1)
            (failed,) = journal(spool.done()[0], "call_failed")
            assert (failed["diagnosis"], failed["counted"]) == ("stuck", True)
            spool.stop()
