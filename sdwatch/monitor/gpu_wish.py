"""Whether the GPU of a lane is wanted for something else: a person's hold says so, or the windows
of its jobs are over."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sdwatch.lane.lane import Lane
from sdwatch.monitor.later_jobs import Schedule
from sdwatch.policy.failure.hold_reason import NoCall
from sdwatch.policy.job.when import ANY_TIME, TimeField, When


class GpuWish:
    """Decides it for each lane, in each round. Used by the main thread."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._served: dict[str, When] = {}  # of the last run that started on a lane
        self._frees: dict[str, bool] = {}

    def started(self, lane: Lane, when: When) -> None:
        """Note that a run has started on a lane."""
        self._served[lane.name] = when

    def frees(
        self,
        lane: Lane,
        persons_hold: NoCall | None,
        waiting: Callable[[], Iterable[When]],
        has_work: Callable[[], bool | None],
    ) -> bool:
        """Return whether to free the GPU. `persons_hold`: None without one; `waiting`: returns the
        times of all jobs that wait; `has_work`: returns whether this lane has or may get a run now,
        None where that is not known yet."""
        if persons_hold is not None:
            return persons_hold.frees
        work = has_work()
        if work is not None:
            self._frees[lane.name] = not work and self._is_over(lane, waiting())
        return self._frees.get(lane.name, False)

    def _is_over(self, lane: Lane, waiting: Iterable[When]) -> bool:
        """Return whether a window has closed on the last run of this lane, or on a job that
        waits."""
        whens = (self._served.get(lane.name, ANY_TIME), *waiting)
        waits = map(self._schedule.waits, whens)
        return any(each is not None and each.field is TimeField.ONLY for each in waits)
