"""A program on a terminal of its own, as a person has it; posix only."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

LIMIT = 100.0  # seconds


@dataclass
class Terminal:
    """`shown`: all that the program has written so far."""

    process: subprocess.Popen[bytes]
    master: int
    shown: str = field(default="", init=False)

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self.master, text.encode())

    def wait_for(self, text: str, times: int = 1) -> None:
        """Read until the program has written this, so many times."""
        deadline = time.monotonic() + LIMIT
        while self.shown.count(text) < times:
            assert time.monotonic() < deadline, f"never shown: {text!r} in {self.shown!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.shown += os.read(self.master, 65536).decode("utf-8", "replace")
                except OSError:  # the program has ended
                    assert self.shown.count(text) >= times, self.shown

    def drain_until_it_ends(self) -> int:
        """Read until the program has ended; its exit code."""
        deadline = time.monotonic() + LIMIT
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            if select.select([self.master], [], [], 0.2)[0]:
                with suppress(OSError):
                    self.shown += os.read(self.master, 65536).decode("utf-8", "replace")
        return self.process.returncode


@contextmanager
def on_a_terminal(
    words: Sequence[str], cwd: Path, env: Mapping[str, str], *, size: tuple[int, int] = (40, 120)
) -> Iterator[Terminal]:
    """Start a program on a terminal with so many rows and columns."""
    import fcntl
    import pty
    import struct
    import termios

    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    # Where somebody imported readline, it has put the size of another terminal into these.
    own = {name: value for name, value in env.items() if name not in ("LINES", "COLUMNS")}
    process = subprocess.Popen(
        words,
        cwd=cwd,
        env={**own, "TERM": "xterm-256color"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)
