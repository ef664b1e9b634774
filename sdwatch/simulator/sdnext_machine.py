"""What SD.Next does: loads after its port is open, fails with a 200, is poisoned by /options.

Measured with SD.Next 058a7f0c.
"""

from __future__ import annotations

import json
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdwatch.simulator.checkpoints import Checkpoint
from sdwatch.simulator.checks import MOST_PIXELS
from sdwatch.simulator.damage import Damage
from sdwatch.simulator.failures import CrashedError, too_large
from sdwatch.simulator.generation import EXTRAS, Machine, Speed
from sdwatch.simulator.job import Job
from sdwatch.simulator.sdnext_job import NextJob, NextState
from sdwatch.simulator.sdnext_voice import NextVoice, say
from sdwatch.simulator.traits import Traits
from sdwatch.simulator.voice import HOOKS

if TYPE_CHECKING:
    from PIL import Image

_LORA = re.compile(r"<lora:([^:>]+)")
_LOADING = "Load model"
_CAUGHT = ("RuntimeError", "OutOfMemoryError", "ValueError", "AssertionError")
# Options that GET /options does not show until they are set.
_HIDDEN = ("samples_format", "sd_checkpoint_autoload", "server_rate_limit")


class NextMachine(Machine):
    """Nothing is loaded while the start-up load runs, and once /options named a bad checkpoint:
    every job is then a 200 without images. A good one named there is the cure."""

    state_class = NextState
    job_class = NextJob
    samples_format = "jpg"
    state: NextState
    voice: NextVoice

    def __init__(self, traits: Traits, speed: Speed, *, has_model: bool) -> None:
        super().__init__(traits, speed, has_model=has_model)
        self._started = False
        self._hashed: set[Checkpoint] = set()
        self._options_file: Path | None = None

    def remember_options(self, file: Path | None) -> None:
        """Its config.json: a checkpoint that POST /options chose is the next start's, too."""
        self._options_file = file
        if file is not None and file.exists():
            self.options |= json.loads(file.read_text(encoding="utf-8"))

    # -- checkpoints

    def after_listening(self) -> None:
        threading.Thread(target=self._load_at_start, daemon=True).start()

    def _load_at_start(self) -> None:
        """Holds no lock: a job that comes now finds nothing, and ends what /progress showed."""
        begin = time.monotonic()
        say("INFO", f'Model: autoload=True selected="{self.options["sd_model_checkpoint"]}"')
        if self.has_model:
            self.state.stage(_LOADING)
            chosen = self.find(self.options["sd_model_checkpoint"])
            if chosen is None or not chosen.readable:
                self.voice.not_loaded(str(self.options["sd_model_checkpoint"]))
                self.poison()
            else:
                self._choose(chosen)
            if self.state.job == _LOADING:
                self.state.end()
        else:
            say("INFO", "Selecting first available checkpoint")
        self._started = True
        self.voice.started(time.monotonic() - begin)

    def _choose(self, checkpoint: Checkpoint) -> None:
        """Load it as the one that the options name."""
        self.switch_to(checkpoint)
        self.options["sd_model_checkpoint"] = checkpoint.short_title

    def switch_to(self, checkpoint: Checkpoint) -> None:
        super().switch_to(checkpoint)
        self._hashed.add(checkpoint)

    def item(self, checkpoint: Checkpoint) -> dict[str, Any]:
        """Return the title; it has no hash until the file was loaded once."""
        hashed = checkpoint in self._hashed
        item = checkpoint.item(hashed)
        return {
            "title": checkpoint.short_title if hashed else checkpoint.name,
            "model_name": checkpoint.name,
            "filename": checkpoint.filename,
            "type": "safetensors",
            "sha256": item["sha256"],
            "hash": item["hash"],
            "config": None,
        }

    def checkpoint(self) -> dict[str, Any]:
        """GET /checkpoint. Asking loads nothing."""
        if not self.loaded:
            return {"type": None, "class": None}
        return {
            "type": "sd",
            "class": "StableDiffusionPipeline",
            "checkpoint": self.loaded.filename,
            "title": self.loaded.short_title,
            "name": self.loaded.name,
            "filename": self.loaded.filename,
            "hash": self.loaded.hash,
        }

    def select(self, name: Any) -> bool:
        """POST /checkpoint: whether it is loaded now. A bad name changes nothing."""
        checkpoint = self.find(name)
        if checkpoint is None or not checkpoint.readable:
            self.voice.not_loaded(str(name))
            return False
        with self.queue.turn():
            self.state.stage(_LOADING)
            self._choose(checkpoint)
            self.state.end()
        self.poisoned = False
        return True

    def set_options(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Return for each key whether it was set: True also for a checkpoint that is not there."""
        updated = []
        for name, value in changes.items():
            known = name in self.options or name in _HIDDEN
            if known:
                self.options[name] = value
            updated.append({name: known})
        self._save({name: value for name, value in changes.items() if name in self.options})
        wanted = changes.get("sd_model_checkpoint")
        if wanted is not None and not self.select(wanted):
            self.poison()
        return {"updated": updated}

    def _save(self, changes: dict[str, Any]) -> None:
        if (file := self._options_file) is None or not changes:
            return
        saved = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        file.write_text(json.dumps({**saved, **changes}), encoding="utf-8")

    def poison(self) -> None:
        """Unload everything."""
        self.poisoned, self.loaded = True, None

    # -- a generation

    def run(self, stage: str, fields: dict[str, Any], damage: Damage) -> bytes:
        """As Forge, but what fails with an error leaves its job in the state."""
        if damage.has("poisoned"):
            self.poison()
        if stage == EXTRAS:
            return super().run(stage, fields, damage)
        with self.queue.turn():
            damage.announce()
            inputs = self._inputs(fields) if stage == "img2img" else []
            self.state.begin(self.traits.job_names[stage])
            self.run_hooks(damage, *HOOKS[:1])
            body = self._generate(stage, fields, inputs, damage)
            self.run_hooks(damage, *HOOKS[1:])
            self.state.end()
            return damage.reply(body)

    def _inputs(self, fields: dict[str, Any]) -> list[Image.Image]:
        """Return the pictures that it starts from; none of [] and of [null]."""
        from sdwatch.simulator import pictures

        try:
            return [pictures.decode(i) for i in fields["init_images"] if i is not None]
        except CrashedError:
            self.state.begin("Process")
            raise

    def _generate(
        self, stage: str, fields: dict[str, Any], inputs: list[Image.Image], damage: Damage
    ) -> dict[str, Any]:
        self.checks.scripts(stage, fields)
        given = dict(fields["override_settings"] or {})
        base = self._base()
        if base is None:
            say("WARNING", "Aborted: op=process model not loaded")
            return {"images": [], "parameters": _echo(fields), "info": ""}
        self.checks.numbers(fields)
        checkpoint = self._override(given.get("sd_model_checkpoint"), damage)
        for name in _LORA.findall(fields["prompt"]):
            say("ERROR", f'Network load: type=LoRA name="{name}" not found')
        settings = {**self.options, **given}
        job = self.job_class(self.traits, stage, fields, settings, checkpoint, inputs)
        try:
            self.sample(job, damage)
        except CrashedError as e:
            self._failed(job, e)
        if job.size() == (8, 8):
            raise CrashedError("RuntimeError", "simulated: this size cannot be decoded")
        if fields["override_settings_restore_afterwards"] is not False and checkpoint is not base:
            self.switch_to(base)
        self.voice.processed()
        return job.body(damage)

    def _base(self) -> Checkpoint | None:
        """Return the checkpoint of the options, loaded if it only was unloaded. None: there is
        none."""
        if not self.has_model or not self._started:
            return None
        if self.poisoned:
            self.voice.not_loaded(str(self.options["sd_model_checkpoint"]))
            return None
        if self.loaded is None:
            self._choose(self.find(self.options["sd_model_checkpoint"]) or self.checkpoints[0])
        return self.loaded

    def _override(self, name: Any, damage: Damage) -> Checkpoint:
        """Return the checkpoint of this job, loaded; the old one stays where it cannot be read."""
        if name is not None and self.find(name) is None:
            say("WARNING", f"Override not found: checkpoint={name}")
        checkpoint = self.wanted(name, damage)
        if not checkpoint.readable:
            time.sleep(self.speed.switch_time)
            self.voice.not_loaded(checkpoint.name)
            raise CrashedError("TypeError", "'NoneType' object is not callable")
        if checkpoint is not self.loaded:
            self.switch_to(checkpoint)
        return checkpoint

    def sample(self, job: Job, damage: Damage) -> None:
        """Each round has its stages; a skipped one has no picture."""
        assert isinstance(job, NextJob)
        state, f = self.state, job.fields
        state.seed = job.seed
        damage.tiled = job.tiled
        total, done = job.rounds * sum(job.passes), 0
        pause = self.speed.step_time * damage.slowness
        for number in range(job.rounds):
            state.skipped = False
            state.stage("TE Encode")
            time.sleep(pause)
            state.stage("Inference")
            _check_sampling(f, bool(job.inputs))
            for steps in job.passes:
                self.steps(steps, done, total, damage, job.pixels())
                done += steps
            job.steps_done = state.sampling_step if state.interrupted else job.passes[-1]
            if state.skipped:
                continue
            state.stage("VAE Decode")
            time.sleep(pause)
            try:
                damage.before_decode()
            except CrashedError as e:  # of any class: the round has no picture, and that is all
                self.voice.not_decoded(e)
                job.failed = True
                return
            job.finished.append(number)
            if state.interrupted:
                job.cut = True
                return

    def _failed(self, job: Job, error: CrashedError) -> None:
        """Sampling raised. A RuntimeError (as of too little memory) or a ValueError ends the job as
        an interrupt does, with what there is of a preview, and an AssertionError without a picture:
        only the log says so. Others are a 500. NaNs are not an error, the pictures are black."""
        assert isinstance(job, NextJob)
        if error.error == "NansException":
            say("ERROR", "Decode: sample=[1, 3, 64, 64] invalid=12288 dtype=float32 failed")
            job.blackened, job.finished = True, list(range(job.rounds))
            return
        if error.text_only or error.error not in _CAUGHT:
            raise error
        job.failed = True
        self.voice.failed(error, _arguments(job))
        if error.error != "AssertionError":
            self.state.interrupted = True
            job.with_preview = self.state.sampling_step > 0

    # -- an upscale

    def upscale(self, image: Image.Image, fields: dict[str, Any], damage: Damage) -> dict[str, Any]:
        """Upscale; an unknown upscaler is reported in the log only."""
        self.state.begin(self.traits.job_names[EXTRAS])
        name = fields["upscaler_1"]
        if self.checks.find_upscaler(name) is None:
            say("ERROR", f"Could not find upscaler: {name}")
            fields = {**fields, "upscaler_1": "None"}
        body = self.enlarged(image, fields, damage)
        self.state.end()
        return body


def _check_sampling(f: dict[str, Any], has_input: bool) -> None:
    """Raise what sampling cannot do: told in the log only."""
    width, height = f["width"] or 0, f["height"] or 0
    if min(width, height) < 0:
        message = f"Trying to create tensor with negative dimension {min(width, height) // 8}"
        raise CrashedError("RuntimeError", message)
    if width * height > MOST_PIXELS:
        raise too_large(width * height * 20)
    if has_input and f["denoising_strength"] > 1:
        message = f"The value of strength should in [0.0, 1.0] but is {f['denoising_strength']}"
        raise CrashedError("ValueError", message)


def _arguments(job: Job) -> str:
    """Return what the log shows of a call inside: a long dict."""
    batch = job.fields["batch_size"]
    embeds = f"cpu:torch.float32:torch.Size([{batch}, 77, 768])"
    given = {
        "prompt_embeds": embeds,
        "negative_prompt_embeds": embeds,
        "guidance_scale": job.fields["cfg_scale"],
        "num_inference_steps": job.fields["steps"],
        "generator": f"[<torch._C.Generator object at 0x7f{job.seed:010x}>]",
        "output_type": "latent",
        "callback_on_step_end": "<function diffusers_callback at 0x7f3c51d0a2a0>",
        "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"],
        "width": job.fields["width"],
        "height": job.fields["height"],
        "parser": "fixed",
    }
    return str(given)


def _echo(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "init_images": None} if "init_images" in fields else fields
