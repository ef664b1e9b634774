"""A WebUI that dies or freezes while nothing is queued."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from tests.support.helpers import KILL
from tests.support.monitored import Monitored, job, monitored

COOLDOWN = 0.5


def restarted_after_the_cooldown(spool: Monitored, kind: str) -> None:
    """Generation 2 is ready, and was not started before its time; it works."""
    spool.wait_ready(incarnation=2)
    first, crash, second = spool.crashes()
    assert [first["event"], crash["event"], second["event"]] == ["start", "crash", "start"]
    assert (crash["kind"], crash["cooldown"]) == (kind, COOLDOWN)
    assert second["boot"] >= crash["boot"] + COOLDOWN
    spool.drop("castle.yaml", job())
    spool.wait_for(done=1)
    assert spool.stats()["starts"] == 2


@pytest.mark.parametrize("number", sorted({KILL, signal.SIGTERM}))
def test_an_idle_webui_that_dies_is_restarted(tmp_path: Path, number: int) -> None:
    with monitored(tmp_path, settings={"cooldown": [COOLDOWN]}) as spool:
        spool.start()
        spool.wait_ready()
        psutil.Process(spool.webui_pid()).send_signal(number)
        restarted_after_the_cooldown(spool, "crash")


def test_an_idle_webui_that_freezes_is_restarted(tmp_path: Path) -> None:
    health = {"health": {"interval": 0.5, "timeout": 2, "failures": 2}}
    with monitored(tmp_path, settings={"cooldown": [COOLDOWN]}, webui=health) as spool:
        spool.start()
        spool.wait_ready()
        frozen = psutil.Process(spool.webui_pid())
        frozen.suspend()
        restarted_after_the_cooldown(spool, "stuck")
        assert frozen not in spool.processes()
        (told,) = (line for line in spool.told if line.startswith("sim: stuck"))
        assert told.startswith(
            "sim: stuck, cooling down for 0.5 s: the WebUI did not answer within 2 s ("
        )
