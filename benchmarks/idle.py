"""What an idle monitor costs a minute: CPU, wake-ups and memory, beside supervisord. Linux.

One WebUI is ready and nothing waits. In the same minute supervisord keeps a process of the same
kind, if it can be run: `pip install supervisor` into any environment, and `--supervisord PATH`.
A wake-up is a voluntary context switch of any thread. `--threads` also prints which threads woke.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import common
import psutil


@dataclass(frozen=True)
class Sample:
    """What one process used. `cpu`: seconds; `switches`: by thread id; `rss`: bytes."""

    cpu: float
    switches: dict[int, int]
    rss: int


def main() -> int:
    """Return the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--supervisord", default=shutil.which("supervisord") or "")
    parser.add_argument("--threads", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sdwatch-idle-") as folder, ExitStack() as stack:
        root = Path(folder)
        pids = {"sdwatch": _sdwatch(root, stack)}
        if args.supervisord:
            pids["supervisord"] = _supervisord(root, args.supervisord, stack)
        time.sleep(15)  # what a start leaves behind is over
        before = {name: sample(pid) for name, pid in pids.items()}
        time.sleep(args.seconds)
        after = {name: sample(pid) for name, pid in pids.items()}
        rows = []
        for name, old in before.items():
            new, minutes = after[name], args.seconds / 60
            woke = switches(old, new)
            cells = (new.cpu - old.cpu) / minutes, sum(woke.values()) / minutes, new.rss / 2**20
            rows.append((name, f"{cells[0]:.2f} s", f"{cells[1]:.0f}", f"{cells[2]:.0f} MiB"))
            if args.threads:
                print(name, woke.most_common(), names_of(pids[name]))
        common.print_table(("a minute", "CPU", "wake-ups", "memory"), rows)
    if not args.supervisord:
        print("supervisord is not installed; --supervisord names it")
    print("aim of sdwatch: 0.04 s, 60 wake-ups, 40 MiB")
    return 0


def sample(pid: int) -> Sample:
    """Return what the process has used so far."""
    process = psutil.Process(pid)
    times = process.cpu_times()
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            status = (task / "status").read_text(encoding="ascii")
        except OSError:
            continue  # it has ended
        line = next(x for x in status.splitlines() if x.startswith("voluntary_ctxt_switches"))
        found[int(task.name)] = int(line.split()[1])
    return Sample(times.user + times.system, found, process.memory_info().rss)


def switches(before: Sample, after: Sample) -> Counter[int]:
    """Return how often each thread woke. One that came and went in between is not counted."""
    return Counter({t: n - before.switches.get(t, 0) for t, n in after.switches.items()})


def names_of(pid: int) -> dict[int, str]:
    """Return what each thread waits in, as the kernel calls it."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(t.name): (t / "wchan").read_text(encoding="ascii") for t in tasks}


def _sdwatch(root: Path, stack: ExitStack) -> int:
    port = common.free_port()
    settings = {
        "spool": str(root / "spool"),
        "state": str(root / "state"),
        "min_free": 0,
        "webuis": {
            "bench": {
                "url": f"http://127.0.0.1:{port}",
                "command": common.simulator(port, load_time=0),
            }
        },
    }
    config = root / "sdwatch.yaml"
    config.write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "sdwatch", "run", "--config", str(config)]
    pid = _started(command, root / "monitor.log", stack)
    common.wait_for_port(port)
    return pid


def _supervisord(root: Path, program: str, stack: ExitStack) -> int:
    port = common.free_port()
    config = root / "supervisord.conf"
    config.write_text(
        f"[supervisord]\nnodaemon=true\nlogfile={root}/supervisord.log\n"
        f"pidfile={root}/supervisord.pid\n[program:webui]\n"
        f"command={' '.join(common.simulator(port, load_time=0))}\n",
        encoding="utf-8",
    )
    pid = _started([program, "-c", str(config)], root / "supervisor.out", stack)
    common.wait_for_port(port)
    return pid


def _started(command: list[str], log: Path, stack: ExitStack) -> int:
    with open(log, "ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    stack.callback(common.kill_tree, process)
    return process.pid


if __name__ == "__main__":
    sys.exit(main())
