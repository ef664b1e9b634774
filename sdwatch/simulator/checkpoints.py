"""The model files. None of them exists."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any


@dataclass(frozen=True)
class Checkpoint:
    """A model file. One that is not `readable` fails when it is loaded."""

    name: str
    readable: bool = True

    @property
    def sha256(self) -> str:
        return sha256(self.name.encode()).hexdigest()

    @property
    def hash(self) -> str:
        return self.sha256[:10]

    @property
    def file(self) -> str:
        return f"{self.name}.safetensors"

    @property
    def filename(self) -> str:
        return f"<webui>/models/Stable-diffusion/{self.file}"

    @property
    def title(self) -> str:
        return f"{self.file} [{self.hash}]"

    @property
    def short_title(self) -> str:
        """Return its title in SD.Next, once it has been loaded."""
        return f"{self.name} [{self.hash}]"

    def answers_to(self, name: str) -> bool:
        """Return whether this is a name of it: titles, file name, bare name and hash all are."""
        return name in (self.title, self.short_title, self.file, self.name, self.hash)

    def item(self, hashed: bool = True) -> dict[str, Any]:
        """Return its entry in /sdapi/v1/sd-models, before its hash is known or after."""
        return {
            "title": self.title if hashed else self.file,
            "model_name": self.name,
            "hash": self.hash if hashed else None,
            "sha256": self.sha256 if hashed else None,
            "filename": self.filename,
            "config": None,
        }


CHECKPOINTS = (Checkpoint("simulated-a"), Checkpoint("simulated-b"))
UNREADABLE = Checkpoint("simulated-corrupt", readable=False)


def find(name: Any, among: Iterable[Checkpoint] = CHECKPOINTS) -> Checkpoint | None:
    """Return the checkpoint with this title, file name, name or hash."""
    return next((c for c in among if c.answers_to(str(name))), None)
