"""Death at any instruction: each effect of a night's job is the monitor's last one, or fails.

`python benchmarks/every_point.py` counts the effects of a job of three stages with a crash of the
WebUI in it, and lets the monitor die at each (what was not synced kept, and lost), or has each
refused by the disk (ENOSPC, EIO, EACCES, EBUSY); with `--kill` each is a real kill -9, too. After
each another monitor resumes, and everything that was promised is checked. On Windows nothing that
was not synced can be taken back.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.every_point import IN_PROCESS, BrokenPromiseError, How, count, disturb


def main() -> int:
    """Return the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--kill", action="store_true", help="a real kill -9 at each point, too")
    parser.add_argument("--sample", type=int, default=0, help="only so many cases, drawn")
    parser.add_argument("--workers", type=int, default=2, help="cases at a time (default 2)")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sdwatch-points-") as folder:
        root = Path(folder)
        points = count(root / "count")
        ways = [*IN_PROCESS, How.KILL] if given.kill else list(IN_PROCESS)
        print(f"{points} points, each in {len(ways)} ways", flush=True)
        # A few more than were counted: threads take turns, and not always the same.
        cases = [(root, n, how) for n in range(1, points + 5) for how in ways]
        if given.sample:
            cases = random.Random(points).sample(cases, given.sample)
        with ProcessPoolExecutor(given.workers, initializer=_quiet) as pool:
            results = list(pool.map(_case, cases))
    broken = [text for reached, text in results if text]
    labels = Counter(reached.split(" ")[0] for reached, _ in results if reached)
    for label, times in sorted(labels.items()):
        print(f"  {label}: {times}")
    print(f"{labels.total()} points tried in {time.monotonic() - began:.0f} s", end=", ")
    print(f"{len(broken)} broken promises" if broken else "no promise was broken")
    for text in broken:
        print(f"  {text}")
    return 1 if broken else 0


def _quiet() -> None:
    logging.disable(logging.CRITICAL)


def _case(case: tuple[Path, int, How]) -> tuple[str, str]:
    """Return the point that was reached, and which promise was broken."""
    root, number, how = case
    try:
        return disturb(root / f"{number}-{how.name}", number, how), ""
    except BrokenPromiseError as error:
        return "", str(error)


if __name__ == "__main__":
    sys.exit(main())
