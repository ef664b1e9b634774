"""The lanes of a config."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sdwatch.config import Config, load_signatures
from sdwatch.lane.lane import Lane
from sdwatch.monitor.call_gate import CallGate
from sdwatch.system.clock import Clock
from sdwatch.system.state_folder import StateFolder


def lanes_of(
    config: Config,
    state: StateFolder,
    *,
    clock: Clock,
    gate: CallGate,
    wake: Callable[[], None],
    report: Callable[[str], None],
) -> list[Lane]:
    """Return a lane for each WebUI of the config. `wake`: called when a lane's readiness has
    changed. `report`: gets lines for people."""
    signatures = load_signatures(config.signatures)
    return [
        Lane(
            webui,
            state_dir=state.webui(webui.name),
            cooldown=config.cooldown,
            recovery=config.recovery,
            clock=clock,
            may_call=gate.why_closed,
            wake=wake,
            report=report,
            signatures=signatures,
            checks=config.checks.levels,
            paused=gate.why_paused,
        )
        for webui in config.webuis
    ]


def learn(lanes: Iterable[Lane], payload: Mapping[str, Any]) -> None:
    """Have the redactor of each lane learn the prompts of a payload."""
    for lane in lanes:
        lane.redactor.learn(payload)
