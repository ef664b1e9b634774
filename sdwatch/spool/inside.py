"""Read files of a job without leaving its folder. No link is followed, even one that replaces a
file between the check and the read, and nothing is read without a bound."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from sdwatch.errors import SpoolError, UnfinishedError
from sdwatch.policy.job.outputs.picture import (
    ENDS,
    NoPictureError,
    check_to_its_end,
    check_whole,
    may_be_cut,
    size_of,
)
from sdwatch.system import links, patience
from sdwatch.system.reading import read_at_most

MAX_PICTURE_BYTES = 256 << 20
"""The limit for one image, and for all images of one call."""

_DECODED_TO_SEE = 40_000_000
"""Pixels up to which a picture with an odd end is decoded, in tens of milliseconds, to see whether
it is whole; of larger ones the call finds out."""


def open_plain(folder: Path, name: str) -> BinaryIO:
    """Open the file `name` (relative, with `/`) below `folder` for reading. Raises SpoolError if it
    leads outside or is not a plain file (a pipe would never end), OSError with `name` in it."""
    try:
        fd = patience.patiently(lambda: links.open_inside(folder, name))
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise SpoolError("leads outside the job's folder") from error
        error.filename = name  # which of the job's files it is
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise SpoolError("is not a plain file")
    return open(fd, "rb")


def size_of_picture(folder: Path, name: str, most_pixels: int) -> tuple[int, int]:
    """Return width and height of an image, from its first bytes. Raises SpoolError if these are
    not of an image or the name leads outside, OSError."""
    with open_plain(folder, name) as file:
        return _size_of(file, most_pixels)


def size_of_arrived(folder: Path, name: str, most_pixels: int) -> tuple[int, int]:
    """Return the same for an image that may still be arriving. Raises UnfinishedError if a part
    of it is missing."""
    with open_plain(folder, name) as file:
        may_be_cut = _may_be_cut(file)
        try:
            width, height = size = _size_of(file, most_pixels)
            if may_be_cut and width * height <= _DECODED_TO_SEE:
                file.seek(0)
                check_to_its_end(file.read(MAX_PICTURE_BYTES), most_pixels)
        except (SpoolError, NoPictureError) as error:
            raise (UnfinishedError if may_be_cut else SpoolError)(str(error)) from error
    return size


def _size_of(file: BinaryIO, most_pixels: int) -> tuple[int, int]:
    if os.fstat(file.fileno()).st_size > MAX_PICTURE_BYTES:
        raise SpoolError(f"has more than {MAX_PICTURE_BYTES >> 20} MB")
    try:
        return size_of(file, most_pixels)
    except NoPictureError as error:
        raise SpoolError(str(error)) from error


def _may_be_cut(file: BinaryIO) -> bool:
    size = os.fstat(file.fileno()).st_size
    head = file.read(ENDS)
    file.seek(max(0, size - ENDS))
    tail = file.read(ENDS)
    file.seek(0)
    return may_be_cut(head, tail, size)


def read_picture(folder: Path, name: str, most_pixels: int) -> bytes:
    """Return the bytes of a whole image. Raises SpoolError if it is not one or leads outside,
    OSError."""
    with open_plain(folder, name) as file:
        data = read_at_most(file, MAX_PICTURE_BYTES + 1)
    if len(data) > MAX_PICTURE_BYTES:
        raise SpoolError(f"has more than {MAX_PICTURE_BYTES >> 20} MB")
    try:
        check_whole(data, most_pixels)
    except NoPictureError as error:
        raise SpoolError(str(error)) from error
    return data
