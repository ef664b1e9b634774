"""`run --once`: waits for what may end by itself, and leaves nothing behind in the inbox."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from sdwatch.monitor.monitor import Monitor
from sdwatch.monitor.once import MonitorEnd
from sdwatch.policy.report.notice import Notice
from sdwatch.system.failpoints import Failpoint
from tests.integration.test_canary import error
from tests.support.helpers import wait_until
from tests.support.monitored import job, monitored

SUSPENDED = (
    "- {{fault: device-suspended, when: {{prompt: cursed}}, times: always, opaque: {opaque}}}\n"
)


@pytest.mark.parametrize("opaque", [0, 1], ids=["in the body", "in the log alone"])
def test_a_suspended_gpu_costs_only_the_jobs_that_suspend_it(tmp_path: Path, opaque: int) -> None:
    """stable-diffusion-webui-amdgpu#22: every call fails until a restart."""
    with monitored(tmp_path, faults=SUSPENDED.format(opaque=opaque)) as spool:
        for number in range(5):
            spool.drop(f"bad-{number}.yaml", job(f"a cursed castle {number}"))
            spool.drop(f"good-{number}.yaml", job(f"a tower {number}"))
        spool.start(once=True)
        assert spool.ended(180) is MonitorEnd.EMPTY
        assert (len(spool.done()), len(spool.failed())) == (5, 5)
        assert {error(run)["diagnosis"] for run in spool.failed()} == {"poisoned"}
        assert {error(run)["blame"] for run in spool.failed()} == {"job"}


def test_a_gpu_that_fails_its_canaries_is_waited_for_until_a_restart_has_cured_it(
    tmp_path: Path,
) -> None:
    plan = "- {fault: structured-500, when: {prompt: '.'}, times: 4}\n"
    with monitored(tmp_path, faults=plan, settings={"cooldown": [0.1] * 5}) as spool:
        spool.drop("castle.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        assert len(spool.done()) == 1
        assert any("on hold" in line for line in spool.told)


def test_it_ends_once_the_cool_down_list_is_exhausted(tmp_path: Path) -> None:
    settings = {"cooldown": [0.1, 0.2]}
    with monitored(tmp_path, flags=["--crash-on-start", "3"], settings=settings) as spool:
        spool.drop("castle.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.HOLD
        assert [crash["cooldown"] for crash in spool.events("crash")] == [0.1, 0.2, 0.2]
        assert spool.waiting() == ["castle.yaml"]
        note = (spool.spool / "HOLD-sim.txt").read_text(encoding="utf-8")
        assert "sdwatch has stopped because of this hold (--once)" in note


def test_a_start_that_fails_once_is_waited_for(tmp_path: Path) -> None:
    plan = "- {fault: exit-on-start, when: {start: 1}, times: once}\n"
    with monitored(tmp_path, faults=plan) as spool:
        spool.drop("castle.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        assert len(spool.done()) == 1


def test_it_ends_at_once_where_a_person_is_needed(tmp_path: Path) -> None:
    settings = {"cooldown": [600]}
    with monitored(tmp_path, flags=["--no-model"], settings=settings) as spool:
        spool.drop("castle.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.HOLD
        assert spool.stats()["starts"] == 1
        assert spool.events("crash") == []


@pytest.mark.parametrize("name", ["late.yaml", "wrong.yaml"])
def test_a_job_that_is_dropped_just_before_the_end_is_not_left_behind(
    tmp_path: Path, name: str
) -> None:
    """No event announces it, and no scan is due for a long time."""
    settings = {"watch": "poll", "scan_interval": 3600, "unfinished_timeout": 1}
    with monitored(tmp_path, settings=settings) as spool:
        spool.drop("castle.yaml", job())
        dropped: list[Path] = []

        def drop_at_the_end(notice: Notice) -> None:
            if ": done: castle.yaml" in str(notice) and not dropped:
                dropped.append(spool.drop(name, job() if name == "late.yaml" else "[x"))

        assert Monitor(spool.config, once=True, notify=drop_at_the_end).run() is MonitorEnd.EMPTY
        assert dropped
        assert spool.waiting() == []
        assert len(spool.done() + spool.failed()) == 2


def test_with_a_persons_hold_it_ends_and_says_so(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=["--crash-on-start", "3"]) as spool:
        spool.drop("castle.yaml", job())
        spool.write_config(cooldown=[0.1] * 50)
        spool.start(once=True)
        wait_until(lambda: spool.events("crash"), 60, "the lane is on hold")
        (spool.spool / "hold").touch()
        assert spool.ended() is MonitorEnd.HOLD
        assert "everything: on hold: paused by the file hold in the spool" in spool.told


@pytest.mark.parametrize("refused", ["a claim", "an image"])
def test_what_a_disk_refuses_for_a_moment_is_tried_again_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """A virus scanner that holds a file for longer than usual, on a busy machine."""
    left = [1]

    def refuse(effect: Failpoint) -> None:
        is_image = effect.label == "write" and effect.path.parent.name == "images"
        is_claim = effect.label == "append" and effect.path.name == "journal.jsonl"
        if left[0] and (is_image if refused == "an image" else is_claim):
            left[0] -= 1
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(effect.path))

    with monitored(tmp_path) as spool:
        monkeypatch.setattr("sdwatch.system.failpoints.before", refuse)
        spool.drop("castle.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        assert left == [0]
        assert len(spool.done()) == 1


@pytest.mark.parametrize("refused", ["a claim", "an image"])
def test_what_a_disk_refuses_for_good_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    monkeypatch.setattr("sdwatch.monitor.monitor.REFUSAL_PASSES", 0.5)
    monkeypatch.setattr("sdwatch.monitor.intake.REFUSAL_PASSES", 0.5)

    def refuse(effect: Failpoint) -> None:
        is_image = effect.label == "write" and effect.path.parent.name == "images"
        is_claim = effect.label == "append" and effect.path.name == "journal.jsonl"
        if is_image if refused == "an image" else is_claim:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(effect.path))

    with monitored(tmp_path) as spool:
        monkeypatch.setattr("sdwatch.system.failpoints.before", refuse)
        spool.drop("castle.yaml", job())
        spool.start(once=True)
        result = spool.ended()
        assert result is (MonitorEnd.HOLD if refused == "an image" else MonitorEnd.EMPTY)
        assert spool.done() == spool.failed() == []
