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

from collections.abc import Callable, Collection, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from sdwatch.errors import JobUnfitError, Problem
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.job.calls.preflight import check_against
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.stage.confinement import JobRules


class Candidate(Protocol):
    """A lane, as far as placement needs it."""

    name: str

    @property
    def catalogue(self) -> Catalogue | None: ...

    def read_again(self, routes: Collection[str]) -> None: ...


class WaitingJob(Protocol):
    """A job that waits, in the inbox or in working/. `source`: its unique name. `version`: the same
    as long as the job is the same, without reading it."""

    @property
    def source(self) -> str: ...

    @property
    def job(self) -> object: ...
    @property
    def version(self) -> object: ...


@dataclass(slots=True)
class _Fit:
    """The check of one version of a job against one lane's catalogue. `waits`: for lists that are
    being read again."""

    version: object
    catalogue: Catalogue
    problems: tuple[Problem, ...]
    waits: bool


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
        self._fits: dict[str, dict[str, _Fit]] = {}  # by lane and source
        self._asked: list[object] = []
        self.elsewhere: Callable[[WaitingJob], bool] = lambda _: False  # another machine may do it

    def has_news(self) -> bool:
        """Return whether the lists of a lane changed since the last call: then any answer may
        change."""
        now = [lane.catalogue for lane in self._lanes]
        old, self._asked = self._asked, [*now]
        return len(old) != len(now) or any(a is not b for a, b in zip(old, now, strict=True))

    def can_do(self, lane: Candidate, offered: WaitingJob) -> bool:
        """Return whether this lane can do it, as far as is known."""
        fit = self._fit(lane, offered)
        return fit is not None and not fit.problems

    def refusal(self, offered: WaitingJob) -> JobUnfitError | None:
        """Return why no lane can do this job; None where one can, or may be able to."""
        if self.elsewhere(offered):
            return None
        fits = [(lane.name, self._fit(lane, offered)) for lane in self._lanes]
        reasons: dict[Problem, list[str]] = {}
        for name, fit in fits:
            if fit is None or fit.waits or not fit.problems:
                return None
            for problem in fit.problems:
                reasons.setdefault(problem, []).append(name)
        problems = [
            problem if len(names) == len(fits) else _on(names, problem)
            for problem, names in reasons.items()
        ]
        return JobUnfitError(offered.source, problems) if problems else None

    def is_refused_by(self, lanes: Iterable[Candidate], offered: WaitingJob) -> bool:
        """Return whether none of these lanes can do it."""
        fits = [self._fit(lane, offered) for lane in lanes]
        return all(o is not None and not o.waits and o.problems for o in fits)

    def waiting(self) -> dict[str, str]:
        """Return the jobs that some lane cannot do: source to reason."""
        return {
            source: f"{lane} cannot do it: {fit.problems[0].message}"
            for lane, fits in self._fits.items()
            for source, fit in fits.items()
            if fit.problems
        }

    def keep_only(self, *sources: Container[str]) -> None:
        """Forget all jobs that are in none of these: they have left the inbox."""
        for fits in self._fits.values():
            for gone in [s for s in fits if not any(s in some for some in sources)]:
                del fits[gone]

    def _fit(self, lane: Candidate, offered: WaitingJob) -> _Fit | None:
        """Return what is known; None while nothing is known of the lane, and for what is no job."""
        catalogue, fits = lane.catalogue, self._fits.setdefault(lane.name, {})
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
        waits = bool(checked.stale) and not again
        if waits:
            lane.read_again(checked.stale)
        return _Fit(version, catalogue, checked.problems, waits)


def _on(names: Sequence[str], problem: Problem) -> Problem:
    return replace(problem, message=f"{', '.join(names)}: {problem.message}")
