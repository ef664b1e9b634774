"""Names of the empty files by which people control a spool, in any case: Windows users type `Hold`
for `hold`, and where Explorer hides extensions their `castle.yaml.cancel` ends in `.txt`. Pure."""

from __future__ import annotations

HOLD = "hold"
CANCEL = "cancel"
CANCEL_EXTENSION = ".cancel"
TEXT = ".txt"


def is_hold(name: str) -> bool:
    """Whether a file of this name in the spool's root holds everything."""
    return name.lower() in (HOLD, HOLD + TEXT)


def is_cancel(name: str) -> bool:
    """Whether a file of this name in a run's folder cancels the run."""
    return name.lower() in (CANCEL, CANCEL + TEXT)


def markers_of(job: str) -> tuple[str, str]:
    """What a file beside the waiting job `job` may be called, in any case, to cancel it."""
    return job + CANCEL_EXTENSION, job + CANCEL_EXTENSION + TEXT


def cancelled_by(marker: str) -> str:
    """The lower-case name of the job that a file of this name cancels; "" for all other files."""
    low = marker.lower().removesuffix(TEXT)
    return low.removesuffix(CANCEL_EXTENSION) if low.endswith(CANCEL_EXTENSION) else ""
