"""What others on the network, or pages of other sites, may try: over real sockets."""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sdwatch.policy.page.overview import MonitorCard, Overview, Presence
from sdwatch.web import app, connection_limits, request_forms
from sdwatch.web.connection_limits import BoundedProtocol
from tests.support.helpers import wait_until
from tests.web.served import (
    DONE,
    FAILED,
    WORKING,
    Served,
    add_runs,
    served,
    status_of,
    until_closed,
)

SECRET = "the secret beside the spool"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root = tmp_path_factory.mktemp("web")
    (root / "secret.txt").write_text(SECRET, "utf-8")
    with served(root) as it:
        add_runs(it.spool)
        (it.spool.root / "secret.txt").write_text(SECRET, "utf-8")
        (it.spool.done / "secret.txt").write_text(SECRET, "utf-8")
        yield it


# -- paths

PATHS = [
    "/done/../secret.txt", "/done/%2e%2e/secret.txt", "/done/%2E%2E%2Fsecret.txt",
    "/done/..%2f..%2fsecret.txt", "/done/%252e%252e/secret.txt", "/done/..%5csecret.txt",
    "/done/..\\secret.txt", "/done/%5c%5chost%5cshare%5cx", "/done//secret.txt", "//secret.txt",
    "/done/./secret.txt", "/done/secret.txt%00.png", "/done/%00", "/done/C:/Windows/win.ini",
    "/done/C:%5CWindows%5Cwin.ini", "/done/secret.txt::$DATA", "/done/CON", "/done/run/nul.txt",
    "/done/run/aux", "/done/~/secret.txt", "/done/%c0%ae%c0%ae/secret.txt", "/secret.txt",
    "/done/%ff%fe", "/working/../secret.txt", "/inbox/castle.yaml", "/../secret.txt",
    "/static/../app.py", "/static/%2e%2e%2fapp.py", "/static/..%2Fserver.py", "/static/app.py",
    "/done/run/" + "a" * 5000, "/done/" + "a/" * 600, "/done/run/x.", "/done/run/%20x",
    f"/done/{DONE}/../../../secret.txt", f"/done/{DONE}/images/../../../../secret.txt",
    "/runs/..%2f..%2f/edit", "/runs/%2e%2e/edit", f"/runs/{DONE}%2f..%2f{DONE}/edit",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_outside_of_the_runs(page: Served, path: str) -> None:
    reply = page.raw_get(path)
    assert 400 <= status_of(reply) < 500, reply[:300]
    assert SECRET.encode() not in reply


def test_a_very_long_request_line_is_refused(page: Served) -> None:
    assert status_of(page.raw_get("/done/" + "a" * 200_000)) == 400


@pytest.mark.posix_only("links need a privilege on Windows; tests/spool has junctions")
def test_no_link_in_a_run_is_followed(page: Served) -> None:
    run = page.spool.done / DONE
    (run / "linked.txt").symlink_to(page.root / "secret.txt")
    (run / "linked").symlink_to(page.root)
    (page.spool.done / "linked-run").symlink_to(page.root)
    for path in ("linked.txt", "linked/secret.txt", "../linked-run/secret.txt"):
        reply = page.raw_get(f"/done/{DONE}/{path}".replace(f"{DONE}/../", ""))
        assert status_of(reply) == 404
        assert SECRET.encode() not in reply
    assert "linked" not in page.get(f"/done/{DONE}/").text


@pytest.mark.posix_only("a job folder with a link")
def test_the_editor_neither_shows_nor_writes_what_a_link_leads_to(page: Served) -> None:
    run = page.spool.failed / "20261128-020000.000-linked-dd04"
    (run / "job").mkdir(parents=True)
    (run / "job" / "job.yaml").symlink_to(page.root / "secret.txt")
    shown = page.get(f"/runs/{run.name}/edit", Cookie=page.cookie)
    assert shown.status_code in (404, 409)
    assert SECRET not in shown.text
    page.post(f"/runs/{run.name}/edit", {"job": "prompt: x"})
    assert (page.root / "secret.txt").read_text("utf-8") == SECRET


@pytest.mark.posix_only("a pipe")
def test_a_pipe_in_a_run_is_not_waited_for(page: Served) -> None:
    os.mkfifo(page.spool.done / DONE / "pipe.txt")
    assert page.get(f"/done/{DONE}/pipe.txt").status_code == 404


# -- pages of other sites


CHANGES = ["/hold", "/resume", "/inbox/cancel", f"/runs/{WORKING}/cancel", f"/runs/{FAILED}/retry",
           f"/runs/{FAILED}/edit", "/drop", "/drop/files"]  # fmt: skip


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize(
    ("headers", "fields", "status"),
    [
        ({"Cookie": "", "Origin": ""}, {"token": ""}, 401),
        ({"Cookie": ""}, {}, 401),
        ({}, {"token": ""}, 403),
        ({}, {"token": "x" * 64}, 403),
        ({"Origin": "http://evil.example"}, {}, 403),
        ({"Origin": "null"}, {}, 403),
        ({"Origin": ""}, {}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, {}, 403),
        ({"Host": "evil.example"}, {}, 421),
        ({"Cookie": "", "Authorization": "Bearer wrong"}, {}, 401),
    ],
)
def test_nothing_changes_without_the_token_or_from_another_site(
    page: Served, path: str, headers: dict[str, str], fields: dict[str, str], status: int
) -> None:
    before = everything_in(page.spool.root)
    given = {"prompt": "x", "job": "prompt: x", "source": "castle.yaml", **fields}
    assert page.post(path, given, **headers).status_code == status
    assert everything_in(page.spool.root) == before


@pytest.mark.parametrize("path", CHANGES[:3] + CHANGES[-1:])
def test_a_link_changes_nothing(page: Served, path: str) -> None:
    reply = page.get(path, Cookie=page.cookie)
    assert reply.status_code in (404, 405)
    assert page.get("/drop?prompt=x", Cookie=page.cookie).status_code == 200
    assert not list(page.inbox.iterdir())


def everything_in(root: Path) -> set[str]:
    return {str(path) for path in root.rglob("*")}


def test_a_name_that_leads_here_only_now_shows_nothing(page: Served) -> None:
    for path in (
        "/",
        "/events",
        "/metrics",
        "/status.json",
        f"/done/{DONE}/run.json",
        "/static/live.js",
    ):
        reply = page.get(path, Host="evil.example", Cookie=page.cookie)
        assert reply.status_code == 421
        assert DONE not in reply.text


def test_without_the_token_a_page_has_no_button_and_no_token(page: Served) -> None:
    for path in ("/", f"/failed/{FAILED}/"):
        text = page.get(path).text
        assert "<form" not in text
        assert page.access.form_token not in text
        assert page.access.form_token in page.get(path, Cookie=page.cookie).text
    for path in ("/drop", f"/runs/{FAILED}/edit"):
        assert page.get(path).status_code == 401


def test_the_secret_itself_is_on_no_page(page: Served) -> None:
    for path in ("/", "/drop", f"/runs/{FAILED}/edit", "/status.json", "/metrics"):
        reply = page.get(path, Cookie=page.cookie)
        assert page.access.token not in reply.text + str(reply.headers)
        assert page.access.cookie not in reply.text


def test_the_link_of_the_terminal_gives_a_cookie_that_no_other_site_can_use(page: Served) -> None:
    reply = page.get(f"/?token={page.access.token}")
    cookie = reply.headers["Set-Cookie"]
    assert cookie.startswith(page.cookie)
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert page.access.token not in reply.text
    assert "Set-Cookie" not in page.get("/?token=wrong").headers
    assert page.get(f"/?token={page.access.token}", Host="evil.example").status_code == 421


def test_elsewhere_everything_needs_the_token(tmp_path: Path) -> None:
    with served(tmp_path, address="0.0.0.0") as it:
        add_runs(it.spool)
        for path in ("/", "/events", "/metrics", "/status.json", f"/done/{DONE}/run.json", "/drop"):
            assert it.get(path).status_code == 401
        token = f"Bearer {it.access.token}"
        assert it.get("/metrics", Authorization=token).status_code == 200
        assert it.get("/", Cookie=it.cookie).status_code == 200
        assert it.get("/static/style.css").status_code == 200


def test_a_browser_may_do_nothing_but_show(page: Served) -> None:
    shown = page.get("/", Cookie=page.cookie)
    policy = shown.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in shown.text
    assert "<style" not in shown.text
    assert " style=" not in shown.text
    assert " onclick" not in shown.text
    for path in ("/", "/metrics", f"/done/{DONE}/images/castle.png", "/nothing"):
        headers = page.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_hostile_names_are_text(page: Served) -> None:
    name = "20261128-030000.000-x-ee05"
    run = page.spool.failed / name
    run.mkdir()
    hostile = "<script>alert(1)</script>\"'&\u202e.yaml"
    record = {"at": "2026-11-28T03:00:00.000Z", "event": "claimed", "source": hostile}
    (run / "journal.jsonl").write_text(json.dumps(record) + "\n", "utf-8")
    (run / "WHY.txt").write_text("</pre><img src=x onerror=alert(1)>\n", "utf-8")
    (run / "job.yaml").write_text("</textarea><script>alert(1)</script>: x\n", "utf-8")
    for path in (f"/failed/{name}/", f"/runs/{name}/edit"):
        text = page.get(path, Cookie=page.cookie).text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "\u202e" not in text


# -- types


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.html", "application/octet-stream"),
        ("x.svg", "application/octet-stream"),
        ("x.xhtml", "application/octet-stream"),
        ("x.pdf", "application/octet-stream"),
        ("noending", "application/octet-stream"),
        ("x.png.js", "application/octet-stream"),
        ("x.txt", "text/plain; charset=utf-8"),
        ("x.YAML", "text/plain; charset=utf-8"),
        ("x.json", "application/json"),
        ("x.webp", "image/webp"),
        ("x.JPG", "image/jpeg"),
    ],
)
def test_a_file_has_the_type_of_its_name_and_never_one_with_scripts(
    page: Served, name: str, kind: str
) -> None:
    (page.spool.done / DONE / name).write_text("<script>alert(1)</script>", "utf-8")
    reply = page.get(f"/done/{DONE}/{name}")
    assert reply.headers["Content-Type"] == kind
    assert "sandbox" in reply.headers["Content-Security-Policy"]
    assert ("attachment" in reply.headers.get("Content-Disposition", "")) == ("octet" in kind)


