"""Capture the last lines of a WebUI's output, as text for people: read a log backward from its
end, by the parser in window.py. Nothing in this file raises but `open_log`.

Where there is nothing to show, the text says so in parentheses. Reading is by bytes from the end
and bounded, so that a log of a gigabyte costs no more than one of a few megabytes.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import psutil

from sdwatch import system
from sdwatch.policy.failure.error_lines import (
    FRAME_SIGN,
    TRACEBACK,
    ErrorBlock,
    error_blocks,
)
from sdwatch.policy.failure.expression import Expression
from sdwatch.policy.failure.tail_marks import PINNED, last_of, no_output, probes_left_out
from sdwatch.policy.privacy.printable import counted
from sdwatch.system import disk
from sdwatch.webui.log.log_lines import LogLine, decoded, split_lines
from sdwatch.webui.log.window import errors_in, kind_of, last_lines, traceback_in, without_torn_line

WINDOW_BYTES = 4 * 1024 * 1024
FURTHER_UP = 3  # more windows to search for a traceback, where the last has none
OVERLAP_BYTES = 16 * 1024
SAVED_BYTES = 256 * 1024
MOST_SEARCHED = 256 * 1024 * 1024
"""Several times a log's usual cap; somebody else's log may be of any size."""

_LONGEST_RAW = 1 << 20  # bytes of a line without an end, such as a bar redrawn with `\\r`


def tail_text(source: Path | None, max_lines: int = 200, *, max_bytes: int = WINDOW_BYTES) -> str:
    """Return the last lines of one file, at most `max_lines`, found in its last `max_bytes` bytes.

    Of a bar that `\\r` redraws, the last frame is kept; escapes, blank lines and the access lines
    of health probes are left out. Errors and tracebacks that a flood pushed out of the last lines
    come first, under a heading of their own. If these bytes hold no traceback, the last one in the
    bytes before them is shown.
    """
    if source is None:
        return no_output("there is no log file")
    try:
        data, start = _read_end(Path(source), max_bytes)
    except NotAFileError as error:
        return no_output(f"{error}")
    except (OSError, ValueError, TypeError) as error:
        return no_output(f"{_reason(source, error)}")
    shown = _show(data, start == 0, max_lines, lambda: _further_up(source, start, max_bytes))
    return shown or no_output(f"the file {source} has no lines")


def capture_tail(source: object, max_lines: int = 200) -> dict[str, str]:
    """Return `{"stdout": text, "stderr": text}` of a process or of files.

    `source` is a subprocess.Popen, a psutil.Process, a pid, a path, a pair of paths (either may be
    None), or None. Of a process only files that it writes to are read, never a pipe or terminal.
    """
    if source is None:
        nothing = no_output("there is neither a process nor a log file")
        return {"stdout": nothing, "stderr": nothing}
    if isinstance(source, (str, os.PathLike)):
        return _of_files(Path(os.fsdecode(source)), Path(os.fsdecode(source)), max_lines)
    if isinstance(source, tuple) and len(source) == 2:
        first, second = (None if part is None else Path(str(part)) for part in source)
        return _of_files(first, second, max_lines)
    pid = source if isinstance(source, int) else getattr(source, "pid", None)
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
        nothing = no_output(f"{type(source).__name__} is neither a process nor a log file")
        return {"stdout": nothing, "stderr": nothing}
    if _has_ended(source):
        nothing = no_output(f"process {pid} has ended")
        return {"stdout": nothing, "stderr": nothing}
    return _of_pid(pid, max_lines)


def cap_file(path: Path, cap_bytes: int) -> bool:
    """Empty a log in place once it is larger than `cap_bytes`. Return whether that was done.

    Its end is saved to `<name>.1` first. A program that writes to it must have opened it for
    append, and continues at its new end. What fails is left for the next time.
    """
    saved = path.with_name(f"{path.name}.1")
    try:
        if path.stat().st_size <= cap_bytes:
            return False
        data, _ = _read_end(path, min(SAVED_BYTES, max(cap_bytes, 1)))
        with suppress(OSError):  # a full disk is what the cap is for: truncate anyway
            with open(saved, "wb", opener=disk.opener) as file:
                file.write(data)
        os.truncate(path, 0)
    except (NotAFileError, OSError, ValueError):
        return False
    return True


def first_lines_with(paths: Iterable[Path], patterns: Sequence[Expression]) -> tuple[str, ...]:
    """Return the first line in these whole files that matches each pattern. Never raises: a file
    that cannot be read has none, and of a very large one the first MOST_SEARCHED bytes are read. A
    log that was cut to its cap has lost its older lines."""
    found: dict[Expression, str] = {}
    for path in paths:
        with suppress(NotAFileError, OSError, ValueError), open_log(path) as file:
            while file.tell() < MOST_SEARCHED and (raw := file.readline(_LONGEST_RAW)):
                line = raw.decode("utf-8", "replace")
                fits = (each for each in patterns if each not in found and each.search(line))
                found |= dict.fromkeys(fits, line.strip())
                if len(found) == len(patterns):
                    break
    return tuple(found.values())


def first_lines(path: Path, max_bytes: int = WINDOW_BYTES) -> tuple[str, ...]:
    """Return the lines at the start of a log, from its first `max_bytes` bytes. Never raises: a
    file that cannot be read has none."""
    with suppress(NotAFileError, OSError, ValueError), open_log(path) as file:
        return tuple(line.text for line in split_lines(decoded(file.read(max_bytes))))
    return ()


class NotAFileError(Exception):
    """The path names something that must not, or cannot, be read as a file."""


def open_log(path: Path) -> BinaryIO:
    """Open a log to read. Raises NotAFileError, OSError, ValueError."""
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise NotAFileError(f"{path} is a folder, not a log file")
    if not stat.S_ISREG(mode):
        raise NotAFileError(f"{path} is not a regular file, so nothing is read from it")
    # Without retries: what cannot be read now is read at the next poll.
    return os.fdopen(system.open_to_read(path), "rb")


def _read_end(path: Path, max_bytes: int) -> tuple[bytes, int]:
    """Return the last bytes of a file, and their offset in it."""
    with open_log(path) as file:
        start = max(0, os.fstat(file.fileno()).st_size - max_bytes)
        file.seek(start)
        return file.read(max_bytes), start


def _further_up(path: Path, end: int, max_bytes: int) -> list[LogLine]:
    """Return the last traceback in the windows before `end`. Each is read with the start of the
    next."""
    with suppress(NotAFileError, OSError, ValueError), open_log(path) as file:
        for _ in range(FURTHER_UP):
            size, end = min(end, max_bytes), max(0, end - max_bytes)
            file.seek(end)
            window = file.read(size + OVERLAP_BYTES)
            if found := traceback_in(without_torn_line(window) if end else window):
                return found
    return []


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return f"the file {path} is gone, or was never there"
    if isinstance(error, PermissionError):
        return f"the file {path} may not be read by this user"
    return f"the file {path} cannot be read: {disk.in_words(error)}"


def _show(data: bytes, whole: bool, max_lines: int, further_up: Callable[[], list[LogLine]]) -> str:
    """Return the tail as text of at most `max_lines` lines; empty where there are no lines."""
    if not whole:
        data = without_torn_line(data)
    lines, probes, start = last_lines(data, max(0, max_lines))
    note = [probes_left_out(probes)] if probes else []
    room = max(0, max_lines - len(note))
    above = errors_in(data, start) if start else []
    if not whole and not any(_is_of_traceback(line) for line in [*above, *lines]):
        above = [*further_up(), *above]
    return "\n".join([*note, *_with_pins([*above, *lines], len(above), room)])


def _is_of_traceback(line: LogLine) -> bool:
    return TRACEBACK in line.text or FRAME_SIGN in line.text


def _with_pins(lines: list[LogLine], apart: int, room: int) -> list[str]:
    """Return the last `room` lines. Up to half of them go to errors from further up. `apart`: how
    many of the lines do not come right before the others."""
    most = room // 2 - 2  # two headings
    blocks = _blocks(lines)
    cut = max(apart, len(lines) - room)
    pinned: list[int] = []
    while most > 0 and (more := _pick(lines, blocks, cut, most)) != pinned:
        pinned = more
        cut = max(cut, len(lines) - (room - 2 - len(pinned)))  # pins take their place
    last = [line.text for line in lines[_not_torn(blocks, cut, len(lines)) :]]
    if not pinned:
        return last
    heading = last_of(counted(len(last), "line"))
    return [PINNED, *(lines[index].text for index in pinned), heading, *last]


def _not_torn(blocks: list[ErrorBlock], cut: int, end: int) -> int:
    """Return where the last lines start, so that no traceback starts in its middle, unless it would
    take most of them."""
    for block in blocks:
        if block.traceback and block.start < cut < block.end <= (cut + end) // 2:
            return block.end
    return cut


def _pick(lines: list[LogLine], blocks: list[ErrorBlock], cut: int, most: int) -> list[int]:
    """Return up to `most` lines above `cut` worth a pin: tracebacks before other errors, newest
    first, each error once."""
    texts = [line.text for line in lines]
    seen = {kind_of(texts, block) for block in blocks if block.start >= cut}
    pinned: list[int] = []
    above = [block for block in blocks if block.start < cut]
    for block in sorted(above, key=lambda b: (b.traceback, b.start), reverse=True):
        kind = kind_of(texts, block)
        room = most - len(pinned)
        if room <= 0 or kind in seen:
            continue
        seen.add(kind)
        body = range(block.start, min(block.end, cut))
        # The head and the innermost frames of a long traceback say most.
        pinned.extend(body if len(body) <= room else [body[0], *body[len(body) - room + 1 :]])
    return sorted(pinned)


def _blocks(lines: list[LogLine]) -> list[ErrorBlock]:
    return error_blocks([line.text for line in lines])


def _of_files(stdout: Path | None, stderr: Path | None, max_lines: int) -> dict[str, str]:
    texts = {"stdout": tail_text(stdout, max_lines), "stderr": tail_text(stderr, max_lines)}
    if stdout is not None and stderr is not None and _is_same(stdout, stderr):
        texts["stderr"] = no_output("it goes to the same file as stdout")
    return texts


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one == other or one.samefile(other)
    except (OSError, ValueError):
        return False


def _has_ended(source: object) -> bool:
    """Return whether a handle knows that its process is over. A bare pid cannot know."""
    if isinstance(source, psutil.Process):
        try:
            return not source.is_running() or source.status() == psutil.STATUS_ZOMBIE
        except (psutil.Error, OSError):
            return True
    return getattr(source, "returncode", None) is not None


def _of_pid(pid: int, max_lines: int) -> dict[str, str]:
    if sys.platform != "linux":
        nothing = no_output(
            f"the output of process {pid} cannot be found by its pid on this system"
        )
        return {"stdout": nothing, "stderr": nothing}
    files = {name: _follow_fd(pid, fd) for name, fd in (("stdout", 1), ("stderr", 2))}
    out, err = files["stdout"], files["stderr"]
    if isinstance(out, Path) and isinstance(err, Path):
        return _of_files(out, err, max_lines)
    return {
        name: tail_text(found, max_lines) if isinstance(found, Path) else found
        for name, found in files.items()
    }


def _follow_fd(pid: int, fd: int) -> Path | str:
    """Return the regular file that a process writes to, or in words why there is none (Linux)."""
    link = Path(f"/proc/{pid}/fd/{fd}")
    try:
        target = str(link.readlink())
        mode = link.stat().st_mode
    except FileNotFoundError:
        return no_output(f"process {pid} has ended, or has closed this stream")
    except OSError as error:
        why = disk.in_words(error)
        return no_output(f"what process {pid} writes to may not be read: {why}")
    if stat.S_ISREG(mode):
        return link if target.endswith(" (deleted)") else Path(target)
    kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else target
    return no_output(f"process {pid} writes to {kind}, which cannot be read afterwards")
