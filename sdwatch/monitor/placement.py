"""Which lane can do which job: the preflight, before a job is claimed for a lane.

The rule: a lane claims no job that its WebUI cannot do; the job waits for another lane. It fails at
once, without a call, when every lane is known and none can do it. A lane is known once its WebUI
has been ready for the first time; until then its jobs wait, as they would anyway. A name that is in
no list is looked up once more, in a list that is read after the job came: titles of checkpoints
change with the first load, and people add files. A lane's answer for a job is valid until its WebUI
is another one, or its lists were read again. A run that resumes from working/ goes to a lane that
can do it; where none can, to any lane, because the calls that are left may be possible.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sdwatch.errors import JobUnfitError, Problem
from sdwatch.policy.job.catalogue import Catalogue
from sdwatch.policy.job.confinement import JobRules
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.preflight import check_against


class Candidate(Protocol):
    """A lane, as far as placement needs it."""

    name: str

    @property
    def catalogue(self) -> Catalogue | None: ...

    def read_again(self, routes: Collection[str]) -> None: ...


class Offered(Protocol):
    """A job that waits, in the inbox or in working/. `source`: its unique name."""

    @property
    def source(self) -> str: ...

    @property
    def job(self) -> object: ...


@dataclass
class _Opinion:
    """Whether one lane can do one job, by one catalogue. `waits`: for lists that are being read
    again."""

    job: Job
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
        self._opinions: dict[tuple[str, str], _Opinion] = {}  # by source and lane
        self._asked: list[object] = []

    def has_news(self, waiting: object) -> bool:
        """Return whether the waiting jobs changed since the last call (`waiting` is another object
        then), or the lists of a lane: only then does any answer change. Asking for 30,000 jobs
        takes a while."""
        now = [waiting, *(lane.catalogue for lane in self._lanes)]
        old, self._asked = self._asked, now
        return len(old) != len(now) or any(a is not b for a, b in zip(old, now, strict=True))

    def can_do(self, lane: Candidate, offered: Offered) -> bool:
        """Return whether this lane can do it, as far as is known."""
        opinion = self._opinion(lane, offered)
        return opinion is not None and not opinion.problems

    def refusal(self, offered: Offered) -> JobUnfitError | None:
        """Return why no lane can do this job; None where one can, or may be able to."""
        opinions = [(lane.name, self._opinion(lane, offered)) for lane in self._lanes]
        reasons: dict[Problem, list[str]] = {}
        for name, opinion in opinions:
            if opinion is None or opinion.waits or not opinion.problems:
                return None
            for problem in opinion.problems:
                reasons.setdefault(problem, []).append(name)
        problems = [
            problem if len(names) == len(opinions) else _on(names, problem)
            for problem, names in reasons.items()
        ]
        return JobUnfitError(offered.source, problems) if problems else None

    def is_refused_by(self, lanes: Iterable[Candidate], offered: Offered) -> bool:
        """Return whether none of these lanes can do it."""
        opinions = [self._opinion(lane, offered) for lane in lanes]
        return all(o is not None and not o.waits and o.problems for o in opinions)

    def waiting(self) -> dict[str, str]:
        """Return the jobs that some lane cannot do: source to reason."""
        return {
            source: f"{lane} cannot do it: {opinion.problems[0].message}"
            for (source, lane), opinion in list(self._opinions.items())
            if opinion.problems
        }

    def keep_only(self, sources: Collection[str]) -> None:
        """Forget all other jobs: they have left the inbox."""
        gone = [key for key in self._opinions if key[0] not in sources]
        for key in gone:
            del self._opinions[key]

    def _opinion(self, lane: Candidate, offered: Offered) -> _Opinion | None:
        """Return what is known; None while nothing is known of the lane, and for what is no job."""
        job, catalogue = offered.job, lane.catalogue
        if catalogue is None or not isinstance(job, Job):
            return None
        known = self._opinions.get((offered.source, lane.name))
        if known is None or known.job is not job or known.catalogue is not catalogue:
            again = known is not None and known.job is job
            known = self._judge(lane, job, catalogue, again)
            self._opinions[offered.source, lane.name] = known
        return known

    def _judge(self, lane: Candidate, job: Job, catalogue: Catalogue, again: bool) -> _Opinion:
        checked = check_against(job, catalogue, self._max_generation, self._rules)
        waits = bool(checked.stale) and not again
        if waits:
            lane.read_again(checked.stale)
        return _Opinion(job, catalogue, checked.problems, waits)


def _on(names: Sequence[str], problem: Problem) -> Problem:
    return Problem(problem.line, problem.column, f"{', '.join(names)}: {problem.message}")
