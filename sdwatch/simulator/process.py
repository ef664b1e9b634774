"""The process: its port, its signals, its end.

Measured with Forge dfdcbab6 (--nowebui): SIGTERM kills at once, SIGINT is exit 0 at once, a port
in use is a log line and a process that lives on forever.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable
from typing import NoReturn

from sdwatch.simulator.generation import Machine
from sdwatch.simulator.server import Server
from sdwatch.simulator.site import Site
from sdwatch.simulator.voice import Voice

_SIGNAL_PAUSE_S = 0.5  # how late a signal can be seen on Windows


class Process:
    """Forge's; another kind overrides how it ends."""

    shares_port = False

    def __init__(self, voice: Voice) -> None:
        self.voice = voice
        self.server: Server | None = None
        self.machine: Machine | None = None
        self.calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def handle_signals(self) -> None:
        """Handle signals whatever we inherited: SIGTERM kills, SIGINT is exit 0."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, lambda *_: os._exit(0))

    def ignore_sigterm(self) -> None:
        """From any thread: handlers can be set on the main thread only."""
        self.calls.put(ignore_sigterm)

    def listen(self, address: tuple[str, int], site: Site, *, refused: int = 0) -> None:
        """Open the port and serve on threads. Where that fails, as with the error number `refused`,
        say so."""
        self.machine = site.machine
        site.machine.before_listening()
        self.voice.starting()
        try:
            if refused:
                raise OSError(refused, os.strerror(refused))
            self.server = Server(address, site, shares_port=self.shares_port)
        except OSError as e:
            self.voice.bind_failed(*address, e)
            self.bind_failed()
            return
        self.voice.listening(*address)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        site.machine.after_listening()

    def bind_failed(self) -> None:
        """Live on, whatever became of the server."""

    def live(self) -> NoReturn:
        """Return what the main thread does."""
        while True:
            try:
                self.calls.get(timeout=_SIGNAL_PAUSE_S)()
            except queue.Empty:
                continue


def ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
