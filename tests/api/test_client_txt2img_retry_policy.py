"""A generation is sent once by the client, and twice at most by the crash-aware call; what comes
back becomes the intended error, and one structured event without a text of the payload."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUIBusyError,
    WebUIError,
    WebUINotUsableError,
    WebUIReplyError,
    WebUIServerError,
    WebUIStuckError,
    WebUIUnreachableError,
)
from sdwatch.webui.http.api import WebUIAPI
from sdwatch.webui.http.client import Reply, SDWebUIClient
from tests.api.scripted_server import (
    Script,
    hanging,
    images,
    reset,
    serving,
    status,
    truncated,
)
from tests.support.fakes import FakeProcess, picture
from tests.support.helpers import free_port, wait_until
from tests.support.recorders import recorder_alone

PAYLOAD: dict[str, Any] = {
    "prompt": "a purple hippopotamus",
    "negative_prompt": "blurry watermark",
    "steps": 4,
    "alwayson_scripts": {"ADetailer": {"args": [{"ad_prompt": "sleepy eyelashes"}]}},
}
SECRETS = ("purple", "hippopotamus", "watermark", "eyelashes")

# The three shapes of a 500 (measured with Forge dfdcbab6).
OPAQUE_500 = status(500, {"error": "RuntimeError", "detail": "", "body": "", "message": ""})
TEXT_500 = status(500, b"Internal Server Error")
ECHOING_500 = status(
    500,
    {"error": "RuntimeError", "detail": "", "body": "", "message": f"bad {PAYLOAD['prompt']}"},
)
INVALID_422 = status(
    422,
    {
        "detail": [
            {
                "type": "int_parsing",
                "loc": ["body", "steps"],
                "msg": "Input should be a valid integer",
                "input": PAYLOAD["prompt"],
            }
        ]
    },
)
PNG = picture(1, infotext="a purple hippopotamus")
JPEG = picture(1, "JPEG", size=(256, 256))


def event_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [r for r in caplog.records if getattr(r, "event", "") == "webui_call_failed"]


@pytest.mark.parametrize("script", [OPAQUE_500, TEXT_500, ECHOING_500])
def test_a_500_from_txt2img_is_a_server_error_after_exactly_one_post(script: Script) -> None:
    with serving(script) as server:
        client = SDWebUIClient(server.url)
        with pytest.raises(WebUIServerError) as caught:
            client.generate_images("txt2img", PAYLOAD)
        assert (caught.value.status, caught.value.stage) == (500, "txt2img")
        assert server.posts == [("/sdapi/v1/txt2img", PAYLOAD)]


@pytest.mark.parametrize(
    ("script", "kind", "says"),
    [
        (status(400, {"detail": "no"}), WebUIBadRequestError, "400 to txt2img: no"),
        (status(404, {"detail": "Not Found"}), WebUINotUsableError, "started without --api?"),
        (INVALID_422, WebUIBadRequestError, "steps: Input should be a valid integer"),
        (status(422, {"detail": "Script 'x' not found"}), WebUIBadRequestError, "Script 'x'"),
        (status(401, {"detail": "Not authenticated"}), WebUINotUsableError, "Not authenticated"),
        (status(403, b""), WebUINotUsableError, "403"),
        (status(429, b"slow down"), WebUIBusyError, "slow down"),
        (status(502, b"<html>"), WebUIBusyError, "502"),
        (status(503, b""), WebUIBusyError, "503"),
        (status(504, b""), WebUIBusyError, "504"),
        (reset, WebUIUnreachableError, "/sdapi/v1/txt2img"),
        (truncated, WebUIUnreachableError, "/sdapi/v1/txt2img"),
        (status(200, b'{"images": ["aaa'), WebUIReplyError, "not complete JSON"),
        (status(200, b"[" * 100_000), WebUIReplyError, "not complete JSON"),
        (status(200, b""), WebUIReplyError, "not complete JSON"),
        (status(200, ["x"]), WebUIReplyError, "not a JSON object"),
        (status(200, {"images": [], "info": "{}"}), WebUIReplyError, "no image"),
        (status(200, {"images": None}), WebUIReplyError, "no image"),
        (status(200, {"detail": "failed"}), WebUIReplyError, "no image"),
        (status(200, {"images": ["AAAA"]}), WebUIReplyError, "image 1 of the reply"),
        (status(200, {"images": [7]}), WebUIReplyError, "image 1 of the reply"),
        (images(PNG, PNG[: len(PNG) // 2]), WebUIReplyError, "image 2 of the reply"),
        (images(JPEG[: len(JPEG) // 2]), WebUIReplyError, "image 1 of the reply"),
    ],
)
def test_each_failure_is_an_error_of_its_own_after_exactly_one_post(
    script: Script, kind: type[WebUIError], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(script) as server:
        with pytest.raises(WebUIError) as caught:
            SDWebUIClient(server.url).generate_images("txt2img", PAYLOAD)
        assert type(caught.value) is kind
        assert says in str(caught.value)
        assert len(server.posts) == 1
    (event,) = event_of(caplog)
    assert event.error == kind.__name__  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (reset, "the WebUI reset the connection ("),
        (truncated, "the WebUI's reply broke off in"),
    ],
)
def test_the_message_of_a_broken_connection_starts_in_plain_words(
    script: Script, words: str
) -> None:
    with serving(script) as server, pytest.raises(WebUIUnreachableError) as caught:
        SDWebUIClient(server.url).generate_images("txt2img", PAYLOAD)
    assert str(caught.value).startswith(words)


def test_a_refused_connection_is_unreachable() -> None:
    with pytest.raises(WebUIUnreachableError, match="refused") as caught:
        SDWebUIClient(f"http://127.0.0.1:{free_port()}").generate_images("txt2img", PAYLOAD)
    assert caught.value.status is None


def test_the_error_of_a_422_has_no_echo_of_the_request() -> None:
    with serving(INVALID_422) as server, pytest.raises(WebUIBadRequestError) as caught:
        SDWebUIClient(server.url).generate_images("txt2img", PAYLOAD)
    assert not any(secret in str(caught.value) for secret in SECRETS)


def test_the_structured_event_has_stage_attempt_and_keys_and_no_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="sdwatch")
    with serving(ECHOING_500) as server, pytest.raises(WebUIServerError):
        SDWebUIClient(server.url).generate_images("txt2img", PAYLOAD)
    (event,) = event_of(caplog)
    told = {key: getattr(event, key) for key in ("stage", "attempt", "keys", "status", "error")}
    assert told == {
        "stage": "txt2img",
        "attempt": 1,
        "keys": ["alwayson_scripts", "negative_prompt", "prompt", "steps"],
        "status": 500,
        "error": "WebUIServerError",
    }
    assert event.levelno == logging.WARNING
    whole = caplog.text + json.dumps([record.__dict__ for record in caplog.records], default=repr)
    assert not any(secret in whole for secret in SECRETS)


def test_the_attempts_of_the_same_call_are_counted_until_it_succeeds(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serving(OPAQUE_500, OPAQUE_500, OPAQUE_500, images(PNG), OPAQUE_500) as server:
        client = SDWebUIClient(server.url)
        for payload in (PAYLOAD, PAYLOAD, {"prompt": "other"}, PAYLOAD, PAYLOAD):
            try:
                client.generate_images("txt2img", payload)
            except WebUIServerError:
                continue
    assert [event.attempt for event in event_of(caplog)] == [1, 2, 1, 1]  # type: ignore[attr-defined]


def test_the_crash_aware_call_posts_twice_and_no_more(tmp_path: Path) -> None:
    with serving(OPAQUE_500) as server:
        process = FakeProcess()
        api = WebUIAPI(SDWebUIClient(server.url), process, recorder_alone())
        outcome = api.generate_images_with_recovery("txt2img", PAYLOAD, tmp_path)
        assert not outcome.ok
        assert not outcome.later
        assert process.restarts == 1
        assert server.posts == [("/sdapi/v1/txt2img", PAYLOAD)] * 2


def test_the_crash_aware_call_posts_a_bad_request_once() -> None:
    with serving(INVALID_422) as server:
        process = FakeProcess()
        api = WebUIAPI(SDWebUIClient(server.url), process, recorder_alone())
        outcome = api.generate_images_with_recovery("txt2img", PAYLOAD)
        assert outcome.envelope is not None
        assert outcome.envelope.diagnosis == "bad request"
        assert process.restarts == 0
        assert len(server.posts) == 1


@pytest.mark.parametrize("stage", ["txt2img", "img2img", "extra-single-image"])
def test_a_200_with_images_is_their_very_bytes(stage: str) -> None:
    key = "image" if stage == "extra-single-image" else "images"
    with serving(images(PNG, key=key)) as server:
        given = SDWebUIClient(server.url).generate_images(stage, PAYLOAD)
        assert given == Reply((PNG,), sizes=((64, 64),))
        assert server.posts[0][0] == f"/sdapi/v1/{stage}"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_pictures_of_every_kind_that_webuis_make_are_taken(kind: str) -> None:
    with serving(images(picture(1, kind), picture(2, kind))) as server:
        given = SDWebUIClient(server.url).generate_images("txt2img", PAYLOAD)
    assert given.images == (picture(1, kind), picture(2, kind))


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_an_error_and_is_not_followed(code: int) -> None:
    with serving(images(PNG)) as elsewhere:
        there = f"{elsewhere.url}/sdapi/v1/txt2img"
        with serving(status(code, b"", location=there)) as server:
            with pytest.raises(WebUIError) as caught:
                SDWebUIClient(server.url).generate_images("txt2img", PAYLOAD)
            assert caught.value.status == code
            assert len(server.posts) == 1
        assert elsewhere.posts == []


def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(images(PNG)) as server, serving(status(502, b"I am the proxy")) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        assert SDWebUIClient(server.url).generate_images("txt2img", PAYLOAD).images == (PNG,)
        assert proxy.posts == []


def test_abandon_frees_a_blocked_call_and_the_client_still_works() -> None:
    with serving(hanging, images(PNG)) as server:
        client = SDWebUIClient(server.url)
        caught: list[WebUIError] = []

        def call() -> None:
            try:
                client.generate_images("txt2img", PAYLOAD)
            except WebUIError as error:
                caught.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        wait_until(lambda: server.posts)
        client.abandon()
        thread.join(20)
        assert not thread.is_alive()
        assert [type(error) for error in caught] == [WebUIUnreachableError]
        assert client.generate_images("txt2img", PAYLOAD).images == (PNG,)
        assert len(server.posts) == 2


def test_a_call_without_a_reply_ends_at_its_limit_as_stuck() -> None:
    with serving(hanging) as server:
        client = SDWebUIClient(server.url, call_limit=0.1)
        with pytest.raises(WebUIStuckError, match=r"did not answer within 0\.1 s"):
            client.generate_images("txt2img", PAYLOAD)
        wait_until(lambda: server.posts, 20, "its server has read it")
        assert len(server.posts) == 1


def test_user_name_and_password_are_sent() -> None:
    seen: list[str | None] = []

    def note(handler: Any) -> None:
        seen.append(handler.headers.get("authorization"))
        images(PNG)(handler)

    with serving(note) as server:
        SDWebUIClient(server.url, auth=("me", "secret")).generate_images("txt2img", PAYLOAD)
    assert seen == ["Basic bWU6c2VjcmV0"]
