"""What a proof sends, one after the other, and what it concludes."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from PIL import Image

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUIBusyError,
    WebUIError,
    WebUINotUsableError,
    WebUIServerError,
)
from sdwatch.known_signatures import builtin_signatures
from sdwatch.lane.self_test import SelfTest, SelfTestSettings
from sdwatch.policy.failure.diagnosis import Diagnosis, SizeTest
from sdwatch.policy.failure.facts import FailureKey
from sdwatch.policy.lane.events import SelfTestEnd
from sdwatch.policy.lane.knowledge import Knowledge
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.policy.workflow.workflow import workflow_of
from sdwatch.policy.workflow.workflow_call import WorkflowCall
from sdwatch.webui.http.call import wanted_of
from sdwatch.webui.http.call_watch import CallWatch
from sdwatch.webui.http.canary import Canary, SelfTestFailure
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.reply import Reply
from sdwatch.webui.log.call_log import CallLog
from tests.support.fakes import on_a_thread, picture, reply
from tests.support.helpers import FakeClock
from tests.webui.comfy import node

KEY_ERROR = FailureKey(Diagnosis.SERVER_ERROR, said=("KeyError", "'x'"))
GOOD = {"prompt": "a purple hippopotamus", "width": 640, "height": 320, "steps": 9}

Answers = Callable[[Mapping[str, Any]], WebUIError | None]


class Answering:
    """A WebUI's client whose generations come out, or raise what `refuses` gives."""

    def __init__(self, refuses: Answers) -> None:
        self.sent: list[Mapping[str, Any]] = []
        self.picture: Callable[[Mapping[str, Any]], bytes] = lambda _: picture(len(self.sent))
        self.abandon: Callable[[], None] = lambda: None
        self.one_colour = False  # of its workflows
        self._refuses = refuses

    def generate_images(self, stage: str, payload: Mapping[str, Any], *_: Any, **__: Any) -> Reply:
        del stage
        self.sent.append(payload)
        if (error := self._refuses(payload)) is not None:
            raise error
        made = reply(self.picture(payload))
        is_own = self.one_colour and "own_workflow" in payload
        return replace(made, one_colour=(True,)) if is_own else made


def plain_black(payload: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (payload["width"], payload["height"])).save(buffer, "PNG")
    return buffer.getvalue()


class NeverDue:
    is_due = False

    def __init__(self) -> None:
        self.log = CallLog((), FakeClock())


@dataclass
class Subject:
    """A self-test, with what the lane knows of its WebUI."""

    test: SelfTest
    knowledge: Knowledge = field(default_factory=Knowledge)

    def succeeded(self, stage: str, payload: Mapping[str, Any]) -> None:
        self.knowledge = self.knowledge.succeeded(wanted_of(stage, payload))

    def why_it_failed(self, why_over: Callable[[], str]) -> SelfTestFailure | None:
        failure, refused = self.test.why_it_failed(self.knowledge.good, why_over)
        if refused:
            self.knowledge = self.knowledge.forget_refused()
        return failure

    def size_test(
        self, stage: str, payload: Mapping[str, Any], why_over: Callable[[], str]
    ) -> SizeTest:
        return self.test.size_test(stage, payload, why_over, largest=self.knowledge.largest)


def self_test(
    client: Answering,
    good: bool = True,
    *,
    clock: FakeClock | None = None,
    one_colour_fails: bool = True,
    **more: Any,
) -> Subject:
    canary = Canary(
        cast(SDWebUIClient, client),
        may_interrupt=False,
        post=on_a_thread,
        one_colour_fails=one_colour_fails,
    )
    test = SelfTest(
        canary,
        lambda _: cast(CallWatch, NeverDue()),
        Redactor(),
        SelfTestSettings(builtin_signatures(), **more),
        clock or FakeClock(),
    )
    made = Subject(test)
    if good:
        made.succeeded("txt2img", GOOD)
    return made


def is_large(payload: Mapping[str, Any]) -> bool:
    return bool(payload["width"] == 640)


def names_one(payload: Mapping[str, Any]) -> bool:
    return "override_settings" in payload


def sizes(client: Answering) -> list[tuple[int, int, int]]:
    return [(p["width"], p["height"], p["steps"]) for p in client.sent]


def test_after_the_canary_comes_a_plain_picture_of_the_last_good_calls_size() -> None:
    client = Answering(lambda _: None)
    assert self_test(client).why_it_failed(lambda: "") is None
    assert sizes(client) == [(64, 64, 1), (640, 320, 2)]
    first, second = (payload["prompt"] for payload in client.sent)
    assert first != second, "a prompt that is cached hides a poisoned WebUI"
    assert all("hippopotamus" not in prompt for prompt in (first, second))
    assert not any(names_one(payload) for payload in client.sent)


