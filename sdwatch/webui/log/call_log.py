"""Follow what a WebUI prints during one call, and wait for the rest after a reply.

Real servers answer a 500 first and print its traceback then (measured with Forge dfdcbab6: complete
0.8 to 11.5 ms after the client had the reply).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from sdwatch.errors import WebUIError
from sdwatch.policy.failure.error_lines import error_blocks, without_own_failures
from sdwatch.policy.failure.tracebacks import Raised, may_follow, raised_by, tracebacks, without
from sdwatch.policy.lane.turn import TRACEBACK_WAIT
from sdwatch.system.clock import Clock
from sdwatch.webui.log.follower import MOST_BEHIND, POLL_BYTES, LogFollower
from sdwatch.webui.log.log_lines import LogLine, last_frames
from sdwatch.webui.log.log_reader import LOCAL, LogReader

_STEP = 0.005
_QUIET = 0.02
"""Seconds without a line after which a traceback is complete that the reply does not name: it may
be the first of a chain, whose next one follows."""

_OWED_FOR = 60.0
"""Seconds for which a missing traceback is expected in the logs of later calls."""

_MOST_LINES = 2000
_MOST_PINNED = 400


@dataclass(frozen=True)
class _Owed:
    raised: Raised
    until: float


class CallLog:
    """Follows the logs at `paths` from now on, or from these `offsets` (in bytes). `before`: the
    log of the previous call on the same process; a traceback that it still owes is not this call's.
    `worker_ends`: see Kind. `reader`: a log that it cannot read in time says nothing until then."""

    def __init__(
        self,
        paths: tuple[Path, ...],
        clock: Clock,
        before: CallLog | None = None,
        worker_ends: str = "",
        offsets: tuple[int, ...] = (),
        reader: LogReader = LOCAL,
    ) -> None:
        self._worker_ends = worker_ends
        self._clock = clock
        self._reader = reader
        self._followers: list[LogFollower] = reader.read(
            lambda: [LogFollower(p, offset=at) for p, at in zip_longest(paths, offsets) if p], []
        )
        self._reading = threading.Lock()  # several threads of the lane read it
        self._lock = threading.Lock()  # of the lines; never held while something is read
        self._pinned: list[str] = []
        self._lines: list[LogLine] = []
        self._read = 0  # lines so far, including dropped ones
        self._owed = before.owed() if before else ()
        self._failed: _Owed | None = None

    def activity(self) -> int:
        """Return the lines and bar movements so far; only ever grows."""
        return sum(follower.activity() for follower in self._followers)

    def poll(self) -> None:
        """Read new output."""
        self._reader.read(self._poll, None)

    def _poll(self) -> None:
        with self._reading:
            new = [line for follower in self._followers for line in follower.poll_lines()]
            with self._lock:
                bars: list[LogLine] = []  # at the end: real steps take longer than a poll
                while self._lines and self._lines[-1].bar is not None:
                    bars.insert(0, self._lines.pop())
                self._lines += last_frames([*bars, *new])
                self._read += len(new)
                if len(self._lines) > 2 * _MOST_LINES:
                    self._pin()

    def lines(self) -> tuple[str, ...]:
        """Return what the WebUI wrote of this call, oldest first: of a flood the end, and the
        tracebacks before it. What our own questions caused is left out."""
        lines, _ = without(self._all(), [each.raised for each in self._owed])
        return tuple(without_own_failures(lines))

    def says_that_worker_ended(self) -> bool:
        """Return whether the thread that generates has ended, as far as the log says."""
        ends = self._worker_ends
        return bool(ends) and any(ends in line for line in self.lines())

    def wait_for_traceback(self, error: WebUIError, is_over: Callable[[float], bool]) -> None:
        """Wait until the log has the complete traceback of a call that failed by `error`, for at
        most TRACEBACK_WAIT seconds. `is_over`: waits so many seconds, and returns whether to stop
        waiting."""
        if not self._followers or not may_follow(error):
            return
        raised = raised_by(error)
        now = self._clock.monotonic()
        deadline, quiet_from, heard, seen = now + TRACEBACK_WAIT, now, False, -1
        while True:
            self.poll()
            now = self._clock.monotonic()
            if self._read != seen:
                seen, quiet_from, heard = self._read, now, self._has_that_of(raised)
            if (heard and (raised.kind or now - quiet_from >= _QUIET)) or now >= deadline:
                break
            if is_over(_STEP):
                heard = self._has_that_of(raised)
                break
        if not heard and raised.is_printed:
            self._failed = _Owed(raised, now + _OWED_FOR)

    def owed(self) -> tuple[_Owed, ...]:
        """Return failed calls whose tracebacks have not come yet."""
        now = self._clock.monotonic()
        all_owed = [*self._owed, *([self._failed] if self._failed else [])]
        _, left = without(self._all(), [each.raised for each in all_owed])
        still: list[_Owed] = []
        for each in all_owed:
            if each.raised in left and each.until > now:
                left.remove(each.raised)
                still.append(each)
        return tuple(still)

    def _has_that_of(self, raised: Raised) -> bool:
        return any(raised.fits(found) for found in tracebacks(self.lines()))

    def _all(self) -> tuple[str, ...]:
        self.poll()
        for _ in range(MOST_BEHIND // POLL_BYTES):  # a flood may continue meanwhile
            if not any(follower.is_behind for follower in self._followers):
                break
            self.poll()
        with self._lock:
            return (*self._pinned, *(line.text for line in self._lines))

    def _pin(self) -> None:
        """Drop the oldest lines, but no traceback, not even in part."""
        texts = [line.text for line in self._lines]
        cut = len(texts) - _MOST_LINES
        blocks = [block for block in error_blocks(texts) if block.traceback]
        cut = min([cut, *(b.start for b in blocks if b.start < cut < b.end)])
        kept = [line for b in blocks if b.end <= cut for line in texts[b.start : b.end]]
        self._pinned = [*self._pinned, *kept][-_MOST_PINNED:]
        del self._lines[:cut]
