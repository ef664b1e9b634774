"""A proxy in front of a WebUI that gives a request up after so many seconds, as nginx, HAProxy,
gradio.live and Cloudflare do; the WebUI behind it continues what was asked."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TIMEOUT_PAGE = b"<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n</html>"


class LimitingProxy(ThreadingHTTPServer):
    """Forwards to 127.0.0.1:`target`; what takes longer than `limit` seconds is answered with
    `status` and `page`. `given_up`: the paths of these. `cuts`: so many generations of jobs are cut
    before they arrive."""

    daemon_threads = True

    def __init__(
        self, port: int, target: int, limit: float, status: int, page: bytes = TIMEOUT_PAGE
    ) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.target, self.limit, self.status, self.page = target, limit, status, page
        self.given_up: list[str] = []
        self.cuts = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: LimitingProxy

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        if self.server.cuts and "2img" in self.path and not self.headers["X-Sdwatch-Canary"]:
            self.server.cuts -= 1
            self.close_connection = True
            return
        host = http.client.HTTPConnection(
            "127.0.0.1", self.server.target, timeout=self.server.limit
        )
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        try:
            host.request(self.command, self.path, body, headers)
            answer = host.getresponse()
            status, kind, data = answer.status, answer.getheader("Content-Type", ""), answer.read()
        except ConnectionRefusedError:
            status, kind, data = 502, "text/html", b"<html><title>502 Bad Gateway</title></html>"
        except TimeoutError:
            self.server.given_up.append(self.path)
            status, kind = self.server.status, "text/html"
            data = self.server.page
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = _forward  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def limiting(
    port: int, target: int, limit: float, status: int = 504, page: bytes = TIMEOUT_PAGE
) -> Iterator[LimitingProxy]:
    """One that runs on `port`."""
    proxy = LimitingProxy(port, target, limit, status, page)
    thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), name="proxy")
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()
