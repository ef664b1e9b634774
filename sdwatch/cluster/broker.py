"""The broker, for threads: the few requests that the protocol needs, each with a limit of time.

nats-py is asyncio; its loop has a thread of its own here. It reconnects forever: without
`max_reconnect_attempts=-1` it gives up after some minutes, and without an `error_cb` it prints.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable, Coroutine, Hashable
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MsgAlreadyAckdError
from nats.js import api
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from sdwatch.cluster.objects import Objects, files_stream, publish_once
from sdwatch.errors import SdwatchError
from sdwatch.policy.cluster import names
from sdwatch.policy.cluster.entries import Closed, Entry, entry_of, to_bytes
from sdwatch.policy.cluster.names import Times
from sdwatch.policy.failure.lasting import key_of
from sdwatch.system import disk
from sdwatch.system.clock import join
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.cluster")

_PAGE = 30.0  # seconds for one answer that names up to 100,000 subjects
NOT_REACHED = "it was not reached yet"
_WRONG_LAST_SEQUENCE = 10071

COPIES = 3
"""Copies of everything, where the broker has as many servers: it survives the loss of one."""

_TOO_FEW_SERVERS = (10005, 10074)
_SHOWN_FOR = 7 * 24 * 3600.0  # seconds for which a box is known that no longer shows itself

T = TypeVar("T")


class BrokerGoneError(SdwatchError):
    """The broker did not answer. What was asked for may have happened all the same."""


class LogMovedError(SdwatchError):
    """Somebody appended to the log since it was read."""


@dataclass
class Lease:
    """The message that hands a run to this box. `message`: None until the broker delivers it."""

    run: str
    message: Msg | None = field(repr=False, default=None)


class Broker:
    """A connection to the broker at `url` (several servers of one cluster: with commas), under
    `name`. `changed`: called from its thread with the subject of what is said on those of `listen`,
    and with '' when the broker answers again."""

    def __init__(
        self, url: str, name: str, times: Times, changed: Callable[[str], None] = lambda _: None
    ) -> None:
        self.why_down = NOT_REACHED
        self.down_by: Hashable = None  # what identifies that reason
        self.store = ""  # which store of the broker this is: another one after it lost its disk
        self._url = url
        self._name = name
        self._times = times
        self._changed = changed
        self._subjects: tuple[str, ...] = ()
        self._is_closed = False
        self._nc = Client()
        self._js: JetStreamContext | None = None
        self._pulls: dict[str, JetStreamContext.PullSubscription] = {}
        self.objects = Objects(self.ask)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live, name="broker", daemon=True)

    # -- the connection

    def open(self) -> None:
        """Connect, in the background, for as long as it takes."""
        self._thread.start()

    def close(self) -> None:
        """Close the connection."""
        self._is_closed = True
        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(2.0)
        self._loop.call_soon_threadsafe(self._loop.stop)
        join(self._thread, 2.0)

    @property
    def place(self) -> str:
        """Return where it is, without its token."""
        servers = [server.rpartition("@")[2] for server in self._url.split(",")]
        return ", ".join(server.rpartition("://")[2] for server in servers)

    @property
    def is_up(self) -> bool:
        """Return whether the broker can be asked now."""
        return self._js is not None and self._nc.is_connected

    def listen(self, *subjects: str) -> None:
        """Report what is said on these subjects to `changed`, as hints: they may be lost. Call it
        before `open`."""
        self._subjects = subjects

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        tasks = {self._loop.create_task(self._connect())}
        self._loop.run_forever()
        tasks |= asyncio.all_tasks(self._loop)  # what nobody waits for any longer
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    async def _close(self) -> None:
        await self._nc.close()

    async def _connect(self) -> None:
        while True:
            try:
                await self._nc.connect(
                    self._url.split(","),
                    name=f"sdwatch {self._name}",
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=1,
                    connect_timeout=5,
                    ping_interval=10,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._prepare,
                )
                await self._subscribe()
                await self._prepare()
                return
            except (TimeoutError, NatsError, OSError) as error:
                self._note_down(error)
                await asyncio.sleep(1.0)

    async def _subscribe(self) -> None:
        async def hear(message: Msg) -> None:
            self._changed(message.subject)

        for subject in self._subjects:
            await self._nc.subscribe(subject, cb=hear)

    async def _on_error(self, error: Exception) -> None:
        self._note_down(error)

    def _note_down(self, error: Exception) -> None:
        self.why_down, self.down_by = disk.in_words(error), key_of(error)

    async def _on_disconnected(self) -> None:
        self._js = None
        self._pulls.clear()
        if self._is_closed:
            return
        log.warning("the broker is gone: %s", self.why_down, extra=about(LogEvent.BROKER_LOST))

    async def _prepare(self) -> None:
        """Make streams and buckets where they are missing; again after each reconnect, since the
        broker may have lost its disk."""
        js = self._nc.jetstream(timeout=self._times.request)
        while self._nc.is_connected:
            try:
                await make_streams(js)
                info = await js.stream_info(names.RUNS)
                self.store = str(info.created)
                self._js = js
                log.info("the broker answers", extra=about(LogEvent.BROKER_FOUND))
                self._changed("")
                return
            except (TimeoutError, NatsError, OSError) as error:
                self._note_down(error)
                await asyncio.sleep(1.0)

    def ask(
        self, work: Callable[[JetStreamContext], Coroutine[Any, Any, T]], limit: float = 0.0
    ) -> T:
        """Return what `work` gets from the broker, within `limit` seconds. Raises NotFoundError of
        nats, LogMovedError, BrokerGoneError."""
        js = self._js
        if js is None or not self._nc.is_connected:
            raise BrokerGoneError(f"the broker is gone: {self.why_down}")
        seconds = limit or 2 * self._times.request
        asked = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work(js), seconds), self._loop)
        try:
            return asked.result(seconds + 5.0)
        except NotFoundError:
            raise
        except APIError as error:
            if error.err_code == _WRONG_LAST_SEQUENCE:
                raise LogMovedError("somebody else appended to this log") from error
            raise BrokerGoneError(f"the broker refuses: {error}") from error
        except (NatsError, OSError, TimeoutError, CancelledError) as error:
            raise BrokerGoneError(f"the broker does not answer: {disk.in_words(error)}") from error

    def message(
        self, stream: str, subject: str, after: int | None = None
    ) -> api.RawStreamMsg | None:
        """Return the last message on a subject, or the next one `after` a sequence; None where
        there is none. Raises BrokerGoneError."""

        async def get(js: JetStreamContext) -> api.RawStreamMsg | None:
            with suppress(NotFoundError):
                if after is None:
                    return await js.get_msg(stream, subject=subject)
                return await js.get_msg(stream, seq=after + 1, subject=subject, next=True)
            return None

        return self.ask(get)

    def purge(self, stream: str, subject: str, keep: int | None = None) -> None:
        """Remove the messages on a subject but the last `keep`. Raises BrokerGoneError."""
        self.ask(lambda js: js.purge_stream(stream, subject=subject, keep=keep))

    def say(self, subject: str) -> None:
        """Say something to whoever listens now. Raises BrokerGoneError."""
        self.ask(lambda _: self._nc.publish(subject, b""))

    def subjects(self, stream: str, wanted: str) -> dict[str, int]:
        """Return the subjects of a stream that match `wanted` and have messages, with how many. The
        broker names 100,000 in one answer. Raises BrokerGoneError."""

        async def get(_: JetStreamContext) -> dict[str, int]:
            found: dict[str, int] = {}
            while True:
                asked = json.dumps({"subjects_filter": wanted, "offset": len(found)}).encode()
                reply = await self._nc.request(f"$JS.API.STREAM.INFO.{stream}", asked, _PAGE)
                said = json.loads(reply.data)
                if "error" in said:
                    raise APIError.from_error(said["error"])
                page = said["state"].get("subjects") or {}
                found.update(page)
                if not page or len(found) >= said.get("total", 0):
                    return found

        return self.ask(get, 10 * _PAGE)

    # -- logs

    def append(self, run: str, entry: Entry, after: int) -> int:
        """Append to a run's log, if `after` is the sequence of its last entry; return its sequence.
        Raises LogMovedError, BrokerGoneError: then it may have been appended."""
        headers = {"Nats-Expected-Last-Subject-Sequence": str(after)}
        subject, data = names.run_subject(run), to_bytes(entry)
        ttl = self._times.closed if isinstance(entry, Closed) else None
        stored = self.ask(
            lambda js: js.publish(subject, data, stream=names.RUNS, headers=headers, msg_ttl=ttl)
        )
        return stored.seq

    def entries_after(self, run: str, seq: int) -> list[tuple[int, Entry | None]]:
        """Return the next entries of a run's log, in order. Raises BrokerGoneError."""
        subject = names.run_subject(run)
        found: list[tuple[int, Entry | None]] = []
        while len(found) < 200:
            if (message := self.message(names.RUNS, subject, after=seq)) is None:
                break
            seq = int(message.seq or 0)
            found.append((seq, entry_of(message.data or b"")))
        return found

    def forget_log(self, run: str, keep: int) -> None:
        """Remove a run's entries but the last `keep`. Raises BrokerGoneError."""
        self.purge(names.RUNS, names.run_subject(run), keep or None)

    # -- messages for boxes, and their leases

    def offer(self, box: str, run: str, epoch: int) -> None:
        """Send the message for a box, unless it is there. Raises BrokerGoneError."""
        data = json.dumps({"run": run, "epoch": epoch}).encode()
        subject = names.work_subject(box, run)
        self.ask(lambda js: publish_once(js, names.WORK, subject, data))

    def is_offered(self, box: str, run: str) -> bool:
        """Return whether the message is there. Raises BrokerGoneError."""
        return self.message(names.WORK, names.work_subject(box, run)) is not None

    def withdraw_offer(self, box: str, run: str) -> None:
        """Remove the message, leased or not. Raises BrokerGoneError."""
        self.purge(names.WORK, names.work_subject(box, run))

    def lease(self, box: str, most: int, seconds: float) -> list[Lease]:
        """Return up to `most` messages for a box that nobody holds a lease of; they are leased to
        the caller now. Raises BrokerGoneError."""

        async def pull(js: JetStreamContext) -> list[Msg]:
            if (pulls := self._pulls.get(box)) is None:
                config = api.ConsumerConfig(
                    ack_wait=self._times.lease, max_deliver=-1, max_ack_pending=1000
                )
                pulls = await js.pull_subscribe(
                    names.work_subject(box, "*"),
                    durable=names.consumer_of(box),
                    stream=names.WORK,
                    config=config,
                )
                self._pulls[box] = pulls
            try:
                return await pulls.fetch(most, timeout=seconds)
            except (TimeoutError, nats.errors.TimeoutError):
                return []
            except NatsError:
                self._pulls.pop(box, None)  # its consumer is gone
                raise

        messages = self.ask(pull, seconds + self._times.request)
        return [lease for message in messages if (lease := _lease(message)) is not None]

    def renew(self, lease: Lease) -> None:
        """Renew a lease. Raises BrokerGoneError."""
        if (message := lease.message) is not None:

            async def renew(_: JetStreamContext) -> None:
                with suppress(MsgAlreadyAckdError):  # by another thread
                    await message.in_progress()

            self.ask(renew)

    def acknowledge(self, lease: Lease) -> None:
        """Remove the message: its run has ended here. Raises BrokerGoneError."""
        if (message := lease.message) is not None:
            lease.message = None
            self.ask(lambda _: message.ack())


