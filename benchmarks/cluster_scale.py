"""Where a cluster bends: up to a thousand boxes and a million jobs at a real broker.

`python benchmarks/cluster_scale.py --boxes 1000 --jobs 1000000` starts `sdwatch cluster up` and
`sdwatch run --dispatch` as commands with their own settings, on the loopback, and boxes that only
pretend. Real are the broker with its configuration, the whole dispatcher (inbox, placement,
hand-over with its epoch, what comes back, publication, the healing of what is stuck), its disk, and
what a box decides: `policy/cluster`'s box_step, read, entry_of, to_bytes, card_of, and the lists.
Pretended are the boxes' processes (`pretend_boxes.py`: many in one), their spool and WebUI, and
their calls, which take 0.5 to 1.5 times `--call` seconds and make one noisy picture of `--side`
pixels. Jobs arrive as there are places, and what is published is removed, so a million need no disk
of their size. All is below TMPDIR: on a disk each message waits for a sync.

It prints a line of what was used each `--every` seconds, then figures for each job: messages and
bytes at the broker, CPU of broker and dispatcher, seconds from claim to the box (p50, p99), seconds
from a run's end to the box's next one; before it, what the boxes cost that only wait. Exit 1 where
a job failed, or not all end within `--limit` seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import requests
from common import ask_to_stop, free_port, job_text, print_table, wait_until

from sdwatch.lane.lane import ACTIVE_RUNS
from sdwatch.policy.cluster.names import Times
from sdwatch.policy.queue.run_names import is_run_id
from sdwatch.spool.heartbeat import read_heartbeats

HERE = Path(__file__).resolve().parent
_BOXES_IN_ONE = 250
_KEPT = 500  # published runs that are not removed yet: the dispatcher may still close them


@dataclass
class Sample:
    """What was used so far. Bytes and seconds of CPU; `messages` and `data`: what the broker was
    sent and has sent; `files`: of its store."""

    at: float
    done: int
    messages: int
    data: int
    broker_cpu: float
    broker_memory: int
    files: int
    dispatcher_cpu: float
    dispatcher_memory: int

    def shown(self, before: Sample) -> str:
        """Return a line for people, with what happened since `before`."""
        seconds = max(1e-6, self.at - before.at)
        return (
            f"{self.at:7.0f} s  {self.done:8,} jobs "
            f"({(self.done - before.done) / seconds:5.1f}/s)  "
            f"broker {self.broker_memory >> 20:5} MB, {self.files >> 20:5} MB on disk, "
            f"{(self.broker_cpu - before.broker_cpu) / seconds:4.0%} CPU, "
            f"{(self.messages - before.messages) / seconds:6.0f} msgs/s  "
            f"dispatcher {self.dispatcher_memory >> 20:5} MB, "
            f"{(self.dispatcher_cpu - before.dispatcher_cpu) / seconds:4.0%} CPU"
        )


class Trial:
    """The broker, the dispatcher, and the processes of the boxes."""

    def __init__(self, root: Path, args: argparse.Namespace) -> None:
        self.root = root
        self._args = args
        self._began = time.monotonic()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._notes: list[Path] = []
        self.done = self.dropped = 0
        self.failed: list[str] = []
        self.spool = root / "spool"
        self._config = root / "sdwatch.yaml"
        settings = {"spool": str(self.spool), "state": str(root / "state"), "webuis": {}}
        self._config.write_text(json.dumps({**settings, "min_free": 0, "settle": 0.5}))

    # -- processes

    def start(self) -> None:
        """Start all, and wait until each box shows itself and has its places."""
        port = free_port()
        up = self._run("sdwatch", "cluster", "up", "--port", str(port))
        nats = self.root / "state" / "nats"
        wait_until(lambda: (nats / "url").exists(), "the broker's URL", 60)
        wait_until(lambda: self._varz(), "the broker answers", 60, every=0.1)
        self._broker = psutil.Process(up.pid).children()[0]
        self._start_boxes((nats / "url").read_text())
        dispatcher = self._run("sdwatch", "run", "--dispatch")
        self._dispatcher = psutil.Process(dispatcher.pid)
        wanted = ACTIVE_RUNS * self._args.boxes
        wait_until(lambda: self._places() >= wanted, "all boxes show themselves", 600, every=0.5)

    def _run(self, module: str, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", module, *words, "--config", str(self._config)]
        return self._popen(command, f"{words[0]}.txt")

    def _popen(self, command: list[str], out: str) -> subprocess.Popen[bytes]:
        with open(self.root / out, "ab") as file:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=HERE.parent
            )
        self._processes.append(process)
        return process

    def _start_boxes(self, url: str) -> None:
        for first in range(0, self._args.boxes, _BOXES_IN_ONE):
            last = min(first + _BOXES_IN_ONE, self._args.boxes)
            note = self.root / f"boxes-{first}.json"
            given = {"url": url, "call": self._args.call, "side": self._args.side}
            given |= {"times": asdict(Times()), "boxes": [first, last]}
            note.write_text(json.dumps(given))
            self._notes.append(note)
            self._popen([sys.executable, str(HERE / "pretend_boxes.py"), str(note)], "boxes.txt")

    def _places(self) -> int:
        for beat in read_heartbeats(self.spool):
            boxes = beat.get("cluster", {}).get("boxes", {}).values()
            return sum(box["places"] for box in boxes if box["answers"])
        return 0

    def stop(self) -> dict[str, list[float]]:
        """Stop all; return what the boxes measured."""
        for process in reversed(self._processes):
            ask_to_stop(process)
        for process in self._processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
        measured: dict[str, list[float]] = {"handed": [], "next": []}
        for note in self._notes:
            with suppress(OSError):
                for key, values in json.loads(note.with_suffix(".out").read_text()).items():
                    if key in measured:
                        measured[key] += values
        return measured

    # -- jobs

    def feed(self) -> None:
        """Drop as many jobs as keep a queue, and remove what was published."""
        for name in ("done", "failed"):
            with suppress(FileNotFoundError):
                names = [entry.name for entry in (self.spool / name).iterdir()]
                runs = sorted(filter(is_run_id, names))
                if name == "failed" and runs:
                    self.failed = runs
                for run in runs[: -_KEPT or None] if name == "done" else ():
                    shutil.rmtree(self.spool / name / run, ignore_errors=True)
                    self._removed += 1
                if name == "done":
                    self.done = self._removed + len(runs[-_KEPT:])
        ahead = 2 * ACTIVE_RUNS * self._args.boxes + 50
        while self.dropped < min(self._args.jobs, self.done + ahead):
            self._drop(self.dropped)
            self.dropped += 1

    _removed = 0

    def _drop(self, number: int) -> None:
        inbox = self.spool / "inbox"
        temporary = inbox / f".{number}.tmp"
        fields = {"prompt": f"castle {number}", "steps": 20, "width": 64, "height": 64, "seed": 1}
        temporary.write_text(job_text(fields))
        temporary.rename(inbox / f"j{number:07}.yaml")

    def live_through(self) -> list[Sample]:
        """Have all jobs done; return what was used meanwhile."""
        samples = [self.sample()]
        while self.done + len(self.failed) < self._args.jobs:
            self.feed()
            time.sleep(0.2)
            if time.monotonic() - self._began - samples[-1].at >= self._args.every:
                samples.append(self.sample())
                print(samples[-1].shown(samples[-2]), flush=True)
            if samples[-1].at - samples[0].at > self._args.limit:
                break
        return [*samples, self.sample()]

    # -- what is used

    def _varz(self) -> dict[str, Any]:
        try:
            config = (self.root / "state" / "nats" / "nats.conf").read_text()
            (port,) = re.findall(r'^http: "127.0.0.1:(\d+)"', config, re.M)
            return dict(requests.get(f"http://127.0.0.1:{port}/varz", timeout=30).json())
        except (OSError, ValueError, requests.RequestException):
            return {}

    def sample(self) -> Sample:
        """Return what is used now."""
        said = self._varz()
        broker, dispatcher = self._broker.cpu_times(), self._dispatcher.cpu_times()
        files = 0
        with suppress(FileNotFoundError):  # some are removed meanwhile
            for file in (self.root / "state" / "nats" / "store").rglob("*"):
                files += file.stat().st_size
        return Sample(
            time.monotonic() - self._began,
            self.done,
            said.get("in_msgs", 0) + said.get("out_msgs", 0),
            said.get("in_bytes", 0) + said.get("out_bytes", 0),
            broker.user + broker.system,
            self._broker.memory_info().rss,
            files,
            dispatcher.user + dispatcher.system,
            self._dispatcher.memory_info().rss,
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--boxes", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--call", type=float, default=10.0, help="seconds of each call")
    parser.add_argument("--side", type=int, default=128, help="of the picture: 3 bytes a pixel")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds without a job, before")
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two lines")
    parser.add_argument("--limit", type=float, default=24 * 3600.0, help="seconds")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what it started ends with it
    root = Path(tempfile.mkdtemp(prefix="sdwatch-scale-"))
    trial = Trial(root, args)
    print(f"load at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    try:
        trial.start()
        idle = [trial.sample()]
        time.sleep(args.idle)
        idle.append(trial.sample())
        samples = trial.live_through()
    finally:
        measured = trial.stop()
    report(args, idle, samples, measured)
    if trial.failed or trial.done < args.jobs:
        print(f"{trial.done} of {args.jobs} jobs done, {len(trial.failed)} failed; kept: {root}")
        return 1
    shutil.rmtree(root, ignore_errors=True)
    return 0


def report(
    args: argparse.Namespace,
    idle: list[Sample],
    samples: list[Sample],
    measured: dict[str, list[float]],
) -> None:
    """Print the figures."""
    (rest, ready), (first, last) = idle, (samples[0], samples[-1])
    waited, jobs, seconds = ready.at - rest.at, max(1, last.done), last.at - first.at
    rows = [
        ["idle: messages a second", f"{(ready.messages - rest.messages) / waited:.0f}"],
        ["idle: KB a second", f"{(ready.data - rest.data) / waited / 1024:.0f}"],
        ["idle: CPU of broker", f"{(ready.broker_cpu - rest.broker_cpu) / waited:.1%}"],
        ["idle: CPU of dispatcher", f"{(ready.dispatcher_cpu - rest.dispatcher_cpu) / waited:.1%}"],
        ["jobs a second", f"{jobs / seconds:.1f}"],
        ["messages a job", f"{(last.messages - first.messages) / jobs:.0f}"],
        ["KB a job", f"{(last.data - first.data) / jobs / 1024:.0f}"],
        ["ms of CPU a job, broker", f"{(last.broker_cpu - first.broker_cpu) / jobs * 1e3:.1f}"],
        [
            "ms of CPU a job, dispatcher",
            f"{(last.dispatcher_cpu - first.dispatcher_cpu) / jobs * 1e3:.1f}",
        ],
        ["broker: MB of memory, at most", f"{max(s.broker_memory for s in samples) >> 20}"],
        ["broker: MB on disk, at most", f"{max(s.files for s in samples) >> 20}"],
        ["dispatcher: MB of memory, at most", f"{max(s.dispatcher_memory for s in samples) >> 20}"],
    ]
    for key, text in (
        ("handed", "s from claim to box"),
        ("next", "s from a run's end to the next"),
    ):
        values = sorted(measured[key]) or [0.0]
        middle, late = values[len(values) // 2], values[len(values) * 99 // 100]
        rows.append([f"{text}, p50 / p99", f"{middle:.2f} / {late:.2f}"])
    print(f"load at the end: {os.getloadavg()[0]:.1f}\n")
    print_table([f"{args.boxes} boxes, {last.done} jobs, calls of {args.call:g} s", ""], rows)


if __name__ == "__main__":
    sys.exit(main())
