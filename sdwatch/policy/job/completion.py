"""Fields that a job may leave out and that one kind of WebUI needs. Pure.

Only a field that the WebUI's own schema has is added, and only where the job says nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sdwatch.policy.job.catalogue import Catalogue, Kind


@dataclass(frozen=True)
class Completion:
    """One field of one stage. `needed`: whether a call with these fields needs it."""

    stage: str
    name: str
    value: Any
    needed: Callable[[Mapping[str, Any]], bool]


def _has_hires(fields: Mapping[str, Any]) -> bool:
    return bool(fields.get("enable_hr"))


# Without it each hires job by API is a 500: TypeError, argument of type 'NoneType' is not iterable
# (measured with Forge dfdcbab6; Forge Neo has the same line). This is what their own page sends.
_SAME_MODULES = Completion("txt2img", "hr_additional_modules", ["Use same choices"], _has_hires)

# SD.Next enlarges only with a mode above 0, which is not its default: a hires job as AUTOMATIC1111
# takes it came back in its first size (measured with SD.Next 058a7f0c). 1 is "fixed".
_ENLARGED = Completion("txt2img", "hr_resize_mode", 1, _has_hires)

COMPLETIONS: Mapping[Kind, tuple[Completion, ...]] = {
    Kind.FORGE: (_SAME_MODULES,),
    Kind.FORGE_NEO: (_SAME_MODULES,),
    Kind.SDNEXT: (_ENLARGED,),
}
"""One row for each kind that needs any."""


def may_need_more(stage: str, fields: Mapping[str, Any]) -> bool:
    """Return whether some kind of WebUI would need more fields in this call."""
    rows = (each for row in COMPLETIONS.values() for each in row)
    return any(_is_due(each, stage, fields) for each in rows)


def completed(stage: str, fields: Mapping[str, Any], catalogue: Catalogue | None) -> dict[str, Any]:
    """Return the fields to add to a call of `stage` for the WebUI with this catalogue; none where
    it is not known."""
    if catalogue is None:
        return {}
    known = (catalogue.stages or {}).get(stage) or {}
    return {
        each.name: each.value
        for each in COMPLETIONS.get(catalogue.kind, ())
        if each.name in known and _is_due(each, stage, fields)
    }


def _is_due(each: Completion, stage: str, fields: Mapping[str, Any]) -> bool:
    return each.stage == stage and fields.get(each.name) is None and each.needed(fields)
