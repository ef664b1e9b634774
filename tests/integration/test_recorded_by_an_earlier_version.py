"""A spool and a state folder that version 0.1's tree 70059da left behind are continued by this one.

tests/recorded has them byte for byte, but for the names of a machine: `crashed` was stopped after
a call had died and two starts had failed; in `orphaned` the monitor was killed in the middle of a
call. What only a living system knows (pid, start time, boot id, clock) is filled in here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from sdwatch import system
from sdwatch.system.clock import SystemClock
from tests.support.monitored import MARK, Monitored, journal, lines_of, monitored

RECORDED = Path(__file__).parents[1] / "recorded"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Monitored]:
    with monitored(tmp_path, settings={"cooldown": [0.1, 0.2, 1.5]}) as made:
        yield made


def lay_out(place: Monitored, name: str) -> Path:
    """Copy a recorded spool and state to where `place` has its own. Return the run's folder."""
    for folder in ("spool", "state"):
        shutil.copytree(RECORDED / name / folder, place.root / folder, dirs_exist_ok=True)
    (run,) = place.working()
    return run


def change(path: Path, **values: Any) -> None:
    known = json.loads(path.read_text(encoding="utf-8"))
    assert values.keys() <= known.keys(), "the recording has no such field"
    path.write_text(json.dumps(known | values), encoding="utf-8")


def assert_continued(place: Monitored, run: Path, picture: bytes) -> Path:
    """It is in done/ with the picture it had, and the first call was not sent again."""
    place.wait_for(done=1)
    (done,) = place.done()
    assert done.name == run.name
    pictures = sorted((done / "images").iterdir())
    assert len(pictures) == 3
    assert picture in [path.read_bytes() for path in pictures]
    assert [line["call"] for line in journal(done, "call_finished")] == ["1.1", "1.2", "1.3"]
    manifest = (done / "run.json").read_text(encoding="utf-8")
    assert all(path.name in manifest for path in pictures)
    return done


@pytest.mark.parametrize("rebooted", [True, False])
def test_a_suspended_run_resumes_after_the_recorded_cool_down(
    place: Monitored, rebooted: bool
) -> None:
    run = lay_out(place, "crashed")
    picture = next((run / "images").iterdir()).read_bytes()
    clock = SystemClock()
    path = place.state / "webui-sim" / "crashes.jsonl"
    *before, last = lines_of(path)
    assert last["in_a_row"] == 3
    last |= {"wall": time.time(), "boot": clock.boot_time(), "cooldown": 1.5}
    if not rebooted:
        last["boot_id"] = system.boot_id()
    path.write_text("".join(json.dumps(line) + "\n" for line in (*before, last)), encoding="utf-8")
    place.start()
    done = assert_continued(place, run, picture)
    started = lines_of(path)[len(before) + 1]
    assert started["event"] == "start"
    assert started["boot"] - last["boot"] > 1.4, "it was started before its cool-down was over"
    (printed,) = path.parent.glob("incarnation-*.stdout.log")
    assert printed.name == "incarnation-000004.stdout.log", "after gen-000003, as it was named"
    tried = [line for line in journal(done, "call_started") if line["call"] == "1.2"]
    assert [line["attempt"] for line in tried] == [1, 2]
    assert place.stats()["posts"] == 2


def test_a_webui_that_runs_is_adopted_and_its_run_resumes(place: Monitored) -> None:
    run = lay_out(place, "orphaned")
    picture = next((run / "images").iterdir()).read_bytes()
    state = place.state / "webui-sim"
    identity = json.loads((state / "identity.json").read_text(encoding="utf-8"))
    command = json.loads(place.config_file.read_text(encoding="utf-8"))["webuis"]["sim"]["command"]
    environment = os.environ | {"SDWATCH_TOKEN": identity["token"], MARK: str(place.root)}
    with (
        (state / "gen-000001.stdout.log").open("ab") as stdout,
        (state / "gen-000001.stderr.log").open("ab") as stderr,
        subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr) as webui,
    ):
        try:
            mark = system.start_mark(webui.pid)
            change(
                state / "identity.json",
                pid=webui.pid,
                listener_pid=webui.pid,
                start_mark=mark,
                listener_mark=mark,
                boot_id=system.boot_id(),
            )
            place.start()
            done = assert_continued(place, run, picture)
            assert psutil.Process(webui.pid).is_running()
            assert place.webui_pid() == webui.pid
            assert place.stats()["starts"] == 1
            assert journal(done, "call_started")[-1]["attempt"] == 1
            assert not [*state.glob("incarnation-*")], "it still writes where it did"
        finally:
            webui.kill()
