"""Check whether a reply with status 200 is what was asked for. See policy/failure/reply_checks.py.

The pictures were decoded when the reply came (reply.py), so their sizes are known. Whether one is
of a single colour is decided here, once, and only where its file is small enough for that.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUIError,
    WebUIInterruptedError,
    WebUINotUsableError,
    WebUIReplyError,
    WebUIServerError,
)
from sdwatch.policy.failure.check_levels import LEVELS, Level
from sdwatch.policy.failure.reply_checks import (
    LISTS,
    BadReply,
    Finding,
    Picture,
    ReplyContents,
    findings,
    unknown_name,
)
from sdwatch.policy.job.outputs.picture import (
    NoPictureError,
    PictureData,
    is_one_colour,
    may_be_one_colour,
    opened,
    size_of,
)
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.webui.http.reply import Reply

_EMPTY = "without an image"

QUESTION_TIMEOUT = 2.0
"""Seconds for a question after a reply, while the call has the WebUI."""


class Answering(Protocol):
    """Questions to a WebUI about its last generation. See SDWebUIClient."""

    def progress(self, timeout: float) -> dict[str, Any]: ...
    def listed(self, name: str, timeout: float) -> list[Any]: ...


class Button(StrEnum):
    """The button of the WebUI's page by which somebody ended a generation."""

    INTERRUPT = "Interrupt"
    SKIP = "Skip"


@dataclass(frozen=True)
class _Interruption:
    """How a generation ended. `button`: which one somebody pressed. `known`: the WebUI answered, or
    cannot be asked at all."""

    button: Button | None = None
    known: bool = True

    @property
    def by_interrupt(self) -> bool:
        """Return whether it was interrupted; SD.Next also says so of an exception."""
        return self.button is Button.INTERRUPT


class ReplyChecks:
    """The checks of a reply. `levels`: the level of each kind of finding. `client`: who can be
    asked more, or None. `log`: returns the WebUI's lines since the call was sent."""

    def __init__(
        self,
        levels: Mapping[str, Level] = LEVELS,
        client: Answering | None = None,
        log: Callable[[], tuple[str, ...]] = lambda: (),
    ) -> None:
        self._levels = levels
        self._client = client
        self._log = log
        self._has_progress = client is not None

    def check(self, stage: str, payload: Mapping[str, Any], reply: Reply) -> tuple[Finding, ...]:
        """Return what a person should know of a reply that is a success all the same.

        Raises WebUIError for one that is not: WebUIInterruptedError; WebUIBadRequestError where
        this WebUI does not know a name in the job; WebUIServerError where its log has an exception;
        else WebUIReplyError.
        """
        ended = self._interruption()
        if ended.by_interrupt or not ended.known:
            self._refuse_broken(stage, "with a picture that is not finished")
        made = ReplyContents(
            pictures=_pictures(stage, reply),
            info=reply.info,
            given=lambda: _given(stage, payload),
            interrupted=(ended.button or "") if self._asks("interrupted") else "",
            log=self._log() if self._asks("fallback") or self._asks("extension") else (),
        )
        found = findings(stage, payload, made)
        failing = [finding for finding in found if self._level(finding) == "fail"]
        if failing:
            if ended.known and not ended.button:
                self._refuse_broken(stage, "with other pictures than were asked for")
            raise self._error(stage, failing)
        return tuple(finding for finding in found if self._level(finding) == "warn")

    def explain(self, error: WebUIReplyError) -> WebUIError:
        """Return what a 200 without an image means. SD.Next answers so to a skip and to an
        exception, and calls some exceptions `interrupted`; only its log distinguishes them."""
        if error.kind != BadReply.NO_IMAGE:
            return error
        log = self._log()
        if (broken := broken_inside(error.stage, log, _EMPTY)) is not None:
            return broken
        how = self._interruption().button
        if how is Button.SKIP or (how and log):
            words = f"somebody pressed {how} in the WebUI: there is no image"
            return WebUIInterruptedError(words, stage=error.stage, status=200)
        from sdwatch.policy.failure.sdnext_exceptions import asserted

        if said := asserted(log):
            words = f"the WebUI answered 200 {_EMPTY}: {said}"
            return WebUIServerError(words, stage=error.stage, status=200, said=said)
        return error

    def _refuse_broken(self, stage: str, came: str) -> None:
        """Raise WebUIServerError if the log has an exception of the generation. SD.Next calls that
        `interrupted`, too, although nobody pressed a button."""
        if (broken := broken_inside(stage, self._log(), came)) is not None:
            raise broken

    def _level(self, finding: Finding) -> Level:
        level = self._levels.get(finding.kind, "fail")
        return "warn" if finding.of_start and level == "fail" else level

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
        error = WebUIReplyError(words, stage=stage, status=200, kind=first.kind)
        error.facts = tuple(part for finding in failing for part in finding.key)
        return error

    def _no_restart_helps(self, finding: Finding) -> str:
        """Return why a name in the job is at fault, for people; '' where it is not, or that is
        unknown."""
        if finding.kind not in LISTS:
            return "; name one" if finding.name else ""
        if self._client is None:
            return ""
        try:
            listed = self._client.listed(LISTS[finding.kind], QUESTION_TIMEOUT)
        except WebUIError:
            return ""
        return unknown_name(finding, listed)

    def _interruption(self) -> _Interruption:
        """Return how the WebUI says that its last generation ended. Our own interrupts end calls
        whose reply nobody waits for; the flags are cleared when the next generation starts
        (measured)."""
        if self._client is None or not self._has_progress:
            return _Interruption()
        try:
            state = self._client.progress(QUESTION_TIMEOUT).get("state")
        except WebUINotUsableError:  # stable-diffusion.cpp has no such route
            self._has_progress = False
            return _Interruption()
        except WebUIError:  # a question that fails must not fail a good call
            return _Interruption(known=False)
        if not isinstance(state, dict):
            return _Interruption()
        if state.get("interrupted") is True:
            return _Interruption(Button.INTERRUPT)
        return _Interruption(Button.SKIP if state.get("skipped") is True else None)


