"""Jobs with a workflow of their own, through the real monitor, on a simulated ComfyUI."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import psutil
import pytest
from PIL import Image

from sdwatch.errors import WebUIBadRequestError
from sdwatch.policy.workflow.workflow import workflow_of
from sdwatch.policy.workflow.workflow_call import WorkflowCall
from sdwatch.webui.http.call_watch import CallWatch
from sdwatch.webui.http.comfyui_client import ComfyUIClient
from sdwatch.webui.http.roles import QueueingClient
from tests.functional.cli import sdwatch
from tests.integration.test_comfyui import ask, comfyui, manifest, output, runs_now
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, journal
from tests.webui.comfy import MODEL, node, saved, txt2img
from tests.webui.comfy import comfyui as simulated

FILE = "portrait.json"


def titled(prompt: dict[str, Any], **titles: str) -> dict[str, Any]:
    """A prompt whose nodes have titles, as the editor exports them; `n6="Positive"`."""
    found = json.loads(json.dumps(prompt))
    for id, title in titles.items():
        found[id.removeprefix("n")]["_meta"] = {"title": title}
    return dict(found)


PORTRAIT = titled(txt2img(steps=2, seed=5), n6="Positive", n7="Negative", n9="Result")


def drop(
    spool: Monitored,
    job: str,
    workflow: Mapping[str, Any] = PORTRAIT,
    name: str = "portrait",
    **files: bytes,
) -> None:
    """Drop a job folder with a workflow; `files`: `a_png=…` is a.png."""
    folder = spool.root / name
    folder.mkdir()
    (folder / FILE).write_text(json.dumps(workflow, indent=2), encoding="utf-8")
    for file, data in files.items():
        (folder / file.replace("_", ".")).write_bytes(data)
    (folder / "job.yaml").write_text(job, encoding="utf-8")
    folder.rename(spool.inbox / name)


def picture(color: int, size: int = 64) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((size, size), 40).convert("RGB").point(lambda n: (n + color) % 256).save(
        file, "PNG"
    )
    return file.getvalue()


def images(run: Path) -> list[Path]:
    return sorted((run / "images").iterdir())


def sent(image: Path) -> dict[str, Any]:
    """The workflow that ComfyUI wrote into a picture."""
    with Image.open(image) as opened:
        found: dict[str, Any] = json.loads(opened.info["prompt"])
        return found


def test_a_workflow_runs_with_what_the_job_sets(tmp_path: Path) -> None:
    with comfyui(tmp_path) as spool:
        drop(
            spool,
            "stages:\n  - workflow:\n      file: portrait.json\n"
            "      set: {Positive.text: a lighthouse, '5.width': 128}\n      steps: 3\n"
            "      checkpoint: Simulated-A\n      repeat: 2\n",
        )
        spool.start(once=True)
        spool.ended()
        assert len(spool.done()) == 1, spool.told
        (run,) = spool.done()
        prompts = [sent(image) for image in images(run)]
        assert [p["6"]["inputs"]["text"] for p in prompts] == ["a lighthouse"] * 2
        assert [p["3"]["inputs"]["seed"] for p in prompts] == [5, 6]
        assert [p["3"]["inputs"]["steps"] for p in prompts] == [3, 3]
        assert {p["4"]["inputs"]["ckpt_name"] for p in prompts} == {MODEL}
        assert [Image.open(i).size for i in images(run)] == [(128, 64)] * 2
        assert manifest(run)["job"]["stages"][0]["workflow"]["seed"] == 5


LOADS = {
    **PORTRAIT,
    "10": {**node("LoadImage", image="any.png"), "_meta": {"title": "Photo"}},
    "11": node("VAEEncode", pixels=["10", 0], vae=["4", 2]),
    "3": node("KSampler", **{**PORTRAIT["3"]["inputs"], "latent_image": ["11", 0]}),
}
ONE = "stages:\n  - workflow: {file: portrait.json}\n"


def only_run(spool: Monitored) -> Path:
    spool.start(once=True)
    spool.ended()
    assert (len(spool.done()), spool.failed()) == (1, []), spool.told
    return spool.done()[0]


def uploads(root: Path) -> list[tuple[int, int]]:
    """The sizes of the images that calls have left in ComfyUI's temp/."""
    found = []
    for path in sorted((root / "comfyui/temp").rglob("*.png")):
        with Image.open(path) as opened:
            found.append(opened.size)
    return found


