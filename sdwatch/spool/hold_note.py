"""HOLD-<lane>.txt in the spool: why a lane is on hold, for people who see only the share.

It is the monitor's own file, written when the hold begins and removed when it ends; taken away by a
person it means: go on now. What `run --once` ended on stays until the next start. It is not called
HOLD.txt, because on Windows and many shares that is the person's own hold.txt, which holds
everything.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sdwatch.policy.failure.hold_reason import Held
from sdwatch.policy.report.hold_note import hold_text
from sdwatch.system import disk

_BEGIN = "HOLD-"


class HoldNote:
    """The note of the lane `name`, in the spool `root`. `option`: what commands need to be typed
    anywhere, see policy/command.py."""

    def __init__(self, root: Path, name: str, option: str = "") -> None:
        self._path = root / f"{_BEGIN}{name}.txt"
        self._name = name
        self._option = option
        self._shown: tuple[Held, bool, str] | None = None

    def show(self, held: Held | None, *, ended: bool = False, edited: str = "") -> None:
        """Write why it is on hold; None removes it. `ended`: sdwatch ends, and the note stays;
        `edited`: the config file, where it has changed since. A share that is gone is no reason to
        fail."""
        note = (held, ended, edited) if held is not None else None
        if note == self._shown:
            return
        with suppress(OSError):
            if held is not None:
                text = hold_text(self._name, held, self._option, ended=ended, edited=edited)
                disk.write(self._path, disk.encoded(text))
            else:
                disk.remove(self._path)
            self._shown = note

    def was_taken_away(self) -> bool:
        """Whether a person removed it: the lane is to go on now."""
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
    """All such notes of a spool. Raises OSError."""
    return sorted(root.glob(f"{_BEGIN}*.txt"))