def test_parts_of_a_file(page: Served) -> None:
    data = bytes(range(256)) * 1000
    (page.spool.done / DONE / "data.png").write_bytes(data)
    path = f"/done/{DONE}/data.png"
    size = len(data)
    whole = page.get(path)
    assert (whole.status_code, whole.content) == (200, data)
    for asked, start, end in (
        ("bytes=0-0", 0, 1), ("bytes=5-9", 5, 10), ("bytes=255990-", 255_990, size),
        ("bytes=-7", size - 7, size), ("bytes=9-99999999", 9, size), ("bytes=-99999999", 0, size),
    ):  # fmt: skip
        part = page.get(path, Range=asked)
        assert part.content == data[start:end], asked
        assert part.status_code == (206 if end - start < size else 200)
        if part.status_code == 206:
            assert part.headers["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
    for asked in ("bytes=256000-", "bytes=-0", "bytes=999999999-9999999999"):
        assert page.get(path, Range=asked).status_code == 416
    for asked in (
        "bytes=9-5",
        "bytes=a-b",
        "bytes=0-1,5-6",
        "lines=1-2",
        "bytes=" + "9" * 400 + "-",
    ):
        assert page.get(path, Range=asked).status_code == 200
    assert page.get(path, If_None_Match=whole.headers["ETag"]).status_code == 304
    head = page._send("HEAD", path, {})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(size)


def test_an_empty_file_is_sent(page: Served) -> None:
    (page.spool.done / DONE / "empty.txt").touch()
    assert page.get(f"/done/{DONE}/empty.txt", Range="bytes=0-5").content == b""


# -- clients that take, or send, too much or nothing


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "patience", 0.5)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"POST /hold HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nOrigin: http://127.0.0.1:PORT\r\n"
        b"Cookie: COOKIE\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: 100\r\n\r\ntoken=",
    ],
)
def test_a_client_that_sends_no_more_is_cut_off(page: Served, sent: bytes) -> None:
    sent = sent.replace(b"PORT", str(page.port).encode()).replace(b"COOKIE", page.cookie.encode())
    with socket.create_connection(("127.0.0.1", page.port), timeout=60) as connection:
        connection.sendall(sent)
        until_closed(connection)


