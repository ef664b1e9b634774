r"""What Windows has, wine 8 lacks, and psutil needs. Only for tests under wine; no part of sdwatch.

1. psutil's name() and exe() ask NtQuerySystemInformation for SystemProcessIdInformation, which wine
   does not know. QueryFullProcessImageNameW says the same.
2. The table of TCP connections names no owner: all sockets are the wine server's. Each Python
   process that listens notes it in a file, C:\wine-listeners\<port>, which is read here. To ask
   for the table takes 10 ms for each connection, because wine looks for the owner in all open
   files of all processes; Linux' own table has the same rows at once.
3. GetFinalPathNameByHandle fails with ERROR_MORE_DATA for more than 260 characters, its own buffer.
   NtQueryObject, which it asks, takes one of any size.
4. GenerateConsoleCtrlEvent refuses Ctrl-Break. Ctrl-C is sent in its place.
5. A socket that is closed with a linger of 0 s sends a FIN before its RST, so that its peer sees an
   end and no reset. Who sets that linger notes it in a file, C:\wine-resets\<the peer's port>; who
   finds the end then gets the error that Windows gives.
6. ChangeServiceConfig2 knows neither the delayed start nor the flag of the failure actions, and
   QueryServiceConfig2 not the failure actions either. They are kept in a file,
   C:\wine-services\<name>.json, and nothing acts on them.
7. The service manager does not notice that the process of a service has ended: for it, it runs on.
8. GetProcessTimes answers for any process with the processor times of the one that asks. The list
   of all processes has each one's own.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import struct
import time
from ctypes import wintypes
from pathlib import Path
from typing import Any

LISTENERS = Path(r"C:\wine-listeners")
RESETS = Path(r"C:\wine-resets")
SERVICES = Path(r"C:\wine-services")

_QUERY_LIMITED_INFORMATION = 0x1000
_ERROR_INVALID_PARAMETER = 87
_NATIVE_NAME = 1
_ERROR_MORE_DATA = 234
_OBJECT_NAME = 1  # ObjectNameInformation
_CTRL_C = 0
_CONNECTION_RESET = 10054  # WSAECONNRESET
_NEW = 60.0  # seconds; an older note is of another connection with that port
_LINUX_STATES = (  # from 1 on, as in /proc/net/tcp; the last one is new since Linux 4.4
    *("ESTAB", "SYN_SENT", "SYN_RCVD", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSED"),
    *("CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "SYN_RCVD"),
)
_LISTENS = 0x0A
_USER, _KERNEL = 2, 3  # places in psutil's proc_info, as in its pinfo_map
_LONGEST_PATH = 32768


def note_listeners() -> None:
    """From now on each listen() of this process leaves a note of who listens on which port."""
    real = socket.socket.listen

    def listen(self: socket.socket, *args: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):  # noted before anybody can see it
            LISTENERS.mkdir(exist_ok=True)
            (LISTENERS / str(self.getsockname()[1])).write_text(str(os.getpid()))
        real(self, *args)

    socket.socket.listen = listen  # type: ignore[method-assign]


def see_resets() -> None:
    """From now on a connection that was reset by a Python under wine is seen as that."""
    real_setsockopt, real_recv, real_into = (
        getattr(socket.socket, name) for name in ("setsockopt", "recv", "recv_into")
    )

    def setsockopt(self: socket.socket, level: int, option: int, *value: Any) -> None:
        real_setsockopt(self, level, option, *value)
        if (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER):
            is_on, seconds = struct.unpack_from("hh", value[0])
            if is_on and not seconds:
                RESETS.mkdir(exist_ok=True)
                (RESETS / str(self.getpeername()[1])).touch()

    def raise_if_reset(connection: socket.socket) -> None:
        try:
            note = RESETS / str(connection.getsockname()[1])
            is_new = time.time() - note.stat().st_mtime < _NEW
            note.unlink()
        except OSError:
            return
        if is_new:
            raise OSError(0, "reset by the peer", None, _CONNECTION_RESET)

    def recv(self: socket.socket, size: int, *flags: int) -> bytes:
        data: bytes = real_recv(self, size, *flags)
        if size and not data:
            raise_if_reset(self)
        return data

    def recv_into(self: socket.socket, buffer: Any, *more: int) -> int:
        size = int(real_into(self, buffer, *more))
        if not size:
            raise_if_reset(self)
        return size

    for each in (setsockopt, recv, recv_into):
        setattr(socket.socket, each.__name__, each)


def take_long_final_paths() -> None:
    """From now on win32file.GetFinalPathNameByHandle answers for paths of any length."""
    import pywintypes
    import win32file

    real = win32file.GetFinalPathNameByHandle

    def final_path(handle: Any, flags: int) -> str:
        try:
            return str(real(handle, flags))
        except pywintypes.error as error:
            if error.winerror != _ERROR_MORE_DATA:
                raise
            return _object_name(int(handle))

    win32file.GetFinalPathNameByHandle = final_path


class _UnicodeString(ctypes.Structure):
    _fields_ = (
        ("length", wintypes.USHORT),  # bytes
        ("capacity", wintypes.USHORT),
        ("text", ctypes.c_void_p),
    )


def _object_name(handle: int) -> str:
    """The path of an open file, with `\\?\\` before it."""
    buffer = ctypes.create_string_buffer(4 * _LONGEST_PATH)
    query = ctypes.WinDLL("ntdll").NtQueryObject  # type: ignore[attr-defined]
    query.argtypes = [
        wintypes.HANDLE,
        ctypes.c_int,
        ctypes.c_void_p,
        wintypes.ULONG,
        ctypes.c_void_p,
    ]
    if query(handle, _OBJECT_NAME, buffer, len(buffer), None):
        raise OSError("NtQueryObject")
    name = _UnicodeString.from_buffer(buffer)
    text = ctypes.wstring_at(name.text, name.length // 2)
    return "\\\\?\\" + text.removeprefix("\\??\\")


def send_break_as_c() -> None:
    """From now on a Ctrl-Break that wine refuses is sent as Ctrl-C."""
    kernel = ctypes.windll.kernel32  # type: ignore[attr-defined]
    real = kernel.GenerateConsoleCtrlEvent

    def generate(event: int, group: int) -> int:
        return int(real(event, group) or real(_CTRL_C, group))

    kernel.GenerateConsoleCtrlEvent = generate


def keep_settings_of_services() -> None:
    """From now on all settings of a service can be written and read."""
    import win32service

    names: dict[int, str] = {}
    kept = (
        win32service.SERVICE_CONFIG_DELAYED_AUTO_START_INFO,
        win32service.SERVICE_CONFIG_FAILURE_ACTIONS,
        win32service.SERVICE_CONFIG_FAILURE_ACTIONS_FLAG,
    )
    real_open, real_change, real_query = (
        win32service.OpenService,
        win32service.ChangeServiceConfig2,
        win32service.QueryServiceConfig2,
    )

    def open_service(manager: Any, name: str, access: int) -> Any:
        handle = real_open(manager, name, access)
        names[int(handle)] = name
        return handle

    def settings(handle: Any) -> tuple[Path, dict[str, Any]]:
        path = SERVICES / f"{names[int(handle)]}.json"
        return path, json.loads(path.read_text()) if path.exists() else {}

    def change(handle: Any, kind: int, value: Any) -> None:
        if kind not in kept:
            return real_change(handle, kind, value)
        path, known = settings(handle)
        SERVICES.mkdir(exist_ok=True)
        path.write_text(json.dumps({**known, str(kind): value}))

    def query(handle: Any, kind: int) -> Any:
        return settings(handle)[1][str(kind)] if kind in kept else real_query(handle, kind)

    win32service.OpenService = open_service
    win32service.ChangeServiceConfig2 = change
    win32service.QueryServiceConfig2 = query


def notice_dead_services() -> None:
    """From now on a service whose process ended without reporting it is shown as aborted, as on
    Windows, and cannot be asked for anything. Nothing restarts it."""
    import pywintypes
    import win32service
    import winerror

    real_query, real_control = win32service.QueryServiceStatusEx, win32service.ControlService

    def query(handle: Any) -> dict[str, int]:
        import psutil

        shown: dict[str, int] = dict(real_query(handle))
        if shown["ProcessId"] and not psutil.pid_exists(shown["ProcessId"]):
            shown["CurrentState"] = win32service.SERVICE_STOPPED
            shown["Win32ExitCode"] = winerror.ERROR_PROCESS_ABORTED
            shown["ProcessId"] = 0
        return shown

    def control(handle: Any, code: int) -> Any:
        try:
            return real_control(handle, code)
        except pywintypes.error as error:
            if error.winerror != winerror.ERROR_NO_DATA:  # nobody is at the other end
                raise
            no_more = winerror.ERROR_SERVICE_NOT_ACTIVE
            raise pywintypes.error(no_more, "ControlService", "not active") from error

    win32service.QueryServiceStatusEx = query
    win32service.ControlService = control


def close_in(psutil_c: Any) -> None:
    """Replace in psutil's C module what asks wine in vain."""
    real = psutil_c.net_connections

    def net_connections(pid: int, families: Any, types: Any) -> list[tuple[Any, ...]]:
        others = [kind for kind in types if kind != socket.SOCK_STREAM]
        rows = real(pid, families, others) if others else []
        if socket.SOCK_STREAM in types:
            found = [row for family in families for row in _tcp_table(family, psutil_c)]
            rows += [row for row in found if pid in (-1, row[-1])]
        return list(rows)

    own_times = psutil_c.proc_times

    def proc_times(pid: int) -> tuple[float, float, float]:
        created = own_times(pid)[-1]
        info = psutil_c.proc_info(pid)
        return info[_USER], info[_KERNEL], created

    psutil_c.net_connections = net_connections
    psutil_c.proc_exe = _image_of
    psutil_c.proc_times = proc_times