def test_a_workflow_works_on_each_image_of_a_folder_and_of_the_stage_before(tmp_path: Path) -> None:
    job = (
        "stages:\n"
        "  - workflow: {id: base, file: portrait.json, input: '[ab].png'}\n"
        "  - workflow: {file: portrait.json, input: base, prompt: again}\n"
    )
    with comfyui(tmp_path) as spool:
        drop(spool, job, LOADS, a_png=picture(1), b_png=picture(90, 128))
        run = only_run(spool)
        assert [Image.open(i).size for i in images(run)] == [(64, 64), (128, 128)] * 2
        names = {sent(image)["10"]["inputs"]["image"] for image in images(run)}
        assert len(names) == 4
        assert all(name.endswith("/1.png [temp]") for name in names)
        # What was uploaded is no longer there.
        assert uploads(tmp_path) == [(8, 8)] * 4


def test_the_pictures_of_chosen_nodes_are_taken_and_no_preview(tmp_path: Path) -> None:
    several = {
        **txt2img(steps=1, batch_size=2),
        "12": {**saved("8"), "_meta": {"title": "Final"}},
        "13": node("PreviewImage", images=["8", 0]),
        "14": node("ImageBlur", image=["8", 0], blur_radius=2, sigma=1.0),
        "15": saved("14"),
    }
    with comfyui(tmp_path) as spool:
        drop(spool, ONE.replace("}", ", outputs: [Final]}"), several)
        run = only_run(spool)
        assert len(images(run)) == 2
        drop(spool, ONE, several, name="all")
        spool.start(once=True)
        spool.ended()
        (other,) = [each for each in spool.done() if each != run]
        assert len(images(other)) == 6


def test_a_second_workflow_works_on_the_pictures_of_the_first(tmp_path: Path) -> None:
    """ComfyUI has an example.png, which the second one would load."""
    with comfyui(tmp_path) as spool:
        (tmp_path / "comfyui/input").mkdir(parents=True, exist_ok=True)
        (tmp_path / "comfyui/input/example.png").write_bytes(picture(1))
        loads = titled({
            "1": node("LoadImage", image="example.png"),
            "2": node("ImageBlur", image=["1", 0], blur_radius=2, sigma=1.0),
            "3": saved("2"),
        })  # fmt: skip
        second = "  - workflow: {file: second.json}\n"
        drop(spool, ONE + second, second_json=json.dumps(loads).encode())
        run = only_run(spool)
        first, last = images(run)
        used = sent(last)["1"]["inputs"]["image"]
        assert used.startswith("sdwatch/"), used
        assert used.endswith(" [temp]"), used
        assert Image.open(last).size == Image.open(first).size
        stages = [start["call"] for start in journal(run, "call_started")]
        assert stages == ["1.1", "2.1"]


OWN = {**PORTRAIT, "9": node("SimulatedSave", images=["8", 0])}


def test_what_a_node_saves_under_a_name_of_its_own_is_taken_and_never_an_old_file(
    tmp_path: Path,
) -> None:
    """It has no filename_prefix, so nothing but its history says where its files are; and an
    identical workflow must run again."""
    with comfyui(tmp_path) as spool:
        for name in ("first", "second"):
            drop(spool, ONE, OWN, name=name)
        spool.start(once=True)
        spool.ended()
        assert (len(spool.done()), spool.failed()) == (2, []), spool.told
        assert [len(images(run)) for run in spool.done()] == [1, 1]
        own = sorted((tmp_path / "comfyui/output/own").iterdir())
        assert len(own) == 2
        taken = {path.read_bytes() for run in spool.done() for path in images(run)}
        assert taken == {path.read_bytes() for path in own}


