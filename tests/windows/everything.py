"""Run the suite on Windows (wine), from an empty folder to a table.

    python tests/windows/everything.py [--sample | --resume | --failed] FOLDER [TEST...]

Makes the environment in FOLDER if there is none (see make_environment.py), points it at this
checkout, and runs each test file in a process of its own, AT_A_TIME at once. Without a TEST it is
the whole suite, with demo, night, chaos and every_point first; `--resume` runs what an
interrupted run has left. `--sample` is what .ci/run does: demo and the files of SAMPLE, within
MOST_OF_A_SAMPLE seconds. `--failed` runs once more, one at a time, what has failed, if it is not
more than FEW tests. A TEST is a folder or file of tests; what comes of it replaces what came
of it before. Prints what failed, and a table by folder of all outcomes in FOLDER. The exit code is
1 if one of them is a failure.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
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
from run import end_all  # noqa: E402

AT_A_TIME = 3
LONGEST, SHORTEST = 1000.0, 60.0
"""Seconds for one test, until its process is ended: never more; and less only near the
end. Most tests are ended before by their own limit, which pytest-timeout knows."""
LONGEST_COMMAND = 3 * LONGEST

LONGEST_SUITE, MOST_OF_A_SAMPLE = 8 * 3600.0, 360.0
"""Seconds after which no file is begun."""

MOST_RESTARTS = 5
"""How often a file is run again for what a test that never ended has left."""

FEW = 3
"""So many tests may have failed because of what ran beside them."""

_over = threading.Event()
"""Set where this program ends or is interrupted: its threads start nothing any more."""

_PATIENT = ("-o", "timeout=600")
_PAUSE = 5.0
MOST_ARGUMENTS = 300  # of Windows' longest command line
OUTPUT, OUTCOMES = "output.txt", "outcomes.json"
VARIABLE = "SDWATCH_TEST_OUTCOMES"  # of outcomes.py, which needs pytest

# With a refused connection of two seconds (run.py), and a spool with the prefix of long paths.
DEMO = ("-m", "sdwatch", "demo", "\\\\?\\C:\\demo")
SLOWEST_FIRST = (
    "tests/integration/test_truth_table.py",  # more than an hour, for one process
    "tests/integration",
    "tests/webui",
    "tests/functional",
    "tests",
)
BENCHMARKS = (
    ("benchmarks/night.py", "--jobs", "20"),
    ("benchmarks/chaos.py", "--seed", "4", "--jobs", "15", "--kills", "20"),
    ("benchmarks/every_point.py", "--kill", "--sample", "10", "--workers", "1"),
)
WITH_A_DISPLAY = "tests/windows/test_session_end.py"
"""Without one wine has no windows; with one it starts more processes, which the rest is spared."""
_STOPS = "tests/integration/test_stop_and_resume.py"
SAMPLE = (
    "tests/webui/test_stop.py",  # job objects, freezing, killing
    f"{_STOPS}::test_after_a_kill_during_a_call_the_next_monitor_adopts_and_resumes",
    f"{_STOPS}::test_with_leave_running_the_next_monitor_adopts_the_webui",
    "tests/windows/test_share_modes.py",
    "tests/windows/test_slow_refusal.py",
    "tests/windows/test_service_host.py",
    "tests/windows/test_service.py::test_an_end_that_needs_a_person_is_reported_and_not_restarted",
    "tests/spool/test_archive.py",
    "tests/spool/test_inside.py",
    "tests/spool/test_run.py",
    "tests/policy/test_job.py",
    "tests/policy/test_redaction.py",
    "tests/policy/test_diagnosis.py",
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

    def has_run(self) -> bool:
        """Whether it has come to an end: no test of it has waited in vain for its turn."""
        return not self.count()["not run"]


def main() -> int:
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--sample", action="store_true", help="what .ci/run does")
    which.add_argument("--resume", action="store_true", help="run what has no outcome yet")
    which.add_argument("--failed", action="store_true", help="run once more what has failed")
    parser.add_argument("folder", type=Path)
    parser.add_argument("tests", nargs="*")
    args = parser.parse_args()
    folder: Path = args.folder.absolute()
    if not is_ready(folder):
        make(folder)
    point_at_this_checkout(folder)
    found = read_outcomes(folder) if args.resume or args.failed or args.tests else {}
    commands = [] if args.tests else [DEMO] if args.sample else [DEMO, *BENCHMARKS]
    files = list(files_of(args.tests or (SAMPLE if args.sample else SLOWEST_FIRST)))
    if args.resume:
        ended = {file for file, each in found.items() if each.has_run()}
        commands = [each for each in commands if " ".join(each) not in ended]
        files = [file for file in files if file not in ended]
    if args.failed:
        commands, files = few_failed(found, commands)
    until = time.monotonic() + (MOST_OF_A_SAMPLE if args.sample else LONGEST_SUITE)
    for outcome in run_all(folder, [*commands, *files], until, 1 if args.failed else AT_A_TIME):
        found[outcome.file] = outcome
        write_outcomes(folder, found)
        print(summary(outcome), flush=True)
    failed = [each for each in found.values() if each.count()["failed"]]
    print("\nFailed:", *map(summary, failed) if failed else ["nothing"], sep="\n")
    print("\n" + table(found.values()))
    return int(bool(failed))


def read_outcomes(folder: Path) -> dict[str, Outcome]:
    """What an earlier run has left there."""
    try:
        stored = json.loads((folder / OUTCOMES).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return {
        file: Outcome(file, {test: (was, why) for test, (was, why) in tests.items()})
        for file, tests in stored.items()
    }


def few_failed(
    found: Mapping[str, Outcome], commands: Iterable[Sequence[str]]
) -> tuple[list[Sequence[str]], list[str]]:
    """The commands and the files of tests that failed; none where more than FEW tests did."""
    failed = [file for file, each in found.items() if each.count()["failed"]]
    if sum(found[file].count()["failed"] for file in failed) > FEW:
        return [], []
    again = [each for each in commands if " ".join(each) in failed]
    return again, [file for file in failed if file not in map(" ".join, again)]


def write_outcomes(folder: Path, found: Mapping[str, Outcome]) -> None:
    """In one step: whatever interrupts a run, those of before are there."""
    text = json.dumps({file: each.tests for file, each in found.items()}, indent=1)
    (folder / f"{OUTCOMES}.new").write_text(text, encoding="utf-8")
    (folder / f"{OUTCOMES}.new").replace(folder / OUTCOMES)


def run_command(folder: Path, command: Sequence[str], until: float) -> Outcome:
    """Run a command that passes if it ends with 0. Its output goes to OUTPUT."""
    outcome = Outcome(" ".join(command))
    began = time.monotonic()
    if began > until:
        outcome.tests[outcome.file] = ("not run", "the time was over")
        return outcome
    _remove(folder / "prefix" / "drive_c" / "demo")
    with open(folder / OUTPUT, "ab") as output:
        output.write(f"\n{outcome.file}\n".encode())
        output.flush()
        code = _run(folder, command, {}, until, output)
    said = ("passed", "") if code == 0 else ("failed", f"ended with {code}; see {folder / OUTPUT}")
    outcome.tests[outcome.file] = said
    outcome.seconds = time.monotonic() - began
    return outcome


def summary(outcome: Outcome) -> str:
    """What became of a file, for people: a line, and one more for each failure."""
    counts = ", ".join(f"{number} {each}" for each, number in sorted(outcome.count().items()))
    lines = [f"{outcome.file}: {counts} in {outcome.seconds:.0f} s"]
    for test, (result, why) in outcome.tests.items():
        if result in ("failed", "not run"):
            lines.append(f"    {result} {test}: {why}")
    return "\n".join(lines)


def files_of(tests: Iterable[str]) -> Iterator[str]:
    """Each file of tests once, as a path within the checkout."""
    seen = set()
    for each in tests:
        path = CHECKOUT / each.split("::")[0]
        files = sorted(path.rglob("test_*.py")) if path.is_dir() else []
        for file in [str(f.relative_to(CHECKOUT)) for f in files] or [each]:
            if file not in seen:
                seen.add(file)
                yield file


Work = str | Sequence[str]
"""A file of tests, or a command."""


def run_all(
    folder: Path, works: Sequence[Work], until: float, at_once: int = AT_A_TIME
) -> Iterator[Outcome]:
    """Run each in a process of its own, `at_once` at a time; each outcome as it is known.

    If the folder of one of them vanishes, the others run what it had left; if all do, what is left
    is a failure."""
    waiting: queue.SimpleQueue[Work] = queue.SimpleQueue()
    for each in works:
        waiting.put(each)
    done: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()

    def work(prefix: Path) -> None:
        with contextlib.suppress(queue.Empty):
            while _is_there(prefix) and not _over.is_set():
                each = waiting.get_nowait()
                outcome = run_one(prefix, each, until)
                if _is_there(prefix):
                    done.put(outcome)
                else:
                    waiting.put(each)
        done.put(None)

    prefixes = [copy_of(folder, number) for number in range(min(at_once, len(works)))]
    for prefix in prefixes:
        threading.Thread(target=work, args=(prefix,), daemon=True).start()
    at_work = len(prefixes)
    while at_work:
        if (outcome := done.get()) is None:
            at_work -= 1
        else:
            yield outcome
    while not waiting.empty():
        each = waiting.get()
        name = each if isinstance(each, str) else " ".join(each)
        yield Outcome(name, {name: ("failed", "the environment has vanished")})


def run_one(prefix: Path, work: Work, until: float) -> Outcome:
    """Run a file of tests or a command. What cannot be run, because files vanish, is a failure."""
    name = work if isinstance(work, str) else " ".join(work)
    try:
        if isinstance(work, str):
            return run_file(prefix, work, until)
        return run_command(prefix, work, until)
    except OSError as error:
        return Outcome(name, {name: ("failed", str(error))})


def _is_there(prefix: Path) -> bool:
    return (prefix / "prefix" / "drive_c" / "py" / "python.exe").is_file()


def copy_of(folder: Path, number: int) -> Path:
    """Return the environment itself for 0, else a copy: each runs one command at a time. A copy
    shares all files but those that wine writes into."""
    drive = folder / "prefix" / "drive_c"
    if number == 0:
        return folder
    if (folder / str(number)).exists():  # an interrupted run may have left its processes
        end_all(folder / str(number))
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
    """Add what is seen to `outcome`; return the test with which the process ended, unless it came
    to the end of the file."""
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
            _run(folder, command, {VARIABLE: windows_path(lines)}, until, output, lines)
        last = None
        for line in lines.read_text(encoding="utf-8").splitlines():
            seen = json.loads(line)
            last = seen["test"]
            was = outcome.tests.get(last, ("",))[0]
            if seen["outcome"] not in ("started", "finished") and was != "failed":
                outcome.tests[last] = (seen["outcome"], seen["why"])
        return last


def _run(
    folder: Path,
    arguments: Sequence[str],
    env: Mapping[str, str],
    until: float,
    output: IO[bytes] | None,
    lines: Path | None = None,
) -> int:
    """Run Windows' Python until it ends, for LONGEST seconds has no outcome in `lines` (a command:
    for LONGEST_COMMAND), or it is SHORTEST seconds after `until`; its exit code."""
    if _over.is_set():
        return 1
    command = [sys.executable, str(HERE / "run.py"), str(folder), *arguments]
    if WITH_A_DISPLAY in arguments:
        command = ["xvfb-run", "-a", *command]
    process = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env={**os.environ, **env},
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    last, size = max(until, time.monotonic()) + SHORTEST, 0
    deadline = time.monotonic() + (LONGEST_COMMAND if lines is None else LONGEST)
    kill = functools.partial(_kill, process, folder)
    atexit.register(kill)  # where this program is interrupted
    try:
        while time.monotonic() < min(deadline, last):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_PAUSE)
            if lines is not None and (now := lines.stat().st_size) != size:
                deadline, size = time.monotonic() + LONGEST, now
        return kill()
    finally:
        atexit.unregister(kill)


def _kill(process: subprocess.Popen[bytes], folder: Path) -> int:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    code = process.wait()
    end_all(folder)  # what has a session of its own
    return code


def table(outcomes: Iterable[Outcome]) -> str:
    """In Markdown: a row for each folder of tests. A file counts as run if one of its tests did."""
    rows: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        if not outcome.file.startswith("tests/"):
            continue  # a command: its line is all there is to say
        counts = outcome.count()
        files = {"not run": 1} if counts.keys() == {"not run"} else {"files": 1}
        del counts["not run"]
        rows.setdefault(str(Path(outcome.file.split("::")[0]).parent), Counter()).update(
            counts + Counter(files)
        )
    columns = ("files", "passed", "failed", "skipped", "not run")
    lines = [f"| folder | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for folder, counts in sorted(rows.items()):
        lines.append(f"| {folder} | {' | '.join(str(counts[each]) for each in columns)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        _over.set()