def broken_inside(stage: str, log: tuple[str, ...], came: str) -> WebUIServerError | None:
    """Return the exception in a call's log that its reply does not mention, or None. `came`: with
    what the reply came, for people."""
    from sdwatch.policy.failure.sdnext_exceptions import logged_exception  # as it writes them

    if (logged := logged_exception(log)) is None:
        return None
    words = f"the WebUI answered 200 {came}: {logged.words}"
    return WebUIServerError(words, stage=stage, status=200, kind=logged.kind, said=logged.said)


def _pictures(stage: str, reply: Reply) -> list[Picture]:
    """Return what is known of each picture except the grids. Raises WebUIReplyError for one that
    does not decode although its checksums are right."""
    try:
        sizes = reply.sizes or tuple(size_of(opened(image)) for image in reply.images)
        seen = reply.one_colour or (None,) * len(reply.images)
        known = list(zip(reply.images, sizes, seen, strict=True))[reply.first_image :]
        return [_picture(image, size, colour) for image, size, colour in known]
    except NoPictureError as error:
        said = f"an image of the reply does not decode: it {error}"
        raise WebUIReplyError(said, stage=stage, status=200, kind=BadReply.NO_PICTURE) from error


def _picture(data: PictureData, size: tuple[int, int], one_colour: bool | None = None) -> Picture:
    if one_colour is not None:
        return Picture(size, one_colour)
    return Picture(size, may_be_one_colour(data, size) and is_one_colour(data))


def _given(stage: str, payload: Mapping[str, Any]) -> Picture | None:
    """Return the picture that a call was made from, if it has one that can be read."""
    given = payload.get(STAGES[stage].image_field)
    first = given[0] if isinstance(given, list | tuple) and given else given
    if not isinstance(first, str):
        return None
    try:
        data = base64.b64decode(first.partition(",")[2] if first[:5] == "data:" else first)
        return _picture(data, size_of(io.BytesIO(data)))
    except (ValueError, NoPictureError):
        return None
