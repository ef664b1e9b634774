"""The canary: the smallest generation, which shows whether a WebUI is healthy.

Its prompt is new each time: AUTOMATIC1111 with a failed checkpoint still generates what it has
cached, and nothing else (measured with AUTOMATIC1111 v1.10.1). A plain two-step picture with the
size of the last good call follows, and shows what a tiny picture does not.
"""

from __future__ import annotations

import queue
import random
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUIBusyError,
    WebUIError,
    WebUINotUsableError,
    WebUIReplyError,
)
from sdwatch.policy.failure.hold_reason import HoldCode, HoldKey, HoldReason
from sdwatch.policy.job.calls.payload import MAX_SEED
from sdwatch.policy.job.outputs.picture import (
    NoPictureError,
    PictureData,
    check_whole,
    is_one_colour,
)
from sdwatch.policy.job.stage.stage_kinds import TXT2IMG, WORKFLOW_STAGE
from sdwatch.policy.lane.events import SelfTestEnd
from sdwatch.policy.lane.knowledge import Size
from sdwatch.webui.http.call import Sent, result_of
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.found import FoundClient
from sdwatch.webui.http.reply import Reply

SIDE = 64  # pixels

PROMPT = "sdwatch canary"


def payload() -> dict[str, Any]:
    """Return a one-step txt2img payload that differs from all others before."""
    return {
        "prompt": f"{PROMPT} {secrets.token_hex(6)}",
        "width": SIDE,
        "height": SIDE,
        "steps": 1,
        "seed": random.randint(0, MAX_SEED),
        "send_images": True,
        "save_images": False,
    }


PLAIN_STEPS = 2


def plain(size: Size, checkpoint: str = "") -> SelfTestCall:
    """Return a plain two-step picture of that size. `checkpoint`: '' for the loaded one."""
    named = {"override_settings": {"sd_model_checkpoint": checkpoint}} if checkpoint else {}
    asked = {
        **payload(),
        "width": size.width,
        "height": size.height,
        "batch_size": size.batch,
        "steps": PLAIN_STEPS,
        **named,
    }
    return SelfTestCall(TXT2IMG.name, asked, f"a plain picture of {size} in two steps", False)


def repeated(payload: Mapping[str, Any]) -> tuple[SelfTestCall, ...]:
    """Return the workflow of a good call once more: at its smallest, then as it was, since only
    that is known to work. `payload`: of that call."""
    # Only ComfyUI has workflows.
    from sdwatch.policy.workflow.workflow_call import call_in, once_more, smallest

    call, seed = call_in(payload), random.randint(0, MAX_SEED)
    assert call is not None
    return tuple(
        SelfTestCall(WORKFLOW_STAGE, {**payload, **made.as_payload()}, what, False)
        for made, what in (
            (smallest(call, seed), "the last good workflow at its smallest"),
            (once_more(call, seed), "the last good workflow"),
        )
    )


class Flaw(StrEnum):
    """What is wrong with a generated picture. The value is for people, after `came out`."""

    NONE = ""
    ONE_COLOUR = "in one colour"
    SIZE = f"in another size than {SIDE}x{SIDE}"
    NO_PICTURE = "as a file that is not a picture"


_KINDS = {Flaw.ONE_COLOUR: "one_colour", Flaw.SIZE: "size", Flaw.NO_PICTURE: "size"}
"""The same finding in the reply of a job's call, see policy/failure/reply_checks.py."""


def flaw_in(image: PictureData, *, is_tiny: bool = True, is_plain: bool = False) -> Flaw:
    """Return what is wrong with a picture. Only the tiny one's size is checked: some models need
    multiples of their own. `is_plain`: it was asked for in one colour."""
    try:
        if check_whole(image) != (SIDE, SIDE) and is_tiny:
            return Flaw.SIZE
        return Flaw.ONE_COLOUR if not is_plain and is_one_colour(image) else Flaw.NONE
    except NoPictureError:  # its checksums may be right all the same
        return Flaw.NO_PICTURE


