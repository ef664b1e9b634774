"""ComfyUI 0.33.0, 783545f6, measured in November 2026: what differs from Forge, which is all.

Workflows are queued by POST /prompt and run by a thread of the worker; what became of them is in
/history, and a websocket says how far they are. Kinds of nodes: comfyui_nodes.json.
"""

from __future__ import annotations

import faulthandler
import io
import os
import signal
import sys
from contextlib import suppress
from typing import Any

from sdwatch.simulator.checks import Checks
from sdwatch.simulator.comfyui_machine import ComfyMachine
from sdwatch.simulator.comfyui_site import ComfySite
from sdwatch.simulator.comfyui_voice import START_FAILURES, ComfyVoice
from sdwatch.simulator.kind import Kind
from sdwatch.simulator.process import Process
from sdwatch.simulator.traits import Traits
from sdwatch.simulator.validation import Pydantic2


class ComfyProcess(Process):
    """SIGTERM kills at once, also in the middle of a node; SIGINT is exit 0; a port in use is exit
    1, after everything was loaded."""

    def handle_signals(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, lambda *_: self._stop())
        with suppress(io.UnsupportedOperation):
            faulthandler.enable(sys.stderr, all_threads=False)

    def _stop(self) -> None:
        assert isinstance(self.voice, ComfyVoice)
        self.voice.stopped()
        os._exit(0)

    def bind_failed(self) -> None:
        sys.exit(1)


_LISTS: dict[str, Any] = {"options": {}}

COMFYUI = Kind(
    Traits(
        name="comfyui",
        lists=_LISTS,
        openapi=None,
        schemas={},
        job_names={},
        validation=Pydantic2(url=None),
        checks=Checks(_LISTS),
        voice=ComfyVoice(),
    ),
    ComfyMachine,
    ComfySite,
    ComfyProcess,
    lacks=("auth", "no_api", "has"),
    own=("base_directory", "user_directory", "cache_none", "disable_metadata", "max_upload_size"),
    start_failures=START_FAILURES,
)
