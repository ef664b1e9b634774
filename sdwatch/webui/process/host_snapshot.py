"""Snapshots of the host: memory, load, disk, the WebUI's processes, and the GPU if it can be asked.
Taken periodically, so that after a crash the state before it is known. Never raises.

Command lines are not read: they may hold passwords.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any

import psutil

from sdwatch.policy.failure.facts import is_memory_low
from sdwatch.system import disk
from sdwatch.system.clock import Clock, iso

SAMPLE_INTERVAL_S = 10.0
"""Seconds between two snapshots while nothing fails."""

MINUTE = 60.0
"""Share of all memory: with less than this left, a process that dies silently ran out of memory."""

JUST_BEFORE = 3 * SAMPLE_INTERVAL_S
GPU_LIMIT = 2.0
_MOST_PROCESSES = 50
_LONGEST_ANSWER = 4000
_NO_WINDOW = int(getattr(subprocess, "CREATE_NO_WINDOW", 0))
_GPU_QUESTIONS = (
    (
        "nvidia-smi",
        "--query-gpu=name,driver_version,memory.used,memory.total,utilization.gpu,temperature.gpu",
        "--format=csv",
    ),
    ("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--showuse", "--csv"),
)


@dataclass(frozen=True)
class ProcessSeen:
    """One process of the WebUI with those that it started. `rss`: bytes. `cpu`: processor seconds
    so far. `parent`: a pid, which may be outside of the WebUI or gone."""

    pid: int
    parent: int
    name: str
    rss: int
    cpu: float
    children: tuple[ProcessSeen, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """The host at one moment. Bytes, except `memory_percent` (in use) and `load` (over the last
    minute; None where the system has none)."""

    at: str
    memory_total: int = 0
    memory_available: int = 0
    memory_percent: float = 0.0
    swap_total: int = 0
    swap_used: int = 0
    load: float | None = None
    processes: tuple[ProcessSeen, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return it as in machine.json."""
        return asdict(self)


def memory_low(snapshot: Snapshot | None) -> bool | None:
    """Return whether almost no memory was left; None where that is unknown."""
    if snapshot is None or not snapshot.memory_total:
        return None
    return is_memory_low(snapshot.memory_available, snapshot.memory_total)


def memory_in_words(snapshot: Snapshot | None) -> str:
    """Return what was left, such as `5.2 of 16.0 GB of memory were free`; '' where that is
    unknown."""
    if snapshot is None or not snapshot.memory_total:
        return ""
    free, total = snapshot.memory_available / 1e9, snapshot.memory_total / 1e9
    return f"{free:.1f} of {total:.1f} GB of memory were free"


class HostSnapshots:
    """Remembers the snapshots of the last minutes. `folders`: name to folder, whose disk's free
    bytes are in the evidence. `family`: returns the WebUI's processes. `sample` is for one thread,
    the rest for any."""

    def __init__(
        self,
        clock: Clock,
        folders: Mapping[str, Path],
        family: Callable[[], Sequence[psutil.Process]] = tuple,
    ) -> None:
        self._clock = clock
        self._folders = dict(folders)
        self._family = family
        self._seen: deque[tuple[float, Snapshot]] = deque(
            maxlen=int(2 * MINUTE / SAMPLE_INTERVAL_S)
        )

    def sample(self) -> None:
        """Take a snapshot if the last one is old enough."""
        now = self._clock.monotonic()
        if not self._seen or now - self._seen[-1][0] >= SAMPLE_INTERVAL_S:
            self._seen.append((now, self._snapshot()))

    def memory_before(self) -> Snapshot | None:
        """Return the snapshot just before now with the least memory left: what died since has given
        its memory back. None without a snapshot."""
        now = self._clock.monotonic()
        before = [seen for at, seen in tuple(self._seen) if now - at <= JUST_BEFORE]
        known = [seen for seen in before if seen.memory_total > 0]
        return min(known, key=lambda seen: seen.memory_available, default=None)

    def at_failure(self) -> dict[str, Any]:
        """Return all that is known now, for the evidence. The GPU is asked, which takes a moment.
        Earlier snapshots say by how many seconds; `a_minute_before` is the one nearest to that."""
        now, seen = self._clock.monotonic(), tuple(self._seen)
        # In the first minute there may be a single snapshot, which is the last one, too.
        minute = min(seen[:-1], key=lambda one: abs(now - one[0] - MINUTE), default=None)
        return {
            "at_the_failure": self._snapshot().as_json(),
            "just_before": _ago(now, seen[-1]) if seen else None,
            "a_minute_before": _ago(now, minute) if minute else None,
            "disk_free": {name: _free(folder) for name, folder in self._folders.items()},
            "gpu": ask_gpu(),
        }

    def _snapshot(self) -> Snapshot:
        known: dict[str, Any] = {}
        with suppress(psutil.Error, OSError, RuntimeError):
            memory = psutil.virtual_memory()
            known |= {
                "memory_total": memory.total,
                "memory_available": memory.available,
                "memory_percent": memory.percent,
            }
        with suppress(psutil.Error, OSError, RuntimeError):
            swap = psutil.swap_memory()
            known |= {"swap_total": swap.total, "swap_used": swap.used}
        if sys.platform != "win32":
            with suppress(OSError):
                known["load"] = round(os.getloadavg()[0], 2)
        with suppress(psutil.Error, OSError):
            known["processes"] = _processes(self._family())
        return Snapshot(iso(self._clock.wall()), **known)


