"""One prompt of a ComfyUI as it runs: node by node, with what the websocket hears of it.

Measured with ComfyUI 0.33.0, 783545f6, and read there.
"""

from __future__ import annotations

import random
import string
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from sdwatch.simulator.checkpoints import Checkpoint
from sdwatch.simulator.comfyui_engine import Engine
from sdwatch.simulator.comfyui_faults import (
    OUT_OF_MEMORY,
    TIPS,
    InterruptedRunError,
    leave_executor,
)
from sdwatch.simulator.comfyui_graph import Order, links_of, signatures
from sdwatch.simulator.comfyui_queue import Item
from sdwatch.simulator.comfyui_work import WORK, Conditioning, Result, Shown, steps_of
from sdwatch.simulator.failures import CrashedError

_FRAMES = (
    ("execution.py", 545, "execute", "output_data, output_ui = await get_output_data(prompt_id)"),
    ("execution.py", 344, "get_output_data", "return_values = await _async_map_node_over_list()"),
    ("execution.py", 318, "_async_map_node_over_list", "await process_inputs(input_dict, i)"),
    ("execution.py", 306, "process_inputs", "result = f(**inputs)"),
)
_TENSOR = "tensor([[[[0., 0., 0.],\n          ...,\n          [0., 0., 0.]]]])"


def _now() -> int:
    return int(time.time() * 1000)


@dataclass
class Progress:
    """How far each node of a run is; what is shown changes with each call."""

    prompt_id: str
    show: Callable[[dict[str, Any]], None]
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def update(self, node: str, value: float, most: float, state: str = "running") -> None:
        self.nodes[node] = {
            "value": value,
            "max": most,
            "state": state,
            "node_id": node,
            "prompt_id": self.prompt_id,
            "display_node_id": node,
            "parent_node_id": None,
            "real_node_id": node,
        }
        self.show({"prompt_id": self.prompt_id, "nodes": deepcopy(self.nodes)})

    def finish(self, node: str) -> None:
        most = self.nodes.get(node, {"max": 1})["max"]
        self.update(node, most, most, "finished")


