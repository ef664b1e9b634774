"""Which lines of a box's journal go to the shared spool, and which files they name. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sdwatch.errors import JournalError
from sdwatch.policy.cluster.entries import is_plain_path
from sdwatch.policy.failure.earlier_records import renamed
from sdwatch.policy.failure.ledger import read_ledger

FORWARDED = frozenset(
    {
        "call_started",
        "call_failed",
        "call_self_tested",
        "call_given_up",
        "call_finished",
        "oom_step",
        "same_fault",
        "evidence",
        "images_dropped",
    }
)
"""What happened to calls. How a run ends, and its outputs, are of each spool."""


def files_named(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the paths, in the run's folder, of the files that lines name and that are kept:
    images and what else was made, evidence."""
    named: dict[str, None] = {}
    for line in lines:
        if line["event"] == "call_finished":
            named.update({f"images/{image['name']}": None for image in line["images"]})
            named.update({f"files/{file['name']}": None for file in line.get("other_files", ())})
        elif line["event"] == "evidence":
            named.update({str(name): None for name in line["files"]})
        elif line["event"] == "images_dropped":
            for name in line["images"]:
                named.pop(f"images/{name}", None)
    return list(named)


def text_of(lines: Iterable[Mapping[str, Any]]) -> bytes:
    """Return lines as one object."""
    return b"".join(json.dumps(line, ensure_ascii=True).encode() + b"\n" for line in lines)


def lines_in(text: bytes) -> list[dict[str, Any]]:
    """Return the lines of an object. Raises ValueError for what no box writes."""
    try:
        lines = [renamed(json.loads(line)) for line in text.splitlines()]
    except RecursionError as error:
        raise ValueError("a line that no box forwards") from error
    for line in lines:
        if not isinstance(line, dict) or line.get("event") not in FORWARDED:
            raise ValueError("a line that no box forwards")
        if not all(_is_plain(name) for name in _names_in(line)):
            raise ValueError("a line with a name that is none of a file in its folder")
    try:
        read_ledger(lines)
    except JournalError as error:
        raise ValueError(str(error)) from error
    return lines


def _names_in(line: Mapping[str, Any]) -> list[object]:
    """Return the names of files in a line: those in images/ and files/, and of evidence; None for
    what should be a list, and is not."""
    names: list[object] = []
    for key in ("images", "other_files", "files"):
        value = line.get(key)
        listed = value if isinstance(value, list) else [] if value is None else [None]
        names += [each.get("name") if isinstance(each, dict) else each for each in listed]
    return names


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and "/" not in name and is_plain_path(name)