def test_the_same_workflow_twice_has_pictures_of_its_own(tmp_path: Path) -> None:
    """ComfyUI's cache would answer the second with the files of the first, even deleted ones."""
    with comfyui(tmp_path) as spool:
        drop(spool, ONE, name="first")
        first = only_run(spool)
        drop(spool, ONE, name="second")
        spool.start(once=True)
        spool.ended()
        (second,) = [run for run in spool.done() if run != first]
        prefixes = [
            sent(images(run)[0])["9"]["inputs"]["filename_prefix"] for run in (first, second)
        ]
        assert prefixes[0] != prefixes[1]
        assert all(prefix.startswith("sdwatch/") for prefix in prefixes)


# -- what ComfyUI cannot run


@pytest.mark.parametrize(
    ("workflow", "job", "why"),
    [
        ({**PORTRAIT, "20": node("FaceDetailer", x=1)}, ONE, "no node class FaceDetailer"),
        ({**PORTRAIT, "20": node("SimulatedPaid", prompt="x")}, ONE, "sends pictures to a paid"),
        (PORTRAIT, ONE.replace("}", ", checkpoint: simulted-a}"), "in its list; did you mean"),
        (PORTRAIT, ONE.replace("}", ", set: {9.images: x}}"), "images of node 9 (Result) comes"),
        ({"nodes": [], "links": []}, ONE, "portrait.json:1:1: this is the editor's own format"),
    ],
)
def test_a_workflow_that_cannot_run_fails_before_its_first_call(
    tmp_path: Path, workflow: dict[str, Any], job: str, why: str
) -> None:
    with comfyui(tmp_path) as spool:
        drop(spool, job, workflow)
        spool.start(once=True)
        spool.ended()
        assert len(spool.failed()) == 1, spool.told
        (run,) = spool.failed()
        assert why in (run / "WHY.txt").read_text(encoding="utf-8")
        assert journal(run, "call_started") == []


def test_a_workflow_with_a_refused_part_is_taken_out_of_the_queue(tmp_path: Path) -> None:
    """ComfyUI answers 200, leaves that part out, and would end well."""
    part = {**PORTRAIT, "20": saved("21"), "21": node("EmptyImage", width=-5, height=1)}
    call = WorkflowCall(workflow_of(part))
    with simulated(tmp_path / "sim", "--step-time", "1") as found:
        client = ComfyUIClient(found.url("").rstrip("/"))
        try:
            refused = "ComfyUI refused a part of the workflow: node 21"
            with pytest.raises(WebUIBadRequestError, match=refused):
                client.generate_images("workflow", call.as_payload())
            wait_until(lambda: not found.json("queue")["queue_running"], 30, "it was cancelled")
            assert found.json("queue")["queue_pending"] == []
            ended = [e["status"]["status_str"] for e in found.json("history").values()]
            assert "success" not in ended
        finally:
            client.close()


def test_a_refused_part_has_the_place_of_its_node(tmp_path: Path) -> None:
    part = {**PORTRAIT, "20": saved("21"), "21": node("LoadImage", image="no/such.png")}
    text = json.dumps(part, indent=2)
    line = text[: text.index('"21": {')].count("\n") + 1
    with comfyui(tmp_path) as spool:
        drop(spool, ONE, part)
        drop(spool, ONE.replace("}", ", set: {21.image: no/other.png}}"), part, name="said")
        spool.start(once=True)
        spool.ended()
        assert len(spool.failed()) == 2, spool.told
        for run in spool.failed():
            place = "job.yaml:2:53" if "said" in run.name else f"portrait/{FILE}:{line}:3"
            why = (run / "WHY.txt").read_text(encoding="utf-8")
            assert f"refused a part of the workflow: node 21 (LoadImage) at {place}: " in why


# -- failures


