"""A process of its own that asks a WebUI for one picture after the other and reports how each ended
and how much memory that took: `python -m tests.api.receiver URL NUMBER [MB]`, with another
bound for the size of a reply."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from sdwatch.errors import WebUIError
from sdwatch.webui.http import client as client_module
from sdwatch.webui.http import reply
from sdwatch.webui.http.client import SDWebUIClient


def fresh_peak() -> int:
    """The memory in bytes that this process has now, from which its peak is counted again."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # proc_pid_clear_refs(5)
    return peak()


def peak() -> int:
    """The most memory in bytes that this process had. Not getrusage's, which on Linux starts with
    that of the parent."""
    status = Path("/proc/self/status")
    if not status.exists():
        return int(getattr(psutil.Process().memory_info(), "peak_wset", 0))
    lines = status.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def outcome(client: SDWebUIClient) -> str:
    """How one generation ended."""
    try:
        client.generate_images("txt2img", {"prompt": "a castle"})
    except WebUIError as error:
        return f"{type(error).__name__}: {error}"
    return "images"


def main() -> None:
    """Print one JSON line for each: how it ended, and the bytes that it took."""
    if len(sys.argv) > 3:
        client_module.MAX_REPLY_BYTES = reply.MAX_REPLY_BYTES = int(sys.argv[3]) << 20
    client = SDWebUIClient(sys.argv[1])
    for _ in range(int(sys.argv[2])):
        before = fresh_peak()
        said = outcome(client)
        print(json.dumps([said[:300], peak() - before]), flush=True)


if __name__ == "__main__":
    main()
