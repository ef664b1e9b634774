"""HOLD-<lane>.txt in the spool: why a lane is on hold, for people who see only the share.

It is the monitor's own file, written when the hold begins and removed when it ends; taken away by a
person it means: go on now. It is not called HOLD.txt, because on Windows and many shares that is
the person's own hold.txt, which holds everything.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sdwatch import disk
from sdwatch.clock import iso
from sdwatch.policy.printable import printable

_BEGIN = "HOLD-"


class HoldNote:
    """The note of the lane `name`, in the spool `root`."""

    def __init__(self, root: Path, name: str) -> None:
        self._path = root / f"{_BEGIN}{name}.txt"
        self._text = ""

    def show(self, reason: str, since: float) -> None:
        """Write that it is on hold since then (wall clock) for this reason; '' removes it. A share
        that is gone is no reason to fail."""
        text = _text(self._path.stem.removeprefix(_BEGIN), reason, since) if reason else ""
        if text == self._text:
            return
        with suppress(OSError):
            if text:
                disk.write(self._path, disk.encoded(text))
            else:
                disk.remove(self._path)
            self._text = text

    def was_taken_away(self) -> bool:
        """Whether a person removed it: the lane is to go on now."""
        try:
            gone = bool(self._text) and not self._path.exists() and self._path.parent.exists()
        except OSError:
            return False  # a share that is gone for the moment
        if gone:
            self._text = ""
        return gone

    def clear(self) -> None:
        """Remove what an earlier monitor left."""
        with suppress(OSError):
            disk.remove(self._path)


def notes_in(root: Path) -> list[Path]:
    """All such notes of a spool. Raises OSError."""
    return sorted(root.glob(f"{_BEGIN}*.txt"))


def _text(lane: str, reason: str, since: float) -> str:
    return f"""{printable(reason)}

The WebUI "{lane}" is on hold since {iso(since)} (UTC).
No job is lost, and none is spent on it: the jobs wait in inbox/ and in working/, and go on by
themselves when it is well again. sdwatch looks for that as often as its cool-down allows.

To have it tried now, delete this file, or run

    sdwatch resume

(a cool-down after a crash runs on all the same). More is in `sdwatch status`, and in the WebUI's
own output in the state folder, webui-{lane}/.
"""
