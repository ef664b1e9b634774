"""A WebUI on a real socket that answers GET as one of the four kinds was recorded to, and POST with
a picture, as far as that kind has the route."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

from sdwatch.policy.job.stage.stage_kinds import API
from tests.facts.catalogues import answers, openapi

Answer = tuple[int, bytes] | Callable[["RecordedWebUI"], tuple[int, bytes]]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: RecordedWebUI

    def do_GET(self) -> None:
        self.answer(*self.server.answer_to(self.path.partition("?")[0]))

    def do_POST(self) -> None:
        fields = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.posts.append((self.path, fields))
        if self.server.has_another(self.path):
            self.answer(*self.server.answer_to(self.path))
            return
        images = [base64.b64encode(noisy(fields)).decode()]
        known = self.path in (f"{API}txt2img", f"{API}img2img")
        body = json.dumps({"images": images, "info": "{}"}).encode()
        self.answer(*((200, body) if known else self.server.nothing()))

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


def noisy(fields: Mapping[str, Any]) -> bytes:
    """A picture of the size that was asked for, of more than one colour."""
    size = (fields.get("width", 64), fields.get("height", 64))
    image = Image.new("RGB", size, (200, 10, 10))
    image.paste((10, 200, 10), (0, 0, size[0] // 2, size[1]))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class RecordedWebUI(ThreadingHTTPServer):
    """`instead`: other answers, by route below /sdapi/v1/ or by whole path. `asked`: the paths, in
    order; `posts`: path and fields. `over` ends answers that hang."""

    daemon_threads = True

    def __init__(self, kind: str, instead: Mapping[str, Answer] | None = None) -> None:
        self.kind = kind
        self.asked: list[str] = []
        self.posts: list[tuple[str, Any]] = []
        self.over = threading.Event()
        self._instead = dict(instead or {})
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def nothing(self) -> tuple[int, bytes]:
        """To what it does not have."""
        return 404, b"" if self.kind == "sdcpp" else b'{"detail":"Not Found"}'

    def has_another(self, path: str) -> bool:
        """Whether it was given another answer to this."""
        return path.removeprefix(API) in self._instead

    def answer_to(self, path: str) -> tuple[int, bytes]:
        self.asked.append(path)
        name = path.removeprefix(API)
        if (instead := self._instead.get(name)) is not None:
            return instead(self) if callable(instead) else instead
        if path == "/openapi.json" and self.kind != "sdcpp":
            return 200, json.dumps(openapi(self.kind)).encode()
        if path == f"{API}progress" and self.kind != "sdcpp":
            return 200, b'{"progress": 0.0, "state": {"job": "", "job_count": 0}}'
        recorded = answers(self.kind).get(name)
        if path == name or recorded is None:
            return self.nothing()
        return recorded["status"], json.dumps(recorded["body"]).encode()


def hangs(server: RecordedWebUI) -> tuple[int, bytes]:
    """No answer until the test is over."""
    server.over.wait()
    return 200, b"[]"


@contextmanager
def recorded(kind: str, instead: Mapping[str, Answer] | None = None) -> Iterator[RecordedWebUI]:
    """See RecordedWebUI."""
    server = RecordedWebUI(kind, instead)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
