"""What it costs a claim, and a scan, that no link is followed below the spool's root: a ratio.

`python benchmarks/claim.py` claims jobs, and scans an inbox, by handles as sdwatch does, and by
plain paths as it did before, in turns on the same disk. It prints the medians and their ratio.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sdwatch.spool import archive
from sdwatch.spool.folders import Spool
from sdwatch.spool.inbox import Inbox
from sdwatch.system import links
from sdwatch.system.clock import SystemClock


def main() -> int:
    """Return the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--jobs", type=int, default=400, help="how many to claim (default 400)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder, "spool"), "box-1")
        spool.prepare()
        _measure(spool, args.jobs)
    return 0


def _measure(spool: Spool, jobs: int) -> None:
    clock = SystemClock()
    for number in range(jobs):
        (spool.inbox / f"{number}.yaml").write_text("prompt: a castle\n", encoding="utf-8")
    inbox = Inbox(spool.inbox, 0.0, 60.0, clock)
    inbox.scan()
    while inbox.unread:
        inbox.read_for(1.0)
    arrivals = list(inbox.ready)
    ways = {"by handles": links._roots, "by paths": dict[str, Path]()}
    scans: dict[str, list[float]] = {way: [] for way in ways}
    claims: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(10):
        for way, links._roots in ways.items():
            began = time.perf_counter()
            inbox.scan()
            scans[way].append(time.perf_counter() - began)
    for number, arrival in enumerate(arrivals):
        way = list(ways)[number % 2]
        links._roots = ways[way]
        began = time.perf_counter()
        run = archive.claim(arrival, spool, clock)
        claims[way].append(time.perf_counter() - began)
        assert run is not None
        run.close()
    for what, times in (("claim", claims), (f"scan of {len(arrivals)} jobs", scans)):
        after, before = median(times["by handles"]), median(times["by paths"])
        print(f"{what}: {before * 1e3:.2f} ms by paths, {after * 1e3:.2f} ms by handles")
        print(f"  ratio {after / before:.2f}")


if __name__ == "__main__":
    sys.exit(main())
