"""Run the suite on Windows (wine), from an empty folder to a table.

    python tests/windows/everything.py [--sample] FOLDER [TEST...]

Makes the environment in FOLDER if there is none (see make_environment.py), points it at this
checkout, and runs each test file in a process of its own, two at a time. TEST is a folder or file
of tests; without any it is the whole suite, with demo, night, chaos and every_point before it.
`--sample` is what .ci/run does: demo and the files of SAMPLE, within MOST_OF_A_SAMPLE seconds.
Prints what failed, and a table by folder. The exit code is 1 if anything failed.
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from make_environment import CHECKOUT, is_ready, make, point_at_this_checkout, windows_path  # noqa: E402

AT_A_TIME = 2
LONGEST, SHORTEST = 900.0, 60.0
"""Seconds for one file or command, until it is ended: never more; and less only near the end."""

LONGEST_SUITE, MOST_OF_A_SAMPLE = 4 * 3600.0, 360.0
"""Seconds after which no file is begun."""

MOST_RESTARTS = 5
"""How often a file is run again for what a test that never ended has left."""

_PATIENT = ("-o", "timeout=360")
MOST_ARGUMENTS = 300  # of Windows' longest command line
OUTPUT = "output.txt"
VARIABLE = "SDWATCH_TEST_OUTCOMES"  # of outcomes.py, which needs pytest

# With a refused connection of two seconds (run.py), and a spool with the prefix of long paths.
DEMO = ("-m", "sdwatch", "demo", "\\\\?\\C:\\demo")
BENCHMARKS = (
    ("benchmarks/night.py", "--jobs", "20"),
    ("benchmarks/chaos.py", "--seed", "4", "--jobs", "15", "--kills", "20"),
    ("benchmarks/every_point.py", "--kill", "--sample", "10", "--workers", "1"),
)
_STOPS = "tests/integration/test_stop_and_resume.py"
SAMPLE = (
    "tests/webui/test_stop.py",  # job objects, freezing, killing
    f"{_STOPS}::test_after_a_kill_during_a_call_the_next_monitor_adopts_and_resumes",
    f"{_STOPS}::test_with_leave_running_the_next_monitor_adopts_the_webui",
    "tests/windows/test_share_modes.py",
    "tests/windows/test_slow_refusal.py",
    "tests/spool/test_archive.py",
    "tests/spool/test_inside.py",
    "tests/spool/test_run.py",
    "tests/policy/test_job.py",
    "tests/policy/test_redaction.py",
    "tests/policy/test_verdict.py",
    "tests/functional/test_cli_main.py",
    "tests/windows/test_held_files.py",
    "tests/spool/test_inbox.py",
)
"""The promises that differ most between the systems, the most important first."""


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
    parser.add_argument("--sample", action="store_true", help="what .ci/run does")
    parser.add_argument("folder", type=Path)
    parser.add_argument("tests", nargs="*")
    args = parser.parse_args()
    folder: Path = args.folder.absolute()
    if not is_ready(folder):
        make(folder)
    point_at_this_checkout(folder)
    commands = [] if args.tests else [DEMO] if args.sample else [DEMO, *BENCHMARKS]
    files = list(files_of(args.tests or (SAMPLE if args.sample else ["tests"])))
    until = time.monotonic() + (MOST_OF_A_SAMPLE if args.sample else LONGEST_SUITE)
    failed = [command for command in commands if not passes(folder, command, until)]
    outcomes = []
    for outcome in run_files(folder, files, until):
        outcomes.append(outcome)
        print(told(outcome), flush=True)
    print("\n" + table(outcomes))
    found = {each.file: each.tests for each in outcomes}
    (folder / "outcomes.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return int(bool(failed) or any(each.count()["failed"] for each in outcomes))


def passes(folder: Path, command: Sequence[str], until: float) -> bool:
    """Whether a command ends with 0. Prints its output, and how long it took."""
    _remove(folder / "prefix" / "drive_c" / "demo")
    began = time.monotonic()
    code = _run(folder, command, {}, until, None)
    said = "passed" if code == 0 else f"FAILED with {code}"
    print(f"{' '.join(command)}: {said} in {time.monotonic() - began:.0f} s", flush=True)
    return code == 0


def told(outcome: Outcome) -> str:
    """What became of a file, for people: a line, and one more for each failure."""
    counts = ", ".join(f"{number} {each}" for each, number in sorted(outcome.count().items()))
    lines = [f"{outcome.file}: {counts} in {outcome.seconds:.0f} s"]
    for test, (result, why) in outcome.tests.items():
        if result in ("failed", "not run"):
            lines.append(f"    {result} {test}: {why}")
    return "\n".join(lines)


def files_of(tests: Iterable[str]) -> Iterator[str]:
    """Each file of tests, as a path within the checkout."""
    for each in tests:
        path = CHECKOUT / each.split("::")[0]
        if path.is_dir():
            yield from (str(f.relative_to(CHECKOUT)) for f in sorted(path.rglob("test_*.py")))
        else:
            yield each


def run_files(folder: Path, files: list[str], until: float) -> Iterator[Outcome]:
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
            done.put(run_file(prefix, file, until))

    prefixes = [copy_of(folder, number) for number in range(min(AT_A_TIME, len(files)))]
    for prefix in prefixes:
        threading.Thread(target=work, args=(prefix,), daemon=True).start()
    for _ in files:
        yield done.get()


def copy_of(folder: Path, number: int) -> Path:
    """Return the environment itself for 0, else a copy: each runs one command at a time. A copy
    shares all files but those that wine writes into."""
    drive = folder / "prefix" / "drive_c"
    if number == 0:
        return folder
    _remove(drive / "users" / "root" / "Temp", drive / "wine-listeners", folder / str(number))
    other = folder / str(number) / "prefix"
    other.parent.mkdir()
    subprocess.run(["cp", "-al", str(folder / "prefix"), str(other)], check=True)
    for registry in (folder / "prefix").glob("*.reg"):
        (other / registry.name).unlink()
        shutil.copy2(registry, other)
    for each in (folder / "prefix", other):
        (each / "drive_c" / "users" / "root" / "Temp").mkdir()
    return other.parent


def _remove(*folders: Path) -> None:
    """Tests leave folders that are too deep for shutil.rmtree."""
    subprocess.run(["rm", "-rf", *map(str, folders)], check=True)


def run_file(folder: Path, file: str, until: float) -> Outcome:
    """Run one file. A test that does not end is a failure, and the file is run again without what
    has ended. A file whose turn does not come before `until` is not run, which is no failure."""
    outcome = Outcome(file)
    began = time.monotonic()
    if began > until:
        outcome.tests[file] = ("not run", "the time was over")
        return outcome
    for _ in range(MOST_RESTARTS):
        hung = _run_once(folder, outcome, until)
        if hung is None:
            break
        is_over = time.monotonic() > until
        outcome.tests[hung] = ("not run", "the time was over") if is_over else ("failed", "no end")
        if is_over:
            break
    if not outcome.tests:
        outcome.tests[file] = ("failed", f"ended without a test; see {folder / OUTPUT}")
    outcome.seconds = time.monotonic() - began
    return outcome


def _run_once(folder: Path, outcome: Outcome, until: float) -> str | None:
    """Add what is seen to `outcome`; return the test that did not end, if there is one."""
    with tempfile.TemporaryDirectory() as temporary:
        lines = Path(temporary) / "outcomes"
        lines.touch()
        left_out = [f"--deselect={test}" for test in outcome.tests]
        if len(left_out) > MOST_ARGUMENTS:
            left_out = sorted({each.partition("[")[0] for each in left_out})
        pytest = [
            "-m",
            "pytest",
            "-n",
            "0",
            "-p",
            "tests.windows.outcomes",
            "--tb=short",
            *_PATIENT,
        ]
        command = [*pytest, *left_out, outcome.file]
        with open(folder / OUTPUT, "ab") as output:
            code = _run(folder, command, {VARIABLE: windows_path(lines)}, until, output)
        running = None
        for line in lines.read_text(encoding="utf-8").splitlines():
            seen = json.loads(line)
            running = seen["test"] if seen["outcome"] == "started" else None
            if running is None and outcome.tests.get(seen["test"], ("",))[0] != "failed":
                outcome.tests[seen["test"]] = (seen["outcome"], seen["why"])
        return running if code else None


def _run(
    folder: Path,
    arguments: Sequence[str],
    env: Mapping[str, str],
    until: float,
    output: IO[bytes] | None,
) -> int:
    """Run Windows' Python, at most LONGEST seconds and not long after `until`; its exit code."""
    command = [sys.executable, str(HERE / "run.py"), str(folder), *arguments]
    process = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env={**os.environ, **env},
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        return process.wait(min(LONGEST, max(until - time.monotonic(), SHORTEST)))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


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