@pytest.mark.usefixtures("impatient")
def test_a_client_that_takes_nothing_is_cut_off(page: Served) -> None:
    large = page.spool.done / DONE / "large.png"
    with open(large, "wb") as file:
        file.truncate(200 << 20)
    with socket.create_connection(("127.0.0.1", page.port), timeout=60) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"GET /done/{DONE}/large.png HTTP/1.1\r\nHost: {page.host}\r\n\r\n"
        connection.sendall(head.encode())
        protocols = page.server._server.server_state.connections
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        wait_until(lambda: not protocols, 60, "it was cut off")
    large.unlink()


def test_an_upload_that_is_too_large_is_refused(
    page: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_forms, "MOST_BYTES", 100_000)
    head = (
        f"POST /drop/files HTTP/1.1\r\nHost: {page.host}\r\nOrigin: {page.origin}\r\n"
        f"Cookie: {page.cookie}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    ).encode()
    said = page.raw(head, b"Content-Length: 200000\r\n\r\n", b"x")
    assert status_of(said) == 413
    body = (
        b"--x\r\nContent-Disposition: form-data; name=files; filename=a.yaml\r\n\r\n"
        + b"a" * 150_000
    )
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in (body[:70_000], body[70_000:]))
    assert status_of(page.raw(head, b"Transfer-Encoding: chunked\r\n\r\n", chunks)) == 413
    assert not list(page.inbox.iterdir())


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b"--x\r\nbroken"),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: form-data\r\n\r\nx\r\n--x--",
        ),
        ("application/json", b'{"token": 1}'),
        ("application/x-www-form-urlencoded", b"&".join(b"a%d=1" % n for n in range(2000))),
        ("text/plain", b"\xff\x00" * 100),
    ],
)
def test_a_broken_form_changes_nothing(page: Served, kind: str, body: bytes) -> None:
    before = everything_in(page.spool.root)
    headers = {"Content-Type": kind, "Cookie": page.cookie, "Origin": page.origin}
    reply = page._send("POST", "/drop/files", headers, data=body)
    assert reply.status_code in (400, 403)
    assert everything_in(page.spool.root) == before


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /hold HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /hold HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n0\r\n\r\n",
        b"GET /done/\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"DELETE /hold HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"TRACE / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_no_request_of_ours_is_refused(page: Served, sent: bytes) -> None:
    assert 400 <= status_of(page.raw(sent)) < 500
    assert page.get("/").status_code == 200


