"""A moment, as all decisions about a lane measure time. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Instant:
    """A moment on both clocks: seconds since 1970, seconds since boot, and which boot it was."""

    wall: float
    boot: float
    boot_id: str
