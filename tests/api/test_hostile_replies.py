"""Replies that no honest WebUI gives: each probe and each generation ends in the error that is
meant for it, after one request, and nobody's thread dies of it."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3.connection

from sdwatch.errors import (
    WebUIBadRequestError,
    WebUIError,
    WebUINotSentError,
    WebUINotUsableError,
    WebUIReplyError,
    WebUIServerError,
    WebUIUnreachableError,
)
from sdwatch.policy.failure.recovery import SENT_AT_MOST
from sdwatch.stages.run_end import RunEnd
from sdwatch.webui.http.canary import PROMPT as CANARY
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.connections import Request
from tests.api import bombs
from tests.api.scripted_server import (
    Handler,
    Script,
    ScriptedServer,
    hanging,
    images,
    reset,
    serving,
    status,
    truncated,
)
from tests.support.fakes import FakeProcess, Workplace, envelope, picture
from tests.support.helpers import wait_until
from tests.support.monitored import EXTERNAL, Monitored, job, journal, monitored

PROMPT = "a purple hippopotamus"
PAYLOAD = {"prompt": PROMPT, "steps": 2}
PNG = picture(1)
ENCODED = base64.b64encode(PNG).decode()


class Asked(Handler):
    """A probe gets the server's next `answers`, and the last one forever."""

    def do_GET(self) -> None:  # noqa: N802 - http.server's name
        asked: Asking = self.server.asked  # type: ignore[attr-defined]
        with self.server.lock:
            answer = asked.answers[min(asked.probes, len(asked.answers) - 1)]
            asked.probes += 1
        answer(self)


class Asking:
    """What a server answers to probes, and how many there were."""

    def __init__(self, *answers: Script) -> None:
        self.answers = answers
        self.probes = 0


@contextmanager
def asked(*answers: Script, posts: Script = hanging) -> Iterator[tuple[ScriptedServer, Asking]]:
    """A WebUI that answers its probes with these, one after the other."""
    with serving(posts) as server:
        asking = server.asked = Asking(*answers)  # type: ignore[attr-defined]
        server.RequestHandlerClass = Asked
        yield server, asking


def raw(data: bytes) -> Script:
    """These very bytes, and the connection is closed."""

    def send(handler: Handler) -> None:
        handler.close_connection = True
        handler.connection.sendall(data)

    return send


def dripping(head: bytes) -> Script:
    """`head`, then a byte now and then, forever: each read is in time, the whole reply never is."""

    def send(handler: Handler) -> None:
        handler.close_connection = True
        handler.connection.sendall(head)
        while not handler.server.over.wait(0.05):
            handler.connection.sendall(b" ")

    return send


def huge(handler: Handler) -> None:
    """More than a probe reads, made only when it is sent."""
    handler.answer(200, b"[" + b" " * (33 << 20) + b"]")


def reply_with(header: bytes, code: bytes = b"302 Found") -> Script:
    return raw(b"HTTP/1.1 " + code + b"\r\n" + header + b"\r\ncontent-length: 0\r\n\r\n")


BAD_REDIRECTS = {
    "redirect-undecodable": reply_with(b"location: http://\xff\xfe\xe9/"),
    "redirect-invalid": reply_with(b"location: http://["),
    "redirect-port": reply_with(b"location: http://a:99999999/"),
    "redirect-label": reply_with(b"location: http://" + b"a" * 300 + b"\xc3\xa9./"),
    "redirect-empty": reply_with(b"location:"),
    "redirect-file": reply_with(b"location: file:///etc/passwd", b"307 Temporary Redirect"),
    "redirect-none": reply_with(b"x: y", b"301 Moved Permanently"),
}
LONG_HEADER = reply_with(b"x: " + b"a" * 70_000, b"200 OK")
HOSTILE: dict[str, Script] = {
    **BAD_REDIRECTS,
    "drip-body": dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"),
    "drip-header": dripping(b"HTTP/1.1 200 OK\r\nx:"),
    "drip-chunk": dripping(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2710\r\n"),
    "deep-json": status(200, b"[" * 100_000),
    "deep-mapping": status(200, b'{"a":' * 100_000),
    "long-number": status(200, b"1" * 10_000),
    "not-utf8": status(200, b'{"progress": "\xff"}'),
    "422-loc-null": status(422, {"detail": [{"loc": None, "msg": "no", "type": "x"}]}),
    "422-loc-number": status(422, {"detail": [{"loc": 5, "msg": None}]}),
    "422-no-mapping": status(422, {"detail": [None, 5, "x", []]}),
    "500-list": status(500, [1]),
    "500-deep": status(500, b"[" * 100_000),
    "error-is-a-mapping": status(500, {"error": {"a": 1}, "errors": [1], "detail": {}}),
    "huge-body": huge,
    "bomb": raw(
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 7\r\n\r\n\x1f\x8b\x08junk"
    ),
    "long-header": LONG_HEADER,
    "many-headers": reply_with(b"\r\n".join(b"x: y" for _ in range(200)), b"200 OK"),
    "no-http": raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "no-status": raw(b"HTTP/1.1 abc OK\r\n\r\n"),
    "bad-chunk": raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n"),
    "bad-length": raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}"),
    "nothing": raw(b""),
    "reset": reset,
    "truncated": truncated,
}


