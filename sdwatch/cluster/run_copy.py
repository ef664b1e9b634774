"""A box's copy of a run: its folder, and what its journal says, read as it grows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sdwatch.errors import JobUnfitError, JournalError
from sdwatch.policy.cluster.entries import BoxEnd
from sdwatch.policy.cluster.holding import LocalRun
from sdwatch.policy.cluster.lines import FORWARDED
from sdwatch.policy.failure.ledger import Ledger
from sdwatch.spool.diagnostics import ENVELOPE
from sdwatch.spool.folders import Spool
from sdwatch.spool.journal import records_from
from sdwatch.spool.run import JOURNAL
from sdwatch.system import disk


class RunCopy:
    """The copy of the run `run` in `spool`. A journal may be long, so only what was appended is
    read. One thread at a time uses it."""

    def __init__(self, spool: Spool, run: str) -> None:
        self._spool = spool
        self._run = run
        self.folder: Path | None = None
        self._forget()

    def _forget(self) -> None:
        self._file: tuple[int, int] | None = None
        self._offset = 0
        self._ledger = Ledger()
        self._first = 0  # number of the first line that is kept
        self._kept: list[Mapping[str, Any]] = []

    def look(self) -> LocalRun | None:
        """Return what the copy says now; None where there is none. Raises OSError."""
        spool = self._spool
        for parent in (spool.working, spool.done, spool.failed):
            folder = parent / self._run
            try:
                status = disk.look_at(folder / JOURNAL)
            except FileNotFoundError:
                continue
            if (status.st_dev, status.st_ino) != self._file or status.st_size < self._offset:
                self._forget()
                self._file = status.st_dev, status.st_ino
            self.folder = folder
            try:
                self._read()
            except (FileNotFoundError, JournalError):  # it was moved or removed just now
                break
            handed_over = self._ledger.handed_over
            if handed_over.received:
                ended = None if parent == spool.working else _outcome(self._ledger, folder)
                return LocalRun(handed_over.epoch, self._first + len(self._kept), ended)
        self.folder = None
        return None

    def _read(self) -> None:
        assert self.folder is not None
        records, self._offset = records_from(self.folder / JOURNAL, self._offset)
        for record in records:
            try:
                self._ledger.apply(record)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                self._forget()
                raise JournalError(f"a record cannot be read: {error!r}") from error
            if record["event"] == "handed_over":
                self._first, self._kept = 0, []
            elif record["event"] in FORWARDED:
                self._kept.append(record)

    def lines_from(self, first: int) -> list[Mapping[str, Any]]:
        """Return the lines to forward from number `first` on; those before it are no longer kept.
        Raises OSError."""
        if first < self._first:
            self._forget()
            self.look()
        else:
            self._read()
        del self._kept[: first - self._first]
        self._first = first
        return list(self._kept)


def _outcome(ledger: Ledger, folder: Path) -> BoxEnd:
    if ledger.ended == BoxEnd.FAILED and _is_refused(ledger, folder):
        return BoxEnd.REFUSED
    try:
        return BoxEnd(ledger.ended)
    except ValueError:
        return BoxEnd.FAILED


def _is_refused(ledger: Ledger, folder: Path) -> bool:
    """Return whether it failed because of what this box is, so that another one may do it: before
    any call was sent, or after calls that others finished."""
    if not any(call.sent for call in ledger.calls.values()):
        return True
    with suppress(FileNotFoundError, ValueError, TypeError, KeyError, RecursionError):
        said = json.loads(disk.read(folder / ENVELOPE))
        return bool(said["error"] == JobUnfitError.__name__)
    return False
