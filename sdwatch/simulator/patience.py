"""Files that a virus scanner holds for a moment on Windows: the simulator must not die of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_HELD_FOR = 2.0
_PAUSE = 0.02


def patiently(effect: Callable[[], T]) -> T:
    """Return what `effect` returns; try it again for two seconds while the file is held. Raises
    OSError."""
    until = time.monotonic() + _HELD_FOR
    while True:
        try:
            return effect()
        except PermissionError as error:
            is_windows = os.name == "nt" or getattr(error, "winerror", None)
            if not is_windows or time.monotonic() > until:
                raise
        time.sleep(_PAUSE)
