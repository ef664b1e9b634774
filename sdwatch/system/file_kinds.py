"""Error codes, attributes and kinds of files, the same on all systems."""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

HELD_CODES = frozenset([5, 32, 33])
"""ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION: virus scanner, indexer and
Explorer open new files daily, and let go of them a moment later (briefcase#1780,
bagit-python#191, golang#16882)."""

NOT_FOLLOWED = "is a link, and below the spool no link is followed"
"""The error for a link or junction where a folder or file of the spool should be."""


NOT_HERE = 0x1000 | 0x40000 | 0x400000
"""FILE_ATTRIBUTE_OFFLINE, _RECALL_ON_OPEN and _RECALL_ON_DATA_ACCESS ("File Attribute Constants",
Microsoft; winnt.h): the content of the file lies in a cloud or an archive, and reading it, with the
second one opening it, brings it here. A listing says so without touching the file."""


class EntryKind(Enum):
    """What an entry of a folder is."""

    FOLDER = auto()
    FILE = auto()
    LINK = auto()
    """A symbolic link, or a junction: whatever leads elsewhere."""
    PLACEHOLDER = auto()
    """A file whose content is not on this machine: OneDrive's "online-only"."""
    OTHER = auto()
    """A pipe, a socket, a device."""


def file_kind(attributes: int) -> EntryKind:
    """Return FILE or PLACEHOLDER for a plain file with these attributes of Windows."""
    return EntryKind.PLACEHOLDER if attributes & NOT_HERE else EntryKind.FILE


class Entry(NamedTuple):
    """One entry of a folder."""

    name: str
    kind: EntryKind
