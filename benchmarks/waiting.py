"""What 100,000 waiting jobs cost: the time to the first POST, memory, and the time per job.

The jobs lie in the inbox before sdwatch starts, and a WebUI that answers at once is ready. Printed:
the seconds from the moment when all jobs have settled (the monitor began, plus `settle`) to the
first POST, as a ratio to a bare os.scandir and stat of the same folder; the memory, and the CPU
until the first POST, that each waiting job adds to a monitor with few of them, the CPU as a ratio
to that of the bare scan; and the seconds per job, as a ratio to the same with few. CPU says more
than seconds where others use the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import common
import psutil

SETTLE = 2.0
FEW = 300
_LIMIT = 240.0


@dataclass(frozen=True)
class Measured:
    """With so many jobs. Seconds: `bare` scan, `first` POST after they have settled, `each` job.
    Seconds of CPU: `bare_cpu` of that scan, `cpu` of the monitor until the first POST. Bytes:
    memory `after` the last job that was counted, and at its `peak`."""

    jobs: int
    bare: float
    bare_cpu: float
    first: float
    cpu: float
    each: float
    after: int
    peak: int


def main() -> int:
    """Return the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--counted", type=int, default=200, help="jobs for the time per job")
    args = parser.parse_args()
    sizes = FEW, max(args.jobs // 10, 2 * FEW), args.jobs
    few, some, many = (measured(jobs, args.counted) for jobs in sizes)
    more = many.jobs - few.jobs
    rows = [
        (
            f"{m.jobs:,}",
            f"{m.bare:.3f} s",
            f"{m.first:.2f} s",
            f"{m.first / m.bare:.1f}",
            f"{m.cpu:.2f} s",
            f"{m.each * 1e3:.1f} ms",
            f"{m.after / 2**20:.0f} MiB",
            f"{m.peak / 2**20:.0f} MiB",
        )
        for m in (few, some, many)
    ]
    head = ("waiting", "bare scan", "first POST", "ratio", "its CPU", "each job", "memory", "peak")
    common.print_table(head, rows)
    print(f"first POST after they have settled: {many.first:.2f} s (aim: 3 s or less)")
    for m in (some, many):
        own, bare = (m.cpu - few.cpu) / (m.jobs - few.jobs), m.bare_cpu / m.jobs
        print(
            f"CPU until the first POST for each of {m.jobs:,}: {own * 1e6:.1f} us, "
            f"{own / bare:.1f} times a bare scan's {bare * 1e6:.1f} us"
        )
    for name, byte in (("memory", many.after - few.after), ("peak", many.peak - few.peak)):
        print(f"{name} for each waiting job: {byte / more:,.0f} bytes (aim: 1,024 or less)")
    print(
        f"time per job, ratio to {few.jobs} waiting: {many.each / few.each:.2f} (aim: 1.2 or less)"
    )
    return 0


def measured(jobs: int, counted: int) -> Measured:
    """Run sdwatch on so many waiting jobs until `counted` POSTs were made."""
    with tempfile.TemporaryDirectory(prefix="sdwatch-waiting-") as folder:
        root = Path(folder)
        inbox = root / "spool" / "inbox"
        inbox.mkdir(parents=True)
        for number in range(jobs):
            fields = {
                "prompt": f"a castle in the fog, number {number}, " + "highly detailed, " * 10
            }
            fields |= {"seed": number, "steps": 1, "width": 64, "height": 64}
            (inbox / f"{number:06d}.yaml").write_text(common.job_text(fields), encoding="utf-8")
        port, record = common.free_port(), root / "record.txt"
        record.touch()
        simulator = [sys.executable, str(Path(__file__).with_name("recording_simulator.py"))]
        simulator += [str(record), "--port", str(port), "--load-time", "0", "--step-time", "0"]
        with common.running(simulator, port, root / "webui.log"):
            return _with_sdwatch(root, port, record, jobs, counted)


def _with_sdwatch(root: Path, port: int, record: Path, jobs: int, counted: int) -> Measured:
    config = root / "sdwatch.yaml"
    settings = {
        "spool": str(root / "spool"),
        "state": str(root / "state"),
        "min_free": 0,
        "settle": SETTLE,
        "webuis": {"bench": {"url": f"http://127.0.0.1:{port}"}},
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    scans = [_bare_scan(root / "spool" / "inbox") for _ in range(3)]
    bare, bare_cpu = (min(scan[n] for scan in scans) for n in range(2))
    command = [sys.executable, "-m", "sdwatch", "run", "--config", str(config)]
    with open(root / "monitor.log", "ab") as out:
        monitor = subprocess.Popen(
            command, stdout=out, stderr=out, creationflags=common.TO_BE_ASKED
        )
    try:
        common.wait_until(
            lambda: _has_started(root) or monitor.poll() is not None, "it starts", _LIMIT
        )
        if monitor.poll() is not None:
            raise RuntimeError((root / "monitor.log").read_text(encoding="utf-8"))
        settled = time.monotonic() + SETTLE
        common.wait_until(lambda: _posts(record), "the first POST", _LIMIT)
        used = psutil.Process(monitor.pid).cpu_times()
        common.wait_until(lambda: len(_posts(record)) >= counted, f"{counted} POSTs", _LIMIT, 0.2)
        posts = _posts(record)[:counted]
        memory = psutil.Process(monitor.pid).memory_info()
        peak = common.peak_memory(monitor.pid)
        each = (posts[-1] - posts[0]) / (counted - 1)
        first, cpu = posts[0] - settled, used.user + used.system
        return Measured(jobs, bare, bare_cpu, first, cpu, each, memory.rss, peak)
    finally:
        common.kill_tree(monitor)


def _bare_scan(folder: Path) -> tuple[float, float]:
    """Return its seconds, and those of CPU."""
    began, cpu = time.perf_counter(), time.process_time()
    with os.scandir(folder) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)
    return time.perf_counter() - began, time.process_time() - cpu


def _has_started(root: Path) -> bool:
    """Return whether the monitor has a heartbeat."""
    return any((root / "spool" / "working").glob("*/heartbeat.json"))


def _posts(record: Path) -> list[float]:
    """Return when each POST came, on the monotonic clock."""
    lines = (line.split() for line in record.read_text(encoding="ascii").splitlines())
    return [float(words[2]) for words in lines if words[0] == "call"]


if __name__ == "__main__":
    sys.exit(main())
