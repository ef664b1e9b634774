"""Boxes with odd names, two of the same name, of another version, and behind a slow network."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sdwatch.cluster.board import Board
from sdwatch.cluster.broker import Broker
from sdwatch.policy.cluster.names import BOXES, Times
from tests.cluster.machines import Cluster, Machine, cluster, shown
from tests.cluster.test_boxes_as_lanes import boxes, drop, takes_jobs
from tests.cluster.test_cluster import FIVE, check_once, events_in
from tests.support.helpers import wait_until
from tests.support.monitored import job

__all__ = ["cluster"]

PER_SECOND = 6_000_000
"""Bytes that a slow network carries."""


class SlowNetwork:
    """Listens, and passes on to `port` so many bytes a second each way."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._over = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                other = socket.create_connection(("127.0.0.1", self._to))
                for a, b in ((one, other), (other, one)):
                    threading.Thread(target=self._carry, args=(a, b), daemon=True).start()

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError), one, other:
            while (data := one.recv(65536)) and not self._over.wait(len(data) / PER_SECOND):
                other.sendall(data)

    def close(self) -> None:
        self._over.set()
        self._listener.close()


@contextmanager
def slow_network(cluster: Cluster) -> Iterator[str]:
    """Yield the URL of the broker behind a slow network."""
    network = SlowNetwork(cluster.settings.port)
    try:
        yield cluster.url.replace(str(cluster.settings.port), str(network.port))
    finally:
        network.close()


def test_files_that_take_longer_than_a_lease_arrive(cluster: Cluster) -> None:
    with shown(cluster), slow_network(cluster) as url:
        dispatcher = cluster.machine("dispatcher", "dispatcher")
        box = Machine(cluster.root / "a", "box", url)
        cluster.machines.append(box)
        box.start()
        wait_until(lambda: takes_jobs(dispatcher, box), 60)
        folder = dispatcher.site.spool / "large"
        folder.mkdir()
        (folder / "notes.bin").write_bytes(os.urandom(6 * PER_SECOND))
        (folder / "job.yaml").write_text(job("a castle"))
        folder.rename(dispatcher.site.inbox / "large")
        run = check_once(dispatcher, 1)
        assert "taken_back" not in events_in(run)


def test_a_box_whose_name_starts_with_a_dash_gets_jobs(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = cluster.machine("dispatcher", "dispatcher")
        box = Machine(cluster.root / "a", "box", cluster.url)
        cluster.machines.append(box)
        box.site.state.mkdir()
        (box.site.state / "worker").write_text("---3fa41c")  # of a host with a name in Chinese
        box.start()
        wait_until(lambda: boxes(dispatcher).get("3fa41c", {}).get("places"), 60)
        drop(dispatcher, "castle", job("a castle"))
        run = check_once(dispatcher, 1)
        assert json.loads((run / "run.json").read_text())["webui"]["box"] == "3fa41c"


def test_two_boxes_of_one_name_lose_and_repeat_nothing(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = cluster.machine("dispatcher", "dispatcher")
        for name in ("a", "copy"):
            box = Machine(cluster.root / name, "box", cluster.url, flags=("--step-time", "0.1"))
            cluster.machines.append(box)
            box.site.state.mkdir()
            (box.site.state / "worker").write_text("cloned-3fa41c")
            box.start()
        for number in range(4):
            drop(dispatcher, f"castle{number}", FIVE.replace("a castle", f"castle {number}"))
        wait_until(lambda: len(dispatcher.runs("done")) == 4, 120)
        assert not dispatcher.runs("failed")
        assert len(dispatcher.images("done")) == 20
        posts = sum(box.site.stats()["posts"] for box in cluster.machines[1:])
        assert posts == 20


def test_what_others_put_on_the_board_gets_no_job(cluster: Cluster) -> None:
    broker = Broker(cluster.url, "test", Times())
    broker.open()
    try:
        wait_until(lambda: broker.is_up, 60)
        for key in ("-a", "a=b", "a.b"):

            async def put(js: object, key: str = key) -> None:
                bucket = await js.key_value(BOXES)  # type: ignore[attr-defined]
                await bucket.put(key, b'{"lanes": [{"name": "x", "places": 5}]}')

            broker.ask(put)
        assert "a=b" not in Board(broker).boxes()
        assert "-a" not in Board(broker).boxes()
    finally:
        broker.close()


def test_a_box_that_lost_the_folder_of_its_run_gets_it_again(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = cluster.machine("dispatcher", "dispatcher")
        box = cluster.machine("a", "box", flags=("--step-time", "0.3"))
        (dispatcher.site.inbox / "castle.yaml").write_text(FIVE)
        working = dispatcher.site.spool / "working"
        wait_until(lambda: list(working.glob("*/*/images/*.png")), 60)
        box.kill()
        for path in list((box.site.spool / "working").glob("*/2*")):
            path.rename(cluster.root / Path(path).name)
        box.start()
        check_once(dispatcher)
        assert not dispatcher.runs("failed")


def test_two_dispatchers_on_one_spool_publish_each_job_once(cluster: Cluster) -> None:
    with shown(cluster):
        one = cluster.machine("one", "dispatcher")
        two = cluster.machine("two", "dispatcher", settings={"spool": str(one.site.spool)})
        for name in ("a", "b"):
            cluster.machine(name, "box", flags=("--step-time", "0.1"))
        wait_until(lambda: takes_jobs(one, *cluster.machines[2:]), 60)
        for number in range(6):
            drop(one, f"castle{number}", FIVE.replace("a castle", f"castle {number}"))
        wait_until(lambda: len(one.images("done")) >= 5, 120)
        two.stop()  # if it is not the one that was refused
        two.start()
        wait_until(lambda: len(one.runs("done")) == 6, 180)
        assert not one.runs("failed")
        assert len(one.images("done")) == 30
        posts = sum(box.site.stats()["posts"] for box in cluster.machines[2:])
        assert posts == 30
