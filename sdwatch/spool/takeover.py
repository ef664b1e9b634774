"""Take over another worker's runs, because a person asked for it.

One rename of working/WORKER into our own folder cuts the old owner off from all its paths. A plain
file is left in its place: where that is, the old owner, thawed, can neither claim nor publish, nor
make its folder again; its monitor reads there who took its runs, and ends.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sdwatch import system
from sdwatch.errors import SpoolError
from sdwatch.policy.naming import nearest
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import refuse_second_monitor
from sdwatch.spool.outputs_to_make import WAITING
from sdwatch.spool.run import JOURNAL
from sdwatch.system import disk, renames
from sdwatch.system.clock import Clock, iso
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.spool")

_TAKEN = ".taken-from-"


def prepare(
    spool: Spool, other: str, clock: Clock, stop: threading.Event | None = None
) -> dict[str, Any]:
    """Prepare a spool before anything is done on it: check that no other monitor works on it,
    make its folders, and take over the runs of the worker `other`, if one is named. Return the
    heartbeats that do not move, see refuse_second_monitor. Raises AlreadyRunningError,
    SpoolError, RunStoppedError once `stop` is set."""
    still = refuse_second_monitor(spool, clock, stop=stop)
    try:
        reclaim_name(spool)
        spool.prepare()
        if other and other not in map(_owner, _taken(spool)):
            take_over(other, spool, clock)
        finish(spool)
    except OSError as error:
        raise SpoolError(
            f"{spool.root}: the spool cannot be used: {disk.in_words(error)}"
        ) from error
    return still


def take_over(worker: str, spool: Spool, clock: Clock) -> None:
    """Take over what `worker` has in working/; whether it is alive was checked before (see
    refuse_second_monitor). `finish` moves the runs to ours. Raises SpoolError if there is no such
    worker, OSError."""
    folder = _folder_of(worker, spool)
    text = f"taken over by worker {spool.worker} on {socket.gethostname()}, {iso(clock.wall())}\n"
    number = 1
    while True:
        # It may be taken in an earlier round, and not made again.
        with suppress(FileNotFoundError), _closed_by(worker):
            renames.rename(folder, spool.working / f"{_TAKEN}{worker}.{number}")
        try:
            disk.write(folder, text.encode())
        except (IsADirectoryError, PermissionError):
            if not disk.is_folder(folder):
                raise
            number += 1  # its owner is alive after all, and has made its folder again
        else:
            break
    disk.sync_folder(folder.parent)
    disk.sync_folder(spool.working)


def finish(spool: Spool) -> None:
    """Move what was taken over to our own runs, also after a death halfway through. Raises
    OSError."""
    for taken in _taken(spool):
        with _closed_by(_owner(taken)):
            for run in disk.folders_in(taken):
                with suppress(FileNotFoundError):
                    # The old owner may have it open: what it still writes must not be in ours.
                    disk.write(run / JOURNAL, disk.read(run / JOURNAL))
                    disk.sync_folder(run)
                renames.rename(run, spool.working / run.name)
                log.info(
                    "%s: taken over (%s)",
                    run.name,
                    taken.name,
                    extra=about(LogEvent.RUN_TAKEN_OVER, run=run.name),
                )
        for left in disk.entries(taken):  # its heartbeat, and what is still to be done
            if left.name.endswith(WAITING) and not disk.exists(spool.working / left.name):
                renames.rename(taken / left.name, spool.working / left.name)
            else:
                disk.remove(taken / left.name)
        disk.remove_empty_folder(taken)
    disk.sync_folder(spool.working)


@contextmanager
def _closed_by(worker: str) -> Iterator[None]:
    """Say what to do where its files are still open: on Windows, and on a share of one, an open
    file can neither be replaced nor its folder be renamed. Raises SpoolError, OSError."""
    try:
        yield
    except OSError as error:
        if not system.is_held(error):
            raise
        raise SpoolError(
            f"worker {worker} still has files of its runs open: end its process, also one that is "
            f"frozen, and give the same command again ({disk.in_words(error)})"
        ) from error


def taken_by(spool: Spool) -> str:
    """Return who took our runs over, as text; '' if nobody did."""
    try:
        if not disk.is_file(spool.working):
            return ""  # a folder, as it should be
        return disk.read(spool.working).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def reclaim_name(spool: Spool) -> None:
    """Start under our own name again after our runs were taken over. Raises OSError."""
    if why := taken_by(spool):
        log.warning(
            "the runs that worker %s had were %s",
            spool.worker,
            why,
            extra=about(LogEvent.WORKER_LOST),
        )
        disk.remove(spool.working)


def _taken(spool: Spool) -> list[Path]:
    """Return the folders of other workers whose runs are not all ours yet. Raises OSError."""
    return [each for each in disk.folders_in(spool.working) if each.name.startswith(_TAKEN)]


def _owner(taken: Path) -> str:
    return taken.name.removeprefix(_TAKEN).rpartition(".")[0]


def _folder_of(worker: str, spool: Spool) -> Path:
    working = spool.working.parent
    others = [p.name for p in disk.folders_in(working) if p != spool.working]
    if worker == spool.worker:
        raise SpoolError(f"{worker} is this worker itself: its runs resume without --take-over")
    if worker not in others:
        known = nearest(worker, others) if others else "; there is no other worker"
        raise SpoolError(f"{working}: there is no worker {worker!r} to take over from{known}")
    return working / worker
