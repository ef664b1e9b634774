"""When a WebUI is due for recycling because of what its calls have left in this incarnation.

It is recycled before the next call: stopped cleanly and started again. This is no crash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sdwatch.config import WebUIConfig
from sdwatch.policy.failure.reply_checks import Finding
from sdwatch.webui.http.option_leaks import OptionLeaks


class Recycling:
    """Of the WebUI of `config`. Used by whoever has its permit. `read_rss`: returns the bytes of
    memory that its process tree holds now."""

    def __init__(
        self, config: WebUIConfig, option_leaks: OptionLeaks, read_rss: Callable[[], int]
    ) -> None:
        self.due = ""  # why, or ''; always '' for an external WebUI
        self.rss = 0  # bytes, at the last sample
        self._config = config
        self._option_leaks = option_leaks
        self._read_rss = read_rss
        self.is_fresh = False  # sdwatch started it, and no job's call was sent to it
        self._only_call: object = None  # the only one sent to this incarnation, if so
        self._calls = 0

    def start_incarnation(self) -> None:
        """Forget the calls of the last incarnation."""
        self.due, self._calls = "", 0
        self.is_fresh = self._config.command is not None
        self._only_call = None

    def before_call(self, payload: Mapping[str, Any], incarnation: int) -> None:
        """Note what a call overrides, before it is sent."""
        if self._config.undo_overrides:
            self._findings(self._option_leaks.before_call(payload, incarnation))

    def sending(self, call: object) -> bool:
        """Count a call. Return whether only attempts of this same `call` object were sent to its
        incarnation, so that no other call can have harmed it."""
        is_first = self.is_fresh or (self._only_call is call and call is not None)
        self.is_fresh, self._only_call = False, call if is_first else None
        self._calls += 1
        return is_first

    def after_call(self, incarnation: int) -> tuple[Finding, ...]:
        """Undo what the WebUI kept of the call, and return the findings."""
        return self._findings(self._option_leaks.undo(incarnation))

    def check_limits(self) -> None:
        """Make recycling due if this incarnation has reached `max_calls` or `max_rss`."""
        config = self._config
        if config.max_calls is not None and self._calls >= config.max_calls:
            self.make_due(f"it has made {self._calls} calls, and max_calls is {config.max_calls}")
        if config.max_rss is not None:
            self.sample_memory()
            if self.rss > config.max_rss:
                had, may = self.rss // 10**6, config.max_rss // 10**6
                self.make_due(f"it holds {had} MB of memory, and max_rss is {may} MB")

    def sample_memory(self) -> None:
        """Sample the memory, for `status`."""
        self.rss = self._read_rss()

    def make_due(self, reason: str) -> None:
        """Make recycling due, for this reason: no call goes out before it."""
        if self._config.command is not None:
            self.due = self.due or reason

    def _findings(self, kept: tuple[list[str], list[str]]) -> tuple[Finding, ...]:
        undone, left = kept
        found = []
        if undone:
            words = f"the WebUI kept {', '.join(undone)} after the call; restored"
            found.append(Finding("leak", words, facts=("undone", *undone)))
        if left:
            ours = self._config.command is not None
            how = (
                "it is recycled" if ours else "sdwatch does not manage it, so it cannot restart it"
            )
            words = f"the WebUI kept {', '.join(left)} after the call and cannot restore it; {how}"
            found.append(Finding("leak", words, facts=("left", *left)))
            self.make_due(f"it kept {', '.join(left)} of a job")
        return tuple(found)