def test_headers_without_an_end_are_cut_off(page: Served) -> None:
    reply = page.raw(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"X: y\r\n" * 2_000_000)
    assert not reply or status_of(reply) == 400  # it was cut off while it was still sending
    assert page.get("/").status_code == 200


def test_many_watchers_are_served_and_no_more_than_that(
    page: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "MOST_WATCHERS", 20)
    head = f"GET /events HTTP/1.1\r\nHost: {page.host}\r\n\r\n".encode()
    watchers = [socket.create_connection(("127.0.0.1", page.port), timeout=60) for _ in range(20)]
    try:
        for each in watchers:
            each.sendall(head)
        got = [first_event(each) for each in watchers]
        assert all(b"event: main\ndata: " in data for data in got)
        reply = page.get("/events")
        assert (reply.status_code, reply.headers["Retry-After"]) == (503, "10")
        assert page.get("/").status_code == 200
    finally:
        for each in watchers:
            each.close()
    live = page.server._app.live
    wait_until(lambda: live.watchers == 0, 60, "the streams ended with their browsers")


def first_event(connection: socket.socket) -> bytes:
    data = b""
    while b"</footer>" not in data:
        part = connection.recv(65536)
        assert part, data
        data += part
    return data


def test_a_share_that_hangs_hangs_no_other_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdwatch.web.live._SLOW", 0.3)
    goes_on = threading.Event()
    with served(tmp_path) as it:
        reader = it.server._app.live._reader
        monkeypatch.setattr(reader, "read", lambda: goes_on.wait(60) and None)
        try:
            assert it.get("/").status_code == 503
            assert it.get("/status.json").status_code == 503
            assert it.get("/static/style.css").status_code == 200
            with socket.create_connection(("127.0.0.1", it.port), timeout=60) as stream:
                stream.sendall(f"GET /events HTTP/1.1\r\nHost: {it.host}\r\n\r\n".encode())
                data = b""
                while b"event: slow" not in data:
                    data += stream.recv(65536)
        finally:
            goes_on.set()


