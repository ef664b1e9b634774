"""What the status page costs: with 10,000 jobs in the inbox, 10,000 runs in done/ and 1,000 in
failed/. How long it takes to read and make it, how large it is, what writing it costs beside a
plain write of the same bytes, and when a browser first paints it.

The browser is a Chromium on this machine, through playwright; without one that row says so.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from statistics import median

import common

from sdwatch.policy.page import page
from sdwatch.policy.page.overview import Overview, as_json
from sdwatch.spool.folders import Spool
from sdwatch.spool.overview_reader import OverviewReader
from sdwatch.system import disk
from sdwatch.system.clock import iso

STYLE = resources.files(page.__package__).joinpath("style.css").read_text("utf-8")
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")


def main() -> int:
    """Return the exit code: 1 where the first paint takes a second or longer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--times", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sdwatch-page-") as name:
        spool = Spool(Path(name) / "spool", "bench")
        spool.prepare()
        fill(spool, args.jobs)
        reader = OverviewReader(spool.root)
        first = timed(lambda: reader.read(patient=True), 1)
        again = timed(reader.read, args.times)
        stands = reader.read()
        rows = [
            ("first read of the spool, all runs of the night", f"{1000 * first:.0f} ms"),
            ("each further read", f"{1000 * again:.1f} ms"),
            *written(spool, stands, args.times),
        ]
        paint = first_paint(spool.root / "status.html")
        shown = "no Chromium with playwright here" if paint is None else f"{paint:.0f} ms"
        rows.append(("first paint", shown))
    common.print_table((f"{args.jobs} jobs, {args.jobs} done, {args.jobs // 10} failed", ""), rows)
    print("aim: first paint in less than 1000 ms")
    return int(paint is not None and paint >= 1000)


def written(spool: Spool, stands: Overview, times: int) -> list[tuple[str, str]]:
    """Make and write the page, and return the rows of that."""
    whole = page.whole(stands, style=STYLE).encode()
    data = json.dumps(as_json(stands), indent=1).encode()
    target, bare = spool.root / "status.html", spool.root / "bare.html"
    make = timed(lambda: page.whole(stands, style=STYLE), times)
    values = timed(lambda: json.dumps(as_json(stands), indent=1), times)
    ours = timed(lambda: disk.refresh(target, whole), times)
    plain = timed(lambda: bare.write_bytes(whole), times)
    return [
        ("making status.html", f"{1000 * make:.1f} ms, {len(whole) / 1000:.0f} kB"),
        ("making status.json", f"{1000 * values:.1f} ms, {len(data) / 1000:.0f} kB"),
        ("replacing status.html", f"{1000 * ours:.2f} ms"),
        ("a plain write of the same bytes", f"{1000 * plain:.2f} ms"),
    ]


def timed(effect: Callable[[], object], times: int) -> float:
    """Return the median seconds of an effect."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        effect()
        took.append(time.perf_counter() - began)
    return median(took)


def fill(spool: Spool, jobs: int) -> None:
    """Fill the folders: a run ends each four seconds, for the last half day."""
    for number in range(jobs):
        (spool.inbox / f"batch-{number:05}.yaml").write_text("prompt: a castle\n")
    for folder, count, outcome in (
        (spool.done, jobs, "done"),
        (spool.failed, jobs // 10, "failed"),
    ):
        for number in range(count):
            _run(folder, number, time.time() - 4 * number, outcome)


def _run(folder: Path, number: int, ended: float, outcome: str) -> None:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(ended - 4))
    run = folder / f"{stamp}.{number % 1000:03}-batch-{number % 65536:04x}"
    run.mkdir()
    image = {"name": "x.png", "sha256": "", "size": 1, "width": 64, "height": 64}
    finished = {"event": "call_finished", "call": "1.1", "images": [image], "seconds": 3.5}
    records = [
        {"event": "claimed", "source": f"batch-{number:05}.yaml", "at": iso(ended - 4)},
        {"event": "call_started", "call": "1.1", "attempt": 1, "at": iso(ended - 4)},
        {**finished, "at": iso(ended)},
        {"event": "ended", "outcome": outcome, "at": iso(ended)},
    ]
    (run / "journal.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if outcome == "failed":
        (run / "WHY.txt").write_text("The GPU ran out of memory.\n")


def first_paint(path: Path) -> float | None:
    """Return the milliseconds from the navigation to the first contentful paint, as the browser
    measured it; the median of five. None without a browser."""
    program = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    if program is None:
        return None
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 390, "height": 844})
        took = []
        for _ in range(5):
            shown.goto(path.as_uri())
            shown.wait_for_function(paint)
            took.append(float(shown.evaluate(paint)))
        browser.close()
    return median(took)


if __name__ == "__main__":
    sys.exit(main())
