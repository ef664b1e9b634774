"""One monitor of a cluster, with short times and a clock of its own.

`python cluster_driver.py CONFIG ROLE URL SKEW WORKER`: ROLE is box or dispatcher; its wall clock is
SKEW seconds ahead; WORKER, if not '', is another one whose runs it takes over. The environment may
have times of the protocol: LEASE (seconds).
"""

import os
import sys
from pathlib import Path

from sdwatch.cli.shared.log_files import set_up_logging
from sdwatch.cluster.box import Box
from sdwatch.cluster.dispatcher import Dispatcher
from sdwatch.config_file import load_config
from sdwatch.monitor.monitor import Monitor
from sdwatch.policy.cluster.names import Times
from sdwatch.system.clock import SystemClock
from sdwatch.system.state_folder import StateFolder


class SkewedClock(SystemClock):
    """A machine's clocks with a wrong wall clock."""

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead

    def wall(self) -> float:
        return super().wall() + self._ahead


def main() -> None:
    file, role, url, skew, worker = sys.argv[1:]
    lease = float(os.environ.get("LEASE", "6"))
    times = Times(
        lease=lease,
        renew=lease / 6,
        beat=lease / 12,
        silent=lease / 2,
        stuck=lease,
        request=lease / 3,
    )
    config = load_config(Path(file))
    set_up_logging(StateFolder(config.state).log_file, config.log_cap, lambda _: None)
    monitor = Monitor(
        config,
        take_over=worker,
        notify=lambda line: print(line, flush=True),
        clock=SkewedClock(float(skew)),
    )
    monitor.partner = {"box": Box, "dispatcher": Dispatcher}[role](url, times)
    monitor.stop_on_signals()
    print(monitor.run(), flush=True)


main()