@pytest.mark.parametrize("ask", [SDWebUIClient.progress, SDWebUIClient.checkpoints])
@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_answer_to_a_probe_is_a_webui_error_after_one_request(
    ask: Callable[[SDWebUIClient, float], Any], answer: Script
) -> None:
    slow = answer.__qualname__.startswith("dripping")
    with asked(answer) as (server, asking):
        client = SDWebUIClient(server.url)
        with pytest.raises(WebUIError):
            ask(client, 0.3 if slow else 10)
        assert asking.probes == 1
        client.close()


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE)
def test_the_small_questions_that_never_raise_do_not(answer: Script) -> None:
    with asked(answer, posts=answer) as (server, _):
        client = SDWebUIClient(server.url)
        client.page_answers(0.3)
        client.interrupt(0.3)
        client.close()


@pytest.mark.parametrize(
    "answer", [[], [None], 5, "x", None, {"state": []}, {"state": {"job": {}}, "progress": []}]
)
def test_a_whole_answer_of_another_type_is_taken_for_an_empty_one(answer: Any) -> None:
    with asked(status(200, answer)) as (server, _):
        client = SDWebUIClient(server.url)
        assert isinstance(client.progress(10), dict)
        assert isinstance(client.checkpoints(10), list)


# -- the supervisor


def well(handler: Handler) -> None:
    """As a WebUI that is idle and has a checkpoint."""
    idle = {"progress": 0.0, "state": {"job": "", "job_count": 0}}
    answer = [{"title": "model"}] if handler.path.endswith("/sd-models") else idle
    status(200, answer)(handler)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes follow each other without a pause, and a lane on hold is looked at again at once."""
    monkeypatch.setattr("sdwatch.webui.http.external.PROBE_INTERVAL_S", 0.02)
    monkeypatch.setattr("sdwatch.webui.http.call_watch.PROBE_INTERVAL_S", 0.02)


@contextmanager
def lane_on(server: ScriptedServer, root: Path) -> Iterator[Monitored]:
    """A monitor whose WebUI is this server."""
    health = {"interval": 0.5, "timeout": 1, "failures": 100}
    webui = {**EXTERNAL, "url": server.url, "health": health}
    with monitored(root, webui=webui, settings={"cooldown": [0]}) as spool:
        yield spool


def broke(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What ended at the outer edge of a thread."""
    return [record.getMessage() for record in caplog.records if record.exc_info]


def test_the_supervisor_survives_all_of_them_and_the_lane_becomes_ready(
    tmp_path: Path, hasty: None, caplog: pytest.LogCaptureFixture
) -> None:
    del hasty
    quick = [answer for name, answer in HOSTILE.items() if name != "huge-body"]
    with asked(*quick, well) as (server, asking), lane_on(server, tmp_path) as spool:
        spool.start()
        spool.drop("castle.yaml", job())
        wait_until(lambda: spool.lane().get("state") == "ready", 60, "the lane is ready")
        assert asking.probes > len(quick)
        wait_until(lambda: server.posts, 20, "the job is sent")
        assert broke(caplog) == []
        assert spool.failed() == []
        server.over.set()


