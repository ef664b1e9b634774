"""Windows: the console window closes, the user logs off, the machine shuts down.

None of these is a signal there. A console control handler hears of a closing window. It hears of
the other two only in a process that has not loaded user32.dll (Microsoft, HandlerRoutine), as
pywin32 has; such a process, and one without a console (pythonw), hears of them by a window.
"""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

assert sys.platform == "win32"

import pywintypes  # noqa: E402
import win32con  # noqa: E402
import win32gui  # noqa: E402

from sdwatch.system.log_events import LogEvent, about  # noqa: E402

log = logging.getLogger("sdwatch.system")

WINDOW_CLASS = "sdwatch waits for the end of the session"

_CLOSE, _LOGOFF, _SHUTDOWN = 2, 5, 6

_Routine = ctypes.WINFUNCTYPE(ctypes.c_int, ctypes.c_uint)
_routines: list[object] = []  # the system calls them: they must not be collected


def when_session_ends(end: Callable[[], None]) -> None:
    """Call `end`, on a thread of its own, when the session ends. When it returns, or after about
    5 s, Windows ends the process."""

    def routine(event: int) -> int:
        if event == _LOGOFF and _is_service():
            return 1  # of any user of the machine: a service outlives that
        if event not in (_CLOSE, _LOGOFF, _SHUTDOWN):
            return 0  # Ctrl-C and Ctrl-Break are Python's
        end()
        return 1

    _routines.append(called := _Routine(routine))
    ctypes.windll.kernel32.SetConsoleCtrlHandler(called, True)
    threading.Thread(target=_watch, args=(end,), name="session end", daemon=True).start()


def _watch(end: Callable[[], None]) -> None:
    def ends(window: int, message: int, really: int, why: int) -> int:
        del window, message, why
        if really:  # else somebody asked, and another program said no
            end()
        return 0

    kind: Any = win32gui.WNDCLASS()  # its type stubs say that it cannot be written to
    kind.lpszClassName = WINDOW_CLASS
    kind.lpfnWndProc = {
        win32con.WM_QUERYENDSESSION: lambda *_: 1,
        win32con.WM_ENDSESSION: ends,
    }
    try:
        # Never shown, and not a message-only window: those get no such message.
        window_class = win32gui.RegisterClass(kind)
        win32gui.CreateWindow(window_class, "sdwatch", 0, 0, 0, 0, 0, 0, 0, kind.hInstance, None)
    except pywintypes.error as error:
        log.warning(
            "a logoff or shutdown will end sdwatch without a clean stop: %s",
            error,
            extra=about(LogEvent.SESSION_END_UNSEEN),
        )
        return
    win32gui.PumpMessages()


def _is_service() -> bool:
    """Return whether this process is in session 0, in which nobody is logged on."""
    session = ctypes.c_uint()
    kernel = ctypes.windll.kernel32
    found = kernel.ProcessIdToSessionId(kernel.GetCurrentProcessId(), ctypes.byref(session))
    return bool(found) and session.value == 0
