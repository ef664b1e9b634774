"""Placement: check which lane can do which job, before a job is claimed for a lane.

The rule: a lane claims no job that its WebUI cannot do; the job waits for another lane. It fails at
once, without a call, when every lane is known and none can do it. A lane is known once its WebUI
has been ready for the first time; until then its jobs wait, as they would anyway. A name that is in
no list is looked up once more, in a list that is read after the job came: titles of checkpoints
change with the first load, and people add files. A lane's answer for a job is valid until its WebUI
is another one, or its lists were read again. A run that resumes from working/ goes to a lane that
can do it; where none can, to any lane, because the calls that are left may be possible.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from sdwatch.errors import JobUnfitError, Problem
from sdwatch.monitor.runs import ActiveRun
from sdwatch.monitor.suspended import SuspendedRun
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.job.calls.preflight import check_against
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.needs import lacking
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.naming import nearest, quoted
from sdwatch.spool.arrival import Arrival
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.monitor")

ANY_BOX = "*"
"""No name of a box."""


class Candidate(Protocol):
    """A lane, as far as placement needs it. `alike`: two lanes with the same have the same tags and
    the same catalogue, so that a job is checked once for both; `box`: its machine, '' for
    this one."""

    @property
    def name(self) -> str: ...
    @property
    def box(self) -> str: ...
    @property
    def tags(self) -> Collection[str]: ...
    @property
    def alike(self) -> str: ...
    @property
    def catalogue(self) -> Catalogue | None: ...
    @property
    def incarnation(self) -> int: ...

    def read_again(self, routes: Collection[str]) -> None: ...


WaitingJob = Arrival | SuspendedRun | ActiveRun
"""A job that waits, in the inbox or in working/, or for its turn. `source`: its unique name;
`version`: the same as long as the job is the same, without reading it."""


class RemoteLane(Candidate, Protocol):
    """A lane of another machine. `serves`: it may be given a run now, `is_idle`: it has
    none."""

    @property
    def serves(self) -> bool: ...
    @property
    def is_idle(self) -> bool: ...


@dataclass(slots=True)
class _Fit:
    """The check of one version of a job against one lane's catalogue. `waits`: for lists that are
    being read again."""

    version: object
    catalogue: Catalogue
    problems: tuple[Problem, ...]
    waits: bool


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a box refused a job; `lanes`: its lanes as they were then."""

    problem: Problem
    lanes: Mapping[str, tuple[int, str]]


def _as_now(lane: Candidate) -> tuple[int, str]:
    return lane.incarnation, lane.alike


