"""What a night was like: counts over what ended, and what crashed, in it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sdwatch.policy.failure.ledger import seconds_of
from sdwatch.policy.job.calls.estimate import TimedCall
from sdwatch.policy.page.overview import EndedCard, NightCounts
from sdwatch.policy.page.times import wall_of

HOURS = 12.0
"""A night, looked at in the evening before it, at three, or after it."""

_ENDS_A_LOSS = ("call_started", "ended")


@dataclass(frozen=True)
class Loss:
    """A crash of a WebUI during a call. `at`: when the attempt failed; `attempt`: seconds that it
    took; `until`: when the run's next attempt started, or the run ended; None while neither has
    happened. All by the monitor's clock."""

    at: float
    attempt: float = 0.0
    until: float | None = None

    def seconds(self, now: float | None) -> float:
        """Return the seconds of WebUI time that it cost so far. `now`: None if no monitor runs: the
        time for which there is none is not lost to a crash."""
        until = self.until if self.until is not None else now
        return self.attempt + (max(0.0, until - self.at) if until is not None else 0.0)


@dataclass(frozen=True)
class EndedRun:
    """A run that has ended. `calls`: its last finished calls, newest first; `seconds`: of all of
    them; `losses`: the crashes during its calls."""

    card: EndedCard
    calls: tuple[TimedCall, ...] = ()
    seconds: float = 0.0
    losses: tuple[Loss, ...] = ()


def losses_in(
    records: Iterable[Mapping[str, Any]], before: Sequence[Loss] = ()
) -> tuple[Loss, ...]:
    """Return the crashes of the WebUI during a run's calls, by its journal, oldest first. `before`:
    those of the journal before these records. A clean stop between two attempts is part of a loss:
    a journal does not say when the monitor was away."""
    losses = [*before]
    for record in records:
        at = wall_of(record.get("at"))
        if at is None:
            continue
        if record.get("event") in _ENDS_A_LOSS and losses and losses[-1].until is None:
            losses[-1] = replace(losses[-1], until=at)
        elif record.get("event") == "call_failed" and record.get("crashed") is True:
            losses.append(Loss(at, seconds_of(record)))
    return tuple(losses)


def counts_of(
    runs: Iterable[EndedRun],
    now: float,
    *,
    under_way: Iterable[Loss] = (),
    lost_until: float | None = None,
    whole: bool = True,
) -> NightCounts:
    """Return the counts over the last HOURS: of the runs that ended in it, and of the crashes in
    it. `under_way`: crashes during calls of runs that have not ended; `lost_until`: the time, by
    the monitor's clock, until which what is still down counts as lost, None without a monitor;
    `whole`: all these runs were read."""
    since = now - 3600 * HOURS
    all_runs = list(runs)
    night = [run for run in all_runs if (run.card.ended_at or 0.0) >= since]
    outcomes = [run.card.outcome for run in night]
    ended = [(loss, None) for run in all_runs for loss in run.losses]
    losses = [
        (loss, until)
        for loss, until in [*ended, *((loss, lost_until) for loss in under_way)]
        if loss.at >= since
    ]
    return NightCounts(
        hours=HOURS,
        done=outcomes.count("done"),
        failed=outcomes.count("failed"),
        cancelled=outcomes.count("cancelled"),
        images=sum(run.card.images for run in night),
        crashes=len(losses),
        lost=round(sum(loss.seconds(until) for loss, until in losses), 1),
        whole=whole,
    )
