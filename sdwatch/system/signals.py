"""Handle the signals that ask sdwatch to end: Ctrl-C, SIGTERM, SIGHUP, and Ctrl-Break on Windows.

They are caught before the slow imports, so this module imports nothing that is slow. What a signal
does depends on how far the process is: before its command runs it ends at once; a command unwinds;
a monitor stops cleanly; after the command its exit code stands.
"""

from __future__ import annotations

import os
import signal
import sys
import time

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

    Handler = Callable[[int, FrameType | None], object] | signal.Handlers

INTERRUPTED = 130
"""The exit code of a command that a signal ended."""

AGAIN_AFTER = 0.1
"""Seconds: what comes sooner is the same request. `timeout` and shells send a signal twice, once
to the process and once to its group."""

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
_SOON = 0.05
_WORDS = {"SIGINT": "Ctrl-C", "SIGBREAK": "Ctrl-Break", "SIGHUP": "SIGHUP (terminal closed)"}


class Interrupted(KeyboardInterrupt):
    """A signal asks this command to end; str() of it says which."""


def catch(handler: Handler) -> None:
    """Have `handler` called by each of these signals from now on; for the main thread. A SIGHUP
    that was ignored when the process started stays ignored: nohup means that."""
    for name in _NAMES:
        number = getattr(signal, name, None)
        if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
            continue
        signal.signal(number, handler)


def end_at_once(code: int) -> None:
    """Let a signal end the process with this exit code: there is nothing to undo yet. No
    exception is raised, because one inside an import is not always passed on."""
    catch(lambda number, _: end(code, f"stopped by {in_words(number)}"))


def unwind() -> None:
    """Let a signal raise Interrupted in the main thread, so that a command can undo what it has
    half done. A second one ends the process at once."""
    sys.unraisablehook = _raise_again
    catch(_interrupt)


def keep(code: int) -> None:
    """Let a signal silently end the process with this exit code: the command is done."""
    import atexit

    catch(lambda *_: os._exit(code))
    # The interpreter would reset handlers of its own to the default at its end, and only these.
    atexit.register(catch, signal.SIG_IGN)


class LeftToChild:
    """Leaves Ctrl-C to a child: an editor uses it."""

    def __enter__(self) -> None:
        # Not SIG_IGN: a child would inherit that.
        self._before = signal.signal(signal.SIGINT, lambda *_: None)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)


class SecondRequest:
    """Distinguishes a second request to end from an echo of the first."""

    def __init__(self) -> None:
        self._first: float | None = None

    def __call__(self, number: int) -> bool:
        """Return whether this signal is a second request. A SIGHUP never is: a terminal that closes
        sends several."""
        now = time.monotonic()
        if self._first is None:
            self._first = now
            return False
        return number != getattr(signal, "SIGHUP", None) and now - self._first >= AGAIN_AFTER


def in_words(number: int) -> str:
    """Return a signal as people know it."""
    name = signal.Signals(number).name
    return _WORDS.get(name, name)


def end(code: int, words: str) -> None:
    """End the process now, from any thread, with a last line on stderr."""
    try:
        os.write(2, f"sdwatch: {words}\n".encode())
    finally:  # also where nobody is there to read it
        os._exit(code)


def _interrupt(number: int, _: FrameType | None) -> None:
    again = SecondRequest()
    again(number)
    catch(lambda n, _: end(INTERRUPTED, f"ended by a second {in_words(n)}") if again(n) else None)
    raise Interrupted(f"stopped by {in_words(number)}")


def _raise_again(lost: Any) -> None:
    """Raise an Interrupted again a moment later which a destructor or a callback could not pass
    on."""
    if not isinstance(lost.exc_value, Interrupted):
        sys.__unraisablehook__(lost)
        return
    import threading

    catch(_interrupt)
    timer = threading.Timer(_SOON, signal.raise_signal, (signal.SIGINT,))
    timer.daemon = True
    timer.start()
