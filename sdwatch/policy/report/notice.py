"""What happened, for people who watch: a topic that decides how it is shown, and a line. Pure."""

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
    WARNING = auto()


@dataclass(frozen=True)
class Notice:
    """`text`: for people; `subject`: which run or lane it is about, or of a warning, which one it
    is; '' for none. `place`: where in the spool it lies, '' for nowhere."""

    text: str
    topic: Topic = Topic.OTHER
    subject: str = ""
    place: str = ""

    def __str__(self) -> str:
        return f"{self.text} -> {self.place}" if self.place else self.text

    def follows(self, earlier: Notice) -> bool:
        """Whether it takes the place of an earlier one: the same hold or warning once more."""
        same = (self.topic, self.subject) == (earlier.topic, earlier.subject)
        return same and self.topic in (Topic.ON_HOLD, Topic.WARNING)
