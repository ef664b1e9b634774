"""How soon sdwatch acts: from a file's rename into the inbox to the POST that comes of it, and
from the SIGKILL of the WebUI to the first instruction of the new process.

Each drop is alone: the WebUI is idle and sdwatch has nothing else to do, in one row since a
moment ago, in the other since so long that no event of the last job is still under way. The
POST's time is when the WebUI has read its headers. The cool-down is 0. All times are of the
machine's one monotonic clock, taken in the processes where they happen. Beside them runs what a
script would do at best: for a drop, rename the file, read it, requests.post; for a death, a loop
of wait and start.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import common
import yaml

from sdwatch.config import Config
from sdwatch.monitor.monitor import Monitor

RECORDER = Path(__file__).with_name("recording_simulator.py")
FIELDS: dict[str, Any] = {"prompt": "a castle", "steps": 1, "width": 64, "height": 64}
MOMENT = 0.02  # seconds after a publish, so that whoever published has nothing left to do
REST = 0.6


def main() -> int:
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="sdwatch-latency-") as name:
        folder = Path(name)
        bare = Recorded(folder / "bare.txt")
        bare_posts = bare_drops(bare, folder, args.drops)
        bare_starts = bare_deaths(bare, folder, args.kills)
        busy_posts, rested_posts, our_starts = with_sdwatch(folder, args.drops, args.kills)
    head = ("", "bare median", "p99", "sdwatch median", "p99", "ratio of medians")
    rows = (
        row(f"rename to POST, {args.drops} drops, each after {MOMENT} s", bare_posts, busy_posts),
        row(f"rename to POST, {args.drops} drops, each after {REST} s", bare_posts, rested_posts),
        row(f"SIGKILL to new process, {args.kills} kills", bare_starts, our_starts),
    )
    common.print_table(head, rows)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--drops", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    return parser.parse_args()


def row(what: str, bare: list[float], ours: list[float]) -> tuple[str, ...]:
    cells = [f"{1000 * figure(times):.1f} ms" for times in (bare, ours) for figure in (median, p99)]
    return (what, *cells, f"{median(ours) / median(bare):.2f}")


def p99(times: list[float]) -> float:
    return quantiles(times, n=100, method="inclusive")[98] if len(times) > 1 else times[0]


class Recorded:
    """A recording simulator, and what it has written into `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.port = common.free_port()
        speed = ("--step-time", "0", "--boot-time", "0", "--load-time", "0")
        self.command = (sys.executable, str(RECORDER), str(path), "--port", str(self.port), *speed)
        path.touch()

    def all(self, event: str) -> list[tuple[int, float]]:
        """Return the pid and the time of each `start` or `post` so far. A line that is not whole
        yet is left out, and so is what a line of another event has besides."""
        whole, _, _ = self.path.read_text(encoding="ascii").rpartition("\n")
        words = [line.split() for line in whole.splitlines()]
        return [(int(pid), float(at)) for name, pid, at, *_ in words if name == event]

    def after(self, event: str, seen: int) -> tuple[int, float]:
        """Return the one that follows the first `seen`, as soon as it is there."""
        common.wait_until(lambda: len(self.all(event)) > seen, f"the WebUI notes a {event}")
        return self.all(event)[seen]


# -- sdwatch


def with_sdwatch(folder: Path, drops: int, kills: int) -> tuple[list[float], ...]:
    """Return the times of the drops after a moment, of those after a rest, and of the deaths, of
    one sdwatch in a process of its own."""
    recorded = Recorded(folder / "sdwatch.txt")
    config = common.make_config(folder, recorded.command, recorded.port)
    monitor = multiprocessing.get_context("spawn").Process(target=watch, args=(config,))
    monitor.start()
    try:
        drop_and_wait(recorded, config)  # a first one: it is ready
        busy = [drop_and_wait(recorded, config) for _ in range(drops)]
        rested = [drop_and_wait(recorded, config, REST) for _ in range(drops)]
        starts = [time_of_death(recorded, config) for _ in range(kills)]
    finally:
        monitor.terminate()
        monitor.join()
    return busy, rested, starts


def watch(config: Config) -> None:
    """sdwatch, until SIGTERM."""
    common.log_as_sdwatch_does(config)
    monitor = Monitor(config)
    monitor.stop_on_signals()
    monitor.run()


def drop_and_wait(recorded: Recorded, config: Config, pause: float = MOMENT) -> float:
    """Pause, then drop one job; the seconds from its rename to its POST. Returns once it is
    published."""
    time.sleep(pause)
    seen, done = len(recorded.all("post")), config.spool / "done"
    ended = count(done)
    dropped = common.drop(config, f"drop-{seen}", FIELDS)
    _, at = recorded.after("post", seen)
    common.wait_until(lambda: count(done) > ended, "the job is published")
    return at - dropped


def time_of_death(recorded: Recorded, config: Config) -> float:
    """Kill the idle WebUI; the seconds until the next one starts. Returns once that has served a
    job, so that it is known to be ready."""
    seconds = kill(recorded)
    drop_and_wait(recorded, config)
    return seconds


def kill(recorded: Recorded) -> float:
    """Kill the process that was started last; the seconds until the next one starts."""
    starts = recorded.all("start")
    killed = time.monotonic()
    os.kill(starts[-1][0], signal.SIGKILL)
    _, at = recorded.after("start", len(starts))
    return at - killed


def count(folder: Path) -> int:
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0


# -- the same by hand


def bare_drops(recorded: Recorded, folder: Path, drops: int) -> list[float]:
    """From the rename to the POST where nothing watches: rename, read, post."""
    times = []
    with common.running(recorded.command, recorded.port, folder / "bare.log"):
        for number in range(drops):
            temporary, job = folder / ".job.tmp", folder / "job.yaml"
            temporary.write_text(common.job_text(FIELDS), encoding="utf-8")
            dropped = time.monotonic()
            temporary.rename(job)
            stage = yaml.safe_load(job.read_text(encoding="utf-8"))["stages"][0]
            common.post(recorded.port, stage["txt2img"])
            times.append(recorded.after("post", number)[1] - dropped)
    return times


def bare_deaths(recorded: Recorded, folder: Path, kills: int) -> list[float]:
    """From the SIGKILL to the new process, of a loop that waits for its end and starts it."""
    stop = threading.Event()
    started = len(recorded.all("start"))
    loop = threading.Thread(target=restart_for_ever, args=(recorded, folder / "loop.log", stop))
    loop.start()
    try:
        times = []
        for number in range(kills):
            recorded.after("start", started + number)
            common.wait_for_port(recorded.port)
            times.append(kill(recorded))
    finally:
        stop.set()
        os.kill(recorded.all("start")[-1][0], signal.SIGKILL)
        loop.join()
    return times


def restart_for_ever(recorded: Recorded, log: Path, stop: threading.Event) -> None:
    with open(log, "ab") as out:
        while not stop.is_set():
            subprocess.Popen(recorded.command, stdout=out, stderr=out).wait()


if __name__ == "__main__":
    sys.exit(main())
