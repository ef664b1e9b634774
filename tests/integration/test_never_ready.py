"""A WebUI that does not come up: no job fails, and the cool-down is kept."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, job, monitored

COOLDOWN = [0.1, 0.2, 0.4]


def assert_cooldown_was_kept(spool: Monitored) -> None:
    """Each recorded deadline is the list's entry after its crash (written to the millisecond),
    and no start came before."""
    records = spool.crashes()
    crashes = [record for record in records if record["event"] == "crash"]
    wanted = [COOLDOWN[min(n, len(COOLDOWN) - 1)] for n in range(len(crashes))]
    assert [crash["cooldown"] for crash in crashes] == wanted
    for crash, entry in zip(crashes, wanted, strict=True):
        written = datetime.fromisoformat(crash["deadline"]).timestamp()
        assert written == pytest.approx(crash["wall"] + entry, rel=0, abs=0.002)
    deadline = 0.0
    for record in records:
        if record["event"] == "start":
            assert record["boot"] >= deadline
        else:
            deadline = record["boot"] + record["cooldown"]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--never-ready"], "not ready within 0.5 s"),
        (["--crash-on-start", "3"], "exit code 3"),
    ],
)
def test_no_job_fails_and_status_says_why(tmp_path: Path, flags: list[str], why: str) -> None:
    limit = 0.5 if flags == ["--never-ready"] else 60
    with monitored(
        tmp_path, flags=flags, settings={"cooldown": COOLDOWN}, webui={"start_limit": limit}
    ) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        wait_until(lambda: len(spool.events("crash")) >= 5, 60, "five failed starts")
        wait_until(lambda: why in spool.lane().get("hold", ""), 30, f"status says {why!r}")
        note = (spool.spool / "HOLD-sim.txt").read_text(encoding="utf-8")
        assert note.startswith("the WebUI ")
        assert why in note.splitlines()[0]
        assert note.count(why) >= 3, "each try is told"
        assert f"What to do:\n  {spool.lane()['advice']}\n" in note
        if flags != ["--never-ready"]:  # so soon it has printed nothing
            path = spool.spool / "HOLD-sim.txt"
            wait_until(lambda: "output that matter" in path.read_text("utf-8"), 20, "its lines")
        assert f"    sdwatch resume --config {spool.config_file}\n" in note
        assert spool.status()["next"] == ["castle.yaml"]
        spool.stop()

        assert spool.waiting() == ["castle.yaml"]
        assert not spool.failed() + spool.working() + spool.done()
        assert_cooldown_was_kept(spool)
        assert any(why in line for line in spool.told)
        assert not spool.processes()


def test_the_cooldown_continues_when_the_monitor_is_restarted(tmp_path: Path) -> None:
    with monitored(
        tmp_path, flags=["--crash-on-start", "1"], settings={"cooldown": COOLDOWN}
    ) as spool:
        for crashes in (2, 4):
            spool.start()
            wait_until(lambda n=crashes: len(spool.events("crash")) >= n, 60)
            spool.stop()
        assert_cooldown_was_kept(spool)


def test_jobs_resume_as_soon_as_the_webui_comes_up(tmp_path: Path) -> None:
    plan = "- fault: exit-on-start\n  when: {start: 1}\n  times: once\n"
    with monitored(tmp_path, faults=plan) as spool:
        spool.drop("castle.yaml", job())
        spool.start()
        spool.wait_for(done=1)
        assert spool.stats()["starts"] == 2
        wait_until(lambda: spool.lane()["hold"] == "", why="status says no hold any more")
