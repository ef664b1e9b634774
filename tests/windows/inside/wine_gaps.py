r"""What Windows has, wine 8 lacks, and psutil needs. Only for tests under wine; no part of sdwatch.

1. psutil's name() and exe() ask NtQuerySystemInformation for SystemProcessIdInformation, which wine
   does not know. QueryFullProcessImageNameW says the same.
2. The table of TCP connections names no owner: all sockets are the wine server's. Each Python
   process that listens notes it in a file, C:\wine-listeners\<port>, which is read here.
3. GetFinalPathNameByHandle fails with ERROR_MORE_DATA for more than 260 characters, its own buffer.
   NtQueryObject, which it asks, takes one of any size.
4. GenerateConsoleCtrlEvent refuses Ctrl-Break. Ctrl-C is sent in its place.
"""

from __future__ import annotations

import ctypes
import os
import socket
from ctypes import wintypes
from pathlib import Path
from typing import Any

LISTENERS = Path(r"C:\wine-listeners")

_QUERY_LIMITED_INFORMATION = 0x1000
_ERROR_INVALID_PARAMETER = 87
_NATIVE_NAME = 1
_ERROR_MORE_DATA = 234
_OBJECT_NAME = 1  # ObjectNameInformation
_CTRL_C = 0
_LOCAL, _STATE, _PID = 3, 5, 6  # places in a row of psutil's net_connections
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


def close_in(psutil_c: Any) -> None:
    """Replace in psutil's C module what asks wine in vain."""
    real = psutil_c.net_connections

    def net_connections(pid: int, families: Any, types: Any) -> list[tuple[Any, ...]]:
        rows = []
        for found in real(-1, families, types):
            row = list(found)
            if len(row) > _PID and row[_STATE] == psutil_c.MIB_TCP_STATE_LISTEN and not row[_PID]:
                row[_PID] = _noted(row[_LOCAL][1])
            if pid in (-1, row[-1] if len(row) > _PID else None):
                rows.append(tuple(row))
        return rows

    psutil_c.net_connections = net_connections
    psutil_c.proc_exe = _image_of


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
