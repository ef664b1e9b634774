"""Windows: start, find, watch and end processes."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from sdwatch.system.interpreter import python_of_console

assert sys.platform == "win32"

import msvcrt  # noqa: E402

import pywintypes  # noqa: E402
import win32con  # noqa: E402
import win32file  # noqa: E402
import win32job  # noqa: E402

from sdwatch.system.log_events import LogEvent, about  # noqa: E402
from sdwatch.system.windows_files import long_path  # noqa: E402

log = logging.getLogger("sdwatch.webui")

_job_api: Any = win32job  # its type stubs say that its functions return nothing

_CREATE_SUSPENDED = 0x4
_FILE_APPEND_DATA = 0x4
_JOB_OBJECT_TERMINATE = 0x8
_GLOBAL = "Global\\"
"""Of a name that is the same in all sessions: a service runs in another one than its user, and
whoever started the monitor last may be either. Job objects need no privilege for it (Microsoft,
Kernel object namespaces: only file mappings and symbolic links do)."""

# A break reaches only processes on the sender's own console, and the WebUI has one for itself:
# a helper goes there and sends it, so that the monitor keeps its own.
_SEND_BREAK = (
    "import ctypes, sys; k = ctypes.windll.kernel32; pid = int(sys.argv[1]);"
    "k.FreeConsole(); k.AttachConsole(pid); k.GenerateConsoleCtrlEvent(1, pid)"
)

_jobs: dict[str, Any] = {}  # handles by name: a job without an open handle loses its name


def start_mark(pid: int) -> str | None:
    """Return what with the pid and the boot id identifies one process; None if there is none."""
    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def environ_has(pid: int, name: str, value: str) -> bool:
    """Return whether the process was started with `name=value`. False where that cannot be seen."""
    try:
        return psutil.Process(pid).environ().get(name) == value
    except (psutil.Error, OSError):
        return False


def use_umask(mask: int) -> None:
    """Do nothing: here the folder's ACL decides, which is inherited."""


def spawn(
    command: Sequence[str],
    *,
    cwd: Path | None,
    env: Mapping[str, str],
    stdout: Path,
    stderr: Path,
    job_name: str,
) -> subprocess.Popen[bytes]:
    """Start a process that outlives us, in a named job; it writes to files, not pipes.

    The process inherits a handle of its job, so that the name lives as long as it does, and the
    next monitor can open the job by that name. The job is not kill-on-close. Where the system
    refuses the job, the process runs without: it is then found by its environment and its parents
    alone. Raises OSError.
    """
    job = _new_job(job_name)
    with open(open_log(stdout), "ab") as out, open(open_log(stderr), "ab") as err:
        start = functools.partial(_start_suspended, list(command), cwd, dict(env), out, err, job)
        try:
            # Whoever started us may have put us into a job that ends with it (the Task Scheduler,
            # a terminal, a service wrapper), and the WebUI has to outlive us.
            process = start(subprocess.CREATE_BREAKAWAY_FROM_JOB)
        except PermissionError:  # that job lets nobody go
            process = start(0)
    if job is not None:
        _put_into(job, process, job_name)
    _resume(process, command[0])
    return process


def _start_suspended(
    command: list[str],
    cwd: Path | None,
    env: dict[str, str],
    out: BinaryIO,
    err: BinaryIO,
    job: Any | None,
    flags: int,
) -> subprocess.Popen[bytes]:
    """Start a process that does not run before it is in its job: until then a child could slip
    away. It inherits the handle of the job. Raises OSError."""
    handles = {"handle_list": [int(job)]} if job is not None else {}
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        startupinfo=subprocess.STARTUPINFO(lpAttributeList=handles),
        creationflags=flags
        | subprocess.CREATE_NEW_PROCESS_GROUP
        | subprocess.CREATE_NO_WINDOW
        | _CREATE_SUSPENDED,
    )


def _resume(process: subprocess.Popen[bytes], name: str) -> None:
    """Let a suspended process run; one that cannot is killed. Raises OSError."""
    try:
        psutil.Process(process.pid).resume()
    except psutil.Error as error:
        process.kill()
        process.wait()
        raise OSError(f"{name} could not be resumed: {error}") from error


