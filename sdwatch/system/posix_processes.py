"""Linux and macOS: start, find, watch and end processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from sdwatch.system import psutil_race

assert sys.platform != "win32"


def start_mark(pid: int) -> str | None:
    """Return what with the pid and the boot id identifies one process; None if there is none.

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


def environ_has(pid: int, name: str, value: str) -> bool:
    """Return whether the process was started with `name=value`. False where that cannot be seen."""
    if sys.platform == "linux":
        wanted = os.fsencode(f"\0{name}={value}\0")
        return wanted in b"\0" + _environment(pid)
    try:
        return psutil.Process(pid).environ().get(name) == value
    except (psutil.Error, OSError):
        return False


def _environment(pid: int) -> bytes:
    """Return the environment that a process was started with, b"" where that cannot be seen. Each
    stop reads that of all processes: Path.read_bytes takes five times as long, and psutil more."""
    try:
        file = os.open(f"/proc/{pid}/environ", os.O_RDONLY)
    except OSError:
        return b""
    try:
        return b"".join(iter(lambda: os.read(file, 1 << 20), b""))
    except OSError:  # it has ended
        return b""
    finally:
        os.close(file)


_started_with: int | None = None  # the umask, once it was changed


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
    """Return the session of a process, dead but not reaped included; None where there is no
    process."""
    try:
        return os.getsid(pid)
    except OSError:
        return None


def session_members(session: int) -> list[psutil.Process]:
    """Return the processes of this user in a session, dead ones too that nobody has reaped."""
    found = []
    for pid in psutil.pids():
        if session_of(pid) != session:
            continue
        try:
            process = psutil_race.ask(psutil.Process, pid)
            # Asked again: a process in it was given its number a moment ago, perhaps.
            user = psutil_race.ask(process.uids).real
            if session_of(pid) == session and user == os.getuid():
                found.append(process)
        except psutil.Error:
            continue  # gone meanwhile
    return found


def numbering() -> str:
    """Return how far the numbering of processes has come; "" where that cannot be seen. To be
    kept for `is_same_round`."""
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
    """Return whether no number that was in use at `then` (see `numbering`) can have been given to
    another process since. False where that is not known.

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
    """Return whether stdout or stderr of a process goes to one of `paths`. False where that
    cannot be seen."""
    if sys.platform != "linux":
        return False
    wanted = [path.resolve() for path in paths]
    for fd in (1, 2):
        with suppress(OSError):
            if Path(f"/proc/{process.pid}/fd/{fd}").readlink() in wanted:
                return True
    return False


def ask_to_end(pids: Iterable[int], group: int | None, job_name: str) -> None:
    """Send SIGTERM to the group, and to each of `pids` that is outside of it."""
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
    """Send SIGKILL to each of `pids`."""
    _signal(pids, signal.SIGKILL)


def wait_gone(process: psutil.Process) -> int | None:
    """Block until the process is dead, also if nobody reaps it; always None: the exit code is
    its parent's to see.

    psutil's own wait() would wait for a zombie to be reaped, which in a container whose first
    process does not reap is forever (measured with Forge dfdcbab6).
    """
    while _is_alive(process):
        if not _wait_by_pidfd(process.pid):
            time.sleep(0.05)
    return None


def io_bytes(process: psutil.Process) -> int:
    """Return bytes that a process has read and written so far, sockets included; 0 where unknown.

    Raises psutil.Error.
    """
    if sys.platform == "linux":
        counters = process.io_counters()
        return counters.read_chars + counters.write_chars
    return 0


def _is_alive(process: psutil.Process) -> bool:
    try:
        is_there = psutil_race.ask(process.is_running)
        return is_there and psutil_race.ask(process.status) != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True  # there, and not ours to look at


def _wait_by_pidfd(pid: int) -> bool:
    """Return whether it could be waited for; if not (old kernel, no descriptors left, EINVAL by
    a race while the process ends), the caller looks again."""
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
