"""The client of ComfyUI against the simulator as a process: what decides about a call."""

from __future__ import annotations

import io
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUIError,
    WebUIInterruptedError,
    WebUIReplyError,
    WebUIServerError,
    WebUIUnreachableError,
)
from sdwatch.policy.failure.prompts_sent import PromptToSend, SentPrompt
from sdwatch.policy.failure.reply_checks import BadReply
from sdwatch.policy.job.stage.stage_kinds import TXT2IMG
from sdwatch.policy.lane.knowledge import Size
from sdwatch.policy.workflow.node_classes import NodeClasses
from sdwatch.policy.workflow.prompt_result import OutputFile, PromptEnd, PromptResult
from sdwatch.policy.workflow.workflow import Workflow, workflow_of
from sdwatch.policy.workflow.workflow_call import WorkflowCall
from sdwatch.simulator import comfyui_media
from sdwatch.system.log_events import bound
from sdwatch.webui.http import canary
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.comfyui_client import ComfyUIClient
from sdwatch.webui.http.prompt_progress import PromptProgress
from sdwatch.webui.http.prompt_reply import folder_of, reply_from
from sdwatch.webui.http.reply import Reply
from tests.support.fakes import picture
from tests.support.helpers import wait_until
from tests.webui.comfy import MODEL, Comfy, comfyui, empty, node, plain, saved, through, txt2img

PAYLOAD = {
    "prompt": "a castle",
    "seed": 3,
    "steps": 4,
    "width": 64,
    "height": 64,
    "override_settings": {"sd_model_checkpoint": MODEL},
}


def new_id() -> str:
    return str(uuid.uuid4())


def client_of(comfy: Comfy, **more: Any) -> ComfyUIClient:
    return ComfyUIClient(f"http://127.0.0.1:{comfy.sim.port}", **more)


def generate(client: ComfyUIClient, prompt: PromptToSend | None = None, **fields: Any) -> Reply:
    return client.generate_images(TXT2IMG.name, {**PAYLOAD, **fields}, prompt=prompt)


def sends(client: ComfyUIClient, prompt: Mapping[str, Any]) -> None:
    """Have the client send this workflow for every call."""
    made = workflow_of(prompt)

    def of(*_: Any, **__: Any) -> Workflow:
        return made

    client._workflows.of = of  # type: ignore[method-assign]


class InBackground:
    """A call on a thread of its own, and its result."""

    def __init__(self, call: Callable[[], Reply]) -> None:
        self.result: Reply | WebUIError | None = None
        self._thread = threading.Thread(target=self._run, args=(call,))
        self._thread.start()

    def _run(self, call: Callable[[], Reply]) -> None:
        try:
            self.result = call()
        except WebUIError as error:
            self.result = error

    def ended(self) -> Reply | WebUIError | None:
        self._thread.join(60)
        return self.result


@pytest.fixture(scope="module")
def comfy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    plan = (
        "- {fault: slow-steps, when: {prompt: slow}, times: always, factor: 60}\n"
        "- {fault: truncated-body, when: {prompt: cutoff}, times: always}\n"
        "- {fault: websocket-closes, when: {prompt: deaf}, times: always}\n"
        "- {fault: nan, when: {prompt: blackened}, times: once}\n"
        "- {fault: structured-500, when: {prompt: broken}, times: always}\n"
    )
    folder = tmp_path_factory.mktemp("comfyui")
    with comfyui(folder, "--step-time", "0.01", plan=plan) as found:
        yield found


def test_a_call_has_its_pictures_and_what_made_them(comfy: Comfy) -> None:
    made = generate(client_of(comfy), batch_size=2, n_iter=2, sampler_name="DPM++ 2M Karras")
    assert made.sizes == ((64, 64),) * 4
    assert made.info["all_seeds"] == [3, 3, 5, 5]
    assert made.info["sampler_name"] == "DPM++ 2M Karras"
    assert made.info["sd_model_name"] == Path(MODEL).stem


def test_the_canary_needs_no_model_and_is_never_cached(comfy: Comfy) -> None:
    client = client_of(comfy)
    for _ in range(2):
        asked = canary.payload()
        made = client.generate_images(TXT2IMG.name, asked, canary=True)
        assert canary.flaw_in(made.images[0], is_plain=made.is_plain) is canary.Flaw.NONE
    assert made.sizes == ((canary.SIDE, canary.SIDE),)


