"""The folders of the spool, and the files in it by which people hold and stop the monitor."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sdwatch import system
from sdwatch.errors import SpoolError
from sdwatch.policy.queue.control import frees_gpu, is_hold, is_stop
from sdwatch.policy.queue.run_names import IMAGES, LONGEST_IMAGE, LONGEST_RUN_ID
from sdwatch.policy.report.command import config_option
from sdwatch.spool.inside import open_plain
from sdwatch.system import EntryKind, disk, links

_LONGEST_HOLD = 10_000  # bytes that are read of a hold file


@dataclass(frozen=True)
class Spool:
    """The spool: the folders under `root`, for the monitor with the id `worker` and the config file
    `config`; None for the built-in one."""

    root: Path
    worker: str
    config: Path | None = None

    def __post_init__(self) -> None:
        links.follow_none_below(self.root)

    @property
    def option(self) -> str:
        """Return the option that a command needs to use this spool from any folder, as it is typed
        here."""
        return config_option(str(self.config or ""), os.name == "nt")

    @property
    def inbox(self) -> Path:
        """Return the folder where jobs are dropped."""
        return self.root / "inbox"

    @property
    def working(self) -> Path:
        """Return the folder of this worker's runs."""
        return self.root / "working" / self.worker

    @property
    def done(self) -> Path:
        """Return the folder of finished runs."""
        return self.root / "done"

    @property
    def failed(self) -> Path:
        """Return the folder of failed runs, each with its WHY.txt."""
        return self.root / "failed"

    def prepare(self) -> None:
        """Make the folders. Raises SpoolError if that fails, or if they are not on one file
        system (a run moves by rename)."""
        folders = (self.inbox, self.working, self.done, self.failed)
        try:
            for folder in folders:
                disk.ensure_folder(folder)
            devices = {disk.look_at(folder).st_dev for folder in folders}
        except OSError as error:
            why = disk.in_words(error)
            raise SpoolError(f"{self.root}: the spool cannot be used: {why}") from error
        if len(devices) > 1:
            raise SpoolError(
                f"{self.root}: inbox, working, done and failed must lie on one file system, "
                "because a run moves from one to the next by a rename; put them on one"
            )

    @property
    def is_gone(self) -> bool:
        """Return whether its share is gone. What is left then is nothing, an error, or the empty
        local folder on which it was mounted, where nothing may be made. A person may remove one
        folder or another, but not all at once."""
        try:
            there = {entry.name for entry in os.scandir(system.long_path(self.root))}
        except OSError:
            return True
        return there.isdisjoint(("inbox", "working", "done", "failed"))

    def repair(self) -> None:
        """Make folders again that somebody removed; not on a share that is gone as a whole."""
        if not self.is_gone:
            with suppress(SpoolError):
                self.prepare()

    @property
    def too_deep(self) -> str:
        """Return a warning about a path that is too long for other programs on Windows, though not
        for sdwatch; '' if it is not."""
        run = self.failed / ("-" * LONGEST_RUN_ID)
        why = system.too_long_for_programs(run / IMAGES / ("-" * LONGEST_IMAGE))
        return why and (
            f"{self.root}: sdwatch can work here, but Explorer and many other programs cannot open "
            f"what it makes: the path of an image in it {why}. Move the spool to a folder with a "
            "shorter path, such as D:\\spool"
        )

    def hold_file(self) -> Path | None:
        """Return the file by which a person holds everything, if it is there. Raises OSError."""
        try:
            names = sorted(
                entry.name
                for entry in os.scandir(system.long_path(self.root))
                if is_hold(entry.name)
            )
        except FileNotFoundError:
            return None
        return self.root / names[0] if names else None

    def hold_frees(self, hold: Path) -> bool:
        """Return whether this hold file asks to free the GPU. Never raises: it holds all the same,
        whatever it is."""
        try:
            with open_plain(self.root, hold.name) as file:
                return frees_gpu(file.read(_LONGEST_HOLD).decode("utf-8-sig", "replace"))
        except (SpoolError, OSError):  # a link or a pipe; not readable, or gone
            return False

    def stop_files(self) -> dict[str, int]:
        """Return the files by which a person asks the monitor to stop: when each was written, in
        ns by the clock of the spool's disk. A link or a folder of that name is none, and what is in
        the file does not matter. Raises OSError."""
        entries = disk.entries(self.root)
        names = [e.name for e in entries if e.kind is EntryKind.FILE and is_stop(e.name)]
        return {
            name: found.st_mtime_ns
            for name, found in disk.statuses(self.root, names).items()
            if isinstance(found, os.stat_result) and stat.S_ISREG(found.st_mode)
        }

    def run_folders(self) -> list[Path]:
        """Return this worker's runs, oldest first."""
        return runs_in(self.working)


def runs_in(folder: Path) -> list[Path]:
    """Return the run folders in a folder of the spool, by name; none if it is not there. Files are
    left out: a heartbeat in working/, what file managers leave in done/. Raises OSError."""
    try:
        return [path for path in disk.folders_in(folder) if not path.name.startswith(".")]
    except FileNotFoundError:
        return []
