"""A monitor that dies at its n-th effect, or whose n-th effect fails; and what a power cut takes.

`Points` numbers every effect (see sdwatch/system/failpoints.py). For a kill -9 it raises `Death`,
which nothing catches, and from then on no thread of that monitor can do anything to the world.
`Unsynced` knows what of it the disk has not been made to keep.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from sdwatch.errors import SdwatchError
from sdwatch.system import failpoints
from sdwatch.system.failpoints import Failpoint


class Death(BaseException):
    """In place of a kill -9."""


class Points:
    """Listens to all effects. At the n-th (`number` counts from 1; 0: never) it calls `then`, which
    raises; `unsynced` gets each that is carried out."""

    def __init__(
        self, number: int, then: Callable[[Failpoint], None], unsynced: Unsynced | None = None
    ) -> None:
        self.seen: list[str] = []
        self.dead = False
        self._number = number
        self._then = then
        self._unsynced = unsynced
        self._lock = threading.Lock()

    def __call__(self, effect: Failpoint) -> None:
        with self._lock:
            if self.dead:
                raise Death
            self.seen.append(f"{effect.label} {effect.path.name}")
            if len(self.seen) == self._number:
                try:
                    self._then(effect)
                except Death:
                    self.dead = True
                    raise
            if self._unsynced is not None:
                self._unsynced.add(effect)

    @property
    def reached(self) -> str:
        """What the n-th effect was; '' where there were not so many."""
        return self.seen[self._number - 1] if 0 < self._number <= len(self.seen) else ""


@contextmanager
def listening(points: Points) -> Iterator[Points]:
    """While it lasts, `points` hears of all effects. Threads that die of it do so in silence."""
    hook, threading.excepthook = threading.excepthook, _silent_death
    failpoints.before = points
    try:
        yield points
    finally:
        failpoints.before = failpoints._nothing
        threading.excepthook = hook


def _silent_death(args: threading.ExceptHookArgs) -> None:
    """Also an end with one of our own errors, as on a disk that refuses: the check reports it."""
    if not issubclass(args.exc_type, Death | SdwatchError):
        threading.__excepthook__(args)


@dataclass
class _Undo:
    """How one effect is taken back; `kept_by`: syncing one of these (device, inode) keeps it."""

    act: Callable[[], None]
    kept_by: set[tuple[int, int]]


@dataclass
class Unsynced:
    """What was done since its file, or its folder, was last synced. As on a journalling file system
    a rename is one step, kept as soon as either of its folders is synced; but a file's name and its
    content are kept apart, and nothing is kept in order. Folders are held open, since they move.
    Linux only."""

    done: list[_Undo] = field(default_factory=list)
    _fds: list[int] = field(default_factory=list)
    _syncing: dict[int, tuple[int, int]] = field(default_factory=dict)
    _new: dict[int, Path] = field(default_factory=dict)  # files that are being made, by thread

    def add(self, effect: Failpoint) -> None:
        """An effect is about to be carried out; the one before it in this thread has been."""
        self._end_sync(threading.get_ident())
        self._take_new(self._new.pop(threading.get_ident(), None))
        path = effect.path
        if effect.label in ("sync", "sync_folder"):
            self._syncing[threading.get_ident()] = _identity(path)
        elif effect.label in ("append", "write"):
            self._take_content(path)
        elif effect.label in ("create", "link", "make_folder"):
            self._take_name(path, lambda folder: _remove(path.name, folder))
        elif effect.label == "rename" and effect.source is not None:
            self._take_rename(effect.source, path)
        elif effect.label == "remove":
            content = _content(path)
            self._take_name(path, lambda folder: _put_back(path.name, folder, content))
        elif effect.label == "remove_folder":
            self._take_name(path, lambda folder: os.mkdir(path.name, dir_fd=folder))

    def lose(self) -> None:
        """The power goes: what was not synced is gone. To be called when all threads have ended."""
        for thread in list(self._syncing):
            self._end_sync(thread)
        for undo in reversed(self.done):
            with suppress(FileNotFoundError, FileExistsError):
                undo.act()

    def close(self) -> None:
        """Let go of all folders and files."""
        for fd in self._fds:
            os.close(fd)

    def _end_sync(self, thread: int) -> None:
        if (synced := self._syncing.pop(thread, None)) is not None:
            self.done = [undo for undo in self.done if synced not in undo.kept_by]

    def _take_content(self, path: Path) -> None:
        """Its bytes, which syncing the file itself keeps."""
        if not path.exists():
            self._new[threading.get_ident()] = path  # there at this thread's next effect
            return
        fd = self._open(path, os.O_RDWR)
        size = os.fstat(fd).st_size
        self.done.append(_Undo(lambda: os.ftruncate(fd, size), {_identity(path)}))

    def _take_new(self, path: Path | None) -> None:
        """All bytes of a file that has just been made: whatever it is called by then, it comes back
        empty unless it was synced."""
        if path is not None and path.exists():
            fd = self._open(path, os.O_RDWR)
            self.done.append(_Undo(lambda: os.ftruncate(fd, 0), {_identity(path)}))

    def _take_name(self, path: Path, undo: Callable[[int], None]) -> None:
        folder = self._open(path.parent, os.O_DIRECTORY)
        self.done.append(_Undo(lambda: undo(folder), {_identity(path.parent)}))

    def _take_rename(self, source: Path, target: Path) -> None:
        content = _content(target)
        before = self._open(source.parent, os.O_DIRECTORY)
        after = self._open(target.parent, os.O_DIRECTORY)

        def undo() -> None:
            os.rename(target.name, source.name, src_dir_fd=after, dst_dir_fd=before)
            if content is not None:
                _put_back(target.name, after, content)

        kept_by = {_identity(source.parent), _identity(target.parent)}
        self.done.append(_Undo(undo, kept_by))

    def _open(self, path: Path, flags: int) -> int:
        self._fds.append(os.open(path, flags))
        return self._fds[-1]


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _put_back(name: str, folder: int, content: bytes | None) -> None:
    if content is not None:
        with open(name, "wb", opener=lambda n, flags: os.open(n, flags, 0o644, dir_fd=folder)) as f:
            f.write(content)


def _remove(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        shutil.rmtree(name, dir_fd=folder)