def _lease(message: Msg) -> Lease | None:
    with suppress(ValueError, TypeError, KeyError):
        run = json.loads(message.data)["run"]
        if isinstance(run, str):
            return Lease(run, message)
    return None


# -- the streams and buckets, made where they are missing


async def make_streams(js: JetStreamContext) -> None:
    """Make all that is missing, with three copies where the broker has three servers. What was made
    with fewer gets them too. Raises nats' errors."""
    try:
        await _make(js, COPIES)
    except APIError as error:
        if error.err_code not in _TOO_FEW_SERVERS:
            raise
        await _make(js, 1)


async def _make(js: JetStreamContext, copies: int) -> None:
    runs = api.StreamConfig(
        name=names.RUNS, subjects=["sdwatch.run.>"], storage=api.StorageType.FILE,
        allow_msg_ttl=True, num_replicas=copies,
    )  # fmt: skip
    work = api.StreamConfig(
        name=names.WORK,
        subjects=["sdwatch.work.>"],
        storage=api.StorageType.FILE,
        retention=api.RetentionPolicy.WORK_QUEUE,
        discard=api.DiscardPolicy.NEW,
        discard_new_per_subject=True,
        max_msgs_per_subject=1,
        num_replicas=copies,
    )
    for config in (runs, work, files_stream(copies)):
        if not await _is_there(js, str(config.name), copies):
            await js.add_stream(config)
    for bucket, ttl in ((names.BOXES, _SHOWN_FOR), (names.LISTS, None), (names.ORDERS, None)):
        if not await _is_there(js, f"KV_{bucket}", copies):
            await js.create_key_value(
                api.KeyValueConfig(bucket=bucket, history=1, ttl=ttl, replicas=copies)
            )


async def _is_there(js: JetStreamContext, stream: str, copies: int) -> bool:
    """Return whether a stream is there; raise its number of copies if it has fewer."""
    try:
        config = (await js.stream_info(stream)).config
    except NotFoundError:
        return False
    if (config.num_replicas or 1) < copies:
        await js.update_stream(config.evolve(num_replicas=copies))
    return True
