"""stable-diffusion.cpp's sd-server 97d29908, measured in November 2026: what differs from Forge.

Only what makes a picture is there: no progress, no interrupt, no upscale, no openapi.json. What an
exception in its sampling answers was not measured; here it is the 500 of its other exceptions.
"""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, Any

from sdwatch.simulator import checkpoints, console
from sdwatch.simulator.checkpoints import Checkpoint
from sdwatch.simulator.checks import Checks
from sdwatch.simulator.damage import Damage
from sdwatch.simulator.failures import CrashedError, RefusedError
from sdwatch.simulator.generation import Machine
from sdwatch.simulator.infotext import infotext
from sdwatch.simulator.job import Job
from sdwatch.simulator.kind import Kind
from sdwatch.simulator.process import Process
from sdwatch.simulator.site import Response, Routes, Site, constant
from sdwatch.simulator.traits import Schema, Traits, load
from sdwatch.simulator.voice import SIMULATED, Voice

if TYPE_CHECKING:
    from PIL import Image

LISTS = load("sdcpp_lists.json")
_GRAIN = 64
_READ: dict[str, Any] = {
    "prompt": "", "negative_prompt": "", "width": 512, "height": 512, "steps": 20,
    "cfg_scale": 7.0, "seed": -1, "batch_size": 1, "sampler_name": "default",
    "scheduler": "default", "denoising_strength": 0.75, "init_images": [],
}  # fmt: skip
"""What it reads of a request, with the defaults."""
_FIXED: dict[str, Any] = {
    "n_iter": 1, "subseed": -1, "subseed_strength": 0, "resize_mode": 0, "send_images": True,
    "save_images": False, "do_not_save_grid": True, "override_settings": None,
}  # fmt: skip
_TYPES = {str: "string", bool: "boolean", int: "number", float: "number", list: "array",
          dict: "object", type(None): "null"}  # fmt: skip
_SAMPLERS = {"dpm++ 2s a": "dpm++2s_a", "dpm++ 2m": "dpm++2m", "dpm++ 2m sde": "dpm++2m_sde"}


class Nlohmann:
    """Fields are read one by one: a wrong type is an exception, an unknown field is nothing."""

    def parse(self, raw: bytes) -> Any:
        if not raw:
            raise RefusedError(400, "empty body")
        try:
            return json.loads(raw)
        except ValueError as e:
            message = f"[json.exception.parse_error.101] parse error: {e}"
            raise CrashedError("server_error", message) from e

    def check(self, body: Any, schema: Schema) -> dict[str, Any]:
        body = self.check_object(body)
        for name, default in schema.items():
            given, wanted = _TYPES[type(body.get(name, default))], _TYPES[type(default)]
            if given != wanted:
                message = f"[json.exception.type_error.302] type must be {wanted}, but is {given}"
                raise CrashedError("server_error", message)
        fields = {**schema, **{k: v for k, v in body.items() if k in schema}, **_FIXED}
        return {**fields, "asked": body}

    def check_object(self, body: Any) -> dict[str, Any]:
        if not isinstance(body, dict):
            message = f"[json.exception.type_error.306] cannot use value() with {type(body)}"
            raise CrashedError("server_error", message)
        return body


class CppVoice(Voice):
    version = "stable-diffusion.cpp"

    def boot(self, _port: int) -> None:
        console.out(f"[INFO ] {SIMULATED}")
        console.out(f"[INFO ] loading model from '{checkpoints.CHECKPOINTS[0].file}'")

    def booted(self, seconds: float) -> None:
        """Print nothing."""

    def starting(self) -> None:
        """Print nothing."""

    def listening(self, host: str, port: int) -> None:
        console.out(f"[INFO ] listening on: {host}:{port}")

    def bind_failed(self, host: str, port: int, _error: OSError) -> None:
        console.err(f"[ERROR] cannot listen on {host}:{port}")

    def access(
        self, client: tuple[str, int], method: str, path: str, status: int, _seconds: float
    ) -> None:
        """Print nothing: it keeps no access log."""

    prints_before_reply = True

    def crash(self, _method: str, url: str, error: CrashedError) -> str:
        return f"[ERROR] {url}: {error.last_line()}\n"

    def loading(self, checkpoint: Checkpoint, _before: Checkpoint | None) -> None:
        console.out(f"[INFO ] reading tensors of {checkpoint.file}")

    def loaded(self, seconds: float, _before: Checkpoint | None) -> None:
        console.out(f"[INFO ] loading tensors completed, taking {seconds:.2f}s")

    def extension_raised(self, hook: str, *, stars: bool = True) -> None:
        """Print nothing: it has no extensions."""

    def extension_not_loaded(self) -> None:
        """Print nothing: it has no extensions."""


class CppChecks(Checks):
    def before_queue(self, _stage: str, f: dict[str, Any]) -> None:
        if not f["prompt"]:
            raise RefusedError(400, "prompt required")
        if f["width"] <= 0 or f["height"] <= 0:
            raise RefusedError(400, "width and height must be positive")

    def sampler_and_schedule(self, f: dict[str, Any]) -> tuple[str, str]:
        """Return the sampler; an unknown name gives the model's own."""
        asked = f["sampler_name"].lower()
        name = _SAMPLERS.get(asked, asked.replace(" ", "_"))
        known = name in self.lists["samplers"] and name != "default"
        return (name if known else "euler_a"), f["scheduler"]

    def init_images(self, f: dict[str, Any]) -> list[Image.Image]:
        """None of what cannot be decoded, which is then no mistake."""
        from sdwatch.simulator import pictures

        try:
            return [pictures.decode(i) for i in f["init_images"]]
        except (RefusedError, CrashedError):
            return []


