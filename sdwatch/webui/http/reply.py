"""The answers of a WebUI: a reply with images, or an error of one of three shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
from sdwatch.policy.job.outputs.picture import NoPictureError, PictureData, look_at
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.system.scratch import Scratch
from sdwatch.webui.http.reply_stream import (
    MOST_IMAGES,
    MOST_SIGNS,
    NO_TEXT,
    Arrived,
    EncodedImage,
    ReplyStream,
)
from sdwatch.webui.log.log_lines import decoded

MAX_REPLY_BYTES = 256 << 20
"""The largest reply: base64 of 192 MB of pictures."""

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
# An empty one is from stable-diffusion.cpp, those with a number from ComfyUI.
_NO_SUCH_ROUTE = (
    *("", "Not Found", "Method Not Allowed"),
    *("404: Not Found", "405: Method Not Allowed"),
)


@dataclass(frozen=True)
class MadeFile:
    """A file that is not a still picture, and whole: see policy/job/outputs/other_files.py.
    `ending`: of its name, by its content."""

    data: PictureData
    ending: str


@dataclass(frozen=True)
class Reply:
    """A generation that succeeded.

    `images`: the files as the WebUI made them (PNG, JPEG or WebP; large ones lie in scratch files).
    `first_image`: how many grids come before them. `info`: what the WebUI says it did. `sizes`:
    width and height of each image, () if not measured. `one_colour`: whether each image is of one
    colour, None if not measured. `is_plain`: it is a test picture that was asked for in one colour.
    `files`: what else it made: videos, sounds, latents, meshes, texts. `taken_from`: the id of the
    prompt of an earlier attempt whose result it is; '' for that of the prompt that was sent.
    """

    images: tuple[PictureData, ...]
    first_image: int = 0
    info: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()
    one_colour: tuple[bool | None, ...] = field(default=(), compare=False)
    is_plain: bool = False
    files: tuple[MadeFile, ...] = ()
    taken_from: str = ""


def receive(stage: str, parts: Iterable[bytes], folder: Path | None = None) -> Arrived:
    """Return the body of a 200 that arrives in parts, at most MAX_REPLY_BYTES of them. Large
    pictures go to scratch files in `folder`; None for the system's. Raises WebUIReplyError."""
    kind = STAGES[stage]
    stream = ReplyStream(kind.reply_field, Scratch(folder), one=not kind.replies_several)
    for part in bounded(parts, MAX_REPLY_BYTES, stage):
        stream.feed(part)
    return stream.finish()


def read_reply(stage: str, body: bytes | Arrived) -> Reply:
    """Return the images in the body of a 200. Each has been decoded once.

    Raises WebUIReplyError for a body that is not what a WebUI answers, or has no usable image,
    WebUIBadRequestError for the path of a file in the place of an image.
    """
    arrived = receive(stage, (body,)) if isinstance(body, bytes) else body
    try:
        if arrived.broken:
            raise ValueError("no JSON, or too many values")
        value = parse_json(arrived.rest)
    except ValueError as error:
        raise _unreadable("the reply is not complete JSON", stage) from error
    if not isinstance(value, dict):
        raise _unreadable("the reply is not a JSON object", stage)
    given = value.get(STAGES[stage].reply_field)
    places = given if STAGES[stage].replies_several else [given]
    if not isinstance(places, list) or not any(places):
        kind = BadReply.NO_IMAGE if places in ([], [None]) and value.get("info") != "" else ""
        raise WebUIReplyError("the reply has no image", stage=stage, status=200, kind=kind)
    if len(places) > MOST_IMAGES:
        raise WebUIReplyError(f"the reply has {len(places):,} images", stage=stage, status=200)
    info = _info(value.get("info"))
    images, sizes, one_colour = zip(*_decoded(stage, places, arrived.images), strict=True)
    first = info.get("index_of_first_image", 0)
    grids = first if isinstance(first, int) and 0 <= first < len(images) else 0
    return Reply(images, grids, info, sizes, one_colour)


def parse_json(body: bytes) -> Any:
    """Return the value of `body`. Raises ValueError, also for what would not fit in memory or on
    the stack."""
    if sum(map(body.count, (b"[", b"{", b",", b":"))) > MOST_SIGNS:
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
    stage: str, places: Iterable[Any], images: Sequence[EncodedImage]
) -> Iterator[tuple[PictureData, tuple[int, int], bool | None]]:
    pixels = 0
    for number, place in enumerate(places, 1):
        # Not a text, an empty one, or one of more lists of images than were kept.
        is_known = isinstance(place, str) and place and int(place) < len(images)
        data = _data(stage, number, images[int(place)] if is_known else NO_TEXT)
        (width, height), one_colour = check_image(stage, number, data)
        pixels += width * height
        if pixels > _MOST_PIXELS:
            raise WebUIReplyError(
                f"the images of the reply have more than {_MOST_PIXELS / 1e6:g} megapixels",
                stage=stage,
                status=200,
            )
        yield data, (width, height), one_colour


def _data(stage: str, number: int, image: EncodedImage) -> PictureData:
    if ending := _ending_of_a_path(image.text or ""):
        words = (
            f"image {number} of the reply is the path of a file ({ending}), not a picture: the "
            "WebUI saved it in its own folder, as it does with videos, and sdwatch cannot fetch it"
        )
        raise WebUIBadRequestError(words, stage=stage, status=200, kind=BadReply.A_PATH)
    if image.data is None:
        raise WebUIReplyError(
            f"image {number} of the reply is not base64",
            stage=stage,
            status=200,
            kind=BadReply.NO_PICTURE,
        )
    return image.data


def _ending_of_a_path(text: str) -> str:
    """Return the ending of the file that a text names; '' where it may be base64, which has no dot.
    Forge Neo answers so where it made a video (its source)."""
    found = _PATH.fullmatch(text)
    return found["ending"] if found else ""


def check_image(stage: str, number: int, data: PictureData) -> tuple[tuple[int, int], bool | None]:
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
    return b"".join(bounded(parts, limit, stage))


def bounded(parts: Iterable[bytes], limit: int, stage: str) -> Iterator[bytes]:
    """Yield the parts of a body of at most `limit` bytes. Raises WebUIReplyError."""
    size = 0
    for part in parts:
        size += len(part)
        if size > limit:
            raise WebUIReplyError(f"the reply is larger than {limit >> 20} MB", stage=stage)
        yield part


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
    under "error" alone. A body that is not JSON is a text. The `input` of a 422 echoes the request
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
    """Return the text of a body that is not JSON, in one line."""
    if len(body) > _MOST_BYTES_OF_TEXT:
        return f"a message of {len(body):,} bytes"
    return " ".join(decoded(body).split())


def _validation_line(item: Mapping[str, Any]) -> str:
    loc = item.get("loc")
    parts = loc if isinstance(loc, list) else []
    place = ".".join(str(part) for part in parts if part != "body")
    return f"{place or 'the request'}: {item.get('msg', '')}"
