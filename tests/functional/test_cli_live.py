from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from sdwatch.cli.shared.live_display import LiveShow
from sdwatch.policy.report.notice import Notice, Topic

LANE = {"name": "forge", "state": "ready", "hold": "", "cooldown_left": 0.0, "progress": {}}
STATUS: dict[str, Any] = {
    "hold": "",
    "lanes": [LANE],
    "runs": [],
    "queued": 12,
    "waiting": {"late.yaml": "still arriving"},
    "counts": {"done": 31, "failed": 2, "cancelled": 0},
}
BEGINS = Notice("run-1: begins")
HOLDS = Notice("forge: on hold: no GPU", Topic.ON_HOLD, "forge")
STEPS = {"eta_relative": 83.2, "state": {"sampling_step": 5, "sampling_steps": 20}}
RUNS = [
    {"lane": "forge", "source": "a.yaml", "doing": "waits for its turn: stage 1 of 1, call 1 of 2"},
    {"lane": "forge", "source": "b.yaml", "doing": "stage 1 of 1, call 1 of 1", "calling": True},
]


def _drawn(status: dict[str, Any], *told: Notice, width: int = 80) -> list[str]:
    show = LiveShow(lambda: status, "/render/spool")
    for notice in told:
        show.notify(notice)
    screen = io.StringIO()
    Console(file=screen, width=width).print(show._draw())
    return screen.getvalue().splitlines()


def test_steps_time_left_and_the_queue_are_drawn() -> None:
    lines = _drawn({**STATUS, "lanes": [{**LANE, "progress": STEPS}], "runs": RUNS})
    assert lines[0].startswith("sdwatch  /render/spool")
    assert lines[2].startswith("forge  ready ")
    assert "b.yaml" in lines[2]
    assert "step 5 of 20  1:23 left" in lines[3]
    assert "a.yaml" in lines[4]
    assert "queue 12   not ready 1   done 31   failed 2   cancelled 0" in lines[6]


def test_what_waits_for_its_time_is_not_counted_as_not_ready() -> None:
    waits = {"waiting": {"night.yaml": "waits until 22:00"}, "waiting_count": 1}
    lines = _drawn({**STATUS, **waits, "waiting_for_time": 1})
    assert any("queue 12   not ready 0 " in line for line in lines)


@pytest.mark.parametrize(
    "progress", [{}, {"state": None}, {"state": {"sampling_steps": 0}}, {"state": "odd"}, STEPS]
)
def test_nothing_jumps_whatever_the_webui_reports(progress: dict[str, Any]) -> None:
    busy = _drawn({**STATUS, "lanes": [{**LANE, "progress": progress}], "runs": RUNS})
    assert len(busy) == len(_drawn(STATUS))


def test_why_a_lane_holds_is_drawn() -> None:
    lane = {**LANE, "state": "cooling down", "cooldown_left": 40.0, "hold": "no GPU\nfound"}
    lines = _drawn({**STATUS, "lanes": [lane], "hold": "somebody put hold into the spool"})
    assert lines[2] == "on hold: somebody put hold into the spool"
    assert "cooling down 40 s" in lines[3]
    assert "no GPU" in lines[3]


def test_an_event_is_one_line_however_narrow_the_terminal() -> None:
    long = f"run-1: failed: castle.yaml ({'why ' * 99}\nmore)"
    told = (BEGINS, Notice(long, Topic.FAILED, "run-1", "/far/away"))
    lines = _drawn(STATUS, *told, width=60)
    assert all(len(line) <= 60 for line in lines)
    assert len(lines) == len(_drawn(STATUS)) + 2
    assert "run-1: begins" in lines[-2]


def test_before_the_monitor_is_open_there_is_something_to_read() -> None:
    before = {**STATUS, "lanes": [], "runs": []}
    assert any("another monitor" in line for line in _drawn(before))
    assert any("share gone" in line for line in _drawn({**before, "hold": "share gone"}))


def test_a_repeated_event_is_shown_once() -> None:
    lines = _drawn(STATUS, HOLDS, BEGINS, HOLDS)
    assert len(lines) == len(_drawn(STATUS)) + 2
    assert "no GPU" in lines[-1]


def test_how_to_stop_is_drawn_whole_however_long_the_path_of_the_spool() -> None:
    show = LiveShow(lambda: {**STATUS, "stopping": 29.4}, "/a/very/long/path" * 9)
    screen = io.StringIO()
    Console(file=screen, width=80).print(show._draw())
    head = screen.getvalue().splitlines()[0]
    assert head.rstrip().endswith("stopping: 29 s left, Ctrl-C stops it at once")
