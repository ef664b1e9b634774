"""The live display of `run` and `demo` on a terminal: the lanes, the queue, the last events."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import starmap
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sdwatch.cli.shared.plain_lines import PlainShow
from sdwatch.cli.shared.progress_text import clock
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.policy.report.notice import Notice, Topic, config_edited
from sdwatch.policy.report.status_line import box_state, not_ready_in, queued_in

REFRESHED = 2.0
"""Times a second."""

_EVENTS = 8
_BOXES = 12
_COLOURS = {State.READY: "green", State.STARTING: "yellow", State.COOLING_DOWN: "yellow"}


_STYLES = {Topic.DONE: "green", Topic.FAILED: "red", Topic.ON_HOLD: "red", Topic.WARNING: "yellow"}


class LiveShow(PlainShow):
    """Shows what `status` (see Monitor.status) returns, and the last events below it."""

    def __init__(self, status: Callable[[], dict[str, Any]], spool: str) -> None:
        super().__init__()
        self._status = status
        self._spool = spool
        self._began = time.monotonic()
        self._events: deque[tuple[str, Notice]] = deque(maxlen=_EVENTS)
        self._live = Live(get_renderable=self._draw, refresh_per_second=REFRESHED)

    def notify(self, notice: Notice) -> None:
        """Add an event. The path of its file is left out: too long, and below the spool anyway."""
        event = time.strftime("%H:%M:%S"), notice
        # An event that is repeated, such as a hold that is checked each minute, moves to the end.
        with self._lock:  # warnings come from any thread
            others = [each for each in self._events if not notice.follows(each[1])]
            self._events = deque([*others, event], _EVENTS)

    def __enter__(self) -> LiveShow:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def _draw(self) -> RenderableType:
        status = self._status()
        head = self._head(status.get("stopping"))
        return Group(head, Text(), *_middle(status), Text(), *starmap(_event, self._events))

    def _head(self, stopping: float | None) -> RenderableType:
        row = Table.grid(expand=True)
        how_to_stop = f"{clock(time.monotonic() - self._began)}  {_how_to_stop(stopping)}"
        row.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        row.add_column(justify="right", no_wrap=True, width=len(how_to_stop))
        row.add_row(
            Text.assemble(("sdwatch  ", "bold"), (self._spool, "dim")),
            Text(how_to_stop, style="dim"),
        )
        return row


def _how_to_stop(stopping: float | None) -> str:
    """Return the hint at the top right. `stopping`: seconds that a stop still waits for the
    call under way; None if none was asked for."""
    if stopping is None:
        return "Ctrl-C stops it"
    return f"stopping: {stopping:.0f} s left, Ctrl-C stops it at once"


def _middle(status: dict[str, Any]) -> Iterator[RenderableType]:
    if hold := status["hold"]:
        yield Text(printable_text(f"on hold: {hold}"), style="red")
    if edited := status.get("config_edited"):
        yield Text(printable_text(config_edited(edited)), style="yellow")
    cluster = status.get("cluster", {})
    if not status["lanes"] and not cluster:
        yield Text("starting: checking the spool, and for another monitor on it …", style="dim")
        return
    if status["lanes"]:
        yield _lanes(status)
        yield Text()
    if cluster:
        yield from _cluster(cluster)
        yield Text()
    yield _counts(status)


def _lanes(status: dict[str, Any]) -> Table:
    """Show three lines for each lane, whatever it does, so that nothing jumps."""
    grid = Table.grid(padding=(0, 2), expand=True)
    grid.add_column(no_wrap=True, width=max(len(lane["name"]) for lane in status["lanes"]))
    grid.add_column(no_wrap=True, width=18)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for lane in status["lanes"]:
        runs = [run for run in status["runs"] if run["lane"] == lane["name"]]
        runs.sort(key=lambda run: not run.get("calling"))  # the one whose call is under way first
        now, then = (_run(run) for run in [*runs, None, None][:2])
        name = Text(lane["name"], style="bold")
        grid.add_row(name, _state(lane), _reason(lane) or now)
        grid.add_row("", "", _bar(lane["progress"]))
        grid.add_row("", "", then)
    return grid


def _cluster(cluster: dict[str, Any]) -> Iterator[RenderableType]:
    """Show a line for each other machine, of many the first ones."""
    if down := cluster.get("broker"):
        yield Text(printable_text(f"the broker does not answer: {down}"), style="red")
    boxes = cluster.get("boxes", {})
    for name, box in list(boxes.items())[:_BOXES]:
        words = f"{name}  {box_state(box)}, {len(box['runs'])} of {box['places']} places taken"
        yield Text(printable_text(words), style="" if box["answers"] else "red")
    if len(boxes) > _BOXES:
        yield Text(f"and {len(boxes) - _BOXES} more boxes", style="dim")


def _state(lane: dict[str, Any]) -> Text:
    words = lane["state"]
    if words == State.COOLING_DOWN and lane["cooldown_left"]:
        words += f" {lane['cooldown_left']:.0f} s"
    style = "red" if lane["hold"] else _COLOURS.get(lane["state"], "dim")
    return Text(words, style=style)


def _reason(lane: dict[str, Any]) -> Text | None:
    """Return why it is unusable for now; None if it is usable."""
    reason = printable_text(lane["hold"].partition("\n")[0])
    return Text(reason, style="red") if reason else None


def _run(run: dict[str, Any] | None) -> Text:
    if run is None:
        return Text()
    return Text.assemble(
        (printable_text(str(run["source"])), "cyan"), f"   {printable_text(run['doing'])}"
    )


def _bar(progress: dict[str, Any]) -> RenderableType:
    """Show the steps of the call under way, as its WebUI last reported; else an empty line."""
    state = progress.get("state")
    steps = state.get("sampling_steps") if isinstance(state, dict) else None
    if not isinstance(state, dict) or not isinstance(steps, int) or steps <= 0:
        return Text()
    step, eta = min(int(state.get("sampling_step") or 0), steps), progress.get("eta_relative")
    row = Table.grid(padding=(0, 2))
    row.add_row(
        ProgressBar(total=steps, completed=step, width=32, complete_style="cyan"),
        Text(f"step {step} of {steps}"),
        Text(f"{clock(eta)} left" if isinstance(eta, int | float) and eta > 0 else "", style="dim"),
    )
    return row


def _counts(status: dict[str, Any]) -> Text:
    counts = status["counts"]
    return Text.assemble(
        ("queue ", "dim"),
        str(queued_in(status)),
        ("   not ready ", "dim"),
        str(not_ready_in(status)),
        ("   done ", "dim"),
        (str(counts["done"]), "green" if counts["done"] else ""),
        ("   failed ", "dim"),
        (str(counts["failed"]), "red" if counts["failed"] else ""),
        ("   cancelled ", "dim"),
        str(counts["cancelled"]),
    )


def _event(at: str, notice: Notice) -> Text:
    line, _, _ = notice.text.partition("\n")
    text = Text.assemble((f"{at}  ", "dim"), (line, _STYLES.get(notice.topic, "")))
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
