"""Files of a job, read without leaving the job's folder: no link is followed, also none that takes
a file's place between a look and the reading of it; and none is read without a bound."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from sdwatch import disk, system
from sdwatch.errors import SpoolError
from sdwatch.policy.picture import NoPictureError, check_whole, size_of

MAX_PICTURE_BYTES = 256 << 20
"""Of one image, and of all that one call takes."""


def open_plain(folder: Path, name: str) -> BinaryIO:
    """The file `name` (relative, with `/`) below `folder`, to be read. Raises SpoolError for what
    leads outside or is no plain file (a pipe would never end), OSError with `name` in it."""
    try:
        fd = disk.patiently(lambda: system.open_inside(folder, name))
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise SpoolError("leads outside the job's folder") from error
        error.filename = name  # which of the job's files it is
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise SpoolError("is no plain file")
    return open(fd, "rb")


def size_of_picture(folder: Path, name: str, most_pixels: int) -> tuple[int, int]:
    """Width and height of an image, as its first bytes tell them. Raises SpoolError for what can
    be told from them to be none, or leads outside, OSError."""
    with open_plain(folder, name) as file:
        if os.fstat(file.fileno()).st_size > MAX_PICTURE_BYTES:
            raise SpoolError(f"has more than {MAX_PICTURE_BYTES >> 20} MB")
        try:
            return size_of(file, most_pixels)
        except NoPictureError as error:
            raise SpoolError(str(error)) from error


def read_picture(folder: Path, name: str, most_pixels: int) -> bytes:
    """An image that is whole. Raises SpoolError for what is none, or leads outside, OSError."""
    with open_plain(folder, name) as file:
        data = file.read(MAX_PICTURE_BYTES + 1)
    if len(data) > MAX_PICTURE_BYTES:
        raise SpoolError(f"has more than {MAX_PICTURE_BYTES >> 20} MB")
    try:
        check_whole(data, most_pixels)
    except NoPictureError as error:
        raise SpoolError(str(error)) from error
    return data
