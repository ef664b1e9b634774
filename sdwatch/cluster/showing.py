"""What this box shows of itself at the broker, and what it is ordered there."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, replace

from sdwatch.cluster.board import Board
from sdwatch.cluster.broker import Broker
from sdwatch.lane.lane import ACTIVE_RUNS, Lane
from sdwatch.monitor.work import Parts
from sdwatch.policy.cluster import names
from sdwatch.policy.cluster.cards import BoxOrder, BoxShown, LaneShown, order_of
from sdwatch.policy.cluster.lists import lists_to_bytes
from sdwatch.policy.failure.hold_reason import HoldCode, HoldKey, NoCall
from sdwatch.policy.job.calls.catalogue import CHANGING, Catalogue
from sdwatch.system import disk


class Showing:
    """The card of the box `box`, its lists, and its orders. The main thread notes what there is,
    the box's own thread shows it."""

    def __init__(self, parts: Parts, broker: Broker, box: str) -> None:
        self._parts = parts
        self._broker = broker
        self._board = Board(broker)
        self._box = box
        self._shown = self._was_shown = BoxShown()
        self._order_file = parts.state.root / "cluster" / "order.json"
        self._order = self._last_order()
        self._ordered = threading.Event()  # the order is to be read
        self._asked = threading.Event()  # lists are to be read again
        self._times_asked = 0
        self._read_again: dict[str, Catalogue | None] = {}  # by lane: what it had when it was asked
        self._digests: dict[str, tuple[Catalogue, str]] = {}  # by lane
        self._stored: dict[str, str] = {}  # by lane
        self._store = ""

    @property
    def subjects(self) -> tuple[str, ...]:
        """Return the subjects that say something to this box."""
        return names.ask_subject(self._box), names.key_subject(names.ORDERS, self._box)

    @property
    def places(self) -> int:
        """Return how many runs the box takes."""
        return self._shown.places

    @property
    def has_news(self) -> bool:
        """Return whether something else is there than was shown, but for the runs: the dispatcher
        knows them."""
        return replace(self._shown, held=0, copies=()) != replace(
            self._was_shown, held=0, copies=()
        )

    def hear(self, subject: str) -> None:
        """Note what was said, from any thread; '': the broker answers again."""
        (self._asked if subject == names.ask_subject(self._box) else self._ordered).set()

    def persons_hold(self) -> NoCall | None:
        """Return the hold that a person gave to this box from another machine, or None."""
        if not self._order.hold:
            return None
        text = f"paused by `sdwatch hold {self._box}` on another machine"
        return NoCall(f"{text}; `sdwatch resume {self._box}` ends it", HoldKey(HoldCode.PERSON))

    # -- the main thread

    def note(self, held: Collection[str], *, may_call: bool) -> None:
        """Note what there is. `held`: the runs of the dispatcher."""
        parts = self._parts
        if self._asked.is_set():
            self._asked.clear()
            self._read_again = {lane.name: lane.catalogue for lane in parts.lanes}
            for lane in parts.lanes:
                lane.read_again(CHANGING)
        if self._read_again and all(
            lane.catalogue is not self._read_again[lane.name] or not lane.ready
            for lane in parts.lanes
        ):
            self._read_again = {}
            self._times_asked += 1
        no_call = self._parts.gate.why_no_call() if not may_call else None
        paused = "" if may_call else str(no_call or "no call may start")
        lanes = tuple(self._lane_shown(lane, held) for lane in parts.lanes)
        self._shown = BoxShown(lanes, len(held), paused, self._times_asked, tuple(sorted(held)))

    def _lane_shown(self, lane: Lane, held: Collection[str]) -> LaneShown:
        catalogue, parts = lane.catalogue, self._parts
        known = self._digests.get(lane.name)
        if catalogue is not None and (known is None or known[0] is not catalogue):
            known = catalogue, hashlib.sha256(lists_to_bytes(catalogue)).hexdigest()
            self._digests[lane.name] = known
        own = sum(active.run.run_id not in held for active in parts.runs.on_lane(lane))
        serves = lane.ready and not lane.hold_reason
        return LaneShown(
            lane.name,
            str(lane.about()["kind"]),
            serves,
            lane.hold_reason,
            lane.tags,
            max(0, ACTIVE_RUNS - own) if serves else 0,
            parts.affinity.loaded(lane),
            lane.incarnation,
            known[1] if known else "",
        )

    # -- the box's thread

    def show(self) -> None:
        """Show it, its lists before, and read what is ordered. Raises BrokerGoneError."""
        if self._store != self._broker.store:
            self._store = self._broker.store
            self._stored.clear()
            self._ordered.set()
        if self._ordered.is_set():
            self._ordered.clear()
            self._obey(self._board.order_for(self._box))
        shown = self._shown
        for lane in shown.lanes:
            known = self._digests.get(lane.name)
            if known is not None and self._stored.get(lane.name) != known[1]:
                self._board.show_lists(self._box, lane.name, lists_to_bytes(known[0]))
                self._stored[lane.name] = known[1]
        self._board.show(self._box, shown)
        self._was_shown = shown

    def _obey(self, order: BoxOrder) -> None:
        """Note an order, for the next start too: the broker may be gone then."""
        if order == self._order:
            return
        self._order = order
        self._parts.wake()
        disk.write(self._order_file, json.dumps(asdict(order)).encode())

    def _last_order(self) -> BoxOrder:
        with suppress(FileNotFoundError, ValueError, RecursionError):
            if isinstance(value := json.loads(disk.read(self._order_file)), dict):
                return order_of(value)
        return BoxOrder()
