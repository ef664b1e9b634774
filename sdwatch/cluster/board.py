"""The board at the broker: what boxes show of themselves, and what people want of them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from sdwatch.cluster.broker import Broker
from sdwatch.policy.cluster import names
from sdwatch.policy.cluster.cards import BoxOrder, BoxShown, card_of, order_of, shown_in
from sdwatch.policy.cluster.entries import is_box_name


class _Bucket:
    """What was read of a bucket. `seq`: of the last value that was read; `values`: by key, each
    with its sequence."""

    def __init__(self) -> None:
        self.seq = 0
        self.values: dict[str, tuple[int, dict[str, Any]]] = {}

    def note(self, subject: str, seq: int, data: bytes) -> None:
        """Note a value. What cannot be read is none."""
        self.seq = seq
        key = names.key_in(subject)
        self.values.pop(key, None)
        with suppress(ValueError):
            if isinstance(value := json.loads(data), dict):
                self.values[key] = (seq, value)

    def keep_only(self, subjects: Iterable[str]) -> None:
        """Forget the keys that are no longer there."""
        there = {names.key_in(subject) for subject in subjects}
        self.values = {key: value for key, value in self.values.items() if key in there}


class Board:
    """The board of one broker. All methods raise BrokerGoneError."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._store = ""  # of the broker, where `_buckets` was read
        self._buckets: defaultdict[str, _Bucket] = defaultdict(_Bucket)

    def show(self, box: str, shown: BoxShown) -> None:
        """Show what a box has."""
        self._put(names.BOXES, box, json.dumps(card_of(shown)).encode())

    def boxes(self) -> dict[str, tuple[int, BoxShown]]:
        """Return what each box shows, with a number that grows each time."""
        return {
            name: (seq, shown_in(card))
            for name, (seq, card) in self._all(names.BOXES).items()
            if is_box_name(name)
        }

    def ages(self) -> dict[str, float]:
        """Return the seconds since each box showed itself, by the broker's clock."""

        async def get(js: JetStreamContext) -> dict[str, float]:
            stream = f"KV_{names.BOXES}"
            info = await js.stream_info(stream, subjects_filter=">")
            now = getattr(info, "ts", None) or datetime.now(UTC)
            ages = {}
            for subject in info.state.subjects or {}:
                at = (await js.get_msg(stream, subject=subject)).time
                if at is not None:
                    ages[names.key_in(subject)] = max(0.0, (now - at).total_seconds())
            return ages

        return self._broker.ask(get)

    def show_lists(self, box: str, lane: str, lists: bytes) -> None:
        """Store the lists of a box's lane."""
        self._put(names.LISTS, names.lists_key(box, lane), lists)

    def lists(self, box: str, lane: str) -> bytes:
        """Return what is stored of them, b'' for nothing."""
        return self._get(names.LISTS, names.lists_key(box, lane))

    def ask_for_lists(self, box: str) -> None:
        """Ask a box to read its lists again. It may not hear it."""
        self._broker.say(names.ask_subject(box))

    def order(self, box: str, order: BoxOrder) -> None:
        """Note what a person wants of a box."""
        data = json.dumps({"drain": order.drain, "hold": order.hold}).encode()
        self._put(names.ORDERS, box, data)

    def order_for(self, box: str) -> BoxOrder:
        """Return what people want of a box."""
        with suppress(ValueError):
            if isinstance(value := json.loads(self._get(names.ORDERS, box) or b"{}"), dict):
                return order_of(value)
        return BoxOrder()

    def orders(self) -> dict[str, BoxOrder]:
        """Return what people want of each box."""
        return {name: order_of(order) for name, (_, order) in self._all(names.ORDERS).items()}

    def _get(self, bucket: str, key: str) -> bytes:
        message = self._broker.message(f"KV_{bucket}", names.key_subject(bucket, key))
        return (message.data or b"") if message is not None else b""

    def _put(self, bucket: str, key: str, data: bytes) -> None:
        subject = names.key_subject(bucket, key)
        self._broker.ask(lambda js: js.publish(subject, data, stream=f"KV_{bucket}"))

    def _all(self, bucket: str) -> dict[str, tuple[int, dict[str, Any]]]:
        """Return all values of a bucket. Only those that are new since the last call are read:
        a thousand boxes show themselves two hundred times a second."""
        if self._store != self._broker.store:
            self._store = self._broker.store
            self._buckets.clear()
        known = self._buckets[bucket]

        async def get(js: JetStreamContext) -> None:
            stream = f"KV_{bucket}"
            info = await js.stream_info(stream, subjects_filter=">")
            known.seq = min(known.seq, info.state.last_seq)
            # Who shows itself again meanwhile is no longer where it was, but after the last one.
            unread = {names.key_in(subject) for subject in info.state.subjects or {}} - {
                *known.values
            }
            with suppress(NotFoundError):
                while unread or known.seq < info.state.last_seq:
                    start = known.seq + 1
                    message = await js.get_msg(stream, seq=start, subject=">", next=True)
                    known.note(message.subject or "", int(message.seq or 0), message.data or b"")
                    unread.discard(names.key_in(message.subject or ""))
            known.keep_only(info.state.subjects or {})

        self._broker.ask(get)
        return dict(known.values)
