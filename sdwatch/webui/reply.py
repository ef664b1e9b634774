"""What a WebUI answers: a reply with images, or an error of one of three shapes."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUIBusyError,
    WebUIError,
    WebUINotUsableError,
    WebUIReplyError,
    WebUIServerError,
)

MAX_REPLY_BYTES = 512 << 20

_ERROR_OF_STATUS: dict[int, type[WebUIError]] = {
    400: WebUIBadRequestError,
    401: WebUINotUsableError,
    403: WebUINotUsableError,
    404: WebUIBadRequestError,
    405: WebUIBadRequestError,
    413: WebUIBadRequestError,
    422: WebUIBadRequestError,
    429: WebUIBusyError,
    502: WebUIBusyError,
    503: WebUIBusyError,
    504: WebUIBusyError,
}


# What the router itself says of an unknown path; a 404 of a handler has a text of its own, as
# "Init image not found" (measured with Forge, AUTOMATIC1111, SD.Next).
_NO_SUCH_ROUTE = ("Not Found", "Method Not Allowed", "no message")


@dataclass(frozen=True)
class Reply:
    """A generation that succeeded. `images`: the files as the WebUI made them (PNG, JPEG or WebP
    bytes); `first_image`: how many grids stand in front of them; `info`: what it says it did."""

    images: tuple[bytes, ...]
    first_image: int = 0
    info: Mapping[str, Any] = field(default_factory=dict)


def read_reply(stage: str, body: bytes) -> Reply:
    """The images in a 200. Raises WebUIReplyError where there are none that can be used."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WebUIReplyError("the reply is not whole JSON", stage=stage, status=200) from error
    if not isinstance(value, dict):
        raise WebUIReplyError("the reply is not a JSON object", stage=stage, status=200)
    encoded = [value.get("image")] if stage == "extra-single-image" else value.get("images")
    if not isinstance(encoded, list) or not any(encoded):
        raise WebUIReplyError("the reply has no image", stage=stage, status=200)
    info = _info(value.get("info"))
    images = tuple(_decode(stage, number, text) for number, text in enumerate(encoded, 1))
    first = info.get("index_of_first_image", 0)
    grids = first if isinstance(first, int) and 0 <= first < len(images) else 0
    return Reply(images, grids, info)


def _info(text: Any) -> dict[str, Any]:
    try:
        info = json.loads(text) if isinstance(text, str) else {}
    except (ValueError, RecursionError):
        return {}
    return info if isinstance(info, dict) else {}


def _decode(stage: str, number: int, text: Any) -> bytes:
    try:
        data = base64.b64decode(text.partition(",")[2] if text[:5] == "data:" else text)
    except (TypeError, AttributeError, ValueError) as error:
        raise WebUIReplyError(
            f"image {number} of the reply is not base64", stage=stage, status=200
        ) from error
    check_image(stage, number, data)
    return data


def check_image(stage: str, number: int, data: bytes) -> None:
    """Raises WebUIReplyError where `data` is not a whole PNG, JPEG or WebP."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.format == "PNG":
                image.verify()  # its checksums tell; of other formats verify() knows nothing
            else:
                image.load()
    except (ValueError, SyntaxError, OSError, Image.DecompressionBombError) as error:
        raise WebUIReplyError(
            f"image {number} of the reply does not decode", stage=stage, status=200
        ) from error


def join_bounded(parts: Iterable[bytes], limit: int, stage: str) -> bytes:
    """A body that arrives in parts, at most `limit` bytes of it. Raises WebUIReplyError."""
    body: list[bytes] = []
    size = 0
    for part in parts:
        size += len(part)
        if size > limit:
            raise WebUIReplyError(f"the reply is larger than {limit >> 20} MB", stage=stage)
        body.append(part)
    return b"".join(body)


def error_for(status: int, body: bytes, asked: str, stage: str) -> WebUIError:
    """The error that a reply with a status other than 200 is. `asked`: the stage, or the path."""
    kind = _ERROR_OF_STATUS.get(status, WebUIServerError)
    said = message_of(body) or "no message"
    if 300 <= status < 400:  # never followed: it may lead to another host
        kind, said = WebUINotUsableError, "a redirect; correct the url in the config"
    elif status in (404, 405) and said in _NO_SUCH_ROUTE:
        kind, said = WebUINotUsableError, "it has no such route; was it started without --api?"
    return kind(f"the WebUI answered {status} to {asked}: {said}", stage=stage, status=status)


def message_of(body: bytes) -> str:
    """What an error body says, in one line; '' where it says nothing.

    Three shapes (measured): `{"detail": "text"}`; `{"detail": [{"loc", "msg"}, …]}`;
    `{"error": "Class", "message" or "errors": "text", which may be empty}`. The `input` of a 422
    echoes the request and is left out.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return " ".join(body[:200].decode("utf-8", "replace").split())
    if not isinstance(value, dict):
        return ""
    detail = value.get("detail")
    if isinstance(detail, list):
        return "; ".join(_validation_line(item) for item in detail if isinstance(item, dict))
    text = str(value.get("message") or value.get("errors") or detail or "")
    return ": ".join(part for part in (str(value.get("error") or ""), text) if part)


def _validation_line(item: Mapping[str, Any]) -> str:
    loc = item.get("loc")
    parts = loc if isinstance(loc, list) else []
    place = ".".join(str(part) for part in parts if part != "body")
    return f"{place or 'the request'}: {item.get('msg', '')}"
