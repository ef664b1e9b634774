"""Each row of the truth table, through the real monitor; and docs/failures.md is that table."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from sdwatch.simulator.faults import GENERATION_FAULTS, START_FAULTS
from sdwatch.webui.http.client import SDWebUIClient
from tests.failures_page import page
from tests.support.helpers import wait_until
from tests.support.monitored import EXTERNAL, Monitored, job, journal, monitored
from tests.support.truth_table import (
    HOLD_ROWS,
    NOT_OF_COMFYUI,
    ROWS,
    HoldRow,
    Row,
    cases,
    hold_cases,
)
from tests.webui.comfy import MODEL
from tests.webui.kinds import CORRUPT
from tests.webui.sim import running

WINDOWS = os.name == "nt"
WEBUI = {"stop_grace": 0.5, "load_limit": 10}
DOCS = Path(__file__).parents[2] / "docs" / "failures.md"


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same roads in less time."""
    for where in (
        "webui.http.call_watch",
        "webui.process.readiness",
        "webui.http.external",
    ):
        monkeypatch.setattr(f"sdwatch.{where}.PROBE_INTERVAL_S", 0.3)
    monkeypatch.setattr("sdwatch.webui.http.health._NO_API_AFTER", 0.5)


def named(value: Row | HoldRow | str) -> str:
    return value if isinstance(value, str) else value.fault or value.seen


# -- what a job meets


def plan_of(row: Row) -> str:
    if not row.fault:
        return ""
    return f"- {{fault: {row.fault}, when: {row.when}, times: always{row.options}}}\n"


def of_kind(kind: str, root: Path) -> tuple[str, ...]:
    """The flags of a simulator of this kind."""
    if kind != "comfyui":
        return ("--kind", kind)
    (root / "comfyui" / "custom_nodes").mkdir(parents=True, exist_ok=True)
    return ("--kind", kind, "--base-directory", str(root / "comfyui"))


def named_model(kind: str) -> dict[str, Any]:
    """What a job on this kind must name: ComfyUI has no checkpoint that is loaded by itself."""
    return {"override_settings": {"sd_model_checkpoint": MODEL}} if kind == "comfyui" else {}


def job_of(row: Row, kind: str) -> str:
    if row.upscaler:
        first = "{prompt: a cursed castle, width: 64, height: 64, steps: 2}"
        return f"stages:\n- txt2img: {first}\n- upscale: {{upscaler_1: {row.upscaler}}}\n"
    return job("a cursed castle", steps=20 if row.somebody else 4, **named_model(kind) | row.fields)


class Somebody:
    """Who has the WebUI's own page open."""

    def __init__(self, spool: Monitored) -> None:
        self._spool = spool
        self._url = f"http://127.0.0.1:{spool.port}/sdapi/v1/"

    def chooses_a_bad_checkpoint(self) -> None:
        self._spool.wait_ready()
        assert requests.post(self._url + "options", json=CORRUPT, timeout=10).ok

    def presses(self, button: str) -> None:
        """While the first picture is drawn."""
        self._spool.wait_posts(1)
        wait_until(self._draws, 30, "it draws")
        assert requests.post(self._url + button, timeout=10).ok

    def _draws(self) -> bool:
        state = requests.get(self._url + "progress", timeout=10).json()["state"]
        return bool(state["sampling_step"])


@pytest.mark.parametrize(("row", "kind"), cases(), ids=named)
def test_what_becomes_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row, kind: str
) -> None:
    if row.unlisted:
        hide(monkeypatch, row.unlisted)
    slow = ("--step-time", "0.05") if row.somebody else ()
    with monitored(
        tmp_path,
        faults=plan_of(row),
        flags=(*of_kind(kind, tmp_path), *slow, *row.flags),
        # Short only where it is what ends the call: a start on a busy machine needs longer.
        webui={**WEBUI, "stall": 1 if row.diagnosis == "stuck" else 30, **row.webui},
        settings={"cooldown": [0.05]},
    ) as spool:
        meet(spool, row, kind)
        spool.wait_for(failed=int(row.fails), done=int(not row.fails))
        wait_until(lambda: starts(spool) >= 1 + row.restarts, 20, "all its restarts")
        spool.stop()
        (run,) = spool.failed() + spool.done()
        told = journal(run, "call_failed")
        assert {record["diagnosis"] for record in told} == ({row.diagnosis} if told else set())
        assert bool(told) == bool(row.diagnosis and row.posts)
        assert spool.stats()["posts"] == len(journal(run, "call_started")) == row.posts
        assert starts(spool) == len(spool.events("start")) == 1 + row.restarts
        assert len(spool.events("recycled")) == row.recycled
        if row.fails:
            assert_explained(run, row)


