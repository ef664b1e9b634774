"""What `sdwatch doctor` checks of each WebUI: how it starts, who listens, whether it generates."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import psutil

from sdwatch import system
from sdwatch.cli.canary import PictureFailedError, generated, is_in_use
from sdwatch.cli.checks.findings import Area, DoctorFinding, Examination, Weight
from sdwatch.cli.checks.start_check import findings_of, kind_of
from sdwatch.cli.checks.started_webuis import STOP_LIMIT_S, NotStartedError, StartedWebUIs
from sdwatch.cli.shared.call_by_hand import lanes_at
from sdwatch.cli.shared.chosen_config import ChosenConfig
from sdwatch.cli.shared.webui_client import catalogue_of, client_of
from sdwatch.config import WebUIConfig
from sdwatch.errors import WebUIError
from sdwatch.known_signatures import load_signatures
from sdwatch.policy.config.exposure import is_loopback
from sdwatch.policy.privacy.printable import printable
from sdwatch.spool.heartbeat import UNREADABLE, is_dead_here

_PORT_LIMIT_S = 20.0
_BESIDES_S = 30.0  # for the questions before the picture


def examinations_of(
    webui: WebUIConfig, chosen: ChosenConfig, starts: StartedWebUIs | None = None
) -> list[Examination]:
    """Return what is checked of one WebUI. `starts`: by which it is started for its picture; None
    to start nothing."""
    name = webui.name
    picture_limit = webui.self_test_limit + _BESIDES_S
    first = Examination(Area.WEBUI, lambda: _start(webui), about=name)
    if starts is not None and will_start(webui):
        limit = webui.start_limit + picture_limit + webui.stop_grace + STOP_LIMIT_S
        look = partial(_started, webui, chosen, starts)
        return [first, Examination(Area.PICTURE, look, limit, name)]
    return [
        first,
        Examination(Area.PORT, lambda: _port(webui), _PORT_LIMIT_S, name),
        Examination(Area.PICTURE, lambda: _picture(webui, chosen), picture_limit, name),
    ]


def will_start(webui: WebUIConfig) -> bool:
    """Return whether this WebUI is ours to start, and nobody listens at its address yet."""
    return webui.command is not None and not system.somebody_listens(webui.host, webui.port)


def _started(
    webui: WebUIConfig, chosen: ChosenConfig, starts: StartedWebUIs
) -> Iterator[DoctorFinding]:
    """Start it as the monitor would, look at its port, generate the picture, and stop it."""
    began = time.monotonic()
    try:
        with starts.started(webui):
            seconds = time.monotonic() - began
            yield DoctorFinding(
                Weight.OK, f"it started, and was ready after {seconds:.0f} s", area=Area.WEBUI
            )
            for finding in _port(webui):
                yield replace(finding, area=Area.PORT)
            yield _tried(webui, chosen)
    except NotStartedError as error:
        weight = Weight.NOTE if error.waits else Weight.PROBLEM
        yield DoctorFinding(weight, str(error), error.advice, Area.WEBUI)
        return
    yield DoctorFinding(Weight.OK, "it was stopped again", area=Area.WEBUI)


def _start(webui: WebUIConfig) -> Iterator[DoctorFinding]:
    if webui.command is None:
        yield DoctorFinding(
            Weight.NOTE,
            "it has no `command`, so sdwatch only waits for it, and never restarts it",
            "give it a command if it runs on this machine",
        )
        return
    found = findings_of(webui)
    for finding in found:
        weight = Weight.PROBLEM if finding.sure else Weight.WARNING
        yield DoctorFinding(weight, finding.message)
    if not any(finding.sure for finding in found):
        kind = kind_of(webui)
        title = kind.title if kind.is_known else "a WebUI of a kind that its files do not show"
        folder = printable(str(webui.cwd or "the current folder"))
        yield DoctorFinding(
            Weight.OK, f"{title} in {folder}, started by {printable(webui.command[0])}"
        )


def _port(webui: WebUIConfig) -> Iterator[DoctorFinding]:
    if not system.somebody_listens(webui.host, webui.port):
        external = webui.command is None
        yield DoctorFinding(
            Weight.WARNING if external else Weight.NOTE,
            f"nobody listens on {webui.url}",
            "start it" if external else "`sdwatch run` starts it",
        )
        return
    yield DoctorFinding(Weight.OK, f"somebody listens on {webui.url}")
    open_to = sorted(a for a in _listening_at(webui) if not is_loopback(a))
    if open_to and is_loopback(webui.host):
        everywhere = any(ipaddress.ip_address(a).is_unspecified for a in open_to)
        where = "all addresses of this machine" if everywhere else ", ".join(open_to)
        yield DoctorFinding(
            Weight.WARNING,
            f"it listens on {where}: everybody on your network can use it",
            "start it with --server-name 127.0.0.1, or without --listen",
        )


def _listening_at(webui: WebUIConfig) -> set[str]:
    """Return the addresses of this machine at which somebody listens on the WebUI's port; nothing
    where this user may not see them."""
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return set()
    return {
        connection.laddr.ip
        for connection in connections
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr
        and connection.laddr.port == webui.port
    }


def _picture(webui: WebUIConfig, chosen: ChosenConfig) -> Iterator[DoctorFinding]:
    """Generate the smallest picture, unless that would be in somebody's way."""
    if lane := _lane_of_a_monitor(webui, chosen):
        if not lane.get("ready", lane.get("state") == "ready") or lane.get("hold"):
            state = f"on hold: {lane['hold']}" if lane.get("hold") else str(lane.get("state"))
            message = f"no picture was tested: the monitor has this WebUI {printable(state)}"
            weight = Weight.PROBLEM if lane.get("hold") else Weight.NOTE
            yield DoctorFinding(weight, message, "see `sdwatch status`")
            return
    elif not system.somebody_listens(webui.host, webui.port):
        message = "no picture was tested: the WebUI is not running"
        advice = "`sdwatch doctor --start` starts it, tests a picture, and stops it again"
        if webui.command is None:
            advice = "start it, then run `sdwatch doctor` again"
        yield DoctorFinding(Weight.NOTE, message, advice)
        return
    yield _tried(webui, chosen)


def _tried(webui: WebUIConfig, chosen: ChosenConfig) -> DoctorFinding:
    try:
        with closing(client_of(webui)) as client:
            if is_in_use(client, webui, chosen.spool):
                return DoctorFinding(
                    Weight.NOTE,
                    "no picture was tested: the WebUI is busy with somebody's picture",
                    f"`sdwatch canary {webui.name}` waits until it is idle",
                )
            signatures = load_signatures(chosen.config.signatures)
            catalogue = catalogue_of(client, webui)
            words = generated(client, webui, catalogue, chosen.config, signatures)
    except PictureFailedError as error:
        return DoctorFinding(Weight.PROBLEM, str(error), error.advice)
    except WebUIError as error:
        return DoctorFinding(Weight.PROBLEM, str(error))
    return DoctorFinding(
        Weight.OK, "; its picture: ".join(line.strip() for line in words.splitlines())
    )


def _lane_of_a_monitor(webui: WebUIConfig, chosen: ChosenConfig) -> dict[str, Any]:
    """Return what a monitor of this spool, which may be running, last said of this WebUI."""
    for _, beat, lane in lanes_at(webui.url, chosen.spool):
        if UNREADABLE not in beat and not is_dead_here(beat):
            return dict(lane)
    return {}
