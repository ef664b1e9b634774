"""Read what a WebUI prints during a call that a command sends by hand."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from sdwatch.config import Config, WebUIConfig
from sdwatch.errors import WebUIError
from sdwatch.policy.failure.error_lines import lines_that_matter
from sdwatch.policy.privacy.printable import printable
from sdwatch.system.clock import SystemClock
from sdwatch.webui.log.call_log import CallLog
from sdwatch.webui.process import process_identity


def log_of(webui: WebUIConfig | None, config: Config) -> CallLog:
    """Follow the log from now on: the `log_file` of an external WebUI, or the output of our own in
    the state folder. For None, a WebUI that the config does not have, there is nothing."""
    return CallLog(() if webui is None else _paths(webui, config), SystemClock())


def said_of(error: WebUIError, log: CallLog) -> tuple[str, ...]:
    """Return what the WebUI printed during a failed call; its traceback may follow the reply."""
    log.wait_for_traceback(error, threading.Event().wait)
    return log.lines()


def shown(lines: Sequence[str]) -> list[str]:
    """Return the lines that matter, for a terminal."""
    return [f"  | {printable(line)}" for line in lines_that_matter("\n".join(lines))]


def _paths(webui: WebUIConfig, config: Config) -> tuple[Path, ...]:
    if webui.command is None:
        return (webui.log_file,) if webui.log_file else ()
    return process_identity.newest_logs(config.state / f"webui-{webui.name}")
