"""What people hear of boxes, the broker, and jobs that no machine can take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sdwatch.cluster.box_notices import WAITS_FOR_TAGS, BoxNotices, ContactLines
from sdwatch.cluster.boxes import Boxes, SeenBox
from sdwatch.cluster.broker import NOT_REACHED
from sdwatch.policy.cluster.cards import BoxOrder, BoxShown
from sdwatch.policy.cluster.names import Times
from sdwatch.policy.report.notice import Notice, Topic
from tests.support.helpers import FakeClock


def test_each_change_is_said_once() -> None:
    clock, said = FakeClock(), list[Notice]()
    boxes = Boxes(clock.monotonic, Times(silent=30))
    boxes.seen = {
        name: SeenBox(1, BoxShown(), clock.monotonic() + late, BoxOrder())
        for name, late in (("a", 0.0), ("old", -100.0))
    }
    notices = BoxNotices(said.append, clock)

    def hear(down: str = "", **waiting: tuple[str, ...]) -> list[tuple[Topic, str]]:
        said.clear()
        notices.report(boxes, down, waiting)
        return [(notice.topic, notice.subject) for notice in said]

    assert hear(NOT_REACHED) == [], "it was not asked yet"
    assert hear() == [], "a box that was off at the start is no news"
    clock.now += 31
    assert hear() == [(Topic.ON_HOLD, "box a")]
    assert hear() == []
    boxes.seen["a"].at = clock.monotonic()
    assert hear() == [(Topic.RESUMED, "box a")]
    assert hear("refused") == [(Topic.ON_HOLD, "broker")]
    clock.now += 40
    assert hear("refused") == [], "while the broker is gone no box can be seen"
    boxes.seen["a"].at = clock.monotonic()
    assert hear() == [(Topic.RESUMED, "broker")]
    assert hear(huge=("48gb",)) == []
    clock.now += WAITS_FOR_TAGS
    boxes.seen["a"].at = clock.monotonic()
    assert hear(huge=("48gb",)) == [(Topic.ON_HOLD, "jobs")]
    assert said[0].text.endswith("huge: no machine has the tags 48gb")
    assert hear() == [(Topic.RESUMED, "jobs")]


def test_a_reason_that_comes_later_is_said_too_and_each_once() -> None:
    broker: Any = SimpleNamespace(is_up=False, down_by=None, place="10.0.0.1:4222")
    said = list[str]()
    lines = ContactLines(broker, said.append)

    def hear(*, up: bool = False, why: str = "") -> list[str]:
        said.clear()
        broker.is_up, broker.why_down, broker.down_by = up, why, why or broker.down_by
        lines.look()
        return [line.removeprefix("the broker at 10.0.0.1:4222 ") for line in said]

    assert hear() == []
    assert hear(why="reset") == ["does not answer: reset; sdwatch keeps trying"]
    assert hear(why="wrong token") == ["does not answer: wrong token; sdwatch keeps trying"]
    assert hear(why="reset") == []
    assert hear(up=True) == ["answers"]
    assert hear(up=True) == []
    assert hear(why="reset") == ["does not answer: reset; sdwatch keeps trying"]
