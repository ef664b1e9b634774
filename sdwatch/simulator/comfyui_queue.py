"""ComfyUI's queue and history: in memory only, so that any death empties both.

Measured with ComfyUI 0.33.0, 783545f6. The queue is a heap of tuples, as there: two prompts with
the same number and id cannot be compared, which is an exception, and leaves both in it.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from sdwatch.simulator.damage import Damage

Item = tuple[float, str, dict[str, Any], dict[str, Any], list[str], Damage]
"""Number, prompt_id, prompt, extra_data, outputs to execute; and what strikes it, which no route
shows."""

_KEPT = 10_000


def shown(item: Item) -> list[Any]:
    """Return an item as /queue and /history have it."""
    return list(item[:5])


class PromptQueue:
    """Called from the threads of all requests and from the worker. `changed` is called after each
    change, `interrupt` sets the flag that running nodes look at."""

    def __init__(self, changed: Callable[[], None], interrupt: Callable[[], None]) -> None:
        self._changed = changed
        self._interrupt = interrupt
        self._lock = threading.RLock()
        self._not_empty = threading.Condition(self._lock)
        self._pending: list[Item] = []
        self._running: Item | None = None
        self._history: dict[str, dict[str, Any]] = {}
        self._flags: dict[str, Any] = {}

    def put(self, item: Item) -> None:
        """Add a prompt. Raises TypeError where it cannot be sorted; it is in there all the same."""
        with self._lock:
            heapq.heappush(self._pending, item)
            self._changed()
            self._not_empty.notify()

    def get(self) -> Item | None:
        """Wait for the next prompt, which then runs; None where a flag was set meanwhile."""
        with self._lock:
            self._not_empty.wait_for(lambda: self._pending or self._flags)
            if not self._pending:
                return None
            self._running = heapq.heappop(self._pending)
            self._changed()
            return self._running

    def finish(self, result: dict[str, Any]) -> None:
        """Move what runs to the history, with how it ended."""
        with self._lock:
            assert self._running is not None
            item, self._running = self._running, None
            if len(self._history) > _KEPT:
                del self._history[next(iter(self._history))]
            self._history[item[1]] = {"prompt": deepcopy(shown(item)), **result}
            self._changed()

    def contents(self) -> tuple[list[Item], list[Item]]:
        """Return what runs and what waits."""
        with self._lock:
            return ([self._running] if self._running else []), list(self._pending)

    def remaining(self) -> int:
        """Return how many wait or run."""
        running, pending = self.contents()
        return len(running) + len(pending)

    def history(self, prompt_id: str | None = None) -> dict[str, dict[str, Any]]:
        """Return all that ended, or the one with this id, by id."""
        with self._lock:
            if prompt_id is None:
                return dict(self._history)
            return {i: h for i, h in self._history.items() if i == prompt_id}

    def clear(self) -> None:
        with self._lock:
            self._pending.clear()
            self._changed()

    def remove(self, prompt_id: str) -> bool:
        """Take one that waits out, without a trace: whether it was there."""
        with self._lock:
            found = next((item for item in self._pending if item[1] == prompt_id), None)
            if found is None:
                return False
            self._pending = [item for item in self._pending if item is not found]
            self._pending.sort(key=lambda item: item[:2])
            self._changed()
            return True

    def interrupt_running(self, prompt_id: str) -> bool:
        """Interrupt this prompt, if it is the one that runs: whether it is."""
        with self._lock:
            if self._running is None or self._running[1] != prompt_id:
                return False
            self._interrupt()
            return True

    def forget(self, prompt_ids: list[str] | None) -> None:
        """Remove these from the history; all of it for None."""
        with self._lock:
            for each in list(self._history) if prompt_ids is None else prompt_ids:
                self._history.pop(each, None)

    def set_flag(self, name: str, value: Any) -> None:
        """Leave the worker a message for when it is idle."""
        with self._lock:
            self._flags[name] = value
            self._not_empty.notify()

    def take_flags(self) -> dict[str, Any]:
        with self._lock:
            flags, self._flags = self._flags, {}
            return flags
