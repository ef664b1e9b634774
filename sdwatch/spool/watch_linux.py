"""Use inotify so that renames into the inbox are reported at once. Linux only."""

from __future__ import annotations

from watchdog.observers.inotify import InotifyFullEmitter, InotifyObserver
from watchdog.observers.inotify_c import InotifyConstants


class ArrivalsObserver(InotifyObserver):
    """An observer with full events, without which a rename-in looks like a file being created."""

    def __init__(self) -> None:
        super().__init__(generate_full_events=True)
        self._emitter_class = _ArrivalsEmitter


class _ArrivalsEmitter(InotifyFullEmitter):
    """An emitter that leaves out renames away: watchdog keeps each for half a second, and all
    events after it, in case the other half of the rename follows; and every claim is one."""

    def get_event_mask_from_filter(self) -> int:  # type: ignore[override]  # 6 and 7 differ
        mask = super().get_event_mask_from_filter() or 0
        return mask & ~InotifyConstants.IN_MOVED_FROM