def test_a_node_that_saves_outside_of_output_costs_its_job_and_holds_no_lane(
    tmp_path: Path,
) -> None:
    """ComfyUI answers 403 to /view, which is no matter of passwords here."""
    saver = node("SimulatedSaveElsewhere", images=["8", 0], filename_prefix="x")
    with comfyui(tmp_path) as spool:
        drop(spool, ONE, {**PORTRAIT, "9": {**saver, "_meta": {"title": "My Saver"}}})
        spool.start(once=True)
        spool.ended()
        (run,) = spool.failed()
        why = (run / "WHY.txt").read_text(encoding="utf-8")
        assert "outside of ComfyUI's output folder" in why
        assert "Fault:     the job" in why
        assert len(journal(run, "call_started")) == 1


def test_a_failed_node_is_named_by_its_title_and_no_prompt_is_in_the_evidence(
    tmp_path: Path,
) -> None:
    secret = "an undressed secret on a beach"
    broken = {
        **PORTRAIT,
        "20": {
            **node("SimulatedRaise", image=["8", 0], kind="raise"),
            "_meta": {"title": "Polish"},
        },
        "9": saved("20"),
    }
    with comfyui(tmp_path) as spool:
        drop(spool, ONE.replace("}", f", set: {{Positive.text: {secret}}}}}"), broken)
        spool.start(once=True)
        spool.ended()
        assert len(spool.failed()) == 1, spool.told
        (run,) = spool.failed()
        why = (run / "WHY.txt").read_text(encoding="utf-8")
        assert "20 (Polish)" in why
        assert "a workflow of 8 nodes" in why
        payload = json.loads((run / "stage_failure_payload.json").read_text(encoding="utf-8"))
        assert payload["own_workflow"]["nodes"]["20"]["class_type"] == "SimulatedRaise"
        mine = [p for p in run.iterdir() if p.is_file() and p.name != "run.json"]
        assert len(mine) > 4
        for path in [*mine, *(spool.spool).glob("status.*")]:
            assert secret not in path.read_text(encoding="utf-8", errors="replace"), path.name
        told = sdwatch(tmp_path, "bundle", "--config", spool.config_file, run.name)
        assert told.returncode == 0, told.stderr
        (bundle,) = tmp_path.glob("*.zip")
        with ZipFile(bundle) as archive:
            for name in archive.namelist():
                assert secret.encode() not in archive.read(name), name


def test_the_self_test_repeats_the_last_good_workflow_so_that_the_failing_one_is_to_blame(
    tmp_path: Path,
) -> None:
    plan = "- {fault: structured-500, when: {prompt: cursed}, times: always}\n"
    with comfyui(tmp_path, faults=plan) as spool:
        drop(spool, ONE, name="good")
        spool.start()
        spool.wait_for(done=1)
        drop(spool, ONE.replace("}", ", prompt: cursed}"), name="cursed")
        spool.wait_for(done=1, failed=1)
        ran = [entry["prompt"][2] for entry in ask(spool, "history").values()]
        spool.stop()
        (run,) = spool.failed()
        assert (
            "the job" in (run / "WHY.txt").read_text(encoding="utf-8").partition("Fault:")[2][:20]
        )
        (again,) = [p for p in ran if p.get("9", {}).get("class_type") == "PreviewImage"]
        assert again["3"]["inputs"]["steps"] == 1
        assert again["3"]["inputs"]["seed"] != PORTRAIT["3"]["inputs"]["seed"]
        assert len(list(output(tmp_path).iterdir())) == 1, "only the good job's folder"


# -- deaths


def in_last_node(watch: CallWatch) -> bool:
    client = watch._client
    return isinstance(client, QueueingClient) and client.running_node.startswith("20 ")


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (
            node("SimulatedRaise", image=["8", 0], kind="segv"),
            "died during the call, after it reported node",
        ),
        (
            node("SimulatedSleep", image=["8", 0], seconds=600),
            "it was in node 20 (Polish) of class SimulatedSleep",
        ),
    ],
    ids=["dies", "hangs"],
)
def test_a_death_and_a_hang_name_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: dict[str, Any], said: str
) -> None:
    """The log has no word of it: a hang prints nothing, and a death a stack at most. A death may be
    quicker than the message of its node. So might be the stall, on a machine that needs two seconds
    until that message is read: the call is not looked at before."""
    sample = CallWatch.sample
    monkeypatch.setattr(CallWatch, "sample", lambda w: sample(w) if in_last_node(w) else "")
    broken = {**PORTRAIT, "20": {**last, "_meta": {"title": "Polish"}}, "9": saved("20")}
    with comfyui(tmp_path, settings={"recovery": "off"}, webui={"stall": 2}) as spool:
        drop(spool, ONE, broken)
        spool.start(once=True)
        spool.ended()
        (run,) = spool.failed()
        why = (run / "WHY.txt").read_text(encoding="utf-8")
        assert said in why


