"""What a job needs of the lane that does it: tags, and checkpoints beside those that its calls
name. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, Field

from sdwatch.errors import Problem
from sdwatch.policy.job.text.document import Node, Scalar, scalars_in
from sdwatch.policy.job.text.typed_values import ONE_OR_MORE, Reading, Written
from sdwatch.policy.naming import nearest, quoted

_TAG = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")


def _tag(text: str) -> str:
    if not _TAG.fullmatch(text):
        raise ValueError("a tag has only a-z, 0-9, -, _ and ., and at most 40 of them")
    return text


Tag: TypeAlias = Annotated[
    str, AfterValidator(_tag), Field(json_schema_extra={"pattern": f"^{_TAG.pattern}$"})
]
"""A word that a config gives to lanes, and a job asks for."""

Tags: TypeAlias = Annotated[tuple[Tag, ...], ONE_OR_MORE]


class NeededFields(Written):
    """What the lane of a job must have."""

    tags: Annotated[list[Tag], Field(min_length=1), ONE_OR_MORE] | None = Field(
        None, description="Tags that the lane has by its config (`tags:`), all of them."
    )
    checkpoints: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=300)]],
            Field(min_length=1),
            ONE_OR_MORE,
        ]
        | None
    ) = Field(
        None,
        description="Checkpoints that the WebUI must have, all of them, beside those that the "
        "calls of the job name.",
    )


_NEEDS = Reading(lambda value: value, allowed="a mapping with `tags`, `checkpoints` or both")


class NeedsFields(Written):
    """Fields of the job itself, about where it runs."""

    needs: Annotated[NeededFields | None, _NEEDS] = Field(
        None,
        description="Which lanes may do the job, on this machine or another one: only those that "
        "have all of these.",
    )


@dataclass(frozen=True)
class Needs:
    """`tags` and `checkpoints` that a lane must have; `places`: line and column of each text, where
    it was written."""

    tags: tuple[str, ...] = ()
    checkpoints: tuple[str, ...] = ()
    places: Mapping[str, tuple[int, int]] = dataclass_field(
        default_factory=dict, compare=False, repr=False
    )

    def place_of(self, text: str) -> tuple[int, int]:
        """Return line and column of one of them."""
        return self.places.get(text, (1, 1))


ANYWHERE = Needs()


def needs_of(given: Mapping[str, Any], keys: Mapping[str, tuple[Scalar, Node]]) -> Needs:
    """Return what a job needs. `given`: its fields, as NeedsFields has checked them; `keys`: as
    they were written."""
    if not (needed := given.get("needs")):
        return ANYWHERE
    places = {text.text: (text.line, text.column) for text in scalars_in(keys["needs"][1])}
    tags, names = needed.get("tags") or (), needed.get("checkpoints") or ()
    return Needs(tuple(dict.fromkeys(tags)), tuple(dict.fromkeys(names)), places)


def lacking(needs: Needs, tags: Collection[str]) -> list[Problem]:
    """Return which tags of a job a lane with `tags` does not have."""
    problems = []
    for tag in needs.tags:
        if tag not in tags:
            none = "; the config gives this WebUI no `tags`"
            instead = nearest(tag, sorted(tags)) if tags else none
            problems.append(Problem(*needs.place_of(tag), f"no tag {quoted(tag)}{instead}"))
    return problems
