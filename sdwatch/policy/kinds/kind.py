"""What a kind of WebUI is: one row of facts. Pure.

Each kind has a file here with its row, and table.py lists them. All other code asks a row what is
so and never which kind it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any


class Remedy(StrEnum):
    """What can be done about a failure; each value stands in advice texts, in braces."""

    LESS_MEMORY = "less_memory"
    FULL_PRECISION = "full_precision"
    VAE_PRECISION = "vae_precision"
    ANOTHER_VAE = "another_vae"
    ATTENTION = "attention"
    CPU = "cpu"
    ADD_ONS = "add_ons"
    PASSWORD = "password"
    API = "api"
    FLAGS = "flags"


_IN_BRACES = re.compile(r"(?P<starts>(?:^|[.!?] ))?\{(?P<name>" + "|".join(Remedy) + r")\}")


class Dialect(Enum):
    """How a WebUI is asked for pictures."""

    SDAPI = "one request of /sdapi/v1, whose reply has the pictures"
    PROMPTS = "a workflow that is queued by /prompt, and looked for in /history"


@dataclass(frozen=True)
class Completion:
    """A field that calls of one stage need and jobs leave out. `needed`: returns whether a call
    with these fields needs it."""

    stage: str
    name: str
    value: Any
    needed: Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class TiledVae:
    """How a call asks for a VAE that works in tiles: by an always-on script (its name in lower
    case) with these arguments, or by a setting that is true."""

    script: str = ""
    args: tuple[bool, ...] = ()
    setting: str = ""


def has_hires(fields: Mapping[str, Any]) -> bool:
    """Return whether a call has a second pass."""
    return bool(fields.get("enable_hr"))


@dataclass(frozen=True)
class Trial:
    """A call that shows whether a stage works: this kind may list its route and answer 500 to
    whatever is asked for. `fields`: all but the image. `mark`: in the body of such a 500. `why`:
    for people."""

    stage: str
    fields: Mapping[str, Any]
    mark: str
    why: str


@dataclass(frozen=True)
class Signs:
    """How a kind is recognised: by the routes below /sdapi/v1/ in its /openapi.json.

    `has`: all of these; `has_some_of`: at least one of these; `lacks`: none of these. `bare_404`:
    it has no /openapi.json, and answers an unknown path with a 404 without a body. `version_in`:
    the field of /system_stats that has its version. `files`: all of these are in its folder, beside
    the script that starts it.
    """

    has: tuple[str, ...] = ()
    has_some_of: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    bare_404: bool = False
    version_in: str = ""
    files: tuple[str, ...] = ()

    def fit(self, routes: Collection[str]) -> bool:
        """Return whether a WebUI with these routes is of this kind."""
        return (
            bool(self.has)
            and all(route in routes for route in self.has)
            and not any(route in routes for route in self.lacks)
            and (not self.has_some_of or any(route in routes for route in self.has_some_of))
        )


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of WebUI. The defaults are what is assumed of one whose kind is not known.

    Who it is: `name` in files and on the command line; `title` for people; `is_known`; `signs`, by
    which it is recognised; `dialect`: how it is asked.

    How jobs are checked and completed: `exact_names`: it takes a name only as its list has it.
    `unlisted_samplers`: it takes these, too. `joins_sampler_and_scheduler`: it takes both in one
    name, as `DPM++ 2M Karras`. `hires_lists`: its lists of hires upscalers. `useless_lists`: lists
    that must not be asked for, each with why. `has_scripts`, `has_settings`: it does not ignore
    those of a job. `refuses_unknown_settings`: with a 500. `ignores_sd_vae`: that setting has no
    effect. `needs_upscaler`: an upscale that names none comes back unchanged. `fails_at_8x8`: it
    answers 500 to that size. `completions`: fields that it needs and jobs leave out.
    `stages_without_schema`: the stages of one that has no /openapi.json.

    How its GPU is freed: `unloads`: it can take the checkpoint from the GPU and live on;
    `must_load_again`: it generates only after POST reload-checkpoint then, others load it with the
    next call.

    `tiled_vae`: how a call asks it to need less memory for its VAE, None if it cannot.

    What it can be asked: `says_version`, by a route of its own; `says_if_loaded`: whether its
    checkpoint is loaded; `has_rate_limit`: its options may name one; `worker_ends`: a part of the
    line that it prints when the thread that generates has ended, though HTTP answers; `trials`:
    calls that show which of its stages work.

    How it is started: `always_has_api`: without a flag. `remedies`: what advice says, in its own
    flags and settings. `examples`: folders in config/examples whose jobs run on it; where two have
    a file of one name, the later one counts. Without any, `sdwatch init` does not offer it.
    `script`: the file that its Python runs; `package`: the folder that it is in where it comes with
    its own Python, '' for none; `makes_venv`: what to do where its venv is missing, for people.
    `checkpoints`: the folder below its own that has them, where a job must name one.
    `more_examples`: folders with jobs that need extensions or models which a fresh one lacks.
    """

    name: str
    title: str
    remedies: Mapping[Remedy, str]
    signs: Signs = Signs()
    is_known: bool = True
    dialect: Dialect = Dialect.SDAPI
    exact_names: bool = False
    unlisted_samplers: tuple[str, ...] = ()
    joins_sampler_and_scheduler: bool = True
    hires_lists: tuple[str, ...] = ("upscalers", "latent-upscale-modes")
    useless_lists: tuple[tuple[str, str], ...] = ()
    has_scripts: bool = True
    has_settings: bool = True
    refuses_unknown_settings: bool = False
    ignores_sd_vae: bool = False
    needs_upscaler: bool = False
    fails_at_8x8: bool = False
    completions: tuple[Completion, ...] = ()
    stages_without_schema: tuple[str, ...] = ()
    tiled_vae: TiledVae | None = None
    unloads: bool = False
    must_load_again: bool = False
    says_version: bool = False
    says_if_loaded: bool = False
    has_rate_limit: bool = False
    worker_ends: str = ""
    trials: tuple[Trial, ...] = ()
    always_has_api: bool = False
    examples: tuple[str, ...] = ()
    script: str = "launch.py"
    makes_venv: str = "start webui.sh (Windows: webui.bat) once by hand: it makes the venv"
    package: str = ""
    checkpoints: str = ""
    more_examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__

    def with_version(self, version: str) -> str:
        """Return kind and version for people; the kind once if the version starts with it."""
        return version if version.startswith(self.title) else f"{self.title} {version}".strip()

    def fitted(self, advice: str) -> str:
        """Return the advice with each remedy that it names in braces, as in `try a smaller size, or
        {less_memory}`, as this kind has it; other braces stay."""

        def words(found: re.Match[str]) -> str:
            text, before = self.remedies[Remedy(found["name"])], found["starts"]
            return text if before is None else f"{before}{text[:1].upper()}{text[1:]}"

        return _IN_BRACES.sub(words, advice)
