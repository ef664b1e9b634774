"""A box that wants harm: what it appends to a run's log changes nothing outside of that run, and
another box does the job."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from typing import Any

from sdwatch.cluster.board import Board
from sdwatch.cluster.broker import Broker
from sdwatch.policy.cluster.cards import BoxShown, LaneShown
from sdwatch.policy.cluster.entries import (
    Accepted,
    BoxEnd,
    Ended,
    Entry,
    Granted,
    LinesStored,
    StoredFile,
    TakenBack,
    to_bytes,
)
from sdwatch.policy.cluster.lists import lists_to_bytes
from sdwatch.policy.cluster.names import FILES, RUNS, Times, object_subject, run_subject
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.kinds.table import kind_named
from tests.cluster.machines import Cluster, cluster, shown
from tests.cluster.test_boxes_as_lanes import boxes, drop
from tests.cluster.test_cluster import check_once
from tests.support.helpers import wait_until
from tests.support.monitored import job

__all__ = ["cluster"]

OTHER = "20261128-235959.123-other-3f2a"
EVIL = b"prompt: somebody else's\n"
START = {"event": "call_started", "call": "1.1"}


def bomb() -> bytes:
    """A PNG of a few kilobytes that would be 1.6 GB in memory."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    side = 20_000
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class HostileBox:
    """Shows a lane, is handed runs, and appends what the test wants."""

    def __init__(self, broker: Broker) -> None:
        self._broker, self._board = broker, Board(broker)
        self.run, self.seq, self.epoch = "", 0, 0

    def show(self, places: int) -> None:
        lists = lists_to_bytes(Catalogue(kind_named("forge")))
        digest = hashlib.sha256(lists).hexdigest()
        lane = LaneShown("x", "forge", places > 0, places=places, lists=digest)
        self._board.show_lists("evil", "x", lists)
        self._board.show("evil", BoxShown((lane,)))

    def entries(self) -> list[Entry | None]:
        found = self._broker.entries_after(self.run, 0)
        self.seq = found[-1][0] if found else 0
        return [entry for _, entry in found]

    def accept(self) -> None:
        """Wait for a run in a new epoch, and accept it."""

        def granted() -> bool:
            self.show(places=2)
            for lease in self._broker.lease("evil", 1, 0.2):
                self.run = lease.run
            last = self.entries()[-1] if self.run else None
            return isinstance(last, Granted) and last.epoch > self.epoch

        wait_until(granted, 60)
        last = self.entries()[-1]
        assert isinstance(last, Granted)
        self.epoch = last.epoch
        self.append(Accepted(self.epoch))

    def append(self, entry: Entry) -> None:
        self.entries()
        self._broker.append(self.run, entry, self.seq)

    def append_raw(self, data: bytes) -> None:
        subject = run_subject(self.run)
        self._broker.ask(lambda js: js.publish(subject, data, stream=RUNS))

    def lines(
        self, *lines: dict[str, Any], images: tuple[StoredFile, ...] = (), count: int = 1
    ) -> None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.append(LinesStored(self.epoch, 0, count, digest, images, text))

    def store(self, name: str, data: bytes) -> StoredFile:
        return StoredFile(name, self._broker.objects.store(self.run, data), len(data))

    def end(self, lines: int, **more: Any) -> None:
        self.append(Ended(self.epoch, BoxEnd.DONE, lines, **more))

    def taken_back(self) -> None:
        def is_so() -> bool:
            self.show(places=2)
            return isinstance(self.entries()[-1], TakenBack | Granted)

        wait_until(is_so, 60)


def test_a_hostile_box_harms_nobody(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = cluster.machine("dispatcher", "dispatcher")
        broker = Broker(cluster.url, "box evil", Times(lease=4.0))
        broker.open()
        try:
            wait_until(lambda: broker.is_up, 60)
            evil = HostileBox(broker)
            drop(dispatcher, "castle", job("a castle"))
            lines_of_others(broker)
            for step in (paths, job_file, counts, depth, ends_without_a_picture):
                evil.accept()
                step(evil)
                evil.taken_back()
            assert (working(dispatcher, evil.run) / "job.yaml").read_text() == job("a castle")
            evil.accept()
            a_picture_that_explodes(evil)
            run = check_once(dispatcher, 1)
            assert not list(run.glob("thumbnails/*.jpg"))
            evil.show(places=0)
            assert not list(dispatcher.site.root.parent.glob("**/outside*"))
            cluster.machine("good", "box")
            drop(dispatcher, "tower", job("a tower"))
            wait_until(lambda: len(dispatcher.runs("done")) == 2, 60)
            assert boxes(dispatcher)
            assert not dispatcher.runs("failed")
        finally:
            broker.close()


def working(dispatcher: Any, run: str) -> Any:
    return next((dispatcher.site.spool / "working").glob(f"*/{run}"))


def lines_of_others(broker: Broker) -> None:
    """Results of runs that nobody has handed over, and what is no entry."""
    for data in (to_bytes(Ended(1, BoxEnd.DONE, 0)), b"x" * (4 << 20), b"[" * 100_000):
        for run in (OTHER, "outside"):
            subject = run_subject(run)
            broker.ask(lambda js, s=subject, d=data: js.publish(s, d, stream=RUNS))  # type: ignore[misc]
    subject = object_subject("outside", "0" * 64, 0)
    broker.ask(lambda js: js.publish(subject, b"x", stream=FILES))


def paths(evil: HostileBox) -> None:
    names = ("../outside.png", "/tmp/outside.png", "C:\\outside.png", "a/../../outside.png")
    for name in names:
        file = {"name": name, "sha256": "0" * 64, "size": 1}
        raw = {**json.loads(to_bytes(LinesStored(evil.epoch, 0, 1, "0" * 64))), "images": [file]}
        evil.entries()
        evil.append_raw(json.dumps(raw).encode())
    image = {"name": names[0], "sha256": "0" * 64, "size": 1, "width": 1, "height": 1}
    evil.lines({"event": "call_finished", "call": "1.1", "images": [image]})


def job_file(evil: HostileBox) -> None:
    names = ("job.yaml", "Job.YAML", "journal.jsonl", "run.json", "job/job.yaml", "used/x", ".x")
    evil.lines(START, images=tuple(evil.store(name, EVIL) for name in names))
    evil.end(1)


def counts(evil: HostileBox) -> None:
    evil.lines(START, count=1000)


def depth(evil: HostileBox) -> None:
    text = "[" * 60_000
    digest = hashlib.sha256(text.encode()).hexdigest()
    evil.append(LinesStored(evil.epoch, 0, 1, digest, (), text))


def ends_without_a_picture(evil: HostileBox) -> None:
    evil.lines(START)
    evil.end(1, webui={"name": {"a": 1}, "box": "a" * 9000})


def a_picture_that_explodes(evil: HostileBox) -> None:
    stored = evil.store("images/bomb.png", bomb())
    image = {"name": "bomb.png", "sha256": stored.sha256, "size": stored.size}
    image |= {"width": 64, "height": 64}
    finished = {"event": "call_finished", "call": "1.1", "images": [image]}
    evil.lines(START, finished, images=(stored,), count=2)
    evil.end(2)
