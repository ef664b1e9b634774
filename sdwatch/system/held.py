"""What systems say of files, in numbers and words that are the same for all of them."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

HELD_CODES = frozenset([5, 32, 33])
"""ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION: virus scanner, indexer and
Explorer open new files daily, and let go of them a moment later (briefcase#1780,
bagit-python#191, golang#16882)."""

NOT_FOLLOWED = "is a link, and below the spool no link is followed"
"""Of a link, or a junction, where a folder or file of the spool should be."""


class Kind(Enum):
    """What an entry of a folder is."""

    FOLDER = auto()
    FILE = auto()
    LINK = auto()
    """A symbolic link, or a junction: whatever leads elsewhere."""
    OTHER = auto()
    """A pipe, a socket, a device."""


class Entry(NamedTuple):
    """One entry of a folder."""

    name: str
    kind: Kind
