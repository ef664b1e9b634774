"""Messages to people who are away, sent by a thread for each address. Nothing waits for these."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sdwatch.policy.notify.notify_settings import NotifyConfig, targets_of
from sdwatch.policy.report.notice import Notice, Topic
from sdwatch.system.clock import Clock

if TYPE_CHECKING:
    from sdwatch.monitor.message_thread import MessageThread

STOP_LIMIT_S = 5.0
"""Seconds that a stop waits at most for what is pending."""

TOPICS = frozenset(
    {
        *(Topic.DONE, Topic.FAILED, Topic.CANCELLED, Topic.ON_HOLD, Topic.RESUMED),
        *(Topic.WORK_LEFT, Topic.QUEUE_EMPTY),
    }
)
_END_LIMIT_S = 0.5  # to end the process that sends


class Notifications:
    """Passes what happens to each target of `config`. `report`: gets a line when messages do not
    arrive: once, then at growing intervals, and when they do again. `how`: paces, and what
    delivers, where they are not the usual ones. Any thread may call `take`."""

    def __init__(
        self,
        config: NotifyConfig,
        clock: Clock,
        report: Callable[[str], None],
        **how: Any,
    ) -> None:
        self._threads: list[MessageThread] = []
        if targets := targets_of(config):
            from sdwatch.monitor.message_thread import MessageThread

            self._threads = [
                MessageThread(target, clock, report, config.prompts, **how) for target in targets
            ]

    def open(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def take(self, notice: Notice) -> None:
        """Note that something happened. Returns at once."""
        if notice.topic in TOPICS:
            for thread in self._threads:
                thread.events.put(notice)

    def status(self) -> list[dict[str, Any]]:
        """Return the targets that messages do not reach now, and why."""
        return [
            {"target": thread.target.name, **failing}
            for thread in self._threads
            if (failing := thread.failing)
        ]

    def close(self, hurry: threading.Event) -> None:
        """Send what is pending, for at most STOP_LIMIT_S and not once `hurry` is set; then drop
        it."""
        deadline = time.monotonic() + STOP_LIMIT_S
        for thread in self._threads:
            thread.events.put(None)
        for thread in self._threads:
            while thread.is_alive() and time.monotonic() < deadline and not hurry.is_set():
                thread.join(0.05)
        for thread in self._threads:
            thread.given_up.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_END_LIMIT_S)
