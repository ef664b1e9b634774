"""Write HOLD-<lane>.txt: why a lane is on hold, for people who see only the share.

It is the monitor's own file, written when the hold starts and removed when it ends. A person who
removes it asks for a check now. After `run --once` ended on a hold it stays until the next start.
It is not called HOLD.txt, because on Windows and many shares that is the person's own hold.txt,
which holds everything.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from sdwatch.system import disk

if TYPE_CHECKING:
    from sdwatch.policy.failure.hold_reason import Held

_PREFIX = "HOLD-"


class HoldNote:
    """The note of the lane `name`, in the spool `root`. `option`: what commands need to be typed
    anywhere, see policy/report/command.py."""

    def __init__(self, root: Path, name: str, option: str = "") -> None:
        # Who only lists notes needs no words; they are loaded before a lane is on hold, because an
        # update may replace them until then.
        from sdwatch.policy.report.hold_text import hold_text

        self._text_of = hold_text
        self._path = root / f"{_PREFIX}{name}.txt"
        self._name = name
        self._option = option
        self._shown: tuple[Held, bool, str] | None = None

    def show(self, held: Held | None, *, ended: bool = False, edited: str = "") -> None:
        """Write why the lane is on hold; None removes the note. `ended`: sdwatch ends, and the note
        stays; `edited`: the config file, if it has changed since. Never raises: the share may be
        gone."""
        note = (held, ended, edited) if held is not None else None
        if note == self._shown:
            return
        with suppress(OSError):
            if held is not None:
                text = self._text_of(self._name, held, self._option, ended=ended, edited=edited)
                disk.write(self._path, disk.encoded(text))
            else:
                disk.remove(self._path)
            self._shown = note

    def was_taken_away(self) -> bool:
        """Return whether a person removed it, which asks for a check of the lane now."""
        if self._shown is None:
            return False
        try:
            gone = disk.is_missing(self._path)
        except OSError:
            return False  # a share that is gone for the moment
        if gone:
            self._shown = None
        return gone

    def clear(self) -> None:
        """Remove what an earlier monitor left."""
        with suppress(OSError):
            disk.remove(self._path)


def notes_in(root: Path) -> list[Path]:
    """Return all such notes of a spool. Raises OSError."""
    return sorted(root.glob(f"{_PREFIX}*.txt"))
