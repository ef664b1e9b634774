"""What people never meant to write, and what others meant to do harm with: no crash, no hang.

`python benchmarks/fuzz.py` makes three things by seed; `--seed` makes others of them.

- 100,000 job files that tests/support/mutations.py makes of the example jobs and some tricky ones,
  with lists of prompts, tables, wildcards and defaults beside and above them. Each must end in a
  job, or in an error whose every problem has a file, a line, a column and a message of one line;
  memory must not grow.
- 1,000 inboxes with links, junctions, pipes, devices and odd names in them, some exchanged while
  they are looked at (tests/support/hostile_trees.py), scanned and claimed: nothing outside of the
  spool may be read, moved or written to, and every plain job must be found.
- 20,000 arguments of scripts (tests/support/hostile_arguments.py): what names a place on the
  WebUI's disk must be refused, and names, wildcards and prompts must not.

Workers do it, so that the death of one, or what takes forever, is an answer too. What broke
something is kept as a file.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sdwatch.policy.job.text import document
from tests.support.hostile_arguments import argument, judge_argument
from tests.support.hostile_trees import judge_tree, listing_of, make_tree
from tests.support.mutations import beside, images_of, mutated, outside, parses_safely

_WARM_UP = 20_000
"""Files of one worker before its memory counts: caches are full by then, and what the rare files of
a megabyte leave of the heap in pieces is there."""

_BLOCKS = 500
"""So many more blocks of Python's memory may be in use at a worker's end than after its warm-up, of
some 130,000. Over 300,000 files it was 5: what is kept of one file in a hundred shows."""

_GROWTH = 1.3
"""And its memory may be so many times as much. That is the coarse measure, for what is not
Python's: the heap's free part comes and goes, so that over the same 300,000 files it was between 46
and 58 MB, without a trend."""

_SAMPLE = 500  # files of a worker between two looks at its memory


@dataclass(frozen=True)
class Subject:
    """What is made by seed and number. `judge` gives counts of what came of it, and raises where
    something broke; `show` makes what is kept of it then; both may use an empty folder."""

    name: str
    judge: Callable[[int, int, Path], dict[str, int]]
    show: Callable[[int, int, Path], bytes]


def _judge_file(seed: int, number: int, _: Path) -> dict[str, int]:
    texts, others = beside(seed, number), outside(seed, number)
    accepted = parses_safely(mutated(seed, number), images_of(number), texts, others)
    return {"accepted": accepted, "refused": not accepted}


def _show_file(seed: int, number: int, _: Path) -> bytes:
    """The job file, and behind it the texts that it was read with."""
    texts = {**beside(seed, number), **outside(seed, number)}
    parts = [mutated(seed, number)]
    parts += [b"\n==== " + name.encode() + b"\n" + text for name, text in texts.items()]
    return b"".join(parts)


def _judge_inbox(seed: int, number: int, folder: Path) -> dict[str, int]:
    counts = judge_tree(seed, number, folder)
    return {
        "jobs found": counts.found,
        "claimed": counts.claimed,
        "refused": counts.refused,
        "things exchanged": counts.swapped,
    }


def _show_inbox(seed: int, number: int, folder: Path) -> bytes:
    return listing_of(make_tree(seed, number, folder))


def _judge_argument(seed: int, number: int, _: Path) -> dict[str, int]:
    accepted = judge_argument(seed, number)
    return {"accepted": accepted, "refused": not accepted}


def _show_argument(seed: int, number: int, _: Path) -> bytes:
    return argument(seed, number).text.encode()


FILES = Subject("job files", _judge_file, _show_file)
INBOXES = Subject("inboxes", _judge_inbox, _show_inbox)
ARGUMENTS = Subject("script arguments", _judge_argument, _show_argument)


class Memory(NamedTuple):
    """Of a process: blocks in use by Python's objects, and bytes as the system counts them."""

    blocks: int
    size: int


@dataclass(frozen=True)
class Answer:
    """What became of one of a subject, in counts. `broken`: what must not be, and was; `memory`:
    that of the worker, None where it was not looked at."""

    number: int
    counts: dict[str, int]
    broken: str
    seconds: float
    memory: Memory | None = None


