"""One incarnation of a WebUI, from the start of its process to its end."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import psutil

from sdwatch import system
from sdwatch.webui.process import process_tree
from sdwatch.webui.process.process_identity import ProcessIdentity, recorded


@dataclass(frozen=True)
class WebUIExit:
    """The end of an incarnation.

    `code`: the exit code, negative for a signal; None where only a parent of ours could see it
    (adopted, or behind a wrapper). `at_wall`: seconds since the epoch. `expected`: sdwatch
    stopped it.
    """

    incarnation: int
    code: int | None
    at_wall: float
    expected: bool


@dataclass
class Incarnation:
    """An incarnation as this monitor sees it. `reaped`: at least its root has ended."""

    identity: ProcessIdentity
    ended: threading.Event = field(default_factory=threading.Event)
    reaped: threading.Event = field(default_factory=threading.Event)
    expected: bool = False


def root_of(identity: ProcessIdentity, found: list[psutil.Process], port: int) -> psutil.Process:
    """Return the recorded root, else the listener on `port`, else the oldest of `found`, which
    started the others."""
    for process in recorded(identity):
        if process.pid == identity.pid:
            return process
    return process_tree.listener(found, port) or min(
        found, key=lambda process: (process.create_time(), process.pid)
    )


def wait_gone(pid: int, mark: str) -> int | None:
    """Block until the process with this pid and start mark is dead; return its exit code, or None
    where that was not seen."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
    # An unreadable mark is "", here and in the record: such a process is waited for.
    return system.wait_gone(process) if (system.start_mark(pid) or "") == mark else None
