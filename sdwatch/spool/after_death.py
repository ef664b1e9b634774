"""What a death leaves: runs in working/ that resume, and copies that never got into the inbox."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sdwatch.policy.failure.ledger import LeftCall
from sdwatch.spool import cancel_marker
from sdwatch.spool.archive import move_out, sweep
from sdwatch.spool.fingerprint import DEEPEST
from sdwatch.spool.folders import Spool
from sdwatch.spool.run import Run
from sdwatch.system import EntryKind, disk
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.spool")

_UNFINISHED_COPY = re.compile(r"(?:^|/)\.\d+-(\d{19,20})\.tmp\Z")
_FORGOTTEN_AFTER = 24 * 3600  # seconds: no copy takes so long, and clocks differ by less


def recover(
    spool: Spool, clock: Clock, note_left: Callable[[LeftCall], None] = lambda _: None
) -> list[Path]:
    """Resolve every in-between state that a death can leave in working/; return the runs that
    resume. What cannot be read is left as it is, and logged. `note_left`: gets each call that was
    left in flight."""
    with suppress(OSError):  # the next start tries again
        sweep_copies(spool.inbox, clock.wall())
    to_resume = []
    for folder in spool.run_folders():
        try:
            run = Run(folder, clock)
            if not run.has_job:
                if not sweep(folder):
                    log.warning(
                        "%s: no job in it; left as it is",
                        folder,
                        extra=about(LogEvent.RUN_NOT_RESUMED, run=folder.name),
                    )
            elif run.ledger.ended:
                move_out(folder, spool, run.ledger.ended)
            else:
                cancel_marker.complete(run, spool.inbox)
                with suppress(OSError):  # publishing sweeps again, and insists
                    run.sweep()
                to_resume.append(folder)
                if run.ledger.left is not None:
                    note_left(run.ledger.left)
        except OSError as error:
            log.error(
                "%s: cannot be resumed, and is left as it is: %s",
                folder,
                disk.in_words(error),
                extra=about(LogEvent.RUN_NOT_RESUMED, run=folder.name),
            )
    return to_resume


def sweep_copies(inbox: Path, now: float) -> None:
    """Remove what `submit` and `retry` left of copies in the inbox when they died, a day later: the
    name says when each was made. `now`: seconds since the epoch. Raises OSError."""
    for name, kind in disk.entries_below(inbox, DEEPEST):
        made = _UNFINISHED_COPY.search(name)
        if made is None or now - int(made[1]) / 1e9 < _FORGOTTEN_AFTER:
            continue
        if kind is EntryKind.FOLDER:
            disk.remove_tree(inbox / name)
        elif kind is EntryKind.FILE:
            disk.remove(inbox / name)


def runs_of_others(spool: Spool) -> dict[str, int]:
    """Return how many runs each other worker has in working/, by its id."""
    folders = [path for path in disk.folders_in(spool.working.parent) if path != spool.working]
    counts = {folder.name: len(disk.folders_in(folder)) for folder in folders}
    return {name: count for name, count in counts.items() if count}