def test_without_a_good_call_it_has_512_by_512() -> None:
    client = Answering(lambda _: None)
    made = self_test(client, good=False)
    made.succeeded("extra-single-image", {"image": "x", "upscaling_resize": 2})
    assert made.why_it_failed(lambda: "") is None
    assert sizes(client) == [(64, 64, 1), (512, 512, 2)]


CHECKPOINT = {"override_settings": {"sd_model_checkpoint": "sdxl-base"}}


def test_the_plain_picture_has_the_checkpoint_of_the_last_good_call() -> None:
    client = Answering(lambda _: None)
    made = self_test(client, good=False)
    made.succeeded("txt2img", GOOD | CHECKPOINT)
    assert made.why_it_failed(lambda: "") is None
    assert client.sent[1]["override_settings"] == CHECKPOINT["override_settings"]


@pytest.mark.parametrize(
    "refusal",
    [
        WebUIBadRequestError("422", status=422, said="no such checkpoint"),
        WebUIServerError(
            "500", status=500, kind="ValueError", said="Failed to recognize model type!"
        ),
    ],
)
def test_where_that_name_is_refused_by_now_the_loaded_one_decides(refusal: WebUIError) -> None:
    client = Answering(lambda p: refusal if names_one(p) else None)
    made = self_test(client, good=False)
    made.succeeded("txt2img", GOOD | CHECKPOINT)
    assert made.why_it_failed(lambda: "") is None
    assert [names_one(payload) for payload in client.sent] == [False, True, False]
    assert made.why_it_failed(lambda: "") is None
    assert not any(map(names_one, client.sent[3:])), "it is not asked for again"


PROMPT = {
    "5": node("EmptyLatentImage", width=640, height=320, batch_size=4),
    "3": node("KSampler", seed=7, steps=20, latent_image=["5", 0]),
    "9": node("SaveImage", images=["3", 0], filename_prefix="x"),
}


@pytest.mark.parametrize(
    ("refuses", "asked", "passes"),
    [
        (lambda _: None, [64], True),
        (lambda width: WebUIServerError("crop") if width == 64 else None, [64, 640], True),
        (lambda _: WebUIServerError("out of it"), [64, 640], False),
        (lambda _: WebUIBadRequestError("its LoRA is gone"), [64, 640, 512], True),
    ],
)
def test_a_workflow_is_repeated_small_and_then_as_it_was(
    refuses: Callable[[int], WebUIError | None], asked: list[int], passes: bool
) -> None:
    """Nobody knows whether it works any smaller; and what it loads may be gone, which says nothing
    about the WebUI."""

    def width(payload: Mapping[str, Any]) -> int:
        own = payload.get("own_workflow")
        return int(own["nodes"]["5"]["inputs"]["width"] if own else payload["width"])

    client = Answering(lambda p: refuses(width(p)) if "own_workflow" in p else None)
    made = self_test(client, good=False)
    made.succeeded("workflow", WorkflowCall(workflow_of(PROMPT)).as_payload())
    assert (made.why_it_failed(lambda: "") is None) == passes
    assert [width(payload) for payload in client.sent] == [64, *asked]
    small = client.sent[1]["own_workflow"]["nodes"]
    assert small["5"]["inputs"] == {"width": 64, "height": 64, "batch_size": 1}
    assert small["3"]["inputs"]["steps"] == 1
    assert small["3"]["inputs"]["seed"] != 7, "the same would come from the cache"


def test_a_webui_that_makes_nothing_of_that_size_fails_however_often_it_is_tested() -> None:
    dead = WebUIServerError("cannot draw it", status=500)
    client = Answering(lambda p: dead if is_large(p) else None)
    made = self_test(client)
    for _ in range(3):
        self_test_failure = made.why_it_failed(lambda: "")
        assert self_test_failure is not None
        assert self_test_failure.shows is SelfTestEnd.FAILED
        assert self_test_failure.reason.startswith(
            "a plain picture of 640x320 in two steps failed: "
        )


@pytest.mark.parametrize("error", [WebUIBusyError("429"), WebUINotUsableError("403")])
def test_a_busy_webui_neither_passes_nor_fails_the_self_test(error: WebUIError) -> None:
    self_test_failure = self_test(Answering(lambda _: error)).why_it_failed(lambda: "")
    assert self_test_failure is not None
    assert self_test_failure.shows is SelfTestEnd.INCONCLUSIVE


