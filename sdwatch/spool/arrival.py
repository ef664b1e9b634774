"""A job in the inbox, as scans found it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Protocol

from sdwatch.errors import JobError
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.when import ANY_TIME
from sdwatch.spool.fingerprint import Fingerprint
from sdwatch.system import renames
from sdwatch.system.links import FileIdentity

_FIRST = 1_000_000  # above the priority of any job


class ReadsAgain(Protocol):
    """An inbox, as far as its arrivals need it."""

    root: Path

    def parsed_again(self, arrival: Arrival) -> Job | JobError | None:
        """Return the job of one that was read before, or None."""


class Arrival:
    """A job in the inbox. One that changes becomes another one.

    `source`: relative to the inbox; `marker`: the name of the file beside it by which somebody
    cancelled it, or ""; `error`: why it cannot be parsed. `tree`: the fingerprint of a folder; ()
    for a file; `defaults`: the fingerprints of the `_defaults.yaml` above it.
    """

    # One takes some 400 bytes.
    __slots__ = (
        "_device", "_inbox", "_inode", "_size", "_tree", "defaults", "error", "first", "is_folder",
        "is_listed", "is_read", "is_whole", "job_priority", "marker", "missing", "mtime_ns",
        "needs", "parsed", "scan", "since", "source", "when",
    )  # fmt: skip

    def __init__(
        self,
        inbox: ReadsAgain,
        source: str,
        status: os.stat_result,
        tree: Fingerprint,
        now: float,
        defaults: tuple[object, ...] = (),
    ) -> None:
        self._inbox = inbox
        self.source = source
        self.is_folder = stat.S_ISDIR(status.st_mode)
        self._device, self._inode = renames.identity_of(status)
        self._size = status.st_size
        self._tree = tree
        self.defaults = defaults
        self.mtime_ns = max(entry[3] for entry in tree) if tree else status.st_mtime_ns
        self.since = self.first = now
        self.scan = 0  # the number of the last scan that found it
        self.is_whole = False  # renamed into place: it is as it was meant to be
        self.is_read = False
        self.is_listed = False  # as unread or ready
        self.marker = ""
        self.missing: tuple[str, ...] = ()  # images
        self.parsed: Job | None = None
        self.error: JobError | None = None
        self.job_priority = 0
        self.when = ANY_TIME  # once it was read, like the next one
        self.needs: str | None = None  # its first checkpoint

    @property
    def path(self) -> Path:
        """Its file, or its folder."""
        return self._inbox.root / self.source

    @property
    def identity(self) -> FileIdentity:
        """The identity of its file or folder."""
        return self._device, self._inode

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint with which it has settled."""
        return self._tree or (("", self._inode, self._size, self.mtime_ns),)

    @property
    def mtime(self) -> float:
        """Seconds, of the newest of its files."""
        return self.mtime_ns / 1e9

    @property
    def job(self) -> Job | JobError | None:
        """The job, or the error that says why it cannot be parsed; None where it cannot be read at
        the moment."""
        return self.error or self.parsed or self._inbox.parsed_again(self)

    @property
    def version(self) -> object:
        """The same as long as the job is the same."""
        return self

    @property
    def cancelled(self) -> bool:
        """Return whether somebody cancelled it while it waited."""
        return bool(self.marker)

    @property
    def needs_webui(self) -> bool:
        """Return False for a job that cannot be parsed or was cancelled: it ends at once."""
        return self.error is None and not self.marker

    @property
    def priority(self) -> int:
        """The job's priority, 0 until it has been read; what ends at once comes first."""
        return self.job_priority if self.needs_webui else _FIRST

    def is_as(self, status: os.stat_result, tree: Fingerprint) -> bool:
        """Return whether it has not changed. A folder is what its tree is."""
        return (
            status.st_ino == self._inode
            and status.st_dev == self._device
            and stat.S_ISDIR(status.st_mode) == self.is_folder
            and (
                tree == self._tree
                if self.is_folder
                else status.st_mtime_ns == self.mtime_ns and status.st_size == self._size
            )
        )