def _ago(now: float, look: tuple[float, Snapshot]) -> dict[str, Any]:
    at, snapshot = look
    return {"seconds_before": round(now - at, 1), **snapshot.as_json()}


def _processes(family: Sequence[psutil.Process]) -> tuple[ProcessSeen, ...]:
    """Return the processes whose parent is none of them, each with its children."""
    found = []
    for process in family[:_MOST_PROCESSES]:
        with suppress(psutil.Error, OSError):
            times = process.cpu_times()
            cpu = round(times.user + times.system, 1)
            rss = process.memory_info().rss
            found.append(ProcessSeen(process.pid, process.ppid(), process.name(), rss, cpu))
    pids = {process.pid for process in found}
    return tuple(_with_children(one, found) for one in found if one.parent not in pids)


def _with_children(parent: ProcessSeen, found: Sequence[ProcessSeen]) -> ProcessSeen:
    children = (one for one in found if one.parent == parent.pid != one.pid)
    return replace(parent, children=tuple(_with_children(child, found) for child in children))


def _free(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def ask_gpu(limit: float = GPU_LIMIT) -> list[str] | str:
    """Return what the driver's own tool says about the GPU, line by line; or in words why it says
    nothing."""
    answer, lines = gpu_answer(limit)
    return lines if answer in (GpuAnswer.ANSWERED, GpuAnswer.FAILED) else " ".join(lines)


class GpuAnswer(Enum):
    """Whether the driver's own tool answers. FAILED: it says that something is wrong; NONE: it
    could not be started, or hangs."""

    ANSWERED = auto()
    FAILED = auto()
    NONE = auto()
    NOT_INSTALLED = auto()


def gpu_answer(limit: float = GPU_LIMIT) -> tuple[GpuAnswer, list[str]]:
    """Ask the driver's tool; return what became of that, and its lines, or one that says why there
    are none. `limit`: seconds."""
    for name, *flags in _GPU_QUESTIONS:
        if (tool := shutil.which(name)) is not None:
            return _answer([tool, *flags], name, limit)
    return GpuAnswer.NOT_INSTALLED, ["neither nvidia-smi nor rocm-smi is installed"]


def _answer(command: Sequence[str], name: str, limit: float) -> tuple[GpuAnswer, list[str]]:
    try:
        asked = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            creationflags=_NO_WINDOW,
        )
    except OSError as error:
        return GpuAnswer.NONE, [f"{name} could not be started: {disk.in_words(error)}"]
    try:
        said, _ = asked.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        asked.kill()  # without waiting: if the GPU hangs, it hangs in the kernel
        why = f"{name} did not answer within {limit:g} s: the GPU or its driver may hang"
        return GpuAnswer.NONE, [why]
    except (OSError, ValueError) as error:
        return GpuAnswer.NONE, [f"the output of {name} could not be read: {disk.in_words(error)}"]
    lines = said[:_LONGEST_ANSWER].decode("utf-8", "replace").splitlines()
    return GpuAnswer.FAILED if asked.returncode else GpuAnswer.ANSWERED, lines
