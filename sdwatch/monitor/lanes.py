"""Build the lanes of a config."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from sdwatch.config import Config
from sdwatch.known_signatures import load_signatures
from sdwatch.lane.context import LaneSettings
from sdwatch.lane.lane import Lane
from sdwatch.monitor.call_gate import CallGate
from sdwatch.policy.notify.notify_settings import secrets_of
from sdwatch.spool.webui_names import WebUINames, joined_names
from sdwatch.system.clock import Clock
from sdwatch.system.state_folder import StateFolder


def lanes_of(
    config: Config,
    state: StateFolder,
    *,
    clock: Clock,
    gate: CallGate,
    hurry: threading.Event,
    wake: Callable[[], None],
    report: Callable[[str], None],
) -> list[Lane]:
    """Return a lane for each WebUI of the config. `wake`: called when a lane's readiness has
    changed. `report`: gets lines for people. `hurry`: set where a stop may not take long."""
    signatures, secrets = load_signatures(config.signatures), tuple(secrets_of(config.notify))
    return [
        Lane(
            webui,
            LaneSettings(
                state_dir=state.webui(webui.name),
                cooldown=config.cooldown,
                clock=clock,
                recovery=config.recovery,
                may_call=lambda: gate.why_no_call() is None,
                held_by_person=lambda: gate.persons_hold() is not None,
                wake=wake,
                report=report,
                signatures=signatures,
                checks=config.checks.model_dump(),
                secrets=secrets,
                hurry=hurry,
            ),
        )
        for webui in config.webuis
    ]


def names_of(lanes: Iterable[Lane]) -> WebUINames:
    """Return the names of checkpoints and samplers that the WebUIs have, as far as they are
    known."""
    lists = [lane.catalogue.lists for lane in lanes if lane.catalogue is not None]
    found = [[names.get(route) for route in ("sd-models", "samplers")] for names in lists]
    return joined_names(
        WebUINames(*(each.shown if each else () for each in pair)) for pair in found
    )
