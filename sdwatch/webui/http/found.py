"""One WebUI whose dialect is found by asking it: /sdapi/v1, or prompts in a queue.

It is looked for only where the routes of the other are missing, so that nobody is asked more than
needed: a WebUI of AUTOMATIC1111's family never is, once it is ready.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdwatch.config import WebUIConfig
from sdwatch.errors import WebUIError
from sdwatch.policy.failure.hold_reason import Lack
from sdwatch.policy.failure.prompts_sent import PromptToSend
from sdwatch.policy.kinds.kind import Dialect
from sdwatch.policy.kinds.table import kind_by_stats
from sdwatch.policy.lane.turn import INTERRUPT_WAIT
from sdwatch.policy.privacy.printable import shortened
from sdwatch.webui.http.client import SDWebUIClient
from sdwatch.webui.http.health import ReadinessProbe, by_error
from sdwatch.webui.http.remembered import Remembered, Routes
from sdwatch.webui.http.reply import Reply
from sdwatch.webui.process.readiness import ProbeResult

if TYPE_CHECKING:
    from sdwatch.webui.http.comfyui_client import ComfyUIClient


class FoundClient:
    """The WebUI at one address. `dialect`: the one that was found last; `sdapi` or `prompts`
    answers accordingly. `new_prompts`: makes the client of prompts, once one is needed: who has no
    ComfyUI is spared its code."""

    def __init__(
        self, sdapi: SDWebUIClient, new_prompts: Callable[[], ComfyUIClient], dialect: Dialect
    ) -> None:
        self.sdapi = sdapi
        self.dialect = dialect
        self.url = sdapi.url
        self._new_prompts = new_prompts
        self._prompts: ComfyUIClient | None = None
        self._makes = threading.Lock()  # several threads may need the first one

    @property
    def prompts(self) -> ComfyUIClient:
        """Return the client of prompts."""
        with self._makes:
            if self._prompts is None:
                self._prompts = self._new_prompts()
            return self._prompts

    @property
    def _made(self) -> tuple[SDWebUIClient | ComfyUIClient, ...]:
        return (self.sdapi,) if self._prompts is None else (self.sdapi, self._prompts)

    @property
    def _speaking(self) -> SDWebUIClient | ComfyUIClient:
        return self.prompts if self.dialect is Dialect.PROMPTS else self.sdapi

    @property
    def version(self) -> str:
        """Return the WebUI's version, as far as it has said it; or ''."""
        return self._speaking.version

    def generate_images(
        self,
        stage: str,
        payload: Mapping[str, Any],
        given_up: Callable[[], bool] = lambda: False,
        *,
        canary: bool = False,
        arrived: Callable[[], None] = lambda: None,
    ) -> Reply:
        """Make one generation and return its images. Raises WebUIError. `arrived`: called
        once everything is here, before it is decoded."""
        return self._speaking.generate_images(
            stage, payload, given_up, canary=canary, arrived=arrived
        )

    def generate_queued(
        self,
        stage: str,
        payload: Mapping[str, Any],
        given_up: Callable[[], bool],
        prompt: PromptToSend,
        arrived: Callable[[], None] = lambda: None,
    ) -> Reply:
        """Do the same with a prompt of its own: see ComfyUIClient."""
        return self.prompts.generate_images(
            stage, payload, given_up, prompt=prompt, arrived=arrived
        )

    @property
    def running_node(self) -> str:
        """Return the node in which a prompt was seen last, for messages; or ''."""
        is_asked = self.dialect is Dialect.PROMPTS and self._prompts is not None
        return self.prompts.running_node if is_asked else ""

    def progress(self, timeout: float) -> dict[str, Any]:
        """Return how far it is, in the form of /sdapi/v1/progress. Raises WebUIError."""
        return self._speaking.progress(timeout)

    def listed(self, name: str, timeout: float) -> list[Any]:
        """Return one of its lists, such as `samplers`. Raises WebUIError."""
        return self._speaking.listed(name, timeout)

    def options(self, timeout: float) -> dict[str, Any]:
        """Return its settings. Raises WebUIError."""
        return self._speaking.options(timeout)

    def set_options(self, options: Mapping[str, Any], timeout: float) -> bool:
        """Set them, and return whether that was accepted. Never raises."""
        return self._speaking.set_options(options, timeout)

    def interrupt(self) -> bool:
        """End the current generation, and return whether that was accepted. Never raises."""
        return self._speaking.interrupt()

    def unload_checkpoint(self, timeout: float) -> bool:
        """Take the checkpoint from the GPU, and return whether that was accepted. Never raises."""
        return self._speaking.unload_checkpoint(timeout)

    def reload_checkpoint(self, timeout: float) -> bool:
        """Load it again, where the next call would not. Never raises."""
        return self.dialect is Dialect.PROMPTS or self.sdapi.reload_checkpoint(timeout)

    def abandon(self) -> None:
        """Free whoever waits for a generation."""
        for client in self._made:
            client.abandon()

    def abandon_probes(self) -> None:
        """Free whoever waits for the answer to a small question."""
        for client in self._made:
            client.abandon_probes()

    def close(self) -> None:
        """Close all connections."""
        for client in self._made:
            client.close()


