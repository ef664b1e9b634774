"""A user's signatures file beside a real monitor."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sdwatch.monitor.once import MonitorEnd
from tests.support.monitored import job, monitored

FOREVER = r"^(.|..|...)+\d$"
"""On a sentence that ends without a digit `re` would try this until the end of the world."""

OWN = f"""
signatures:
  - name: mine
    when: [{{said: '{FOREVER}'}}]
    diagnosis: server error
    cause: it never ends
    advice: Fix it.
    source: my own log
"""


def test_an_expression_that_never_ends_costs_a_second_and_not_the_night(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(OWN, encoding="utf-8")
    faults = "- {fault: structured-500, when: {prompt: cursed}, times: always}\n"
    caplog.set_level(logging.WARNING, "sdwatch.config")
    settings = {"signatures": str(own)}
    with monitored(tmp_path / "night", faults=faults, settings=settings) as spool:
        spool.drop("a.yaml", job("a cursed castle"))
        spool.drop("b.yaml", job("a castle"))
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        assert len(spool.failed()) == len(spool.done()) == 1
    told = [r.getMessage() for r in caplog.records if r.name == "sdwatch.config"]
    assert len(told) == 1, "it is given up at the first search"
    assert "own.yaml" in told[0]
    assert "took longer than 1 s" in told[0]
