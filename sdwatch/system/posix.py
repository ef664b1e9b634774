"""Linux and macOS."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

import psutil

from sdwatch.system.held import HELD_CODES, NOT_FOLLOWED, Entry, EntryKind
from sdwatch.system.listening import listeners

assert sys.platform != "win32"

WRITERS_BLOCK_CLAIMS = False
"""A file that somebody writes to can be renamed all the same."""

_CONNECT_LIMIT = 1.0  # seconds

# What is only walked through need not be readable, where the system knows the difference.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC


def boot_time() -> float:
    """Seconds since the machine's start, sleep included."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.clock_gettime(time.CLOCK_MONOTONIC)  # on macOS this one goes on during sleep


@functools.cache
def boot_id() -> str:
    """Names this run of the machine; another one after each reboot."""
    if sys.platform == "linux":
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    try:
        question = ["sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(question, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return str(round(psutil.boot_time()))


def start_mark(pid: int) -> str | None:
    """With the pid and the boot id, names one process for good; None when there is none.

    On Linux these are clock ticks since boot: psutil's create_time() moves when somebody sets
    the clock, the ticks do not. A zombie still has its mark.
    """
    if sys.platform == "linux":
        try:
            line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        after_name = line.rpartition(")")[2].split()  # the name itself may hold spaces and ")"
        return after_name[19]  # field 22 of proc_pid_stat(5); these begin at field 3
    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def sync_folder(path: str, held: int | None) -> None:
    """Make the names in a folder durable: of the one that is `held`, or else at `path`. Raises
    OSError."""
    fd = _open_held(path, held)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def somebody_listens(host: str, port: int) -> bool:
    """Whether anybody listens on that port. A connection that is neither taken nor refused proves
    nothing: behind it is a listener that does not accept, or a firewall that drops packets. Then
    the table of connections decides; where it is closed to this user, the answer is yes."""
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_LIMIT):
            return True
    except TimeoutError:
        try:
            return bool(listeners(host, port))
        except (psutil.Error, OSError):
            return True
    except OSError:
        return False


def long_path(path: Path) -> Path:
    """Return the path as functions of the system take it, however long: here as it is. What is
    longer than 4,096 bytes (PATH_MAX) is reached from a handle of a folder, see `holding`."""
    return path


def too_long_for_programs(path: Path) -> str:
    """Return what keeps other programs from using a path of this length: here nothing."""
    del path
    return ""


