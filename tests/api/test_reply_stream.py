"""A reply that is read as it arrives: the same as one that is read whole, without its memory."""

from __future__ import annotations

import base64
import binascii
import errno
import gc
import json
import os
import random
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdwatch.errors import WebUIReplyError
from sdwatch.policy.job.outputs.picture import opened
from sdwatch.policy.job.stage.stage_kinds import STAGE_NAMES
from sdwatch.system import scratch
from sdwatch.system.scratch import Arriving, Scratch, ScratchFile
from sdwatch.webui.http.reply import read_reply, receive
from sdwatch.webui.http.reply_stream import ReplyStream
from tests.support.fakes import picture

UPSCALE = STAGE_NAMES["upscale"].name

MB = 1 << 20


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Yield `data` in parts of these sizes, again and again."""
    at = number = 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        yield data[at : at + size]
        at, number = at + size, number + 1


def images_in(value: Any, sizes: list[int], room: int = 1 << 20) -> tuple[Any, list[Any]]:
    """Return the JSON that is left, and what each image encodes, or None."""
    stream = ReplyStream("images", Scratch(left=room))
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    for part in cut(body, sizes):
        stream.feed(part)
    arrived = stream.finish()
    assert not arrived.broken
    read = [None if i.data is None else opened(i.data).read() for i in arrived.images]
    return json.loads(arrived.rest), read


def decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text.partition(",")[2] if text[:5] == "data:" else text)
    except ValueError:
        return None


TEXTS = st.one_of(
    st.text(min_size=1),
    st.text("abAB01+/=", min_size=1),
    st.binary(min_size=1).map(lambda data: base64.b64encode(data).decode()),
    st.binary(min_size=900).map(lambda data: "data:x;," + base64.b64encode(data).decode()),
    st.text("ABCD=\n -", min_size=1200, max_size=1300),
)
SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=5)


@given(st.lists(TEXTS, max_size=4), SIZES, st.booleans())
def test_each_image_is_what_b64decode_makes_of_it_however_it_is_cut(
    texts: list[str], sizes: list[int], ascii_only: bool
) -> None:
    body = json.dumps({"images": texts, "info": "{}"}, ensure_ascii=ascii_only)
    _, read = images_in(body.encode("utf-8", "surrogatepass"), sizes, room=5)
    assert read == [decoded(text) for text in texts]


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("images"), inner),
)


@given(st.dictionaries(st.text(), JSON), st.lists(st.just("QUFB"), max_size=3), SIZES)
def test_what_is_left_is_the_same_json_with_numbers_in_the_place_of_images(
    more: dict[str, Any], images: list[str], sizes: list[int]
) -> None:
    rest, read = images_in({**more, "images": images}, sizes)
    assert rest == {**more, "images": [str(n) for n in range(len(images))]}
    assert read == [b"AAA"] * len(images)


def test_the_images_of_the_request_that_is_sent_back_are_left_out() -> None:
    echoed = {"init_images": ["A" * 100_000], "prompt": "a", "images": ["QUFB"]}
    rest, read = images_in({"parameters": echoed, "images": ["QUFB"], "info": "x" * 100_000}, [999])
    assert rest["parameters"] == {"init_images": [""], "prompt": "a", "images": ["QUFB"]}
    assert (len(rest["info"]), read) == (100_000, [b"AAA"])


def test_an_escaped_slash_is_a_slash_also_where_it_is_cut() -> None:
    for size in range(1, 40):
        body = rb'{"\u0069mages": ["AAAA\/\u002f\/BAAAA"]}'
        assert images_in(body, [size])[1] == [base64.b64decode("AAAA///BAAAA")]


@pytest.mark.parametrize("inside", [rb"AA\xAA", b"AA\nAA", rb"AA\u12", b"AAAA"])
def test_a_string_that_is_no_json_is_an_incomplete_reply(inside: bytes) -> None:
    body = b'{"images": ["' + inside + (b'"]}' if inside != b"AAAA" else b"")
    with pytest.raises(WebUIReplyError, match="not complete JSON"):
        read_reply("txt2img", receive("txt2img", cut(body, [3])))


@pytest.mark.parametrize("place", [5, ["QUFB"], {"0": "QUFB"}, True])
def test_what_is_no_string_is_no_picture(place: Any) -> None:
    body = json.dumps({"images": [base64.b64encode(picture()).decode(), place]}).encode()
    with pytest.raises(WebUIReplyError, match="image 2 of the reply is not base64"):
        read_reply("txt2img", body)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("stage", ["txt2img", UPSCALE])
def test_a_large_picture_lies_in_a_file_that_goes_with_the_reply(
    tmp_path: Path, kind: str, stage: str
) -> None:
    data = noise(600, kind)
    reply = read_reply(stage, receive(stage, cut(body_of(stage, data, 8), [65536]), tmp_path))
    in_files = [isinstance(image, ScratchFile) for image in reply.images]
    assert in_files == [stage != UPSCALE and sum(map(len, reply.images[: n + 1])) > 4 * MB
                        for n in range(len(reply.images))]  # fmt: skip
    assert {opened(image).read() for image in reply.images} == {data}
    assert reply.sizes == ((600, 600),) * len(reply.images)
    if os.name == "nt":  # where the file has a name until it is closed
        del reply
        gc.collect()
    assert list(tmp_path.iterdir()) == []


def body_of(stage: str, data: bytes, count: int) -> bytes:
    encoded = base64.b64encode(data).decode()
    value = {"image": encoded} if stage == UPSCALE else {"images": [encoded] * count}
    return json.dumps({**value, "info": "{}"}).encode()


def noise(side: int, kind: str) -> bytes:
    import io

    image = Image.frombytes("RGB", (side, side), random.Random(side).randbytes(side * side * 3))
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=95)
    return buffer.getvalue()


def test_a_disk_that_refuses_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a part, then nothing more."""
    real = tempfile.TemporaryFile

    def small(**how: Any) -> Any:
        file = real(**how)
        write, left = file.write, [700_000]

        class Small:
            def write(self, data: bytes) -> int:
                if left[0] <= 0:
                    raise OSError(errno.ENOSPC, "No space left on device")
                count: int = write(bytes(data)[: left[0]])
                left[0] -= count
                return count

            seek, read, close = map(staticmethod, (file.seek, file.read, file.close))

        return Small()

    data = random.Random(1).randbytes(3 * MB)
    for folder in (tmp_path, tmp_path / "gone"):
        monkeypatch.setattr(scratch.tempfile, "TemporaryFile", small)
        arriving = Arriving(Scratch(folder, left=100_000))
        for part in cut(data, [65536]):
            arriving.write(part)
        kept = arriving.finish()
        assert len(kept) == len(data)
        assert opened(kept).read() == data
        reader = opened(kept)
        reader.seek(699_990)
        assert reader.read(20) == data[699_990:700_010]
        monkeypatch.undo()


def test_a_reply_of_100_mb_takes_16_mib_and_one_decoded_picture(tmp_path: Path) -> None:
    side, count = 2048, 8
    data = noise(side, "PNG")
    encoded = binascii.b2a_base64(data, newline=False)
    texts = b'", "'.join([encoded] * count)
    body = b'{"images": ["' + texts + b'"], "info": "{}"}'
    assert len(body) > 120 * MB
    tracemalloc.start()
    try:
        reply = read_reply("txt2img", receive("txt2img", cut(body, [65536]), tmp_path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(reply.images) == count
    assert peak < 16 * MB  # Pillow's pixels are not counted
