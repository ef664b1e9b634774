"""Send a message from a process of its own, and wait for it, within a limit."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sdwatch
from sdwatch import system
from sdwatch.notify.delivery import Delivery, Receipt
from sdwatch.policy.notify.target import Target

LIMIT_S = 60.0
"""Far more than a service takes: on a machine that is busy, Python alone takes seconds to start."""

_FLAGS = int(getattr(subprocess, "CREATE_NO_WINDOW", 0)) | int(
    getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
)
_PAUSE_S = 0.05


def send(
    target: Target,
    body: dict[str, Any] | None,
    *,
    limit: float = LIMIT_S,
    given_up: Callable[[], bool] = lambda: False,
) -> Delivery:
    """Send `body`, which has a `title` and a `text`, to a target. With None nothing is sent: SENT
    if apprise is there and knows the address. Takes at most about `limit` seconds, and ends within
    a moment once `given_up` returns True. Never raises."""
    order = {"channel": str(target.channel), "url": target.url, "body": body, "limit": limit}
    data = json.dumps(order).encode()
    try:
        process = _started()
    except OSError:
        return Delivery(Receipt.FAILED)
    said: list[bytes] = []
    # On a thread: with a timeout, `communicate` would give up what it has not written by then.
    reader = threading.Thread(
        target=lambda: said.append(_exchange(process, data)), name="notify answer", daemon=True
    )
    reader.start()
    deadline = time.monotonic() + limit
    while reader.is_alive() and time.monotonic() < deadline and not given_up():
        reader.join(_PAUSE_S)
    late = reader.is_alive()
    if late:
        process.kill()
    reader.join(1.0)
    return Delivery(Receipt.TIMED_OUT) if late else _delivery_in(b"".join(said))


def _started() -> subprocess.Popen[bytes]:
    """Start it in a session of its own, so that a Ctrl-C for the monitor does not end it. In the
    folder of this package: Python looks there first for what is imported, and whoever may write to
    the current folder, such as a share, could put a module there."""
    return subprocess.Popen(
        [system.python_of_console(), "-m", "sdwatch.notify"],
        cwd=Path(sdwatch.__file__).resolve().parents[1],
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        creationflags=_FLAGS,
    )


def _exchange(process: subprocess.Popen[bytes], data: bytes) -> bytes:
    try:
        return process.communicate(data)[0]
    except (OSError, ValueError):
        return b""


def _delivery_in(said: bytes) -> Delivery:
    try:
        result, status = json.loads(said)
        return Delivery(Receipt(result), int(status))
    except (ValueError, TypeError):
        return Delivery(Receipt.FAILED)
