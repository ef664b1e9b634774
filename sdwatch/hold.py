"""The hold of one lane: why nothing is sent to its WebUI, and what it takes to go on."""

from __future__ import annotations

from sdwatch.clock import Clock


class Hold:
    """`reason` is '' while there is none. Written by whoever has the WebUI's permit."""

    def __init__(self, clock: Clock) -> None:
        self.reason = ""
        self.since = 0.0  # on the wall clock; 0 while there is none
        self.until_idle = False  # nor while a generation is to be seen there
        self.to_be_proven = False  # a call found what no probe can see, so a canary must pass
        self._in_a_row = 0
        self._began_as = ""
        self._clock = clock

    def begin(self, reason: str, *, until_idle: bool = False, to_be_proven: bool = False) -> int:
        """A call, or a probe, found that it cannot be used: how often that was so in a row."""
        self._in_a_row += 1
        self.until_idle = until_idle
        self.to_be_proven = to_be_proven
        self._began_as = reason
        self.say(reason)
        return self._in_a_row

    def say(self, reason: str) -> None:
        """On hold for this reason, by itself or instead of another."""
        self.since = self.since or self._clock.wall()
        self.reason = reason

    def say_again(self) -> None:
        """What it began for is still so, whatever was said since."""
        self.say(self._began_as or self.reason)

    def release(self) -> None:
        """A person says that it is to go on, and has seen to it: a probe is enough."""
        self.until_idle = self.to_be_proven = False

    def end(self) -> None:
        """It goes on."""
        self.reason, self.since, self._began_as = "", 0.0, ""
        self.until_idle = self.to_be_proven = False

    def succeeded(self) -> None:
        """A call succeeded: the next hold is the first of its row."""
        self._in_a_row = 0
