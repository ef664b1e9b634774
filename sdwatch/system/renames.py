"""Rename a file or folder, and be sure that it was the one that was meant."""

from __future__ import annotations

import errno
import logging
import os
import uuid
from dataclasses import replace
from pathlib import Path

from sdwatch import system
from sdwatch.system import disk, links
from sdwatch.system.failpoints import failpoint
from sdwatch.system.links import FileIdentity, HeldPlace
from sdwatch.system.log_events import LogEvent, about
from sdwatch.system.patience import patiently

log = logging.getLogger("sdwatch.spool")


class ReplacedError(FileNotFoundError):
    """Something else lies where a file or folder was; it was left there, or put back."""


def rename(source: Path, target: Path, expected: FileIdentity | None = None) -> None:
    """Rename once; the target must not exist (checked: POSIX would silently replace it).

    `expected`: what is to be moved. Where something else lies there by now, ReplacedError is raised
    and nothing is moved; where it came in the moment of the rename, it goes back to the folder that
    it came from, under its name or, if that is taken meanwhile, with a number. Raises OSError."""
    with links.place(source) as old, links.place(target) as new:
        if new.exists():
            raise FileExistsError(f"{target} is there already; nothing was moved")
        before = old.status() if expected is not None else None
        if before is not None and identity_of(before) != expected:
            raise ReplacedError(errno.ENOENT, "something else lies there now", str(source))
        failpoint("rename", target, source=source)
        patiently(lambda: _move(old, new))
        if before is not None and not _is_same_or_unknown(before, old, new):
            back = _put_back(new, old)
            raise ReplacedError(
                errno.ENOENT, f"something else lay there; it is {back}", str(source)
            )


def _move(old: HeldPlace, new: HeldPlace) -> None:
    os.rename(old.name, new.name, src_dir_fd=old.fd, dst_dir_fd=new.fd)


def _is_same_or_unknown(before: os.stat_result, old: HeldPlace, new: HeldPlace) -> bool:
    """Return whether what was moved is what lay there before. The rename has happened by now: where
    the disk does not let it be looked at, an error would lose sight of it. Raises
    FileNotFoundError."""
    try:
        return _is_same(before, old, new)
    except FileNotFoundError:
        raise
    except OSError as error:
        log.warning(
            "%s: moved, but what it is cannot be checked: %s",
            new.path,
            disk.in_words(error),
            extra=about(LogEvent.FILE_UNREADABLE),
        )
        return True


def _is_same(before: os.stat_result, old: HeldPlace, new: HeldPlace) -> bool:
    """Return whether what was moved is what lay there before. Raises OSError."""
    after = new.status()
    if identity_of(after) == identity_of(before):
        return True
    looks_alike = all(
        getattr(after, name) == getattr(before, name)
        for name in ("st_dev", "st_mode", "st_size", "st_mtime_ns")
    )
    return looks_alike and not _keeps_identity(old, new)


def _keeps_identity(old: HeldPlace, new: HeldPlace) -> bool:
    """Return whether a file that is moved between these folders stays the same file for the
    system. On FAT and exFAT it does not: Windows makes the number from the place of its name
    (Microsoft, GetFileInformationByHandle). Asked of a file of our own, in `new` first. Raises
    OSError."""
    name = f".{uuid.uuid4().hex}.tmp"
    here, there = (
        replace(at, name=at.beside(name), path=at.path.with_name(name)) for at in (new, old)
    )
    os.close(system.open_new(here.name, here.fd))
    before = identity_of(here.status())
    try:
        _move(here, there)
    except OSError:
        system.remove_file(here.name, here.fd)
        raise
    try:
        return identity_of(there.status()) == before
    finally:
        system.remove_file(there.name, there.fd)


def _put_back(at: HeldPlace, old: HeldPlace) -> Path:
    """Undo the rename of something else, and return where it is now. Its folder is still held,
    so it goes back to where it came from, whatever has that path by now."""
    back, number = old, 1
    while back.exists():
        number += 1
        back = replace(
            old, name=f"{old.name}-{number}", path=old.path.with_name(f"{old.path.name}-{number}")
        )
    patiently(lambda: _move(at, back))
    return back.path


def identity_of(status: os.stat_result) -> FileIdentity:
    """Return what identifies a file or folder on this machine."""
    return status.st_dev, status.st_ino
