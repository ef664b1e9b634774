"""Put times and the progress of a call into words, for several commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any


def progress_in_words(progress: Mapping[str, Any]) -> Iterator[str]:
    """Yield `step 12 of 20`, `60 %`, `0:42 left`, as far as the WebUI reports them. `progress`:
    of a run, from the monitor's status."""
    if "steps" in progress:
        yield f"step {progress['step']} of {progress['steps']}"
    if "percent" in progress:
        yield f"{progress['percent']} %"
    if "eta" in progress:
        yield f"{clock(progress['eta'])} left"


def clock(seconds: float) -> str:
    """Return seconds as minutes and seconds, with hours if there are any."""
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def local(at: object, otherwise: str = "?") -> str:
    """Return a time of a journal or log (UTC) as the clock on the wall shows it; `otherwise` for
    what cannot be read."""
    try:
        return f"{datetime.fromisoformat(str(at)).astimezone():%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return otherwise
