"""What a run of a ComfyUI works with: its folders, its cache, the loaded model, the device.

Measured with ComfyUI 0.33.0, 783545f6.
"""

from __future__ import annotations

import os
import threading
from hashlib import sha256
from typing import Any

from sdwatch.simulator.checkpoints import Checkpoint
from sdwatch.simulator.comfyui_files import Folders
from sdwatch.simulator.comfyui_socket import Hub
from sdwatch.simulator.comfyui_voice import ComfyVoice
from sdwatch.simulator.comfyui_work import Result
from sdwatch.simulator.damage import Damage
from sdwatch.simulator.failures import CrashedError, DeviceLostError
from sdwatch.simulator.generation import Machine
from sdwatch.simulator.traits import load


class Engine(Machine):
    """`kinds` are the classes of nodes, as the data have them; `cache` is what nodes returned, by
    their signatures, kept until it is freed; `caches`: whether anything is kept."""

    kinds = load("comfyui_nodes.json")
    folders: Folders
    no_metadata = False
    caches = True

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        assert isinstance(self.voice, ComfyVoice)
        self.comfy_voice = self.voice
        self.cache: dict[str, Result] = {}
        self.hub = Hub()
        self._on_device: Checkpoint | None = None

    def changed(self, node: dict[str, Any]) -> str:
        """Return what makes a node differ beside its inputs: the content of a file."""
        if not node["class_type"].startswith("LoadImage"):
            return ""
        path = self.folders.annotated(str(node["inputs"].get("image")))
        return sha256(path.read_bytes()).hexdigest() if path else ""

    def keep(self, key: str, result: Result) -> None:
        if self.caches:
            self.cache[key] = result

    def load_file(self, name: str) -> Checkpoint:
        """Read a checkpoint from the disk. Raises CrashedError where that fails."""
        checkpoint = self.folders.checkpoint(name)
        if checkpoint != self.loaded:
            self.switch_to(checkpoint)
        return checkpoint

    def move_to_device(self, checkpoint: Checkpoint) -> None:
        if checkpoint != self._on_device:
            self._on_device = checkpoint
            self.comfy_voice.moved_to_device()

    def unload(self) -> None:
        self.loaded = self._on_device = None

    def use_device(self, step: int | None, total: int, damage: Damage, pixels: int) -> None:
        """Compute step number `step` (from 0); without one, what no fault strikes."""
        if step is not None:
            self._use_device(step, total, damage, pixels)
        elif self._lost is not None:
            raise self._lost

    def note(self, error: CrashedError) -> None:
        """Remember an error that all work has from now on."""
        if isinstance(error, DeviceLostError):
            self._lost = error

    @property
    def is_lost(self) -> bool:
        return self._lost is not None

    def pause(self, damage: Damage) -> float:
        """Return the seconds of a step."""
        return self.speed.step_time * damage.slowness

    def cast_nans(self) -> None:
        """A picture of NaNs becomes black; Python says a warning of one place once."""
        if not self._has_cast_nan:
            self._has_cast_nan = True
            self.comfy_voice.cast_warning()

    def end_after(self, seconds: float) -> None:
        threading.Timer(seconds, os._exit, (1,)).start()
