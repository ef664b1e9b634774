"""A run that is handed over, as histories: two boxes, a dispatcher and a broker take turns in any
order, read late, die, lose folders and leases."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from sdwatch.policy.cluster import dispatching as to_do
from sdwatch.policy.cluster import holding as on_box
from sdwatch.policy.cluster.dispatching import Wish, dispatcher_step
from sdwatch.policy.cluster.entries import (
    Accepted,
    BoxEnd,
    Closed,
    Ended,
    Entry,
    Granted,
    LinesStored,
    StoredFile,
    TakenBack,
    TakenFor,
)
from sdwatch.policy.cluster.holding import LocalRun, box_step
from sdwatch.policy.cluster.run_log import RunLog, with_entry, with_entry_for_box
from sdwatch.policy.failure.ledger import HandedOver

CALLS = 3
DIGEST = "0" * 64


@dataclass
class Broker:
    """One log with compare-and-set, and the objects."""

    entries: list[tuple[int, Entry]] = field(default_factory=list)
    objects: dict[str, list[str]] = field(default_factory=dict)
    seq: int = 0

    def append(self, entry: Entry, after: int) -> bool:
        if after != (self.entries[-1][0] if self.entries else 0):
            return False
        self.seq += 1
        self.entries.append((self.seq, entry))
        return True

    def forget_all_but_last(self) -> None:
        """A box that is away then will never read what came before."""
        del self.entries[:-1]

    def wipe(self) -> None:
        self.entries.clear()
        self.objects.clear()


def line(call: int, box: str, attempt: int) -> str:
    return f"{call} by {box} attempt {attempt}"


def call_of(text: str) -> int:
    return int(text.split()[0])


@dataclass
class Dispatcher:
    broker: Broker
    journal: list[str] = field(default_factory=list)  # lines of boxes that count
    out: HandedOver = field(default_factory=HandedOver)
    log: RunLog = field(default_factory=RunLog)
    wish: Wish = field(default_factory=Wish)
    published: int = 0

    def read(self) -> None:
        if self.broker.entries and self.log.seq > self.broker.entries[-1][0]:
            self.log = RunLog()
        if not self.broker.entries:
            self.log = RunLog()
        for seq, entry in self.broker.entries:
            before = self.log
            self.log, counts = with_entry(self.log, seq, entry)
            if counts and isinstance(entry, LinesStored):
                self._apply(entry, before)

    def _apply(self, entry: LinesStored, before: RunLog) -> None:
        if not self.out.is_out or before.epoch != self.out.epoch:
            return
        lines = self.broker.objects[entry.text]  # raises KeyError if it was not stored before
        new = lines[max(0, self.out.lines - entry.first) :]
        assert all(f"image {text}" in self.broker.objects for text in new)
        self.journal += new
        lines_now = max(self.out.lines, entry.first + entry.count)
        self.out = HandedOver(self.out.epoch, self.out.box, lines_now, True)

    def turn(self) -> None:
        self.read()
        self.step()
        self.read()

    def die(self) -> None:
        self.log = RunLog()
        self.wish = Wish(published=self.published > 0)

    def step(self) -> None:
        action = dispatcher_step(self.log, self.out, self.wish)
        append = self.broker.append
        if isinstance(action, to_do.NoteHandedOver):
            self.out = HandedOver(action.epoch, action.box, 0, True)
        elif isinstance(action, to_do.Grant):
            self.broker.objects[f"start {action.epoch}"] = list(self.journal)
            append(Granted(action.epoch, action.box, DIGEST), self.log.seq)
        elif isinstance(action, TakenBack):
            append(action, self.log.seq)
        elif isinstance(action, to_do.NoteTakenBack):
            self.out = HandedOver(self.out.epoch)
            self.wish = Wish()
        elif isinstance(action, to_do.Finish):
            self.published += 1
            self.wish = Wish(published=True)
        elif isinstance(action, Closed) and append(action, self.log.seq):
            self.broker.forget_all_but_last()


@dataclass
class Box:
    name: str
    broker: Broker
    local: LocalRun | None = None
    base: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    log: RunLog = field(default_factory=RunLog)
    attempts: int = 0
    accepted: bool = False

    def read(self) -> None:
        if not self.broker.entries or self.log.seq > self.broker.entries[-1][0]:
            self.log = RunLog()
        for seq, entry in self.broker.entries:
            self.log = with_entry_for_box(self.log, seq, entry)

    def turn(self) -> None:
        self.read()
        self.step()
        self.read()

    def die(self) -> None:
        self.log = RunLog()

    def lose_folder(self) -> None:
        self.local = None

    def draw(self) -> None:
        """Make the first unfinished call, or end."""
        if self.local is None or not self.accepted or self.local.ended is not None:
            return
        finished = {call_of(text) for text in self.base + self.own}
        left = [call for call in range(CALLS) if call not in finished]
        ended = None
        if left:
            self.attempts += 1
            self.own.append(line(left[0], self.name, self.attempts))
        else:
            ended = BoxEnd.DONE
        self.local = LocalRun(self.local.epoch, len(self.own), ended)

    def step(self) -> None:
        action = box_step(self.name, self.log, self.local)
        append, seq, objects = self.broker.append, self.log.seq, self.broker.objects
        if isinstance(action, on_box.Fetch):
            if (start := objects.get(f"start {action.epoch}")) is None:
                return
            self.base, self.own, self.accepted = list(start), [], False
            self.local = LocalRun(action.epoch)
        elif isinstance(action, Accepted):
            self.accepted = append(action, seq) or self.accepted
        elif isinstance(action, on_box.Store):
            new = self.own[action.first :]
            for text in new:
                objects[f"image {text}"] = []
            name = f"lines of {self.name} {action.epoch} {action.first} {len(new)} {new}"
            objects[name] = new
            append(LinesStored(action.epoch, action.first, len(new), name), seq)
        elif isinstance(action, on_box.StoreEnd):
            append(Ended(action.epoch, action.outcome, action.lines), seq)
        elif isinstance(action, on_box.Withdraw):
            self.local = None

    def blurt(self) -> None:
        """Append what it has without having read what the others wrote, as no box should."""
        if self.local is None:
            return
        last = self.broker.entries[-1][0] if self.broker.entries else 0
        for text in self.own:
            self.broker.objects[f"image {text}"] = []
        self.broker.objects[f"all of {self.own}"] = list(self.own)
        epoch, count = self.local.epoch, len(self.own)
        if self.local.ended is not None and self.attempts % 2:
            self.broker.append(Ended(epoch, self.local.ended, count), last)
        else:
            self.broker.append(LinesStored(epoch, 0, count, f"all of {self.own}"), last)


class World:
    def __init__(self) -> None:
        self.broker = Broker()
        self.dispatcher = Dispatcher(self.broker)
        self.boxes = {name: Box(name, self.broker) for name in ("a", "b")}
        self.stored: set[int] = set()  # calls that counted as stored

    def move(self, who: str, what: str) -> None:
        if who == "broker":
            self.broker.wipe()
        elif what in ("a", "b"):
            self.dispatcher.wish = Wish(what, published=self.dispatcher.published > 0)
        elif what == "lease":
            published = self.dispatcher.published > 0
            self.dispatcher.wish = Wish(wanted_back=TakenFor.LEASE_LOST, published=published)
        else:
            actor = self.dispatcher if who == "dispatcher" else self.boxes[who]
            before = self.redrawn(who, what)
            getattr(actor, what)()
            assert not before
        self.check()

    def redrawn(self, who: str, what: str) -> bool:
        """Whether a box that holds the run now would make a call again that is stored."""
        if what != "draw" or not self.boxes[who].accepted or self.boxes[who].local is None:
            return False
        box, log = self.boxes[who], RunLog()
        counted: set[int] = set()
        for seq, entry in self.broker.entries:
            log, counts = with_entry(log, seq, entry)
            if counts and isinstance(entry, LinesStored):
                counted |= {call_of(text) for text in self.broker.objects[entry.text]}
        holds = log.is_held and log.box == who and box.local and box.local.epoch == log.epoch
        known = {call_of(text) for text in box.base + box.own}
        return bool(holds) and not counted <= known

    def check(self) -> None:
        assert self.dispatcher.published <= 1
        calls = [call_of(text) for text in self.dispatcher.journal]
        assert len(calls) == len(set(calls)), "a call is in the journal twice"
        if self.dispatcher.published:
            assert sorted(calls) == list(range(CALLS))

    def settle(self) -> None:
        """Let everybody do what is to do, with a dispatcher that wants the run on box a."""
        for _ in range(80):
            if not self.dispatcher.wish.wanted_back or not self.dispatcher.out.is_out:
                published = self.dispatcher.published > 0
                self.dispatcher.wish = Wish("a", published=published)
            for actor in (self.dispatcher, *self.boxes.values()):
                actor.read()
                actor.step()
                if isinstance(actor, Box):
                    actor.draw()
            self.check()
        assert [box.name for box in self.boxes.values() if box.local] == [], "copies are left"


MOVES = [
    *[("dispatcher", what) for what in ("read", "step", "die", "a", "b", "lease")],
    *[("dispatcher", "turn")] * 6,
    *[(box, what) for box in "ab" for what in ("read", "step", "draw", "die")],
    *[(box, what) for box in "ab" for what in ("turn", "turn", "turn", "draw")],
]
BLURTS = [("a", "blurt"), ("b", "blurt")]
LOSSES = [("a", "lose_folder"), ("b", "lose_folder")]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([*MOVES, *MOVES, *LOSSES, *BLURTS]), min_size=60, max_size=120))
def test_whatever_order_things_happen_in_a_run_is_published_once(
    moves: list[tuple[str, str]],
) -> None:
    world = World()
    for who, what in moves:
        world.move(who, what)
    world.settle()
    assert world.dispatcher.published == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*MOVES, *MOVES, ("broker", "wipe")]), min_size=60, max_size=120))
def test_a_broker_that_loses_everything_costs_no_run(moves: list[tuple[str, str]]) -> None:
    world = World()
    for who, what in moves:
        world.move(who, what)
    world.settle()
    assert world.dispatcher.published == 1


def log_of(*entries: Entry) -> RunLog:
    log = RunLog()
    for seq, entry in enumerate(entries, 1):
        log, _ = with_entry(log, seq, entry)
    return log


def test_an_entry_of_an_older_epoch_does_not_count() -> None:
    taken = (Granted(1, "a", DIGEST), Accepted(1), TakenBack(1, TakenFor.LEASE_LOST))
    log = log_of(*taken, Granted(2, "b", DIGEST), Accepted(2))
    for late in (LinesStored(1, 0, 1, DIGEST), Ended(1, BoxEnd.DONE, 0), Accepted(1)):
        after, counts = with_entry(log, 6, late)
        assert not counts
        assert (after.epoch, after.lines, after.phase) == (2, 0, log.phase)


def test_lines_with_a_gap_before_them_do_not_count() -> None:
    log = log_of(Granted(1, "a", DIGEST), Accepted(1), LinesStored(1, 0, 2, DIGEST))
    _, counts = with_entry(log, 4, LinesStored(1, 3, 1, DIGEST))
    assert not counts
    _, counts = with_entry(
        log, 4, LinesStored(1, 2, 1, DIGEST, (StoredFile("images/x.png", DIGEST, 1),))
    )
    assert counts


def test_an_end_that_leaves_lines_out_does_not_count() -> None:
    log = log_of(Granted(1, "a", DIGEST), Accepted(1), LinesStored(1, 0, 2, DIGEST))
    _, counts = with_entry(log, 4, Ended(1, BoxEnd.DONE, 1))
    assert not counts


def test_a_box_that_lost_its_lease_withdraws_and_never_acknowledges() -> None:
    log = log_of(Granted(1, "a", DIGEST), Accepted(1), TakenBack(1, TakenFor.LEASE_LOST))
    done = LocalRun(1, 4, BoxEnd.DONE)
    assert box_step("a", log, done) == on_box.Withdraw()
    log = log_of(Granted(1, "a", DIGEST), Accepted(1), Granted(2, "b", DIGEST))
    assert log.epoch == 1, "an epoch that is held is not granted over"


def test_a_box_that_was_away_until_its_run_was_closed_removes_its_copy() -> None:
    held = log_of(Granted(1, "a", DIGEST), Accepted(1))
    for epoch in (1, 4):
        log = with_entry_for_box(held, 9, Closed(epoch))
        assert box_step("a", log, LocalRun(1, 4, BoxEnd.DONE)) == on_box.Withdraw()
    newer = log_of(Granted(4, "a", DIGEST), Accepted(4))
    assert with_entry_for_box(newer, 9, Closed(3)).is_held


def test_a_box_whose_broker_is_gone_keeps_what_it_has() -> None:
    assert box_step("a", RunLog(), LocalRun(1, 4, BoxEnd.DONE)) == on_box.Ignore()


def test_a_box_removes_its_copy_of_a_published_run_whose_log_was_lost() -> None:
    published = Wish(published=True)
    assert dispatcher_step(RunLog(), HandedOver(3), published) == Closed(3)
    log = log_of(Closed(3))
    assert dispatcher_step(log, HandedOver(3), published) == to_do.Forget()
    for local in (LocalRun(3, 4, BoxEnd.DONE), LocalRun(3, 4), LocalRun(2, 4)):
        assert box_step("a", log, local) == on_box.Withdraw()
