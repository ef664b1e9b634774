"""Who gets which job, by the checkpoints that are loaded: the memory that policy/queue/schedule.py
needs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from sdwatch.monitor.placement import Candidate
from sdwatch.policy.job.calls.catalogue import Catalogue, fold
from sdwatch.policy.queue.schedule import DEFAULT, Choice, InLine, WhyNext, choose, in_words
from sdwatch.spool.arrival import Arrival
from sdwatch.system.clock import Clock

_LOOKED_AT = 200
"""Jobs of the line: further ones come closer. Fewer than the inbox keeps parsed."""

_SHARE = 0.2
"""Of the last run in the typical duration of runs."""


@dataclass
class _UnderWay:
    """A run. `leaves`: the checkpoint of its last call, None for none; `passed`: which others."""

    began: float
    lane: str
    priority: int
    leaves: str | None
    passed: frozenset[str]


@dataclass(frozen=True)
class Chosen:
    """The job that a lane gets next, the sources that it passes, and why, for people. `in_order`:
    only because it is the first in the plain order."""

    job: Arrival
    passed: tuple[str, ...]
    why: str
    in_order: bool = False


Others = Callable[[Arrival], Sequence[tuple[Candidate, bool]]]
"""The other lanes that can do a job, each with whether it has nothing to do."""


class Affinity:
    """`most`: seconds by which a job may be delayed, None for the plain order. Used by the main
    thread."""

    def __init__(self, clock: Clock, most: float | None) -> None:
        self._clock = clock
        self._most = most
        self._loaded: dict[str, tuple[int, str]] = {}  # by lane: which life, and what
        self._late: dict[str, float] = {}  # by source
        self._under_way: dict[str, _UnderWay] = {}  # by run
        self._held: dict[str, str] = {}  # by lane: the source that may not join its runs
        self._counted_to = clock.monotonic()
        self._typical = 0.0

    # -- what happens

    def started(
        self,
        run: str,
        lane: Candidate,
        leaves: str | None,
        passed: Collection[str] = (),
        priority: int = 0,
    ) -> None:
        """Note that a run has started. `leaves`: the checkpoint of its last call, None for none."""
        self._count()
        title = None if leaves is None else _title(leaves, lane.catalogue)
        self._under_way[run] = _UnderWay(
            self._clock.monotonic(), lane.name, priority, title, frozenset(passed)
        )
        if title is not None:
            self._loaded[lane.name] = lane.incarnation, title

    def note_loaded(self, lane: Candidate, name: str) -> None:
        """Note what another machine says that is or will be loaded on one of its lanes."""
        self._loaded[lane.name] = lane.incarnation, name

    def look(self, active: Container[str], sources: Container[str]) -> None:
        """Note which runs are still under way, and which jobs still wait."""
        self._count()
        for run in [run for run in self._under_way if run not in active]:
            took = self._clock.monotonic() - self._under_way.pop(run).began
            self._typical += (took - self._typical) * (_SHARE if self._typical else 1.0)
        held = {*self._held.values()}
        for gone in [s for s in self._late if s not in sources and s not in held]:
            del self._late[gone]
        self._held.clear()  # as of the last round

    def _count(self) -> None:
        """Add the time since the last look to the delay of those who were passed."""
        now = self._clock.monotonic()
        passed = {source for run in self._under_way.values() for source in run.passed}
        for source in passed | {*self._held.values()}:
            self._late[source] = self._late.get(source, 0.0) + now - self._counted_to
        self._counted_to = now

    # -- what follows

    def loaded(self, lane: Candidate) -> str:
        """Return what is or will be loaded when the runs of a lane have ended."""
        incarnation, name = self._loaded.get(lane.name, (lane.incarnation, DEFAULT))
        return name if incarnation == lane.incarnation else DEFAULT

    def may_join(self, lane: Candidate, source: str, needs: str | None, priority: int) -> bool:
        """Return whether a job may be served beside the runs of a lane that need its WebUI now.
        Their calls alternate, so one that needs another checkpoint waits until they have ended:
        each call would load its own. It is delayed by that, and for no longer than the limit."""
        if self._most is None or needs is None:
            return True
        title = _title(needs, lane.catalogue)
        beside = [run for run in self._under_way.values() if run.lane == lane.name]
        others = [run for run in beside if run.leaves is not None and run.leaves != title]
        is_urgent = any(run.priority < priority for run in others)
        if not others or is_urgent or self._late.get(source, 0.0) >= self._most:
            return True
        self._held[lane.name] = source
        return False

    def next_for(
        self, lane: Candidate, waiting: Iterable[Arrival], others: Others
    ) -> Chosen | None:
        """Return the job that a lane gets next, None for none. `waiting`: what it can do and may
        start now, in the plain order."""
        found = iter(waiting)
        first = next(found, None)
        if first is None:
            return None
        same = takewhile(lambda job: job.priority == first.priority, found)
        jobs = [first, *islice(same, 0 if self._most is None else _LOOKED_AT)]
        line = [self._in_line(lane, job, others) for job in jobs]
        choice: Choice | None = choose(line, self._most)
        if choice is None:
            return None
        passed = tuple(job.source for job in jobs[: choice.place])
        words, in_order = in_words(choice, line, self._most), choice.because is WhyNext.FIRST
        job = jobs[choice.place]
        if is_held := self._held.get(lane.name) == job.source:
            words += "; it waits for the run under way, which needs another checkpoint"
        return Chosen(job, passed, words, in_order and not passed and not is_held)

    def _in_line(self, lane: Candidate, job: Arrival, others: Others) -> InLine:
        late, needs = self._late.get(job.source, 0.0), job.needs
        if needs is None or self._has(lane, needs):
            return InLine(job.source, here=True, late=late, takes=self._typical)
        idle = [is_idle for other, is_idle in others(job) if self._has(other, needs)]
        return InLine(job.source, False, bool(idle), any(idle), late, self._typical)

    def _has(self, lane: Candidate, needs: str) -> bool:
        return self.loaded(lane) == _title(needs, lane.catalogue)


def _title(name: str, catalogue: Catalogue | None) -> str:
    """Return a checkpoint under the name that the WebUI's list has for it."""
    names = catalogue.lists.get("sd-models") if catalogue and name else None
    return names.hints.get(fold(name), name) if names else name
