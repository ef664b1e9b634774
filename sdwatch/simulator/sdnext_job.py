"""What SD.Next shows of a job, and what it answers: stages, JPEG, an info of its own."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar

from sdwatch.simulator.checkpoints import Checkpoint
from sdwatch.simulator.damage import Damage
from sdwatch.simulator.infotext import parameter_line
from sdwatch.simulator.job import Job, grained
from sdwatch.simulator.state import State, timestamp
from sdwatch.simulator.traits import Traits

if TYPE_CHECKING:
    from PIL import Image

_PREVIEW = 512


@dataclass
class NextState(State):
    """/progress and /status: each stage of a job counts from 0, and nothing counts the job."""

    preview_from_step: ClassVar[int] = 1

    id: str = ""
    started: float = field(default_factory=time.monotonic, repr=False)
    jobs_started: int = 0

    def begin(self, job: str, job_count: int = 1) -> None:
        super().begin(job, job_count)
        self.jobs_started += 1
        self.stage(job)

    def stage(self, name: str) -> None:
        """Start a stage: progress falls to 0, and the id is a new one."""
        self.sampling_step = self.sampling_steps = 0
        self.job, self.job_count, self.id = name, 1, secrets.token_hex(8)[:15]
        self.began = time.monotonic()

    def end(self) -> None:
        super().end()
        self.id = ""

    def begin_pass(self, steps: int) -> None:
        """Nothing is shown until the first step has ended."""

    def stepped(self, step: int, steps: int) -> None:
        """The last step is not shown."""
        if step < steps:
            self.sampling_step, self.sampling_steps = step, steps

    def share(self) -> float:
        return self.sampling_step / self.sampling_steps if self.sampling_steps else 0.0

    def image(self, _samples_format: str = "jpg") -> str | None:
        return super().image("jpg")

    def progress(self, with_image: bool) -> dict[str, Any]:
        body = super().progress(with_image)
        del body["state"]["stopping_generation"]
        return {"id": self.id, **body, "eta_relative": round(body["eta_relative"], 2)}

    def status(self) -> dict[str, Any]:
        """Return the body of GET /status."""
        share = self.share()
        elapsed = time.monotonic() - self.began if self.began else 0.0
        word = "interrupted" if self.interrupted else "skipped" if self.skipped else "idle"
        return {
            "status": "running" if self.job else word,
            "task": self.job,
            "timestamp": self.job_timestamp if self.job else None,
            "current": "",
            "id": self.id,
            "job": self.job_no,
            "jobs": self.job_count,
            "total": self.jobs_started,
            "step": self.sampling_step,
            "steps": self.sampling_steps,
            "queued": 0,
            "uptime": int(time.monotonic() - self.started),
            "elapsed": round(elapsed, 2),
            "eta": round(elapsed / share - elapsed, 2) if self.job and share else None,
            "progress": share,
        }


class NextJob(Job):
    """A job of SD.Next: `finished` are the rounds with a picture, `cut` and `failed` why some
    have none."""

    def __init__(
        self,
        traits: Traits,
        stage: str,
        fields: dict[str, Any],
        settings: dict[str, Any],
        checkpoint: Checkpoint,
        inputs: list[Image.Image],
    ) -> None:
        super().__init__(traits, stage, fields, settings, checkpoint, inputs)
        self.finished: list[int] = []
        self.cut = self.failed = self.with_preview = False
        upscaler = fields["hr_upscaler"]
        # An unknown one is ignored, and the hires pass with it.
        self.hires = self.hires and traits.checks.find_upscaler(upscaler) is not None
        self.passes = [max(steps, 0) for steps in self.passes[: 1 + self.hires]]

    def body(self, damage: Damage) -> dict[str, Any]:
        """After an exception from step 2 on the live preview is one picture more: black without
        the small VAE that draws it, 512x512 for each of the batch, side by side (measured)."""
        body = super().body(damage)
        if self.with_preview and self.fields["send_images"]:
            from sdwatch.simulator import pictures

            black = pictures.black(_PREVIEW * self.fields["batch_size"], _PREVIEW)
            body["images"].append(pictures.encode(black, self.samples_format(), ""))
        return body

    def kept(self) -> list[int]:
        size: int = self.fields["batch_size"]
        return [r * size + i for r in self.finished for i in range(size)]

    def infotexts(self, of_the_pictures: list[str]) -> list[str]:
        """Return the infotexts: a failure reads like a success; an interrupt leaves one without a
        picture."""
        if self.failed:
            return [self.infotext(i) for i in range(self.rounds * self.fields["batch_size"])]
        return [*of_the_pictures, self.infotext(0)] if self.cut else of_the_pictures

    def samples_format(self) -> str:
        return str(self.fields["samples_format"] or self.settings.get("samples_format", "jpg"))

    def size(self) -> tuple[int, int]:
        """img2img keeps its input's size; 0 is the default."""
        if self.inputs:
            return grained(self.inputs[0].width), grained(self.inputs[0].height)
        return grained(self.fields["width"] or 1024), grained(self.fields["height"] or 1024)

    def _hires_size(self) -> tuple[int, int]:
        """It enlarges only with hr_resize_mode above 0, which is not the default (measured)."""
        return super()._hires_size() if self.fields.get("hr_resize_mode") else self.size()

    def infotext(self, index: int) -> str:
        f = self.fields
        width, height = self.size()
        name = "StableDiffusionImg2ImgPipeline" if self.inputs else "StableDiffusionPipeline"
        parameters = {
            "Steps": f["steps"],
            "Size": f"{width}x{height}",
            "Sampler": self.sampler,
            "Scheduler": self.schedule,
            "Seed": self.seed_of(index),
            "CFG scale": f["cfg_scale"],
            "CFG rescale": 0.0,
            "App": "SD.Next",
            "Version": self.traits.version,
            "Pipeline": name,
            "Operations": "img2img" if self.inputs else "txt2img",
            "Model": self.checkpoint.name,
            "Model hash": self.checkpoint.hash,
            **self._of_the_input(),
        }
        head = [f["prompt"], f"Negative prompt: {f['negative_prompt'] or ''}"]
        return "\n".join([*head, f"Template: {f['prompt']}", parameter_line(parameters)])

    def _of_the_input(self) -> dict[str, Any]:
        if not self.inputs:
            return {}
        image = self.inputs[0]
        return {
            "Init image size": f"{image.width}x{image.height}",
            "Init image hash": sha256(image.tobytes()).hexdigest()[:8],
            "Denoising strength": self.fields["denoising_strength"],
        }

    def info(self, infotexts: list[str], first: int) -> dict[str, Any]:
        """Without sd_model_name: only the infotexts name the model."""
        f = self.fields
        width, height = self.size()
        return {
            **self.common_info(),
            "width": width,
            "height": height,
            "cfg_end": None,
            "steps": f["steps"],
            "batch_size": f["batch_size"],
            "detailer": False,
            "detailer_model": None,
            "sd_model_hash": self.checkpoint.hash,
            "seed_resize_from_w": f["seed_resize_from_w"],
            "seed_resize_from_h": f["seed_resize_from_h"],
            "denoising_strength": f["denoising_strength"],
            "extra_generation_params": {},
            "index_of_first_image": first,
            "infotexts": infotexts,
            "styles": f["styles"] or [],
            "job_timestamp": timestamp(),
            "clip_skip": 1,
        }
