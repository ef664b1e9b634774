"""Run one monitor from start to end, and show people what it does."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdwatch.cli.shared.log_files import set_up_logging
from sdwatch.cli.shared.plain_lines import PlainShow
from sdwatch.config import Config
from sdwatch.monitor.monitor import Monitor
from sdwatch.monitor.once import MonitorEnd
from sdwatch.system.state_folder import StateFolder

if TYPE_CHECKING:
    from sdwatch.monitor.work import Partner


@dataclass
class Session:
    """A monitor on `config`, which is from `config_file`. `counts` has the results after `run`."""

    config: Config
    config_file: Path | None = None
    once: bool = False
    take_over: str = ""
    partner: Partner | None = None
    monitor: Monitor = field(init=False)

    def __post_init__(self) -> None:
        self.monitor = Monitor(
            self.config,
            config_file=self.config_file and self.config_file.absolute(),
            once=self.once,
            take_over=self.take_over,
            notify=lambda notice: self._show.notify(notice),
        )
        self.monitor.partner = self.partner
        self._show = _show(self.monitor, self.config)

    def run(self) -> MonitorEnd:
        """Run until it is stopped, or with `once` until nothing is left. Raises what Monitor.run
        raises."""
        set_up_logging(
            StateFolder(self.config.state).log_file, self.config.log_cap, self._show.notify
        )
        self.monitor.stop_on_signals()
        with self._show:
            return self.monitor.run()

    @property
    def counts(self) -> dict[str, int]:
        """Return how many jobs are done, failed and cancelled."""
        counts: dict[str, int] = self.monitor.status()["counts"]
        return counts


def _show(monitor: Monitor, config: Config) -> PlainShow:
    if not sys.stdout.isatty():
        return PlainShow()
    from sdwatch.cli.shared.live_display import LiveShow  # rich takes a while to import

    return LiveShow(monitor.status, str(config.spool))


def counted(counts: dict[str, Any]) -> str:
    """Return `3 done, 1 failed, 0 cancelled`."""
    return ", ".join(f"{count} {ending}" for ending, count in counts.items())
