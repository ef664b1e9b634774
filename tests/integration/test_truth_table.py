"""Each row of the truth table, through the real monitor; and docs/failures.md is that table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.failures_page import page
from tests.helpers import wait_until
from tests.monitored import job, journal, monitored
from tests.truth_table import Row, StartRow, cases, start_cases

WEBUI = {"stall": 1.5, "stop_grace": 1, "load_limit": 10}
CHECKPOINT = {"sd_model_checkpoint": "simulated-a"}
DOCS = Path(__file__).parents[2] / "docs" / "failures.md"


@pytest.mark.parametrize(
    ("row", "kind"), cases(), ids=lambda value: value.fault if isinstance(value, Row) else value
)
def test_what_becomes_of_it(tmp_path: Path, row: Row, kind: str) -> None:
    plan = f"- fault: {row.fault}\n  when: {{prompt: cursed}}\n  times: always\n"
    with monitored(
        tmp_path,
        faults=plan,
        flags=("--kind", kind),
        webui=WEBUI,
        settings={"cooldown": [0.05]},
    ) as spool:
        fields = {"override_settings": CHECKPOINT} if row.fault == "wrong-model" else {}
        spool.drop("bad.yaml", job("a cursed castle", steps=4, **fields))
        spool.start()
        spool.wait_for(failed=int(row.fails), done=int(not row.fails))
        spool.stop()
        (run,) = spool.failed() + spool.done()
        stats = spool.stats()
        told = journal(run, "call_failed")
        assert {record["diagnosis"] for record in told} == ({row.diagnosis} if told else set())
        assert stats["posts"] == len(journal(run, "call_started")) == row.posts
        assert len(spool.events("start")) - 1 >= row.restarts
        if row.fails:
            error = json.loads((run / "error.json").read_text(encoding="utf-8"))
            why = (run / "WHY.txt").read_text(encoding="utf-8")
            assert (error["diagnosis"], error["blame"]) == (row.diagnosis, row.blame)
            assert row.cause in error["message"]
            assert row.advice in error["advice"]
            assert why.splitlines()[0] == error["message"].splitlines()[0]
            assert "cursed" not in why


@pytest.mark.parametrize(
    ("row", "kind"),
    start_cases(),
    ids=lambda value: value.fault if isinstance(value, StartRow) else value,
)
def test_what_becomes_of_a_start(tmp_path: Path, row: StartRow, kind: str) -> None:
    faults = "" if row.flags else f"- fault: {row.fault}\n  when: {{start: 1}}\n  times: always\n"
    with monitored(
        tmp_path,
        faults=faults,
        flags=("--kind", kind, *row.flags),
        webui={"start_limit": row.limit, "stop_grace": 1},
        settings={"cooldown": [0.05, 0.3]},
    ) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        note = spool.spool / "HOLD-sim.txt"
        wait_until(lambda: note.exists() and row.hold in note.read_text("utf-8"), 60, row.hold)
        spool.stop()
        assert spool.stats()["posts"] == 0
        assert spool.waiting() == ["castle.yaml"]


def test_the_page_is_the_table() -> None:
    assert DOCS.read_text(encoding="utf-8") == page()
