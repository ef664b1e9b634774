"""Windows."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import logging
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import psutil

from sdwatch.system.held import HELD_CODES, NOT_FOLLOWED, Entry, EntryKind, file_kind
from sdwatch.system.interpreter import python_of_console
from sdwatch.system.listening import listeners
from sdwatch.system.long_paths import LONGEST_FOLDER, extended, too_long, units

assert sys.platform == "win32"

import msvcrt  # noqa: E402

import pywintypes  # noqa: E402
import win32con  # noqa: E402
import win32file  # noqa: E402
import win32job  # noqa: E402

log = logging.getLogger("sdwatch.webui")

_job_api: Any = win32job  # its type stubs say that its functions return nothing

WRITERS_BLOCK_CLAIMS = True
"""A file that somebody writes to can only be renamed where he opened it with FILE_SHARE_DELETE."""

_CREATE_SUSPENDED = 0x4
_FILE_APPEND_DATA = 0x4
_ERROR_SHARING_VIOLATION = 32
_FILE_NAME_OPENED = 0x8
_JOB_OBJECT_TERMINATE = 0x8
_OPEN_REPARSE_POINT = 0x00200000
_GLOBAL = "Global\\"
"""Of a name that is the same in all sessions: a service runs in another one than its user, and
whoever started the monitor last may be either. Job objects need no privilege for it (Microsoft,
Kernel object namespaces: only file mappings and symbolic links do)."""
_NAME_SURROGATE = 0x20000000  # of a reparse tag: IsReparseTagNameSurrogate in ntifs.h

# A break reaches only processes on the sender's own console, and the WebUI has one for itself:
# a helper goes there and sends it, so that the monitor keeps its own.
_SEND_BREAK = (
    "import ctypes, sys; k = ctypes.windll.kernel32; pid = int(sys.argv[1]);"
    "k.FreeConsole(); k.AttachConsole(pid); k.GenerateConsoleCtrlEvent(1, pid)"
)

_jobs: dict[str, Any] = {}  # handles by name: a job without an open handle loses its name


def boot_time() -> float:
    """Seconds since the machine's start, sleep included."""
    ticks = ctypes.windll.kernel32.GetTickCount64
    ticks.restype = ctypes.c_ulonglong
    return float(ticks()) / 1000.0


@functools.cache
def boot_id() -> str:
    """Names this run of the machine; another one after each reboot.

    It is the start time of the session manager, the first process of a boot: it was written down
    once, while the boot time is computed and moves with the clock.
    """
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "smss.exe":
            with contextlib.suppress(psutil.Error):
                return repr(process.create_time())
    return str(round(psutil.boot_time(), -1))


def start_mark(pid: int) -> str | None:
    """With the pid and the boot id, names one process for good; None when there is none."""
    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def sync_folder(path: str, held: int | None) -> None:
    """Windows has no such thing: names are journalled by the file system."""
    del path, held


def somebody_listens(host: str, port: int) -> bool:
    """Whether anybody listens on that port, by the table of connections, which has those of all
    users. Connecting could not tell within a second: Windows sends its SYN again, so that a refused
    connection takes about two (Microsoft KB 175523, curl#14144)."""
    try:
        return bool(listeners(host, port))
    except (psutil.Error, OSError):
        return False  # whoever is there shows when the WebUI cannot bind


def long_path(path: Path) -> Path:
    r"""Return the path as functions of the system take it, however long: where it has more than
    Windows takes by default, with `\\?\` before it. It is for calls alone; people never see it."""
    whole = str(path.absolute())
    return path if units(whole) <= LONGEST_FOLDER else Path(extended(whole))


def too_long_for_programs(path: Path) -> str:
    """Return what keeps other programs, and what this one does not do through `long_path`, from
    using a path of this length; '' where nothing does. A current folder has the limit always."""
    return too_long(str(path.absolute()))


def open_to_read(path: Path) -> int:
    """A descriptor to read the file that keeps nobody from replacing, renaming or removing it:
    open() would share it for reading and writing only. Raises OSError."""
    return msvcrt.open_osfhandle(int(_to_read(path, 0).Detach()), os.O_RDONLY)


