"""Run the suite on Windows (wine), from an empty folder to a table.

    python tests/windows/everything.py FOLDER [--timeout SECONDS] [TEST...]

Makes the environment in FOLDER if there is none (see make_environment.py), points it at this
checkout, and runs each test file in a process of its own, two at a time. TEST is a folder or file
of tests; without any it is the whole suite. Prints what failed, and a table by folder.
The exit code is 1 if a test failed.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from make_environment import CHECKOUT, make, point_at_this_checkout, windows_path  # noqa: E402

AT_A_TIME = 2
LONGEST_FILE = 900.0
"""Seconds for one file of tests, until it is ended."""

MOST_RESTARTS = 5
"""How often a file is run again for what a test that never ended has left."""

VARIABLE = "SDWATCH_TEST_OUTCOMES"  # of outcomes.py, which needs pytest


@dataclass
class Outcome:
    """What became of one file of tests: by test, its outcome and the last line that says why."""

    file: str
    tests: dict[str, tuple[str, str]] = field(default_factory=dict)
    seconds: float = 0.0

    def count(self) -> Counter[str]:
        return Counter(outcome for outcome, _ in self.tests.values())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("tests", nargs="*", default=["tests"])
    parser.add_argument("--timeout", type=float, default=LONGEST_FILE, help="seconds for a file")
    args = parser.parse_args()
    folder: Path = args.folder.absolute()
    if not (folder / "prefix").exists():
        make(folder)
    point_at_this_checkout(folder)
    found = []
    for outcome in run_files(folder, list(files_of(args.tests)), args.timeout):
        found.append(outcome)
        counts = ", ".join(f"{number} {each}" for each, number in sorted(outcome.count().items()))
        print(f"{outcome.file}: {counts or 'nothing'} in {outcome.seconds:.0f} s", flush=True)
        for test, (result, why) in outcome.tests.items():
            if result == "failed":
                print(f"    FAILED {test}: {why}", flush=True)
    print("\n" + table(found))
    (folder / "outcomes.json").write_text(
        json.dumps({each.file: each.tests for each in found}, indent=1), encoding="utf-8"
    )
    return int(any(each.count()["failed"] for each in found))


def files_of(tests: Iterable[str]) -> Iterator[str]:
    """Each file of tests, as a path within the checkout."""
    for each in tests:
        path = CHECKOUT / each.split("::")[0]
        if path.is_dir():
            yield from (str(f.relative_to(CHECKOUT)) for f in sorted(path.rglob("test_*.py")))
        else:
            yield each


def run_files(folder: Path, files: list[str], longest: float) -> Iterator[Outcome]:
    """Run each in a process of its own, AT_A_TIME at once; each outcome as it is known."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for file in files:
        waiting.put(file)
    done: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

    def work(prefix: Path) -> None:
        while True:
            try:
                file = waiting.get_nowait()
            except queue.Empty:
                return
            done.put(run_file(prefix, file, longest))

    for number in range(min(AT_A_TIME, len(files))):
        threading.Thread(target=work, args=(copy_of(folder, number),), daemon=True).start()
    for _ in files:
        yield done.get()


def copy_of(folder: Path, number: int) -> Path:
    """The environment itself for 0, else a copy, because each runs one command at a time. It
    shares the files that no test writes."""
    if number == 0:
        return folder
    other = folder / str(number)
    shutil.rmtree(other, ignore_errors=True)
    other.mkdir()
    subprocess.run(["cp", "-al", str(folder / "prefix"), str(other)], check=True)
    for registry in (folder / "prefix").glob("*.reg"):  # wine writes into them
        (other / "prefix" / registry.name).unlink()
        shutil.copy2(registry, other / "prefix")
    for shared in ("wine-listeners", "users/root/Temp"):
        shutil.rmtree(other / "prefix" / "drive_c" / shared, ignore_errors=True)
    (other / "prefix" / "drive_c" / "users" / "root" / "Temp").mkdir(parents=True, exist_ok=True)
    return other


def run_file(folder: Path, file: str, longest: float) -> Outcome:
    """A test that does not end is a failure, and the file is run again without what has ended."""
    outcome = Outcome(file)
    began = time.monotonic()
    for _ in range(MOST_RESTARTS):
        hung, output = _run_once(folder, outcome, longest)
        if hung is None:
            break
        outcome.tests[hung] = ("failed", "did not end")
    if not outcome.tests:
        outcome.tests[file] = ("failed", (output.strip().splitlines() or ["no output"])[-1])
    outcome.seconds = time.monotonic() - began
    return outcome


def _run_once(folder: Path, outcome: Outcome, longest: float) -> tuple[str | None, str]:
    """Adds what was seen to `outcome`. The test that did not end, and the output."""
    with tempfile.TemporaryDirectory() as temporary:
        lines = Path(temporary) / "outcomes"
        lines.touch()
        done = [f"--deselect={test}" for test in outcome.tests]
        if len(done) > 300:  # Windows' longest command line
            done = [f"--deselect={test.split('[')[0]}" for test in outcome.tests]
            done = sorted(set(done))
        pytest = ["-m", "pytest", "-n", "0", "-p", "tests.windows.outcomes", "--tb=short", *done]
        command = [sys.executable, str(HERE / "run.py"), str(folder), *pytest, outcome.file]
        env = {**os.environ, VARIABLE: windows_path(lines)}
        with open(folder / "output.txt", "ab") as output:
            at = output.tell()
            process = subprocess.Popen(
                command, cwd=CHECKOUT, env=env, stdout=output, stderr=output, start_new_session=True
            )
            try:
                process.wait(longest)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        running = None
        for line in lines.read_text(encoding="utf-8").splitlines():
            seen = json.loads(line)
            if seen["outcome"] == "started":
                running = seen["test"]
            else:
                before = outcome.tests.get(seen["test"])
                if before is None or before[0] != "failed":
                    outcome.tests[seen["test"]] = (seen["outcome"], seen["why"])
                running = None
        text = (folder / "output.txt").read_bytes()[at:].decode(errors="replace")
        return running if process.returncode != 0 else None, text


def table(outcomes: Iterable[Outcome]) -> str:
    """In Markdown: a row for each folder of tests."""
    rows: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        folder = str(Path(outcome.file).parent)
        rows.setdefault(folder, Counter()).update(outcome.count())
    lines = ["| folder | passed | failed | skipped |", "|---|---|---|---|"]
    for folder, counts in sorted(rows.items()):
        lines.append(
            f"| {folder} | {counts['passed']} | {counts['failed']} | {counts['skipped']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
