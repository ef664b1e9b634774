"""The price of sdwatch: its wall time for a queue of jobs, over a bare loop of requests.post.

Each job is one image of 512x512, at 50 ms of sampling or `--image-time`. All jobs lie in the inbox
before sdwatch starts; its time goes from the first claim to the last publish, so the WebUI's start
is not in it (it is shown as `whole`). The bare loop posts, decodes and writes the same bytes,
without a sync, to a WebUI that is ready. The rounds alternate; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import common


def main() -> int:
    args = arguments()
    bare: list[float] = []
    ours: list[float] = []
    rows = []
    for number in range(1, args.rounds + 1):
        with tempfile.TemporaryDirectory(prefix="sdwatch-throughput-") as folder:
            step = args.image_time / common.STEPS
            seconds, pictures = bare_loop(Path(folder), args.jobs, step)
            claimed, whole, published = with_sdwatch(Path(folder), args.jobs, step)
        if pictures != published:
            print("the two did not write the same images", file=sys.stderr)
            return 1
        bare.append(seconds)
        ours.append(claimed)
        cells = (f"{seconds:.2f} s", f"{claimed:.2f} s", f"{whole:.2f} s")
        rows.append((str(number), *cells, f"{claimed / seconds:.3f}"))
    ratio = median(ours) / median(bare)
    rows.append(("median", f"{median(bare):.2f} s", f"{median(ours):.2f} s", "", f"{ratio:.3f}"))
    print(f"{args.jobs} jobs of one 512x512 image, {args.image_time * 1000:.0f} ms of sampling")
    common.print_table(("round", "bare loop", "sdwatch", "whole", "ratio"), rows)
    print(f"ratio of medians: {ratio:.3f} (aim: 1.05 or less at 50 ms, below 1 at 1 s)")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--image-time", type=float, default=common.IMAGE_TIME, metavar="SECONDS")
    return parser.parse_args()


def fields(number: int) -> dict[str, Any]:
    """Return the request of one job."""
    return {
        "prompt": f"a castle in the fog, number {number}",
        "seed": number,
        "steps": common.STEPS,
        "width": 512,
        "height": 512,
    }


def bare_loop(folder: Path, jobs: int, step_time: float) -> tuple[float, list[str]]:
    """Return its seconds, and the digests of the images."""
    port = common.free_port()
    command = common.simulator(port, step_time=step_time, load_time=0)
    target = folder / "bare"
    target.mkdir()
    with common.running(command, port, folder / "bare.log"):
        begin = time.monotonic()
        for number in range(jobs):
            (target / f"{number:04d}.png").write_bytes(common.post(port, fields(number)))
        seconds = time.monotonic() - begin
    return seconds, digests(target.iterdir())


def with_sdwatch(folder: Path, jobs: int, step_time: float) -> tuple[float, float, list[str]]:
    """Return its seconds from the first claim to the last publish, those of the whole, the
    digests."""
    port = common.free_port()
    command = common.simulator(port, step_time=step_time, load_time=0)
    config = common.make_config(folder, command, port)
    for number in range(jobs):
        common.drop(config, f"job-{number:04d}", fields(number))
    claimed, whole = common.run_monitor(config, jobs)
    return claimed, whole, digests(common.published(config))


def digests(files: Iterable[Path]) -> list[str]:
    return sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)


if __name__ == "__main__":
    sys.exit(main())