def is_held(error: OSError) -> bool:
    """Whether another program may have the file open for a moment, so that the same effect may
    succeed a moment later. open() has no `winerror`: the C runtime keeps the errno only."""
    if error.winerror is None:
        return error.errno == errno.EACCES
    return error.winerror in HELD_CODES


def code_pages() -> tuple[str, ...]:
    """Encodings of output that is not UTF-8, the likeliest first: what programs with windows use
    (ANSI), and what consoles and cmd.exe do (OEM)."""
    kernel = ctypes.windll.kernel32
    return f"cp{kernel.GetACP()}", f"cp{kernel.GetOEMCP()}"


def cut(connection: socket.socket) -> None:
    """Free whoever is blocked in a read of a connection. Shutting it down ends the reads to come;
    one that has started is freed for certain only by closing (Microsoft, shutdown and closesocket
    of WinSock 2). `detach` comes first: who reads through the object finds it closed, and never
    what gets the number of its handle next."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        if (handle := connection.detach()) != -1:
            socket.close(handle)


def use_umask(mask: int) -> None:
    """Nothing: here the folder's ACL decides, which is inherited."""
    del mask


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
    handles = {"handle_list": [int(job)]} if job is not None else {}
    with open(_append(stdout), "ab") as out, open(_append(stderr), "ab") as err:

        def start(flags: int) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                list(command),
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                startupinfo=subprocess.STARTUPINFO(lpAttributeList=handles),
                creationflags=flags
                | subprocess.CREATE_NEW_PROCESS_GROUP
                | subprocess.CREATE_NO_WINDOW
                | _CREATE_SUSPENDED,  # until it is in the job: no child can slip away before
            )

        try:
            # Whoever started us may have put us into a job that ends with it (the Task Scheduler,
            # a terminal, a service wrapper), and the WebUI is to outlive us.
            process = start(subprocess.CREATE_BREAKAWAY_FROM_JOB)
        except PermissionError:  # that job lets nobody go
            process = start(0)
    if job is not None:
        _put_into(job, process, job_name)
    try:
        psutil.Process(process.pid).resume()
    except psutil.Error as error:
        process.kill()
        process.wait()
        raise OSError(f"{command[0]} could not be resumed: {error}") from error
    return process


def _new_job(job_name: str) -> Any | None:
    """A job object that a child can inherit; None where the system refuses it."""
    security = pywintypes.SECURITY_ATTRIBUTES()
    security.bInheritHandle = True
    try:
        return _job_api.CreateJobObject(security, _GLOBAL + job_name)
    except pywintypes.error as error:
        log.warning("no job object (%s): a child that leaves the WebUI may be missed", error)
        return None


def _put_into(job: Any, process: subprocess.Popen[bytes], job_name: str) -> None:
    """Assign a process to a job; that it is refused is no reason not to run it."""
    try:
        _job_api.AssignProcessToJobObject(job, int(process._handle))  # type: ignore[attr-defined]
    except pywintypes.error as error:
        log.warning(
            "pid %d is in no job object (%s): a child that leaves it may be missed",
            process.pid,
            error,
        )
    else:
        _jobs[job_name] = job


def session_of(pid: int) -> int | None:
    """Windows has no such sessions: a job object holds what belongs together."""
    del pid
    return None


def session_members(session: int) -> list[psutil.Process]:
    """See `session_of`."""
    del session
    return []


def numbering() -> str:
    """Numbers are given in no order here, so nothing can be said of them."""
    return ""


def is_same_round(then: str) -> bool:
    """See `numbering`."""
    del then
    return False


def prints_to(process: psutil.Process, paths: Iterable[Path]) -> bool:
    """Whether stdout or stderr of a process goes to one of `paths`: cannot be seen here."""
    del process, paths
    return False


def ask_to_end(pids: Iterable[int], group: int | None, job_name: str) -> None:
    """Ctrl+Break to the group; there is nothing milder for what is outside of it."""
    del pids, job_name
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
    """A job that another monitor made. Raises pywintypes.error."""
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
    """Bytes that a process has read and written so far, sockets included.

    Raises psutil.Error.
    """
    counters = process.io_counters()
    return counters.read_bytes + counters.write_bytes + counters.other_bytes


