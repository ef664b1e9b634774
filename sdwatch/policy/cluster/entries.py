"""The entries of a run's log: what the dispatcher and the boxes say of a run that was handed
over.

A log is one subject of one stream at the broker. Each entry is appended by compare-and-set: it
names the sequence of the last entry that its writer has read, and is refused if there is a newer
one. So a log has one order, which all sides see, and nobody writes to it without knowing what it
says.

Everything that comes from the broker is foreign: `entry_of` returns None for what is not an entry.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, TypeAlias

MOST_EPOCHS = 10**6
"""A run that was handed over so often is not sdwatch's."""

MOST_INLINE = 64 << 10
"""Bytes of lines that an entry may have in it."""

_SHA256 = re.compile("[0-9a-f]{64}")
_DEVICE = re.compile(r"(?i:con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])")
"""What Windows takes for a device, with any ending."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class BoxEnd(StrEnum):
    """How a run ended on a box. REFUSED: the box cannot do this job, and no call was sent.
    GIVEN_BACK: it has not ended, and its WebUIs are on hold: another box may continue."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    GIVEN_BACK = "given back"


class TakenFor(StrEnum):
    """Why a run was taken back from a box."""

    LEASE_LOST = "lease lost"
    CANCELLED = "cancelled"
    DRAINED = "drained"
    STUCK = "stuck"
    REFUSED = "refused"
    GIVEN_BACK = "given back"
    LOG_LOST = "log lost"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file at the broker. `name`: its path in the run's folder, with forward slashes;
    `sha256` in hex, under which it is stored; `size` in bytes; `mtime_ns` of a job's file, which
    the job's fingerprint has in it, 0 for others."""

    name: str
    sha256: str
    size: int
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True)
class Granted:
    """The dispatcher hands the run over to `box`, in this epoch. `manifest`: sha256 of the stored
    list of the run's files so far (`files_to_bytes`)."""

    epoch: int
    box: str
    manifest: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The box has the run's folder in its own spool."""

    epoch: int


@dataclass(frozen=True, slots=True)
class LinesStored:
    """Lines of the box's journal; `first`: the number of the first one in this epoch. `files`:
    images, other files and evidence that they name, stored before. `text`: sha256 of the object
    that holds `count` lines; `inline`: the same lines, where they are few."""

    epoch: int
    first: int
    count: int
    text: str
    files: tuple[StoredFile, ...] = ()
    inline: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The run has ended on the box. `lines`: how many lines it has stored in this epoch; `files`:
    evidence, and with REFUSED or FAILED what explains it; `webui`: on which WebUI it was made."""

    epoch: int
    outcome: BoxEnd
    lines: int
    files: tuple[StoredFile, ...] = ()
    webui: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TakenBack:
    """The dispatcher takes the run back: nothing that the box appends after this counts."""

    epoch: int
    because: TakenFor


@dataclass(frozen=True, slots=True)
class Closed:
    """The dispatcher has published the run. The box may remove its copy."""

    epoch: int


Entry: TypeAlias = Granted | Accepted | LinesStored | Ended | TakenBack | Closed

_KINDS: dict[str, type[Any]] = {
    "granted": Granted,
    "accepted": Accepted,
    "stored": LinesStored,
    "ended": Ended,
    "taken_back": TakenBack,
    "closed": Closed,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}

_KEYS = {kind: {field.name: field.name for field in fields(kind)} for kind in _NAMES}
"""The key of each field at the broker."""
_KEYS[LinesStored]["files"] = "images"  # a box of an earlier version may write or read it


def to_bytes(entry: Entry) -> bytes:
    """Return an entry as it is appended."""
    keys = _KEYS[type(entry)]
    given = {keys[name]: value for name, value in asdict(entry).items()}
    return json.dumps({"entry": _NAMES[type(entry)], **given}).encode()


def entry_of(data: bytes) -> Entry | None:
    """Return the entry; None for what sdwatch never appends."""
    try:
        given = json.loads(data)
        kind = _KINDS[given.pop("entry")]
        names = {key: name for name, key in _KEYS[kind].items()}
        made: Entry = kind(**{names[key]: _READ[key](value) for key, value in given.items()})
        return made
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def files_to_bytes(files: Sequence[StoredFile]) -> bytes:
    """Return a list of files as it is stored."""
    return json.dumps([asdict(file) for file in files]).encode()


def files_of(data: bytes) -> tuple[StoredFile, ...]:
    """Return the list. Raises ValueError for what is none."""
    try:
        return _files(json.loads(data))
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"no list of files: {error!r}") from error


def is_plain_path(name: str) -> bool:
    """Return whether a file of this name, written below a folder, stays in it, on all systems."""
    parts = name.split("/")
    return len(name) <= 1000 and all(_is_plain_part(part) for part in parts)


def _is_plain_part(part: str) -> bool:
    if part in ("", ".", "..") or part != part.strip() or part.endswith("."):
        return False
    if _DEVICE.fullmatch(part.partition(".")[0].rstrip()):
        return False
    return not any(
        sign in '\\:*?"<>|' or ord(sign) < 32 or "\ud800" <= sign <= "\udfff" for sign in part
    )


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 62:
        raise ValueError(f"no number: {value!r}")
    return value


def _epoch(value: object) -> int:
    if not 0 < _number(value) <= MOST_EPOCHS:
        raise ValueError(f"no epoch: {value!r}")
    return _number(value)


def _digest(value: object) -> str:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ValueError(f"no sha256: {value!r}")
    return value


def _inline(value: object) -> str:
    if not isinstance(value, str) or len(value) > MOST_INLINE or not value.isascii():
        raise ValueError("no lines")
    return value


def is_box_name(value: str) -> bool:
    """Return whether a box may have this name: letters, digits, `-` and `_`, at most 63 of them,
    since it is a part of subjects."""
    return _NAME.fullmatch(value) is not None


def box_name(value: object) -> str:
    """Return a box's name. Raises ValueError for what is none."""
    if not isinstance(value, str) or not is_box_name(value):
        raise ValueError(f"no name of a box: {value!r}")
    return value


def _file(given: Mapping[str, Any]) -> StoredFile:
    name = given["name"]
    if not isinstance(name, str) or not is_plain_path(name):
        raise ValueError(f"no path inside a run's folder: {name!r}")
    return StoredFile(
        name,
        _digest(given["sha256"]),
        _number(given["size"]),
        _number(given.get("mtime_ns", 0)),
    )


def _files(given: object) -> tuple[StoredFile, ...]:
    if not isinstance(given, list):
        raise ValueError("no list of files")
    return tuple(map(_file, given))


def _webui(given: object) -> Mapping[str, Any] | None:
    if given is not None and not isinstance(given, dict):
        raise ValueError("not what a WebUI is")
    if given is None:
        return None
    return {key: said for key, said in given.items() if isinstance(said, str | int | float)}


_READ: dict[str, Any] = {
    "epoch": _epoch,
    "box": box_name,
    "manifest": _digest,
    "files": _files,
    "first": _number,
    "count": _number,
    "text": _digest,
    "lines": _number,
    "images": _files,
    "inline": _inline,
    "outcome": BoxEnd,
    "webui": _webui,
    "because": TakenFor,
}
