"""Report to the service manager that started this process, by systemd's protocol: ready, alive,
what it does, stopping.

The protocol is a datagram of `NAME=value` lines to the socket that NOTIFY_SOCKET names; one that
starts with `@` is an abstract socket (sd_notify(3)). Windows has neither: there the host of the
service names a port of this machine, as 127.0.0.1:PORT. Where nobody set it, nothing is sent.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress

ADDRESS = "NOTIFY_SOCKET"
_VARIABLES = (ADDRESS, "WATCHDOG_USEC", "WATCHDOG_PID")
_LOOPBACK = "127.0.0.1:"


class ServiceNotifier:
    """Reports to the service manager at `address`; '' for none. For one thread at a time."""

    def __init__(self, address: str) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._is_ready = False
        self._said = ""

    @classmethod
    def from_environment(cls) -> ServiceNotifier:
        """Return the notifier of this process. The variables that name the service manager are
        removed: a WebUI that we start would inherit them, and is not the service."""
        address = os.environ.get(ADDRESS, "")
        for name in _VARIABLES:
            os.environ.pop(name, None)
        known = _LOOPBACK if sys.platform == "win32" else ("/", "@")
        return cls(address if address.startswith(known) else "")

    def alive(self, status: str) -> None:
        """Report that the loop which does the work has come round: the first time that means ready,
        and each time it feeds the watchdog (WatchdogSec). `status`: one line for people."""
        lines = ["WATCHDOG=1"]
        if not self._is_ready:
            lines.append("READY=1")
        if status != self._said:
            lines.append(f"STATUS={' '.join(status.split())}")
        if self._send(lines):
            self._is_ready, self._said = True, status

    def stopping(self, seconds: float) -> None:
        """Report that a clean stop has started, which may take so many seconds. The service manager
        waits that long, even if its own limit was set for an older config."""
        self._send(["STOPPING=1", "STATUS=stopping", f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}"])

    def _send(self, lines: list[str]) -> bool:
        """Return whether it was sent. Where it was not (nobody reads, too many datagrams wait), the
        next report says it again."""
        if not self._address:
            return False
        with suppress(OSError), _channel_to(self._address) as channel:
            channel.send("\n".join(lines).encode("utf-8", "replace"))
            return True
        return False


def _channel_to(address: str) -> socket.socket:
    """Return a socket that sends datagrams there. Raises OSError."""
    family, place = _place_of(address)
    channel = socket.socket(family, socket.SOCK_DGRAM)
    try:
        channel.setblocking(False)
        channel.connect(place)
    except OSError:
        channel.close()
        raise
    return channel


def _place_of(address: str) -> tuple[socket.AddressFamily, str | tuple[str, int]]:
    if sys.platform != "win32":
        return socket.AF_UNIX, address
    host, _, port = address.rpartition(":")
    return socket.AF_INET, (host, int(port) if port.isdecimal() else 0)
