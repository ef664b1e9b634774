"""The folders of a ComfyUI: models/, input/, output/, temp/, and who may name what in them.

Measured with ComfyUI 0.33.0, 783545f6, and read there.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sdwatch.simulator.checkpoints import CHECKPOINTS, UNREADABLE, Checkpoint
from sdwatch.simulator.failures import CrashedError

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
MODELS = ("checkpoints", "loras", "vae", "upscale_models", "embeddings", "controlnet", "clip",
          "clip_vision", "diffusion_models", "text_encoders", "hypernetworks")  # fmt: skip
"""The folders below models/ that /models lists."""
_SIMULATED = {
    "upscale_models": ("simulated-2x.pth", "simulated-4x.pth"),
    "loras": ("simulated-lora.safetensors",),
    "vae": ("simulated-vae.safetensors",),
    "diffusion_models": ("simulated-flux.safetensors",),
    "text_encoders": ("simulated-clip.safetensors", "simulated-t5.safetensors"),
}
_BUILT_IN = {"vae": ("pixel_space",)}
_HEADER = 8  # bytes of a safetensors file before its JSON
_TYPES = ("output", "input", "temp")


class OutsideError(Exception):
    """A name that leads out of its folder."""


@dataclass(frozen=True)
class Place:
    """Where a save node writes: `prefix_00001_.png` in `folder`; `subfolder` as history has it."""

    folder: Path
    subfolder: str
    prefix: str
    counter: int

    def name(self, number: int, ending: str) -> str:
        """Return the name of the file with this number of the batch."""
        prefix = self.prefix.replace("%batch_num%", str(number))
        return f"{prefix}_{self.counter + number:05}_.{ending}"


@dataclass(frozen=True)
class Folders:
    """All below one absolute folder, as with --base-directory. `has_model`: whether the simulated
    models are there at all (asked each time)."""

    base: Path
    has_model: Callable[[], bool]

    @property
    def user(self) -> Path:
        return self.base / "user"

    def prepare(self) -> None:
        """Make them, and empty temp/, as a start does. Raises FileNotFoundError without a
        custom_nodes/, which is read first."""
        list((self.base / "custom_nodes").iterdir())
        shutil.rmtree(self.base / "temp", ignore_errors=True)
        for name in (*_TYPES, "user", *(f"models/{each}" for each in MODELS)):
            (self.base / name).mkdir(parents=True, exist_ok=True)

    def of_type(self, name: str) -> Path | None:
        """Return output/, input/ or temp/."""
        return self.base / name if name in _TYPES else None

    # -- models

    def models(self, kind: str) -> list[str]:
        """Return the names in a folder of models, sorted; files that appear are listed at once."""
        folder = self.base / "models" / kind
        found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        if self.has_model():
            found |= set(_SIMULATED.get(kind, ()))
            if kind == "checkpoints":
                found |= {c.file for c in (*CHECKPOINTS, UNREADABLE)}
        return [*sorted(found), *_BUILT_IN.get(kind, ())]

    def list_named(self, name: str) -> list[str]:
        """Return a list that /object_info has: models, or the pictures at the top of input/."""
        if name != "input":
            return self.models(name)
        return sorted(
            p.name
            for p in (self.base / "input").iterdir()
            if p.is_file() and p.suffix.lower() in PICTURES
        )

    def checkpoint(self, name: str) -> Checkpoint:
        """Return a checkpoint of the list. Raises CrashedError for a file that cannot be read."""
        known = {c.file: c for c in (*CHECKPOINTS, UNREADABLE)}
        path = self.base / "models/checkpoints" / name
        if not path.is_file():
            found = known.get(name, UNREADABLE)
        else:
            found = Checkpoint(path.stem, readable=_is_safetensors(path))
        if not found.readable:
            raise CrashedError(
                "SafetensorError",
                "Error while deserializing header: invalid JSON in header: EOF while parsing a "
                "value at line 1 column 0",
                qualified="safetensors._safetensors_rust.SafetensorError",
            )
        return found

    # -- pictures

    def annotated(self, name: str) -> Path | None:
        """Return the file that LoadImage means, where it is there: below input/, or below the
        folder that `name [output]` says. Nothing outside."""
        root = self.base / "input"
        for kind in _TYPES:
            if name.endswith(f"[{kind}]"):
                root, name = self.base / kind, name[: -len(kind) - 3]
        path = _normal(root / name)
        return path if path.is_relative_to(root) and path.is_file() else None

    def place(self, prefix: str, root: str, size: tuple[int, int]) -> Place:
        """Return where files with this prefix go: the counter is the highest there, plus one.
        Raises CrashedError for a prefix that leads outside."""
        output = self.base / root
        normal = os.path.normpath(_filled_in(prefix, size))
        subfolder, name = os.path.split(normal)
        folder = _normal(output / subfolder)
        if not folder.is_relative_to(output):
            raise CrashedError(
                "Exception",
                "**** ERROR: Saving image outside the output folder is not allowed.\n"
                f" full_output_folder: {folder}\n         output_dir: {output}",
            )
        folder.mkdir(parents=True, exist_ok=True)
        numbers = [_number(file.name, name) for file in folder.iterdir()]
        return Place(folder, subfolder.replace(os.sep, "/"), name, max(numbers, default=0) + 1)

    def uploaded(self, name: str, subfolder: str, kind: str, raw: bytes, *, overwrite: bool) -> str:
        """Keep a picture that was sent: the name that it got. Raises OutsideError."""
        root = self.base / (kind if kind in _TYPES else "input")
        folder = _normal(root / subfolder)
        path = _normal(folder / name)
        if not path.is_relative_to(root):
            raise OutsideError(name)
        folder.mkdir(parents=True, exist_ok=True)
        given, number = Path(name), 0
        while path.exists() and not overwrite:
            if path.read_bytes() == raw:
                return name
            number += 1
            name = f"{given.stem} ({number}){given.suffix}"
            path = folder / name
        path.write_bytes(raw)
        return name

    def viewed(self, query: Mapping[str, str]) -> Path | int:
        """Return the file that /view is asked for, or the status of the refusal."""
        name = query.get("filename", "")
        if not name or name.startswith("/") or ".." in name:
            return 400
        if (root := self.of_type(query.get("type", "output"))) is None:
            return 400
        folder = _normal(root / query.get("subfolder", ""))
        if not folder.is_relative_to(root):
            return 403
        path = folder / Path(name).name
        return path if path.is_file() else 404


def _normal(path: Path) -> Path:
    """Return a path without its `..`, whatever is there."""
    return Path(os.path.normpath(path))


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(_HEADER)
        if len(start) < _HEADER:
            return False
        (length,) = struct.unpack("<Q", start)
        try:
            return isinstance(json.loads(file.read(min(length, 100_000_000))), dict)
        except ValueError:
            return False


def _filled_in(prefix: str, size: tuple[int, int]) -> str:
    now = time.localtime()
    parts = {"width": size[0], "height": size[1], "year": now.tm_year}
    two = {"month": now.tm_mon, "day": now.tm_mday, "hour": now.tm_hour,
           "minute": now.tm_min, "second": now.tm_sec}  # fmt: skip
    for word, value in {**parts, **{k: f"{v:02}" for k, v in two.items()}}.items():
        prefix = prefix.replace(f"%{word}%", str(value))
    return prefix


def _number(file: str, prefix: str) -> int:
    """Return the counter in a file's name; 0 where it has none, or another prefix."""
    start = os.path.normcase(f"{prefix}_")
    if not os.path.normcase(file).startswith(start):
        return 0
    digits = file[len(start) :].split(".")[0].split("_")[0]
    return int(digits) if digits.isdecimal() else 0
