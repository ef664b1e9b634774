"""Which box gets a job: one that has what the job's first call needs, and the fewest runs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from sdwatch.policy.job.calls.catalogue import fold, without_checksum
from sdwatch.policy.job.job import Job
from sdwatch.policy.queue.affinity import needed_first

_MOST_PLACES = 64


@dataclass(frozen=True, slots=True)
class BoxCard:
    """What a box shows. `places`: how many runs it takes; `checkpoints`: of its lanes, folded; None
    where a lane has not said."""

    places: int = 0
    kinds: tuple[str, ...] = ()
    checkpoints: frozenset[str] | None = None


def card_of(given: Mapping[str, Any]) -> BoxCard:
    """Return what a box shows. It is foreign: what cannot be read counts as nothing."""
    places = given.get("places")
    if not isinstance(places, int) or isinstance(places, bool):
        return BoxCard()
    lanes = given.get("lanes")
    lanes = [lane for lane in lanes if isinstance(lane, dict)] if isinstance(lanes, list) else []
    kinds = tuple(str(lane.get("kind"))[:40] for lane in lanes)
    known: set[str] | None = set()
    for lane in lanes:
        names = lane.get("checkpoints")
        if not isinstance(names, list):
            known = None
        elif known is not None:
            known |= {form for name in names for form in _forms(str(name))}
    return BoxCard(
        max(0, min(places, _MOST_PLACES)), kinds, None if known is None else frozenset(known)
    )


def fits(card: BoxCard, job: Job) -> bool:
    """Return whether the box may be able to do the job, as far as its checkpoint goes."""
    needs = needed_first(job)
    if not needs or card.checkpoints is None:
        return True
    return not _forms(needs).isdisjoint(card.checkpoints)


def _forms(name: str) -> set[str]:
    plain = without_checksum(name).replace("\\", "/")
    return {fold(name), fold(plain), fold(PurePosixPath(plain).stem)}


def in_turn(boxes: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return the boxes in the order in which they get runs, each as often as it has places.
    `boxes`: how many runs each has, and how many it takes."""
    turns = [
        (number, name) for name, (runs, places) in boxes.items() for number in range(runs, places)
    ]
    return [name for _, name in sorted(turns)]