class Placement:
    """Knows what `lanes` can do. Used by the main thread. `max_generation`, `rules`: see
    preflight."""

    def __init__(
        self,
        lanes: Sequence[Candidate],
        max_generation: int,
        rules: JobRules = JobRules(),  # noqa: B008 - it is frozen
    ) -> None:
        self._lanes = lanes
        self._max_generation = max_generation
        self._rules = rules
        self._fits: dict[str, dict[str, _Fit]] = {}  # by lanes that are alike, and source
        self._asked: list[tuple[Catalogue | None, str]] = []
        self._lacks: dict[str, tuple[str, ...]] = {}  # tags that no lane has, by source
        self._refused: dict[tuple[str, str], _Refusal] = {}  # by source and box
        self.remote: Callable[[], Sequence[RemoteLane] | None] | None = None
        """Returns the lanes of other machines, of those that are off too; None while nobody knows
        them. Set where jobs are given to other machines."""

    def has_news(self) -> bool:
        """Return whether the lists of a lane changed since the last call: then any answer may
        change."""
        now = [(lane.catalogue, lane.alike) for lane in (*self._lanes, *(self.elsewhere or ()))]
        old, self._asked = self._asked, now
        return len(old) != len(now) or any(
            a is not c or b != d for (a, b), (c, d) in zip(old, now, strict=True)
        )

    @property
    def elsewhere(self) -> Sequence[RemoteLane] | None:
        """Return the lanes of other machines; None while nobody knows them."""
        return () if self.remote is None else self.remote()

    def note_refusal(self, source: str, box: str, why: str) -> None:
        """Note that a box, or ANY_BOX, refused a job; `why` names the box. It is offered to none
        of that box's lanes until its WebUI is another one, or has other lists."""
        lanes = {o.name: _as_now(o) for o in self.elsewhere or () if o.box == box}
        self._refused[source, box] = _Refusal(Problem(0, 0, why), lanes)

    def can_do(self, lane: Candidate, offered: WaitingJob) -> bool:
        """Return whether this lane can do it, as far as is known."""
        fit = self._fit(lane, offered)
        return fit is not None and not fit.problems and not self._was_refused(lane, offered.source)

    def refusal(self, offered: WaitingJob) -> JobUnfitError | None:
        """Return why no lane can do this job; None where one can, or may be able to. Where other
        machines do jobs, one that has a tag which nobody has may only be off."""
        if (elsewhere := self.elsewhere) is None:
            return None
        self._lacks.pop(offered.source, None)
        if self.remote is not None:
            if lacks := self._lacks_tags(offered):
                self._lacks[offered.source] = lacks
            if lacks or not elsewhere:
                return None
        fits = [(lane.name, self._answer(lane, offered)) for lane in (*self._lanes, *elsewhere)]
        reasons: dict[Problem, list[str]] = {}
        for name, fit in fits:
            if fit is None or fit.waits or not fit.problems:
                return None
            for problem in fit.problems:
                reasons.setdefault(problem, []).append(name)
        by_boxes = {refusal.problem for refusal in self._refused.values()}  # they name their box
        problems = [
            problem if len(names) == len(fits) or problem in by_boxes else _on(names, problem)
            for problem, names in reasons.items()
        ]
        return JobUnfitError(offered.source, problems) if problems else None

    def is_refused_by(self, lanes: Iterable[Candidate], offered: WaitingJob) -> bool:
        """Return whether none of these lanes can do it."""
        fits = [self._answer(lane, offered) for lane in lanes]
        return all(o is not None and not o.waits and o.problems for o in fits)

    def _lacks_tags(self, offered: WaitingJob) -> tuple[str, ...]:
        if not isinstance(job := offered.job, Job) or not job.needs.tags:
            return ()
        return tuple(tag for tag in job.needs.tags if tag not in self._known_tags)

    @property
    def _known_tags(self) -> frozenset[str]:
        lanes = (*self._lanes, *(self.elsewhere or ()))
        return frozenset(tag for lane in lanes for tag in lane.tags)

    def without_tags(self) -> dict[str, tuple[str, ...]]:
        """Return the jobs that wait because no lane has all their tags, also of machines that are
        off: source to the tags that nobody has."""
        return dict(self._lacks)

    def waiting(self) -> dict[str, str]:
        """Return the jobs that some lane cannot do, and no other one can do now: source to
        reason."""
        lanes = (*self._lanes, *(lane for lane in self.elsewhere or () if lane.serves))
        names = {lane.alike: lane.name for lane in reversed(lanes)}
        known = [(names[alike], fits) for alike, fits in self._fits.items() if alike in names]
        taken = {s for _, fits in known for s, fit in fits.items() if not fit.problems}
        waits = {
            source: f"{name} cannot do it: {fit.problems[0].message}"
            for name, fits in known
            for source, fit in fits.items()
            if fit.problems and source not in taken
        }
        tags = sorted(self._known_tags) if self._lacks else []
        for source, lacks in self._lacks.items():
            near = "".join(nearest(tag, tags) for tag in lacks[:1]) if tags else ""
            waits[source] = f"waits for a machine with {_tags(lacks)}{near}"
        for (source, _), refusal in self._refused.items():
            if not any(self._takes(lane, source) for lane in lanes):
                why = f"was refused, and waits for another machine: {refusal.problem.message}"
                waits.setdefault(source, why)
        return waits

    def _takes(self, lane: Candidate, source: str) -> bool:
        fit = self._fits.get(lane.alike, {}).get(source)
        return fit is not None and not fit.problems and not self._was_refused(lane, source)

    def keep_only(self, *sources: Container[str]) -> None:
        """Forget all jobs that are in none of these: they have left the inbox."""

        def is_gone(source: str) -> bool:
            return not any(source in some for some in sources)

        for fits in self._fits.values():
            for gone in [s for s in fits if is_gone(s)]:
                del fits[gone]
        for source in [source for source in list(self._lacks) if is_gone(source)]:
            self._lacks.pop(source, None)
        for key in [key for key in list(self._refused) if is_gone(key[0])]:
            self._refused.pop(key, None)

    def _was_refused(self, lane: Candidate, source: str) -> Problem | None:
        if not self._refused or not lane.box:
            return None
        if (everywhere := self._refused.get((source, ANY_BOX))) is not None:
            return everywhere.problem
        refusal = self._refused.get((source, lane.box))
        if refusal is None or refusal.lanes.get(lane.name) != _as_now(lane):
            return None
        return refusal.problem

    def _answer(self, lane: Candidate, offered: WaitingJob) -> _Fit | None:
        """Return what is known of a job on a lane, where its machine has refused it too."""
        fit = self._fit(lane, offered)
        if fit is None or fit.problems or (why := self._was_refused(lane, offered.source)) is None:
            return fit
        return _Fit(fit.version, fit.catalogue, (why,), waits=False)

    def _fit(self, lane: Candidate, offered: WaitingJob) -> _Fit | None:
        """Return what is known; None while nothing is known of the lane, or if it is not a job."""
        catalogue, fits = lane.catalogue, self._fits.setdefault(lane.alike, {})
        if catalogue is None:
            return None
        known = fits.get(offered.source)
        again = known is not None and known.version is offered.version
        if known is not None and again and known.catalogue is catalogue:
            return known
        job = offered.job
        if not isinstance(job, Job):
            return None
        known = self._check(lane, job, offered.version, catalogue, again)
        fits[offered.source] = known
        return known

    def _check(
        self, lane: Candidate, job: Job, version: object, catalogue: Catalogue, again: bool
    ) -> _Fit:
        checked = check_against(job, catalogue, self._max_generation, self._rules)
        problems = (*lacking(job.needs, lane.tags), *checked.problems)
        for warning in checked.warnings if not again and not problems else ():
            words = warning.located(job.name)
            log.warning("on %s: %s", lane.name, words, extra=about(LogEvent.WARNING))
        waits = bool(checked.stale) and not again
        if waits:
            lane.read_again(checked.stale)
        return _Fit(version, catalogue, problems, waits)


def _tags(tags: Sequence[str]) -> str:
    return f"the {'tag' if len(tags) == 1 else 'tags'} {', '.join(map(quoted, tags))}"


def _on(names: Sequence[str], problem: Problem) -> Problem:
    return replace(problem, message=f"{', '.join(names)}: {problem.message}")
