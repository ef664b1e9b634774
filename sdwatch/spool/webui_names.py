"""The names that the WebUIs of a monitor have for checkpoints and samplers, in one small file
beside its heartbeat: for forms of other clients of the folder, which see no WebUI."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdwatch.system import disk

NAMES = "webui_names.json"

_MOST = 500
_LONGEST = 200
"""Names of each list, and characters of each: the file has 200 KB at most. What is longer can be
typed all the same."""


@dataclass(frozen=True)
class WebUINames:
    """The names, as people write them, each once and in the WebUI's own order."""

    checkpoints: tuple[str, ...] = ()
    samplers: tuple[str, ...] = ()


def joined_names(several: Iterable[WebUINames]) -> WebUINames:
    """Return the names of several WebUIs as one."""
    found = list(several)
    return WebUINames(
        _bounded(name for names in found for name in names.checkpoints),
        _bounded(name for names in found for name in names.samplers),
    )


def names_file_of(names: WebUINames) -> bytes:
    """Return the content of the file."""
    return disk.encoded(json.dumps(asdict(joined_names([names])), indent=1, ensure_ascii=False))


def read_names(root: Path) -> WebUINames:
    """Return the names of all monitors that have worked on the spool at `root`, also of those that
    do not run now. What cannot be read is left out: the form works without suggestions."""
    try:
        files = [folder / NAMES for folder in disk.folders_in(root / "working")]
    except OSError:
        return WebUINames()
    return joined_names(_read(file) for file in files)


def _read(file: Path) -> WebUINames:
    try:
        value = json.loads(disk.read(file))
    except (OSError, ValueError, RecursionError):
        return WebUINames()
    lists: Mapping[str, Any] = value if isinstance(value, dict) else {}
    return WebUINames(_texts(lists.get("checkpoints")), _texts(lists.get("samplers")))


def _texts(value: object) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def _bounded(names: Iterable[str]) -> tuple[str, ...]:
    fitting: Sequence[str] = [name for name in names if 0 < len(name) <= _LONGEST]
    return tuple(dict.fromkeys(fitting))[:_MOST]
