"""What a proof sends, one after the other, and what it concludes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUIBusyError,
    WebUIError,
    WebUINotUsableError,
    WebUIServerError,
)
from sdwatch.policy.redaction import Redactor
from sdwatch.proof import Proof
from sdwatch.webui.call_log import CallLog
from sdwatch.webui.call_watch import CallWatch
from sdwatch.webui.canary import By, Canary
from sdwatch.webui.client import SDWebUIClient
from sdwatch.webui.reply import Reply
from tests.fakes import picture, reply
from tests.helpers import FakeClock

GOOD = {"prompt": "a purple hippopotamus", "width": 640, "height": 320, "steps": 9}

Answers = Callable[[Mapping[str, Any]], WebUIError | None]


class Answering:
    """A WebUI's client whose generations come out, or raise what `refuses` gives."""

    def __init__(self, refuses: Answers) -> None:
        self.sent: list[Mapping[str, Any]] = []
        self._refuses = refuses

    def generate_images(self, stage: str, payload: Mapping[str, Any], *_: Any, **__: Any) -> Reply:
        del stage
        self.sent.append(payload)
        if (error := self._refuses(payload)) is not None:
            raise error
        return reply(picture(len(self.sent)))


class NeverDue:
    is_due = False

    def __init__(self) -> None:
        self.log = CallLog((), FakeClock())


def proof(client: Answering, good: bool = True) -> Proof:
    canary = Canary(cast(SDWebUIClient, client), may_interrupt=False)
    made = Proof(canary, lambda _: cast(CallWatch, NeverDue()), Redactor())
    if good:
        made.succeeded("txt2img", GOOD, 1.0)
    return made


def is_large(payload: Mapping[str, Any]) -> bool:
    return bool(payload["width"] == 640)


def test_a_call_that_came_out_is_made_once_more() -> None:
    client = Answering(lambda _: None)
    assert proof(client).why_unwell(lambda: "") is None
    assert [p["width"] for p in client.sent] == [64, 640]
    assert client.sent[1] == GOOD


def test_one_that_took_long_is_not() -> None:
    client = Answering(lambda _: None)
    made = proof(client, good=False)
    made.succeeded("txt2img", GOOD, 61.0)
    assert made.why_unwell(lambda: "") is None
    assert len(client.sent) == 1


def test_what_only_that_call_needed_says_nothing_of_the_webui() -> None:
    client = Answering(lambda p: WebUIServerError("no LoRA") if p is GOOD else None)
    made = proof(client)
    assert made.why_unwell(lambda: "") is None
    plain = client.sent[2]
    assert (plain["width"], plain["height"], plain["steps"]) == (640, 320, 9)
    assert plain["prompt"].startswith("sdwatch canary")
    assert made.why_unwell(lambda: "") is None
    assert len(client.sent) == 3 + 1, "it is not repeated any more"


def test_a_webui_that_draws_nothing_of_that_size_is_unwell_however_often_it_is_asked() -> None:
    dead = WebUIServerError("cannot draw a purple hippopotamus")
    client = Answering(lambda p: dead if is_large(p) else None)
    made = proof(client)
    for _ in range(3):
        unwell = made.why_unwell(lambda: "")
        assert unwell is not None
        assert unwell.by is By.FAILED
        assert unwell.reason.startswith("a repeat of the last good call failed: ")
        assert "hippopotamus" not in unwell.reason


@pytest.mark.parametrize("error", [WebUIBusyError("429"), WebUINotUsableError("403")])
def test_one_that_has_no_time_is_neither(error: WebUIError) -> None:
    unwell = proof(Answering(lambda _: error)).why_unwell(lambda: "")
    assert unwell is not None
    assert unwell.by is By.NO_TIME


def test_one_that_refuses_so_small_a_picture_is_judged_by_the_other() -> None:
    refused = WebUIBadRequestError("width must be 256 at least")
    small = Answering(lambda p: None if is_large(p) else refused)
    assert proof(small).why_unwell(lambda: "") is None
    both = Answering(lambda p: WebUIServerError("dead") if is_large(p) else refused)
    assert proof(both).why_unwell(lambda: "") is not None
    assert proof(Answering(lambda _: refused), good=False).why_unwell(lambda: "") is None


def test_a_person_says_that_it_is_well() -> None:
    client = Answering(lambda p: WebUIServerError("dead") if is_large(p) else None)
    made = proof(client)
    assert made.why_unwell(lambda: "") is not None
    made.begin_anew()
    assert made.why_unwell(lambda: "") is None


def test_what_the_plain_picture_meets_decides() -> None:
    def proof_when(error: WebUIError) -> By | None:
        dead = WebUIServerError("dead")
        client = Answering(lambda p: dead if p is GOOD else error if is_large(p) else None)
        unwell = proof(client).why_unwell(lambda: "")
        return unwell.by if unwell else None

    assert proof_when(WebUIServerError("dead")) is By.FAILED
    assert proof_when(WebUIBusyError("503")) is By.NO_TIME
    assert proof_when(WebUIBadRequestError("404")) is None


def test_an_upscale_that_cannot_be_repeated_has_no_plain_picture_in_its_place() -> None:
    client = Answering(lambda p: WebUIServerError("dead") if "image" in p else None)
    made = proof(client, good=False)
    made.succeeded("extra-single-image", {"image": "x", "upscaling_resize": 2}, 1.0)
    unwell = made.why_unwell(lambda: "")
    assert unwell is not None
    assert unwell.by is By.FAILED
