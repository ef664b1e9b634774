"""The part of the page about other machines that do jobs from here. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sdwatch.policy.kinds.table import title_of
from sdwatch.policy.page.headline import Headline, Tone
from sdwatch.policy.page.layout import section, state_of, unfolded
from sdwatch.policy.page.markup import Markup, element, join, prose
from sdwatch.policy.page.overview import BoxCard, BoxLaneCard, Overview
from sdwatch.policy.page.times import duration
from sdwatch.policy.privacy.printable import counted

_FIRST = 8
"""So many are shown at once; the others unfold."""


def boxes(overview: Overview) -> Markup:
    """Return the boxes, those with something wrong first, each with its WebUIs."""
    ranked = sorted(overview.boxes, key=lambda box: (_state(box).tone is not Tone.BAD, box.name))
    down = ""
    if overview.broker_down:
        reason = f"The broker does not answer: {overview.broker_down}. What is there is kept."
        down = element("p", prose(reason), class_="notice bad")
    answering = sum(box.answers for box in overview.boxes)
    note = f"{answering} of {len(overview.boxes)} answer" if overview.boxes else ""
    cards = unfolded("ul", [_box(box) for box in ranked], _FIRST, Markup()) if ranked else ""
    return section("Boxes", join(down, cards), id_="boxes", note=note)


def _state(box: BoxCard) -> Headline:
    if not box.answers:
        return Headline(Tone.BAD, "does not answer")
    if box.held or box.drained or box.paused:
        return Headline(Tone.WAITS, box.state)
    if box.runs:
        return Headline(Tone.BUSY, "generating")
    if box.lanes and all(lane.hold for lane in box.lanes):
        return Headline(Tone.BAD, "on hold")
    return Headline(Tone.GOOD, "ready") if box.serves else Headline(Tone.OFF, "not ready")


def _box(box: BoxCard) -> Markup:
    state = _state(box)
    return element(
        "li",
        element("div", element("strong", box.name), state_of(state), class_="row"),
        element("p", prose(box.paused), class_="reason") if box.paused else "",
        element("p", " · ".join(_facts(box)), class_="quiet"),
        [_lane(lane, answers=box.answers) for lane in box.lanes],
        class_=f"card {state.tone}",
    )


def _facts(box: BoxCard) -> Iterator[str]:
    if not box.answers:
        yield f"has not shown itself for {duration(box.seconds_ago)}"
    if box.runs or box.places:
        yield f"{box.runs} of {counted(box.places, 'place')} taken"
    else:
        yield "takes no jobs now"


def _lane(lane: BoxLaneCard, *, answers: bool) -> Markup:
    state = "on hold" if lane.hold else "ready" if lane.ready else "not ready"
    words = [*([state] if answers else []), title_of(lane.kind), *(f"#{tag}" for tag in lane.tags)]
    if lane.loaded:
        words.append(f"{lane.loaded} is loaded")
    if lane.checkpoint_count:
        words.append(counted(lane.checkpoint_count, "checkpoint"))
    named = ", ".join(lane.checkpoints)
    return join(
        element("p", f"{lane.name}: ", " · ".join(words), class_="quiet", title=named or None),
        element("p", prose(lane.hold), class_="reason") if lane.hold else "",
    )
