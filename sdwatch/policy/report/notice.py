"""A notice for people who watch: one line, and a topic that decides how it is shown. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Topic(Enum):
    """What a notice is about."""

    OTHER = auto()
    DONE = auto()
    FAILED = auto()
    CANCELLED = auto()
    ON_HOLD = auto()
    RESUMED = auto()
    WORK_LEFT = auto()
    QUEUE_EMPTY = auto()
    WARNING = auto()


@dataclass(frozen=True)
class Notice:
    """One line for people. `subject`: the run or lane it is about, or which warning it is; '' for
    none. `place`: the folder in the spool to look into, '' for none."""

    text: str
    topic: Topic = Topic.OTHER
    subject: str = ""
    place: str = ""

    def __str__(self) -> str:
        return f"{self.text} -> {self.place}" if self.place else self.text

    def follows(self, earlier: Notice) -> bool:
        """Return whether it replaces an earlier notice: the same hold or warning again."""
        same = (self.topic, self.subject) == (earlier.topic, earlier.subject)
        return same and self.topic in (Topic.ON_HOLD, Topic.WARNING)


def config_edited(file: str) -> str:
    """Return the notice that the config file no longer is what sdwatch works with."""
    return f"{file} has changed since sdwatch started: restart sdwatch to apply it"