def test_a_plain_picture_takes_no_checkpoint_that_no_call_was_good_with(comfy: Comfy) -> None:
    """The first in the list may be damaged (so found with ComfyUI 0.33.0, run on CPU 2026-11-28:
    the self-test took it, failed, and one job's failure held the lane)."""
    checkpoints = comfy.base / "models/checkpoints"
    (checkpoints / "a-damaged.safetensors").write_bytes(bytes(64))
    client = client_of(comfy)
    for checkpoint, is_plain in (("", True), (MODEL, False)):
        asked = canary.plain(Size(96, 64, 2), checkpoint).payload
        made = client.generate_images(TXT2IMG.name, asked, canary=True)
        assert (made.sizes, made.is_plain) == (((96, 64),) * 2, is_plain)
    (checkpoints / "a-damaged.safetensors").unlink()


def test_a_self_test_repeats_a_workflow_and_leaves_nothing_in_the_output_folder(
    comfy: Comfy,
) -> None:
    """It really samples, shows its pictures, and runs no node of a paid service."""
    client, before = client_of(comfy), saved_by(comfy)
    prompt = txt2img(steps=3) | {"10": saved("8"), "11": node("PreviewImage", images=["8", 0])}
    small, whole = canary.repeated(WorkflowCall(workflow_of(prompt)).as_payload())
    for asked, count in ((small, 2), (whole, 2)):
        made = client.generate_images(asked.stage, asked.payload, canary=True)
        assert made.sizes == ((64, 64),) * count
        assert made.info["steps"] == asked.payload["own_workflow"]["nodes"]["3"]["inputs"]["steps"]
        assert canary.flaw_in(made.images[0], is_tiny=False) is canary.Flaw.NONE
    assert saved_by(comfy) == before
    paid = {**prompt, "12": node("SimulatedPaid", prompt="x")}
    (asked, _) = canary.repeated(WorkflowCall(workflow_of(paid)).as_payload())
    with pytest.raises(WebUIBadRequestError, match="costs money"):
        client.generate_images(asked.stage, asked.payload, canary=True)


def saved_by(comfy: Comfy) -> set[Path]:
    return set((comfy.base / "output").rglob("*.png"))


def test_files_that_arrive_are_progress_and_their_arrival_is_reported_before_they_are_decoded(
    comfy: Comfy,
) -> None:
    """A long download must not look like a stall."""
    seen: list[object] = []

    class Watched(ComfyUIClient):
        def file(self, named: OutputFile) -> Any:
            data = super().file(named)
            seen.append(self.progress(5)["state"])
            return data

    client = Watched(f"http://127.0.0.1:{comfy.sim.port}")
    made = client.generate_images(
        TXT2IMG.name, {**PAYLOAD, "batch_size": 2}, arrived=lambda: seen.append("all are here")
    )
    *states, last = seen
    assert last == "all are here"
    for number, (state, image) in enumerate(zip(states, made.images, strict=True), 1):
        assert isinstance(state, dict)
        assert (state["job"], state["job_no"], state["sampling_step"]) == (
            "files", number, len(image)
        )  # fmt: skip
    assert client.progress(5)["state"]["job"] == ""


def test_a_websocket_that_breaks_prints_nothing(comfy: Comfy) -> None:
    """A node that held the interpreter for 40 s left a traceback of `websockets` on the console
    (ComfyUI 0.33.0, run on CPU 2026-11-28)."""
    progress = PromptProgress(f"http://127.0.0.1:{comfy.sim.port}", "quiet", "x", None)
    progress.connect()
    assert progress._socket is not None
    assert not progress._socket.logger.isEnabledFor(logging.CRITICAL)
    progress.close()


def test_a_black_picture_is_not_answered_from_the_cache_again(comfy: Comfy) -> None:
    """All nodes but SaveImage were cached: the second attempt took 0.3 s, and had the same NaNs
    (ComfyUI 0.33.0, run on CPU 2026-11-28)."""
    client, asked = client_of(comfy), {**PAYLOAD, "prompt": "blackened"}
    assert any(client.generate_images(TXT2IMG.name, asked).one_colour)
    comfy.run(plain(77))  # the cache is emptied when no prompt runs
    assert not any(client.generate_images(TXT2IMG.name, asked).one_colour)


def test_a_name_that_it_does_not_have_is_refused_with_the_node(comfy: Comfy) -> None:
    with pytest.raises(WebUIBadRequestError, match=r"workflow: sampler_name: Value not in list"):
        generate(client_of(comfy), sampler_name="No Such")


