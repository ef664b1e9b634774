"""The real command line as a process, and a spool that is quick."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import warm
from tests.support.helpers import UNHURRIED, ask_to_stop, free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 100.0 * UNHURRIED


def _env(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **more}


def sdwatch(cwd: Path, *args: object, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as quickly as the system can; see warm.py."""
    if not warm.CAN_FORK:
        return started(cwd, *args, **env)
    ended = warm.run("-m", "sdwatch", *map(str, args), cwd=cwd, env=_env(**env), limit=LIMIT)
    out, err = _text(ended.stdout), _text(ended.stderr)
    return subprocess.CompletedProcess(ended.args, ended.returncode, out, err)


def _text(printed: bytes) -> str:
    return printed.decode("utf-8").replace("\r\n", "\n")


def started(cwd: Path, *args: object, **env: str) -> subprocess.CompletedProcess[str]:
    """The same by starting Python, with all that a start does."""
    return subprocess.run(
        [sys.executable, "-m", "sdwatch", *map(str, args)],
        cwd=cwd,
        env=_env(**env),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=LIMIT,
        check=False,
    )


@contextmanager
def running(cwd: Path, *, held: bool = False) -> Iterator[warm.Process]:
    """`sdwatch run` in the background, once it says in its heartbeat that a lane is ready, or
    `held`; stopped cleanly at the end."""
    monitor = warm.begin("-m", "sdwatch", "run", out=cwd / "run.out", cwd=cwd, env=_env())
    try:
        wait_until(lambda: is_held(cwd) if held else "ready" in states(cwd), 60, "the lane is so")
        yield monitor
    finally:
        stop(monitor)


def stop(monitor: warm.Process) -> int:
    """Ask it to stop, as a service manager does; its exit code."""
    if monitor.poll() is None:
        ask_to_stop(monitor)
    return monitor.wait(LIMIT)


def heartbeat(cwd: Path) -> dict[str, Any]:
    """What the monitor said last; {} before it said anything."""
    for path in cwd.glob("working/*/heartbeat.json"):
        try:
            value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            continue
        return value
    return {}


def is_held(cwd: Path) -> bool:
    """Whether a lane is on hold."""
    return any(lane["hold"] for lane in heartbeat(cwd).get("lanes", []))


def states(cwd: Path) -> list[str]:
    """The states of the lanes."""
    return [lane["state"] for lane in heartbeat(cwd).get("lanes", [])]


def make_spool(cwd: Path, *flags: str, **settings: object) -> Path:
    """A spool in `cwd` with a quick simulator, and a config that a command there finds."""
    command = ["{python}", "-m", "sdwatch.simulator", "--port", "{port}", "--boot-time", "0.1"]
    webui = {"url": f"http://127.0.0.1:{free_port()}", "command": [*command, *flags]}
    config = {
        "spool": ".",
        "state": "state",
        "settle": 0.1,
        "min_free": "1 MB",
        "cooldown": [0.2],
        **settings,
        "webuis": {"simulator": webui},
    }
    path = cwd / "sdwatch.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    path.chmod(0o644)
    (cwd / "inbox").mkdir()
    return cwd


def drop(cwd: Path, name: str, text: str = "prompt: a castle\nsteps: 2\n") -> Path:
    """A job file in the inbox."""
    path = cwd / "inbox" / name
    path.write_text(text, encoding="utf-8")
    return path


def only(cwd: Path, folder: str) -> Path:
    """The one run in done/ or failed/."""
    (run,) = (cwd / folder).iterdir()
    return run
