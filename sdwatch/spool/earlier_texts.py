"""Learn the texts of earlier runs: a WebUI that outlived its monitor has them in its log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from heapq import nlargest
from pathlib import Path
from typing import Any

from sdwatch.spool.archive import Spool
from sdwatch.spool.diagnostics import read_json
from sdwatch.spool.run import MANIFEST
from sdwatch.system import disk

log = logging.getLogger("sdwatch.spool")

_RUNS = 50
_MOST_BYTES = 4_000_000


def learn_earlier_texts(spool: Spool, learn: Callable[[Mapping[str, Any]], None]) -> None:
    """Pass the stages of the newest runs to `learn`, the newest last: of very many texts the
    first are forgotten. What cannot be read is left out."""
    for folder in sorted(_newest(spool), key=lambda path: path.name):
        job = read_json(folder, MANIFEST, _MOST_BYTES).get("job")
        stages = job.get("stages") if isinstance(job, Mapping) else None
        for stage in stages if isinstance(stages, list) else ():
            if isinstance(stage, Mapping):
                learn(stage)


def _newest(spool: Spool) -> list[Path]:
    """Return runs that have ended; their folders' names start with the time."""
    found: list[Path] = []
    for parent in (spool.done, spool.failed):
        try:
            found += (path for path in disk.folders_in(parent) if not path.name.startswith("."))
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("%s: cannot be read: %s", parent, error)
    return nlargest(_RUNS, found, key=lambda path: path.name)
