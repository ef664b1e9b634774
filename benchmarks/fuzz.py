"""Job files that people never meant to write, through the parser: no crash, no hang, no growth.

`python benchmarks/fuzz.py` reads 100,000 files that tests/mutations.py makes of the example jobs
and some tricky ones; `--seed` makes others of them. Each must end in a job, or in an error whose
every problem has a line, a column and a message of one line. Workers read them, so that the death
of one, or a file that takes forever, is an answer too. What broke something is kept as a file.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sdwatch.policy.job import document
from tests.mutations import images_of, judge, mutated

_WARM_UP = 10_000
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


class Memory(NamedTuple):
    """Of a process: blocks in use by Python's objects, and bytes as the system counts them."""

    blocks: int
    size: int


@dataclass(frozen=True)
class Answer:
    """What the parser made of one file. `broken`: what it must not do, and did; `memory`: that of
    the worker, None where it was not looked at."""

    number: int
    accepted: bool
    broken: str
    seconds: float
    memory: Memory | None = None


@dataclass
class Worker:
    """A process that reads every `step`-th file from `first` on, and what it said so far."""

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
            target=_read_all, args=(child, self.seed, numbers, self.python_parser), daemon=True
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
        self.answers.append(Answer(self.next, False, what, silent))
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
        return Worker(self.seed, self.next, self.files, self.step, self.python_parser)

    def _end(self) -> None:
        if self.next < self.files:
            self.process.kill()
        self.process.join()
        self.pipe.close()


def main() -> int:
    """Return the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--seed", type=int, default=1, help="another one: other files")
    parser.add_argument("--files", type=int, default=100_000, help="how many (default 100,000)")
    parser.add_argument("--workers", type=int, default=2, help="files at a time (default 2)")
    parser.add_argument("--limit", type=float, default=5.0, help="seconds for a file (default 5)")
    parser.add_argument(
        "--python-parser", action="store_true", help="that of PyYAML, as where libyaml is missing"
    )
    given = parser.parse_args()
    began = time.monotonic()
    make = partial(Worker, files=given.files, step=given.workers, python_parser=given.python_parser)
    workers = list(_run([make(given.seed, n) for n in range(given.workers)], given.limit))
    answers = [answer for worker in workers for answer in worker.answers]
    if not answers:
        parser.error("there is no file to read")
    _print(answers, time.monotonic() - began)
    grown = [_print_memory(worker.memory) for worker in workers]
    broken = [answer for answer in answers if answer.broken]
    _keep(given.seed, broken)
    if broken or any(grown):
        return 1
    print("nothing broke; each problem of each refused file has its line and column")
    return 0


def _read_all(pipe: Connection, seed: int, numbers: range, python_parser: bool) -> None:
    """A worker: one answer for each file."""
    if python_parser:
        document._LOADER = yaml.SafeLoader
    process = psutil.Process()
    pipe.send(None)  # it has started
    for count, number in enumerate(numbers, 1):
        accepted, broken, seconds = _read(seed, number)
        memory = None
        if count % _SAMPLE == 0:
            gc.collect()
            memory = Memory(sys.getallocatedblocks(), process.memory_info().rss)
        pipe.send(Answer(number, accepted, broken, seconds, memory))


def _read(seed: int, number: int) -> tuple[bool, str, float]:
    """Return whether file `number` was accepted, what broke, and the seconds it took."""
    data = mutated(seed, number)
    began = time.perf_counter()
    accepted, broken = False, ""
    try:
        accepted = judge(data, images_of(number))
    except Exception as error:  # noqa: BLE001 - whatever the parser lets out is what is looked for
        broken = f"{type(error).__name__}: {ascii(str(error))[:300]}"
    return accepted, broken, time.perf_counter() - began


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


def _print(answers: list[Answer], seconds: float) -> None:
    accepted = sum(answer.accepted for answer in answers)
    broken = sum(bool(answer.broken) for answer in answers)
    slowest = max(answers, key=lambda answer: answer.seconds)
    print(f"{len(answers):,} files in {seconds:.0f} s: {accepted:,} accepted,", end=" ")
    print(f"{len(answers) - accepted - broken:,} refused, {broken:,} broken")
    print(f"slowest: {1000 * slowest.seconds:.0f} ms (file {slowest.number})")


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


def _keep(seed: int, broken: list[Answer]) -> None:
    """Write the first of the files that broke something where they can be looked at."""
    if not broken:
        return
    folder = Path(tempfile.mkdtemp(prefix="sdwatch-fuzz-"))
    for answer in broken[:20]:
        path = folder / f"{seed}-{answer.number}.yaml"
        path.write_bytes(mutated(seed, answer.number))
        print(f"  {path}: {answer.broken}")


if __name__ == "__main__":
    sys.exit(main())
