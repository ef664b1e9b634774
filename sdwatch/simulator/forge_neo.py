"""Forge Neo 2.22, as its source says (not measured): Forge with other routes, flags and log lines.

Its own log lines are drawn by rich, as wide as the terminal; an exception is a bare 500 in plain
text. A video is answered as the path of its file.
"""

from __future__ import annotations

import io
import os
from typing import Any

from sdwatch.simulator import console
from sdwatch.simulator.checkpoints import Checkpoint
from sdwatch.simulator.checks import Checks
from sdwatch.simulator.damage import Damage
from sdwatch.simulator.failures import CrashedError
from sdwatch.simulator.forge import JOB_NAMES, LISTS, OPENAPI, ForgeVoice
from sdwatch.simulator.generation import Machine
from sdwatch.simulator.kind import Kind
from sdwatch.simulator.site import Routes, Site
from sdwatch.simulator.traits import Traits, schemas_of
from sdwatch.simulator.validation import Pydantic2

_GONE = ("hypernetworks", "reload-checkpoint", "realesrgan-models", "loras")
_GONE_SAMPLERS = ("HeunPP2", "IPNDM", "IPNDM_V", "DEIS")
_WIDTH = 80

NEO_LISTS = {
    **LISTS,
    "samplers": [each for each in LISTS["samplers"] if each["name"] not in _GONE_SAMPLERS],
    "upscalers": [each for each in LISTS["upscalers"] if "R-ESRGAN" not in each["name"]],
}
NEO_OPENAPI = {
    **OPENAPI,
    "paths": {
        path: methods
        for path, methods in OPENAPI["paths"].items()
        if path.rpartition("/")[2] not in _GONE
    },
}


def drawn(message: str, place: str, level: str, width: int) -> str:
    """Return one message of its log, in as many lines as it needs: the message beside `place ::
    level`."""
    from rich.console import Console  # here, because other kinds' starts need not wait for it
    from rich.table import Table

    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(ratio=1, overflow="fold")
    for _ in range(3):
        grid.add_column()
    grid.add_row(message, place, "::", level.ljust(8))
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(grid)
    return file.getvalue().rstrip("\n")


def say(message: str, place: str, level: str = "INFO") -> None:
    columns = os.environ.get("COLUMNS", "")
    console.out(drawn(message, place, level, int(columns) if columns.isdigit() else _WIDTH))


class NeoVoice(ForgeVoice):
    version = "neo"
    commit = "neo"

    def loading(self, checkpoint: Checkpoint, before: Checkpoint | None) -> None:
        del before
        say(f"Loading Model: {checkpoint.filename}", "sd_models.py")


class NeoMachine(Machine):
    """Says itself that the memory did not suffice; whatever the exception, the reply is bare."""

    def generate(self, stage: str, fields: dict[str, Any], damage: Damage) -> dict[str, Any]:
        try:
            body = super().generate(stage, fields, damage)
        except CrashedError as error:
            if error.error == "OutOfMemoryError":
                words = "Encountered Out of Memory during Sampling; Unloading all Models..."
                say(words, "main_thread.py", "ERROR")
                raise CrashedError("RuntimeError", "", text_only=True) from error
            error.text_only = True
            raise
        if damage.has("video"):
            body["images"] = ["output/txt2img-images/2026-11-28/00001-video.mp4"]
        return body


class NeoSite(Site):
    empty = ("sd-modules", "extensions")

    def post_routes(self) -> Routes:
        routes = super().post_routes()
        return {name: route for name, route in routes.items() if name not in _GONE}


FORGE_NEO = Kind(
    Traits(
        name="forge-neo",
        lists=NEO_LISTS,
        openapi=NEO_OPENAPI,
        schemas=schemas_of(NEO_OPENAPI),
        job_names=JOB_NAMES,
        validation=Pydantic2("https://errors.pydantic.dev/2.11/v/"),
        checks=Checks(NEO_LISTS),
        voice=NeoVoice(),
    ),
    NeoMachine,
    NeoSite,
)
