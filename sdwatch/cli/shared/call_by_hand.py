"""Send a call by hand: alone with the WebUI while the monitor waits, with what the WebUI prints
meanwhile, and its pictures saved in the folder in which the command was called."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from sdwatch.config import Config, WebUIConfig, same_address
from sdwatch.errors import WebUIError
from sdwatch.policy.failure.error_lines import lines_that_matter
from sdwatch.policy.job.outputs.picture import PictureData, opened
from sdwatch.policy.privacy.printable import printable
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import UNREADABLE, read_heartbeats, watched_for
from sdwatch.system import disk
from sdwatch.system.clock import SystemClock
from sdwatch.webui.log.call_log import CallLog
from sdwatch.webui.process import process_identity

STILL_BUSY = "the WebUI is still busy; waiting for its current call to finish (Ctrl-C to cancel)"

_LOOK_EVERY = 0.2
_UNKNOWN: dict[str, Any] = {"busy": True}
"""The lane of a monitor whose heartbeat cannot be read: it may use this WebUI."""


@contextmanager
def exclusive_use(url: str, spool: Spool) -> Iterator[None]:
    """Keep the monitors of this spool from sending to that WebUI: put them on hold and wait for
    the call under way. Otherwise a call sent by hand, which may kill the WebUI, would cost an
    innocent run its attempts. Raises OSError."""
    if not lanes_at(url, spool):
        yield
        return
    ours = None if spool.hold_file() else spool.root / "hold"
    try:
        if ours is not None:
            try:
                disk.touch(ours, exist_ok=False)
            except FileExistsError:
                ours = None  # somebody's own, made in this moment
            print("a monitor runs on this spool; it is on hold until this command ends")
        _wait_until_idle(spool, url)
        yield
    finally:
        if ours is not None:
            disk.remove(ours)


def _wait_until_idle(spool: Spool, url: str) -> None:
    """Wait until each running monitor reports that it is on hold and not using this WebUI."""
    last: dict[str, tuple[object, float]] = {}  # of each, its last beat and when that came
    announced = False
    while True:
        now, states = time.monotonic(), []
        for worker, said, lane in lanes_at(url, spool):
            if worker not in last or last[worker][0] != said.get("beat"):
                last[worker] = said.get("beat"), now
            if now - last[worker][1] < watched_for(said):
                # A lane on hold has no call under way: it is busy with its WebUI, maybe forever.
                in_a_call = bool(lane.get("busy")) and not lane.get("hold")
                states.append((bool(said.get("hold")), in_a_call))
        if all(on_hold and not busy for on_hold, busy in states):
            return
        if not announced and all(on_hold for on_hold, _ in states):
            announced = True
            print(STILL_BUSY)
        time.sleep(_LOOK_EVERY)


def lanes_at(url: str, spool: Spool) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return the workers with that WebUI, each with its heartbeat and its lane."""
    return [
        (str(said.get("worker")), said, lane)
        for said in read_heartbeats(spool.root)
        for lane in said.get("lanes", [_UNKNOWN | {"url": url}] if UNREADABLE in said else [])
        if same_address(str(lane.get("url"))) == same_address(url)
    ]


def log_of(webui: WebUIConfig | None, config: Config) -> CallLog:
    """Follow the log from now on: the `log_file` of an external WebUI, or the output of our own in
    the state folder. For None, a WebUI that the config does not have, there is nothing."""
    return CallLog(() if webui is None else _paths(webui, config), SystemClock())


def said_of(error: WebUIError, log: CallLog) -> tuple[str, ...]:
    """Return what the WebUI printed during a failed call; its traceback may follow the reply."""
    log.wait_for_traceback(error, threading.Event().wait)
    return log.lines()


def shown(lines: Sequence[str]) -> list[str]:
    """Return the lines that matter, for a terminal."""
    return [f"  | {printable(line)}" for line in lines_that_matter("\n".join(lines))]


def _paths(webui: WebUIConfig, config: Config) -> tuple[Path, ...]:
    if webui.command is None:
        return (webui.log_file,) if webui.log_file else ()
    return process_identity.newest_logs(config.state / f"webui-{webui.name}")


def save(stem: str, image: PictureData) -> Path:
    """Save it and return its path: in the current folder, or in the one for temporary files if the
    current one cannot be written. Nothing is overwritten. Raises OSError."""
    with Image.open(opened(image)) as picture:
        ending = (picture.format or "img").lower().replace("jpeg", "jpg")
    return save_file(stem, ending, image)


def save_file(stem: str, ending: str, data: PictureData) -> Path:
    """Save any file in the same way. Raises OSError."""
    try:
        return _write_new(Path.cwd(), stem, ending, data)
    except OSError:
        return _write_new(Path(tempfile.gettempdir()), stem, ending, data)


def _write_new(folder: Path, stem: str, ending: str, data: PictureData) -> Path:
    count = 1
    while True:
        path = folder / (f"{stem}.{ending}" if count == 1 else f"{stem}-{count}.{ending}")
        try:
            with open(path, "xb") as file:
                shutil.copyfileobj(opened(data), file)
        except FileExistsError:
            count += 1
        else:
            return path
