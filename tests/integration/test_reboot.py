"""The cool-down across a reboot after which the clock is wrong: what is left is clamped."""

from __future__ import annotations

import json
import time
from pathlib import Path

from sdwatch import system
from tests.support.monitored import Monitored, job, monitored

YEAR = 365 * 24 * 3600.0


def crashed_in_another_boot(spool: Monitored, wall: float, cooldown: float) -> None:
    """The crash history of a machine that was rebooted after one crash."""
    folder = spool.state / "webui-sim"
    folder.mkdir(parents=True)
    record = {
        "event": "crash",
        "kind": "crash",
        "in_a_row": 1,
        "cooldown": cooldown,
        "wall": wall,
        "boot": system.boot_time() + YEAR,
        "boot_id": "another boot",
    }
    (folder / "crashes.jsonl").write_text(json.dumps(record) + "\n", encoding="utf-8")


def test_a_crash_in_the_future_costs_its_whole_entry_once_and_no_more(tmp_path: Path) -> None:
    entry = 2.0
    with monitored(tmp_path, settings={"cooldown": [entry]}) as spool:
        crashed_in_another_boot(spool, time.time() + YEAR, entry)
        spool.drop("castle.yaml", job())
        begun = system.boot_time()
        spool.start_process()
        spool.wait_for(done=1)
        (start,) = spool.events("start")
        assert start["boot"] >= begun + entry
        assert len(spool.events("crash")) == 1


def test_a_crash_long_ago_costs_no_waiting(tmp_path: Path) -> None:
    entry = 3600.0
    with monitored(tmp_path, settings={"cooldown": [entry]}) as spool:
        crashed_in_another_boot(spool, time.time() - YEAR, entry)
        spool.drop("castle.yaml", job())
        begun = system.boot_time()
        spool.start_process()
        spool.wait_for(done=1)
        (start,) = spool.events("start")
        assert start["boot"] < begun + entry
