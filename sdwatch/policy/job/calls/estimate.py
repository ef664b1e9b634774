"""How long calls will take, from what calls took on this machine. Pure.

Measured times, not a model of a GPU: the calls of the same stage that were nearest in size, each
scaled by pixels times steps times pictures. A call of another size than all before is scaled the
furthest, so it is the least certain. Another checkpoint shows after a few of its calls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import median

from sdwatch.policy.job.calls.call_sizes import CallSize

_NEAREST = 9
"""So many calls decide at most, by their median: one that loads a model is not the rule."""

_AS_NEAR = log(1.1)
"""A call that is further from the nearest than this is of another size."""


@dataclass(frozen=True)
class TimedCall:
    """A finished call. `seconds`: of the attempt that finished; `size`: None if unknown."""

    seconds: float
    size: CallSize | None = None


class CallTimes:
    """What calls took: the history, newest first. It is empty, and so false, where there is none.
    `usual`: the seconds of a typical call, whatever it asked for; 0 without a history."""

    def __init__(self, calls: Iterable[TimedCall] = ()) -> None:
        self._calls = [call for call in calls if call.seconds > 0]
        self.usual = median(call.seconds for call in self._calls) if self._calls else 0.0
        self._by_stage = _by_stage(self._calls)
        self._known: dict[CallSize, float] = {}

    def __iter__(self) -> Iterator[TimedCall]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def seconds_of(self, size: CallSize | None) -> float:
        """Return the seconds that a call of this size takes; those of a typical call where no call
        of its stage has a known size."""
        of_stage = self._by_stage.get(size.stage) if size is not None else None
        if size is None or of_stage is None:
            return self.usual
        if size not in self._known:
            self._known[size] = of_stage.seconds_of(size)
        return self._known[size]


@dataclass(frozen=True)
class _OfStage:
    """The calls of one stage: their sizes with their seconds. `pixels`, `steps`: usual ones."""

    calls: Sequence[tuple[CallSize, float]]
    pixels: float
    steps: float

    def seconds_of(self, size: CallSize) -> float:
        wanted = self._work(size)
        each = [(log(self._work(known) / wanted), seconds) for known, seconds in self.calls]
        nearest = sorted(each, key=lambda call: abs(call[0]))[:_NEAREST]
        bound = abs(nearest[0][0]) + _AS_NEAR
        return median(seconds / exp(far) for far, seconds in nearest if abs(far) <= bound)

    def _work(self, size: CallSize) -> float:
        """Return pixels times steps times pictures, the usual number for what is not known."""
        return (size.pixels or self.pixels) * (size.steps or self.steps) * max(1, size.pictures)


def _by_stage(calls: Iterable[TimedCall]) -> dict[str, _OfStage]:
    found: dict[str, list[tuple[CallSize, float]]] = {}
    for call in calls:
        if call.size is not None:
            found.setdefault(call.size.stage, []).append((call.size, call.seconds))
    return {
        stage: _OfStage(
            sized,
            _usual(size.pixels for size, _ in sized),
            _usual(size.steps for size, _ in sized),
        )
        for stage, sized in found.items()
    }


def _usual(numbers: Iterable[int | None]) -> float:
    """Return the median of what is known; 1 if nothing is."""
    known = [number for number in numbers if number]
    return median(known) if known else 1.0


def estimate(history: CallTimes, calls: Mapping[CallSize, float]) -> float | None:
    """Return the seconds that these calls take, one after the other; None without a history.
    `calls`: how many of each size, see call_sizes.sizes_in."""
    if not history:
        return None
    return sum(count * history.seconds_of(size) for size, count in calls.items())