def test_hostile_answers_to_the_probes_of_a_call_do_not_harm_it(
    tmp_path: Path, hasty: None, caplog: pytest.LogCaptureFixture
) -> None:
    del hasty
    quick = [a for name, a in HOSTILE.items() if not name.startswith(("drip", "huge"))]
    enough = threading.Event()

    def answer(handler: Handler) -> None:
        enough.wait(30)
        images(PNG)(handler)

    with asked(well, well, posts=answer) as (server, asking), lane_on(server, tmp_path) as spool:
        spool.start()
        spool.drop("castle.yaml", job())
        wait_until(lambda: server.posts, 20, "the call is under way")
        asking.answers, asking.probes = (*quick, well), 0
        wait_until(lambda: asking.probes > len(quick), 40, "all of them were given")
        enough.set()
        spool.wait_for(done=1)
        assert len(server.posts) == 1
        assert broke(caplog) == []


# -- generations


BAD_REPLIES: dict[str, tuple[Script, type[WebUIError], str]] = {
    "422-loc-number": (
        status(422, {"detail": [{"loc": 5, "msg": "no", "type": "x"}]}),
        WebUIBadRequestError,
        "the request: no",
    ),
    "422-loc-mapping": (
        status(422, {"detail": [{"loc": {"a": 1}, "msg": ["no"]}]}),
        WebUIBadRequestError,
        "the request",
    ),
    "422-detail-numbers": (status(422, {"detail": [1, None]}), WebUIBadRequestError, "422"),
    "500-errors-a-list": (status(500, {"error": ["x"], "errors": [1]}), WebUIServerError, "500"),
    "500-deep": (status(500, b"[" * 100_000), WebUIServerError, "500"),
    "images-a-text": (
        status(200, {"images": ENCODED, "info": "{}"}),
        WebUIReplyError,
        "no image",
    ),
    "images-a-mapping": (status(200, {"images": {"0": ENCODED}}), WebUIReplyError, "no image"),
    "images-of-lists": (status(200, {"images": [[ENCODED]]}), WebUIReplyError, "image 1"),
    "images-of-nothing": (status(200, {"images": [ENCODED, None]}), WebUIReplyError, "image 2"),
    "not-ascii": (status(200, {"images": ["\u00e9" * 8]}), WebUIReplyError, "image 1"),
    "long-header": (LONG_HEADER, WebUIUnreachableError, "LineTooLong"),
    **{
        name: (script, WebUINotUsableError, "a redirect; correct the url")
        for name, script in BAD_REDIRECTS.items()
    },
}


@pytest.mark.parametrize(("script", "kind", "says"), BAD_REPLIES.values(), ids=BAD_REPLIES)
def test_a_hostile_reply_to_a_generation_is_the_error_meant_for_it_after_one_post(
    script: Script, kind: type[WebUIError], says: str
) -> None:
    with serving(script) as server:
        with pytest.raises(WebUIError) as caught:
            SDWebUIClient(server.url).generate_images("txt2img", PAYLOAD)
        assert type(caught.value) is kind
        assert says in str(caught.value)
        assert len(server.posts) == 1


@pytest.mark.parametrize("info", [[], [1], "[1]", '"x"', "5", "[" * 100_000, None, {"a": 1}])
def test_info_of_another_type_does_not_spoil_the_images(info: Any) -> None:
    with serving(status(200, {"images": [ENCODED], "info": info})) as server:
        given = SDWebUIClient(server.url).generate_images("txt2img", PAYLOAD)
    assert (given.images, dict(given.info)) == ((PNG,), {})


@pytest.mark.parametrize("first", [-1, 99, "1", None, 1.0, [], 10**30])
def test_an_impossible_index_of_the_first_image_hides_no_image(first: Any) -> None:
    info = json.dumps({"index_of_first_image": first})
    with serving(status(200, {"images": [ENCODED], "info": info})) as server:
        given = SDWebUIClient(server.url).generate_images("txt2img", PAYLOAD)
    assert (given.images, given.first_image) == ((PNG,), 0)


# -- half a character, which JSON can say and UTF-8 cannot

LONE = "\\ud800"


def outcome_of(root: Path, script: Script) -> tuple[RunEnd, Path, ScriptedServer]:
    """A run of one call against this server."""
    place = Workplace(root)
    with serving(script) as server:
        run = place.claimed(job(PROMPT))
        runner = place.recovering(run, SDWebUIClient(server.url), FakeProcess())
        ending = runner.run_to_end(place.spool)
    return ending, (place.done() if ending is RunEnd.DONE else place.failed()), server


def assert_readable(run: Path) -> None:
    """All texts are UTF-8, and what ends in .json is JSON."""
    for path in run.iterdir():
        if path.suffix in (".json", ".jsonl", ".txt", ".log", ".yaml"):
            text = path.read_text(encoding="utf-8")
            for document in text.splitlines() if path.suffix == ".jsonl" else [text]:
                if path.suffix in (".json", ".jsonl"):
                    json.loads(document)


