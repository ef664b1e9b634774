"""All holds, reported once each and then at growing intervals, and in a note for each lane."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sdwatch.clock import Clock, iso
from sdwatch.lane import Lane
from sdwatch.policy.hold_story import config_edited
from sdwatch.policy.lasting import Lasting
from sdwatch.policy.trouble import Held, no_room
from sdwatch.spool.archive import Spool
from sdwatch.spool.hold_note import HoldNote

NO_ROOM = "less than min_free"
"""In the reason for which everything is on hold while the spool's disk is full."""


class Holds:
    """Of the lanes called `names`. `say` gets lines for people. Used by the main thread."""

    def __init__(
        self, spool: Spool, names: Iterable[str], *, clock: Clock, say: Callable[[str], None]
    ) -> None:
        self._notes = {name: HoldNote(spool.root, name, spool.option) for name in names}
        self._clock = clock
        self._say = say
        self._lasting = Lasting()
        self._no_room: Held | None = None

    def clear(self) -> None:
        """Remove what an earlier monitor left."""
        for note in self._notes.values():
            note.clear()

    def tell(self, lanes: Sequence[Lane], everything: str, edited: str = "") -> None:
        """How it stands now. `everything`: why no call may begin anywhere, or ''. `edited`: the
        config file, where it has changed since the start. A note that a person has taken away
        releases its lane."""
        reasons = {lane.name: lane.hold_reason for lane in lanes} | {"everything": everything}
        now = self._clock.monotonic()
        for name, reason in reasons.items():
            if reason and (line := self._lasting.goes_on(name, reason, now)):
                too = f" ({config_edited(edited)})" if edited else ""
                self._say(f"{name}: on hold: {line}{too}")
            elif not reason and self._lasting.is_over(name, now):
                self._say(f"{name}: goes on")
        self._no_room = self._held_for_room(everything)
        for lane in lanes:
            note = self._notes[lane.name]
            if note.was_taken_away() and lane.hold_reason:
                self._say(f"{lane.name}: somebody took its HOLD note away: it is tried again")
                lane.release()
            note.show(lane.held or self._no_room, edited=edited)

    def end(self, lanes: Sequence[Lane], *, keep: bool) -> None:
        """The monitor ends. `keep`: on what it ended is to be found afterwards."""
        for lane in lanes:
            held = lane.held or self._no_room
            if keep and held is not None:
                self._notes[lane.name].show(held, ended=True)
            else:
                self._notes[lane.name].clear()

    def _held_for_room(self, reason: str) -> Held | None:
        """A full disk holds all lanes, and their notes say so: there is none of its own. It stays
        as it was first told, so that no note is written whenever the number changes."""
        if NO_ROOM not in reason:
            return None
        return self._no_room or Held(no_room(reason), iso(self._clock.wall()))
