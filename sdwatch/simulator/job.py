"""One txt2img or img2img job: what is asked, how far it came, what is answered."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from sdwatch.simulator import infotext
from sdwatch.simulator.checkpoints import Checkpoint
from sdwatch.simulator.damage import Damage
from sdwatch.simulator.state import timestamp
from sdwatch.simulator.traits import Traits

if TYPE_CHECKING:
    from PIL import Image


class Job:
    """The request with its defaults, and the rounds and steps that were run; Forge's and A1111's.

    `settings` are the options with the request's overrides. `blackened` is what NaNs do where
    they are not an error (Forge, SD.Next).
    """

    def __init__(
        self,
        traits: Traits,
        stage: str,
        fields: dict[str, Any],
        settings: dict[str, Any],
        checkpoint: Checkpoint,
        inputs: list[Image.Image],
    ) -> None:
        self.traits = traits
        self.stage = stage
        self.fields = fields
        self.settings = settings
        self.checkpoint = checkpoint
        self.inputs = inputs
        self.blackened = False
        self.rounds: int = fields["n_iter"]
        self.rounds_done = 0
        self.steps_done = 0
        self.seed = _seed(fields["seed"])
        self.subseed = _seed(fields["subseed"])
        self.sampler, self.schedule = traits.checks.sampler_and_schedule(fields)
        self.hires = bool(fields.get("enable_hr"))
        steps = fields["steps"]
        second = [fields["hr_second_pass_steps"] or steps] if self.hires else []
        self.passes: list[int] = [steps, *second]

    def body(self, damage: Damage) -> dict[str, Any]:
        """Return the reply, with the pictures of the rounds that were run."""
        from sdwatch.simulator import pictures

        kept = self.kept()
        images = [(spoiled(self._picture(i), damage), self.infotext(i)) for i in kept]
        with_grid = (
            len(kept) > 1 and self.fields["save_images"] and not self.fields["do_not_save_grid"]
        )
        if with_grid:
            images.insert(0, (pictures.grid([image for image, _ in images]), self.infotext(0)))
        texts = self.infotexts([text for _, text in images])
        encoded = [pictures.encode(i, self.samples_format(), text) for i, text in images]
        return {
            "images": encoded if self.fields["send_images"] else [],
            "parameters": self.echo(),
            "info": json.dumps(self.info(texts, int(with_grid))),
        }

    def kept(self) -> list[int]:
        """Return the numbers of the pictures that are answered."""
        return list(range(self.rounds_done * self.fields["batch_size"]))

    def infotexts(self, of_the_pictures: list[str]) -> list[str]:
        """Return the infotexts of the info; `of_the_pictures`: those in the pictures."""
        return of_the_pictures

    def samples_format(self) -> str:
        return str(self.settings["samples_format"])

    def echo(self) -> dict[str, Any]:
        """Return the request, as the reply repeats it."""
        echo = dict(self.fields)
        if self.stage == "img2img" and not self.fields["include_init_images"]:
            echo["init_images"] = echo["mask"] = None
        return echo

    def varied(self) -> bool:
        return bool(self.fields["subseed_strength"])

    def seed_of(self, index: int) -> int:
        return self.seed + (0 if self.varied() else index)

    def extra_parameters(self) -> dict[str, Any]:
        f, extra = self.fields, dict[str, Any]()
        if self.stage == "img2img" or self.hires:
            extra["Denoising strength"] = f["denoising_strength"]
        if self.hires:
            if "Use same choices" in (f.get("hr_additional_modules") or ()):
                extra["Hires Module 1"] = "Use same choices"
            extra["Hires upscale"] = f["hr_scale"]
            if f["hr_second_pass_steps"]:
                extra["Hires steps"] = f["hr_second_pass_steps"]
            extra["Hires upscaler"] = f["hr_upscaler"] or "Latent"
        return extra

    def infotext(self, index: int) -> str:
        """Return what the picture with this number carries."""
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
            "Seed": self.seed_of(index),
            "Size": f"{f['width']}x{f['height']}",
            "Model hash": self.checkpoint.hash,
            "Model": self.checkpoint.name,
            **(varied if self.varied() else {}),
            **self.extra_parameters(),
            "Version": self.traits.version,
        }
        return infotext.infotext(f["prompt"], f["negative_prompt"] or "", parameters)

    def common_info(self) -> dict[str, Any]:
        """Return the part of the info in which the kinds that have one agree."""
        f, count = self.fields, self.rounds * self.fields["batch_size"]
        negative = f["negative_prompt"] or ""
        return {
            "prompt": f["prompt"],
            "all_prompts": [f["prompt"]] * count,
            "negative_prompt": negative,
            "all_negative_prompts": [negative] * count,
            "seed": self.seed,
            "all_seeds": [self.seed_of(i) for i in range(count)],
            "subseed": self.subseed,
            "all_subseeds": [self.subseed + i for i in range(count)],
            "subseed_strength": f["subseed_strength"],
            "width": f["width"],
            "height": f["height"],
            "sampler_name": self.sampler,
            "cfg_scale": f["cfg_scale"],
        }

    def info(self, infotexts: list[str], first: int) -> dict[str, Any]:
        """Return what stands under "info"; `first` is the index of the first image that is not a
        grid."""
        f = self.fields
        return {
            **self.common_info(),
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
            "extra_generation_params": self.extra_parameters(),
            "index_of_first_image": first,
            "infotexts": infotexts,
            "styles": f["styles"] or [],
            "job_timestamp": timestamp(),
            "clip_skip": int(self.settings["CLIP_stop_at_last_layers"]),
            "is_using_inpainting_conditioning": False,
            "version": self.traits.version,
        }

    def size(self) -> tuple[int, int]:
        """Return the picture's size before the hires pass, in pixels."""
        return grained(self.fields["width"]), grained(self.fields["height"])

    @property
    def tiled(self) -> bool:
        """Return whether its VAE works in tiles: by a script, or by SD.Next's setting."""
        scripts = {k.lower(): v for k, v in (self.fields.get("alwayson_scripts") or {}).items()}
        args = [
            *(scripts.get("never oom integrated", {}).get("args", [])[1:2]),
            *(scripts.get("tiled vae", {}).get("args", [])[:1]),
        ]
        return any(args) or bool(self.settings.get("diffusers_vae_tiling"))

    def pixels(self) -> int:
        """Of all pictures that it makes at once, after hires."""
        width, height = self._hires_size() if self.hires else self.size()
        return width * height * int(self.fields["batch_size"])

    def _picture(self, index: int) -> Image.Image:
        from sdwatch.simulator import pictures

        f = self.fields
        width, height = self.size()
        seed = self.seed_of(index)
        words = "|".join(
            str(w)
            for w in (f["prompt"], f["negative_prompt"], self.sampler, self.schedule, f["steps"],
                      f["cfg_scale"], self.checkpoint.name, f["subseed_strength"],
                      index if self.varied() else "")
        )  # fmt: skip
        label = f"{self.stage} · seed {seed} · {self._steps_label()} · {self.sampler}"
        labels = [f["prompt"], label] if self.stage == "txt2img" else []
        image = pictures.landscape(width, height, seed, words, labels)
        if self.inputs:
            strength = f["denoising_strength"]
            given = pictures.fitted(self.inputs[0], width, height, f["resize_mode"] or 0)
            image = pictures.blended(given, image, max(0.0, min(0.15 * strength, 0.15)))
            image = pictures.framed(image, "img2img", f"{label} · strength {strength:g}")
        elif self.hires:
            image = pictures.fitted(image, *self._hires_size(), 0)
            image = pictures.framed(image, "hires", f"hires · {f['hr_upscaler'] or 'Latent'}")
        return pictures.black(*image.size) if self.blackened else image

    def _steps_label(self) -> str:
        if self.steps_done < self.passes[-1]:
            return f"interrupted after {self.steps_done} of {self.passes[-1]} steps"
        return f"{self.fields['steps']} steps"

    def _hires_size(self) -> tuple[int, int]:
        f = self.fields
        if f["hr_resize_x"] and f["hr_resize_y"]:
            return grained(f["hr_resize_x"]), grained(f["hr_resize_y"])
        return grained(f["width"] * f["hr_scale"]), grained(f["height"] * f["hr_scale"])


def spoiled(image: Image.Image, damage: Damage) -> Image.Image:
    """Return the picture as it should be, or as a fault makes it."""
    if damage.has("wrong-size"):
        image = image.resize((max(image.width // 2, 1), max(image.height // 2, 1)))
    if damage.has("black-image"):
        from sdwatch.simulator import pictures

        image = pictures.black(*image.size)
    return image


def grained(size: float) -> int:
    """Latents have an eighth of the picture's size, so a remainder is lost."""
    return max(int(size) // 8 * 8, 8)


def _seed(given: int | None) -> int:
    return random.randrange(2**32) if given in (None, -1) else int(given or 0)
