"""Whether the WebUI generates for anybody, from its /progress while no call of ours runs."""

from __future__ import annotations

from typing import Any, Protocol

from sdwatch.errors import WebUIError
from sdwatch.system.clock import Clock


class Progress(Protocol):
    """A WebUI's progress. See SDWebUIClient."""

    def progress(self, timeout: float) -> dict[str, Any]: ...


class Occupancy:
    """Of one WebUI; `timeout`: seconds for each answer. Keeps the last position, and since when it
    has not moved."""

    def __init__(self, client: Progress, timeout: float, clock: Clock) -> None:
        self._client = client
        self._timeout = timeout
        self._clock = clock
        self._last: object = None
        self._since = 0.0  # on the monotonic clock

    @property
    def is_generating(self) -> bool:
        """Return whether /progress shows a generation, whether or not it advances."""
        return self._position() is not None

    def is_busy(self, *, still_counts_for: float = 0.0) -> bool:
        """Return whether the WebUI is busy. Only a generation that has advanced since the last
        check counts: a failed upscale leaves /progress set forever (measured). `still_counts_for`:
        seconds for which one without progress counts, too; math.inf for always."""
        before, self._last = self._last, self._position()
        now = self._clock.monotonic()
        if self._last is None:
            return False
        if self._last != before:
            self._since = now
            return True
        return now - self._since < still_counts_for

    def _position(self) -> object:
        """Return where a running generation is; None where none runs, or the WebUI does not
        answer."""
        try:
            progress = self._client.progress(self._timeout)
        except WebUIError:
            return None
        state = progress.get("state")
        running = isinstance(state, dict) and state.get("job")
        return (progress.get("progress"), state) if running else None