def open_to_read(path: Path) -> int:
    """A descriptor to read the file; a pipe is not waited for. Raises OSError, for a folder too."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return fd


def is_held(error: OSError) -> bool:
    """Whether another program has the file open for a moment, so that the same effect may succeed a
    moment later. Never: here an open file is in nobody's way, and a PermissionError stays one.
    (What has a `winerror` comes from tests, which imitate Windows.)"""
    return getattr(error, "winerror", None) in HELD_CODES


def code_pages() -> tuple[str, ...]:
    """Encodings of output that is not UTF-8, the likeliest first: those of Western Windows, because
    a log may lie on a share and come from there."""
    return ("cp1252", "cp850")


_started_with: int | None = None  # the umask, once it was changed


def cut(connection: socket.socket) -> None:
    """Free whoever is blocked in a read of a connection: shutting it down does, closing does not
    (measured)."""
    with suppress(OSError):  # not connected any more
        connection.shutdown(socket.SHUT_RDWR)


def when_session_ends(end: Callable[[], None]) -> None:
    """Nothing: here the end of a session or of the machine is a signal."""
    del end


def use_umask(mask: int) -> None:
    """Take these bits from the mode of all that this process makes from now on. What `spawn` starts
    keeps the umask that this process was started with."""
    global _started_with
    before = os.umask(mask)
    if _started_with is None:
        _started_with = before


def spawn(
    command: Sequence[str],
    *,
    cwd: Path | None,
    env: Mapping[str, str],
    stdout: Path,
    stderr: Path,
    job_name: str,
) -> subprocess.Popen[bytes]:
    """Start a process that outlives us, in a session of its own; it writes to files, not pipes.

    The files are appended to, so that truncating them in place is safe, and are for this user
    alone. What the process makes itself has the mode that it would have without us. `job_name` is
    for Windows. Raises OSError.
    """
    del job_name
    # No PR_SET_PDEATHSIG: it fires when the thread that spawned ends, not when the monitor does.
    with open(stdout, "ab", opener=_private) as out, open(stderr, "ab", opener=_private) as err:
        return subprocess.Popen(
            list(command),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            close_fds=True,
            umask=-1 if _started_with is None else _started_with,
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def session_of(pid: int) -> int | None:
    """The session of a process, dead but not reaped included; None where there is no process."""
    try:
        return os.getsid(pid)
    except OSError:
        return None


def session_members(session: int) -> list[psutil.Process]:
    """The processes of this user in a session, dead ones too that nobody has reaped."""
    found = []
    for pid in psutil.pids():
        if session_of(pid) != session:
            continue
        try:
            process = psutil.Process(pid)
            # Asked again: a process in it was given its number a moment ago, perhaps.
            if session_of(pid) == session and process.uids().real == os.getuid():
                found.append(process)
        except psutil.Error:
            continue  # gone meanwhile
    return found


def numbering() -> str:
    """How far the numbering of processes has come; "" where that cannot be seen. To be kept for
    `is_same_round`."""
    if sys.platform != "linux":
        return ""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return ""
    made = next((line.split()[1] for line in lines if line.startswith("processes ")), "")
    # In a container numbers start again with its first process, and the boot id stays.
    first = start_mark(1)
    return f"{first} {made}" if made and first else ""


def is_same_round(then: str) -> bool:
    """Whether no number that was in use at `then` (see `numbering`) can have been given to another
    process since. False where that is not known.

    Linux gives numbers in a circle: one comes round only when all free ones after it were given,
    and each process and thread that is made takes one (proc_stat(5): `processes`). Half of the
    circle is not enough for that, unless the other half is in use.
    """
    try:
        (first, made), (first_now, made_now) = then.split(), numbering().split()
        most = int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii"))
        return first == first_now and 0 < int(made) <= int(made_now) < int(made) + most // 2
    except (OSError, ValueError):
        return False


def prints_to(process: psutil.Process, paths: Iterable[Path]) -> bool:
    """Whether stdout or stderr of a process goes to one of `paths`. False where that cannot be
    seen."""
    if sys.platform != "linux":
        return False
    wanted = [path.resolve() for path in paths]
    for fd in (1, 2):
        with suppress(OSError):
            if Path(f"/proc/{process.pid}/fd/{fd}").readlink() in wanted:
                return True
    return False


def ask_to_end(pids: Iterable[int], group: int | None, job_name: str) -> None:
    """SIGTERM to the group, and to each of `pids` that is outside of it."""
    del job_name
    inside: list[int] = []
    outside: list[int] = []
    for pid in pids:
        (inside if group is not None and _group_of(pid) == group else outside).append(pid)
    # The group is signalled only while one of ours is in it: its number may have been given away.
    if group is not None and inside:
        try:
            os.killpg(group, signal.SIGTERM)
        except (ProcessLookupError, PermissionError):
            outside += inside
    _signal(outside, signal.SIGTERM)


def kill(pids: Iterable[int], job_name: str) -> None:
    """SIGKILL to each of `pids`."""
    del job_name
    _signal(pids, signal.SIGKILL)


def wait_gone(process: psutil.Process) -> int | None:
    """Block until the process is dead, also if nobody reaps it; always None: the exit code is
    its parent's to see.

    psutil's own wait() would wait for a zombie to be reaped, which in a container whose first
    process does not reap is for ever (measured with Forge dfdcbab6).
    """
    while _is_alive(process):
        if not _wait_by_pidfd(process.pid):
            time.sleep(0.05)
    return None


def io_bytes(process: psutil.Process) -> int:
    """Bytes that a process has read and written so far, sockets included; 0 where unknown.

    Raises psutil.Error.
    """
    if sys.platform == "linux":
        counters = process.io_counters()
        return counters.read_chars + counters.write_chars
    return 0


@contextmanager
def holding(root: Path, parts: Sequence[str]) -> Iterator[int | None]:
    """Hold the folder `parts` below `root` open: its descriptor, for functions that take a dir_fd.
    Links are followed up to `root`, and from there on none is: it is walked one folder at a time
    with O_NOFOLLOW, which all of POSIX has. Raises OSError, with the path of what is in the way;
    ELOOP where it is a link."""
    fd = os.open(root, _FOLDER)
    try:
        for number, part in enumerate(parts, 1):
            try:
                if part == "..":
                    raise OSError(errno.ELOOP, "leads outside")
                inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
            except OSError as error:
                raise _in_the_way(error, fd, root.joinpath(*parts[:number])) from error
            os.close(fd)
            fd = inner
        yield fd
    finally:
        os.close(fd)


def _in_the_way(error: OSError, fd: int, path: Path) -> OSError:
    """The error of a walk that ended at `path`. The system says ENOTDIR of a link, too."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        with suppress(OSError):
            if is_link(os.stat(path.name, dir_fd=fd, follow_symlinks=False)):
                return OSError(errno.ELOOP, NOT_FOLLOWED, str(path))
    assert error.errno is not None
    return OSError(error.errno, error.strerror, str(path))


def is_link(status: os.stat_result) -> bool:
    """Whether it leads elsewhere, as told by lstat."""
    return stat.S_ISLNK(status.st_mode)