class Run:
    """See comfyui_work.Call for what nodes use of it. `result` is what history keeps."""

    def __init__(self, engine: Engine, item: Item) -> None:
        _, self.prompt_id, self._prompt, self._extra, self._wanted, self.damage = item
        self._engine = engine
        self.folders = engine.folders
        self.client_id: str | None = self._extra.get("client_id")
        self.node_id: str | None = None
        self.disk_full = self.damage.take("disk-full")
        self.blackened = self.damage.take("nan")
        self._progress = Progress(self.prompt_id, lambda data: self._send("progress_state", data))
        self._messages: list[list[Any]] = []
        self._outputs: dict[str, Any] = {}
        self._executed: list[str] = []
        self._results: dict[str, Result] = {}
        self._steps_done = self._steps = 0
        self._longer = 0.0

    # -- the whole

    def run(self) -> dict[str, Any]:
        """Run it: what history keeps, beside the prompt."""
        self._message("execution_start")
        keys = signatures(self._prompt, self._engine.changed)
        cached = [n for n in self._prompt if keys.get(n) in self._engine.cache]
        self._results = {n: self._engine.cache[keys[n]] for n in cached}
        self._message("execution_cached", nodes=cached)
        order = Order(self._prompt, self._wanted, cached.__contains__, self._is_output)
        work = [steps_of(self._prompt[n]) for n in order if n not in cached]
        self._steps = max(sum(work), 1)
        if work:
            self.damage.announce()
        success = True
        while order and success:
            node_id = order.next()
            success = self._node(node_id, keys[node_id], has_steps=any(work))
            order.done(node_id)
        if success:
            self._message("execution_success")
        self.node_id = None
        return self._result(success)

    def _result(self, success: bool) -> dict[str, Any]:
        meta = {
            node: {"node_id": node, "display_node": node, "parent_node": None, "real_node_id": node}
            for node in self._outputs
        }
        status = {
            "status_str": "success" if success else "error",
            "completed": success,
            "messages": self._messages,
        }
        return {"outputs": self._outputs, "status": status, "meta": meta}

    def _node(self, node_id: str, key: str, *, has_steps: bool) -> bool:
        """Run one node: whether it came to its end. One like it may have run in this prompt."""
        if node_id not in self._results and key in self._engine.cache:
            self._results[node_id] = self._engine.cache[key]
        if node_id in self._results:
            self._show_output(node_id)
            self._progress.finish(node_id)
            return True
        self._progress.update(node_id, 0.0, 1.0)
        self.node_id = node_id
        if self.client_id is not None:
            self._send_of_node("executing", node_id)
        inputs = {}
        try:
            self._check_interrupted()
            inputs = self._inputs(node_id)
            if not has_steps and not self._engine.is_lost:
                self._strike(0)
            work = WORK[self._prompt[node_id]["class_type"]]
            self._results[node_id] = work(self, **inputs)
        except InterruptedRunError:
            self._engine.comfy_voice.interrupted()
            self._message("execution_interrupted", broadcast=True, **self._where(node_id))
            return False
        except (CrashedError, OSError) as e:
            self._failed(node_id, _as_crash(e), inputs)
            return False
        self._show_output(node_id)
        self._engine.keep(key, self._results[node_id])
        self._progress.finish(node_id)
        self._executed.append(node_id)
        return True

    def _inputs(self, node_id: str) -> dict[str, Any]:
        """Return the values for a node's inputs; those that its class does not have are ignored."""
        node = self._prompt[node_id]
        known = self._engine.kinds[node["class_type"]]["input"]
        names = {**known.get("required", {}), **known.get("optional", {})}
        linked = {n: self._results[s].values[slot] for n, s, slot in links_of(node)}
        return {n: v for n, v in {**node["inputs"], **linked}.items() if n in names}

    def _is_output(self, node_id: str) -> bool:
        return bool(self._engine.kinds[self._prompt[node_id]["class_type"]]["output_node"])

    # -- what nodes use

    def use_model(self, checkpoint: Checkpoint) -> None:
        """Move a model to the device, for a sampler."""
        self._engine.move_to_device(checkpoint)

    def use_device(self, pixels: int) -> None:
        """Compute, where no fault is planned. Raises CrashedError where the device is lost."""
        self._engine.use_device(None, 0, self.damage, pixels)

    def steps(self, count: int, pixels: int, shown: Shown) -> None:
        """Compute so many steps; an interrupt ends them."""
        bar = self._engine.comfy_voice.bar(count) if shown.preview else None
        begin, pause = time.monotonic(), self._engine.pause(self.damage)
        for step in range(count):
            self._strike(pixels)
            _sleep_until(begin + (step + 1) * (pause + self._longer))
            self._check_interrupted()
            if bar:
                bar.show(step + 1)
            if shown.progress:
                self._show_step(step + 1, count)
            if shown.preview:
                self._engine.hub.send_preview(shown.preview(step + 1), self.client_id)
        if bar:
            bar.close()

    def pause(self, seconds: float) -> None:
        """Make each of the steps that follow in this node last so much longer."""
        self._longer = seconds

    def load(self, name: str) -> Checkpoint:
        """Read a checkpoint. Raises CrashedError where that fails."""
        if self.damage.has("model-gone"):
            words = f"Model in folder 'checkpoints' with filename '{name}' not found."
            raise CrashedError("FileNotFoundError", words)
        return self._engine.load_file(name)

    def metadata(self) -> dict[str, Any]:
        """Return the texts of a picture that is saved."""
        if self._engine.no_metadata:
            return {}
        return {"prompt": self._prompt, **self._extra.get("extra_pnginfo", {})}

    def temporary(self) -> str:
        """Return the prefix of previews: five letters of each node's own."""
        return "ComfyUI_temp_" + "".join(random.choices(string.ascii_lowercase, k=5))

    def cast_nans(self) -> None:
        self._engine.cast_nans()

    def _strike(self, pixels: int) -> None:
        """Compute one step, with what the plan has for it."""
        if self.damage.take("websocket-closes"):
            self._engine.hub.cut_all()
        step, self._steps_done = self._steps_done, self._steps_done + 1
        try:
            self._engine.use_device(step, self._steps, self.damage, pixels)
        except CrashedError as error:
            leave_executor(error)
            raise

    def _check_interrupted(self) -> None:
        if self._engine.state.interrupted:
            self._engine.state.interrupted = False
            raise InterruptedRunError

    # -- what is said of it

    def _failed(self, node_id: str, error: CrashedError, inputs: dict[str, Any]) -> None:
        leave_executor(error)
        self._engine.note(error)
        is_oom = error.qualified == OUT_OF_MEMORY
        frames = _frames(self._prompt[node_id]["class_type"], error)
        self._engine.comfy_voice.failed(error, frames, out_of_memory=is_oom)
        if is_oom:
            self._engine.unload()
        self._message(
            "execution_error",
            **self._where(node_id),
            exception_message=f"{error.message}\n{TIPS if is_oom else ''}",
            exception_type=error.qualified,
            traceback=frames,
            current_inputs={name: [_as_text(value)] for name, value in inputs.items()},
            current_outputs=list(self._prompt),
        )
        if error.ends_after is not None:
            self._engine.end_after(error.ends_after)

    def _where(self, node_id: str) -> dict[str, Any]:
        kind = self._prompt[node_id]["class_type"]
        return {"node_id": node_id, "node_type": kind, "executed": list(self._executed)}

    def _show_output(self, node_id: str) -> None:
        shown = self._results[node_id].shown
        if shown is None:
            return
        self._outputs[node_id] = shown
        if self.client_id is not None:
            self._send_of_node("executed", node_id, output=shown)

    def _show_step(self, value: int, most: int) -> None:
        assert self.node_id is not None
        self._progress.update(self.node_id, value, most)
        data = {"value": value, "max": most, "prompt_id": self.prompt_id, "node": self.node_id}
        self._send("progress", data)

    def _send_of_node(self, kind: str, node_id: str, **more: Any) -> None:
        data = {"node": node_id, "display_node": node_id, **more, "prompt_id": self.prompt_id}
        self._send(kind, data)

    def _message(self, kind: str, *, broadcast: bool = False, **data: Any) -> None:
        """Note what the history keeps, and send it."""
        first = {"nodes": data.pop("nodes")} if "nodes" in data else {}
        whole = {**first, "prompt_id": self.prompt_id, **data, "timestamp": _now()}
        self._messages.append([kind, whole])
        if self.client_id is not None or broadcast:
            self._send(kind, whole)

    def _send(self, kind: str, data: dict[str, Any]) -> None:
        """Send to the client of the prompt; to all of them where it named none."""
        self._engine.hub.send(kind, data, self.client_id)


def _as_crash(error: CrashedError | OSError) -> CrashedError:
    if isinstance(error, CrashedError):
        return error
    return CrashedError(type(error).__name__, str(error))


def _frames(kind: str, error: CrashedError) -> list[str]:
    where = f'  File "<comfyui>/nodes.py", line 1, in {kind}\n    {error.code}\n'
    above = [f'  File "<comfyui>/{f}", line {n}, in {i}\n{_marked(c)}' for f, n, i, c in _FRAMES]
    return [*above, where]


def _marked(code: str) -> str:
    """Return a line of code; Python 3.11 and later mark the part of it that failed."""
    assigned, sign, call = code.partition(" = ")
    marks = f"    {' ' * len(assigned + sign)}{'^' * len(call)}\n" if sign else ""
    return f"    {code}\n{marks}"


def _as_text(value: Any) -> Any:
    if isinstance(value, int | float | bool | str) or value is None:
        return value
    if isinstance(value, list) and value and isinstance(value[0], Image.Image):
        return _TENSOR
    return str(value) if isinstance(value, Conditioning) else f"<{type(value).__name__} object>"


def _sleep_until(moment: float) -> None:
    left = moment - time.monotonic()
    if left > 0:
        time.sleep(left)
