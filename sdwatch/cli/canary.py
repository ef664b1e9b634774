"""`sdwatch canary`: the smallest picture from the configured WebUI, the proof that it works."""

from __future__ import annotations

import argparse
import time
from contextlib import suppress
from pathlib import Path

from sdwatch.cli.asked import catalogue_of, client_of
from sdwatch.cli.chosen_config import add_config_argument, choose_config
from sdwatch.cli.exit_codes import ExitCode, NotFoundError
from sdwatch.cli.pictures import save
from sdwatch.config import WebUIConfig, load_signatures
from sdwatch.errors import WebUIBusyError, WebUIError
from sdwatch.policy.catalogue import Catalogue, Kind
from sdwatch.policy.facts import Facts
from sdwatch.policy.printable import printable_text
from sdwatch.policy.signatures import Signature
from sdwatch.policy.verdict import judge
from sdwatch.webui.canary import SIDE, flaw_in, payload
from sdwatch.webui.client import SDWebUIClient
from sdwatch.webui.occupancy import Occupancy
from sdwatch.webui.reply import Reply

_LOOKS_APART = 2.0  # seconds


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    add_config_argument(parser)
    parser.add_argument(
        "webui", nargs="?", metavar="WEBUI", help="its name in the config; default: each of them"
    )
    parser.epilog = (
        f"It must be running. The picture ({SIDE}x{SIDE}, one step) is written into this folder. "
        "Where it is generating nothing is sent."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Ask one after the other. Raises ConfigError, NotFoundError."""
    config = choose_config(args.config).config
    webuis, signatures = config.webuis, load_signatures(config.signatures)
    asked = [webui for webui in webuis if args.webui in (None, webui.name)]
    if not asked:
        names = ", ".join(webui.name for webui in webuis)
        raise NotFoundError(f"the config has no WebUI {args.webui}; there are {names}")
    well = [_is_well(webui, signatures) for webui in asked]
    return ExitCode.OK if all(well) else ExitCode.ERROR


def _is_well(webui: WebUIConfig, signatures: tuple[Signature, ...]) -> bool:
    """Print how it went."""
    try:
        print(f"{webui.name}: {_proof(webui, signatures)}", flush=True)
    except WebUIError as error:
        print(f"{webui.name}: {printable_text(str(error))}", flush=True)
        return False
    return True


def _proof(webui: WebUIConfig, signatures: tuple[Signature, ...]) -> str:
    client = client_of(webui)
    try:
        _refuse_busy(client, webui)
        catalogue = catalogue_of(client, webui)
        print(f"{webui.name}: {_what_it_waits_for(client, webui, catalogue)}", flush=True)
        began = time.monotonic()
        reply = _sent(client, signatures)
        seconds = time.monotonic() - began
        if flaw := flaw_in(reply.images[0]):
            raise WebUIError(f"the picture came out {flaw}: see {_written(webui, reply.images[0])}")
        path = _written(webui, reply.images[0])
        return f"well: {_which(client, catalogue)}, {seconds:.1f} s\n  {path}"
    finally:
        client.close()


def _sent(client: SDWebUIClient, signatures: tuple[Signature, ...]) -> Reply:
    """Raises WebUIError, explained as the failure of a job would be."""
    try:
        return client.generate_images("txt2img", payload(), canary=True)
    except WebUIError as error:
        verdict = judge(Facts(error), signatures)
        # There is no evidence by hand, so the log is where the WebUI writes it.
        advice = verdict.advice.replace("webui_tail.log", "its log")
        raise WebUIError(f"{verdict.cause}\n  {advice}") from error


def _refuse_busy(client: SDWebUIClient, webui: WebUIConfig) -> None:
    """Raises WebUIBusyError while it generates, for a monitor or for anybody."""
    occupancy = Occupancy(client, webui.health.timeout)
    if not occupancy.look():
        return
    time.sleep(_LOOKS_APART)
    if occupancy.look():
        raise WebUIBusyError(
            "it is generating, so nothing was sent: that it works can be seen; "
            "`sdwatch status` says for whom, if it is for sdwatch"
        )


def _what_it_waits_for(client: SDWebUIClient, webui: WebUIConfig, catalogue: Catalogue) -> str:
    """Only SD.Next says whether its checkpoint is loaded."""
    if catalogue.kind is Kind.SDNEXT:
        with suppress(WebUIError):
            if not client.is_without_model(webui.health.timeout):
                return "sent; its checkpoint is loaded"
    return "sent; if its checkpoint is not loaded yet, the picture waits for that"


def _which(client: SDWebUIClient, catalogue: Catalogue) -> str:
    return catalogue.kind.with_version(client.version or catalogue.version)


def _written(webui: WebUIConfig, image: bytes) -> Path:
    return save(f"canary-{webui.name}-{time.strftime('%Y%m%d-%H%M%S')}", image)