def test_a_workflow_does_not_run_if_a_part_of_it_is_refused(comfy: Comfy) -> None:
    """The answer is 200, and the valid part is queued."""
    client, prompt = client_of(comfy), PromptToSend(new_id())
    sends(client, {**plain(5), "3": node("LoadImage", image="gone.png"), "4": saved("3")})
    with pytest.raises(WebUIBadRequestError, match="node 3"):
        generate(client, prompt)
    ended = comfy.json(f"history/{prompt.id}").get(prompt.id, {})
    assert ended.get("outputs", {}) == {} or client.queue(5) == ({}, {})


@pytest.mark.parametrize("prompt", ["cutoff", "deaf"])
def test_neither_a_cut_reply_nor_a_closed_websocket_loses_it(comfy: Comfy, prompt: str) -> None:
    before = comfy.sim.stats()["posts"]
    made = client_of(comfy).generate_images(TXT2IMG.name, {**PAYLOAD, "prompt": prompt})
    assert made.sizes == ((64, 64),)
    assert comfy.sim.stats()["posts"] == before + 1


def test_an_exception_names_the_node_the_class_and_the_text(comfy: Comfy) -> None:
    with pytest.raises(WebUIServerError, match=r"node sample-1 of class KSampler") as caught:
        client_of(comfy).generate_images(TXT2IMG.name, {**PAYLOAD, "prompt": "broken"})
    assert caught.value.kind == "RuntimeError"
    assert caught.value.said


def test_the_error_of_a_loader_names_the_file_that_is_to_be_replaced(comfy: Comfy) -> None:
    """`Download that file again` leaves open which: ComfyUI 0.33.0's exception names none."""
    damaged = {"sd_model_checkpoint": "simulated-corrupt"}
    words = r"CheckpointLoaderSimple, which loads simulated-corrupt\.safetensors, failed: "
    with pytest.raises(WebUIServerError, match=words):
        generate(client_of(comfy), override_settings=damaged)


# -- steps, interrupts, and giving up


def slow(client: ComfyUIClient, seed: int, given_up: Callable[[], bool] = lambda: False) -> Reply:
    """A call of some seconds. `seed`: another each time, else its steps come from the cache."""
    payload = {**PAYLOAD, "prompt": "slow", "steps": 8, "seed": seed}
    return client.generate_images(TXT2IMG.name, payload, given_up)


def steps_of(client: ComfyUIClient) -> float:
    return float(client.progress(5)["state"].get("sampling_step", 0))


def test_its_steps_are_seen_while_it_runs(comfy: Comfy) -> None:
    client = client_of(comfy)
    call = InBackground(lambda: slow(client, 11))
    wait_until(lambda: steps_of(client) >= 2, 20, "two steps")
    assert client.progress(5)["state"]["sampling_steps"] == 8
    assert isinstance(call.ended(), Reply)
    assert client.progress(5)["state"]["job"] == ""


def test_an_interrupt_ends_its_own_prompt(comfy: Comfy) -> None:
    client = client_of(comfy)
    call = InBackground(lambda: slow(client, 12))
    wait_until(lambda: steps_of(client) >= 1, 20, "a step")
    assert client.interrupt()
    assert isinstance(call.ended(), WebUIInterruptedError)


def test_an_interrupt_leaves_the_prompts_of_others(comfy: Comfy) -> None:
    ours, others = client_of(comfy), client_of(comfy)
    call = InBackground(lambda: slow(others, 13))
    wait_until(lambda: steps_of(others) >= 1, 20, "a step")
    assert ours.interrupt()
    assert isinstance(call.ended(), Reply)


def test_one_that_was_given_up_runs_on_and_is_found_again(comfy: Comfy) -> None:
    client, prompt, given_up = (
        client_of(comfy, owner="a"),
        PromptToSend(new_id()),
        threading.Event(),
    )
    payload = {**PAYLOAD, "prompt": "slow", "steps": 8, "seed": 14}
    call = InBackground(
        lambda: client.generate_images(TXT2IMG.name, payload, given_up.is_set, prompt=prompt)
    )
    wait_until(lambda: steps_of(client) >= 1, 20, "a step")
    given_up.set()
    client.abandon()
    assert isinstance(call.ended(), WebUIUnreachableError)
    before = comfy.sim.stats()["posts"]
    again = PromptToSend(new_id(), (SentPrompt(prompt.id),))
    made = client_of(comfy, owner="a").generate_images(TXT2IMG.name, payload, prompt=again)
    assert made.sizes == ((64, 64),)
    assert comfy.sim.stats()["posts"] == before


