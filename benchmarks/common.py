"""What the benchmarks share: a spool with its config, simulators, the bare loop, a table."""

from __future__ import annotations

import base64
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import requests

from sdwatch import system
from sdwatch.config import Config
from sdwatch.config_file import parse_config
from sdwatch.monitor.monitor import Monitor
from sdwatch.policy.report.notice import Notice, Topic

STEPS = 20
STEP_TIME = 0.0025
IMAGE_TIME = STEPS * STEP_TIME
"""Seconds of simulated sampling for one image; drawing and sending it come on top."""

_READY_LIMIT = 60.0

TO_BE_ASKED: int = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(
    subprocess, "CREATE_NO_WINDOW", 0
)
"""For Popen's `creationflags`: a group and a console of its own, for `ask_to_stop` on Windows."""


def ask_to_stop(process: subprocess.Popen[bytes]) -> None:
    """Ask for a clean stop, as a service manager does: SIGTERM; on Windows Ctrl-Break."""
    if sys.platform == "win32":
        system.ask_to_end([], process.pid, "")
    else:
        process.terminate()


def free_port() -> int:
    """Return a TCP port on the loopback that nobody listened on a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def wait_until(
    condition: Callable[[], Any], why: str, limit: float = 60.0, every: float = 0.002
) -> Any:
    """Poll until `condition` gives something true, and return that. Raises TimeoutError."""
    deadline = time.monotonic() + limit
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {limit:g} s: {why}")
        time.sleep(every)
    return value


# -- sdwatch


def make_config(root: Path, command: Sequence[str], port: int, **webui: Any) -> Config:
    """Return a config with its spool in `root`. `command` starts the WebUI, which listens on
    `port`; `webui`: more of its settings. No cool-down, unless `webui` says one."""
    cooldown = webui.pop("cooldown", [0])
    settings = {
        "spool": str(root / "spool"),
        "state": str(root / "state"),
        "min_free": 0,
        "cooldown": cooldown,
        "webuis": {"bench": {"url": f"http://127.0.0.1:{port}", "command": list(command), **webui}},
    }
    return parse_config(json.dumps(settings).encode(), "benchmark", root)


def drop(config: Config, name: str, fields: Mapping[str, Any]) -> float:
    """Put a job of one txt2img into the inbox, whole; the moment of its rename."""
    inbox = config.spool / "inbox"
    inbox.mkdir(parents=True, exist_ok=True)
    temporary = inbox / f".{name}.tmp"
    temporary.write_text(job_text(fields), encoding="utf-8")
    moment = time.monotonic()
    temporary.rename(inbox / f"{name}.yaml")
    return moment


def job_text(fields: Mapping[str, Any]) -> str:
    """Return a job file of one txt2img (JSON is YAML)."""
    return json.dumps({"stages": [{"txt2img": dict(fields)}]})


def run_monitor(config: Config, jobs: int, limit: float = 600) -> tuple[float, float]:
    """Run sdwatch until so many jobs have ended, at most `limit` seconds: the seconds from the
    first claim to the last publish, and those of the whole, WebUI's start and stop included."""
    claims: list[float] = []
    ends: list[float] = []

    def tell(notice: Notice) -> None:
        if notice.topic in (Topic.DONE, Topic.FAILED, Topic.CANCELLED):
            ends.append(time.monotonic())
        elif notice.text.endswith(": starts"):
            claims.append(time.monotonic())
        if len(ends) == jobs:
            monitor.stop()

    log_as_sdwatch_does(config)
    monitor = Monitor(config, notify=tell)
    timer = threading.Timer(limit, monitor.stop)
    timer.start()
    begin = time.monotonic()
    try:
        monitor.run()
    finally:
        timer.cancel()
        # Close the log: on Windows the folder of a file that is open cannot be removed.
        logging.basicConfig(handlers=[logging.NullHandler()], force=True)
    if not claims or not ends:
        raise RuntimeError("sdwatch ran no job")
    return ends[-1] - claims[0], time.monotonic() - begin


def log_as_sdwatch_does(config: Config) -> None:
    """Write this process's log to a file from now on, as the command would."""
    config.state.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=config.state / "sdwatch.log", level=logging.INFO, force=True)


def published(config: Config) -> list[Path]:
    """Return all images in done/."""
    return sorted((config.spool / "done").glob("*/images/*"))


# -- the simulator and the bare loop


def simulator(port: int, **flags: Any) -> list[str]:
    """Return the command of a simulator; `step_time=0.1` becomes `--step-time 0.1`."""
    words = [sys.executable, "-m", "sdwatch.simulator", "--port", str(port)]
    for name, value in flags.items():
        words += ["--" + name.replace("_", "-"), str(value)]
    return words


@contextmanager
def running(command: Sequence[str], port: int, log: Path) -> Iterator[None]:
    """Run `command` with everything that it starts, from when the API answers until the block
    ends."""
    with open(log, "ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        wait_until(lambda: answers(port), f"{command[0]} answers", _READY_LIMIT)
        yield
    finally:
        kill_tree(process)


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """Kill a process, then all that it started: in this order, as it may start them again."""
    root = psutil.Process(process.pid)
    root.suspend()
    children = root.children(recursive=True)
    for each in (root, *children):
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait()


def answers(port: int) -> bool:
    """Return whether the API answers on `port`."""
    try:
        progress = f"http://127.0.0.1:{port}/sdapi/v1/progress?skip_current_image=true"
        return requests.get(progress, timeout=5).status_code == 200
    except requests.RequestException:
        return False


def post(port: int, fields: Mapping[str, Any], timeout: float | None = None) -> bytes:
    """Return what a bare loop does for one image: POST, decode. Raises
    requests.RequestException."""
    url = f"http://127.0.0.1:{port}/sdapi/v1/txt2img"
    reply = requests.post(url, json=dict(fields), timeout=timeout)
    reply.raise_for_status()
    return base64.b64decode(reply.json()["images"][0])


def wait_for_port(port: int) -> None:
    """Wait until the API answers."""
    wait_until(lambda: answers(port), "the WebUI answers", _READY_LIMIT, every=0.05)


def peak_memory(pid: int | None = None) -> int:
    """Return the most bytes that a process has had in memory; None for this one. Linux, Windows."""
    if sys.platform == "win32":
        return int(psutil.Process(pid).memory_info().peak_wset)
    status = Path(f"/proc/{pid or 'self'}/status").read_text(encoding="ascii")
    found = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(found.split()[1]) * 1024


# -- what is printed


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need to be; the first to the left, the others to the right."""
    widths = [max(len(row[n]) for row in (head, *rows)) for n in range(len(head))]
    for row in (head, *rows):
        cells = [text.rjust(width) for text, width in zip(row, widths, strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *cells[1:]]))
