"""What a WebUI answers: a reply with images, or an error of one of three shapes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUIBusyError,
    WebUIError,
    WebUINotUsableError,
    WebUIReplyError,
    WebUIServerError,
)
from sdwatch.policy.failure.reply_checks import BadReply
from sdwatch.policy.job.payload import UPSCALE
from sdwatch.policy.job.picture import NoPictureError, look_at
from sdwatch.webui.log.log_text import decoded

MAX_REPLY_BYTES = 256 << 20
"""The largest reply: base64 of 192 MB of pictures."""

_MOST_SIGNS = 2_000_000
"""Structural characters in JSON. Three bytes, `[],`, take 64 in memory, so bytes bound little."""

_MOST_IMAGES = 1000
_MOST_PIXELS = 500_000_000  # of all images of a reply, since looking through them takes time
_LONGEST_MESSAGE = 20_000
_MOST_BYTES_OF_TEXT = 4 * _LONGEST_MESSAGE
_LONGEST_KIND = 200

_PATH = re.compile(r"(?!data:)[^\n]{1,1000}(?P<ending>\.[A-Za-z0-9]{2,5})")

_ERROR_OF_STATUS: dict[int, type[WebUIError]] = {
    400: WebUIBadRequestError,
    401: WebUINotUsableError,
    403: WebUINotUsableError,
    404: WebUIBadRequestError,
    405: WebUIBadRequestError,
    408: WebUIBusyError,
    413: WebUIBadRequestError,
    422: WebUIBadRequestError,
    429: WebUIBusyError,
    502: WebUIBusyError,
    503: WebUIBusyError,
    504: WebUIBusyError,
    # Cloudflare's, when it gets no answer from the WebUI; and two nonstandard ones.
    **dict.fromkeys((*range(520, 528), 530, 598, 599), WebUIBusyError),
}


# The router's own answer to an unknown path; a 404 of a handler has its own text, such as
# "Init image not found" (measured with Forge, AUTOMATIC1111, SD.Next).
# An empty one is from stable-diffusion.cpp.
_NO_SUCH_ROUTE = ("", "Not Found", "Method Not Allowed")


@dataclass(frozen=True)
class Reply:
    """A generation that succeeded.

    `images`: the files as the WebUI made them (PNG, JPEG or WebP bytes). `first_image`: how many
    grids come before them. `info`: what the WebUI says it did. `sizes`: width and height of each
    image, () if not measured. `one_colour`: whether each image is of one colour, None if not
    measured.
    """

    images: tuple[bytes, ...]
    first_image: int = 0
    info: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()
    one_colour: tuple[bool | None, ...] = field(default=(), compare=False)


def read_reply(stage: str, body: bytes) -> Reply:
    """Return the images in a 200. Raises WebUIReplyError where there are none that can be used."""
    try:
        value = parse_json(body)
    except ValueError as error:
        raise _unreadable("the reply is not complete JSON", stage) from error
    if not isinstance(value, dict):
        raise _unreadable("the reply is not a JSON object", stage)
    encoded = [value.get("image")] if stage == UPSCALE else value.get("images")
    if not isinstance(encoded, list) or not any(encoded):
        kind = BadReply.NO_IMAGE if encoded in ([], [None]) and value.get("info") != "" else ""
        raise WebUIReplyError("the reply has no image", stage=stage, status=200, kind=kind)
    if len(encoded) > _MOST_IMAGES:
        raise WebUIReplyError(f"the reply has {len(encoded):,} images", stage=stage, status=200)
    info = _info(value.get("info"))
    images, sizes, one_colour = zip(*_decoded(stage, encoded), strict=True)
    first = info.get("index_of_first_image", 0)
    grids = first if isinstance(first, int) and 0 <= first < len(images) else 0
    return Reply(images, grids, info, sizes, one_colour)


def parse_json(body: bytes) -> Any:
    """Return the value of `body`. Raises ValueError, also for what would not fit in memory or on
    the stack."""
    if sum(map(body.count, (b"[", b"{", b",", b":"))) > _MOST_SIGNS:
        raise ValueError("too many values")
    try:
        return json.loads(body)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _info(text: Any) -> dict[str, Any]:
    try:
        # Half a character: JSON can say it, and json.loads takes it so.
        info = parse_json(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else {}
    except ValueError:
        return {}
    return info if isinstance(info, dict) else {}


def _unreadable(words: str, stage: str) -> WebUIReplyError:
    return WebUIReplyError(words, stage=stage, status=200, kind=BadReply.NO_JSON)


def _decoded(
    stage: str, encoded: Iterable[Any]
) -> Iterator[tuple[bytes, tuple[int, int], bool | None]]:
    pixels = 0
    for number, text in enumerate(encoded, 1):
        data, ((width, height), one_colour) = _decode(stage, number, text)
        pixels += width * height
        if pixels > _MOST_PIXELS:
            raise WebUIReplyError(
                f"the images of the reply have more than {_MOST_PIXELS / 1e6:g} megapixels",
                stage=stage,
                status=200,
            )
        yield data, (width, height), one_colour


def _decode(
    stage: str, number: int, text: Any
) -> tuple[bytes, tuple[tuple[int, int], bool | None]]:
    if isinstance(text, str) and (ending := _ending_of_a_path(text)):
        words = (
            f"image {number} of the reply is the path of a file ({ending}), not a picture: the "
            "WebUI saved it in its own folder, as it does with videos, and sdwatch cannot fetch it"
        )
        raise WebUIBadRequestError(words, stage=stage, status=200, kind=BadReply.A_PATH)
    try:
        data = base64.b64decode(text.partition(",")[2] if text[:5] == "data:" else text)
    except (TypeError, AttributeError, ValueError) as error:
        raise WebUIReplyError(
            f"image {number} of the reply is not base64",
            stage=stage,
            status=200,
            kind=BadReply.NO_PICTURE,
        ) from error
    return data, check_image(stage, number, data)


def _ending_of_a_path(text: str) -> str:
    """Return the ending of the file that a text names; '' where it may be base64, which has no dot.
    Forge Neo answers so where it made a video (its source)."""
    found = _PATH.fullmatch(text)
    return found["ending"] if found else ""


def check_image(stage: str, number: int, data: bytes) -> tuple[tuple[int, int], bool | None]:
    """Return width and height, and whether the image is of one colour (see look_at). Raises
    WebUIReplyError where `data` does not decode as a PNG, JPEG or WebP."""
    try:
        return look_at(data)
    except NoPictureError as error:
        raise WebUIReplyError(
            f"image {number} of the reply does not decode: it {error}",
            stage=stage,
            status=200,
            kind=BadReply.NO_PICTURE,
        ) from error


def join_bounded(parts: Iterable[bytes], limit: int, stage: str) -> bytes:
    """Return a body that arrives in parts, at most `limit` bytes. Raises WebUIReplyError."""
    body: list[bytes] = []
    size = 0
    for part in parts:
        size += len(part)
        if size > limit:
            raise WebUIReplyError(f"the reply is larger than {limit >> 20} MB", stage=stage)
        body.append(part)
    return b"".join(body)


def error_for(status: int, body: bytes, asked: str, stage: str) -> WebUIError:
    """Return the error for a reply with a status other than 200. `asked`: the stage, or the
    path."""
    kind = _ERROR_OF_STATUS.get(status, WebUIServerError)
    name, text = said_in(body)
    said = message_of(body)
    if 300 <= status < 400:  # never followed: it may lead to another host
        kind, said = WebUINotUsableError, "a redirect; correct the url in the config"
    elif status in (404, 405) and said in _NO_SUCH_ROUTE:
        kind, said = WebUINotUsableError, "it has no such route; was it started without --api?"
    return kind(
        f"the WebUI answered {status} to {asked}: {said or 'no message'}",
        stage=stage,
        status=status,
        kind=name,
        said=text,
    )


def message_of(body: bytes) -> str:
    """Return what an error body says, in one line; '' where it says nothing."""
    return ": ".join(filter(None, said_in(body)))


def said_in(body: bytes) -> tuple[str, str]:
    """Return the class and the text in an error body, '' for what it does not have.

    Three shapes (measured): `{"detail": "text"}`; `{"detail": [{"loc", "msg"}, …]}`; `{"error":
    "Class", "message" or "errors": "text, which may be empty"}`; stable-diffusion.cpp has its text
    under "error" alone. A body that is no JSON is a text. The `input` of a 422 echoes the request
    and is left out. A text is complete or absent here: it is redacted first, and cut then.
    """
    kind, text = _said_in(body)
    if len(text) > _LONGEST_MESSAGE:
        text = f"a message of {len(text):,} characters"
    if len(kind) > _LONGEST_KIND:
        kind = f"an error with a name of {len(kind):,} characters"
    return kind, text


def _said_in(body: bytes) -> tuple[str, str]:
    try:
        value = parse_json(body)
    except ValueError:
        return "", _plain(body)
    if not isinstance(value, dict):
        return "", ""
    detail = value.get("detail")
    if isinstance(detail, list):
        said = (_validation_line(item) for item in detail if isinstance(item, dict))
        return "", "; ".join(said)
    text = str(value.get("message") or value.get("errors") or detail or "")
    kind = str(value.get("error") or "")
    return (kind, text) if text or " " not in kind else ("", kind)


def _plain(body: bytes) -> str:
    """Return the text of a body that is no JSON, in one line."""
    if len(body) > _MOST_BYTES_OF_TEXT:
        return f"a message of {len(body):,} bytes"
    return " ".join(decoded(body).split())


def _validation_line(item: Mapping[str, Any]) -> str:
    loc = item.get("loc")
    parts = loc if isinstance(loc, list) else []
    place = ".".join(str(part) for part in parts if part != "body")
    return f"{place or 'the request'}: {item.get('msg', '')}"
