"""Write the evidence of a failure into a run's folder, and read it.

It never has prompts, images or secrets: the payload is sanitised, and every text of it is
replaced wherever it appears.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sdwatch.errors import SpoolError
from sdwatch.policy.privacy.printable import mark
from sdwatch.policy.privacy.redaction import MOST_AT_ONCE, Redactor
from sdwatch.policy.privacy.sanitise import sanitise
from sdwatch.spool.inside import open_plain
from sdwatch.system import disk

PAYLOAD = "stage_failure_payload.json"
TAIL = "webui_tail.log"
HOST_SNAPSHOT = "machine.json"
ENVELOPE = "error.json"
WHY = "WHY.txt"

MOST_SETS = 5
"""How many failures of a run have evidence of their own: as many as the hard limit on sending one
call. Later failures replace the last set, so that the first four and the newest are kept, and a
run's evidence is bounded however long a fault lasts."""

_DEEPEST = 100  # lists and mappings within each other, in what is read here

MOST_BYTES = 500_000
"""Of one evidence file. 200 usual lines are 20,000."""


def write_evidence(
    run_dir: Path,
    payload: Mapping[str, Any],
    tail: Mapping[str, str],
    redactor: Redactor,
    host_snapshot: Mapping[str, Any] | None = None,
) -> tuple[str, ...]:
    """Write the sanitised payload, the WebUI's last lines and the host snapshot; return the names
    of the files.

    A second failure gets `stage_failure_payload.2.json` and so on, up to MOST_SETS. `tail`:
    `{"stdout": text, "stderr": text}`. A set that the disk refuses in part is written again under
    the same number. Raises OSError.
    """
    number = 1
    while number < MOST_SETS and disk.exists(run_dir / numbered(PAYLOAD, number)):
        number += 1
    text = "".join(f"===== {stream} =====\n{tail[stream].rstrip()}\n\n" for stream in tail)
    text = _bounded(disk.encoded(text), MOST_AT_ONCE).decode()
    files = {
        numbered(PAYLOAD, number): _as_json(sanitise(payload)),
        numbered(TAIL, number): _bounded(disk.encoded(redactor.redact(text))),
    }
    if host_snapshot:
        free = {**host_snapshot.get("disk_free", {}), "spool": disk.free_bytes(run_dir)}
        files[numbered(HOST_SNAPSHOT, number)] = _as_json({**host_snapshot, "disk_free": free})
    for name in reversed(files):  # the payload, by which the sets are counted, last
        disk.write(run_dir / name, files[name])
    disk.sync_folder(run_dir)
    return tuple(files)


def _as_json(value: Any) -> bytes:
    data = disk.encoded(json.dumps(value, indent=2, ensure_ascii=False)) + b"\n"
    return data if len(data) <= MOST_BYTES else b'{"hidden": "too large"}\n'


def _bounded(data: bytes, most: int = MOST_BYTES) -> bytes:
    """Return its start, where errors are pinned, and its end."""
    if len(data) <= most:
        return data
    half = most // 2
    note = mark(len(data) - 2 * half, "bytes").encode()
    text = (data[:half], data[-half:])
    return note.join(part.decode("utf-8", "ignore").encode() for part in text)


def numbered(name: str, number: int) -> str:
    """Return the name of an evidence file in a set."""
    stem, _, extension = name.rpartition(".")
    return name if number == 1 else f"{stem}.{number}.{extension}"


def evidence_files(run_dir: Path) -> list[str]:
    """Return the names of the evidence files in a run's folder, the oldest failure first."""
    names = (
        numbered(n, i) for i in range(1, MOST_SETS + 1) for n in (PAYLOAD, TAIL, HOST_SNAPSHOT)
    )
    return [name for name in names if disk.is_file(run_dir / name)]


def read_json(run_dir: Path, name: str, most: int = 2 * MOST_BYTES) -> dict[str, Any]:
    """Return the mapping in a JSON file of a run's folder; an empty one if there is none."""
    try:
        value = parsed(read_evidence(run_dir, name, most))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def parsed(data: bytes) -> Any:
    """Parse JSON that somebody may have edited, with null for NaN and other numbers that JSON
    does not have. Raises ValueError, also for what is nested too deep to be walked through."""
    try:
        value = json.loads(data, parse_constant=lambda _: None, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    level = [value]
    for _ in range(_DEEPEST):
        level = [part for whole in level for part in _parts(whole)]
        if not level:
            return value
    raise ValueError("nested too deep")


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _parts(whole: Any) -> Iterable[Any]:
    if isinstance(whole, dict):
        return whole.values()
    return whole if isinstance(whole, list) else ()


def read_evidence(run_dir: Path, name: str, most: int = 2 * MOST_BYTES) -> bytes:
    """Return at most so many bytes of a file of a run's folder; nothing if it is not one, or a
    link."""
    try:
        with open_plain(run_dir, name) as file:
            return file.read(most)
    except (OSError, SpoolError):
        return b""