def test_what_nobody_waits_for_is_cancelled_before_the_next(comfy: Comfy) -> None:
    client, given_up = client_of(comfy, owner="b"), threading.Event()
    call = InBackground(lambda: slow(client, 15, given_up.is_set))
    wait_until(lambda: steps_of(client) >= 1, 20, "a step")
    given_up.set()
    client.abandon()
    call.ended()
    orphan = next(iter(client.queue(5)[0]))
    generate(client_of(comfy, owner="b"))
    status = comfy.ended(orphan)["status"]
    assert status["messages"][-1][0] == "execution_interrupted"


def test_a_prompt_that_hangs_is_not_cancelled_more_than_once_a_second(comfy: Comfy) -> None:
    """ComfyUI 0.33.0 prints a line for each request; of a node that asks nobody whether it was
    interrupted there were fifty in ten seconds."""
    client, id = client_of(comfy, owner="d"), new_id()
    hangs = through("SimulatedSleep", color=71, seconds=2.5)
    comfy.queue(hangs, prompt_id=id, client_id=f"d-{id}")
    wait_until(lambda: id in client.queue(5)[0], 20, "it runs")
    generate(client, seed=16)
    asked = [line for line in comfy.sim.lines() if f"Cancelling running prompt {id}" in line]
    assert 1 <= len(asked) <= 4


# -- what earlier attempts left


def test_a_failure_that_nobody_saw_is_that_of_this_attempt(comfy: Comfy) -> None:
    client, sent = client_of(comfy), new_id()
    payload = {**PAYLOAD, "prompt": "broken"}
    with pytest.raises(WebUIServerError):
        client.generate_images(TXT2IMG.name, payload, prompt=PromptToSend(sent))
    before = comfy.sim.stats()["posts"]
    again = PromptToSend(new_id(), (SentPrompt(sent, is_open=True),))
    with pytest.raises(WebUIServerError):
        client.generate_images(TXT2IMG.name, payload, prompt=again)
    assert comfy.sim.stats()["posts"] == before


