"""Kills at random: what is promised holds, whatever dies when.

`python benchmarks/chaos.py --seed S --jobs N --kills K` drops N jobs while it kills, K times, the
monitor, the WebUI or both (kill -9), or freezes one of them for a while or, the WebUI, for good.
The seed determines the plan (`--plan` prints it): the jobs, and each kill's kind and moment, so
many POSTs and so many milliseconds after the one before. What comes of it differs from time to
time, as threads take turns; what is promised must hold each time. At the end it is checked from the
folders, the crash history, and what the WebUI itself wrote down of each request. Exit 1 and a
report when a promise is broken; the folder is kept then."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import common
from chaos_night import (
    COMFYUI,
    KINDS,
    Night,
    Plan,
    draw,
    ours,
)
from chaos_verdict import Verdict

from sdwatch.system.patience import patiently


def main() -> int:
    args = arguments()
    plan = draw(args.seed, args.jobs, args.kills, args.kind)
    if args.plan:
        print_plan(plan)
        return 0
    root = Path(tempfile.mkdtemp(prefix="sdwatch-chaos-"))
    began = time.monotonic()
    night = Night(root, plan)
    with bystander(root) as stranger:
        try:
            night.live_through()
            code = night.stop()
            left = [process.pid for process in ours(root)]
        finally:
            night.end_everything()
        lives = stranger.poll() is None
    verdict = Verdict(night)
    verdict.look()
    if code != 0:
        verdict.broken.append(f"the monitor ended with {code}")
    if left or common.answers(night.port):
        verdict.broken.append(f"7: left behind: {left}")
    if not lives:
        verdict.broken.append("7: a WebUI that is not ours was ended")
    report(verdict, args.seed, time.monotonic() - began)
    if not verdict.broken:
        # On Windows a process that was ended may keep its files open for a moment.
        patiently(lambda: shutil.rmtree(root), limit=30.0)
    return 1 if verdict.broken else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--kind", choices=("forge", COMFYUI), default="forge", help="of the WebUI")
    parser.add_argument("--plan", action="store_true", help="print the plan, and do nothing")
    return parser.parse_args()


@contextmanager
def bystander(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A WebUI that looks like ours: the same program, in the same folder, on another port."""
    recording = Path(__file__).resolve().parent / "recording_simulator.py"
    command = [sys.executable, str(recording), os.devnull, "--port", str(common.free_port())]
    with open(root / "bystander.log", "wb") as log:
        process = subprocess.Popen(command, cwd=root, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def print_plan(plan: Plan) -> None:
    for name, text in plan.jobs.items():
        print(f"{name}: {text}")
    for number, kill in enumerate(plan.kills, 1):
        print(f"{number}: {kill.kind}, {kill.posts} POSTs and {kill.delay * 1000:.0f} ms later")


def report(verdict: Verdict, seed: int, seconds: float) -> None:
    night = verdict.night
    kinds = ", ".join(f"{night.done[kind]} × {kind}" for kind in KINDS)
    posts = sum(len(times) for times in verdict.calls.values())
    starts = night.notes.read_text(encoding="ascii").count("start ")
    done = sum(run.parent.name == "done" for run in verdict.runs)
    print(
        f"seed {seed}, {night.plan.kind}: {night.done.total()} kills ({kinds}) in {seconds:.0f} s"
    )
    print(f"{len(night.plan.jobs)} jobs: {done} done, {verdict.failed.total()} failed, as promised")
    for why, times in verdict.failed.items():
        print(f"  {times} because {why}")
    print(
        f"{verdict.images} images from {posts} POSTs to {len(verdict.calls)} calls; {night.starts} "
        f"starts of the monitor, which cut {verdict.cut_offs} calls off; {starts} of the WebUI"
    )
    print(f"{len(verdict.broken)} broken promises" if verdict.broken else "no promise was broken")
    for line in verdict.broken:
        print(f"  {line}")
    if verdict.broken:
        print(f"kept: {night.root}; again: --seed {seed} with the same --jobs, --kills and --kind")


if __name__ == "__main__":
    sys.exit(main())