@dataclass(frozen=True)
class SelfTestCall:
    """One generation of a self-test: what is sent, and what messages call it."""

    stage: str
    payload: Mapping[str, Any]
    what: str
    is_tiny: bool


@dataclass(frozen=True)
class SelfTestFailure:
    """Why a self-test failed.

    `error`: the error of the call, unless it was given up. `hold_reason`: the explained failure,
    for people. `given_up`: why it was not waited for, for people.
    """

    reason: str
    shows: SelfTestEnd = SelfTestEnd.FAILED
    error: WebUIError | None = None
    hold_reason: HoldReason | None = None
    given_up: str = field(default="", compare=False)

    @property
    def as_hold_reason(self) -> HoldReason:
        """Return the hold reason, as far as it is known."""
        return self.hold_reason or HoldReason(self.reason, key=HoldKey(HoldCode.FAILED_SELF_TEST))


Post: TypeAlias = Callable[[Sent, Callable[[], None]], None]
"""Has a POST sent on another thread: what it is, and what sends it."""


class Canary:
    """Makes the generations of a self-test on `client`; `post` has them sent. `may_interrupt`: the
    WebUI is managed, so no picture of others runs on it. `one_colour_fails`: a picture in one
    colour fails a job's call, so that a workflow that has worked does not make one."""

    def __init__(
        self,
        client: SDWebUIClient | FoundClient,
        *,
        may_interrupt: bool,
        post: Post,
        one_colour_fails: bool = True,
    ) -> None:
        self._client = client
        self._may_interrupt = may_interrupt
        self._post = post
        self._one_colour_fails = one_colour_fails

    def ask(self, asked: SelfTestCall, why_not_wait: Callable[[], str]) -> SelfTestFailure | None:
        """Return why it failed, or None. `why_not_wait`: returns why not to wait any longer, or '';
        called repeatedly."""
        sent, results = Sent(0), queue.SimpleQueue[Reply | WebUIError]()

        def generate() -> Reply:
            return self._client.generate_images(
                asked.stage, asked.payload, lambda: sent.given_up, canary=True
            )

        def send() -> None:
            sent.is_under_way = True
            results.put(result_of(generate, "canary"))
            sent.is_under_way = False

        self._post(sent, send)
        while True:
            # Asked so often while a self-test lasts, since nobody announces all that may end it.
            with suppress(queue.Empty):
                result = results.get(timeout=_CHECK_INTERVAL_S)
                return _failure(asked, result, one_colour_fails=self._one_colour_fails)
            if reason := why_not_wait():
                sent.given_up = True
                if self._may_interrupt:
                    self._client.interrupt()
                self._client.abandon()
                return SelfTestFailure(f"{asked.what}: {reason}", given_up=reason)


_CHECK_INTERVAL_S = 0.05  # seconds

_BY_ERROR: tuple[tuple[type[WebUIError], SelfTestEnd], ...] = (
    (WebUIBusyError, SelfTestEnd.INCONCLUSIVE),
    (WebUINotUsableError, SelfTestEnd.INCONCLUSIVE),
    (WebUIBadRequestError, SelfTestEnd.REFUSED),
)


def _failure(
    asked: SelfTestCall, result: Reply | WebUIError, *, one_colour_fails: bool
) -> SelfTestFailure | None:
    """Return why the result is a failure, or None."""
    if isinstance(result, WebUIError):
        by = next((by for kind, by in _BY_ERROR if isinstance(result, kind)), SelfTestEnd.FAILED)
        return SelfTestFailure(f"{asked.what} failed: {result}", by, result)
    if asked.stage == WORKFLOW_STAGE:  # whatever its sizes are; it may make no picture
        is_flawed = one_colour_fails and result.one_colour and all(result.one_colour)
        flaw = Flaw.ONE_COLOUR if is_flawed else Flaw.NONE
    else:
        flaw = flaw_in(result.images[0], is_tiny=asked.is_tiny, is_plain=result.is_plain)
    if flaw is Flaw.NONE:
        return None
    error = WebUIReplyError(f"it came out {flaw}", status=200, kind=_KINDS[flaw])
    return SelfTestFailure(f"{asked.what} came out {flaw}", error=error)
