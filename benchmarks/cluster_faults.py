"""What happens to the machines of a cluster, and when."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cluster_hosts import ClusterHosts, Machine, MonitorMachine
from cluster_network import Link


class Moment(StrEnum):
    """Just after this entry was sent to the log of a run."""

    GRANTED = "granted"
    ACCEPTED = "accepted"
    STARTED = "call sent"
    STORED = "call stored"
    ENDED = "ended"
    CLOSED = "published"


class Kind(StrEnum):
    """What happens to which machine. BLINK: for less than a lease; the others longer."""

    BOX_KILLED = "box killed"
    BOX_LOST = "box lost for good"
    BOX_FROZEN = "box frozen"
    BOX_CUT = "box cut off"
    BOX_BLINK = "box cut off briefly"
    BOX_SLOW = "box: delay"
    BOX_LOSSY = "box: loss"
    BOX_FULL = "box: disk full"
    BROKER_KILLED = "broker killed"
    BROKER_WIPED = "broker lost its disk"
    BROKER_FROZEN = "broker frozen"
    BROKER_CUT = "broker cut off"
    BROKER_LOSSY = "broker: delay, loss"
    BROKER_FULL = "broker: disk full"
    DISPATCHER_KILLED = "dispatcher killed"
    DISPATCHER_FROZEN = "dispatcher frozen"
    DISPATCHER_CUT = "dispatcher cut off"
    SHARE_FULL = "shared spool full"
    TAKEN_OVER = "spool taken over"


@dataclass(frozen=True)
class Fault:
    """`delay`: seconds after the moment; `lasts`: leases; `pause`: seconds until the next one is
    waited for, from the start of this one."""

    kind: Kind
    moment: Moment
    delay: float
    lasts: float
    pause: float


def draw(seed: int, count: int) -> list[Fault]:
    """Return so many faults: each kind and each moment as often as any other."""
    dice = random.Random(seed)
    kinds = _each_as_often(dice, list(Kind), count)
    moments = _each_as_often(dice, list(Moment), count)
    return [
        Fault(
            kind,
            moment,
            dice.choice((0.0, dice.random() * 0.1, dice.random())),
            dice.uniform(1.2, 2.0),
            dice.uniform(0.5, 1.5),
        )
        for kind, moment in zip(kinds, moments, strict=True)
    ]


def _each_as_often(dice: random.Random, what: list, count: int) -> list:
    drawn: list = []
    while len(drawn) < count:
        drawn += dice.sample(what, len(what))
    return drawn[:count]


class Faults:
    """Has faults happen to `hosts`, whose leases last `lease` seconds."""

    def __init__(self, hosts: ClusterHosts, lease: float) -> None:
        self._hosts = hosts
        self._lease = lease
        self._stop = threading.Event()
        self._busy: set[str] = set()
        self._threads: list[threading.Thread] = []

    def strike(self, fault: Fault, box: MonitorMachine | None) -> str:
        """Have a fault happen to its machine, for a box to `box`, and heal later. Return which
        machine; '' where that has something already."""
        hosts = self._hosts
        where = {"box": box or hosts.boxes[0], "broker": hosts.broker}
        machine: Machine = where.get(fault.kind.partition(" ")[0].rstrip(":"), hosts.active)
        if machine.name in self._busy or (fault.kind is Kind.TAKEN_OVER and self._dispatches()):
            return ""
        self._busy.add(machine.name)
        thread = threading.Thread(target=self._live, args=(fault, machine), daemon=True)
        self._threads.append(thread)
        thread.start()
        return machine.name

    def _dispatches(self) -> bool:
        return any(each.name in self._busy for each in self._hosts.dispatchers)

    def _live(self, fault: Fault, machine: Machine) -> None:
        self._wait(fault.delay)
        seconds = self._lease * fault.lasts
        brief = min(1.0, self._lease / 4)
        slow = Link(delay=0.15, jitter=0.1)
        lossy = Link(loss=0.15)
        bad = Link(delay=0.05, jitter=0.05, loss=0.05)
        match fault.kind:
            case Kind.BOX_CUT | Kind.BROKER_CUT | Kind.DISPATCHER_CUT:
                self._link(machine, Link(cut=True), seconds)
            case Kind.BOX_BLINK:
                self._link(machine, Link(cut=True), brief)
            case Kind.BOX_SLOW | Kind.BOX_LOSSY | Kind.BROKER_LOSSY:
                links = {Kind.BOX_SLOW: slow, Kind.BOX_LOSSY: lossy}
                self._link(machine, links.get(fault.kind, bad), seconds)
            case Kind.BOX_FROZEN | Kind.BROKER_FROZEN | Kind.DISPATCHER_FROZEN:
                self._between(machine.freeze, machine.thaw, seconds)
            case Kind.BOX_FULL | Kind.BROKER_FULL:
                self._between(machine.disk.fill, machine.disk.free, seconds)
            case Kind.SHARE_FULL:
                self._between(self._hosts.share.fill, self._hosts.share.free, seconds)
            case Kind.TAKEN_OVER:
                machine.kill()
                self._hosts.take_over()
            case _:
                machine.kill()
                if fault.kind in (Kind.BOX_LOST, Kind.BROKER_WIPED):
                    machine.disk.lose()
                self._wait(seconds if fault.lasts > 1.6 else brief)
                machine.start()
        self._busy.discard(machine.name)

    def _link(self, machine: Machine, link: Link, seconds: float) -> None:
        def set_link(value: Link) -> None:
            machine.host.link = value

        self._between(lambda: set_link(link), lambda: set_link(Link()), seconds)

    def _between(
        self, begin: Callable[[], object], end: Callable[[], object], seconds: float
    ) -> None:
        begin()
        self._wait(seconds)
        end()

    def _wait(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def finish(self) -> None:
        """Wait until all that was struck is healed."""
        for thread in self._threads:
            thread.join()


def in_cells(struck: Sequence[tuple[Fault, str]]) -> list[list[str]]:
    """Return the rows of a table: for each kind how often it happened at each moment."""
    rows = []
    for kind in Kind:
        counts = [sum(f.kind is kind and f.moment is m for f, _ in struck) for m in Moment]
        rows.append([kind.value, *(str(n) if n else "·" for n in counts), str(sum(counts))])
    totals = [sum(f.moment is m for f, _ in struck) for m in Moment]
    return [*rows, ["all", *map(str, totals), str(sum(totals))]]