SLOW = "- {fault: slow-steps, when: {prompt: castle}, times: once, factor: 150}\n"
FOUR_STEPS = ONE.replace("}", ", steps: 4}")


def waits_in_a_prompt(spool: Monitored) -> str:
    wait_until(lambda: spool.lane().get("state") == "ready", 60, "it is ready")
    wait_until(lambda: runs_now(spool), 60, "a prompt runs")
    return runs_now(spool)[0]


@pytest.mark.parametrize("both_die", [False, True])
def test_a_run_that_was_killed_in_the_middle_of_a_workflow_takes_its_pictures(
    tmp_path: Path, both_die: bool
) -> None:
    with comfyui(tmp_path, faults=SLOW) as spool:
        drop(spool, FOUR_STEPS)
        spool.start_process()
        prompt_id = waits_in_a_prompt(spool)
        spool.kill()
        if both_die:
            wait_until(lambda: prompt_id in ask(spool, f"history/{prompt_id}"), 60, "its end")
            psutil.Process(spool.webui_pid()).kill()
        run = only_run(spool)
        sent_ids = [r["prompt_id"] for r in journal(run, "call_started")]
        assert sent_ids[0] == prompt_id
        assert [folder.name for folder in output(tmp_path).iterdir()] == [prompt_id]
        assert sent(images(run)[0])["3"]["inputs"]["steps"] == 4


FILM = {
    **PORTRAIT,
    "7": {**node("CLIPTextEncode", text="", clip=["4", 1]), "_meta": {"title": "Negative"}},
    "20": node("SimulatedSleep", image=["8", 0], seconds=0),
    "21": node("CreateVideo", images=["20", 0], fps=8.0),
    "9": node("SaveVideo", video=["21", 0], filename_prefix="x", format="auto"),
    "22": node("SaveLatent", samples=["3", 0], filename_prefix="x"),
    "23": node("EmptyAudio", duration=0.5, sample_rate=8000, channels=2),
    "24": node("SaveAudio", audio=["23", 0], filename_prefix="x"),
}


@pytest.mark.parametrize("is_whole", [True, False])
def test_other_files_that_were_saved_before_both_died_are_taken_if_they_are_whole(
    tmp_path: Path, is_whole: bool
) -> None:
    """Also behind a node that nobody knows: of whatever comes, SaveVideo makes one file."""
    with comfyui(tmp_path, faults=SLOW) as spool:
        drop(spool, FOUR_STEPS, FILM)
        spool.start_process()
        prompt_id = waits_in_a_prompt(spool)
        spool.kill()
        wait_until(lambda: prompt_id in ask(spool, f"history/{prompt_id}"), 60, "its end")
        psutil.Process(spool.webui_pid()).kill()
        if not is_whole:
            (film,) = (output(tmp_path) / prompt_id).glob("*.mp4")
            film.write_bytes(film.read_bytes()[:-20])
        run = only_run(spool)
        assert {path.suffix for path in (run / "files").iterdir()} == {
            ".mp4", ".latent", ".flac"
        }  # fmt: skip
        again = {folder.name for folder in output(tmp_path).iterdir()} - {prompt_id}
        assert len(again) == (0 if is_whole else 1)


UNKNOWN = {
    **PORTRAIT,
    "5": node("EmptyLatentImage", width=64, height=64, batch_size=2),
    "20": node("SimulatedSleep", image=["8", 0], seconds=0),
    "9": node("SaveImage", images=["20", 0], filename_prefix="x"),
    "22": node("PreviewAny", source=["20", 0]),
}


