"""AUTOMATIC1111 v1.10.1 (--nowebui --api, uvicorn 0.54), measured in November 2026.

It is Forge's ancestor; here is what differs. Where a fact was only read in its source, it says so.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

from sdwatch.simulator import console
from sdwatch.simulator.checkpoints import Checkpoint
from sdwatch.simulator.checks import Checks
from sdwatch.simulator.damage import Damage
from sdwatch.simulator.failures import CrashedError, RefusedError
from sdwatch.simulator.forge import JOB_NAMES
from sdwatch.simulator.generation import Machine, Speed
from sdwatch.simulator.kind import Kind
from sdwatch.simulator.process import Process
from sdwatch.simulator.site import Request, Response, Site, as_json
from sdwatch.simulator.traits import Traits, load, schemas_of
from sdwatch.simulator.validation_v1 import Pydantic1
from sdwatch.simulator.voice import Voice

LISTS = load("a1111_lists.json")
OPENAPI = load("a1111_openapi.json")
# Declared without Optional, unlike the other fields of these two (source).
_NEVER_NULL = {
    "sampler_index", "script_args", "send_images", "save_images", "alwayson_scripts",
    "include_init_images",
}  # fmt: skip


def _schemas() -> dict[str, dict[str, Any]]:
    schemas = schemas_of(OPENAPI)
    for stage in ("txt2img", "img2img"):
        nullable = set(schemas[stage]["properties"]) - _NEVER_NULL
        schemas[stage] = {**schemas[stage], "nullable": nullable}
    return schemas


class A1111Voice(Voice):
    version = "v1.10.1"
    commit = "82a973c04367123ae98bd9abdf80d9eda9b910e2"

    def boot(self, port: int) -> None:
        self.introduction(port)
        console.out("No module 'xformers'. Proceeding without it.")
        self.no_memory_monitor()

    def loading(self, checkpoint: Checkpoint, before: Checkpoint | None) -> None:
        if before:
            console.out(f"Reusing loaded model {before.title} to load {checkpoint.file}")
        console.out(f"Loading weights [{checkpoint.hash}] from {checkpoint.filename}")

    def loaded(self, seconds: float, before: Checkpoint | None) -> None:
        console.out("Applying attention optimization: InvokeAI... done.")
        what, part = ("Weights", "apply weights to model") if before else ("Model", "create model")
        console.out(f"{what} loaded in {seconds:.1f}s ({part}: {seconds:.1f}s).")

    prints_before_reply = True  # its own handler does, and the access line comes after that

    def crash(self, method: str, url: str, error: CrashedError) -> str:
        return (
            f"*** API error: {method}: {url} {body_of(error)}\n"
            "    Traceback (most recent call last):\n"
            '      File "<site-packages>/anyio/streams/memory.py", line 93, in receive_nowait\n'
            "        raise WouldBlock\n"
            "    anyio.WouldBlock\n\n"
            "    During handling of the above exception, another exception occurred:\n\n"
            "    Traceback (most recent call last):\n"
            '      File "<webui>/modules/api/api.py", line 186, in exception_handling\n'
            "        return await call_next(request)\n"
            '      File "<webui>/modules/processing.py", line 1, in simulated\n'
            f"        {error.code}\n"
            f"    {error.last_line()}\n\n---\n"
        )


class A1111Checks(Checks):
    def smallest(self) -> None:
        """Accept 8x8."""

    def no_init_image(self) -> CrashedError:
        message = (
            "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: [0]"
        )
        return CrashedError("RuntimeError", message)


class A1111Machine(Machine):
    """Loads at the start, in a thread of its own; is poisoned by a checkpoint it cannot read.

    Poisoned, the old checkpoint is still loaded but broken: what needs a new conditioning fails,
    the prompt of the last job does not. A load of another good one cures it, and nothing else.
    """

    def __init__(self, traits: Traits, speed: Speed, *, has_model: bool) -> None:
        super().__init__(traits, speed, has_model=has_model)
        self._started = threading.Event()
        self._hashed: set[Checkpoint] = set()
        self._conditioned: tuple[Any, ...] | None = None
        self._in_ram = False  # the weights are not on the GPU

    def before_listening(self) -> None:
        # No daemon: an exit waits for it.
        threading.Thread(target=self._load_at_start).start()

    def _load_at_start(self) -> None:
        if self.has_model:
            first = self.checkpoints[0]
            self.switch_to(first)
            self.options["sd_model_checkpoint"] = first.title
        else:
            console.err("Stable diffusion model failed to load")
        self._started.set()

    def before_job(self) -> None:
        self._started.wait()

    def item(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Return the title; its hash is known once the checkpoint was loaded."""
        return checkpoint.item(hashed=checkpoint in self._hashed)

    def switch_to(self, checkpoint: Checkpoint) -> None:
        super().switch_to(checkpoint)
        self._hashed.add(checkpoint)
        self._in_ram = False

    def _switch_if_other(self, checkpoint: Checkpoint) -> None:
        """A load cures; where nothing is loaded, nothing is cured."""
        if checkpoint is not self.loaded:
            self.switch_to(checkpoint)
            self.poisoned = False

    def unload(self) -> None:
        """Move the weights only: nothing is loaded again, nothing is cured."""
        self._in_ram = True

    def reload(self) -> None:
        """Move them back, by its source the only way but another checkpoint."""
        self._in_ram = False

    def set_options(self, changes: dict[str, Any]) -> None:
        """200 for an unreadable checkpoint, which is rolled back in silence and poisons."""
        super().set_options({k: v for k, v in changes.items() if k != "sd_model_checkpoint"})
        self._stored |= set(changes)
        name = changes.get("sd_model_checkpoint")
        if name is None:
            return
        checkpoint = self.find(name)
        if checkpoint is None:
            raise CrashedError("RuntimeError", f"model {name!r} not found")
        if not checkpoint.readable:
            self.poisoned = True
            return
        self._switch_if_other(checkpoint)
        self.options["sd_model_checkpoint"] = checkpoint.title

    def generate(self, stage: str, fields: dict[str, Any], damage: Damage) -> dict[str, Any]:
        """Overrides are options while the job runs. Only what was set before is put back."""
        given = dict(fields["override_settings"] or {})
        self.checks.option_names(given, self.options)
        before = {k: self.options[k] for k in given if k in self._stored}
        model = given.pop("sd_model_checkpoint", None)
        self.options.update(given)
        self._stored |= set(given)
        try:
            return self._generate(stage, fields, model, damage)
        finally:
            if fields["override_settings_restore_afterwards"] is not False:
                self.options.update(before)
            elif model is not None and self.loaded:
                self.options["sd_model_checkpoint"] = self.loaded.title

    def _generate(
        self, stage: str, fields: dict[str, Any], model: Any, damage: Damage
    ) -> dict[str, Any]:
        if not self.has_model:
            message = "No checkpoints found. When searching for checkpoints, looked at: <webui>"
            raise CrashedError("FileNotFoundError", message)
        self.checks.numbers(fields)
        self.checks.names(fields, self._listed())
        inputs = self.checks.init_images(fields) if stage == "img2img" else []
        if model is None or self.find(model) is None:
            model = self.options["sd_model_checkpoint"]
        checkpoint = self.load(model, damage)
        fields = self.checks.batch(fields, len(inputs))
        job = self.job_class(self.traits, stage, fields, self.options, checkpoint, inputs)
        if not fields["scheduler"]:
            console.err(
                "WARNING:root:Sampler Scheduler autocorrection: "
                f'"{job.sampler}" -> "{job.sampler}", "None" -> "{job.schedule}"'
            )
        self._condition(fields)
        self.sample(job, damage)
        return job.body(damage)

    def load(self, name: Any, damage: Damage) -> Checkpoint:
        checkpoint = self.wanted(name, damage)
        if not checkpoint.readable:
            self.poisoned = True
            message = "Error while deserializing header: HeaderTooSmall"
            raise CrashedError(
                "SafetensorError", message, qualified="safetensors_rust.SafetensorError"
            )
        self._switch_if_other(checkpoint)
        return checkpoint

    def _condition(self, f: dict[str, Any]) -> None:
        """Turn the prompt into numbers, or take those of the last one if it was the same."""
        asked = (f["prompt"], f["negative_prompt"], f["steps"], f["width"], f["height"])
        if self.poisoned and asked != self._conditioned:
            raise CrashedError("AssertionError", "Torch not compiled with CUDA enabled")
        if self._in_ram and not self.poisoned:  # with CUDA; no matter on a CPU (measured)
            raise CrashedError("RuntimeError", _TWO_DEVICES)
        self._conditioned = asked

    @property
    def on_gpu(self) -> str:
        return "" if self._in_ram else super().on_gpu


