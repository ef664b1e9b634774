"""How many generated cases a test tries: few with all the other tests, and SDWATCH_EXAMPLES times
as many where somebody has the time (`just thorough`)."""

from __future__ import annotations

import os

from hypothesis import settings

_TIMES = int(os.environ.get("SDWATCH_EXAMPLES", "1"))


def examples(number: int) -> settings:
    """Return the settings of a test that tries so many cases, or so many times as many."""
    return settings(max_examples=number * _TIMES)
