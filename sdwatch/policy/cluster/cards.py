"""What a box shows of itself, and what people want of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

PROTOCOL = 1
"""Grows when a dispatcher of an older sdwatch could misunderstand a box: it gives it nothing
then."""

_OTHER_VERSION = "its sdwatch is of another version than the dispatcher's; update the older one"
_MOST_LANES = 64
_MOST_COPIES = 10_000
_LONGEST = 300
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class LaneShown:
    """A lane of a box. `ready`: a run would be served now; `places`: how many runs it takes beside
    those of the box's own inbox; `loaded`: the checkpoint that is or will be loaded, '' for the
    WebUI's own; `life`: which life of its process; `lists`: sha256 of what the box has stored of
    its lists, '' until they were read."""

    name: str
    kind: str = ""
    ready: bool = False
    hold: str = ""
    tags: tuple[str, ...] = ()
    places: int = 0
    loaded: str = ""
    life: int = 0
    lists: str = ""


@dataclass(frozen=True, slots=True)
class BoxShown:
    """A box. `held`: how many runs of the dispatcher it has, `copies`: their ids; `paused`: why it
    starts no call, '' if it does; `asked`: how often it has read its lists again because it was
    asked to."""

    lanes: tuple[LaneShown, ...] = ()
    held: int = 0
    paused: str = ""
    asked: int = 0
    copies: tuple[str, ...] = ()

    @property
    def places(self) -> int:
        """Return how many runs it takes."""
        return 0 if self.paused else sum(lane.places for lane in self.lanes)


@dataclass(frozen=True, slots=True)
class BoxOrder:
    """What people want of a box. `drain`: it gets no more runs; `hold`: it starts no call."""

    drain: bool = False
    hold: bool = False


def card_of(shown: BoxShown) -> dict[str, Any]:
    """Return a box as it is stored."""
    return {"protocol": PROTOCOL, **asdict(shown)}


def shown_in(card: Mapping[str, Any]) -> BoxShown:
    """Return what a box shows. It is foreign: what cannot be read counts as nothing."""
    lanes = card.get("lanes")
    lanes = lanes if isinstance(lanes, list) else []
    copies = card.get("copies")
    copies = copies if isinstance(copies, list) else []
    paused = _text(card.get("paused"))
    if card.get("protocol") != PROTOCOL:
        paused = _OTHER_VERSION
    return BoxShown(
        tuple(_lane(lane) for lane in lanes[:_MOST_LANES] if isinstance(lane, dict)),
        _count(card.get("held")),
        paused,
        _count(card.get("asked")),
        tuple(map(_text, copies[:_MOST_COPIES])),
    )


def _lane(given: Mapping[str, Any]) -> LaneShown:
    tags, lists = given.get("tags"), _text(given.get("lists"))
    return LaneShown(
        _text(given.get("name")),
        _text(given.get("kind")),
        given.get("ready") is True,
        _text(given.get("hold")),
        tuple(map(_text, tags[:_MOST_LANES])) if isinstance(tags, list) else (),
        min(_count(given.get("places")), _MOST_LANES),
        _text(given.get("loaded")),
        _count(given.get("life")),
        lists if _DIGEST.fullmatch(lists) else "",
    )


def order_of(given: Mapping[str, Any]) -> BoxOrder:
    """Return what people want of a box."""
    return BoxOrder(given.get("drain") is True, given.get("hold") is True)


def _text(value: object) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""


def _count(value: object) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return max(0, min(int(str(value)), 10**9)) if is_count else 0
