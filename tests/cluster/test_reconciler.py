"""What is stuck or left over at a real broker is found, and healed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from nats.js.api import StorageType, StreamConfig
from nats.js.client import JetStreamContext

from sdwatch.cluster.board import Board
from sdwatch.cluster.broker import Broker, BrokerGoneError
from sdwatch.cluster.objects import MissingObjectError
from sdwatch.cluster.reconciler import Reconciler
from sdwatch.policy.cluster.entries import Accepted, Closed, Granted
from sdwatch.policy.cluster.names import WORK, Times, text_of, token_of
from sdwatch.policy.cluster.run_log import RunLog
from sdwatch.spool.folders import Spool
from tests.cluster.machines import Cluster, cluster
from tests.support.helpers import wait_until

__all__ = ["cluster"]

RUN = "20261128-235959.123-ärger-3f2a"
DIGEST = "0" * 64


@dataclass
class Site:
    broker: Broker
    spool: Spool
    closing: Path

    def reconciler(self) -> Reconciler:
        return Reconciler(self.broker, self.spool, self.closing, stuck_after=60.0)

    def granted(self, *more: Accepted) -> RunLog:
        self.broker.append(RUN, Granted(1, "a", DIGEST), 0)
        for entry in more:
            self.broker.append(RUN, entry, self.reconciler().log_of(RUN).seq)
        return self.reconciler().log_of(RUN)

    def leased(self) -> list[str]:
        return [lease.run for lease in self.broker.lease("a", 5, 0.2)]


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path) -> Iterator[Site]:
    broker = Broker(cluster.url, "test", Times(lease=3600.0))
    broker.open()
    spool = Spool(tmp_path / "spool", "worker")
    spool.prepare()
    (tmp_path / "closing").mkdir()
    try:
        wait_until(lambda: broker.is_up, 60)
        yield Site(broker, spool, tmp_path / "closing")
    finally:
        broker.close()


def test_a_message_that_its_box_is_not_given_is_sent_again(site: Site) -> None:
    log = site.granted()
    site.broker.offer("a", RUN, 1)
    assert site.leased() == [RUN], "somebody has it, and nobody gets it now"
    look = site.reconciler()
    for now, takers in ((0, {"a"}), (59, {"a"}), (100, set()), (101, {"a"}), (160, {"a"})):
        look.look(now, {RUN: log}, takers)
        assert site.leased() == [], "it waited for less than a minute while the box had a place"
    look.look(161.5, {RUN: log}, {"a"})
    assert site.leased() == [RUN]


def test_of_more_subjects_than_the_broker_names_at_once_all_are_found(site: Site) -> None:
    async def fill(js: JetStreamContext) -> None:
        await js.add_stream(
            StreamConfig(name="MANY", subjects=["many.>"], storage=StorageType.MEMORY)
        )
        for number in range(100_001):
            await js.publish_async(f"many.{number}", b"")
        await js.publish_async_completed()

    site.broker.ask(fill, 120.0)
    assert len(site.broker.subjects("MANY", "many.>")) == 100_001


def test_nothing_stays_at_the_broker_of_a_box_that_nobody_knows_any_more(site: Site) -> None:
    board = Board(site.broker)
    for box in ("a", "b"):
        board.show_lists(box, "my gpu", b"lists")
        site.broker.lease(box, 1, 0.1)
    look = site.reconciler()
    for now in (0, 599):
        look.look(now, {}, (), (), {"a"})
        assert board.lists("b", "my gpu"), "it may be about to show itself"
    look.look(600, {}, (), (), {"a"})
    assert board.lists("a", "my gpu")
    assert not board.lists("b", "my gpu")
    consumers = site.broker.ask(lambda js: js.consumers_info(WORK))
    assert [info.name for info in consumers] == ["box-a"]
    with suppress(BrokerGoneError):
        site.broker.lease("b", 1, 0.1)
    assert site.broker.lease("b", 1, 0.1) == [], "if it comes back, it has a new consumer"


def test_a_message_that_is_lost_is_sent_again_and_one_for_nothing_removed(site: Site) -> None:
    log = site.granted(Accepted(1))
    site.reconciler().look(0, {RUN: log}, {"a"})
    assert site.broker.is_offered("a", RUN)
    site.broker.offer("b", RUN, 1)
    site.reconciler().look(0, {RUN: log}, {"a"})
    assert site.broker.is_offered("a", RUN)
    assert not site.broker.is_offered("b", RUN)


def test_what_the_broker_has_of_a_published_run_is_to_be_removed(site: Site) -> None:
    digest = site.broker.objects.store(RUN, b"orphan")
    site.reconciler().look(0, {}, set())
    assert not list(site.closing.iterdir()), "it may be another spool's"
    assert site.broker.objects.read(RUN, digest) == b"orphan"
    (site.spool.done / RUN).mkdir()
    site.reconciler().look(0, {}, set())
    assert [marker.name for marker in site.closing.iterdir()] == [RUN]
    site.broker.objects.remove(RUN)
    (site.closing / RUN).unlink()
    site.broker.append(RUN, Closed(1), 0)
    site.reconciler().look(0, {}, set())
    assert not list(site.closing.iterdir()), "it is closed, and nothing is left"
    site.reconciler().look(0, {}, set(), {RUN})
    assert list(site.closing.iterdir()), "a box has a copy: it must read once more that it is over"
    with pytest.raises(MissingObjectError):
        site.broker.objects.read(RUN, digest)


def test_a_token_is_read_back() -> None:
    for text in (RUN, "a.b c>*=%", "x=2Ey"):
        assert text_of(token_of(text)) == text
