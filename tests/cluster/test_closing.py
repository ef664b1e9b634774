"""A connection to a broker is closed without a word, whatever it was doing; logs of runs are closed
while boxes are watched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sdwatch.cluster.dispatcher import Dispatcher
from tests.cluster.machines import needs_nats
from tests.support.helpers import FakeClock, free_port

CLOSED = """
import sys
from sdwatch.cluster.broker import Broker
from sdwatch.policy.cluster.names import Times
from tests.support.helpers import wait_until

broker = Broker(f"nats://127.0.0.1:{sys.argv[1]}", "test", Times())
first = broker.why_down
broker.open()
wait_until(lambda: broker.why_down != first, 30)
broker.close()
"""


def test_a_broker_that_never_answered_is_closed_without_a_word() -> None:
    needs_nats()
    ended = subprocess.run(
        [sys.executable, "-c", CLOSED, str(free_port())], capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_boxes_are_looked_at_while_the_logs_of_many_runs_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, closed = FakeClock(), list[str]()
    runs = [f"20261128-235959.123-job{number}-3f2a" for number in range(10)]
    for run in runs:
        (tmp_path / run).touch()
    dispatcher = Dispatcher("nats://127.0.0.1:9")
    parts: Any = SimpleNamespace(clock=clock)
    dispatcher._parts, dispatcher._closing = parts, tmp_path

    def close(run: str) -> None:
        clock.advance(0.25)
        closed.append(run)
        (tmp_path / run).unlink()

    monkeypatch.setattr(dispatcher, "_close_log", close)
    for count in (4, 8):
        assert dispatcher._close_logs(), "some are left"
        assert len(closed) == count
    assert not dispatcher._close_logs()
    assert sorted(closed) == runs


def test_boxes_are_looked_at_while_many_of_them_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, looked_after = FakeClock(), list[str]()
    dispatcher = Dispatcher("nats://127.0.0.1:9")
    parts: Any = SimpleNamespace(clock=clock)
    remote: Any = {f"run-{n}": SimpleNamespace(box=f"box-{n}") for n in range(10)}
    dispatcher._parts, dispatcher._remote = parts, remote

    def look_after(box: str, now: float) -> None:
        del now
        clock.advance(0.25)
        looked_after.append(box)

    monkeypatch.setattr(dispatcher, "_look_after", look_after)
    for count in (4, 8, 12):
        dispatcher._look_after_boxes(clock.monotonic())
        assert len(looked_after) == count
    assert len({*looked_after}) == 10, "each has its turn"
