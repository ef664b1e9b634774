"""The night's yield: what is there in the morning when the WebUI fails again and again.

The same jobs go through the simulator with the same faults, drawn with --seed: the process dies,
a generation hangs, a generation ends in a 500, a start is slow, and some jobs are themselves bad.
Each fault waits for a job of its own, so that nobody's retries spend another's faults. Three ways:

  bare loop     requests.post with a timeout; what fails is lost; the WebUI runs in a
                `while True`, which starts it again when it ends
  patient loop  the same, but after a failure it waits until the WebUI answers again
  sdwatch       with its own restarts

and, to compare, the good jobs alone through the bare loop without faults. `lost for each` is the
wall time less what the delivered images take without faults, for each fault that happened; a bad
job counts as one. It says nothing of images that were lost: a loop that gives up loses no time.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import requests

# All settings are a hundredth of a real night's: 50 ms an image for 5 s, and so on.
TIMEOUT = 1.0  # the bare loops'
STALL = 3.0  # sdwatch's
SPEED = {"step_time": common.STEP_TIME, "boot_time": 0.3, "load_time": 0.2}
COOLDOWN = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3]
SLOW_START = 2.0
AGAIN_AND_AGAIN = "import subprocess, sys\nwhile True: subprocess.call(sys.argv[1:])"
LIMIT = 240.0  # sdwatch's night is over then, whatever is left

# How many of each in 200 jobs.
FAULTS = {
    "sigkill-mid-step": 3,
    "sigkill-before-reply": 1,
    "segv": 1,
    "exit-0": 1,
    "hang": 2,
    "opaque-500": 2,
    "oom": 1,
}
SLOW_STARTS = (2, 4)
BAD_JOBS = 5
BAD = ({"steps": 0}, {"enable_hr": True, "hr_upscaler": "No Such Upscaler"})


@dataclass(frozen=True)
class Night:
    """`jobs`: the requests, in order; `bad`: which of them cannot succeed; `plan`: the faults."""

    jobs: tuple[dict[str, Any], ...]
    bad: frozenset[int]
    plan: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Yield:
    """What came of it: images, seconds, and faults that happened."""

    images: int
    seconds: float
    faults: int


def main() -> int:
    args = arguments()
    night = draw(args.seed, args.jobs)
    good = Night(
        tuple(job for n, job in enumerate(night.jobs) if n not in night.bad), frozenset(), ()
    )
    explain(night, args.seed)
    calm = in_folder(by_hand, good, False)
    results = {
        "no faults": calm,
        "bare loop": in_folder(by_hand, night, False),
        "patient loop": in_folder(by_hand, night, True),
        "sdwatch": in_folder(with_sdwatch, night),
    }
    report(results, len(good.jobs))
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=200)
    return parser.parse_args()


# -- the night


def draw(seed: int, count: int) -> Night:
    """Return the jobs, which of them are bad, and which get a fault; the same for the same seed."""
    chance = random.Random(seed)
    share = count / 200
    faults = [name for name, n in FAULTS.items() for _ in range(max(1, round(n * share)))]
    bad_count = max(1, round(BAD_JOBS * share))
    chosen = chance.sample(range(count), len(faults) + bad_count)
    bad = dict(zip(chosen[:bad_count], BAD * bad_count, strict=False))
    jobs = tuple(request(number) | bad.get(number, {}) for number in range(count))
    plan: list[dict[str, Any]] = [
        {"fault": name, "when": {"prompt": f"number {number:04d}$"}}
        for name, number in zip(faults, chosen[bad_count:], strict=True)
    ]
    plan += [
        {"fault": "slow-start", "when": {"start": start}, "delay": SLOW_START}
        for start in SLOW_STARTS
    ]
    return Night(jobs, frozenset(bad), tuple(plan))


def request(number: int) -> dict[str, Any]:
    return {
        "prompt": f"a castle at night, number {number:04d}",
        "seed": number,
        "steps": common.STEPS,
        "width": 512,
        "height": 512,
    }


# -- one way to spend it


def in_folder(way: Any, night: Night, *more: Any) -> Yield:
    """Go one way in a folder of its own, with the faults laid out in it."""
    with tempfile.TemporaryDirectory(prefix="sdwatch-night-") as name:
        folder = Path(name)
        (folder / "plan.yaml").write_text(json.dumps(night.plan), encoding="utf-8")
        result: Yield = way(folder, night, *more)
        return result


def command(folder: Path, port: int) -> list[str]:
    files = {"faults": folder / "plan.yaml", "state": folder / "counted.json"}
    return common.simulator(port, **SPEED, **files)


def fired(folder: Path) -> int:
    """Return how many faults of the plan happened."""
    counted = json.loads((folder / "counted.json").read_text(encoding="utf-8"))
    return sum(counted["fired"].values())


def with_sdwatch(folder: Path, night: Night) -> Yield:
    port = common.free_port()
    config = common.make_config(
        folder, command(folder, port), port, cooldown=COOLDOWN, stall=STALL, stop_grace=1
    )
    for number, job in enumerate(night.jobs):
        common.drop(config, f"job-{number:04d}", job)
    seconds, _ = common.run_monitor(config, len(night.jobs), LIMIT)
    return Yield(len(common.published(config)), seconds, fired(folder) + len(night.bad))


def by_hand(folder: Path, night: Night, patient: bool) -> Yield:
    """Return the loop beside a process that starts the WebUI again whenever it ends."""
    port, images = common.free_port(), 0
    shell = [sys.executable, "-c", AGAIN_AND_AGAIN, *command(folder, port)]
    with common.running(shell, port, folder / "webui.log"):
        begin = time.monotonic()
        for number, job in enumerate(night.jobs):
            try:
                (folder / f"{number:04d}.png").write_bytes(common.post(port, job, TIMEOUT))
                images += 1
            except requests.RequestException:
                if patient:
                    common.wait_for_port(port)
        seconds = time.monotonic() - begin
    return Yield(images, seconds, fired(folder) + len(night.bad))


# -- what is printed


def explain(night: Night, seed: int) -> None:
    kinds = sorted({str(fault["fault"]) for fault in night.plan})
    print(
        f"{len(night.jobs)} jobs, seed {seed}: {len(night.plan)} faults ({', '.join(kinds)}) and "
        f"{len(night.bad)} bad jobs\n"
        f"scaled to images of {common.IMAGE_TIME * 1000:.0f} ms: the loops' timeout {TIMEOUT:g} s, "
        f"sdwatch's stall {STALL:g} s,\n"
        f"cool-down {COOLDOWN} s, a slow start {SLOW_START:g} s more.\n"
        "not scaled: sdwatch looks at a call every 2 s and gives an interrupt 10 s to free it.\n"
    )


def report(results: dict[str, Yield], possible: int) -> None:
    calm = results["no faults"]
    per_image = calm.seconds / calm.images
    rows = []
    for name, result in results.items():
        lost = result.seconds - result.images * per_image
        each = f"{lost / result.faults:.2f} s" if result.faults else "-"
        share = f"{result.images / possible:.0%}"
        cells = (f"{result.images} of {possible}", share, f"{result.seconds:.1f} s")
        rows.append((name, *cells, str(result.faults), each))
    common.print_table(("", "images", "share", "wall", "faults", "lost for each"), rows)
    ratio = results["sdwatch"].images / max(1, results["bare loop"].images)
    print(f"sdwatch delivers {ratio:.2f} times the images of the bare loop")


if __name__ == "__main__":
    sys.exit(main())
