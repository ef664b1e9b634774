"""Start the WebUIs of a config for a check, by the path that the monitor takes, and stop them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sdwatch.cli.shared.chosen_config import ChosenConfig
from sdwatch.config import WebUIConfig
from sdwatch.errors import SdwatchError
from sdwatch.known_signatures import load_signatures
from sdwatch.lane.context import LaneSettings, context_of
from sdwatch.lane.lane import process_of
from sdwatch.policy.notify.notify_settings import secrets_of
from sdwatch.spool.heartbeat import is_dead_here, read_heartbeats
from sdwatch.system.clock import SystemClock
from sdwatch.system.state_folder import StateFolder
from sdwatch.webui.process.process import WebUIProcessManager

STOP_LIMIT_S = 60.0
"""Seconds beyond `stop_grace` that a WebUI gets to end, with its whole tree."""


class NotStartedError(SdwatchError):
    """A WebUI that was not started, or did not become ready: the reason for people. `advice`: what
    to do; `waits`: nothing is wrong, now is only not the moment."""

    def __init__(self, reason: str, advice: str = "", *, waits: bool = False) -> None:
        super().__init__(reason)
        self.advice = advice
        self.waits = waits


class StartedWebUIs:
    """Starts WebUIs of this config while no monitor works with its state folder or its spool. Any
    thread may call `started`."""

    def __init__(self, chosen: ChosenConfig) -> None:
        self._chosen = chosen
        self._state = StateFolder(chosen.config.state)
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._processes: list[WebUIProcessManager] = []

    @contextmanager
    def held(self) -> Iterator[str]:
        """Hold the state folder, so that no monitor starts meanwhile; give why it cannot be held,
        or ''. At the end nothing that was started is left, however it ends."""
        why = self._why_not_held()
        try:
            yield why
        finally:
            self._over.set()
            with self._lock:
                processes = list(self._processes)
            for process in processes:
                process.stop()
            if not why:
                self._state.release()

    def _why_not_held(self) -> str:
        for beat in read_heartbeats(self._chosen.spool.root):
            if not is_dead_here(beat):
                return (
                    f"the monitor of worker {beat.get('worker')} may be running; it starts its "
                    "WebUIs itself"
                )
        if held := self._chosen.spool.hold_file():
            return f"{held.name} in the spool asks that no WebUI is started"
        try:
            self._state.hold()
        except SdwatchError as error:  # a monitor has it; or it cannot be used
            return str(error)
        return ""

    @contextmanager
    def started(self, webui: WebUIConfig) -> Iterator[None]:
        """Start a WebUI, wait until it is ready, and stop it at the end. Raises
        NotStartedError; where it cannot be stopped, too."""
        process = self._process_of(webui)
        if process.processes():
            raise NotStartedError(
                "one that an earlier monitor started is still there, and not ready; it is left "
                "alone",
                "`sdwatch run` takes it over",
                waits=True,
            )
        with self._lock:
            if self._over.is_set():
                raise NotStartedError("the command ends", waits=True)
            self._processes.append(process)
        try:
            if not process.restart_and_wait_ready(webui.start_limit, self._over):
                reason = process.last_hold_reason
                raise NotStartedError(reason.cause or process.last_failure, reason.advice)
            yield
        finally:
            stopped = process.stop()
        if not stopped:
            raise NotStartedError(f"it cannot be stopped: {process.last_failure}")

    def _process_of(self, webui: WebUIConfig) -> WebUIProcessManager:
        config = self._chosen.config
        settings = LaneSettings(
            state_dir=self._state.webui(webui.name),
            cooldown=config.cooldown,
            clock=SystemClock(),
            signatures=load_signatures(config.signatures),
            secrets=tuple(secrets_of(config.notify)),
        )
        context = context_of(webui, settings, list)
        process = process_of(context, lambda _: False)
        assert isinstance(process, WebUIProcessManager)
        context.probe.start_incarnation()
        return process
