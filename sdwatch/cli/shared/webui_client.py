"""Ask a running WebUI directly, without a monitor."""

from __future__ import annotations

import time

from sdwatch.config import Config, WebUIConfig
from sdwatch.errors import SdwatchError, WebUIError
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.system.clock import SystemClock
from sdwatch.webui.http.catalogue_queries import CatalogueReader
from sdwatch.webui.http.found import FoundClient, FoundProbe, client_for
from sdwatch.webui.http.health import ReadinessProbe
from sdwatch.webui.http.remembered import Remembered
from sdwatch.webui.process.readiness import PROBE_INTERVAL_S, ProbeResult, Seen

# What may be over at the next check, and what to do if it is not.
_PASSING = {
    Seen.LOADING: "wait until the model is loaded, then try again",
    Seen.STILL_ADDING: "it is starting: try again in a moment",
    Seen.NO_ROUTES_YET: (
        "either it was started without --api: add that flag; "
        "or it is still starting: try again in a moment"
    ),
}


def client_of(webui: WebUIConfig) -> FoundClient:
    """Return a client with this WebUI's own user name and limits. Raises WebUIError, with the
    reason and what to do, where it cannot take a job now."""
    client = client_for(webui)
    found = _probe(client, webui)
    if not found.ready:
        client.close()
        raise WebUIError(f"{webui.url} is not ready: {found.reason}{_advice(found, webui)}")
    return client


def _probe(client: FoundClient, webui: WebUIConfig) -> ProbeResult:
    """Check it, twice if the first time may only have been too early."""
    timeout = webui.health.timeout
    sdapi = ReadinessProbe(client.sdapi, SystemClock(), timeout)
    probe = FoundProbe(client, timeout, sdapi, Remembered())
    found = probe()
    if found.seen in _PASSING:
        time.sleep(PROBE_INTERVAL_S)
        found = probe()
    return found


def _advice(found: ProbeResult, webui: WebUIConfig) -> str:
    """Return a line that says what to do; nothing if the reason says it already."""
    if found.unusable:
        return ""
    start = "start it with `sdwatch run`" if webui.command else "start it"
    passing = _PASSING.get(found.seen) if found.seen is not None else None
    return f"\n  {passing or f'if it is not running, {start}, then try again'}"


def catalogue_of(client: FoundClient, webui: WebUIConfig) -> Catalogue:
    """Return the lists and settings of this WebUI."""
    return CatalogueReader(client, webui.health.timeout).read()


def webui_at(url: str, config: Config | None) -> WebUIConfig:
    """Return the WebUI at this address: the one in the config, with its user name, or else a new
    one. Raises SdwatchError if this is not an address."""
    webuis = config.webuis if config else ()
    known = (webui for webui in webuis if webui.url == url.rstrip("/"))
    try:
        return next(known, None) or WebUIConfig.model_validate({"name": "asked", "url": url})
    except ValueError as error:
        raise SdwatchError(f"{url}: must be http://HOST:PORT, without a path") from error