@pytest.mark.parametrize(
    "body",
    [
        f'{{"detail": "no {LONE} such"}}',
        f'{{"detail": [{{"loc": ["body", "{LONE}"], "msg": "{LONE}"}}]}}',
    ],
)
def test_half_a_character_in_a_message_leaves_a_failed_run_that_can_be_read(
    tmp_path: Path, body: str
) -> None:
    ending, run, server = outcome_of(tmp_path, status(422, body.encode()))
    assert ending is RunEnd.FAILED
    assert_readable(run)
    assert envelope(run)["diagnosis"] == "bad request"
    assert len(server.posts) == 1


def test_half_a_character_in_the_version_leaves_a_done_run_that_can_be_read(
    tmp_path: Path,
) -> None:
    info = f'{{"version": "f2{LONE}", "sd_model_name": "{LONE}"}}'
    body = {"images": [ENCODED], "info": info}
    ending, run, server = outcome_of(tmp_path, status(200, body))
    assert ending is RunEnd.DONE
    assert_readable(run)
    (finished,) = journal(run, "call_finished")
    assert finished["webui_version"] == "f2\\ud800"
    assert len(server.posts) == 1


def test_the_reported_settings_of_a_webui_are_bounded_and_valid_json(tmp_path: Path) -> None:
    info = (
        f'{{"version": "{"v" * 1_000_000}", "sd_model_name": {{"a": NaN}}, "sd_model_hash": NaN}}'
    )
    ending, run, _ = outcome_of(tmp_path, status(200, {"images": [ENCODED], "info": info}))
    assert ending is RunEnd.DONE
    (finished,) = journal(run, "call_finished")
    assert finished["webui_version"] == "v" * 200
    assert not {"model", "model_hash"} & finished.keys()
    json.loads((run / "run.json").read_text(), parse_constant=pytest.fail)


def test_no_terminal_control_is_in_the_message_of_a_webui(tmp_path: Path) -> None:
    body = json.dumps({"detail": "bad \ud800 thing \x1b[2J \r\x9b \u202e, böse 悪い　もの"})
    ending, run, _ = outcome_of(tmp_path, status(422, body.encode()))
    assert ending is RunEnd.FAILED
    why = (run / "WHY.txt").read_text(encoding="utf-8")
    assert "bad \\ud800 thing \\x1b[2J \\r\\x9b \\u202e, böse 悪い　もの" in why


def test_the_monitor_reports_no_terminal_control_either(tmp_path: Path) -> None:
    body = json.dumps({"detail": "bad \x1b[2J\x07 thing"}).encode()
    with asked(well, posts=status(422, body)) as (server, _), lane_on(server, tmp_path) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        said = "bad \\x1b[2J\\x07 thing"
        wait_until(lambda: any(said in line for line in spool.told), 20, "it is told")
        assert not any("\x1b" in line for line in spool.told)


# -- giving up, and giving up asking


def test_a_post_that_has_not_connected_when_it_is_given_up_is_never_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connecting, go = threading.Event(), threading.Event()
    real: Any = urllib3.connection.connection.create_connection

    def create_connection(*arguments: Any, **more: Any) -> Any:
        connecting.set()
        assert go.wait(30)
        return real(*arguments, **more)

    monkeypatch.setattr(urllib3.connection.connection, "create_connection", create_connection)
    caught: list[WebUIError] = []
    with serving(images(PNG)) as server:
        client = SDWebUIClient(server.url)

        def call() -> None:
            with pytest.raises(WebUIError) as error:
                client.generate_images("txt2img", PAYLOAD)
            caught.append(error.value)

        thread = threading.Thread(target=call)
        thread.start()
        assert connecting.wait(20)
        client.abandon()
        go.set()
        thread.join(20)
        assert not thread.is_alive()
        assert [type(error) for error in caught] == [WebUINotSentError]
        assert server.posts == []
        assert client.generate_images("txt2img", PAYLOAD).images == (PNG,)
        assert len(server.posts) == 1


