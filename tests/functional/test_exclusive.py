"""A call sent by hand keeps the monitors of its WebUI from sending."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdwatch.cli.shared import call_by_hand
from sdwatch.cli.shared.call_by_hand import exclusive_use
from sdwatch.spool.folders import Spool
from tests.spool.spools import made_spool


def heartbeat(spool: Spool, text: str) -> None:
    folder = spool.working
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "heartbeat.json").write_text(text, encoding="utf-8")


def beat(url: str, *, busy: bool) -> str:
    """The heartbeat of a monitor that is on hold."""
    lane = {"name": "forge", "url": url, "managed": True, "kind": "unknown", "version": ""}
    lane |= {"state": "ready", "hold": "", "crashes_in_a_row": 0, "cooldown_left": 0, "busy": busy}
    return json.dumps({"worker": "box-1", "host": "here", "hold": "paused", "lanes": [lane]})


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spool:
    monkeypatch.setattr(call_by_hand, "watched_for", lambda _: 0.3)
    return made_spool(tmp_path)


def test_a_heartbeat_that_cannot_be_read_is_waited_for_until_it_is_old(spool: Spool) -> None:
    heartbeat(spool, "{")
    with exclusive_use("http://127.0.0.1:7860", spool):
        assert (spool.root / "hold").exists(), "somebody may be behind it"
    assert not (spool.root / "hold").exists()


@pytest.mark.parametrize(
    "url", ["http://localhost:7860", "http://LOCALHOST:7860/", "http://[::1]:7860"]
)
def test_another_spelling_of_the_address_is_the_same_webui(spool: Spool, url: str) -> None:
    heartbeat(spool, beat("http://127.0.0.1:7860", busy=False))
    with exclusive_use(url, spool):
        assert (spool.root / "hold").exists()


def test_another_webui_is_not_held(spool: Spool) -> None:
    heartbeat(spool, beat("http://127.0.0.1:7861", busy=True))
    with exclusive_use("http://127.0.0.1:7860", spool):
        assert not (spool.root / "hold").exists()