class CppJob(Job):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.fields = {**self.fields, "batch_size": max(int(self.fields["batch_size"]), 1)}
        self.passes = [max(int(self.fields["steps"]), 0)]

    def body(self, damage: Damage) -> dict[str, Any]:
        """Return the reply with its keys in alphabetical order, in the info as well."""
        return dict(sorted(super().body(damage).items()))

    def size(self) -> tuple[int, int]:
        """Return the size, rounded up."""
        f = self.fields
        return -(-int(f["width"]) // _GRAIN) * _GRAIN, -(-int(f["height"]) // _GRAIN) * _GRAIN

    def echo(self) -> dict[str, Any]:
        """Return what was asked, and nothing else."""
        return dict(sorted(self.fields["asked"].items()))

    def infotext(self, index: int) -> str:
        f = self.fields
        generator = {"name": self.traits.version, "commit": "97d29908"}
        text = infotext(
            f["prompt"],
            f["negative_prompt"],
            {
                "Steps": f["steps"],
                "CFG scale": f"{f['cfg_scale']:f}",
                "Guidance": "3.500000",
                "Eta": "inf",
                "Seed": self.seed_of(index),
                "Size": f"{f['width']}x{f['height']}",
                "Model": self.checkpoint.file,
                "RNG": "cuda",
                "Sampler": self.sampler,
                "Version": self.traits.version,
            },
        )
        return f"{text}, SDCPP: {json.dumps({'generator': generator, 'seed': self.seed})}"

    def info(self, infotexts: list[str], _first: int) -> dict[str, Any]:
        f = self.fields
        info = {
            "prompt": f["prompt"],
            "all_prompts": [f["prompt"]] * len(infotexts),
            "all_negative_prompts": [f["negative_prompt"]] * len(infotexts),
            "seed": self.seed,
            "all_seeds": [self.seed_of(i) for i in range(len(infotexts))],
            "width": f["width"],
            "height": f["height"],
            "sampler_name": self.sampler,
            "cfg_scale": f["cfg_scale"],
            "steps": f["steps"],
            "sd_model_name": self.checkpoint.file,
            "infotexts": infotexts,
            "version": self.traits.version,
        }
        if self.stage == "img2img":
            info["denoising_strength"] = f["denoising_strength"]
        return dict(sorted(info.items()))


class CppMachine(Machine):
    """One checkpoint, named at the start; its weights are read when the first job needs them."""

    checkpoints = checkpoints.CHECKPOINTS[:1]
    job_class = CppJob

    def item(self, checkpoint: Checkpoint) -> dict[str, Any]:
        eights = "8" * 64
        return {
            "config": None,
            "filename": checkpoint.file,
            "hash": eights[:10],
            "model_name": checkpoint.name,
            "sha256": eights,
            "title": checkpoint.name,
        }

    def generate(self, stage: str, fields: dict[str, Any], damage: Damage) -> dict[str, Any]:
        if self.poisoned:
            raise CrashedError("runtime_error", "simulated: nothing works until the restart")
        inputs = self.checks.init_images(fields) if stage == "img2img" else []
        checkpoint = self.load(None, damage)
        job = self.job_class(self.traits, stage, fields, self.options, checkpoint, inputs)
        self.sample(job, damage)
        return job.body(damage)


class CppSite(Site):
    stages = ("txt2img", "img2img")

    def get_routes(self) -> Routes:
        return {
            "options": lambda _: self.machine.options,
            "sd-models": lambda _: self.machine.models(),
            "samplers": constant(
                [{"aliases": [n], "name": n, "options": {}} for n in LISTS["samplers"]]
            ),
            "schedulers": constant([{"label": n, "name": n} for n in LISTS["schedulers"]]),
            **{n: constant(LISTS[n]) for n in ("upscalers", "latent-upscale-modes", "loras")},
        }

    def post_routes(self) -> Routes:
        return {}

    def standing_headers(self, _date: str) -> dict[str, str]:
        return {
            "Keep-Alive": "timeout=5, max=100",
            "Access-Control-Allow-Methods": "*",
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Allow-Headers": "*",
            "Access-Control-Allow-Origin": "*",
        }

    def refused(self, e: RefusedError) -> Any:
        return {"error": e.detail}

    def crashed(self, e: CrashedError) -> Any:
        return {"error": "server_error", "message": e.message}

    def missing(self) -> Response:
        """Return an empty body."""
        return Response(404, headers={"Connection": "close"})

    def not_allowed(self, _methods: list[str]) -> Response:
        return self.missing()


class CppProcess(Process):
    """Nothing is caught; a second server takes the same port as well, and gets half of it."""

    shares_port = True

    def handle_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)

    def bind_failed(self) -> None:
        """Where the owner does not share it; that this is an exit was not measured."""
        sys.exit(1)


SDCPP = Kind(
    Traits(
        name="sdcpp",
        lists=LISTS,
        openapi=None,
        schemas={"txt2img": _READ, "img2img": _READ},
        job_names={"txt2img": "txt2img", "img2img": "img2img"},
        validation=Nlohmann(),
        checks=CppChecks(LISTS),
        voice=CppVoice(),
    ),
    CppMachine,
    CppSite,
    CppProcess,
    lacks=("auth", "no_model", "no_api", "has"),
)
