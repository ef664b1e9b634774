"""What a job says about its result: which pictures are part of it, and how they are named where
people look for them. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from sdwatch.policy.job.text.typed_values import Reading, Written
from sdwatch.policy.naming import nearest


class Keep(StrEnum):
    """Which pictures are part of the result."""

    ALL = "all"
    LAST = "last"


class Format(StrEnum):
    """The format of an output."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"


_OFF = ("off", "no", "false")


def _as_mapping(value: object) -> object:
    """Return a text as the mapping for which it stands."""
    if isinstance(value, str):
        return {"name": "" if value.lower() in _OFF else value}
    return value


_LIKE_A_NAME = Field(json_schema_extra={"pattern": r"^(?!.*(^|/)\s*\.{0,2}\s*(/|$))[^\\]*$|^$"})
"""For editors, as far as an expression can: see `wrong_in_pattern`."""


class OutputFields(Written):
    """How the pictures of a job are named in the folder of all outputs."""

    name: Annotated[str, Field(max_length=300), _LIKE_A_NAME] | None = Field(
        None,
        description="Such as {date}/{name}-{point}-{seed}; default: that of the config.",
    )
    format: Literal["png", "jpeg", "webp"] | None = Field(
        None, description="Default: that of the config, or as the WebUI sent it."
    )


_OUTPUTS = Reading(_as_mapping, allowed="off, a name, or a mapping")


class ResultFields(Written):
    """Fields of a job about its result."""

    keep: Literal["all", "last"] | None = Field(
        None,
        description="The pictures in the result: of `all` stages (default), or with `last` of "
        "those only that no other stage works on; the others are removed when the run ends. A "
        "point that failed keeps what it has.",
    )
    outputs: Annotated[OutputFields | None, _OUTPUTS] = Field(
        None,
        description="The name of each picture in the config's `outputs.folder`, such as "
        "{date}/{name}-{point}-{seed}; or `name` and `format`.",
    )


@dataclass(frozen=True)
class OutputWish:
    """What a job says about its outputs. `name`: a pattern, '' for no outputs, None for that of the
    config; `format`: None for that of the config."""

    name: str | None = None
    format: Format | None = None

    def or_else(self, name: str, format: Format | None) -> OutputWish:
        """Return the same with the config's `name` and `format` where the job says nothing."""
        return OutputWish(name if self.name is None else self.name, self.format or format)


PLACEHOLDERS = (
    "date", "time", "name", "run", "point", "stage", "number", "seed", "width", "height",
)  # fmt: skip
"""What a pattern may have in braces; the names of a job's values, too."""

USE = re.compile(r"\$?\{([^{}]*)\}")


def wrong_in_pattern(pattern: str, names: Collection[str]) -> str:
    """Return what is wrong with the pattern of a name, or ''. `names`: of the job's values."""
    if any(part.strip() in ("", ".", "..") for part in pattern.split("/")):
        return "a name of outputs is relative to their folder: no empty part, no . and no .."
    if "\\" in pattern:
        return 'write "/" between folder and name'
    if pattern.count("/") > _DEEPEST:
        return f"at most {_DEEPEST} folders may be in a name of outputs"
    known = [*PLACEHOLDERS, *names]
    for use in USE.finditer(pattern):
        if use[1] not in known:
            name = use[1][:24]
            name = name if name.isprintable() else ascii(name)[1:-1]
            return f"{{{name}}} is unknown in a name of outputs{nearest(use[1], known)}"
    return ""


_DEEPEST = 4
