"""A config that is edited while sdwatch runs: it is not read, and that is reported."""

from __future__ import annotations

import os
from pathlib import Path

from sdwatch.monitor.config_edits import ConfigEdits
from tests.functional.cli import sdwatch
from tests.support.helpers import wait_until
from tests.support.monitored import job, monitored

CHANGED = "has changed since sdwatch started: restart sdwatch to apply it"


def test_the_log_the_status_and_the_hold_say_that_a_restart_is_needed(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=["--auth", "me:secret"]) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        note = spool.spool / "HOLD-sim.txt"
        wait_until(note.exists, 60, "the note")
        assert CHANGED not in note.read_text(encoding="utf-8")

        spool.write_webui(username="me", password="secret")
        wanted = f"{spool.config_file} {CHANGED}"
        wait_until(lambda: wanted in note.read_text(encoding="utf-8"), 30, "the note says so")
        assert spool.told.count(wanted) == 1
        wait_until(lambda: spool.status()["config_edited"], 30, "the heartbeat has it")
        told = sdwatch(tmp_path, "status", "--config", str(spool.config_file)).stdout
        assert f"  {wanted}\n" in told
        spool.stop()

        spool.start()
        spool.wait_for(done=1)
        assert spool.status()["config_edited"] == ""


def test_only_another_content_is_an_edit(tmp_path: Path) -> None:
    file = tmp_path / "sdwatch.yaml"
    file.write_text("spool: a\n")
    edits = ConfigEdits(file)
    os.utime(file, ns=(1, 1))
    assert not edits.found(), "it was only touched"
    file.write_text("spool: b\n")
    assert edits.found()
    assert edits.found(), "as long as it is so"
    file.unlink()
    assert edits.found(), "an editor that writes it anew is no news"
    file.write_text("spool: a\n")
    assert not edits.found(), "it is as it was"
    assert not ConfigEdits(None).found()
