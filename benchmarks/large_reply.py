"""The memory that a large reply takes: beside a bare requests.post that reads the same bytes.

A server of this process answers one call with pictures of noise. A process of its own receives
them as sdwatch does and saves them in a run; another posts the same with requests and `stream`, and
throws the parts away. Printed: by how much each one's largest resident size is above what it was
before the call, and the limit: 16 MiB for what is encoded, and one decoded picture.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import common
import requests
from PIL import Image

from sdwatch.policy.job.calls.payload import Call
from sdwatch.spool.run import Run
from sdwatch.system.clock import SystemClock
from sdwatch.webui.http.checked_reply import ReplyChecks
from sdwatch.webui.http.client import SDWebUIClient

_ENCODED = 16 << 20
_PIXEL = 4  # bytes of a pixel that Pillow has decoded


def main() -> int:
    """Return the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=105)
    parser.add_argument("--side", type=int, default=2048, help="of each picture, in pixels")
    parser.add_argument("--kind", choices=("PNG", "JPEG"), default="PNG")
    parser.add_argument("--as", dest="role", choices=("sdwatch", "bare"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role:
        print(_above_idle(args.role, args.port, args.side))
        return 0
    body = reply(args.megabytes * 1_000_000, args.side, args.kind)
    with Serving(body) as port:
        took = {role: _run(role, port, args.side) for role in ("bare", "sdwatch")}
    limit = _ENCODED + args.side * args.side * _PIXEL
    rows = [(role, _mib(bytes_), f"{bytes_ / len(body):.2f}") for role, bytes_ in took.items()]
    print(f"a reply of {len(body) / 1e6:.0f} MB, {args.kind}s of {args.side}x{args.side}")
    common.print_table(("", "above idle", "of the reply"), rows)
    print(f"sdwatch: {took['sdwatch'] / limit:.2f} of the limit, which is {_mib(limit)}")
    return 0


def reply(size: int, side: int, kind: str) -> bytes:
    """Return a reply of about `size` bytes."""
    buffer = io.BytesIO()
    noise = random.Random(1).randbytes(side * side * 3)
    Image.frombytes("RGB", (side, side), noise).save(buffer, kind, quality=95, compress_level=1)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return json.dumps({"images": [encoded] * max(1, size // len(encoded)), "info": "{}"}).encode()


class Serving:
    """Answer each POST with `body`; enter it for the port."""

    def __init__(self, body: bytes) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                del args

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> int:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self._server.server_port

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _run(role: str, port: int, side: int) -> int:
    words = [sys.executable, __file__, "--as", role, "--port", str(port), "--side", str(side)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(ended.stderr)
    return int(ended.stdout)


def _above_idle(role: str, port: int, side: int) -> int:
    """Make one call, and return the bytes that its process had at most above those before it."""
    Image.init()  # the formats of Pillow, which a monitor has loaded with its first picture
    before = common.peak_memory()
    url = f"http://127.0.0.1:{port}"
    if role == "bare":
        with requests.post(f"{url}/sdapi/v1/txt2img", json={}, stream=True, timeout=600) as answer:
            for _ in answer.iter_content(1 << 16):
                pass
        return common.peak_memory() - before
    with tempfile.TemporaryDirectory(prefix="sdwatch-large-") as folder:
        run = Run(Path(folder), SystemClock())
        payload = {"width": side, "height": side}
        client = SDWebUIClient(url, scratch=Path(folder))
        answered = client.generate_images("txt2img", payload)
        ReplyChecks().check("txt2img", payload, answered)
        run.finish_call(Call("1.1", 1, 1, "txt2img", {}, ()), answered.images, answered.first_image)
        run.close()
    return common.peak_memory() - before


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"


if __name__ == "__main__":
    sys.exit(main())
