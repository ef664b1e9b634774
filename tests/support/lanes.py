"""A lane alone, without a monitor; its WebUI is the simulator."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdwatch.config import WebUIConfig
from sdwatch.lane.context import LaneSettings
from sdwatch.lane.lane import Lane
from sdwatch.system.clock import Clock, SystemClock
from tests.support.helpers import free_port, wait_until
from tests.webui.sim import FAST


def simulator(*flags: str, **more: Any) -> WebUIConfig:
    """The config of one. `more`: of the WebUI."""
    port = free_port()
    command = (sys.executable, "-m", "sdwatch.simulator", "--port", str(port), *FAST, *flags)
    one = {"name": "sim", "url": f"http://127.0.0.1:{port}", "command": command}
    return WebUIConfig.model_validate({**one, **more})


@contextmanager
def lane_of(
    config: WebUIConfig,
    state: Path,
    cooldown: Sequence[float],
    *,
    clock: Clock | None = None,
    wait: bool = True,
) -> Iterator[Lane]:
    """Opened, and stopped at the end. `wait`: until it is ready."""
    state.mkdir(exist_ok=True)
    settings = LaneSettings(state, tuple(cooldown), clock or SystemClock())
    lane = Lane(config, settings)
    lane.open()
    try:
        if wait:
            wait_until(lambda: lane.ready, why="the simulator is ready")
        yield lane
    finally:
        lane.start_stop()
        lane.finish_stop()