def test_a_reply_that_drips_or_explodes_ends_its_job_and_no_other(
    tmp_path: Path, hasty: None, caplog: pytest.LogCaptureFixture
) -> None:
    del hasty
    drip = dripping(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    endless = dripping(b"HTTP/1.1 200 OK\r\nx:")
    bomb = images(bombs.png(50_000, 50_000))

    def by_prompt(handler: Handler) -> None:
        prompt = handler.server.posts[-1][1]["prompt"]
        {"drip": drip, "endless": endless, "bomb": bomb}.get(prompt, images(picture()))(handler)

    webui = {**EXTERNAL, "call_limit": 1.5, "health": {"interval": 0.2, "timeout": 5}}
    with asked(well, posts=by_prompt) as (server, _):
        settings = {"cooldown": [0]}
        with monitored(tmp_path, webui={**webui, "url": server.url}, settings=settings) as spool:
            for prompt in ("drip", "endless", "bomb", "castle"):
                spool.drop(f"{prompt}.yaml", job(prompt))
            spool.start()
            spool.wait_for(failed=3, done=1, timeout=110)
            told = {envelope(run)["diagnosis"] for run in spool.failed()}
            # What drips may be somebody else's generation: it is waited for, and sent five times.
            assert told == {"busy", "silent"}
            sent = Counter(post["prompt"] for _, post in server.posts)
            assert (sent["drip"], sent["endless"], sent["bomb"]) == (SENT_AT_MOST, SENT_AT_MOST, 2)
            assert broke(caplog) == []


def canaries(server: ScriptedServer) -> int:
    return sum(post["prompt"].startswith(CANARY) for _, post in server.posts)


def test_a_call_that_is_always_answered_503_is_sent_at_most_five_times_and_then_fails(
    tmp_path: Path, hasty: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The canary is drawn in between, so it is this call that the WebUI does not want."""
    del hasty
    caplog.set_level(logging.INFO, logger="sdwatch")

    def busy_but_for_the_canary(handler: Handler) -> None:
        prompt = handler.server.posts[-1][1]["prompt"]
        (images(picture()) if prompt.startswith(CANARY) else status(503, b"busy"))(handler)

    with (
        asked(well, posts=busy_but_for_the_canary) as (server, _),
        lane_on(server, tmp_path) as spool,
    ):
        spool.drop("castle.yaml", job())
        spool.start()
        spool.wait_for(failed=1)
        sent = len(server.posts) - canaries(server)
        assert sent == SENT_AT_MOST == 5
        (run,) = spool.failed()
        assert len(journal(run, "call_started")) == sent
        assert envelope(run)["diagnosis"] == "busy"
        assert len(envelope(run)["attempts"]) == sent
        assert broke(caplog) == []


def test_a_webui_that_answers_503_to_everything_costs_no_job_while_it_does(
    tmp_path: Path, hasty: None, caplog: pytest.LogCaptureFixture
) -> None:
    """Its probes are answered as if nothing were wrong: only the canary shows that it is."""
    del hasty
    mended = threading.Event()

    def busy_until_mended(handler: Handler) -> None:
        (images(picture()) if mended.is_set() else status(503, b"busy"))(handler)

    with asked(well, posts=busy_until_mended) as (server, _), lane_on(server, tmp_path) as spool:
        for name in ("castle", "moat"):
            spool.drop(f"{name}.yaml", job(name))
        spool.start()
        wait_until(lambda: canaries(server) > SENT_AT_MOST, why="it is put to the proof")
        assert len(server.posts) - canaries(server) == 1
        assert spool.failed() == []
        mended.set()
        spool.wait_for(done=2)
        assert broke(caplog) == []


def test_a_post_that_is_given_up_before_it_is_registered_is_never_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the look whether it is still wanted and its registration there is no gap: whoever
    gives it up in between has to wait with the cut until it is registered."""
    with serving(images(PNG)) as server:
        client = SDWebUIClient(server.url)
        with pytest.raises(WebUIUnreachableError, match="given up before it was sent"):
            client.generate_images("txt2img", PAYLOAD, lambda: True)

        cut = threading.Event()

        def given_up_too_late() -> bool:
            threading.Thread(target=lambda: (client.abandon(), cut.set())).start()
            return cut.wait(0.2)  # it cannot happen while this is asked

        use = Request.use

        def opened_after_the_cut(request: Request, connection: socket.socket) -> None:
            assert cut.wait(20)
            use(request, connection)

        monkeypatch.setattr(Request, "use", opened_after_the_cut)
        with pytest.raises(WebUIUnreachableError, match="given up before it was sent"):
            client.generate_images("txt2img", PAYLOAD, given_up_too_late)
        assert server.posts == []
