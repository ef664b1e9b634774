"""A spool with some runs, served by a real server on a real socket, in a thread of this process."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from sdwatch.config_file import default_config_text, parse_config
from sdwatch.spool.folders import Spool
from sdwatch.web.access import Access, token_in
from sdwatch.web.page_server import WebServer, listen
from tests.spool.spools import picture

DONE, FAILED, WORKING = (
    "20261127-220000.000-castle-aa01",
    "20261127-230000.000-cave-bb02",
    ("20261128-010000.000-moor-cc03"),
)
WORKER = "box-1"


@dataclass
class Served:
    """`port`: on the loopback; `access`: its rules, with the token."""

    root: Path
    spool: Spool
    access: Access
    port: int
    server: WebServer

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def origin(self) -> str:
        return f"http://{self.host}"

    @property
    def inbox(self) -> Path:
        return self.spool.inbox

    def get(self, path: str, **headers: str) -> requests.Response:
        """As a browser without the token; headers by their names with `_`."""
        return self._send("GET", path, headers)

    def stream(self, path: str) -> Any:
        """GET, and read nothing of the body."""
        return self._send("GET", path, {}, stream=True)

    def post(self, path: str, fields: Mapping[str, str], **headers: str) -> requests.Response:
        """As a browser that pressed a button of the page; what `headers` or `fields` give instead
        is laid over that."""
        given = {"Origin": self.origin, "Cookie": self.cookie, **_named(headers)}
        fields = {"token": self.access.form_token, **fields}
        return self._send("POST", path, given, data=fields)

    @property
    def cookie(self) -> str:
        return f"{self.access.cookie_name}={self.access.cookie}"

    def _send(self, method: str, path: str, headers: Mapping[str, str], **more: Any) -> Any:
        named = {name: value for name, value in _named(headers).items() if value}
        url = f"{self.origin}{path}"
        reply = requests.request(
            method, url, headers=named, timeout=60, allow_redirects=False, **more
        )
        reply.encoding = "utf-8"
        return reply

    def raw(self, *parts: bytes) -> bytes:
        """Send bytes as they are; all that comes until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            with suppress(ConnectionError):  # it was refused before its end
                connection.sendall(b"".join(parts))
            return until_closed(connection)

    def raw_get(self, path: str) -> bytes:
        """GET a path that no client would send so."""
        head = f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\nConnection: close\r\n\r\n"
        return self.raw(head.encode("latin-1"))


def until_closed(connection: socket.socket) -> bytes:
    data = b""
    try:
        while part := connection.recv(65536):
            data += part
    except ConnectionResetError:
        pass
    return data


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def status_of(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


@contextmanager
def served(
    root: Path, *, address: str = "127.0.0.1", url: str = "", port: int = 0
) -> Iterator[Served]:
    """A server on the spool `root/spool`, with the token of `root/state`."""
    config = parse_config(default_config_text().encode(), "it", root / "spool" / "config")
    spool = Spool(root / "spool", "")
    spool.prepare()
    access = Access(token_in(root / "state"), address, url)
    listener = listen("127.0.0.1", port)
    server = WebServer(spool, config, access, listener)
    thread = threading.Thread(target=server.run, name="web")
    port = listener.getsockname()[1]
    thread.start()
    try:
        yield Served(root, spool, access, port, server)
    finally:
        server.stop(now=True)
        thread.join(60)
        assert not thread.is_alive()


def add_runs(spool: Spool) -> None:
    """A done run, a failed one, and one in working/."""
    add_run(spool.done / DONE, "done")
    failed = add_run(spool.failed / FAILED, "failed", diagnosis="out of memory")
    (failed / "WHY.txt").write_text("Out of memory: <b>the cave</b> is too large\n", "utf-8")
    (failed / "error.json").write_text('{"diagnosis": "out of memory", "blame": "job"}', "utf-8")
    working = add_run(spool.root / "working" / WORKER / WORKING, "")
    (working / "run.json").unlink()


def add_run(folder: Path, outcome: str, *, diagnosis: str = "", stage: str = "txt2img") -> Path:
    """A run's folder as the monitor leaves it."""
    images = folder / "images"
    images.mkdir(parents=True)
    (folder / "job.yaml").write_text("prompt: a castle\nsteps: 2\n", "utf-8")
    source = f"{folder.name.split('-')[2]}.yaml"
    end = (
        {"outcome": "finished"} if not diagnosis else {"outcome": "failed", "diagnosis": diagnosis}
    )
    times = {"began": "2026-11-28T01:00:00.000Z", "ended": "2026-11-28T01:00:07.000Z"}
    image = {"name": "castle.png", "sha256": "0", "size": 1, "width": 8, "height": 16}
    records = [
        {"at": times["began"], "event": "claimed", "source": source},
        {"at": times["ended"], "event": "ended", "outcome": outcome},
    ]
    lines = [json.dumps(record) for record in records if outcome or record["event"] == "claimed"]
    (folder / "journal.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    call = {"call": "1.1", "attempts": [{**times, **end}], "images": [] if diagnosis else [image]}
    manifest = {
        "run_id": folder.name,
        "outcome": outcome,
        "webui": {"name": "sim"},
        "job": {"name": "castle", "stages": [{stage: {"prompt": "a castle"}}]},
        "calls": [call],
    }
    (folder / "run.json").write_text(json.dumps(manifest), "utf-8")
    (images / "castle.png").write_bytes(picture())
    return folder