def client_for(
    webui: WebUIConfig,
    scratch: Path | None = None,
    *,
    owner: str = "",
    dialect: Dialect = Dialect.SDAPI,
) -> FoundClient:
    """Return the client of a WebUI of the config, with its user name and limits. `scratch`: see
    SDWebUIClient; `owner`: see ComfyUIClient; `dialect`: of an earlier incarnation."""
    auth = (webui.username, webui.password or "") if webui.username else None
    limit = webui.call_limit

    def new_prompts() -> ComfyUIClient:
        from sdwatch.webui.http.comfyui_client import ComfyUIClient

        made = ComfyUIClient(
            webui.url,
            auth=auth,
            call_limit=limit,
            owner=owner,
            scratch=scratch,
            templates=webui.templates,
        )
        made.interrupt_limit = min(INTERRUPT_WAIT, webui.stall / 2)  # it must not seem to stall
        return made

    return FoundClient(
        SDWebUIClient(webui.url, auth=auth, call_limit=limit, scratch=scratch),
        new_prompts,
        dialect,
    )


_LONGEST_REASON = 2000


class FoundProbe:
    """Asks one WebUI whether it is ready for jobs, and finds its dialect. `sdapi`: the probe of the
    other dialect. `redact`: error messages may echo a prompt, and go into the log."""

    def __init__(
        self,
        client: FoundClient,
        timeout: float,
        sdapi: ReadinessProbe,
        remembered: Remembered,
        redact: Callable[[str], str] = lambda text: text,
    ) -> None:
        self._client = client
        self._timeout = timeout
        self._sdapi = sdapi
        self._remembered = remembered
        self._redact = redact

    def start_incarnation(self) -> None:
        """Forget what was seen of the last incarnation, except what is remembered."""
        self._sdapi.start_incarnation()

    def __call__(self) -> ProbeResult:
        seen = self._probe()
        return replace(seen, reason=shortened(self._redact(seen.reason), _LONGEST_REASON))

    def _probe(self) -> ProbeResult:
        if self._client.dialect is Dialect.PROMPTS:
            return self._by_stats()
        seen = self._sdapi()
        if seen.no_routes and self._has_stats():
            self._client.dialect = Dialect.PROMPTS
            return self._by_stats()
        return seen

    def _has_stats(self) -> bool:
        try:
            system = self._client.prompts.system_stats(self._timeout)
        except WebUIError:
            return False
        return kind_by_stats(system).dialect is Dialect.PROMPTS

    def _by_stats(self) -> ProbeResult:
        """Return whether /system_stats answers: nothing listens before everything is ready
        (measured with ComfyUI 0.33.0)."""
        try:
            system = self._client.prompts.system_stats(self._timeout)
        except WebUIError as error:
            seen = by_error(error)
            if seen.lacks is not Lack.OTHER:
                return seen
            system = {}
        kind = kind_by_stats(system)
        if kind.dialect is not Dialect.PROMPTS:  # another WebUI than before
            self._client.dialect = Dialect.SDAPI
            return self._sdapi()
        self._remembered.note_routes(Routes(progress=False, checkpoint=False))
        self._remembered.note_kind(kind)
        return ProbeResult(True, "it answers")
