"""Write run.json, the manifest of a run, and read it: its calls come last and one by one, because
there may be ten thousand."""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sdwatch.errors import SpoolError
from sdwatch.policy.failure.ledger import Ledger
from sdwatch.spool.diagnostics import parsed, read_evidence
from sdwatch.spool.inside import open_plain
from sdwatch.system import disk

MANIFEST = "run.json"

_CALLS = '\n  "calls": ['
_MOST_BYTES = 4_000_000


def write_manifest(
    folder: Path, about: Mapping[str, Any], calls: Iterable[Mapping[str, Any]]
) -> None:
    """Write what is known `about` a run, and its calls. Raises OSError."""
    disk.write(folder / MANIFEST, map(disk.encoded, _parts(about, calls)))


def _parts(about: Mapping[str, Any], calls: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the parts of an indented JSON text."""
    yield _json(about).removesuffix("\n}") + "," + _CALLS
    between = "\n"
    for call in calls:
        yield between + textwrap.indent(_json(call), "    ")
        between = ",\n"
    yield ("]" if between == "\n" else "\n  ]") + "\n}\n"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def read_about(folder: Path) -> dict[str, Any]:
    """Return what a manifest says but for its calls, however many there are; nothing where it
    cannot be read. Somebody may have edited it."""
    text = read_evidence(folder, MANIFEST, _MOST_BYTES).decode("utf-8", "replace")
    about, calls, _ = text.partition(_CALLS)
    try:
        value = parsed((f"{about.rstrip().removesuffix(',')}\n}}" if calls else text).encode())
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


_VALUES = re.compile(r'^      "values": (?=\{)', re.MULTILINE)
"""No text in a manifest starts a line."""


def last_values(folder: Path, most_bytes: int) -> Iterator[dict[str, Any]]:
    """Yield the values of the points of calls, from the last so many bytes of a manifest; nothing
    where it cannot be read."""
    try:
        with open_plain(folder, MANIFEST) as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - most_bytes))
            text = file.read(most_bytes).decode("utf-8", "replace")
    except (SpoolError, OSError):
        return
    for found in _VALUES.finditer(text):
        with suppress(ValueError, RecursionError):
            value, _ = _DECODER.raw_decode(text, found.end())
            yield value


_DECODER = json.JSONDecoder()


def outputs_of(ledger: Ledger) -> dict[str, Any]:
    """Return what run.json has about the outputs; nothing if there are none."""
    made = {image: name for image, name in ledger.outputs.items() if image in ledger.made}
    refused = {"refused": ledger.outputs_refused} if ledger.outputs_refused else {}
    return {"outputs": {"made": made, **refused}} if made or refused else {}
