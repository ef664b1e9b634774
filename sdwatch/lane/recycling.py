"""The wear of one WebUI: what its calls have left in this generation, and when it is worn out.

A WebUI that is worn out is recycled before the next call: ended in order and started anew, which is
no crash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sdwatch.config import WebUIConfig
from sdwatch.policy.failure.reply_checks import Finding
from sdwatch.webui.http.option_leaks import OptionLeaks


class Recycling:
    """Of the WebUI of `config`; used by whoever has its permit. `read_rss`: bytes of memory that
    its whole tree holds now."""

    def __init__(
        self, config: WebUIConfig, option_leaks: OptionLeaks, read_rss: Callable[[], int]
    ) -> None:
        self.due = ""  # why, or ''; what is not ours never is, for it is left as it is
        self.rss = 0  # bytes, when it was last looked at
        self._config = config
        self._option_leaks = option_leaks
        self._read_rss = read_rss
        self.is_fresh = False  # started by us, and no job's call was sent to it since
        self._only_call: object = None  # the only one that was sent to it since, if so
        self._calls = 0

    def start_incarnation(self) -> None:
        """It starts anew, as good as new."""
        self.due, self._calls = "", 0
        self.is_fresh = self._config.command is not None
        self._only_call = None

    def before_call(self, payload: Mapping[str, Any], incarnation: int) -> None:
        """A POST is about to go out: what it overrides is looked up."""
        if self._config.undo_overrides:
            self._findings(self._option_leaks.before_call(payload, incarnation))

    def sending(self, call: object) -> bool:
        """It goes out: whether nothing but attempts of this `call`, told by identity, was sent to
        its incarnation, so that no other can have harmed that."""
        is_first = self.is_fresh or (self._only_call is call and call is not None)
        self.is_fresh, self._only_call = False, call if is_first else None
        self._calls += 1
        return is_first

    def after_call(self, incarnation: int) -> tuple[Finding, ...]:
        """The call is settled; what the WebUI kept of it, now undone."""
        return self._findings(self._option_leaks.undo(incarnation))

    def check_limits(self) -> None:
        """After a call: has this generation had all the calls, or all the memory, that it may?"""
        config = self._config
        if config.max_calls is not None and self._calls >= config.max_calls:
            self.make_due(f"it has made {self._calls} calls, and max_calls is {config.max_calls}")
        if config.max_rss is not None:
            self.sample_memory()
            if self.rss > config.max_rss:
                had, may = self.rss // 10**6, config.max_rss // 10**6
                self.make_due(f"it holds {had} MB of memory, and max_rss is {may} MB")

    def sample_memory(self) -> None:
        """For status."""
        self.rss = self._read_rss()

    def make_due(self, reason: str) -> None:
        """No call goes out before it is recycled."""
        if self._config.command is not None:
            self.due = self.due or reason

    def _findings(self, kept: tuple[list[str], list[str]]) -> tuple[Finding, ...]:
        undone, left = kept
        found = []
        if undone:
            words = f"the WebUI kept {', '.join(undone)} after the call; put back as it was"
            found.append(Finding("leak", words, facts=("undone", *undone)))
        if left:
            ours = self._config.command is not None
            how = "it is recycled" if ours else "it is not ours to restart"
            words = f"the WebUI kept {', '.join(left)} after the call, and cannot undo it; {how}"
            found.append(Finding("leak", words, facts=("left", *left)))
            self.make_due(f"it kept {', '.join(left)} of a job")
        return tuple(found)
