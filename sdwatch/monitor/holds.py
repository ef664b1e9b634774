"""All holds: reported once each, then at growing intervals, and in a note for each lane."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from sdwatch.lane.lane import Lane
from sdwatch.policy.failure.hold_reason import Held, HoldCode, HoldReason, NoCall, no_room
from sdwatch.policy.failure.lasting import LastingStates
from sdwatch.policy.report.notice import Notice, Topic, config_edited
from sdwatch.spool.folders import Spool
from sdwatch.spool.hold_note import HoldNote
from sdwatch.system.clock import Clock, iso
from sdwatch.system.log_events import LogEvent, bound


class Holds:
    """The holds of the lanes called `names`. `report` gets notices for people. Used by the main
    thread."""

    def __init__(
        self, spool: Spool, names: Iterable[str], *, clock: Clock, report: Callable[[Notice], None]
    ) -> None:
        self._notes = {name: HoldNote(spool.root, name, spool.option) for name in names}
        self._clock = clock
        self._report = report
        self._lasting = LastingStates()
        self._no_room: Held | None = None

    def clear(self) -> None:
        """Remove the notes that an earlier monitor left."""
        for note in self._notes.values():
            note.clear()

    def report(self, lanes: Sequence[Lane], everything: NoCall | None, edited: str = "") -> None:
        """Report the holds as they are now.

        `everything`: why no call may start on any lane, or None. `edited`: the config file, if it
        changed since the start. If a person has removed a lane's note, that lane is released.
        """
        held = {lane.name: lane.held for lane in lanes}  # once: it may end at any moment
        reasons = {name: hold and hold.hold_reason for name, hold in held.items()}
        now = self._clock.monotonic()
        for name, hold in (reasons | {"everything": everything}).items():
            with bound(event=LogEvent.HOLD, lane=name if name in held else None):
                if hold and (line := self._lasting.persists(name, hold.key, str(hold), now)):
                    too = f" ({config_edited(edited)})" if edited else ""
                    self._report(Notice(f"{name}: on hold: {line}{too}", Topic.ON_HOLD, name))
                elif not hold and self._lasting.is_over(name, now):
                    self._report(Notice(f"{name}: resumes", Topic.RESUMED, name))
        self._no_room = self._held_for_room(everything)
        for lane in lanes:
            note = self._notes[lane.name]
            if note.was_taken_away() and held[lane.name]:
                text = f"{lane.name}: its HOLD note was removed: trying again"
                with bound(event=LogEvent.HOLD, lane=lane.name):
                    self._report(Notice(text, subject=lane.name))
                lane.release()
            note.show(held[lane.name] or self._no_room, edited=edited)

    def finish(self, lanes: Sequence[Lane], *, keep: bool) -> None:
        """Remove the notes when the monitor ends. `keep`: leave those of lanes on hold, to be found
        afterwards."""
        for lane in lanes:
            held = lane.held or self._no_room
            if keep and held is not None:
                self._notes[lane.name].show(held, ended=True)
            else:
                self._notes[lane.name].clear()

    def _held_for_room(self, everything: NoCall | None) -> Held | None:
        """Return the hold of a full disk: it holds all lanes, and each lane's note says so. Its
        text stays as first reported, so no note is written whenever the number changes."""
        if everything is None or everything.key.code is not HoldCode.NO_ROOM:
            return None
        return self._no_room or Held(no_room(everything.text), iso(self._clock.wall()))


def held_longer_than(limit: float | None, lanes: Sequence[Lane], clock: Clock) -> HoldReason | None:
    """Return why all lanes are on hold if they have been so for more than `limit` seconds; None
    otherwise, or without a limit."""
    now = clock.wall()
    if limit is None or not lanes or not all(0 < lane.held_since < now - limit for lane in lanes):
        return None
    if (held := lanes[0].held) is None:
        return None
    if len(lanes) == 1:
        return held.hold_reason
    causes = "; ".join(f"{lane.name}: {lane.hold_reason}" for lane in lanes)
    return replace(held.hold_reason, cause=causes)