def test_the_files_of_a_forgotten_prompt_are_taken_only_if_all_are_whole(
    comfy: Comfy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client, sent = client_of(comfy), new_id()
    fields = {"batch_size": 2}
    first = generate(client, PromptToSend(sent), **fields)
    comfy.post("history", {"delete": [sent]})
    before = comfy.sim.stats()["posts"]
    again = generate(client, PromptToSend(new_id(), (SentPrompt(sent),)), **fields)
    assert (again.images, again.info["seed"]) == (first.images, 3)
    assert "took the result of an earlier attempt" in caplog.text
    assert comfy.sim.stats()["posts"] == before

    last = sorted((comfy.base / "output" / folder_of(sent)).iterdir())[-1]
    last.write_bytes(last.read_bytes()[:-40])
    generate(client, PromptToSend(new_id(), (SentPrompt(sent),)), **fields)
    assert comfy.sim.stats()["posts"] == before + 1
    assert "sent; earlier attempts have no result" in caplog.text


def test_a_file_of_another_prompt_is_an_answer_from_the_cache() -> None:
    class Files:
        version = ""

        def all_here(self) -> None:
            return

        def known_classes(self) -> NodeClasses:
            return {}

        def file(self, named: OutputFile) -> bytes:
            del named
            return picture()

        def template_for(self, stage: str, payload: Mapping[str, Any]) -> None:
            """None is used."""

    workflow = workflow_of({"1": empty(), "9": saved("1")})
    for folder, cached, fits in (
        (folder_of("mine"), None, True),
        (f"{folder_of('mine')}/deeper", None, True),
        (folder_of("old"), None, False),
        ("", None, False),
        ("", frozenset({"1", "9"}), False),
        ("", frozenset({"1"}), True),  # a custom node that chooses its folder, and has run
    ):
        files = {"9": (OutputFile("x_00001_.png", folder, "output"),)}
        result = PromptResult(PromptEnd.SUCCESS, workflow, files, cached=cached)
        if fits:
            assert reply_from(Files(), TXT2IMG.name, PAYLOAD, "mine", result).images
            continue
        with pytest.raises(WebUIReplyError, match="cache"):
            reply_from(Files(), TXT2IMG.name, PAYLOAD, "mine", result)


class Saved:
    """A ComfyUI that has these files."""

    version = ""

    def __init__(self, **files: bytes | None) -> None:
        self._files = files

    def all_here(self) -> None:
        return

    def known_classes(self) -> NodeClasses:
        return {}

    def file(self, named: OutputFile) -> bytes | None:
        return self._files[named.filename.rpartition(".")[2]]

    def template_for(self, stage: str, payload: Mapping[str, Any]) -> None:
        """None is used."""


def result_with(*names: str, type: str = "output") -> PromptResult:
    files = tuple(OutputFile(name, folder_of("mine"), type) for name in names)
    return PromptResult(PromptEnd.SUCCESS, None, {"9": files})


@pytest.mark.parametrize(
    ("data", "why"),
    [(comfyui_media.flac(0.5, 8000, 2)[:-9], "is cut off"), (None, "is gone"), (b"", "is empty")],
)
def test_a_file_that_is_not_whole_is_no_success(data: bytes | None, why: str) -> None:
    files = Saved(png=picture(), flac=data)
    with pytest.raises(WebUIReplyError, match=why) as raised:
        reply_from(files, TXT2IMG.name, PAYLOAD, "mine", result_with("a.png", "a.flac"))
    assert raised.value.kind == BadReply.NO_FILE


def test_a_file_is_what_its_content_is() -> None:
    """A page of a proxy under a picture's name is no picture; a sound under another name is one."""
    sound = comfyui_media.flac(0.5, 8000, 2)
    files = Saved(png=picture(), mp4=sound)
    made = reply_from(files, TXT2IMG.name, PAYLOAD, "mine", result_with("a.png", "a.mp4"))
    assert [file.ending for file in made.files] == ["flac"]
    page = Saved(mp4=b"<html>")
    with pytest.raises(WebUIReplyError, match="its start is missing"):
        reply_from(page, TXT2IMG.name, PAYLOAD, "mine", result_with("a.mp4"))
    with pytest.raises(WebUIReplyError, match="does not decode"):
        reply_from(Saved(png=b"<html>"), TXT2IMG.name, PAYLOAD, "mine", result_with("a.png"))


def test_previews_count_only_where_nothing_was_saved() -> None:
    files = Saved(png=picture(), jpg=picture())
    saved, shown = result_with("a.png").files["9"], result_with("b.jpg", type="temp").files["9"]
    both = PromptResult(PromptEnd.SUCCESS, None, {"8": shown, "9": saved})
    assert len(reply_from(files, TXT2IMG.name, PAYLOAD, "mine", both).images) == 1
    only = PromptResult(PromptEnd.SUCCESS, None, {"8": shown})
    assert len(reply_from(files, TXT2IMG.name, PAYLOAD, "mine", only).images) == 1


def test_a_mask_may_be_of_one_colour_and_nothing_else() -> None:
    black = io.BytesIO()
    Image.new("RGB", (64, 64)).save(black, "PNG")
    files = Saved(png=black.getvalue())
    for kind, is_found in (("MaskToImage", False), ("VAEDecode", True)):
        made = workflow_of({"1": node(kind, mask=["2", 0]), "9": saved("1")})
        result = replace(result_with("a.png"), workflow=made)
        reply = reply_from(files, TXT2IMG.name, PAYLOAD, "mine", result)
        assert reply.one_colour == (is_found,)


def test_a_text_that_a_node_shows_is_a_file() -> None:
    result = PromptResult(PromptEnd.SUCCESS, None, texts={"3": ("an owl, 4k",)})
    (file,) = reply_from(Saved(), TXT2IMG.name, PAYLOAD, "mine", result).files
    assert (file.data, file.ending) == (b"an owl, 4k", "txt")


def test_the_log_names_no_route_that_was_not_asked_and_the_attempt_that_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who is down may be of any kind."""
    client = SDWebUIClient("http://127.0.0.1:9")
    with pytest.raises(WebUIUnreachableError) as error:
        client.progress(5)
    assert "refused (http://127.0.0.1:9: " in str(error.value)
    with bound(attempt=2), pytest.raises(WebUIUnreachableError):
        ComfyUIClient("http://127.0.0.1:9").generate_images(TXT2IMG.name, PAYLOAD)
    assert "attempt=2" in caplog.text
