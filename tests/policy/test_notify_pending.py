"""When there is a message: histories of what happened, each with the messages that it gives."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TypeAlias

from sdwatch.policy.notify.message import Matter, Message
from sdwatch.policy.notify.pending import (
    HOUR,
    MINUTE,
    Paces,
    Pending,
    due_at,
    message_at,
    sent,
    take,
)
from sdwatch.policy.report.notice import Notice, Topic
from tests.support.tables import table

PACES = Paces()
Event: TypeAlias = tuple[float, Notice]
Said: TypeAlias = list[tuple[float, Message]]

FAILED = Notice("run-1: failed: castle.yaml (out of memory)", Topic.FAILED, "run-1", "failed/run-1")
DONE = Notice("run-2: done: tree.yaml", Topic.DONE, "run-2")
CANCELLED = Notice("run-3: cancelled: sea.yaml", Topic.CANCELLED, "run-3")
EMPTY = Notice("", Topic.QUEUE_EMPTY)
WORK = Notice("", Topic.WORK_LEFT)


def held(lane: str = "forge", why: str = "GPU not found") -> Notice:
    return Notice(f"{lane}: on hold: {why}", Topic.ON_HOLD, lane)


def back(lane: str = "forge") -> Notice:
    return Notice(f"{lane}: resumes", Topic.RESUMED, lane)


def messages(history: Iterable[Event], until: float, *, stop: bool = False) -> Said:
    """Return all messages of a history, each at the moment in which it is due; all arrive."""
    pending, said = Pending(), []
    events = sorted(history, key=lambda event: event[0])

    def send_until(limit: float) -> None:
        nonlocal pending
        while (due := due_at(pending, PACES)) is not None and due <= limit:
            message = message_at(pending, due, PACES)
            assert message is not None
            said.append((due, message))
            pending = sent(pending, message, due, PACES)

    for at, notice in events:
        send_until(at)
        pending = take(pending, notice, at)
    send_until(until)
    if stop and (last := message_at(pending, until, PACES, stopping=True)):
        said.append((until, last))
    return said


def about(said: Said) -> list[tuple[float, tuple[Matter, ...]]]:
    return [(at, message.about) for at, message in said]


HISTORIES: dict[str, tuple[list[Event], float, list[tuple[float, tuple[Matter, ...]]]]] = {
    "nothing happens": ([], HOUR, []),
    "a start with an empty inbox": ([(0, EMPTY)], HOUR, []),
    "jobs are done and more wait": ([(0, DONE), (9, DONE)], HOUR, []),
    "the first failure, soon": ([(100, FAILED)], HOUR, [(115, (Matter.FAILED,))]),
    "failures together, one message": (
        [(100, FAILED), (101, FAILED), (110, FAILED)],
        HOUR,
        [(115, (Matter.FAILED,))],
    ),
    "a second failure after the first gap": (
        [(100, FAILED), (120, FAILED)],
        HOUR,
        [(115, (Matter.FAILED,)), (115 + 10 * MINUTE, (Matter.FAILED,))],
    ),
    "a hold at once": ([(50, held())], HOUR, [(65, (Matter.ON_HOLD,))]),
    "a hold that ends within seconds": ([(50, held()), (60, back())], HOUR, []),
    "a hold that is reported again": (
        [(50, held()), (110, held()), (230, held()), (3000, held())],
        HOUR,
        [(65, (Matter.ON_HOLD,))],
    ),
    "a hold and back again": (
        [(50, held()), (1000, back())],
        HOUR,
        [(65, (Matter.ON_HOLD,)), (1015, (Matter.BACK,))],
    ),
    "back for seconds only": (
        [(50, held()), (1000, back()), (1005, held())],
        2 * HOUR,
        [(65, (Matter.ON_HOLD,))],
    ),
    "two lanes at the same time, one message": (
        [(50, held("a")), (50, held("b"))],
        HOUR,
        [(65, (Matter.ON_HOLD,))],
    ),
    "one lane fails while another flaps": (
        [(0, held("a")), (30, back("a")), (60, held("a")), (90, back("a")), (100, held("b"))],
        250,
        [(15, (Matter.ON_HOLD,)), (115, (Matter.ON_HOLD, Matter.BACK))],
    ),
    "the queue is empty, once": (
        [(0, WORK), (10, DONE), (20, DONE), (20, EMPTY)],
        9 * HOUR,
        [(80, (Matter.QUEUE_EMPTY,))],
    ),
    "empty for seconds only": ([(0, DONE), (1, EMPTY), (30, WORK)], HOUR, []),
    "empty after failures, one message": (
        [(0, WORK), (10, DONE), (100, FAILED), (100, EMPTY), (101, EMPTY)],
        HOUR,
        [(115, (Matter.FAILED,)), (160, (Matter.QUEUE_EMPTY,))],
    ),
    "only cancelled": ([(0, CANCELLED), (1, EMPTY)], HOUR, [(61, (Matter.QUEUE_EMPTY,))]),
}


@table("name", HISTORIES)
def test_a_history_gives_these_messages(name: str) -> None:
    history, until, expected = HISTORIES[name]
    assert about(messages(history, until)) == expected


def test_a_bad_night_is_a_few_messages_with_counts() -> None:
    night = [(float(at), FAILED) for at in range(0, 8 * 3600, 60)]
    said = messages([*night, (8 * HOUR, EMPTY)], 10 * HOUR)
    assert len(said) <= 6
    assert sum(message.failures for _, message in said) == len(night)
    (first, _), (last, end) = said[0], said[-1]
    assert first == 15
    assert end.emptied
    assert end.counts.failed == len(night)
    assert last == 8 * HOUR + 60
    assert all(len(message.named) <= 3 for _, message in said)


def test_the_intervals_of_failures_grow_and_start_again_after_a_calm_day() -> None:
    night = [(float(at), FAILED) for at in range(0, 8 * 3600, 60)]
    said = messages([*night, (24 * HOUR, FAILED), (24 * HOUR + 20, FAILED)], 48 * HOUR)
    times = [at for at, _ in said]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[:3] == [10 * MINUTE, HOUR, 3 * HOUR]
    assert times[-2:] == [24 * HOUR + 15, 24 * HOUR + 15 + 10 * MINUTE]


def test_a_lane_that_flaps_for_a_night_gives_few_messages_and_counts_the_times() -> None:
    flaps = [
        event for at in range(0, 8 * 3600, 120) for event in ((at, held()), (at + 60.0, back()))
    ]
    said = messages(flaps, 8 * HOUR)
    assert len(said) <= 8
    assert said[0][0] == 15
    assert max(hold.times for _, message in said for hold in message.holds) > 5


def test_a_queue_that_empties_all_the_time_gives_few_messages_and_counts_each_job_once() -> None:
    events = [
        event
        for at in range(0, 8 * 3600, 180)
        for event in ((at, WORK), (at + 60.0, DONE), (at + 60.0, EMPTY))
    ]
    said = messages(events, 9 * HOUR)
    assert len(said) <= 12
    assert sum(message.counts.done for _, message in said) == 8 * 20


def test_back_again_says_for_how_long_it_was_on_hold() -> None:
    (_, message) = messages([(50, held()), (400, back()), (410, held()), (1000, back())], HOUR)[-1]
    assert [(lane.name, lane.lasted) for lane in message.back] == [("forge", 950)]


def test_a_hold_is_reported_with_its_last_reason() -> None:
    history = [(50.0, held(why="no GPU")), (55.0, held(why="no model"))]
    ((_, message),) = messages(history, HOUR)
    assert message.holds[0].text == "forge: on hold: no model"


@table(
    ("history", "expected"),
    [
        ([], ()),
        ([(0, FAILED)], (Matter.FAILED,)),
        ([(0, held())], (Matter.ON_HOLD,)),
        ([(0, DONE), (0, EMPTY)], (Matter.QUEUE_EMPTY,)),
        ([(0, DONE)], ()),
        ([(0, held()), (1, back())], ()),
    ],
)
def test_a_stop_sends_what_is_pending_at_once(
    history: list[Event], expected: tuple[Matter, ...]
) -> None:
    said = messages(history, 2.0, stop=True)
    assert [message.about for _, message in said] == ([expected] if expected else [])


def test_a_message_that_does_not_arrive_is_made_again_with_what_came_since() -> None:
    pending = take(Pending(), FAILED, 0)
    assert message_at(pending, 15, PACES) is not None  # and is lost
    pending = take(take(pending, FAILED, 20), held(), 21)
    message = message_at(pending, 50, PACES)
    assert message is not None
    assert message.failures == 2
    assert message.about == (Matter.FAILED, Matter.ON_HOLD)


def test_what_happens_while_a_message_is_under_way_is_in_the_next() -> None:
    pending = take(Pending(), FAILED, 0)
    message = message_at(pending, 15, PACES)
    assert message is not None
    pending = take(sent(pending, message, 20, PACES), FAILED, 20)
    assert pending.failures == 1
    assert pending.counts.failed == 2


def test_text_for_people_decides_nothing() -> None:
    for name, (history, until, expected) in HISTORIES.items():
        noise = [
            (at, Notice("x" * 50, notice.topic, notice.subject, "?")) for at, notice in history
        ]
        assert about(messages(noise, until)) == expected, name