@contextlib.contextmanager
def holding(root: Path, parts: Sequence[str]) -> Iterator[int | None]:
    """Hold `root` and each folder of `parts` below it open, without FILE_SHARE_DELETE: while it
    lasts none of them can be renamed, removed or replaced, so that their paths mean what was
    looked at. Gives None: Windows has no functions relative to a folder. Each is opened as it
    lies there, and only then looked at. Raises OSError, with the path of what is in the way;
    ELOOP where it is a link or a junction."""
    with contextlib.ExitStack() as held:
        held.callback(_hold(root, 0).Close)
        path = root
        for part in parts:
            path = path / part
            if part == "..":
                raise OSError(errno.ELOOP, "leads outside", str(path))
            held.callback(_hold(path, _OPEN_REPARSE_POINT).Close)
            status = os.lstat(long_path(path))
            if is_link(status):
                raise OSError(errno.ELOOP, NOT_FOLLOWED, str(path))
            if not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
        yield None


def _hold(path: Path, flags: int) -> Any:
    """A handle of a folder that keeps it in its place. To read is asked for because a handle that
    asks for nothing keeps nobody away. Raises OSError."""
    share = win32con.FILE_SHARE_READ | win32con.FILE_SHARE_WRITE
    flags |= win32con.FILE_FLAG_BACKUP_SEMANTICS  # the flag that opens folders
    return _opened(path, win32con.GENERIC_READ, share, win32con.OPEN_EXISTING, flags)


def is_link(status: os.stat_result) -> bool:
    """Whether it leads elsewhere, as told by lstat: a symbolic link, a junction, a mount point.
    Other reparse points are the file itself, kept in another way: by OneDrive until it is asked
    for, or deduplicated. The system marks those that stand for another name (name surrogates)."""
    is_reparse_point = status.st_file_attributes & stat.FILE_ATTRIBUTE_REPARSE_POINT
    return bool(is_reparse_point and status.st_reparse_tag & _NAME_SURROGATE)


def open_inside(folder: Path, name: str) -> int:
    """A descriptor to read the file `name` (relative, with `/`) below `folder`. What was opened is
    asked where it lies: a link or junction below `folder` shows, however late it took a place on
    the way. A folder is opened as well, as on POSIX, so that the caller sees what it is: an access
    denied would read as a file that is held. Raises OSError: ELOOP where the name leads outside,
    FileNotFoundError for an empty name."""
    if not name:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    inner = str(PurePosixPath(name)).replace("/", "\\")
    top = _to_read(folder, win32con.FILE_FLAG_BACKUP_SEMANTICS)  # the flag that opens folders
    try:
        file = _to_read(folder / inner, win32con.FILE_FLAG_BACKUP_SEMANTICS)
        try:
            wanted = _final_path(top).rstrip("\\") + "\\" + inner
            if _final_path(file).casefold() != wanted.casefold():
                raise OSError(errno.ELOOP, "leads outside", name)
            return msvcrt.open_osfhandle(int(file.Detach()), os.O_RDONLY)
        finally:
            file.Close()  # nothing is left to close once it was detached
    finally:
        top.Close()


def open_new(name: str, held: int | None, permissions: int = 0o666) -> int:
    """A descriptor to write a file that is not there yet; a link of that name is there, wherever it
    leads. An ACL decides about permissions. Raises FileExistsError, OSError."""
    del held, permissions
    flags = win32con.FILE_ATTRIBUTE_NORMAL | _OPEN_REPARSE_POINT
    share = win32con.FILE_SHARE_READ | win32con.FILE_SHARE_WRITE  # as open() does
    file = _opened(Path(name), win32con.GENERIC_WRITE, share, win32con.CREATE_NEW, flags)
    return msvcrt.open_osfhandle(int(file.Detach()), os.O_BINARY)


def open_to_append(name: str, held: int | None) -> int:
    """A descriptor to append to a file that is there, and to read it. Raises OSError."""
    del held
    fd = os.open(name, os.O_RDWR | os.O_APPEND | os.O_BINARY)
    # While it is open it is what lies there: open() does not let others remove or rename it.
    if is_link(os.lstat(name)):
        os.close(fd)
        raise OSError(errno.ELOOP, NOT_FOLLOWED, name)
    return fd


