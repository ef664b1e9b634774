"""What a message to people says. Pure: values in, text out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sdwatch.policy.failure.lasting import in_words
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.policy.report.notice import Notice

MOST_NAMED = 3
"""Failed jobs that a message names; the others are counted."""

_LONGEST_LINE = 300
_LONGEST_PROMPT = 100


class Matter(StrEnum):
    """What a message is about. These are in the JSON that a webhook gets."""

    FAILED = "failed"
    ON_HOLD = "on_hold"
    BACK = "back"
    QUEUE_EMPTY = "queue_empty"
    TEST = "test"


@dataclass(frozen=True)
class Counts:
    """Jobs since the queue was last reported as empty."""

    done: int = 0
    failed: int = 0
    cancelled: int = 0

    def __bool__(self) -> bool:
        return bool(self.done or self.failed or self.cancelled)

    def __str__(self) -> str:
        more = f", {self.cancelled} cancelled" if self.cancelled else ""
        return f"{self.done} done, {self.failed} failed{more}"


NONE = Counts()


@dataclass(frozen=True)
class LaneHold:
    """A lane that is on hold, or `everything`. `text`: a line with the reason; `times`: how often
    it came on hold since the last message."""

    name: str
    text: str
    times: int = 1


@dataclass(frozen=True)
class LaneBack:
    """A lane that is back. `lasted`: seconds that it was on hold."""

    name: str
    lasted: float


@dataclass(frozen=True)
class Message:
    """One message. `failures`: how many jobs failed since the last one; `named` are those
    shown; `emptied`: the counts of a queue that is empty now."""

    counts: Counts = NONE
    failures: int = 0
    named: tuple[Notice, ...] = ()
    holds: tuple[LaneHold, ...] = ()
    back: tuple[LaneBack, ...] = ()
    emptied: bool = False
    test: bool = False

    @property
    def about(self) -> tuple[Matter, ...]:
        """Return what it is about; empty if there is nothing to say."""
        parts = (
            (Matter.FAILED, self.failures),
            (Matter.ON_HOLD, self.holds),
            (Matter.BACK, self.back),
            (Matter.QUEUE_EMPTY, self.emptied),
            (Matter.TEST, self.test),
        )
        return tuple(about for about, there in parts if there)


def title_of(message: Message, host: str) -> str:
    """Return one short line, such as `sdwatch on render1: 3 jobs failed`."""
    parts = ["test message"] if message.test else []
    if message.failures:
        parts.append(_jobs(message.failures, "failed"))
    parts += [f"{hold.name} on hold" for hold in message.holds]
    parts += [f"{lane.name} back again" for lane in message.back]
    if message.emptied:
        parts.append(f"queue empty ({message.counts})")
    return _harmless(f"sdwatch on {host}: {', '.join(parts)}")


def text_of(message: Message, prompts: Mapping[str, str] | None = None) -> str:
    """Return the lines of a message. `prompts`: by run_id, where people asked for them."""
    return "\n".join(map(_harmless, _lines(message, prompts or {})))


def json_of(
    message: Message, host: str, prompts: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return what a webhook gets: the text for people, and the same as values for programs."""
    return {
        "app": "sdwatch",
        "host": host,
        "title": title_of(message, host),
        "text": text_of(message, prompts),
        "about": [str(about) for about in message.about],
        "new_failures": message.failures,
        "done": message.counts.done,
        "failed": message.counts.failed,
        "cancelled": message.counts.cancelled,
        "on_hold": [hold.name for hold in message.holds],
        "back": [lane.name for lane in message.back],
    }


def _lines(message: Message, prompts: Mapping[str, str]) -> Sequence[str]:
    lines = ["This is a test: messages of sdwatch arrive here."] if message.test else []
    for hold in message.holds:
        often = f" ({hold.times} times since the last message)" if hold.times > 1 else ""
        lines.append(f"{hold.text}{often}")
    lines += [f"{one.name}: works again, after {in_words(one.lasted)}" for one in message.back]
    for failed in message.named:
        lines.append(failed.text)
        if prompt := prompts.get(failed.subject):
            lines.append(f"  prompt: {' '.join(prompt.split())[:_LONGEST_PROMPT]}")
    if more := message.failures - len(message.named):
        lines.append(f"{_jobs(more, 'failed')} besides; `sdwatch list` has them all")
    if message.failures or message.emptied:
        lines.append(f"{'the queue is empty' if message.emptied else 'so far'}: {message.counts}")
    return lines


def _jobs(number: int, what: str) -> str:
    return f"{number} {'job' if number == 1 else 'jobs'} {what}"


def _harmless(line: str) -> str:
    """Return a line that calls nobody in a chat: a job file may be called @everyone.yaml, or <@U1>.
    A sign without width comes between."""
    cut = line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 1]}…"
    return re.sub(r"(?<=[@<])(?=\S)", "\u200b", printable_text(cut))