def hide(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The WebUI has no such list."""
    ask = SDWebUIClient.answer

    def answer(client: SDWebUIClient, path: str, timeout: float) -> tuple[int, bytes]:
        return (404, b"") if path.endswith(name) else ask(client, path, timeout)

    monkeypatch.setattr(SDWebUIClient, "answer", answer)


def meet(spool: Monitored, row: Row, kind: str) -> None:
    """Have a job meet what the row is about."""
    somebody = Somebody(spool)
    if row.somebody == "options":
        spool.start()
        somebody.chooses_a_bad_checkpoint()
        spool.drop("bad.yaml", job_of(row, kind))
        return
    spool.drop("bad.yaml", job_of(row, kind))
    spool.start()
    if row.somebody:
        somebody.presses(row.somebody)


def starts(spool: Monitored) -> int:
    """How often the simulator was started."""
    return int(spool.stats()["starts"])


def assert_explained(run: Path, row: Row) -> None:
    error: dict[str, Any] = json.loads((run / "error.json").read_text(encoding="utf-8"))
    why = (run / "WHY.txt").read_text(encoding="utf-8")
    assert (error["diagnosis"], error["blame"]) == (row.diagnosis, row.blame)
    if WINDOWS and (signal := re.fullmatch(r"killed by signal (\d+)", row.cause)):
        assert f"exit code {signal[1]}" in error["message"], "which has no advice of its own"
    else:
        assert row.cause in error["message"]
        assert row.advice in error["advice"]
    assert why.splitlines()[0] == error["message"].splitlines()[0]
    assert "cursed" not in why


# -- what puts the lane on hold


@contextmanager
def on_hold(root: Path, row: HoldRow, kind: str) -> Iterator[Monitored]:
    """A spool whose lane the row is about; its job is dropped before."""
    when = "{prompt: cursed}" if row.posts else "{start: 1}"
    plan = f"- {{fault: {row.fault}, when: {when}, times: always}}\n" if row.fault else ""
    flags = (*of_kind(kind, root), *row.flags)
    webui = {"start_limit": row.limit, "stop_grace": 1, **(EXTERNAL if row.external else {})}
    settings = {"cooldown": [0.05, 0.3]}
    with ExitStack() as life:
        spool = life.enter_context(
            monitored(root, faults=plan, flags=flags, webui=webui, settings=settings)
        )
        if row.external:
            counted = ("--state", str(root / "simulator.json"))
            life.enter_context(running(root, *flags, *counted, port=spool.port, plan=plan))
        if row.foreign:
            life.enter_context(running(root, *flags, port=spool.port))
        if row.chosen:
            spool.start()
            Somebody(spool).chooses_a_bad_checkpoint()
        spool.drop("castle.yaml", job("a cursed castle", **named_model(kind)))
        yield spool


@pytest.mark.parametrize(("row", "kind"), hold_cases(), ids=named)
def test_what_puts_the_lane_on_hold(tmp_path: Path, row: HoldRow, kind: str) -> None:
    if WINDOWS and row.fault.startswith("sig"):
        pytest.skip("Windows has no signals: such an end is an exit code, which says less")
    with on_hold(tmp_path, row, kind) as spool:
        if not row.chosen:
            spool.start()
        note = spool.spool / "HOLD-sim.txt"
        wait_until(lambda: note.exists() and row.hold in note.read_text("utf-8"), 60, row.hold)
        spool.stop()
        assert spool.stats()["posts"] == row.posts
        assert bool(spool.events("crash")) is row.crash
        assert not spool.done() + spool.failed()
        if row.posts:
            (run,) = spool.working()
            assert len(journal(run, "call_started")) == row.posts
        else:
            assert spool.waiting() == ["castle.yaml"]
        if row.external or row.foreign:
            assert starts(spool) == int(row.external)
            assert not (spool.state / "webui-sim" / "identity.json").exists(), "it started none"


def test_no_fault_of_the_simulator_is_left_out() -> None:
    shown = {row.fault for row in (*ROWS, *HOLD_ROWS) if row.fault}
    # An extension that fails costs no call; test_broken_extensions.py has these.
    quiet = {"extension-raises", "extension-not-loaded"}
    assert shown == {*GENERATION_FAULTS, *START_FAULTS} - quiet


def test_each_row_is_tried_on_a_comfyui_or_says_why_not() -> None:
    rows = (*ROWS, *HOLD_ROWS)
    tried = {row.fault for row in rows if row.fault and "comfyui" in row.on}
    assert not tried & NOT_OF_COMFYUI.keys()
    used = set()
    for row in rows:
        if "comfyui" in row.on or row.fault in tried:
            continue
        named = row.fault or row.seen
        why = [key for key in NOT_OF_COMFYUI if key == named or (not row.fault and key in named)]
        assert len(why) == 1, (row.fault, row.seen, why)
        used.update(why)
    assert used == NOT_OF_COMFYUI.keys()


def test_the_page_is_the_table() -> None:
    stale = "docs/failures.md is stale: python -m tests.failures_page"
    assert DOCS.read_text(encoding="utf-8") == page(), stale