def listing(path: str, held: int | None) -> list[Entry]:
    """What lies in a folder. Raises OSError."""
    del held
    with os.scandir(path) as entries:
        return [Entry(entry.name, _kind_of(entry)) for entry in entries]


def _kind_of(entry: os.DirEntry[str]) -> EntryKind:
    """All from the listing itself, which opens nothing, so that no file of a cloud is brought here;
    a junction says that it is a folder, too."""
    status = entry.stat(follow_symlinks=False)
    if is_link(status):
        return EntryKind.LINK
    if entry.is_dir(follow_symlinks=False):
        return EntryKind.FOLDER
    if not entry.is_file(follow_symlinks=False):
        return EntryKind.OTHER
    return file_kind(status.st_file_attributes)


def remove_tree(name: str, held: int | None) -> None:
    """Remove a folder with all that is in it; no link is followed: each folder is held, and so is
    what it was when it was looked at, until it is empty. Raises OSError."""
    path = Path(name)
    with holding(path.parent, [path.name]):
        for entry in listing(name, held):
            inner = long_path(path / entry.name)
            if entry.kind is EntryKind.FOLDER:
                remove_tree(str(inner), held)
            elif os.lstat(inner).st_file_attributes & stat.FILE_ATTRIBUTE_DIRECTORY:
                # Of a junction, or of a link to a folder, this removes the link itself.
                _although_read_only(str(inner), inner.rmdir)
            else:
                remove_file(str(inner), held)
    _although_read_only(name, long_path(path).rmdir)


def remove_file(name: str, held: int | None) -> None:
    """Remove a file, also one that is marked read-only: there that keeps it from being removed or
    replaced, which elsewhere is its folder's business. Raises OSError."""
    del held
    _although_read_only(name, Path(name).unlink)


def replace(old: str, new: str, held: int | None) -> None:
    """Rename over what is there, also a file that is marked read-only. Raises OSError."""
    del held
    _although_read_only(new, lambda: os.replace(old, new))


def _although_read_only(name: str, effect: Callable[[], None]) -> None:
    """Do it; where it is refused and `name` is marked read-only, take the mark off first."""
    try:
        effect()
    except PermissionError:
        with contextlib.suppress(FileNotFoundError):
            if not os.lstat(name).st_file_attributes & stat.FILE_ATTRIBUTE_READONLY:
                raise
            Path(name).chmod(stat.S_IWRITE)
        effect()


def is_still_written(path: Path) -> bool:
    """Whether somebody has the file open to write: then it cannot be opened without sharing that.
    Who only reads it, a virus scanner or a preview, is in nobody's way."""
    share = win32con.FILE_SHARE_READ | win32con.FILE_SHARE_DELETE
    try:
        _opened(path, win32con.GENERIC_READ, share, win32con.OPEN_EXISTING, 0).Close()
    except OSError as error:
        return error.winerror == _ERROR_SHARING_VIOLATION
    return False


def _to_read(path: Path, flags: int) -> Any:
    """A handle that keeps nobody else away. Raises OSError."""
    share = win32con.FILE_SHARE_READ | win32con.FILE_SHARE_WRITE | win32con.FILE_SHARE_DELETE
    return _opened(path, win32con.GENERIC_READ, share, win32con.OPEN_EXISTING, flags)


def _opened(path: Path, access: int, share: int, how: int, flags: int) -> Any:
    try:
        return win32file.CreateFile(str(long_path(path)), access, share, None, how, flags, None)
    except pywintypes.error as error:
        raise OSError(0, error.strerror, str(path), error.winerror) from error


def _final_path(handle: Any) -> str:
    """Where it lies, all links resolved. As opened, not normalised: SMB cannot be asked for the
    normalised one where a folder on the way is closed to us. Raises OSError."""
    try:
        return str(win32file.GetFinalPathNameByHandle(handle, _FILE_NAME_OPENED))
    except pywintypes.error as error:
        raise OSError(0, error.strerror, None, error.winerror) from error


def _append(path: Path) -> int:
    """A descriptor that can only append, also in the process that inherits it: mode "ab" alone
    would leave a hole after the file was truncated in place."""
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
