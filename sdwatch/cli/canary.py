"""`sdwatch canary`: generate the smallest picture, to see whether the configured WebUI works."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any

from sdwatch.cli.shared.call_by_hand import STILL_BUSY, log_of, said_of, save, shown
from sdwatch.cli.shared.chosen_config import ChosenConfig, add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.webui_client import catalogue_of, client_of
from sdwatch.config import Config, WebUIConfig
from sdwatch.errors import NotFoundError, WebUIError
from sdwatch.known_signatures import load_signatures
from sdwatch.policy.failure.diagnosis import diagnose
from sdwatch.policy.failure.facts import FailureFacts
from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.job.stage.stage_kinds import TXT2IMG
from sdwatch.policy.kinds.kind import Dialect
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import is_alive_here, read_heartbeats
from sdwatch.webui.http.canary import SIDE, flaw_in, payload
from sdwatch.webui.http.found import FoundClient
from sdwatch.webui.http.health import Occupancy
from sdwatch.webui.http.reply import Reply
from sdwatch.webui.log.call_log import CallLog

_LOOKS_APART = 2.0  # seconds

_RESTARTS = frozenset({State.DOWN, State.STARTING, State.COOLING_DOWN})


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument(
        "webui", nargs="?", metavar="WEBUI", help="its name in the config; default: all of them"
    )
    parser.epilog = (
        f"The WebUI must be running. The picture ({SIDE}x{SIDE}, one step) is saved in this\n"
        "folder. If the WebUI is busy, the command waits for its current call to finish."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Check one WebUI after the other. Raises ConfigError, NotFoundError."""
    chosen = choose_config(args.config)
    config = chosen.config
    webuis, signatures = config.webuis, load_signatures(config.signatures)
    asked = [webui for webui in webuis if args.webui in (None, webui.name)]
    if not asked:
        names = ", ".join(webui.name for webui in webuis)
        raise NotFoundError(f"the config has no WebUI {args.webui!r}; it has {names}")
    code = ExitCode.OK
    for webui in asked:
        try:
            print(f"{webui.name}: {_self_test(webui, chosen, signatures)}", flush=True)
        except WebUIError as error:
            more = error.in_words if isinstance(error, PictureFailedError) else str(error)
            print(f"{webui.name}: {printable_text(more)}", flush=True)
            code = ExitCode.ERROR
    return code


def _self_test(webui: WebUIConfig, chosen: ChosenConfig, signatures: tuple[Signature, ...]) -> str:
    # One that is starting, or hangs, may take a while for each answer.
    print(f"{webui.name}: checking {webui.url}", flush=True)
    with closing(client_of(webui)) as client:
        _wait_until_idle(client, webui, chosen.spool)
        catalogue = catalogue_of(client, webui)
        print(f"{webui.name}: {_what_it_waits_for(client, webui, catalogue)}", flush=True)
        return generated(client, webui, catalogue, chosen.config, signatures)


class PictureFailedError(WebUIError):
    """The picture failed, explained as the failure of a job would be. `advice`: what a person can
    do; `printed`: the lines of the WebUI's output that matter, for a terminal."""

    def __init__(self, cause: str, advice: str, printed: Sequence[str]) -> None:
        super().__init__(cause)
        self.advice = advice
        self.printed = printed

    @property
    def in_words(self) -> str:
        """Return all of it, in several lines."""
        return "\n".join((str(self), f"  {self.advice}", *self.printed))


def generated(
    client: FoundClient,
    webui: WebUIConfig,
    catalogue: Catalogue,
    config: Config,
    signatures: tuple[Signature, ...],
) -> str:
    """Generate the smallest picture and save it; return in words what came out, in two lines.
    Raises WebUIError."""
    began = time.monotonic()
    reply = _sent(client, log_of(webui, config), signatures)
    seconds = time.monotonic() - began
    stem = f"canary-{webui.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, flaw = save(stem, reply.images[0]), flaw_in(reply.images[0], is_plain=reply.is_plain)
    if flaw:
        raise WebUIError(f"the picture came out {flaw}: see {path}")
    version = catalogue.kind.with_version(client.version or catalogue.version)
    return f"healthy: {version}, {seconds:.1f} s\n  {path}"