@dataclass
class Worker:
    """A process that reads every `step`-th file of a subject from `first` on, in a folder of its
    own below `scratch`, and what it said so far."""

    subject: Subject
    scratch: Path
    seed: int
    first: int
    files: int
    step: int
    python_parser: bool
    answers: list[Answer] = field(default_factory=list)
    heard: float | None = None
    """When it last said something; None while it still starts."""

    def __post_init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, child = context.Pipe(duplex=False)
        numbers = range(self.first, self.files, self.step)
        self.process: BaseProcess = context.Process(
            target=_read_all,
            args=(child, self.subject, self.scratch, self.seed, numbers, self.python_parser),
            daemon=True,
        )
        self.process.start()
        child.close()

    @property
    def next(self) -> int:
        """The number of the file that it reads now."""
        return self.answers[-1].number + self.step if self.answers else self.first

    @property
    def memory(self) -> tuple[Memory, Memory] | None:
        """After the warm-up and at the end: the medians of the first and the last quarter of the
        files behind it. None where there were too few files to tell."""
        looks = [answer.memory for answer in self.answers[_WARM_UP:] if answer.memory]
        quarter = len(looks) // 4
        if len(self.answers) < 2 * _WARM_UP:
            return None
        return _median(looks[:quarter]), _median(looks[-quarter:])

    def follow(self, limit: float) -> Worker | None:
        """Take its results; if it died or hangs, return the worker that continues behind that
        file."""
        died = self._take_all()
        if self.next >= self.files:
            self._end()
            return None
        silent = time.monotonic() - self.heard if self.heard is not None else 0.0
        if not died and silent <= limit:
            return self
        self._end()
        if self.heard is None:
            raise RuntimeError(f"a worker did not start ({self.process.exitcode})")
        what = f"the process died ({self.process.exitcode})" if died else "hangs"
        self.answers.append(Answer(self.next, {}, what, silent))
        return self._another() if self.next < self.files else None

    def _take_all(self) -> bool:
        """Return whether the pipe has ended."""
        try:
            while self.pipe.poll():
                if (said := self.pipe.recv()) is not None:
                    self.answers.append(said)
                self.heard = time.monotonic()
        except (EOFError, OSError):
            return True
        return False

    def _another(self) -> Worker:
        return replace(self, first=self.next, answers=[], heard=None)

    def _end(self) -> None:
        if self.next < self.files:
            self.process.kill()
        self.process.join()
        self.pipe.close()


def main() -> int:
    """Return the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--seed", type=int, default=1, help="another one: other files")
    parser.add_argument("--files", type=int, default=100_000, help="job files (default 100,000)")
    parser.add_argument("--inboxes", type=int, default=1_000, help="how many (default 1,000)")
    parser.add_argument(
        "--arguments", type=int, default=20_000, help="script arguments (default 20,000)"
    )
    parser.add_argument("--workers", type=int, default=2, help="files at a time (default 2)")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds for each (default 10)")
    parser.add_argument(
        "--python-parser", action="store_true", help="that of PyYAML, as where libyaml is missing"
    )
    given = parser.parse_args()
    wanted = {FILES: given.files, INBOXES: given.inboxes, ARGUMENTS: given.arguments}
    if not any(count > 0 for count in wanted.values()):
        parser.error("there is nothing to read")
    is_fine = [_try_all(subject, n, given) for subject, n in wanted.items() if n > 0]
    if not all(is_fine):
        return 1
    print("nothing broke")
    return 0


def _try_all(subject: Subject, count: int, given: argparse.Namespace) -> bool:
    """Try so many of a subject and print what came of it; whether nothing broke."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="sdwatch-fuzz-") as scratch:
        make = partial(
            Worker,
            subject,
            Path(scratch),
            given.seed,
            files=count,
            step=given.workers,
            python_parser=given.python_parser,
        )
        first = [make(first=n) for n in range(min(given.workers, count))]
        workers = list(_run(first, given.limit))
        answers = [answer for worker in workers for answer in worker.answers]
        _print(subject, answers, time.monotonic() - began)
        grown = [_print_memory(worker.memory) for worker in workers] if subject is FILES else []
        broken = [answer for answer in answers if answer.broken]
        _keep(subject, Path(scratch), given.seed, broken)
    return not broken and not any(grown)