@pytest.mark.usefixtures("impatient")
def test_headers_that_drip_in_are_cut_off_however_busily(page: Served) -> None:
    stop = threading.Event()
    with socket.create_connection(("127.0.0.1", page.port), timeout=60) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")

        def drip() -> None:
            with suppress(OSError):
                while not stop.wait(0.05):
                    connection.sendall(b"y")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert until_closed(connection) == b""
        finally:
            stop.set()
            thread.join(60)


@pytest.mark.usefixtures("impatient")
def test_a_connection_that_asks_again_and_again_is_kept(page: Served) -> None:
    head = f"GET /static/style.css HTTP/1.1\r\nHost: {page.host}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", page.port), timeout=60) as connection:
        until = time.monotonic() + 6 * BoundedProtocol.patience
        while time.monotonic() < until:
            connection.sendall(head)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            while select.select([connection], [], [], 0.1)[0]:
                assert connection.recv(65536), "it was cut off between two requests"


def test_connections_that_ask_nothing_make_room_for_those_that_ask(
    page: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_limits, "MOST_OPEN", 20)
    idle = [socket.create_connection(("127.0.0.1", page.port), timeout=60) for _ in range(60)]
    for each in idle[40:]:
        each.sendall(b"GET / HTTP/1.1\r\nX: ")
    protocols = page.server._server.server_state.connections
    try:
        wait_until(lambda: len(protocols) == 20, 60, "the others were closed")
        assert page.get("/").status_code == 200
    finally:
        for each in idle:
            each.close()
    wait_until(lambda: not protocols, 60, "they ended")


def test_one_address_of_the_network_leaves_connections_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection_limits, "MOST_OF_ONE", 2)
    first, second, other, third = (connected(name, n) for n, name in enumerate("AABA"))
    for each in (first, second, other, third):
        each.connections = {first, second, other, third}  # type: ignore[assignment]
    assert not connected("A", 9, first, other)._is_one_too_many()
    assert third._is_one_too_many()
    assert third._oldest_that_asks_nothing() is first
    first.cycle = second.cycle = SimpleNamespace(response_complete=False)  # type: ignore[assignment]
    assert third._oldest_that_asks_nothing() is other, "what is served is not cut off"
    other.cycle = first.cycle
    assert third._oldest_that_asks_nothing() is third
    for each in (first, second, other, third):
        each.client = ("127.0.0.1", 1)
    assert not third._is_one_too_many(), "on this machine a proxy has the one address"


def connected(address: str, since: float, *others: BoundedProtocol) -> BoundedProtocol:
    """A connection without a socket."""
    protocol = BoundedProtocol.__new__(BoundedProtocol)
    protocol.client, protocol._since = (address, 1), since
    protocol.transport = SimpleNamespace(is_closing=lambda: False)  # type: ignore[assignment]
    protocol.cycle = None  # type: ignore[assignment]
    protocol.connections = {protocol, *others}  # type: ignore[assignment]
    return protocol


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("path", ["/", "/events", "/status.json", "/metrics", f"/done/{DONE}/"])
def test_a_page_of_another_site_cannot_use_this_one(page: Served, site: str, path: str) -> None:
    """It could read nothing, but take all connections, or learn what is there from errors."""
    for mode, dest in (("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe")):
        asked = {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": mode, "Sec_Fetch_Dest": dest}
        assert page.get(path, **asked).status_code == 403
    followed = {
        "Sec_Fetch_Site": site, "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document",
    }  # fmt: skip
    if path != "/events":
        assert page.get(path, **followed).status_code == 200


def test_the_page_is_made_once_for_all_who_watch(
    page: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    monkeypatch.setattr(app.page, "main", lambda *_, **__: made.append(1) or "x")
    web, overview = page.server._app, Overview("night", 0.0, MonitorCard(Presence.STOPPED))
    assert {web._main(overview, "") for _ in range(100)} == {"x"}
    assert len(made) == 1
    web._main(overview, "T")
    web._main(replace(overview), "")
    assert len(made) == 3
