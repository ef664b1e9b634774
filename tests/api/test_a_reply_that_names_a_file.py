"""A WebUI may answer the path of a file where an image should be: Forge Neo does with videos."""

from __future__ import annotations

import base64
import json

import pytest

from sdwatch.errors import WebUIBadRequestError, WebUIReplyError
from sdwatch.policy.failure.diagnosis import diagnose
from sdwatch.policy.failure.facts import Diagnosis, FailureFacts
from sdwatch.webui.http.reply import read_reply
from tests.support.fakes import picture


def body(*images: str) -> bytes:
    return json.dumps({"images": images, "info": "{}"}).encode()


WHOLE = base64.b64encode(picture()).decode()


@pytest.mark.parametrize(
    "path",
    [
        "output/txt2img-images/2026-11-28/00001-7.mp4",
        r"C:\forge\output\videos\00001 a castle.webm",
        "/home/me/neo/output/x.gif",
        "video.mkv",
    ],
)
@pytest.mark.parametrize("before", [(), (WHOLE,)], ids=["alone", "beside a picture"])
def test_a_path_is_no_picture_and_the_job_says_so(path: str, before: tuple[str, ...]) -> None:
    with pytest.raises(WebUIBadRequestError, match="is the path of a file") as caught:
        read_reply("txt2img", body(*before, path))
    assert path not in str(caught.value)
    assert "castle" not in str(caught.value)
    explanation = diagnose(FailureFacts(caught.value))
    assert explanation.diagnosis is Diagnosis.BAD_REQUEST
    assert "Ask for pictures" in explanation.advice


@pytest.mark.parametrize("text", ["not base64 at all", "!!!", "data:image/png;base64,x.mp4"])
def test_a_text_that_names_no_file_is_a_broken_picture(text: str) -> None:
    with pytest.raises(WebUIReplyError):
        read_reply("txt2img", body(text))


def test_pictures_are_read_as_before_with_and_without_their_type() -> None:
    for text in (WHOLE, f"data:image/png;base64,{WHOLE}"):
        assert read_reply("txt2img", body(text)).images == (picture(),)
