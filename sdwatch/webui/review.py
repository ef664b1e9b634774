"""The look at a reply that came with 200: is it what was asked for? See policy/success.py.

The pictures were looked through when the reply came (reply.py), so their sizes are known; whether
one is all of one colour is decoded here, once, and only where its file is small enough for that.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUIError,
    WebUIInterruptedError,
    WebUINotUsableError,
    WebUIReplyError,
    WebUIServerError,
)
from sdwatch.policy.picture import NoPictureError, is_one_colour, may_be_one_colour, size_of
from sdwatch.policy.success import (
    LEVELS,
    LISTS,
    Finding,
    Level,
    Made,
    Picture,
    broke_inside,
    findings,
    unknown_name,
)
from sdwatch.webui.reply import NO_IMAGE, NO_PICTURE, Reply

QUESTION_TIMEOUT = 2.0
"""Seconds for a question after a reply: the permit is held meanwhile."""


class Asked(Protocol):
    """What is asked of a WebUI about its last generation. See SDWebUIClient."""

    def progress(self, timeout: float) -> dict[str, Any]: ...
    def listed(self, name: str, timeout: float) -> list[Any]: ...


class Review:
    """Looks at replies. `levels`: what each kind of finding is; `client`: who can be asked more,
    None for nobody; `log`: the WebUI's lines since the call was sent."""

    def __init__(
        self,
        levels: Mapping[str, Level] = LEVELS,
        client: Asked | None = None,
        log: Callable[[], tuple[str, ...]] = lambda: (),
    ) -> None:
        self._levels = levels
        self._client = client
        self._log = log
        self._has_progress = client is not None

    def look(self, stage: str, payload: Mapping[str, Any], reply: Reply) -> tuple[Finding, ...]:
        """What a person should know of a reply that is a success all the same. Raises WebUIError
        for one that is not: WebUIInterruptedError, WebUIBadRequestError where it is because of a
        name that this WebUI does not know, else WebUIReplyError."""
        made = Made(
            pictures=_pictures(stage, reply),
            info=reply.info,
            given=lambda: _given(stage, payload),
            interrupted=self._how_interrupted() if self._asks("interrupted") else "",
            log=self._log() if self._asks("fallback") else (),
        )
        found = findings(stage, payload, made)
        failing = [finding for finding in found if self._level(finding) == "fail"]
        if failing:
            raise self._error(stage, failing)
        return tuple(finding for finding in found if self._level(finding) == "warn")

    def explain(self, error: WebUIReplyError) -> WebUIError:
        """What a 200 without an image is. SD.Next answers so to a skip, and to an exception, after
        which it says `interrupted`; which of them it was, its log alone tells."""
        if error.kind != NO_IMAGE:
            return error
        log = self._log()
        if broke := broke_inside(log):
            words = f"the WebUI answered 200 without an image: {broke}"
            kind, _, said = broke.partition(": ")
            if not kind.replace(".", "_").isidentifier():
                kind, said = "", broke
            return WebUIServerError(words, stage=error.stage, status=200, kind=kind, said=said)
        how = self._how_interrupted()
        if how == "Skip" or (how and log):
            words = f"somebody pressed {how} in the WebUI: there is no image"
            return WebUIInterruptedError(words, stage=error.stage, status=200)
        return error

    def _level(self, finding: Finding) -> Level:
        return self._levels.get(finding.kind, "fail")

    def _asks(self, kind: str) -> bool:
        return self._levels.get(kind) != "off"

    def _error(self, stage: str, failing: list[Finding]) -> WebUIError:
        first = failing[0]
        if first.kind == "interrupted":
            return WebUIInterruptedError(first.words, stage=stage, status=200)
        for finding in failing:
            if why := self._no_restart_helps(finding):
                words = f"the WebUI answered 200: {finding.words}{why}"
                return WebUIBadRequestError(words, stage=stage, status=200)
        said = "; ".join(finding.words for finding in failing)
        words = f"the WebUI answered 200, but {said}"
        return WebUIReplyError(words, stage=stage, status=200, kind=first.kind)

    def _no_restart_helps(self, finding: Finding) -> str:
        """That a name in the job is at fault, in words; '' where it is not, or nobody can tell."""
        if finding.kind not in LISTS:
            return "; name one" if finding.name else ""
        if self._client is None:
            return ""
        try:
            listed = self._client.listed(LISTS[finding.kind], QUESTION_TIMEOUT)
        except WebUIError:
            return ""
        return unknown_name(finding, listed)

    def _how_interrupted(self) -> str:
        """Which button somebody pressed, or ''. Our own interrupts end calls whose reply nobody
        waits for; the flags are cleared when the next generation begins (measured)."""
        if self._client is None or not self._has_progress:
            return ""
        try:
            state = self._client.progress(QUESTION_TIMEOUT).get("state")
        except WebUINotUsableError:  # stable-diffusion.cpp has no such route
            self._has_progress = False
            return ""
        except WebUIError:  # a question that fails must not fail a good call
            return ""
        if not isinstance(state, dict):
            return ""
        if state.get("interrupted") is True:
            return "Interrupt"
        return "Skip" if state.get("skipped") is True else ""


def _pictures(stage: str, reply: Reply) -> list[Picture]:
    """What is known of each picture but the grids. Raises WebUIReplyError for one that does not
    decode although its checksums are right."""
    try:
        sizes = reply.sizes or tuple(size_of(io.BytesIO(image)) for image in reply.images)
        seen = reply.one_colour or (None,) * len(reply.images)
        known = list(zip(reply.images, sizes, seen, strict=True))[reply.first_image :]
        return [_picture(image, size, colour) for image, size, colour in known]
    except NoPictureError as error:
        said = f"an image of the reply does not decode: it {error}"
        raise WebUIReplyError(said, stage=stage, status=200, kind=NO_PICTURE) from error


def _picture(data: bytes, size: tuple[int, int], one_colour: bool | None = None) -> Picture:
    if one_colour is not None:
        return Picture(size, one_colour)
    return Picture(size, may_be_one_colour(data, size) and is_one_colour(data))


def _given(stage: str, payload: Mapping[str, Any]) -> Picture | None:
    """The picture that a call was made from, where there is one that can be read."""
    images = payload.get("init_images") or [payload.get("image")]
    first = images[0] if isinstance(images, list | tuple) else None
    if stage == "txt2img" or not isinstance(first, str):
        return None
    try:
        data = base64.b64decode(first.partition(",")[2] if first[:5] == "data:" else first)
        return _picture(data, size_of(io.BytesIO(data)))
    except (ValueError, NoPictureError):
        return None
