"""Is the WebUI generating, for whoever it may be? Asked of /progress while no call of ours runs."""

from __future__ import annotations

from typing import Any, Protocol

from sdwatch.errors import WebUIError
from sdwatch.system.clock import Clock


class Progress(Protocol):
    """Where it stands. See SDWebUIClient."""

    def progress(self, timeout: float) -> dict[str, Any]: ...


class Occupancy:
    """Of one WebUI; `timeout` seconds for each answer. It remembers where it stood at the last
    look, and since when."""

    def __init__(self, client: Progress, timeout: float, clock: Clock) -> None:
        self._client = client
        self._timeout = timeout
        self._clock = clock
        self._last: object = None
        self._since = 0.0  # on the monotonic clock

    @property
    def is_generating(self) -> bool:
        """Whether a generation is to be seen now, be it one that moves or not."""
        return self._position() is not None

    def is_busy(self, *, still_counts_for: float = 0.0) -> bool:
        """Whether it is busy. Only what has moved since the last look is: a failed upscale leaves
        /progress set for ever (measured). `still_counts_for`: seconds for which what stands still
        counts, too; infinite for ever."""
        before, self._last = self._last, self._position()
        now = self._clock.monotonic()
        if self._last is None:
            return False
        if self._last != before:
            self._since = now
            return True
        return now - self._since < still_counts_for

    def _position(self) -> object:
        """Where a running generation is; None where none is, or it cannot be asked."""
        try:
            progress = self._client.progress(self._timeout)
        except WebUIError:
            return None
        state = progress.get("state")
        running = isinstance(state, dict) and state.get("job")
        return (progress.get("progress"), state) if running else None