def test_pictures_behind_a_node_that_nobody_knows_are_taken_after_both_died(tmp_path: Path) -> None:
    """How many it makes of those that come in is not known, so all that are there are taken. A text
    that was shown is gone with the history."""
    with comfyui(tmp_path, faults=SLOW) as spool:
        drop(spool, FOUR_STEPS, UNKNOWN)
        spool.start_process()
        prompt_id = waits_in_a_prompt(spool)
        spool.kill()
        wait_until(lambda: prompt_id in ask(spool, f"history/{prompt_id}"), 60, "its end")
        psutil.Process(spool.webui_pid()).kill()
        run = only_run(spool)
        assert [folder.name for folder in output(tmp_path).iterdir()] == [prompt_id]
        assert len(images(run)) == 2


def test_a_drawn_seed_is_the_same_after_a_death(tmp_path: Path) -> None:
    crash = "- {fault: sigkill-mid-step, when: {prompt: castle}, times: once}\n"
    with comfyui(tmp_path, faults=crash) as spool:
        drop(spool, ONE.replace("}", ", seed: -1, repeat: 2}"))
        run = only_run(spool)
        (planned,) = journal(run, "planned")
        (seeds,) = planned["seeds"]
        used = [sent(image)["3"]["inputs"]["seed"] for image in images(run)]
        assert used == [seeds["seed"], seeds["seed"] + 1]
        assert len(spool.events("start")) == 2


# -- the commands


def test_check_plans_a_workflow_and_replay_sends_its_call_again(tmp_path: Path) -> None:
    plan = "- {fault: structured-500, when: {prompt: castle}, times: 2}\n"
    with comfyui(tmp_path, faults=plan) as spool:
        job = "matrix: {steps: [2, 3]}\n" + ONE.replace("}", ", repeat: 2}")
        drop(spool, job)
        kept = tmp_path / "kept"
        shutil.copytree(spool.inbox / "portrait", kept)
        told = sdwatch(tmp_path, "check", "--config", spool.config_file, kept)
        assert told.returncode == 0, told.stdout + told.stderr
        assert "2 points, 4 pictures" in told.stdout
        spool.start()
        spool.wait_for(failed=1)
        run = spool.failed()[0]
        again = sdwatch(tmp_path, "replay", "--config", spool.config_file, run.name)
        assert again.returncode == 0, again.stdout + again.stderr
        assert "a workflow of 7 nodes" in again.stdout
        assert len(list(tmp_path.glob("replay-*.png"))) == 1
        retried = sdwatch(tmp_path, "retry", "--config", spool.config_file, run.name, "--failed")
        assert retried.returncode == 0, retried.stdout + retried.stderr
        spool.wait_for(done=1, failed=1)
        spool.stop()


def test_a_folder_with_its_workflow_is_submitted_whole(tmp_path: Path) -> None:
    with comfyui(tmp_path) as spool:
        folder = tmp_path / "mine"
        folder.mkdir()
        (folder / "job.yaml").write_text(ONE, encoding="utf-8")
        wrong = sdwatch(tmp_path, "submit", "--config", spool.config_file, folder)
        assert wrong.returncode != 0
        assert '"portrait.json" is not in the job folder' in wrong.stdout + wrong.stderr
        (folder / FILE).write_text(json.dumps(PORTRAIT), encoding="utf-8")
        told = sdwatch(tmp_path, "submit", "--config", spool.config_file, folder)
        assert told.returncode == 0, told.stdout + told.stderr
        assert len(images(only_run(spool))) == 1


def test_a_job_waits_for_the_workflow_that_it_names(tmp_path: Path) -> None:
    with comfyui(tmp_path) as spool:
        folder = spool.inbox / "late"
        folder.mkdir()
        (folder / "job.yaml").write_text(ONE, encoding="utf-8")
        spool.start()
        wait_until(lambda: "waits for portrait.json" in json.dumps(spool.status()), 60)
        assert spool.failed() == []
        (folder / FILE).write_text(json.dumps(PORTRAIT), encoding="utf-8")
        spool.wait_for(done=1)
        spool.stop()
