"""Boxes that only pretend, for benchmarks/cluster_scale.py: no WebUI, no spool, many in a process.

`python pretend_boxes.py X.json` reads its settings from this file, and writes what it measured to
X.out when it is asked to stop. Each box has a connection of its own. What it reads, appends and
acknowledges is decided by the product's functions; what it says at the broker is what a real box
says. Only its copy of a run is a few variables, and its picture is always the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import struct
import sys
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import api
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from sdwatch.cluster.box import LOOKS_FOR, PAUSE
from sdwatch.cluster.broker import make_streams
from sdwatch.lane.lane import ACTIVE_RUNS
from sdwatch.policy.cluster import holding, names
from sdwatch.policy.cluster.cards import BoxShown, LaneShown, card_of
from sdwatch.policy.cluster.entries import (
    Accepted,
    BoxEnd,
    Ended,
    Entry,
    LinesStored,
    StoredFile,
    entry_of,
    files_of,
    to_bytes,
)
from sdwatch.policy.cluster.holding import LocalRun, box_step
from sdwatch.policy.cluster.lines import text_of
from sdwatch.policy.cluster.lists import lists_to_bytes
from sdwatch.policy.cluster.names import Times
from sdwatch.policy.cluster.run_log import RunLog, with_entry
from sdwatch.policy.job.calls.catalogue import Catalogue, Names
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.kinds.table import kind_named

_CHECKPOINTS = tuple(f"checkpoint-{number:02}.safetensors" for number in range(20))


@dataclass
class Pace:
    """What all boxes have in common. `call`: seconds of a call; measured seconds: `handed`, from a
    job's claim to its message at the box; `next`, from a run's end to the next message."""

    url: str
    call: float
    times: Times
    picture: bytes
    lists: bytes
    handed: list[float] = field(default_factory=list)
    next: list[float] = field(default_factory=list)


@dataclass
class HeldRun:
    """A run that a box has. `lines`: of the journal that it pretends to have."""

    run: str
    message: Msg | None
    run_log: RunLog = field(default_factory=RunLog)
    local: LocalRun | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)
    is_at_work: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class PretendBox:
    """One box with one lane."""

    def __init__(self, name: str, pace: Pace) -> None:
        self.name = name
        self._pace = pace
        self._nc = Client()
        self._js: JetStreamContext
        self._pull: JetStreamContext.PullSubscription
        self._held: dict[str, HeldRun] = {}
        self._webui = asyncio.Lock()
        self._works: set[asyncio.Task[None]] = set()
        self._shown_at = self._renewed_at = self._heard_at = self._looked_at = -1e9
        self._free_since = 0.0

    async def live(self) -> None:
        """Live until cancelled."""
        await self._nc.connect(self._pace.url, max_reconnect_attempts=-1, connect_timeout=30)
        for subject in (names.look_subject(self.name), names.work_subject(self.name, "*")):
            await self._nc.subscribe(subject, cb=self._hear)
        self._js = self._nc.jetstream(timeout=60)
        while True:
            with suppress(NatsError, TimeoutError):
                await make_streams(self._js)
                await self._put(names.LISTS, names.lists_key(self.name, "gpu"), self._pace.lists)
                await self._open_pull()
                break
            await asyncio.sleep(1.0)
        await asyncio.sleep(hash(self.name) % 1000 / 1000)  # they did not start at one moment
        while True:
            with suppress(NatsError, TimeoutError):
                await self._round()
            await asyncio.sleep(PAUSE)

    async def _hear(self, _: Msg) -> None:
        self._heard_at = time.monotonic()

    async def _open_pull(self) -> None:
        config = api.ConsumerConfig(
            ack_wait=self._pace.times.lease, max_deliver=-1, max_ack_pending=1000
        )
        self._pull = await self._js.pull_subscribe(
            names.work_subject(self.name, "*"),
            durable=names.consumer_of(self.name),
            stream=names.WORK,
            config=config,
        )

    async def _round(self) -> None:
        now = time.monotonic()
        if now - self._shown_at >= self._pace.times.beat:
            lists = hashlib.sha256(self._pace.lists).hexdigest()
            lane = LaneShown("gpu", "forge", True, "", (), ACTIVE_RUNS, "", 1, lists)
            shown = BoxShown((lane,), len(self._held), "", 0, tuple(sorted(self._held)))
            await self._put(names.BOXES, self.name, json.dumps(card_of(shown)).encode())
            self._shown_at = now
        if now - self._renewed_at >= self._pace.times.renew:
            for held in self._held.values():
                if held.message is not None:
                    await held.message.in_progress()
            self._renewed_at = now
        looks = now - self._heard_at < LOOKS_FOR or now - self._looked_at >= self._pace.times.beat
        if looks:
            await self._receive()
            self._looked_at = now
        for held in list(self._held.values()):
            await self._continue(held, read_first=looks or not held.run_log.seq)

    async def _receive(self) -> None:
        without = sum(h.run_log.is_held and h.message is None for h in self._held.values())
        free = ACTIVE_RUNS - len(self._held)
        if free + without <= 0:
            return
        messages: list[Msg] = []
        with suppress(TimeoutError):
            messages = await self._pull.fetch(max(1, free + without), timeout=PAUSE)
        for message in messages:
            run = json.loads(message.data)["run"]
            self._note(run)
            self._held.setdefault(run, HeldRun(run, message)).message = message

    def _note(self, run: str) -> None:
        claimed = datetime.strptime(run[:19], "%Y%m%d-%H%M%S.%f").replace(tzinfo=UTC)
        self._pace.handed.append(time.time() - claimed.timestamp())
        if self._free_since:
            self._pace.next.append(time.monotonic() - self._free_since)
            self._free_since = 0.0

    # -- a run

    async def _continue(self, held: HeldRun, *, read_first: bool = False) -> None:
        async with held.lock:
            for _ in range(20):
                if read_first:
                    await self._read_log(held)
                read_first = False  # what was appended is read
                action = box_step(self.name, held.run_log, held.local)
                try:
                    if not await self._perform(held, action):
                        return
                except APIError as error:
                    if isinstance(error, NotFoundError):
                        return
                    read_first = True  # somebody else appended

    async def _read_log(self, held: HeldRun) -> None:
        while True:
            try:
                message = await self._js.get_msg(
                    names.RUNS,
                    seq=held.run_log.seq + 1,
                    subject=names.run_subject(held.run),
                    next=True,
                )
            except NotFoundError:
                return
            held.run_log, _ = with_entry(
                held.run_log, int(message.seq or 0), entry_of(message.data or b"")
            )

    async def _perform(self, held: HeldRun, action: holding.BoxAction) -> bool:
        if isinstance(action, holding.Fetch):
            for file in files_of(await self._object(held.run, action.manifest)):
                await self._object(held.run, file.sha256)
            held.local = LocalRun(action.epoch)
        elif isinstance(action, Accepted):
            await self._append(held, action)
        elif isinstance(action, holding.Store):
            await self._store(held, action)
        elif isinstance(action, holding.StoreEnd):
            said = {"name": "gpu", "kind": "forge", "box": self.name}
            await self._append(held, Ended(action.epoch, action.outcome, action.lines, (), said))
            self._free_since = time.monotonic()
        elif isinstance(action, holding.Acknowledge):
            if held.message is not None:
                await held.message.ack()
                held.message = None
            return False
        elif isinstance(action, holding.Withdraw) or held.local is None:
            self._held.pop(held.run, None)
            return False
        else:
            if held.run_log.is_held and not held.is_at_work:
                held.is_at_work = True
                work = asyncio.create_task(self._work(held))
                self._works.add(work)
                work.add_done_callback(self._works.discard)
            return False
        return True

    async def _work(self, held: HeldRun) -> None:
        """Pretend to make the call: its start is at the broker before it is sent."""
        async with self._webui:
            line = {"event": "call_started", "call": "1.1", "attempt": 1, "incarnation": 1}
            self._write(held, {**line, "lane": "gpu", "log_offset": [4016, 199]})
            with suppress(NatsError, TimeoutError):
                await self._continue(held)
            await asyncio.sleep(self._pace.call * random.uniform(0.5, 1.5))
            self._write(held, self._finished(held.run))
        if held.local is not None:
            held.local = replace(held.local, ended=BoxEnd.DONE)

    def _write(self, held: HeldRun, line: dict[str, Any]) -> None:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        held.lines.append({"at": at, **line})
        if held.local is not None:
            held.local = replace(held.local, lines=len(held.lines))

    def _finished(self, run: str) -> dict[str, Any]:
        data = self._pace.picture
        digest = hashlib.sha256(data).hexdigest()
        image = {"name": f"{run}_1-txt2img_001-01.png", "sha256": digest, "size": len(data)}
        return {
            "event": "call_finished",
            "call": "1.1",
            "stage": "txt2img",
            "images": [{**image, "width": 64, "height": 64, "grid": False}],
            "seconds": self._pace.call,
            "model": "checkpoint-00",
            "model_hash": "00053c7f65",
            "webui_version": "f2.0.1v1.10.1-previous-669-gdfdcbab6",
            "used": {"sampler": "Euler", "steps": 20, "cfg_scale": 7.0, "seeds": [1]},
        }

    async def _store(self, held: HeldRun, action: holding.Store) -> None:
        lines, files = held.lines[action.first :], []
        for line in lines:
            for image in line.get("images", ()):
                data = self._pace.picture
                await self._put_object(held.run, image["sha256"], data)
                files.append(StoredFile(f"images/{image['name']}", image["sha256"], len(data)))
        text = text_of(lines)
        digest, inline = hashlib.sha256(text).hexdigest(), text.decode("ascii")
        entry = LinesStored(action.epoch, action.first, len(lines), digest, tuple(files), inline)
        await self._append(held, entry)

    # -- at the broker, as cluster/broker, cluster/board and cluster/objects do it

    async def _append(self, held: HeldRun, entry: Entry) -> None:
        headers = {"Nats-Expected-Last-Subject-Sequence": str(held.run_log.seq)}
        subject = names.run_subject(held.run)
        stored = await self._js.publish(
            subject, to_bytes(entry), stream=names.RUNS, headers=headers
        )
        held.run_log, _ = with_entry(held.run_log, stored.seq, entry)

    async def _object(self, run: str, sha256: str) -> bytes:
        subject = names.object_subject(run, sha256, 0)
        return (await self._js.get_msg(names.FILES, subject=subject, direct=True)).data or b""

    async def _put_object(self, run: str, sha256: str, data: bytes) -> None:
        subject = names.object_subject(run, sha256, 0)
        await self._js.publish(subject, data, stream=names.FILES, headers={"Sdwatch-Parts": "1"})

    async def _put(self, bucket: str, key: str, data: bytes) -> None:
        await self._js.publish(names.key_subject(bucket, key), data, stream=f"KV_{bucket}")


def noise_png(side: int) -> bytes:
    """Return a picture that cannot be compressed: 3 bytes a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + os.urandom(3 * side) for _ in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def some_lists() -> bytes:
    """Return the lists that each box has."""
    routes = {"sd-models": _CHECKPOINTS, "samplers": ("Euler", "Euler a", "DPM++ 2M")}
    lists = {route: Names(shown, frozenset(shown), folds=False) for route, shown in routes.items()}
    return lists_to_bytes(Catalogue(kind_named("forge"), lists=lists, stages=dict.fromkeys(STAGES)))


async def main(file: Path) -> None:
    given = json.loads(file.read_text())
    times = Times(**given["times"])
    pace = Pace(given["url"], given["call"], times, noise_png(given["side"]), some_lists())
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    first, last = given["boxes"]
    boxes = []
    for number in range(first, last):
        boxes.append(asyncio.create_task(PretendBox(f"box-{number:04}", pace).live()))
        await asyncio.sleep(0.01)
    await stop.wait()
    out = {"handed": pace.handed, "next": pace.next, "cpu": time.process_time()}
    file.with_suffix(".out").write_text(json.dumps(out))
    for box in boxes:
        box.cancel()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
