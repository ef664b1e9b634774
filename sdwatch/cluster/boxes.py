"""The boxes as the dispatcher knows them, each of their lanes a lane that may be given a job."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sdwatch.cluster.board import Board
from sdwatch.policy.cluster.cards import BoxOrder, BoxShown, LaneShown
from sdwatch.policy.cluster.lists import lists_in
from sdwatch.policy.cluster.names import Times
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.cluster")

_SHOWN_CHECKPOINTS = 5
"""In the status, which is written each second."""


@dataclass
class SeenBox:
    """A box as it showed itself last. `number`: of that; `at`: when it last grew, on the monotonic
    clock; `order`: what people want of it."""

    number: int
    shown: BoxShown
    at: float
    order: BoxOrder


class LaneOfBox:
    """A lane of a box. It is made again whenever its box shows itself."""

    def __init__(self, boxes: Boxes, box: str, shown: LaneShown) -> None:
        self.box, self.shown = box, shown
        self.name = f"{box}/{shown.name}"
        self.tags = shown.tags
        self.alike = f"lists {shown.lists or self.name} with {' '.join(sorted(shown.tags))}"
        self.incarnation = shown.life
        self._boxes = boxes

    @property
    def catalogue(self) -> Catalogue | None:
        """Return what its WebUI has; None until that is known."""
        return self._boxes.catalogues.get(self.shown.lists)

    @property
    def serves(self) -> bool:
        """Return whether it may be given a run now."""
        return self.shown.places > 0 and self._boxes.serves(self.box)

    @property
    def is_idle(self) -> bool:
        """Return whether it serves, and has nothing to do."""
        return self.serves and not self._boxes.runs[self.name]

    def read_again(self, routes: Collection[str]) -> None:
        """Ask the boxes with these lists to read them again."""
        del routes
        self._boxes.wanted.add(self.shown.lists)


@dataclass
class Boxes:
    """All boxes. `seen`, `catalogues`, `lanes` are replaced as a whole by the watching thread;
    `runs`, how many each lane has from here, belongs to the main thread."""

    now: Callable[[], float]
    times: Times
    seen: Mapping[str, SeenBox] = field(default_factory=dict)
    catalogues: Mapping[str, Catalogue] = field(default_factory=dict)
    lanes: tuple[LaneOfBox, ...] | None = None
    runs: Counter[str] = field(default_factory=Counter)
    wanted: set[str] = field(default_factory=set)  # lists that are to be read again

    def answers(self, box: str) -> bool:
        """Return whether a box has shown itself a short while ago."""
        seen = self.seen.get(box)
        return seen is not None and self.now() - seen.at < self.times.silent

    def serves(self, box: str) -> bool:
        """Return whether a box may be given runs."""
        seen = self.seen.get(box)
        if seen is None or seen.order.drain or seen.order.hold or seen.shown.paused:
            return False
        return self.answers(box)

    def takes_none(self, box: str) -> bool:
        """Return whether a box says that it takes no run now."""
        return self.answers(box) and not self.seen[box].shown.places

    # -- the watching thread

    def look(self, board: Board) -> bool:
        """Read what the boxes show; return whether something has changed that placement depends
        on. Raises BrokerGoneError."""
        now, orders, seen = self.now(), board.orders(), {}
        for name, (number, shown) in board.boxes().items():
            before = self.seen.get(name)
            # What was shown before this start may be old: it must be shown once more.
            at = now if before is not None else now - self.times.silent
            if before is not None and before.number == number:
                shown, at = before.shown, before.at
            seen[name] = SeenBox(number, shown, at, orders.get(name, BoxOrder()))
        self._read_lists(board, seen)
        for box in self._to_ask(seen):
            board.ask_for_lists(box)
        self.lanes = tuple(
            LaneOfBox(self, name, lane)
            for name, box in sorted(seen.items())
            for lane in box.shown.lanes
        )
        changed = _for_placement(self.seen) != _for_placement(seen)
        self.seen = seen
        return changed

    def _read_lists(self, board: Board, seen: Mapping[str, SeenBox]) -> None:
        """Read the lists that are new. Those that were read again are another object then, as those
        of a lane of this machine."""
        named = {
            lane.lists: (name, lane.name)
            for name, box in seen.items()
            for lane in box.shown.lanes
            if lane.lists
        }
        known = {lists: each for lists, each in self.catalogues.items() if lists in named}
        for lists, (box, lane) in named.items():
            if lists in known:
                continue
            data = board.lists(box, lane)
            if hashlib.sha256(data).hexdigest() != lists:
                continue  # they have just changed
            try:
                known[lists] = lists_in(data)
            except ValueError as error:
                log.warning("%s: %s", box, error, extra=about(LogEvent.WARNING))
                known[lists] = Catalogue()
        for name, shows in seen.items():
            before = self.seen.get(name)
            if before is not None and before.shown.asked != shows.shown.asked:
                for again in shows.shown.lanes:
                    self.wanted.discard(again.lists)
                    if again.lists in known:
                        known[again.lists] = replace(known[again.lists])
        self.catalogues = known

    def _to_ask(self, seen: Mapping[str, SeenBox]) -> list[str]:
        wanted = {*self.wanted}
        self.wanted &= {lane.lists for box in seen.values() for lane in box.shown.lanes}
        return [
            name
            for name, box in seen.items()
            if any(lane.lists in wanted for lane in box.shown.lanes)
        ]

    # -- for people

    def status(self, runs: Mapping[str, list[str]]) -> dict[str, Any]:
        """Return the boxes. `runs`: from here, by box."""
        now = self.now()
        return {
            name: box_status(
                seen.shown,
                seen.order,
                self.catalogues,
                answers=self.answers(name),
                seconds_ago=now - seen.at,
                runs=sorted(runs.get(name, ())),
            )
            for name, seen in sorted(self.seen.items())
        }


def _for_placement(seen: Mapping[str, SeenBox]) -> list[object]:
    return [(name, box.shown.lanes, box.shown.paused, box.order) for name, box in seen.items()]


def box_status(
    shown: BoxShown,
    order: BoxOrder,
    catalogues: Mapping[str, Catalogue],
    checkpoints: int | None = _SHOWN_CHECKPOINTS,
    **more: Any,
) -> dict[str, Any]:
    """Return a box for `status` and `cluster status`. `checkpoints`: how many of each lane are
    named, None for all."""
    seconds = more.pop("seconds_ago")
    return {
        **more,
        "seconds_ago": round(max(0.0, seconds), 1),
        "drained": order.drain,
        "held": order.hold,
        "paused": shown.paused,
        "places": shown.places,
        "lanes": [
            _lane_status(lane, catalogues.get(lane.lists), checkpoints) for lane in shown.lanes
        ],
    }


def _lane_status(lane: LaneShown, catalogue: Catalogue | None, most: int | None) -> dict[str, Any]:
    names = catalogue.lists.get("sd-models") if catalogue else None
    checkpoints = names.shown if names else ()
    return {
        "name": lane.name,
        "kind": lane.kind,
        "ready": lane.ready,
        "hold": lane.hold,
        "tags": list(lane.tags),
        "places": lane.places,
        "loaded": lane.loaded,
        "checkpoints": list(checkpoints[:most]),
        "checkpoint_count": len(checkpoints),
    }