def _tcp_table(family: int, psutil_c: Any) -> list[tuple[Any, ...]]:
    """Rows as psutil's C module has them. Raises OSError."""
    is_v6 = family == socket.AF_INET6
    states = [None, *(getattr(psutil_c, f"MIB_TCP_STATE_{name}") for name in _LINUX_STATES)]
    rows = []
    with open(r"Z:\proc\net\tcp6" if is_v6 else r"Z:\proc\net\tcp", encoding="ascii") as table:
        for line in list(table)[1:]:
            _, local, remote, state, *_ = line.split()
            is_listener = int(state, 16) == _LISTENS
            at = _address(local, family)
            peer = () if is_listener else _address(remote, family)
            pid = _noted(at[1]) if is_listener else 0
            rows.append((-1, family, socket.SOCK_STREAM, at, peer, states[int(state, 16)], pid))
    return rows


def _address(text: str, family: int) -> tuple[str, int]:
    """Host and port, of `0100007F:1F90`: each four bytes as a number of this machine."""
    host, _, port = text.partition(":")
    words = (int(host[place : place + 8], 16) for place in range(0, len(host), 8))
    return socket.inet_ntop(family, b"".join(struct.pack("=I", each) for each in words)), int(
        port, 16
    )


def _noted(port: int) -> int:
    try:
        return int((LISTENERS / str(port)).read_text())
    except (OSError, ValueError):
        return 0


def _image_of(pid: int) -> str:
    """Path of the process's program in the native form that psutil expects. Raises OSError."""
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    kernel.OpenProcess.restype = wintypes.HANDLE
    kernel.CloseHandle.argtypes = [wintypes.HANDLE]
    kernel.QueryFullProcessImageNameW.argtypes = [
        wintypes.HANDLE,
        wintypes.DWORD,
        wintypes.LPWSTR,
        ctypes.POINTER(wintypes.DWORD),
    ]
    process = kernel.OpenProcess(_QUERY_LIMITED_INFORMATION, False, pid)
    if not process:
        if ctypes.get_last_error() == _ERROR_INVALID_PARAMETER:  # type: ignore[attr-defined]
            raise ProcessLookupError(3, "no such process")
        raise PermissionError(13, "access denied")
    try:
        length = wintypes.DWORD(_LONGEST_PATH)
        text = ctypes.create_unicode_buffer(_LONGEST_PATH)
        if not kernel.QueryFullProcessImageNameW(process, _NATIVE_NAME, text, ctypes.byref(length)):
            raise PermissionError(13, "access denied")
        return text.value
    finally:
        kernel.CloseHandle(process)
