"""Watch events for the inbox: hints that say `scan now`, and which paths were renamed into it.

They are only hints: watchdog lost 7,003 of 30,000 files in one burst (measured). They only make a
job start sooner.
"""

from __future__ import annotations

import logging
import math
import queue
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from watchdog.events import (
    EVENT_TYPE_MOVED,
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver

from sdwatch import system
from sdwatch.system import disk
from sdwatch.system.links import FileIdentity
from sdwatch.system.log_events import LogEvent, about
from sdwatch.system.renames import identity_of

log = logging.getLogger("sdwatch.spool")

# It complains about its own threads when it is stopped, which helps nobody; and watchdog 7.1 warns
# on the terminal of each folder that was renamed within the inbox, as `sdwatch submit` does it.
logging.getLogger("watchdog").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"watchdog\.")

_EVENTS: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]


_AGAIN_AFTER_S = 3600.0
"""The same folder is watched again no more often: what a thread of watchdog held that ended by an
error is not given back."""


class InboxWatch(FileSystemEventHandler):
    """Watches `root`. `changed` says scan; `renamed_in` names what is whole. Both are called on a
    thread of the observer."""

    def __init__(
        self, root: Path, changed: Callable[[], None], renamed_in: Callable[[Path], None]
    ) -> None:
        self._root = root
        self._watched = system.long_path(root)
        self._changed = changed
        self._renamed_in = renamed_in
        self._observer: BaseObserver | None = None
        self._folder: FileIdentity | None = None  # that was watched last
        self._not_again_before = -math.inf

    def start(self) -> None:
        """Start to watch. A failure (too many watches, no thread left, a share) is logged, and the
        scans find everything without it."""
        self._folder = self._folder_now()
        try:
            self._observer = _make_observer()
            self._observer.schedule(self, str(self._watched), recursive=True, event_filter=_EVENTS)
            self._observer.start()
        except (OSError, queue.Empty, RuntimeError) as error:
            # queue.Empty: watchdog 7.1 on Windows, for a folder that it could not open within 2 s.
            why = disk.in_words(error)
            log.warning(
                "%s: no watch events (%s); the inbox is scanned",
                self._root,
                why,
                extra=about(LogEvent.WATCH_LOST),
            )
            self.stop()

    def keep(self, now: float) -> None:
        """Start again where it could not be started, has ended (with the folder, or because a
        thread of watchdog died: gorakhargosh/watchdog#701; 7.1 of a KeyError when events were lost
        and folders exchanged), or where another folder has the name now. `now`: of the monotonic
        clock."""
        folder = self._folder_now()
        if folder is None:
            return  # the scan says so
        if folder == self._folder and (self._is_alive() or now < self._not_again_before):
            return
        self._not_again_before = now + _AGAIN_AFTER_S
        if self._observer is not None:
            again = "%s: watch events have ended, and are asked for again"
            log.warning(again, self._root, extra=about(LogEvent.WATCH_LOST))
            self.stop()
        self.start()

    def _folder_now(self) -> FileIdentity | None:
        try:
            return identity_of(self._watched.stat())
        except OSError:
            return None

    def _is_alive(self) -> bool:
        if self._observer is None:
            return False
        reader = getattr(self._observer, "_inotify_fd", None)  # the thread that reads, on Linux
        threads = [self._observer, *self._observer.emitters, *([reader] if reader else [])]
        return all(thread.is_alive() for thread in threads)

    def stop(self) -> None:
        """Stop, and wait for all its threads."""
        if self._observer is None:
            return
        observer, self._observer = self._observer, None
        try:
            observer.stop()
        except KeyError as error:
            # watchdog 7.1 loses count where folders were exchanged; its thread ends all the same.
            log.warning(
                "%s: the watch was not ended cleanly: %r",
                self._root,
                error,
                extra=about(LogEvent.WATCH_LOST),
            )
        with suppress(RuntimeError):  # it never started
            observer.join()

    def dispatch(self, event: FileSystemEvent) -> None:
        """Handle an event of watchdog. What leaves the inbox, as in every claim, needs no scan."""
        if event.event_type == EVENT_TYPE_MOVED:
            target = str(event.dest_path or "")
            if not target:
                return  # renamed out
            with suppress(ValueError):  # not below the inbox: nothing that a scan would find
                self._renamed_in(self._root / Path(target).relative_to(self._watched))
        self._changed()


def _make_observer() -> BaseObserver:
    """Return the system's observer; on Linux one that distinguishes a rename into the inbox from a
    file that is created, without delay."""
    if sys.platform.startswith("linux"):
        from sdwatch.spool.watch_linux import ArrivalsObserver

        return ArrivalsObserver()
    from watchdog.observers import Observer

    return Observer()
