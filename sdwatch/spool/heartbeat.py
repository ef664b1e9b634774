"""The heartbeat: which monitor works on this spool and what it does, in one small file.

Clocks of two machines are never compared: another monitor watches whether the count moves. The main
thread beats; a thread of its own does so where the main thread is late, so that a monitor that is
busy for long does not look dead.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import psutil
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sdwatch import system
from sdwatch.errors import AlreadyRunningError, RunStoppedError
from sdwatch.policy.kinds.table import kind_named
from sdwatch.spool.folders import Spool
from sdwatch.system import disk, patience
from sdwatch.system.clock import Clock, join

HEARTBEAT = "heartbeat.json"
STARTING = "begins"
"""In the heartbeat of a monitor that is checking whether it is alone, and works on nothing yet."""

UNREADABLE = "unreadable"
"""Returned beside the worker for a heartbeat that cannot be read: whether that worker is alive is
unknown."""

INTERVAL, QUIET_INTERVAL = 1.0, 10.0
"""Seconds between two beats; the second where nothing happens, and a ready WebUI waits for jobs.
Each beat says in `every` which one it is until the next."""

_READ_AGAIN_FOR = 0.5  # seconds: many times as long as a beat takes to be replaced

_WATCHED_FOR, _WATCHED_BEATS = 5.0, 3.0
"""Without a change for so many seconds, and beats, the monitor of a heartbeat is gone or frozen."""

_LOOK_EVERY = 1.0  # seconds, while others are watched


class Heartbeat:
    """This worker's file, working/<worker>/heartbeat.json, and a copy of it, `local`, for when the
    spool's share is gone. Each is replaced whole with each beat, and not synced: nothing depends on
    them after a crash. From `open` to `end` it beats by itself where `beat` comes late; `about`:
    which monitor it is of."""

    def __init__(self, spool: Spool, local: Path | None = None) -> None:
        self._path = spool.working / HEARTBEAT
        self._local = local
        self.about: dict[str, Any] = {
            "worker": spool.worker,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": system.start_mark(os.getpid()),
        }
        self._every = INTERVAL
        self._beats = 0
        self._at = 0.0  # when the last one was tried, on the clock of `time.monotonic`
        self._status = "{}"  # as JSON: whole, whatever the main thread does meanwhile
        self._lock = threading.Lock()  # one beat at a time
        self._sooner = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None

    def beat(self, status: dict[str, Any], every: float = INTERVAL) -> None:
        """Report now that this monitor is alive, and what it does. `every`: seconds until the next
        beat. Raises OSError."""
        self._status = disk.json_lines(status)
        sooner, self._every = every < self._every, every
        self._beat()
        if sooner:
            self._sooner.set()

    def beat_here(self, status: dict[str, Any]) -> None:
        """Report it on this machine only: the spool is not there."""
        with self._lock:
            self._status = disk.json_lines(status)
            self._beat_here()

    def open(self) -> None:
        """Start to beat where the main thread is late, until `end`."""
        self._thread = threading.Thread(target=self._beat_when_late, name="heartbeat", daemon=True)
        self._thread.start()

    def _beat_when_late(self) -> None:
        while not self._ended:
            late_in = self._at + 1.5 * self._every - time.monotonic()
            if self._sooner.wait(max(0.0, late_in)):
                self._sooner.clear()
            elif self._at + 1.5 * self._every <= time.monotonic():
                with suppress(OSError):  # the main thread reports it, once it can
                    self._beat()

    def _beat(self) -> None:
        with self._lock:
            if not self._ended:
                self._at = time.monotonic()
                disk.refresh(self._path, self._beat_here())

    def _beat_here(self) -> bytes:
        self._beats += 1
        about = disk.json_lines({**self.about, "beat": self._beats, "every": self._every})
        status = self._status.removeprefix("{").removesuffix("}")
        body = (about if not status else about.removesuffix("\n}") + "," + status + "}").encode()
        if self._local is not None:
            with suppress(OSError):  # the one on the spool is what counts
                disk.refresh(self._local, body)
        return body

    def end(self) -> None:
        """Stop, and remove the heartbeat: the monitor stops cleanly."""
        self._ended = True
        self._sooner.set()
        if self._thread is not None:
            join(self._thread, _WATCHED_FOR)  # bounded: it may hang on a share that is gone
        for path in filter(None, (self._path, self._local)):
            with suppress(OSError):  # it no longer moves, which means the same
                disk.remove_quietly(path)


def read_heartbeats(root: Path) -> list[dict[str, Any]]:
    """Return the heartbeats of a spool, each with `worker`, `host`, `pid`, `beat` and the
    status; or with `worker` and UNREADABLE."""
    return [seen.beat for seen in _seen_in(root)]


def read_heartbeat(path: Path) -> list[dict[str, Any]]:
    """Return the heartbeat in one file, see `read_heartbeats`; none if the file is not there."""
    return [seen.beat for seen in _seen_at(path)]


@dataclass(frozen=True)
class _Seen:
    """A heartbeat that was read once. `touched`: mtime of the file in ns, and its size."""

    beat: dict[str, Any]
    touched: tuple[int, int]

    @property
    def worker(self) -> str:
        return str(self.beat.get("worker"))

    def is_as(self, earlier: _Seen | None) -> bool:
        """Return whether it has neither moved nor started again."""
        if earlier is None:
            return False
        if UNREADABLE in self.beat or UNREADABLE in earlier.beat:
            return self.touched == earlier.touched
        return all(self.beat.get(n) == earlier.beat.get(n) for n in ("beat", "pid"))


def _seen_in(root: Path) -> list[_Seen]:
    try:
        paths = [folder / HEARTBEAT for folder in disk.folders_in(root / "working")]
    except OSError:
        return []  # a share that is gone
    return [seen for path in paths for seen in _seen_at(path)]


def _seen_at(path: Path) -> list[_Seen]:
    """Return what is in the file; nothing if it is not there. On Windows a file that is being
    replaced may be empty or unreadable for a moment (2 of 517 reads, measured), so it is read
    again."""
    touched = (0, 0)
    try:
        with suppress(PermissionError):
            status = disk.look_at(path)
            touched = status.st_mtime_ns, status.st_size
        beat = patience.patiently(
            lambda: _read_beat(path),
            lambda error: not isinstance(error, FileNotFoundError),
            _READ_AGAIN_FOR,
        )
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        beat = {"worker": path.parent.name, UNREADABLE: True}
    return [_Seen(beat, touched)]


_UNSAID: Mapping[str, Any] = {
    "host": "?", "pid": 0, "hold": "", "lanes": [], "runs": [], "counts": {}, "queued": 0,
    "waiting": {}, "every": INTERVAL,
}  # fmt: skip
"""Of a heartbeat that does not say it."""


# The shape of a heartbeat: others may write to its folder, and commands show what it says. What is
# unknown, or missing, is of another version.
_HUGE = 10**15
_Number = Annotated[float, Field(ge=-_HUGE, le=_HUGE, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=_HUGE)]
_Pid = Annotated[int, Field(ge=0, lt=2**31)]  # what the system can be asked about
_Kind = Annotated[str, AfterValidator(kind_named)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, defer_build=True)  # all are parts of _Beat


class _Progress(_Strict):
    step: _Count = 0
    steps: _Count = 0
    percent: _Number = 0
    eta: _Number = 0


class _Lane(_Strict):
    name: str
    url: str
    managed: bool
    kind: _Kind
    version: str
    state: str
    hold: str
    crashes_in_a_row: _Count
    cooldown_left: _Number
    advice: str = ""
    failed_runs: list[str] = []
    rss: _Count | None = None
    warnings: _Count = 0
    last_warning: str = ""
    busy: bool = False
    last_crash: str = ""
    last_failure: str = ""
    restarts: dict[str, _Count] = {}


class _Place(_Strict):
    kind: str = ""
    stage: _Count = 0
    stages: _Count = 0
    call: _Count = 0
    calls: _Count = 0
    point: _Count = 0
    points: _Count = 0


class _Sized(_Strict):
    stage: str
    pixels: _Count | None
    steps: _Count | None
    pictures: _Count
    calls: _Number


class _Queued(_Strict):
    source: str
    priority: int = 0
    arrived: _Number | None = None
    calls: _Count | None = None
    points: _Count | None = None
    sizes: list[_Sized] = []


class _Run(_Strict):
    run_id: str
    lane: str
    doing: str
    source: str
    calling: bool = False
    place: _Place | None = None
    points_failed: _Count = 0
    sizes: list[_Sized] = []
    progress: _Progress | None = None


class _Failing(_Strict):
    target: str = ""
    why: str = ""
    since: str = ""


class _Beat(_Strict, defer_build=False):
    worker: str
    host: str = ""
    pid: _Pid = 0
    beat: _Count = 0
    every: _Number = 1
    started: str | None = None
    at: str = ""
    hold: str = ""
    stopping: _Number | None = None
    stop_ignored: list[str] = []
    config_edited: str | None = None
    counts: dict[str, _Count] = {}
    notify: list[_Failing] = []
    lanes: list[_Lane] = []
    runs: list[_Run] = []
    queued: _Count = 0
    next: list[str] = []
    queue: list[_Queued] = []
    waiting: dict[str, str] = {}
    waiting_count: _Count = 0
    ignored: dict[str, str] = {}
    ignored_count: _Count = 0


def _read_beat(path: Path) -> dict[str, Any]:
    """Read a heartbeat. Raises OSError, or ValueError if it is not one: it has a type that sdwatch
    never writes, or a number that nothing can be done with."""
    try:
        value = json.loads(disk.read(path))
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    _Beat.model_validate(value)
    return {**_UNSAID, **value}


def is_dead_here(beat: Mapping[str, Any]) -> bool:
    """Return whether its process ran on this machine and has ended; of other machines that is not
    known."""
    return beat.get("host") == socket.gethostname() and not psutil.pid_exists(beat.get("pid", 0))


def may_live(beat: Mapping[str, Any]) -> bool:
    """Return whether the process of a heartbeat may be running, on this machine or another one."""
    return UNREADABLE in beat or not is_dead_here(beat)


def is_alive_here(beat: Mapping[str, Any]) -> bool:
    """Return whether its process runs on this machine."""
    if beat.get("host") != socket.gethostname() or is_dead_here(beat):
        return False
    # Of an earlier version it does not say when it started.
    return "started" not in beat or is_certainly_here(beat)


def is_certainly_here(beat: Mapping[str, Any]) -> bool:
    """Return whether its process runs on this machine, and is not another one with its pid."""
    started, pid = beat.get("started"), beat.get("pid", 0)
    here = beat.get("host") == socket.gethostname()
    return here and started is not None and started == system.start_mark(pid)


def watched_for(beat: Mapping[str, Any]) -> float:
    """Return the seconds without a change after which the monitor of a heartbeat is gone, or
    frozen."""
    every = QUIET_INTERVAL if UNREADABLE in beat else float(beat.get("every", INTERVAL))
    return max(_WATCHED_FOR, _WATCHED_BEATS * min(every, QUIET_INTERVAL))


def refuse_second_monitor(
    spool: Spool, clock: Clock, *, works: bool = False, stop: threading.Event | None = None
) -> dict[str, _Seen]:
    """Watch the heartbeats of others, for as long as they may stand still. Raises
    AlreadyRunningError naming the one that moves, as soon as it does. A heartbeat that does not
    move is of a monitor that is gone, and blocks nobody: these are returned, by worker. `works`:
    this monitor works already, and was frozen; it gives way to those that work, and those that are
    only starting give way to it. Raises RunStoppedError once `stop` is set."""
    return _watch_others(spool, clock, {}, lambda beat: not (works and beat.get(STARTING)), stop)


def give_way(
    spool: Spool, clock: Clock, still: Mapping[str, _Seen], stop: threading.Event | None = None
) -> None:
    """Give way to a monitor that started at the same moment, and so was not seen by
    `refuse_second_monitor`, which returned `still`. Called after our first beat and before the
    first claim: each beats before it reads, so at least one of two sees the other. A monitor
    that works already stays; of those that are starting, the one whose worker sorts first.
    Raises AlreadyRunningError, RunStoppedError."""
    _watch_others(
        spool,
        clock,
        still,
        lambda beat: not beat.get(STARTING) or str(beat.get("worker")) < spool.worker,
        stop,
    )


def _watch_others(
    spool: Spool,
    clock: Clock,
    still: Mapping[str, _Seen],
    gives_way_to: Callable[[Mapping[str, Any]], bool],
    stop: threading.Event | None,
) -> dict[str, _Seen]:
    before = {seen.worker: seen for seen in _seen_in(spool.root)}
    before.pop(spool.worker, None)
    unsure = [seen for worker, seen in before.items() if not seen.is_as(still.get(worker))]
    left = max((watched_for(seen.beat) for seen in unsure), default=0.0)
    while left > 0:
        if clock.wait(stop or threading.Event(), min(left, _LOOK_EVERY)):
            raise RunStoppedError("the monitor was stopped")
        left -= _LOOK_EVERY
        _refuse_what_moved(spool, before, gives_way_to)
    return before


def _refuse_what_moved(
    spool: Spool, before: Mapping[str, _Seen], gives_way_to: Callable[[Mapping[str, Any]], bool]
) -> None:
    for seen in _seen_in(spool.root):
        earlier = before.get(seen.worker)
        if earlier is None or seen.is_as(earlier) or not gives_way_to(seen.beat):
            continue
        # The earlier one may have more of it.
        who = earlier.beat if UNREADABLE in seen.beat else seen.beat
        raise AlreadyRunningError(
            f"another monitor works on {spool.root}: worker {seen.worker}, {_where(who)}. "
            "Stop it first, or use another spool"
        )


def _where(beat: Mapping[str, Any]) -> str:
    if UNREADABLE in beat:
        return "whose heartbeat changes and cannot be read"
    return f"process {beat.get('pid')} on {beat.get('host')}"
