"""`sdwatch run` whose main loop hangs, once, when a file says so: `python hangs.py CONFIG FILE`."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from sdwatch.cli import main
from sdwatch.monitor.intake import Intake

config, order = sys.argv[1:]
_scan = Intake.scan


def hanging_scan(intake: Intake) -> None:
    """Stands in for a call that never returns, such as one of a driver or a dead mount."""
    if Path(order).exists():
        Path(order).unlink()
        threading.Event().wait()
    _scan(intake)


Intake.scan = hanging_scan  # type: ignore[method-assign]
sys.exit(main(["run", "--config", config]))
