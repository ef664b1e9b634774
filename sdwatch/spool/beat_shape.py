"""The shape of a heartbeat: others may write to its folder, and commands show what it says."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sdwatch.policy.job.catalogue import Kind

_HUGE = 10**15
_Number = Annotated[float, Field(ge=-_HUGE, le=_HUGE, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=_HUGE)]
_Pid = Annotated[int, Field(ge=0, lt=2**31)]  # what the system can be asked about
_Kind = Annotated[str, AfterValidator(Kind)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Progress(_Strict):
    step: _Count = 0
    steps: _Count = 0
    percent: _Number = 0
    eta: _Number = 0


class _Lane(_Strict):
    name: str
    url: str
    managed: bool
    kind: _Kind
    version: str
    state: str
    hold: str
    crashes_in_a_row: _Count
    cooldown_left: _Number
    advice: str = ""
    spent: list[str] = []
    rss: _Count | None = None
    warnings: _Count = 0
    last_warning: str = ""


class _Run(_Strict):
    run_id: str
    lane: str
    doing: str
    source: str
    calling: bool = False
    progress: _Progress | None = None


class _Beat(_Strict):
    worker: str
    host: str = ""
    pid: _Pid = 0
    beat: _Count = 0
    at: str = ""
    hold: str = ""
    stopping: _Number | None = None
    config_edited: str | None = None
    counts: dict[str, _Count] = {}
    lanes: list[_Lane] = []
    runs: list[_Run] = []
    queued: _Count = 0
    waiting: dict[str, str] = {}


def check_shape(value: Any) -> None:
    """Raises ValueError where this is no heartbeat: another type than ours, a number that nothing
    can be done with. What is not known, or missing, is of another version."""
    _Beat.model_validate(value)