def test_a_webui_that_refuses_the_tiny_picture_is_tested_by_the_plain_one() -> None:
    refused = WebUIBadRequestError("width must be 256 at least")
    small = Answering(lambda p: None if is_large(p) else refused)
    assert self_test(small).why_it_failed(lambda: "") is None
    both = Answering(lambda p: WebUIServerError("dead") if is_large(p) else refused)
    assert self_test(both).why_it_failed(lambda: "") is not None
    assert self_test(Answering(lambda _: refused)).why_it_failed(lambda: "") is None


def test_a_person_says_that_it_is_healthy_and_512_by_512_decides_again() -> None:
    client = Answering(lambda p: WebUIServerError("dead") if is_large(p) else None)
    made = self_test(client)
    assert made.why_it_failed(lambda: "") is not None
    made.knowledge = Knowledge()
    assert made.why_it_failed(lambda: "") is None


@pytest.mark.parametrize("one_colour_fails", [True, False])
def test_a_repeated_workflow_may_show_one_colour_where_a_jobs_call_may(
    one_colour_fails: bool,
) -> None:
    """With `checks: {one_colour: warn}` a workflow that makes masks is good."""
    client = Answering(lambda _: None)
    made = self_test(client, good=False, one_colour_fails=one_colour_fails)
    made.succeeded("workflow", WorkflowCall(workflow_of(PROMPT)).as_payload())
    client.one_colour = True
    failed = made.why_it_failed(lambda: "")
    assert (failed is None) is not one_colour_fails


def test_a_plain_picture_of_one_colour_fails_it() -> None:
    client = Answering(lambda _: None)
    client.picture = lambda payload: plain_black(payload) if is_large(payload) else picture(1)
    self_test_failure = self_test(client).why_it_failed(lambda: "")
    assert self_test_failure is not None
    assert "one colour" in self_test_failure.reason


def test_the_self_test_fails_when_its_limit_is_passed() -> None:
    clock, over = FakeClock(), threading.Event()

    def hangs(payload: Mapping[str, Any]) -> None:
        if is_large(payload):
            clock.advance(31)
            over.wait(20)

    client = Answering(hangs)
    client.abandon = over.set
    self_test_failure = self_test(client, clock=clock, limit=30.0).why_it_failed(lambda: "")
    assert self_test_failure is not None
    assert self_test_failure.shows is SelfTestEnd.FAILED
    assert "within 30 s (`self_test_limit` in the config)" in self_test_failure.reason


# -- the size test


HUGE = {"prompt": "x", "width": 1024, "height": 1024, "batch_size": 2, "enable_hr": True}
OOM = WebUIServerError("500", status=500, said="CUDA out of memory")


def size_test(answers: Answers, largest: Mapping[str, Any] = GOOD) -> tuple[SizeTest, Answering]:
    client = Answering(answers)
    made = self_test(client, good=False)
    made.succeeded("txt2img", largest)
    return made.size_test("txt2img", HUGE, lambda: ""), client


def test_the_picture_for_advice_is_as_large_as_the_call_after_hires_and_batch() -> None:
    said, client = size_test(lambda _: None)
    assert said is SizeTest.PASSED
    (asked,) = client.sent
    assert (asked["width"], asked["height"], asked["batch_size"]) == (2048, 2048, 2)
    assert asked["steps"] == 2
    assert "enable_hr" not in asked


def test_the_advice_depends_on_earlier_successes() -> None:
    assert size_test(lambda _: OOM)[0] is SizeTest.FAILED
    assert size_test(lambda _: OOM, HUGE)[0] is SizeTest.PASSED_BEFORE
    assert size_test(lambda _: WebUIBusyError("429"))[0] is SizeTest.NOT_RUN
    assert size_test(lambda _: WebUIBadRequestError("422", status=422))[0] is SizeTest.NOT_RUN
    upscale = self_test(Answering(lambda _: OOM)).size_test("extra-single-image", {}, lambda: "")
    assert upscale is SizeTest.NOT_RUN, "its size is not in its payload"


# -- what is known of other jobs


def test_a_known_failure_counts_only_where_the_self_test_is_as_large_as_the_call() -> None:
    known = Knowledge()
    for job in "ab":
        known = known.trace(job, f"run-{job}", KEY_ERROR, died=False)
    small, large = {"width": 512, "height": 512}, {"width": 512, "height": 768}

    def is_a_jobs_own(stage: str, payload: Mapping[str, Any]) -> bool:
        return known.is_a_jobs_own(KEY_ERROR, wanted_of(stage, payload))

    assert is_a_jobs_own("txt2img", small)
    assert not is_a_jobs_own("txt2img", large)
    assert not is_a_jobs_own("txt2img", small | {"enable_hr": True})
    assert not is_a_jobs_own("txt2img", small | {"batch_size": 2})
    assert not is_a_jobs_own("extra-single-image", {})
    known = known.succeeded(wanted_of("txt2img", large))
    assert is_a_jobs_own("txt2img", large)
