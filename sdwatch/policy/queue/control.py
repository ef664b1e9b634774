"""The names of the files by which people control a spool, in upper or lower case: Windows
users type `Hold` for `hold`, and where Explorer hides extensions their `castle.yaml.cancel` ends in
`.txt`. Pure."""

from __future__ import annotations

import re

HOLD = "hold"
FREE = "free: true\n"
STOP = "stop"
CANCEL = "cancel"
CANCEL_EXTENSION = ".cancel"
TEXT = ".txt"
_MARKER_ENDINGS = (CANCEL_EXTENSION, CANCEL_EXTENSION + TEXT)


def is_hold(name: str) -> bool:
    """Return whether a file of this name in the spool's root holds everything."""
    return name.lower() in (HOLD, HOLD + TEXT)


def frees_gpu(text: str) -> bool:
    """Return whether the text in a hold file asks to free the GPU: a line `free: true`."""
    return _FREE.search(text) is not None


_FREE = re.compile(r"^[ \t]*free[ \t]*:[ \t]*true[ \t\r]*$", re.IGNORECASE | re.MULTILINE)


def is_stop(name: str) -> bool:
    """Return whether a file of this name in the spool's root asks its monitor to stop."""
    return name.lower() in (STOP, STOP + TEXT)


def is_cancel(name: str) -> bool:
    """Return whether a file of this name in a run's folder cancels the run."""
    return name.lower() in (CANCEL, CANCEL + TEXT)


def markers_of(job: str) -> tuple[str, str]:
    """Return what a file beside the waiting job `job` may be called, in any case, to cancel it."""
    return job + CANCEL_EXTENSION, job + CANCEL_EXTENSION + TEXT


def cancelled_by(marker: str) -> str:
    """Return the lower-case name of the job that a file of this name cancels; "" for all other
    files."""
    low = marker.lower()
    if not low.endswith(_MARKER_ENDINGS):  # as nearly all
        return ""
    return low.removesuffix(TEXT).removesuffix(CANCEL_EXTENSION)
