"""Listen, and find who listens where, from the system's own table of TCP connections."""

from __future__ import annotations

import socket
import sys

import psutil


def listeners(host: str, port: int) -> list[int | None]:
    """Return the pids of those who listen on `port` at an address of `host`, or at all
    addresses; None for one whose process this user may not see. Raises psutil.Error (macOS shows
    the table to root only), OSError."""
    addresses = _addresses(host)
    return [
        connection.pid or None  # 0 where it is not known
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr
        and connection.laddr.port == port
        and connection.laddr.ip in addresses
    ]


def listen_alone(family: int, address: str, port: int) -> socket.socket:
    """Return a socket that listens at an address, which nobody else can take. Raises OSError."""
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":  # there another program could listen at the same address
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:  # after a restart the port is free at once
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def _addresses(host: str) -> set[str]:
    """Return where somebody may listen who answers on `host`: its own addresses, and all at
    once."""
    try:
        found = {
            str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        }
    except OSError:
        found = {host}
    mapped = {f"::ffff:{address}" for address in found if ":" not in address}
    return found | mapped | {"0.0.0.0", "::"}