def is_in_use(client: FoundClient, webui: WebUIConfig, spool: Spool) -> bool:
    """Return whether the WebUI generates now, for a monitor or for anybody else."""
    occupancy = Occupancy(client, webui.health.timeout)
    if not occupancy.is_busy():
        return False
    first = _Monitors(spool, webui.url).call_under_way()
    time.sleep(_LOOKS_APART)
    return bool(first) or occupancy.is_busy()


def _sent(client: FoundClient, log: CallLog, signatures: tuple[Signature, ...]) -> Reply:
    """Generate it. Raises WebUIError, explained as the failure of a job would be."""
    try:
        return client.generate_images(TXT2IMG.name, payload(), canary=True)
    except WebUIError as error:
        printed = said_of(error, log)
        explanation = diagnose(FailureFacts(error, log=printed), signatures)
        raise PictureFailedError(explanation.cause, explanation.advice, shown(printed)) from error


def _wait_until_idle(client: FoundClient, webui: WebUIConfig, spool: Spool) -> None:
    """Wait for the call that the WebUI generates now, for a monitor or for anybody else."""
    occupancy = Occupancy(client, webui.health.timeout)
    monitors = _Monitors(spool, webui.url)
    if not occupancy.is_busy():
        return
    monitors.call_under_way()
    time.sleep(_LOOKS_APART)
    first = monitors.call_under_way()
    if not (occupancy.is_busy() or first):
        return  # what stands still is what a failed upscale has left
    print(f"{webui.name}: {STILL_BUSY}", flush=True)
    print(f"  {_whose(first)}", flush=True)
    restarts = ""
    while True:
        time.sleep(_LOOKS_APART)
        moves, now = occupancy.is_busy(), monitors.call_under_way()
        if monitors.restarts:  # what is sent now would find nobody, or take the retry's place
            if monitors.restarts != restarts:
                restarts = monitors.restarts
                print(f"  it is being restarted: {restarts}", flush=True)
            continue
        if (first and now != first) or not (first or moves):
            return


def _whose(run: dict[str, Any] | None) -> str:
    if run is None:
        return "no job of this spool is being worked on there"
    return printable_text(f"it works on {run['source']} ({run['doing']})  [{run['run_id']}]")


class _Monitors:
    """What the monitors of `spool` say of the WebUI at `url`. A heartbeat of another machine that
    has not moved since the last look is of one that is gone."""

    def __init__(self, spool: Spool, url: str) -> None:
        self._spool = spool
        self._url = url
        self._counts: dict[str, Any] = {}
        self.restarts = ""
        """The state of its lane at the last look, where that is restarting it; or ''."""

    def call_under_way(self) -> dict[str, Any] | None:
        """Return the run whose call it works on now, and where that is; None for none."""
        before, beats = self._counts, read_heartbeats(self._spool.root)
        self._counts = {str(beat.get("worker")): beat.get("beat") for beat in beats}
        lives = [
            beat
            for beat in beats
            if is_alive_here(beat) or beat.get("beat") != before.get(str(beat.get("worker")))
        ]
        lanes = (lane for beat in lives for lane in beat.get("lanes", []))
        ours = (lane for lane in lanes if lane["url"] == self._url and not lane.get("hold"))
        self.restarts = next((o["state"] for o in ours if o["state"] in _RESTARTS), "")
        return next(filter(None, map(self._calling, lives)), None)

    def _calling(self, beat: dict[str, Any]) -> dict[str, Any] | None:
        names = {lane["name"] for lane in beat.get("lanes", []) if lane["url"] == self._url}
        runs = (r for r in beat.get("runs", []) if r["lane"] in names and r.get("calling"))
        run = next(runs, None)
        return run and {key: run[key] for key in ("source", "doing", "run_id")}


def _what_it_waits_for(client: FoundClient, webui: WebUIConfig, catalogue: Catalogue) -> str:
    """Return what the WebUI waits for; only SD.Next says whether its checkpoint is loaded, and the
    picture of a ComfyUI needs none."""
    if catalogue.kind.dialect is Dialect.PROMPTS:
        return "sent; the picture needs no checkpoint"
    if catalogue.kind.says_if_loaded:
        with suppress(WebUIError):
            if not client.sdapi.is_without_model(webui.health.timeout):
                return "sent; its checkpoint is loaded"
    return "sent; if its checkpoint is not loaded yet, the picture waits for that"
