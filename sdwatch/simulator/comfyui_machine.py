"""A ComfyUI behind its routes: the start, the queue, the worker's thread.

Measured with ComfyUI 0.33.0, 783545f6: an exception that leaves the executor ends the worker's
thread, and HTTP lives on; everything but the files is lost with the process.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sdwatch.simulator.comfyui_engine import Engine
from sdwatch.simulator.comfyui_faults import illegal_access
from sdwatch.simulator.comfyui_files import Folders
from sdwatch.simulator.comfyui_queue import Item, PromptQueue
from sdwatch.simulator.comfyui_run import Run

_CUSTOM_NODES = "custom_nodes"


class ComfyMachine(Engine):
    """The worker and its queue; `running`: the run that it is in."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.prompts = PromptQueue(self._queue_changed, self.interrupt)
        self.running: Run | None = None
        self._lock: FileLock | None = None

    # -- the start

    def take_flags(self, flags: argparse.Namespace) -> None:
        """Prepare the folders. Ends the process where there is no custom_nodes/."""
        base = flags.base_directory
        if base is None:
            base = Path(tempfile.gettempdir()) / f"sdwatch-simulator-{flags.port}"
            (base / _CUSTOM_NODES).mkdir(parents=True, exist_ok=True)
        self.folders = Folders(base.absolute(), self._is_model_there)
        self.no_metadata = flags.disable_metadata
        self.caches = not flags.cache_none
        try:
            self.folders.prepare()
        except FileNotFoundError:
            self.comfy_voice.no_custom_nodes(base / _CUSTOM_NODES)
            sys.exit(1)
        self._lock_database(flags.user_directory or self.folders.user)

    def _lock_database(self, user: Path) -> None:
        user.mkdir(parents=True, exist_ok=True)
        database = user / "comfyui.db"
        self._lock = FileLock(f"{database}.lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            self.comfy_voice.database_locked(database)

    def _is_model_there(self) -> bool:
        self.wait_for_model(self._model_file)
        return self.has_model

    def before_listening(self) -> None:
        self.hub.start()
        threading.Thread(target=self.prompt_worker, daemon=True).start()

    # -- what the routes ask

    def classes(self) -> dict[str, Any]:
        """Return /object_info. Lists of names are as they are now."""
        found: dict[str, list[str]] = {}

        def filled(value: Any) -> Any:
            if isinstance(value, dict) and "$list" in value:
                name = value["$list"]
                if name not in found:
                    found[name] = self.folders.list_named(name)
                return list(found[name])
            if isinstance(value, dict):
                return {key: filled(each) for key, each in value.items()}
            return [filled(each) for each in value] if isinstance(value, list) else value

        whole: dict[str, Any] = filled(self.kinds)
        return whole

    def status(self) -> dict[str, Any]:
        return {"exec_info": {"queue_remaining": self.prompts.remaining()}}

    def running_node(self, client_id: str) -> str | None:
        """Return the node that runs for this client."""
        run = self.running
        return run.node_id if run is not None and run.client_id == client_id else None

    def interrupt(self) -> None:
        self.state.interrupted = True

    def _queue_changed(self) -> None:
        self.hub.send("status", {"status": self.status()})

    # -- the worker

    def prompt_worker(self) -> None:
        """Run the prompts, one after another, as long as nothing leaves the executor."""
        while True:
            item = self.prompts.get()
            if item is not None:
                self._run(item)
            flags = self.prompts.take_flags()
            if flags.get("unload_models", flags.get("free_memory")):
                self.unload()
            if flags.get("free_memory"):
                self.cache.clear()

    def _run(self, item: Item) -> None:
        damage = item[5]
        begin = time.monotonic()
        self.state.interrupted = False  # one that came while nothing ran hits nobody
        if damage.take("poisoned"):
            self._lost = illegal_access()
        run = self.running = Run(self, deepcopy_of(item))
        result = run.run()
        damage.end_by("sigkill-before-reply")
        self.prompts.finish(result)
        self.running = None
        if run.client_id is not None:
            self.hub.send("executing", {"node": None, "prompt_id": item[1]}, run.client_id)
        self.comfy_voice.executed(time.monotonic() - begin)


def deepcopy_of(item: Item) -> Item:
    """Return the prompt that a run works on; what the queue shows stays as it came."""
    number, prompt_id, prompt, extra, outputs, damage = item
    return number, prompt_id, deepcopy(prompt), deepcopy(extra), outputs, damage


def prompt_texts(prompt: Any, kinds: dict[str, Any]) -> str:
    """Return what people wrote in a workflow: what the fault plan's `prompt` is compared with.
    `kinds`: the classes of nodes; of others every text counts."""
    texts = []
    for node in prompt.values() if isinstance(prompt, dict) else ():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        known = kinds.get(str(node.get("class_type")), {}).get("input", {}) if inputs else {}
        for name, value in inputs.items() if isinstance(inputs, dict) else ():
            kind = {**known.get("required", {}), **known.get("optional", {})}.get(name, ["STRING"])
            if isinstance(value, str) and kind[0] == "STRING" and name != "filename_prefix":
                texts.append(value)
    return "\n".join(texts)


def stage_of(prompt: Any) -> str:
    """Return the stage that a workflow is of, for the fault plan and the counters: with an image
    and without a sampler it enlarges, by a model or not."""
    text = json.dumps(prompt)
    has_image = '"LoadImage"' in text
    if '"KSampler"' in text:
        return "img2img" if has_image else "txt2img"
    enlarges = '"ImageUpscaleWithModel"' in text or (has_image and '"ImageScale"' in text)
    return "extra-single-image" if enlarges else "txt2img"
