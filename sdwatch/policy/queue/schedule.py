"""The order of the jobs that wait, and which of them a WebUI gets: those that need the checkpoint
that it has loaded go first. Pure.

A switch of checkpoints takes seconds to minutes. So a job may pass older ones of the same priority,
but it may delay none of them by more than a limit: a job's delay is the time in which jobs were
under way that have passed it, and nobody passes a job whose delay would get above the limit. Only
the order changes; whatever may run, runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeAlias

from sdwatch.policy.job.job import Job, Stage
from sdwatch.policy.job.stage.stage_kinds import STAGES

Place: TypeAlias = tuple[int, int, str]
"""A place in the order: the smallest comes first. The last part is the source."""


class Waiting(Protocol):
    """What the order looks at: `priority` (higher first), `mtime_ns`, `source` (path)."""

    @property
    def priority(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def source(self) -> str: ...


def place_in_order(job: Waiting) -> Place:
    """Return a key to sort by: by priority, then the older first, then by path, so that the order
    is always the same."""
    return -job.priority, job.mtime_ns, job.source


# -- which is next

DEFAULT = ""
"""The checkpoint of a call that names none: the one of the WebUI's settings."""

CHECKPOINT = "sd_model_checkpoint"


def needed_first(job: Job) -> str | None:
    """Return the checkpoint that the first call of a job needs, None for none at all."""
    return _needed(job.stages[0]) if job.stages else None


def left_loaded(job: Job) -> str | None:
    """Return the checkpoint that the last call of a job needs; None if no call needs one, so that
    what is loaded stays."""
    needed = [each for stage in job.stages if (each := _needed(stage)) is not None]
    return needed[-1] if needed else None


def _needed(stage: Stage) -> str | None:
    if not STAGES[stage.kind].has_steps:
        return None
    if stage.workflow is not None:
        return str(stage.workflow.value("checkpoint") or "") or None
    named = (stage.fields.get("override_settings") or {}).get(CHECKPOINT)
    return named if isinstance(named, str) else DEFAULT


@dataclass(frozen=True)
class InLine:
    """A job that waits, as one WebUI sees it. `here`: what it needs is loaded here; `elsewhere`: on
    another WebUI that can do it, `idle_elsewhere`: on one that has nothing to do. `late`: its delay
    so far, in seconds; `takes`: how long it will take, 0 where nobody knows."""

    source: str
    here: bool = False
    elsewhere: bool = False
    idle_elsewhere: bool = False
    late: float = 0.0
    takes: float = 0.0


class WhyNext(Enum):
    """Why a job is next."""

    FIRST = "it is the first in the order"
    LOADED = "its checkpoint is loaded"
    LATE = "it has let others pass for affinity_max_wait"
    NOT_ELSEWHERE = "no other WebUI has its checkpoint loaded"


@dataclass(frozen=True)
class Choice:
    """The job at this place of the line is next; it passes those before it."""

    place: int
    because: WhyNext


def choose(line: Sequence[InLine], most: float | None) -> Choice | None:
    """Return which job of a line (of one priority, in its order) a WebUI gets next; None where each
    is better left to another WebUI, which is idle and has its checkpoint. `most`: seconds by which
    a job may be delayed; None for the plain order."""
    if not line:
        return None
    if most is None:
        return Choice(0, WhyNext.FIRST)
    allowed = list(_may_pass(line, most))
    for place in allowed:
        if line[place].here:
            return Choice(place, WhyNext.LOADED if place else WhyNext.FIRST)
    is_held_back = any(job.here for job in line)
    for place in allowed:
        if not line[place].elsewhere:
            plain = WhyNext.LATE if is_held_back else WhyNext.FIRST
            return Choice(place, WhyNext.NOT_ELSEWHERE if place else plain)
    for place in allowed:
        if not line[place].idle_elsewhere:
            return Choice(place, WhyNext.LATE if is_held_back and not place else WhyNext.FIRST)
    return None


def _may_pass(line: Sequence[InLine], most: float) -> list[int]:
    """Return the places whose jobs may be next: the first, and those that may pass all before."""
    allowed, latest = [], 0.0
    for place, job in enumerate(line):
        if place and latest >= most:
            break
        if not place or latest + job.takes <= most:
            allowed.append(place)
        latest = max(latest, job.late)
    return allowed


def in_words(choice: Choice, line: Sequence[InLine], most: float | None) -> str:
    """Return why a job is next, for people."""
    why = choice.because.value
    if not choice.place:
        return why
    passed = line[: choice.place]
    latest = max(job.late for job in passed)
    older = "1 older job" if len(passed) == 1 else f"{len(passed)} older jobs"
    wait = "waits" if len(passed) == 1 else "wait"
    return f"{why}; {older} {wait} for it, up to {latest:.0f} s so far (limit {most or 0:.0f} s)"
