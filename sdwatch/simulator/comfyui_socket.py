"""ComfyUI's websocket: who listens, and what is sent to whom.

Measured with ComfyUI 0.33.0, 783545f6: `status` goes to all, everything else to the client_id of
the prompt that runs; a second socket with the same clientId replaces the first. The server does
not ping, and closes nothing by itself.
"""

from __future__ import annotations

import json
import queue
import socket
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from io import BufferedIOBase
from typing import Any

from websockets.frames import Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import State
from websockets.server import ServerProtocol

PREVIEW = 1
"""The number of the binary message that holds a preview."""

_PIECE = 65_536
_SEND_WITHIN_S = 30.0


class Client:
    """One socket, from its handshake to its end."""

    def __init__(self, connection: socket.socket, reader: BufferedIOBase, raw: bytes) -> None:
        """`raw`: the request with its headers, as it came in."""
        self._connection = connection
        self._reader = reader
        self._lock = threading.Lock()
        self._protocol = ServerProtocol(max_size=None)
        connection.settimeout(_SEND_WITHIN_S)
        self._protocol.receive_data(raw)
        (handshake,) = self._protocol.events_received()
        assert isinstance(handshake, Handshake)
        with self._lock:
            self._protocol.send_response(self._protocol.accept(handshake))
            self._flush()

    @property
    def is_open(self) -> bool:
        return self._protocol.state is State.OPEN

    def send(self, message: bytes | str) -> None:
        """Send a text or binary message; nothing where the client is gone."""
        with self._lock, suppress(OSError):
            if not self.is_open:
                return
            if isinstance(message, str):
                self._protocol.send_text(message.encode())
            else:
                self._protocol.send_binary(message)
            self._flush()

    def read(self, text_arrived: Callable[[str], None]) -> None:
        """Read until the client has gone."""
        self._connection.settimeout(None)
        with suppress(OSError):
            while data := self._reader.read1(_PIECE):
                with self._lock:
                    self._protocol.receive_data(data)
                    events = self._protocol.events_received()
                    self._flush()
                for frame in events:
                    if getattr(frame, "opcode", None) is Opcode.TEXT:
                        text_arrived(bytes(frame.data).decode())  # type: ignore[union-attr]

    def cut(self) -> None:
        """End the connection without a word."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                self._connection.sendall(data)
            else:  # both have said goodbye
                self._connection.shutdown(socket.SHUT_WR)


class Hub:
    """All sockets by their clientId. Messages are sent by a thread of its own, in their order, so
    that no slow client holds a node up."""

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}
        self._lock = threading.Lock()
        self._messages: queue.SimpleQueue[tuple[str | None, str | bytes]] = queue.SimpleQueue()

    def start(self) -> None:
        threading.Thread(target=self._publish, daemon=True).start()

    def send(self, kind: str, data: dict[str, Any], client_id: str | None = None) -> None:
        """Queue a text message for one client; for all of them without an id."""
        self._messages.put((client_id, _text(kind, data)))

    def send_preview(self, jpeg: bytes, client_id: str | None) -> None:
        """Queue a preview: two numbers of four bytes (preview, JPEG), and the picture."""
        start = PREVIEW.to_bytes(4, "big")
        self._messages.put((client_id, start + start + jpeg))

    def cut_all(self) -> None:
        """End all connections, as a proxy does that was restarted."""
        with self._lock:
            clients = list(self._clients.values())
        for client in clients:
            client.cut()

    def serve(
        self,
        client: Client,
        client_id: str,
        status: dict[str, Any],
        running_node: Callable[[str], str | None],
        features: dict[str, Any],
    ) -> None:
        """Greet a new client and stay with it until it goes. `running_node`: returns the node that
        runs for this clientId."""
        if not client.is_open:
            return
        client_id = client_id or uuid.uuid4().hex
        with self._lock:
            self._clients[client_id] = client
        try:
            client.send(_text("status", {"status": status, "sid": client_id}))
            if (node := running_node(client_id)) is not None:
                client.send(_text("executing", {"node": node}))
            client.read(lambda text: _answer_features(client, text, features))
        finally:
            with self._lock:
                # As there: whoever has this id by now loses it, too.
                self._clients.pop(client_id, None)

    def _publish(self) -> None:
        while True:
            client_id, message = self._messages.get()
            with self._lock:
                if client_id is None:
                    clients = list(self._clients.values())
                else:
                    clients = [c for i, c in self._clients.items() if i == client_id]
            for client in clients:
                client.send(message)


def _text(kind: str, data: dict[str, Any]) -> str:
    return json.dumps({"type": kind, "data": data})


def _answer_features(client: Client, text: str, features: dict[str, Any]) -> None:
    try:
        message = json.loads(text)
    except ValueError:
        return
    if isinstance(message, dict) and message.get("type") == "feature_flags":
        client.send(_text("feature_flags", features))
