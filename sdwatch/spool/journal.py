"""Read a run's journal, record by record: a run of ten thousand points has tens of megabytes."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sdwatch.policy.failure.earlier_records import renamed
from sdwatch.system import disk
from sdwatch.system.reading import read_at_most

_LONGEST_LINE = 16 << 20  # bytes
_MOST_BYTES = 1 << 30
"""What is larger is not ours; a hole costs nothing on a disk."""


def journal_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a journal; a torn line (a death in the middle of a write) is skipped.
    Raises OSError."""
    try:
        file = disk.open_file(path)
    except FileNotFoundError:
        return
    with file:
        left = _MOST_BYTES
        too_large = OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        if os.fstat(file.fileno()).st_size > left:
            raise too_large
        while line := file.readline(_LONGEST_LINE):
            left -= len(line)
            if left < 0:  # it grows meanwhile
                raise too_large
            if (record := record_in(line)) is not None:
                yield record


def records_from(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Return the records from a byte of a journal on, as far as their lines are whole, and the byte
    after them. Raises OSError."""
    with disk.open_file(path) as file:
        file.seek(offset)
        data = read_at_most(file, _MOST_BYTES)
    whole = data[: data.rfind(b"\n") + 1]
    return list(filter(None, map(record_in, whole.splitlines()))), offset + len(whole)


def last_records(path: Path, most_bytes: int) -> list[dict[str, Any]]:
    """Return the records in the last so many bytes of a journal. Raises OSError."""
    with disk.open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - most_bytes))
        lines = file.read(most_bytes).splitlines()
    return list(filter(None, map(record_in, lines[size > most_bytes :])))


def record_in(line: str | bytes) -> dict[str, Any] | None:
    """Return the record in a line of a journal; None where it is torn, or none."""
    try:
        record = renamed(json.loads(line))
    except (ValueError, RecursionError):
        return None
    is_one = isinstance(record, dict) and isinstance(record.get("event"), str)
    return record if is_one else None


_OF_THE_CALL = (
    *("stage", "images", "other_files", "warnings", "used", "added", "values", "changed"),
)
"""Facts about a call: `stage` is its kind, `used` what the WebUI reports that it used, `added` what
the job left out and this kind of WebUI needs, `values` those of its point, `changed` how it differs
from the call that ran out of memory."""


def each_call(records: Callable[[], Iterable[Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yield each call with its attempts and images, what run.json has as `calls`, in the order in
    which they were started. `records`: called twice, first to find where each call ends: no more
    than one call is held, nearly always."""
    last: dict[str, int] = {}
    dropped: set[str] = set()
    start = 0
    for number, record in enumerate(records()):
        if record["event"] == "job_changed":  # the calls so far were of another job
            last.clear()
            start = number
        elif (call_id := record.get("call")) is not None:
            last[str(call_id)] = number
        elif record["event"] == "images_dropped":
            names = record.get("images")
            dropped.update(map(str, names if isinstance(names, list) else ()))
    calls: dict[str, dict[str, Any]] = {}
    for number, record in enumerate(records()):
        if number < start or (call_id := record.get("call")) is None:
            continue
        call = calls.setdefault(str(call_id), {"call": call_id, "attempts": [], "images": []})
        _apply(record, call)
        while calls and last[first := next(iter(calls))] <= number:
            yield _marked(calls.pop(first), dropped)


def _marked(call: dict[str, Any], dropped: Collection[str]) -> dict[str, Any]:
    """Return the call with those of its images marked that were not kept."""
    if not dropped or not isinstance(call["images"], list):
        return call
    call["images"] = [
        {**image, "kept": False}
        if isinstance(image, Mapping) and image.get("name") in dropped
        else image
        for image in call["images"]
    ]
    return call


def _apply(record: Mapping[str, Any], call: dict[str, Any]) -> None:
    """Add what one record says of a call."""
    story = ("at", "event", "call", *_OF_THE_CALL)
    details = {k: v for k, v in record.items() if k not in story}
    if record["event"] == "call_started":
        call["attempts"].append({"began": record.get("at"), **details})
    elif record["event"] == "evidence":
        call.setdefault("evidence", []).extend(record.get("files", []))
    elif record["event"] == "same_fault":
        call.setdefault("same_fault", []).append({"at": record.get("at"), **details})
    elif record["event"] == "oom_step":
        call.setdefault("oom", []).append({"at": record.get("at"), **details})
    elif record["event"] == "call_self_tested":
        call.setdefault("canary", []).append({"at": record.get("at"), **details})
    elif call["attempts"]:
        ended = {"ended": record.get("at"), "outcome": record["event"].removeprefix("call_")}
        call["attempts"][-1] |= {**ended, **details}
    call |= {key: record[key] for key in _OF_THE_CALL if key in record}
