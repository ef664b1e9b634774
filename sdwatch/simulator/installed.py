"""What a WebUI has beside what a fresh one has: extensions' scripts, checkpoints, and modules (text
encoders and VAEs; Forge). None of them does anything but be there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdwatch.simulator.checkpoints import Checkpoint


class InstalledError(Exception):
    """The file of what is installed is wrong."""


@dataclass(frozen=True)
class Installed:
    """`checkpoints`; `modules`: names of files; `scripts`: always-on ones, by their names in lower
    case, as the routes list them."""

    checkpoints: tuple[Checkpoint, ...] = ()
    modules: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()


def load(file: Path) -> Installed:
    """Read what is installed. Raises InstalledError."""
    import yaml  # only a start with such a file waits for it

    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as e:
        raise InstalledError(f"{file}: {e}") from None
    names = {"checkpoints", "modules", "scripts"}
    if not isinstance(given, dict) or not given.keys() <= names:
        raise InstalledError(f"{file}: a mapping of {', '.join(sorted(names))} to lists of names")
    lists = {name: tuple(map(str, items)) for name, items in given.items()}
    return Installed(
        tuple(map(Checkpoint, lists.get("checkpoints", ()))),
        lists.get("modules", ()),
        lists.get("scripts", ()),
    )


def add(more: Installed, lists: dict[str, Any]) -> None:
    """Add it to what the routes list, as Forge dfdcbab6 lists its own."""
    for name in more.scripts:
        for stage in ("txt2img", "img2img"):
            lists["scripts"][stage].append(name)
            info = {"name": name, "is_alwayson": True, "is_img2img": stage == "img2img"}
            lists["script-info"].append({**info, "args": []})
    if more.modules:
        lists["sd-modules"] = [
            {"model_name": name, "filename": f"<webui>/models/VAE/{name}"} for name in more.modules
        ]