def open_inside(folder: Path, name: str) -> int:
    """A descriptor to read the file `name` (relative, with `/`) below `folder`. No link below
    `folder` is followed, also none that takes a place on the way in this moment; nor is a pipe
    waited for. Raises OSError: ELOOP or ENOTDIR where the name leads outside."""
    *above, last = PurePosixPath(name).parts or ("",)
    if last == ".." or name.startswith("/"):
        raise OSError(errno.ELOOP, "leads outside", name)
    with holding(folder, above) as held:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(last, flags, dir_fd=held)


def open_new(name: str, held: int | None, permissions: int = 0o666) -> int:
    """A descriptor to write a file that is not there yet, with these permissions less the umask; a
    link of that name is there. Raises FileExistsError, OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, permissions, dir_fd=held)


def open_to_append(name: str, held: int | None) -> int:
    """A descriptor to append to a file that is there, and to read it. A link is followed only where
    no folder is `held`. Raises OSError."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (0 if held is None else os.O_NOFOLLOW)
    return os.open(name, flags, dir_fd=held)


def listing(path: str, held: int | None) -> list[Entry]:
    """What lies in a folder: in the one that is `held`, or else at `path`. Raises OSError."""
    fd = _open_held(path, held)
    try:
        with os.scandir(fd) as entries:
            return [Entry(entry.name, _kind_of(entry)) for entry in entries]
    finally:
        os.close(fd)


def _kind_of(entry: os.DirEntry[str]) -> EntryKind:
    """To be asked while the folder is open: on some file systems a listing has no types."""
    if entry.is_symlink():
        return EntryKind.LINK
    if entry.is_dir(follow_symlinks=False):
        return EntryKind.FOLDER
    return EntryKind.FILE if entry.is_file(follow_symlinks=False) else EntryKind.OTHER


def remove_file(name: str, held: int | None) -> None:
    """Remove a file, or a link. Raises OSError."""
    os.unlink(name, dir_fd=held)


def replace(old: str, new: str, held: int | None) -> None:
    """Rename within one folder, over what is there. Raises OSError."""
    os.replace(old, new, src_dir_fd=held, dst_dir_fd=held)


def remove_tree(name: str, held: int | None) -> None:
    """Remove a folder with all that is in it, also folders of ours that are read-only; no link is
    followed, also none that comes meanwhile. Raises OSError."""
    try:
        shutil.rmtree(name, dir_fd=held)
    except PermissionError:
        if not _make_writable(name, held):
            raise
        shutil.rmtree(name, dir_fd=held)


def _make_writable(name: str, held: int | None) -> bool:
    """Let us remove what is in a folder and in those below it; whether anything was in the way.
    Raises OSError."""
    was_in_the_way = False
    for _, _, _, folder in os.fwalk(name, dir_fd=held):
        mode = stat.S_IMODE(os.fstat(folder).st_mode)
        if not mode & stat.S_IWUSR:
            os.fchmod(folder, mode | stat.S_IRWXU)
            was_in_the_way = True
    return was_in_the_way


def _open_held(path: str, held: int | None) -> int:
    """A descriptor of a folder to list or sync; one with O_PATH is for neither."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    return os.open(path, flags) if held is None else os.open(".", flags, dir_fd=held)


def is_still_written(path: Path) -> bool:
    """Whether a program of this machine has the file open to write to it, a file server such as
    smbd included. False where that cannot be known: then a file counts as whole once it has
    stopped changing.

    Linux gives a read lease on a file that nobody writes to (fcntl(2), F_SETLEASE), to the owner
    of the file and to whoever has CAP_LEASE. Network file systems refuse all leases with the same
    error, so that a refusal counts only where a file of our own beside it gets one.
    """
    if sys.platform != "linux":
        return False
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and not _leased(fd) and _gives_leases(path.parent)
    finally:
        os.close(fd)


def _leased(fd: int) -> bool:
    """Whether nobody writes to the open file, as far as this can be asked."""
    assert sys.platform == "linux"
    try:
        # Who opens it in between waits until the lease is given up, and we are sent a signal: one
        # that is ignored, since the usual one would end this process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno != errno.EAGAIN
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


def _gives_leases(folder: Path) -> bool:
    """Whether a file in this folder that nobody can write to gets a lease."""
    assert sys.platform == "linux"
    try:
        written = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    except OSError:
        return False
    try:
        read = os.open(f"/proc/self/fd/{written}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    finally:
        os.close(written)
    try:
        return _leased(read)
    finally:
        os.close(read)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True  # there, and not ours to look at


def _wait_by_pidfd(pid: int) -> bool:
    """Whether it could be waited for; if not (old kernel, no descriptors left, EINVAL by a race
    while the process ends), the caller looks again."""
    if sys.platform != "linux":
        return False
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        poller.poll()
    finally:
        os.close(fd)
    return True


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue  # gone, or no longer ours to signal; the caller looks again
