"""Death at any instruction: each effect of a night's job is the monitor's last one, or fails.

`python benchmarks/every_point.py` counts the effects of two jobs, one of three stages with a crash
of the WebUI in it, one with a matrix, where a point fails once. It lets the monitor die at each
effect (what was not synced kept, and lost), or has each refused by the disk (ENOSPC, EIO, EACCES,
EBUSY); with `--kill` each is a real kill -9, too. After each another monitor resumes, and
everything that was promised is checked. On Windows nothing that was not synced can be taken back.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.every_point import IN_PROCESS, NIGHTS, BrokenPromiseError, How, count, disturb

Case: TypeAlias = tuple[Path, str, int, How]
"""A folder for it, the name of the night, the point and what happens there."""


def main() -> int:
    """Return the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--kill", action="store_true", help="a real kill -9 at each point, too")
    parser.add_argument("--sample", type=int, default=0, help="only so many cases, drawn")
    parser.add_argument("--night", choices=tuple(NIGHTS), help="only this one")
    parser.add_argument("--workers", type=int, default=2, help="cases at a time (default 2)")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sdwatch-points-") as folder:
        root = Path(folder)
        ways = [*IN_PROCESS, How.KILL] if given.kill else list(IN_PROCESS)
        cases: list[Case] = []
        nights = {name: night for name, night in NIGHTS.items() if given.night in (None, name)}
        for name, night in nights.items():
            points = count(root / "count" / name, night)
            print(f"{name}: {points} points, each in {len(ways)} ways", flush=True)
            # A few more than were counted: threads take turns, and not always the same.
            cases += [(root, name, n, how) for n in range(1, points + 5) for how in ways]
        if given.sample:
            cases = random.Random(len(cases)).sample(cases, given.sample)
        results = list(_all(cases, given.workers))
    broken = [text for reached, text in results if text]
    labels = Counter(reached.split(" ")[0] for reached, _ in results if reached)
    for label, times in sorted(labels.items()):
        print(f"  {label}: {times}")
    print(f"{labels.total()} points tried in {time.monotonic() - began:.0f} s", end=", ")
    print(f"{len(broken)} broken promises" if broken else "no promise was broken")
    for text in broken:
        print(f"  {text}")
    return 1 if broken else 0


def _all(cases: Sequence[Case], workers: int) -> Iterator[tuple[str, str]]:
    """Yield what `_case` returns for each. One at a time needs no pool, whose pipes sometimes hang
    under wine."""
    if workers == 1:
        yield from map(_case, cases)
        return
    with ProcessPoolExecutor(workers, initializer=_quiet) as pool:
        yield from pool.map(_case, cases)


def _quiet() -> None:
    logging.disable(logging.CRITICAL)


def _case(case: Case) -> tuple[str, str]:
    """Return the point that was reached, and which promise was broken."""
    root, name, number, how = case
    try:
        return disturb(root / name / f"{number}-{how.name}", number, how, NIGHTS[name]), ""
    except BrokenPromiseError as error:
        return "", f"{name}: {error}"


if __name__ == "__main__":
    sys.exit(main())