def _read_all(
    pipe: Connection,
    subject: Subject,
    scratch: Path,
    seed: int,
    numbers: range,
    python_parser: bool,
) -> None:
    """A worker: one answer for each file."""
    if python_parser:
        document._LOADER = yaml.SafeLoader
    process = psutil.Process()
    pipe.send(None)  # it has started
    for count, number in enumerate(numbers, 1):
        counts, broken, seconds = _read(subject, scratch / str(os.getpid()), seed, number)
        memory = None
        if count % _SAMPLE == 0:
            gc.collect()
            memory = Memory(sys.getallocatedblocks(), process.memory_info().rss)
        pipe.send(Answer(number, counts, broken, seconds, memory))


def _read(
    subject: Subject, folder: Path, seed: int, number: int
) -> tuple[dict[str, int], str, float]:
    """The counts of number `number`, what broke, and the seconds it took. `folder` is made for it,
    and removed."""
    folder.mkdir()
    began = time.perf_counter()
    counts: dict[str, int] = {}
    broken = ""
    try:
        counts = subject.judge(seed, number, folder)
    except Exception as error:  # noqa: BLE001 - whatever the code lets out is what is looked for
        broken = f"{type(error).__name__}: {ascii(str(error))[:300]}"
    seconds = time.perf_counter() - began
    shutil.rmtree(folder)
    return counts, broken, seconds


def _run(workers: list[Worker], limit: float) -> Iterator[Worker]:
    """Follow them to their ends, with those that take the place of the dead."""
    while workers:
        wait([worker.pipe for worker in workers], timeout=0.5)
        following: list[Worker] = []
        for worker in workers:
            after = worker.follow(limit)
            if after is not worker:
                yield worker
            if after is not None:
                following.append(after)
        workers = following


def _print(subject: Subject, answers: list[Answer], seconds: float) -> None:
    counts: Counter[str] = Counter()
    for answer in answers:
        counts.update(answer.counts)
    broken = sum(bool(answer.broken) for answer in answers)
    slowest = max(answers, key=lambda answer: answer.seconds)
    summary = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    print(f"{len(answers):,} {subject.name} in {seconds:.0f} s: {summary}, {broken:,} broken")
    print(f"slowest: {1000 * slowest.seconds:.0f} ms (number {slowest.number})")


def _median(looks: list[Memory]) -> Memory:
    blocks = median(look.blocks for look in looks)
    return Memory(int(blocks), int(median(look.size for look in looks)))


def _print_memory(memory: tuple[Memory, Memory] | None) -> bool:
    """Return whether it grew by more than is allowed."""
    if memory is None:
        print(f"memory: fewer than {2 * _WARM_UP:,} files of a worker, too few to tell")
        return False
    before, after = memory
    more, ratio = after.blocks - before.blocks, after.size / before.size
    print(f"memory: {before.size / 1e6:.1f} MB after the warm-up,", end=" ")
    print(f"{after.size / 1e6:.1f} MB at the end, {ratio:.3f} times as much (allowed: {_GROWTH});")
    print(f"  {before.blocks:,} blocks in use, then {more:+,} (allowed: {_BLOCKS:+,})")
    return more > _BLOCKS or ratio > _GROWTH


def _keep(subject: Subject, scratch: Path, seed: int, broken: list[Answer]) -> None:
    """Write the first of those that broke something where they can be looked at."""
    if not broken:
        return
    folder = Path(tempfile.mkdtemp(prefix="sdwatch-fuzz-kept-"))
    for answer in broken[:20]:
        path = folder / f"{seed}-{answer.number}.txt"
        made = scratch / path.name
        made.mkdir()
        path.write_bytes(subject.show(seed, answer.number, made))
        print(f"  {path}: {answer.broken}")


if __name__ == "__main__":
    sys.exit(main())
