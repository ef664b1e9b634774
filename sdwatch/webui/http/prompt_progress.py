"""How far a prompt is: the messages of ComfyUI's websocket.

They are progress and nothing else: what was missed is not repeated, and the late end of an old
connection can make a new one of the same client deaf. What became of a prompt is in /history.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from sdwatch.policy.workflow.workflow import Workflow

_OPEN_TIMEOUT = 5.0
_CLOSE_TIMEOUT = 0.5
_AGAIN_AFTER = 1.0
_LARGEST = 64 << 20  # bytes: a preview picture is in a message

_SILENT = logging.Logger("websockets", logging.CRITICAL + 1)
"""A ping that a WebUI does not answer for 20 s breaks the connection, as when a node holds the
interpreter. websockets would print a traceback of it beside our own lines (measured)."""

_ENDS = ("execution_success", "execution_error", "execution_interrupted")


class PromptProgress:
    """Follows the prompt `prompt_id` on the websocket of `client_id`; connects when it is first
    waited for, and again after it broke. Only messages with this id count."""

    def __init__(
        self, url: str, client_id: str, prompt_id: str, auth: tuple[str, str] | None
    ) -> None:
        self._url = f"ws{url.removeprefix('http')}/ws?clientId={client_id}"
        self._prompt_id = prompt_id
        self._headers = {}
        if auth is not None:
            both = base64.b64encode(":".join(auth).encode()).decode()
            self._headers["Authorization"] = f"Basic {both}"
        self._socket: ClientConnection | None = None
        self._closing = ExitStack()
        self._next_try = 0.0
        self._cut = threading.Event()
        self.node = ""
        """The id of the node that started last; of a prompt that waits, ''."""
        self._nodes = 0  # that have started
        self._step = (0.0, 0.0)  # value and most, of the node that runs

    def connect(self) -> None:
        """Connect, unless it is, or the last try is too recent."""
        now = time.monotonic()
        if self._socket is not None or now < self._next_try or self._cut.is_set():
            return
        self._next_try = now + _AGAIN_AFTER
        with suppress(OSError, TimeoutError, WebSocketException, ValueError):
            opening = connect(
                self._url,
                open_timeout=_OPEN_TIMEOUT,
                close_timeout=_CLOSE_TIMEOUT,
                max_size=_LARGEST,
                additional_headers=self._headers,
                proxy=None,
                compression=None,
                logger=_SILENT,
            )
            closing = ExitStack()
            self._socket, self._closing = closing.enter_context(opening), closing

    def wait(self, seconds: float) -> None:
        """Take in what comes, until the prompt seems to have ended or the time is over."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._cut.is_set():
            self.connect()
            if (socket := self._socket) is None:
                self._cut.wait(min(left, _AGAIN_AFTER / 2))
                continue
            try:
                received = socket.recv(timeout=left)
            except TimeoutError:
                return
            except (OSError, WebSocketException):
                self._drop()
                return  # its end may be that of the process
            if isinstance(received, str) and self._take(received):
                return

    def _take(self, text: str) -> bool:
        """Take in one message, and return whether the prompt has ended."""
        try:
            message = json.loads(text)
            kind, data = message["type"], message["data"]
            if data.get("prompt_id") != self._prompt_id:
                return False
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False
        if kind == "executing":
            self._nodes, self._step = self._nodes + 1, (0.0, 0.0)
            self.node = str(data.get("node") or "")
            return not self.node
        if kind == "progress":
            self._step = _number(data.get("value")), _number(data.get("max"))
        return kind in _ENDS

    @property
    def position(self) -> dict[str, Any]:
        """Return how far it is, in the form of other WebUIs' `state`: steps of the node that runs,
        and how many nodes have started."""
        value, most = self._step
        return {"job_no": self._nodes, "sampling_step": value, "sampling_steps": most}

    def close(self) -> None:
        """Close the connection, and free whoever waits on another thread."""
        self._cut.set()
        self._drop()

    def _drop(self) -> None:
        closing, self._socket, self._closing = self._closing, None, ExitStack()
        with suppress(OSError, WebSocketException):
            closing.close()


def _number(value: object) -> float:
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_one else 0.0  # type: ignore[return-value]


@dataclass(eq=False)
class WatchedPrompt:
    """The prompt that is being waited for. `interrupting`: it is to end. `workflow`: what it runs,
    None for one of an earlier monitor."""

    id: str
    progress: PromptProgress
    workflow: Workflow | None
    interrupting: bool = False

    @property
    def node(self) -> str:
        """Return the node that started last, for messages; or ''."""
        node = self.workflow.nodes.get(self.progress.node) if self.workflow else None
        return node.with_class(node.kind) if node else self.progress.node