def _new_job(job_name: str) -> Any | None:
    """Return a job object that a child can inherit; None where the system refuses it."""
    security = pywintypes.SECURITY_ATTRIBUTES()
    security.bInheritHandle = True
    try:
        return _job_api.CreateJobObject(security, _GLOBAL + job_name)
    except pywintypes.error as error:
        log.warning(
            "no job object (%s): a child that leaves the WebUI may be missed",
            error,
            extra=about(LogEvent.PROCESS_NOT_CONTAINED),
        )
        return None


def _put_into(job: Any, process: subprocess.Popen[bytes], job_name: str) -> None:
    """Assign a process to a job; if that is refused, it runs without."""
    try:
        _job_api.AssignProcessToJobObject(job, int(process._handle))  # type: ignore[attr-defined]
    except pywintypes.error as error:
        log.warning(
            "pid %d is in no job object (%s): a child that leaves it may be missed",
            process.pid,
            error,
            extra=about(LogEvent.PROCESS_NOT_CONTAINED),
        )
    else:
        _jobs[job_name] = job


def session_of(pid: int) -> int | None:
    """Return None: Windows has no such sessions, a job object holds what belongs together."""
    return None


def session_members(session: int) -> list[psutil.Process]:
    """Return nothing, see `session_of`."""
    return []


def numbering() -> str:
    """Return '': numbers are given in no order here, so nothing can be said of them."""
    return ""


def is_same_round(then: str) -> bool:
    """Return False, see `numbering`."""
    return False


def prints_to(process: psutil.Process, paths: Iterable[Path]) -> bool:
    """Return whether stdout or stderr of a process goes to one of `paths`: cannot be seen here."""
    return False


def ask_to_end(pids: Iterable[int], group: int | None, job_name: str) -> None:
    """Send Ctrl+Break to the group; there is nothing milder for what is outside of it."""
    if group is None:
        return
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            [python_of_console(), "-c", _SEND_BREAK, str(group)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            creationflags=subprocess.CREATE_NO_WINDOW,
            timeout=10,
            check=False,
        )


def kill(pids: Iterable[int], job_name: str) -> None:
    """End the whole job, and each of `pids` that is outside of it."""
    with contextlib.suppress(pywintypes.error):
        job = _jobs.pop(job_name, None) or _open_job(job_name)
        _job_api.TerminateJobObject(job, 1)
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).kill()


def _open_job(job_name: str) -> Any:
    """Return a job that another monitor made. Raises pywintypes.error."""
    try:
        return _job_api.OpenJobObject(_JOB_OBJECT_TERMINATE, False, _GLOBAL + job_name)
    except pywintypes.error:  # an earlier version of sdwatch gave a name of its session alone
        return _job_api.OpenJobObject(_JOB_OBJECT_TERMINATE, False, job_name)


def wait_gone(process: psutil.Process) -> int | None:
    """Block until the process is dead; its exit code, 0 to 0xFFFFFFFF. None where this user may
    not wait for it, and could only look whether it is there."""
    mark = start_mark(process.pid)
    try:
        code = process.wait()
    except psutil.AccessDenied:
        while psutil.pid_exists(process.pid) and start_mark(process.pid) in (mark, None):
            time.sleep(0.2)
        return None
    # The upper half may come as negative numbers, which would be read as signals.
    return None if code is None else int(code) & 0xFFFFFFFF


def io_bytes(process: psutil.Process) -> int:
    """Return bytes that a process has read and written so far, sockets included.

    Raises psutil.Error.
    """
    counters = process.io_counters()
    return counters.read_bytes + counters.write_bytes + counters.other_bytes


def open_log(path: Path) -> int:
    """Return a descriptor that can only append, also in the process that inherits it: mode "ab"
    alone would leave a hole after the file was truncated in place."""
    share = win32con.FILE_SHARE_READ | win32con.FILE_SHARE_WRITE | win32con.FILE_SHARE_DELETE
    handle = win32file.CreateFile(
        str(long_path(path)),
        _FILE_APPEND_DATA | win32con.SYNCHRONIZE,
        share,
        None,
        win32con.OPEN_ALWAYS,
        win32con.FILE_ATTRIBUTE_NORMAL,
        None,
    )
    return msvcrt.open_osfhandle(int(handle.Detach()), os.O_APPEND)
