"""Put a file under a name that is free, whole and synced; what is there is never overwritten. Each
effect is a failpoint, as those of disk.py."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sdwatch import system
from sdwatch.system import disk, links, renames
from sdwatch.system.failpoints import failpoint
from sdwatch.system.patience import patiently


def link(source: Path, target: Path) -> None:
    """Give a file a second name (a hard link). Raises FileExistsError, OSError where the two cannot
    be on one file system or that has no such thing."""
    with links.place(source) as old, links.place(target) as new:
        failpoint("link", target, source=source)
        patiently(lambda: _link(old, new))
        if not stat.S_ISREG(new.status().st_mode):  # a link came in its place in that moment
            system.remove_file(new.name, new.fd)
            raise OSError(errno.EINVAL, "is not a plain file", str(source))


def _link(old: links.HeldPlace, new: links.HeldPlace) -> None:
    if old.fd is None and new.fd is None:  # Windows, where there is no way to say more
        os.link(old.name, new.name)
    else:
        os.link(old.name, new.name, src_dir_fd=old.fd, dst_dir_fd=new.fd, follow_symlinks=False)


def write_new(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file under a name that is free. Raises FileExistsError, OSError; a part is removed if
    the disk refuses the rest, and after a death by `forget_part`, or the next try."""
    temporary = _part_of(path)
    try:
        disk.write(temporary, data)
        _give_name(temporary, path)
    finally:
        with suppress(OSError):
            disk.remove_quietly(temporary)


def forget_part(path: Path) -> None:
    """Remove what a death within `write_new` left of this file. Raises OSError."""
    disk.remove(_part_of(path))


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name[:80]}.part")


def _give_name(temporary: Path, path: Path) -> None:
    try:
        link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # no hard links there: FAT, some shares
        renames.rename(temporary, path)
