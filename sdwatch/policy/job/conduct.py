"""How a run of a job behaves: when it may start, how long it may take, and what it does after it
ran out of memory. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from sdwatch.policy.job.text.editor_forms import duration_form, text_like
from sdwatch.policy.job.text.typed_values import DURATION, ONE_OR_MORE, Written, reading
from sdwatch.policy.job.when import ANY_TIME, TIME, WINDOW, When, parse_time, parse_window


def _window(text: str) -> str:
    parse_window(text)
    return text


def _time(text: str) -> str:
    parse_time(text)
    return text


_MORE_THAN_0 = WithJsonSchema(duration_form("exclusiveMinimum"))
_FROM_0 = WithJsonSchema(duration_form("minimum"))
_WINDOW = reading(_window, "a window such as 22:00-07:00 or mon-fri 22:00-07:00")
_Window = Annotated[str, _WINDOW, text_like(WINDOW)]
_TIME = reading(_time, "a time such as 2026-12-01 22:00, with a zone as 2026-12-01T22:00:00+01:00")


class OomStep(StrEnum):
    """What a call is changed in after it ran out of memory."""

    BATCH = "batch"
    TILED_VAE = "tiled_vae"
    SIZE = "size"


class ConductFields(Written):
    """Fields of the job itself, about its run."""

    timeout: Annotated[float, Field(gt=0), DURATION, _MORE_THAN_0] | None = Field(
        None,
        description="Seconds, or `2 h`: the longest time that all calls of the run may take "
        "together, failed attempts included. After that the call under way is interrupted and the "
        "run fails; its finished images are kept. Waiting for its turn, its window, a pause or a "
        "WebUI that is down does not count.",
    )
    not_before: Annotated[str, _TIME, text_like(TIME)] | None = Field(
        None,
        description="The first call starts at this time or later; local time where it has no zone.",
    )
    only: Annotated[list[_Window], Field(min_length=1), ONE_OR_MORE] | None = Field(
        None,
        description="Calls start only in these windows of the local day. A call that is under way "
        "when its window ends is finished, its second attempt included; the rest waits in "
        "`working/` for the next window.",
    )
    delay_between_calls: Annotated[float, DURATION, _FROM_0] | None = Field(
        None,
        description="Seconds, or `2 min`: a pause between two calls of the run. Other jobs are "
        "served meanwhile.",
    )
    oom: Annotated[list[Literal["batch", "tiled_vae", "size"]], ONE_OR_MORE] | None = Field(
        None,
        description="After a call ran out of memory for good: make it with smaller batches, with a "
        "tiled VAE, smaller; in this order. Default: it fails.",
    )


@dataclass(frozen=True)
class Conduct:
    """How a run behaves. `timeout`: seconds that its calls may take together, None for no limit;
    `delay`: seconds between two calls; `oom`: changes to try after out of memory, in order."""

    when: When = ANY_TIME
    timeout: float | None = None
    delay: float = 0.0
    oom: tuple[OomStep, ...] = ()


def conduct_of(fields: Mapping[str, Any]) -> Conduct:
    """Return what the fields of a job say, as ConductFields has checked them."""
    return Conduct(
        _when(fields.get("not_before"), tuple(fields.get("only", ()))),
        fields.get("timeout"),
        fields.get("delay_between_calls", 0.0),
        tuple(dict.fromkeys(map(OomStep, fields.get("oom", ())))),
    )


@lru_cache(maxsize=1000)
def _when(not_before: str | None, only: tuple[str, ...]) -> When:
    """Return one value for all jobs that say the same: thousands of them may wait."""
    if not_before is None and not only:
        return ANY_TIME
    time = None if not_before is None else parse_time(not_before)
    return When(time, tuple(map(parse_window, only)))
