"""One txt2img or img2img job: what is asked, how far it came, what is answered."""

from __future__ import annotations

import json
import random
from datetime import datetime
from typing import Any

from PIL import Image

from sdwatch.simulator import forge, pictures
from sdwatch.simulator.damage import Damage


class Job:
    """The request with its defaults, and the rounds and steps that were run."""

    def __init__(
        self,
        stage: str,
        fields: dict[str, Any],
        checkpoint: forge.Checkpoint,
        inputs: list[Image.Image],
        samples_format: str,
    ) -> None:
        self.stage = stage
        self.fields = fields
        self.checkpoint = checkpoint
        self.inputs = inputs
        self.samples_format = samples_format
        self.rounds: int = fields["n_iter"]
        self.rounds_done = 0
        self.steps_done = 0
        self.seed = _seed(fields["seed"])
        self.subseed = _seed(fields["subseed"])
        self.sampler, self.schedule = forge.sampler_and_schedule(
            fields["sampler_name"] or fields["sampler_index"], fields["scheduler"]
        )
        self.hires = bool(fields.get("enable_hr"))
        steps = fields["steps"]
        second = [fields["hr_second_pass_steps"] or steps] if self.hires else []
        self.passes: list[int] = [steps, *second]

    def body(self, damage: Damage) -> dict[str, Any]:
        """The reply: Forge's keys, with the pictures of the rounds that were run."""
        count = self.rounds_done * self.fields["batch_size"]
        images = [spoiled(self._picture(i), damage) for i in range(count)]
        infotexts = [self._infotext(i) for i in range(count)]
        with_grid = count > 1 and self.fields["save_images"] and not self.fields["do_not_save_grid"]
        if with_grid:
            images.insert(0, pictures.grid(images))
            infotexts.insert(0, self._infotext(0))
        encoded = [
            pictures.encode(image, self.samples_format, text)
            for image, text in zip(images, infotexts, strict=True)
        ]
        echo = dict(self.fields)
        if self.stage == "img2img" and not self.fields["include_init_images"]:
            echo["init_images"] = echo["mask"] = None
        return {
            "images": encoded if self.fields["send_images"] else [],
            "parameters": echo,
            "info": json.dumps(self._info(infotexts, int(with_grid))),
        }

    def _varied(self) -> bool:
        return bool(self.fields["subseed_strength"])

    def _seed_of(self, index: int) -> int:
        return self.seed + (0 if self._varied() else index)

    def _extra_parameters(self) -> dict[str, Any]:
        f, extra = self.fields, dict[str, Any]()
        if self.stage == "img2img" or self.hires:
            extra["Denoising strength"] = f["denoising_strength"]
        if self.hires:
            extra["Hires upscale"] = f["hr_scale"]
            extra["Hires upscaler"] = f["hr_upscaler"] or "Latent"
        return extra

    def _infotext(self, index: int) -> str:
        f = self.fields
        varied = {
            "Variation seed": self.subseed + index,
            "Variation seed strength": f["subseed_strength"],
        }
        parameters = {
            "Steps": f["steps"],
            "Sampler": self.sampler,
            "Schedule type": self.schedule,
            "CFG scale": f["cfg_scale"],
            "Seed": self._seed_of(index),
            "Size": f"{f['width']}x{f['height']}",
            "Model hash": self.checkpoint.hash,
            "Model": self.checkpoint.name,
            **(varied if self._varied() else {}),
            **self._extra_parameters(),
            "Version": forge.VERSION,
        }
        return forge.infotext(f["prompt"], f["negative_prompt"] or "", parameters)

    def _info(self, infotexts: list[str], first: int) -> dict[str, Any]:
        f, count = self.fields, self.rounds * self.fields["batch_size"]
        negative = f["negative_prompt"] or ""
        return {
            "prompt": f["prompt"],
            "all_prompts": [f["prompt"]] * count,
            "negative_prompt": negative,
            "all_negative_prompts": [negative] * count,
            "seed": self.seed,
            "all_seeds": [self._seed_of(i) for i in range(count)],
            "subseed": self.subseed,
            "all_subseeds": [self.subseed + i for i in range(count)],
            "subseed_strength": f["subseed_strength"],
            "width": f["width"],
            "height": f["height"],
            "sampler_name": self.sampler,
            "cfg_scale": f["cfg_scale"],
            "steps": f["steps"],
            "batch_size": f["batch_size"],
            "restore_faces": bool(f["restore_faces"]),
            "face_restoration_model": None,
            "sd_model_name": self.checkpoint.name,
            "sd_model_hash": self.checkpoint.hash,
            "sd_vae_name": None,
            "sd_vae_hash": None,
            "seed_resize_from_w": f["seed_resize_from_w"],
            "seed_resize_from_h": f["seed_resize_from_h"],
            "denoising_strength": f["denoising_strength"],
            "extra_generation_params": self._extra_parameters(),
            "index_of_first_image": first,
            "infotexts": infotexts,
            "styles": f["styles"] or [],
            "job_timestamp": timestamp(),
            "clip_skip": 1,
            "is_using_inpainting_conditioning": False,
            "version": forge.VERSION,
        }

    def _picture(self, index: int) -> Image.Image:
        f = self.fields
        width, height = _grained(f["width"]), _grained(f["height"])
        seed = self._seed_of(index)
        words = "|".join(
            str(w)
            for w in (f["prompt"], f["negative_prompt"], self.sampler, self.schedule, f["steps"],
                      f["cfg_scale"], self.checkpoint.name, f["subseed_strength"],
                      index if self._varied() else "")
        )  # fmt: skip
        label = f"{self.stage} · seed {seed} · {self._steps_label()} · {self.sampler}"
        labels = [f["prompt"], label] if self.stage == "txt2img" else []
        image = pictures.landscape(width, height, seed, words, labels)
        if self.stage == "img2img":
            strength = f["denoising_strength"]
            given = pictures.fitted(self.inputs[0], width, height, f["resize_mode"] or 0)
            image = Image.blend(given, image, max(0.0, min(0.15 * strength, 0.15)))
            return pictures.framed(image, "img2img", f"{label} · strength {strength:g}")
        if self.hires:
            image = image.resize(self._hires_size(), Image.Resampling.BILINEAR)
            image = pictures.framed(image, "hires", f"hires · {f['hr_upscaler'] or 'Latent'}")
        return image

    def _steps_label(self) -> str:
        if self.steps_done < self.passes[-1]:
            return f"interrupted after {self.steps_done} of {self.passes[-1]} steps"
        return f"{self.fields['steps']} steps"

    def _hires_size(self) -> tuple[int, int]:
        f = self.fields
        if f["hr_resize_x"] and f["hr_resize_y"]:
            return _grained(f["hr_resize_x"]), _grained(f["hr_resize_y"])
        return _grained(f["width"] * f["hr_scale"]), _grained(f["height"] * f["hr_scale"])


def spoiled(image: Image.Image, damage: Damage) -> Image.Image:
    """The picture as it should be, or as a fault makes it."""
    if damage.has("wrong-size"):
        image = image.resize((max(image.width // 2, 1), max(image.height // 2, 1)))
    if damage.has("black-image"):
        image = Image.new("RGB", image.size)
    return image


def timestamp() -> str:
    """Local time as WebUIs write it into `job_timestamp`."""
    return datetime.now().strftime("%Y%m%d%H%M%S")


def _seed(given: int | None) -> int:
    return random.randrange(2**32) if given in (None, -1) else int(given or 0)


def _grained(size: float) -> int:
    """Latents have an eighth of the picture's size, so a remainder is lost."""
    return max(int(size) // 8 * 8, 8)