_TWO_DEVICES = (
    "Expected all tensors to be on the same device, but found at least two devices, cpu and cuda:0!"
)


class A1111Site(Site):
    empty = ("loras", "sd-vae", "hypernetworks", "extensions")

    def refused(self, e: RefusedError) -> Any:
        if isinstance(e.detail, list):
            return {"detail": e.detail}
        return {"error": "HTTPException", "detail": e.detail, "body": "", "errors": ""}

    def crashed(self, e: CrashedError) -> Any:
        return body_of(e)

    def unauthorized(self, reason: str) -> Response:
        """Answer without WWW-Authenticate."""
        return as_json(401, self.refused(RefusedError(401, reason)))

    def cmd_flags(self) -> Any:
        return {**self.flags(), "port": str(self.settings.port)}

    def finish(self, _request: Request, response: Response) -> Response:
        response.headers["x-process-time"] = str(round(response.seconds, 4))
        return response


class A1111Process(Process):
    """uvicorn runs in the main thread: SIGTERM closes the port, and waits for what is running.

    A second SIGTERM does nothing, a SIGINT after it ends the process. While nothing is running,
    also while the checkpoint is loaded at the start, it ends at once.
    """

    _closing = False

    def handle_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda n, _: self._signalled(n))

    def _signalled(self, number: int) -> None:
        if self.server is None or (self._closing and number == signal.SIGINT):
            _end_by(number)
        elif not self._closing:
            self._closing = True
            self.calls.put(lambda: self._close(number))

    def _close(self, number: int) -> None:
        assert self.server is not None
        console.err("INFO:     Shutting down")
        self.server.close_port()
        if not self.server.wait_idle(0):
            console.err("INFO:     Waiting for connections to close. (CTRL+C to force quit)")
        while not self.server.wait_idle(0.2):
            continue
        console.err("INFO:     Waiting for application shutdown.")
        console.err("INFO:     Application shutdown complete.")
        console.err(f"INFO:     Finished server process [{os.getpid()}]")
        _end_by(number)

    def bind_failed(self) -> None:
        """Exit with 3, when the checkpoint is loaded."""
        sys.exit(3)


def body_of(e: CrashedError) -> dict[str, Any]:
    """Return the body of a 500."""
    return {"error": e.error, "detail": "", "body": e.answered, "errors": e.message}


def _end_by(number: int) -> None:
    if number == signal.SIGINT:
        console.err(f"Interrupted with signal {number} in <frame>")
        os._exit(0)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


A1111 = Kind(
    Traits(
        name="a1111",
        lists=LISTS,
        openapi=OPENAPI,
        schemas=_schemas(),
        job_names=JOB_NAMES,
        validation=Pydantic1(),
        checks=A1111Checks(LISTS),
        voice=A1111Voice(),
    ),
    A1111Machine,
    A1111Site,
    A1111Process,
)
