"""What boxes show at a real broker, and what of it is read again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from nats.js.client import JetStreamContext

from sdwatch.cluster.board import Board
from sdwatch.cluster.boxes import Boxes
from sdwatch.cluster.broker import Broker
from sdwatch.policy.cluster import names
from sdwatch.policy.cluster.cards import BoxOrder, BoxShown, LaneShown
from sdwatch.policy.cluster.names import Times
from tests.cluster.machines import Cluster, cluster
from tests.support.helpers import FakeClock, wait_until

__all__ = ["cluster"]

READ = f"$JS.API.STREAM.MSG.GET.KV_{names.BOXES}"
LANE = LaneShown("gpu", "forge", ready=True, places=2)


@pytest.fixture
def reads() -> list[str]:
    """One entry for each value that somebody has read of what boxes show."""
    return []


@pytest.fixture
def board(cluster: Cluster, reads: list[str]) -> Iterator[Board]:
    brokers = [Broker(cluster.url, name, Times()) for name in ("test", "listens")]
    brokers[1].listen(READ)
    brokers[1]._changed = lambda subject: reads.append(subject) if subject else None
    for broker in brokers:
        broker.open()
    try:
        wait_until(lambda: all(broker.is_up for broker in brokers), 60)
        yield Board(brokers[0])
    finally:
        for broker in brokers:
            broker.close()


def test_of_many_boxes_only_those_are_read_that_have_shown_themselves(
    board: Board, reads: list[str]
) -> None:
    for number in range(50):
        board.show(f"box-{number}", BoxShown(held=number))
    assert {name: shown.held for name, (_, shown) in board.boxes().items()} == {
        f"box-{number}": number for number in range(50)
    }
    wait_until(lambda: len(reads) >= 50, 30)
    first = board.boxes()["box-7"][0]
    board.show("box-7", BoxShown(held=70))
    again = board.boxes()
    assert again["box-7"][0] > first
    assert again["box-7"][1].held == 70
    assert len(again) == 50
    board.show("box-8", BoxShown())
    wait_until(lambda: board.boxes() and len(reads) >= 52, 30)
    assert len(reads) == 52, "one for each time that a box has shown itself"


def test_a_box_that_shows_itself_again_while_all_are_read_is_there(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        board.show(name, BoxShown())
    real, shown = JetStreamContext.get_msg, list[str]()

    async def get_msg(js: JetStreamContext, *args: Any, **more: Any) -> Any:
        message = await real(js, *args, **more)
        if not shown:  # a has been read
            shown.append("b")
            subject = names.key_subject(names.BOXES, "b")
            await js.publish(subject, b"{}", stream=f"KV_{names.BOXES}")
        return message

    monkeypatch.setattr(JetStreamContext, "get_msg", get_msg)
    assert board.boxes().keys() == {"a", "b", "c"}


def test_a_box_that_is_removed_is_gone(board: Board) -> None:
    for name in ("a", "b"):
        board.show(name, BoxShown())
    assert board.boxes().keys() == {"a", "b"}
    subject = names.key_subject(names.BOXES, "a")
    board._broker.ask(lambda js: js.purge_stream(f"KV_{names.BOXES}", subject=subject))
    assert board.boxes().keys() == {"b"}


def test_a_heartbeat_that_says_nothing_new_changes_no_placement(board: Board) -> None:
    boxes = Boxes(FakeClock().monotonic, Times())
    board.show("a", BoxShown((LANE,)))
    assert boxes.look(board)
    board.show("a", BoxShown((LANE,), held=1, copies=("r",)))
    assert not boxes.look(board)
    board.order("a", BoxOrder(drain=True))
    assert boxes.look(board)
