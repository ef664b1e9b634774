"""Somebody who may write to a folder, and exchanges one in it for a link as fast as the system can.

`python tests/support/attacker.py FOLDER LINK COUNT` exchanges the two names so many times, and more
until its standard input is closed; always an even number, so that at the end everything lies
where it was. An exchange is one call (renameat2 with RENAME_EXCHANGE, Linux): there is no moment in
which nothing has the name.
"""

from __future__ import annotations

import ctypes
import os
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def exchange(one: Path, other: Path) -> None:
    """Let two names change places. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one))


def can_exchange(folder: Path) -> bool:
    """Whether this system and this file system have it."""
    one, other = folder / "one", folder / "other"
    one.touch()
    other.mkdir()
    try:
        exchange(one, other)
    except (OSError, AttributeError):
        return False
    return one.is_dir()


@contextmanager
def swapping(
    folder: Path, victim: Path, link: Path, count: int, enough: Callable[[], bool] = lambda: True
) -> Iterator[Callable[[], bool]]:
    """`folder` is a link to `victim` half of the time, until it was exchanged `count` times and
    `enough` has been raced: on a busy machine that may take longer.

    Gives whether the attacker is still at it. `link`: a free name beside the spool."""
    link.symlink_to(victim, target_is_directory=True)
    words = [sys.executable, __file__, str(folder), str(link), str(count)]
    attacker = subprocess.Popen(words, stdin=subprocess.PIPE)
    told = attacker.stdin
    assert told

    def is_at_it() -> bool:
        if enough():
            told.close()
        return attacker.poll() is None

    try:
        yield is_at_it
        told.close()
        assert attacker.wait(120) == 0
        assert folder.is_dir()
        assert not folder.is_symlink()
    finally:
        attacker.kill()
        attacker.wait()


def main(folder: Path, link: Path, count: int) -> None:
    """Exchange them; each stays for another while, of up to some hundred microseconds."""
    noise = 1
    done = 0
    while done < count or done % 2 or not select.select([sys.stdin], [], [], 0)[0]:
        exchange(folder, link)
        done += 1
        noise = noise * 1103515245 + 12345 & 0x7FFFFFFF
        for _ in range(noise >> 18):  # no sleep: that would be longer than what is raced against
            pass


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
