"""One job with very many points, and some fail: all other pictures are there in the morning.

`python benchmarks/points.py` has 1,000 points; 5 % of them meet a fault of the WebUI, half of these
for good. Every picture that was possible must be there, what failed must be listed by its values
and made by `retry --failed`. It prints how much the monitor's memory grew, how large run.json is,
and before that how long it takes to check a job with 10,000 points in each of its forms.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sdwatch.policy.job.job import parse_job
from tests.support.many_points import ROWS, live_through, night_of


def main() -> int:
    """Return the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--points", type=int, default=1000, help=f"a multiple of {ROWS}")
    parser.add_argument("--faults", type=float, default=5, help="percent of them (default 5)")
    given = parser.parse_args()
    if given.points % ROWS or given.points > 10_000:
        parser.error(f"--points is a multiple of {ROWS}, and at most 10,000")
    logging.disable(logging.CRITICAL)
    _print_checks()
    night = night_of(given.points, given.faults / 100)
    peak = _Peak()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sdwatch-night-") as folder:
        try:
            failed, done = live_through(night, Path(folder))
        except AssertionError as error:
            print(f"a promise was broken: {error}")
            return 1
        finally:
            peak.stop()
        took = time.monotonic() - began
        print(f"{night.points} points, {len(night.bad)} failed for good, {len(night.once)} once:")
        print(f"  all {night.points - len(night.bad)} pictures that were possible are there, and")
        print(f"  `retry --failed` made the other {len(night.bad)}, in {took:.0f} s in all")
        for run in (failed, done):
            size = (run / "run.json").stat().st_size
            print(f"  run.json of {run.name}: {size / 1000:.0f} kB")
        print(f"  memory: {peak.before / 1e6:.0f} MB before, {peak.most / 1e6:.0f} MB at most")
    return 0


def _print_checks() -> None:
    """Print how long the files of jobs with 10,000 points take to be checked."""
    numbers = ", ".join(map(str, range(1, 101)))
    lines = "".join(f'--prompt "a castle, {n}" --steps {10 + n % 30}\n' for n in range(10_000))
    table = "animal;steps\n" + "".join(f"cat {n};{10 + n % 30}\n" for n in range(10_000))
    forms = {
        "a matrix": (f"prompt: ${{a}}\nmatrix: {{a: [{numbers}], steps: [{numbers}]}}\n", ""),
        "a list of prompts": ("prompts_from: p.txt\n", lines),
        "a table": ("prompts_from: p.csv\nprompt: a ${animal}\n", table),
    }
    for name, (job, text) in forms.items():
        began = time.perf_counter()
        found = parse_job(
            job.encode(),
            "job.yaml",
            frozenset({"p.txt", "p.csv"}),
            read=lambda _, text=text: text.encode(),
        )
        took = time.perf_counter() - began
        print(f"{name}: {len(found.points):,} points checked in {took:.2f} s", flush=True)


class _Peak(threading.Thread):
    """The memory of this process, in which the monitor runs, looked at ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process()
        self._over = threading.Event()
        self.before = self.most = self._process.memory_info().rss
        self.start()

    def run(self) -> None:
        """Look until it is over."""
        while not self._over.wait(0.1):
            self.most = max(self.most, self._process.memory_info().rss)

    def stop(self) -> None:
        """Look no longer."""
        self._over.set()
        self.join()


if __name__ == "__main__":
    sys.exit(main())
