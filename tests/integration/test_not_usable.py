"""A WebUI that only a person can make usable: on hold, asked again, no crash."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_foreign_port_owner import foreign_owner
from tests.support.helpers import wait_until
from tests.support.monitored import EXTERNAL, Monitored, job, monitored
from tests.webui.sim import launch

OFTEN = {"interval": 0.5, "timeout": 5, "failures": 100}
LONG = [0.1, 0.1, 600]
"""A cool-down that no test waits out: what resumes has not waited for its end."""


def wait_on_hold(spool: Monitored, why: str) -> None:
    wait_until(lambda: why in spool.lane().get("hold", ""), 60, f"on hold: {why}")


def rounds(spool: Monitored) -> None:
    """Let it do what it should not."""
    for _ in range(2):
        spool.two_more_beats()


@contextmanager
def held(root: Path, why: str, **more: Any) -> Iterator[Monitored]:
    """A spool with one job, whose lane is on hold for this reason."""
    with monitored(root, settings={"cooldown": LONG}, **more) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        wait_on_hold(spool, why)
        yield spool
        spool.stop()


def assert_no_crash(spool: Monitored) -> None:
    assert spool.events("crash") == []
    assert spool.stats()["posts"] == len(spool.done())
    assert not spool.failed()


# -- ours, and it answers


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--auth", "me:secret"], "user name"),
        (["--no-model"], "no checkpoint"),
        (["--kind", "a1111", "--no-model"], "no checkpoint"),
    ],
)
def test_it_is_started_once_left_running_and_asked_again(
    tmp_path: Path, flags: list[str], why: str
) -> None:
    with held(tmp_path, why, flags=flags, webui={"health": OFTEN}) as spool:
        pid = spool.webui_pid()
        rounds(spool)
        assert spool.lane()["state"] == "not usable"
        assert spool.lane()["crashes_in_a_row"] == 0
        assert spool.stats()["starts"] == 1
        assert spool.webui_pid() == pid
        assert pid in {process.pid for process in spool.processes()}
        assert spool.waiting() == ["castle.yaml"]
        assert sum(f"on hold: {spool.lane()['hold']}" in line for line in spool.told) == 1
        note = (spool.spool / "HOLD-sim.txt").read_text(encoding="utf-8")
        assert why in note.splitlines()[0]
        assert_no_crash(spool)
    assert not spool.processes(), "a stop still ends it"


def test_it_resumes_once_a_model_is_there(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    flags = ["--model-file", str(model)]
    with held(tmp_path, "no checkpoint", flags=flags, webui={"health": OFTEN}) as spool:
        pid = spool.webui_pid()
        model.touch()
        spool.wait_for(done=1)
        assert (spool.webui_pid(), spool.stats()["starts"]) == (pid, 1)
        wait_until(lambda: spool.lane()["hold"] == "", 30, "no hold any more")
        assert_no_crash(spool)


def test_a_password_that_is_put_into_the_config_ends_the_hold_at_the_next_start_of_sdwatch(
    tmp_path: Path,
) -> None:
    webui = {"health": OFTEN, "leave_running": True}
    with held(tmp_path, "user name", flags=["--auth", "me:secret"], webui=webui) as spool:
        spool.stop()
        spool.write_webui(username="me", password="secret")
        spool.start()
        spool.wait_for(done=1)
        assert spool.stats()["starts"] == 1, "it was adopted"
        assert_no_crash(spool)


def test_an_unusable_webui_of_an_earlier_monitor_is_adopted_and_not_restarted(
    tmp_path: Path,
) -> None:
    webui = {"health": OFTEN, "leave_running": True}
    model = tmp_path / "model.safetensors"
    flags = ["--model-file", str(model)]
    with held(tmp_path, "no checkpoint", flags=flags, webui=webui) as spool:
        pid = spool.webui_pid()
        spool.stop()
        spool.start()
        wait_until(lambda: spool.lane().get("state") == "not usable", 60, "on hold again")
        assert (spool.webui_pid(), spool.stats()["starts"]) == (pid, 1)
        model.touch()
        spool.wait_for(done=1)
        assert spool.stats()["starts"] == 1
        assert_no_crash(spool)


def test_a_webui_that_dies_on_hold_has_crashed_and_is_restarted(
    tmp_path: Path,
) -> None:
    with held(tmp_path, "no checkpoint", flags=["--no-model"], webui={"health": OFTEN}) as spool:
        for process in spool.processes():
            process.kill()
        wait_until(lambda: spool.stats()["starts"] == 2, 60, "it is started again")
        wait_until(lambda: spool.lane()["state"] == "not usable", 60, "on hold again")
        assert [crash["kind"] for crash in spool.events("crash")] == ["crash"]


# -- ours, and nothing runs


def test_a_taken_port_is_no_crash_and_the_hold_ends_when_the_port_is_free(tmp_path: Path) -> None:
    with monitored(tmp_path, settings={"cooldown": LONG}) as spool:
        with foreign_owner(spool.port) as foreign:
            spool.drop("castle.yaml", job())
            spool.start()
            wait_on_hold(spool, "is taken by")
            rounds(spool)
            assert_no_crash(spool)
            assert spool.stats()["starts"] == 0
            assert foreign.poll() is None
        spool.wait_for(done=1)
        assert spool.stats()["starts"] == 1
        assert_no_crash(spool)


def test_a_missing_working_folder_is_no_crash_and_the_hold_ends_when_it_is_there(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "webui"
    with held(
        tmp_path,
        "webui does not exist: set `cwd` to the folder of the WebUI",
        webui={"cwd": str(folder)},
    ) as spool:
        rounds(spool)
        assert_no_crash(spool)
        folder.mkdir()
        spool.wait_for(done=1)
        assert_no_crash(spool)


def test_a_webui_that_ends_because_of_its_setup_is_retried_with_growing_pauses(
    tmp_path: Path,
) -> None:
    script = tmp_path / "webui.py"
    script.write_text(
        "import sys; sys.exit(print('RuntimeError: Torch is not able to use GPU') or 1)"
    )
    command = [sys.executable, str(script)]
    with held(tmp_path, "did not start", webui={"command": command}) as spool:
        wait_until(lambda: len(spool.events("start")) == 3, 60, "it is tried again")
        first, second, third = (record["boot"] for record in spool.events("start"))
        assert second - first >= 2
        assert third - second >= 5
        assert spool.events("crash") == []
        wait_until(lambda: not spool.processes(), 60, "the third one has ended, too")


def test_a_release_has_it_tried_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdwatch.policy.lane.lane_hold._ASKED_AGAIN", (600.0,))
    folder = tmp_path / "webui"
    with held(
        tmp_path,
        "webui does not exist: set `cwd` to the folder of the WebUI",
        webui={"cwd": str(folder)},
    ) as spool:
        note = spool.spool / "HOLD-sim.txt"
        wait_until(note.exists, 30, "the note")
        folder.mkdir()
        note.unlink()
        spool.wait_for(done=1)


# -- not ours


def test_an_external_one_that_refuses_for_long_is_no_crash_and_is_soon_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdwatch.webui.http.external.PATIENCE", 0.5)
    webui = {**EXTERNAL, "health": OFTEN}
    with held(tmp_path, "refused", webui=webui) as spool:
        rounds(spool)
        assert spool.lane()["cooldown_left"] == 0
        assert spool.events("crash") == []
        sim = launch(tmp_path, "--state", str(tmp_path / "simulator.json"), port=spool.port)
        try:
            spool.wait_for(done=1)
            assert_no_crash(spool)
        finally:
            sim.process.kill()
            sim.process.wait()


def test_an_outage_of_an_external_one_is_one_crash_however_long_it_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdwatch.webui.http.external.PATIENCE", 0.5)
    webui = {**EXTERNAL, "health": {**OFTEN, "failures": 2}}
    with monitored(tmp_path, settings={"cooldown": LONG}, webui=webui) as spool:
        for outage in (1, 2):
            sim = launch(tmp_path, port=spool.port)
            if outage == 1:
                spool.start()
            try:
                wait_until(lambda: spool.lane().get("state") == "ready", 60, "it is ready")
            finally:
                sim.process.kill()
                sim.process.wait()
            wait_on_hold(spool, "refused")
            rounds(spool)
            assert len(spool.events("crash")) == outage
            if outage == 1:
                assert spool.lane()["cooldown_left"] == 0
        spool.stop()
