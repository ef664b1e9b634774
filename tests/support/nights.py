"""Nights of many jobs over some checkpoints: the real policy on an injected clock."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from sdwatch.monitor.affinity import Affinity
from sdwatch.policy.job.calls.catalogue import Catalogue
from tests.support.helpers import FakeClock


@dataclass(frozen=True)
class Waits:
    source: str
    needs: str
    priority: int = 0


@dataclass
class OneLane:
    name: str = "sim"
    catalogue: Catalogue | None = None
    incarnation: int = 1


@dataclass
class Night:
    """What a night of jobs of `image` seconds took, with switches of `switch` seconds."""

    loads: int
    seconds: float
    started: dict[str, float]


def simulated(jobs: Sequence[Waits], most: float | None, *, switch: float, image: float) -> Night:
    """One lane and one run after the other, on an injected clock."""
    clock, lane = FakeClock(now=0.0), OneLane()
    affinity = Affinity(clock, most)
    waiting, loaded, night = list(jobs), "", Night(0, 0.0, {})
    while waiting:
        affinity.look((), {job.source for job in waiting})
        chosen = affinity.next_for(lane, iter(waiting), lambda _: ())
        assert chosen is not None
        job = chosen.job
        waiting.remove(job)
        night.started[job.source] = clock.now
        affinity.started(job.source, lane, job.needs, chosen.passed)
        if job.needs != loaded:
            night.loads, loaded = night.loads + 1, job.needs
            clock.advance(switch)
        clock.advance(image)
    night.seconds = clock.now
    return night


def night_of(seed: int, jobs: int = 200) -> list[Waits]:
    drawn = random.Random(seed)
    return [Waits(f"{i:03}.yaml", drawn.choice("abcd")) for i in range(jobs)]
