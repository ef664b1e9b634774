"""Bounds what piles up: published runs by age and size, if the config says so, and the output of
WebUIs by size.

A run is renamed into this worker's own folder first, and removed there: in done/ and failed/ it is
complete or absent. Anything else in these folders is left alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sdwatch.config import RetentionConfig, RunsKept
from sdwatch.policy.failure.lasting import LastingStates, key_of
from sdwatch.policy.privacy.printable import counted
from sdwatch.policy.queue.oldest_first import Kept, too_much, too_old
from sdwatch.policy.queue.run_names import is_run_id
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import HEARTBEAT
from sdwatch.spool.manifest import MANIFEST
from sdwatch.spool.patient_disk import DiskRefusals
from sdwatch.spool.run import JOURNAL
from sdwatch.system import EntryKind, disk, renames
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about
from sdwatch.system.state_folder import StateFolder
from sdwatch.webui.process.process_identity import all_logs, old_logs

log = logging.getLogger("sdwatch.retention")

_REMOVED = ".removed-"


class Retention:
    """Removes what `config` says. `report` gets lines for people. Once `stopping` is set it removes
    no more runs."""

    def __init__(
        self,
        config: RetentionConfig,
        spool: Spool,
        state: StateFolder,
        *,
        clock: Clock,
        report: Callable[[str], None],
        stopping: threading.Event,
    ) -> None:
        self._config = config
        self._spool = spool
        self._state = state
        self._clock = clock
        self._report = report
        self._sizes: dict[Path, tuple[float, int]] = {}  # when it was touched, and bytes
        self._refused = LastingStates()  # by path
        self._refusals = DiskRefusals(clock, log, "nothing is removed now", "removing works again")
        self._stopping = stopping

    def try_round(self) -> None:
        """Remove what is due now, as far as the disk does not refuse."""
        try:
            self.round()
        except OSError as error:  # a share that is gone for the moment
            self._refusals.note(error)
        else:
            self._refusals.are_over()

    def round(self) -> None:
        """Remove what is due now. Raises OSError."""
        self._trim_logs()
        self._take_apart()
        self._trim_runs(self._spool.done, self._config.done)
        self._trim_runs(self._spool.failed, self._config.failed)

    # -- runs

    def _trim_runs(self, folder: Path, kept: RunsKept) -> None:
        if kept.age is None and kept.size is None:
            return
        runs = self._runs_in(folder)
        old = too_old(runs, kept.age)
        names = old + too_much([run for run in runs if run.name not in old], kept.size)
        removed = sum(self._remove(folder / name) for name in names)
        if removed:
            self._report(
                f"{folder.name}/: {removed} of {counted(len(runs), 'run')} removed (`retention`)"
            )

    def _runs_in(self, folder: Path) -> list[Kept]:
        """Return the runs in done/ or failed/. Their age is measured by the clock that stamps the
        heartbeat and the files: on a share it may differ from ours."""
        now = disk.look_at(self._spool.working / HEARTBEAT).st_mtime
        runs: list[Kept] = []
        for path in filter(lambda path: is_run_id(path.name), disk.folders_in(folder)):
            with self._only(path):
                if disk.is_file(path / JOURNAL) and disk.is_file(path / MANIFEST):
                    touched = disk.look_at(path).st_mtime
                    runs.append(Kept(path.name, now - touched, self._size(path, touched)))
        return runs

    def _size(self, run: Path, touched: float) -> int:
        """Return the bytes of a run's files. They are measured again only if somebody changed the
        run."""
        known_at, size = self._sizes.get(run, (None, 0))
        if known_at != touched:
            size = _bytes_below(run)
            self._sizes[run] = touched, size
        return size

    def _remove(self, run: Path) -> bool:
        if self._stopping.is_set():
            return False
        renamed = self._spool.working / f"{_REMOVED}{run.name}"
        with self._only(run):  # somebody may read it, or took it away; the next round sees
            renames.rename(run, renamed, renames.identity_of(disk.look_at(run)))
            log.info("%s: removed", run, extra=about(LogEvent.RUN_REMOVED, run=run.name))
            self._sizes.pop(run, None)
            with self._only(renamed):
                disk.remove_tree(renamed)
            return True
        return False

    def _take_apart(self) -> None:
        """Remove what was renamed away and still exists, after a crash or a refusal."""
        for folder in disk.folders_in(self._spool.working):
            if folder.name.startswith(_REMOVED):
                with self._only(folder):
                    disk.remove_tree(folder)

    @contextmanager
    def _only(self, path: Path) -> Iterator[None]:
        """Confine a refusal to `path`: the others are removed all the same, and this one is retried
        in the next round."""
        now = self._clock.monotonic()
        try:
            yield
        except OSError as error:
            why = disk.in_words(error)
            if line := self._refused.persists(str(path), key_of(error), why, now):
                log.warning(
                    "%s: not removed: %s",
                    path,
                    line,
                    extra=about(LogEvent.RUN_NOT_REMOVED, run=path.name),
                )
        else:
            self._refused.is_over(str(path), now)

    # -- logs

    def _trim_logs(self) -> None:
        """Trim the output of earlier incarnations of WebUIs; that of the current one has its own
        cap."""
        now = self._clock.wall()
        folders = list(self._state.root.glob("webui-*"))
        paths = [path for folder in folders for path in all_logs(folder) if path.is_file()]
        total = {path: path.stat() for path in paths}
        old = {path for folder in folders for path in old_logs(folder)}
        present = sum(status.st_size for path, status in total.items() if path not in old)
        logs = [Kept(str(p), now - s.st_mtime, s.st_size) for p, s in total.items() if p in old]
        # What is present counts, and stays: as the newest of all.
        logs.append(Kept("", float("-inf"), present))
        for path in map(Path, too_much(logs, self._config.logs)):
            with self._only(path):
                disk.remove(path)


def _bytes_below(folder: Path) -> int:
    total = 0
    with suppress(FileNotFoundError):
        for name, kind in disk.entries_below(folder, _LEVELS):
            with suppress(OSError):  # gone, or a folder was made a link
                if kind is not EntryKind.FOLDER:
                    total += disk.look_at(folder / name).st_size
    return total


_LEVELS = 1000  # of folders in a run, which is below what a path may have
