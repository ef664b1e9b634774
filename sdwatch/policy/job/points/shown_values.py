"""Which values of a job's points others may see: those that are not part of a prompt. They tell the
points apart in messages, WHY.txt, error.json and the journal. Pure."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from functools import cache
from typing import Any, get_args

from sdwatch.policy.job.points.points import Values
from sdwatch.policy.job.stage.stage_kinds import IMAGE_FIELDS, STAGES
from sdwatch.policy.naming import shown

_NAMING = frozenset(
    [
        *(*IMAGE_FIELDS, "input", "styles", "override_settings", "sampler_name", "sampler_index"),
        *("scheduler", "refiner_checkpoint", "script_name", "hr_upscaler", "hr_checkpoint_name"),
        *("hr_sampler_name", "hr_scheduler", "hr_additional_modules", "upscaler_1", "upscaler_2"),
        *("file", "checkpoint", "images", "outputs", "allow"),  # of a workflow
    ]
)
"""Fields whose texts are names: of files, and of what a WebUI lists."""

_PLAIN = re.compile(r"[-+]?[0-9.]{1,30}(?:e[-+]?[0-9]{1,3})?|true|false|yes|no|on|off|", re.I)
_MOST_NAMED = 4  # values of a point, in a message


@cache
def may_hold_text(field: str) -> bool:
    """Return whether a field of a stage may hold a prompt: each one, but for numbers, switches and
    names."""
    if field in _NAMING:
        return False
    found = [
        kind.fields.model_fields[field] for kind in STAGES.values()
        if field in kind.fields.model_fields
    ]  # fmt: skip
    return not found or any(not set(_types(each.annotation)) <= _NUMBERS for each in found)


_NUMBERS = {int, float, bool, type(None)}


def _types(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation is made of, without what narrows them."""
    if hasattr(annotation, "__metadata__"):
        yield from _types(annotation.__origin__)
    elif parts := get_args(annotation):
        for part in parts:
            yield from _types(part)
    else:
        yield annotation


def is_plain(text: str) -> bool:
    """Return whether a value is a number or a switch, wherever it is used."""
    return _PLAIN.fullmatch(text) is not None


def described(values: Values, texts: Container[str] = ()) -> str:
    """Return the values of a point for people; what is part of a prompt, and a long text, which may
    be, only by its length. `texts`: the names of the former."""
    named = [f"{n} = {shown_value(v.text, n in texts)}" for n, v in values.items()]
    more = [f"and {len(named) - _MOST_NAMED} more"] if len(named) > _MOST_NAMED else []
    return ", ".join([*named[:_MOST_NAMED], *more])


def shown_value(text: str, is_text: bool) -> str:
    """Return a value for people. `is_text`: it may be part of a prompt."""
    if is_text and not is_plain(text):
        return f"a text of {len(text):,} characters"
    return shown(text)


def without_texts(values: Values, texts: Container[str]) -> dict[str, str]:
    """Return the values of a point that are not part of a prompt."""
    return {n: v.text for n, v in values.items() if n not in texts or is_plain(v.text)}
