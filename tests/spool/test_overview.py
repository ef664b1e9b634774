"""How a spool stands, read from its folders by another client of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdwatch.policy.page import page
from sdwatch.policy.page.expected import RunTimes
from sdwatch.policy.page.from_status import queue_of, totals_of
from sdwatch.policy.page.overview import Overview, Presence, as_json
from sdwatch.spool import shown_runs
from sdwatch.spool.archive import claim, publish
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import HEARTBEAT, Heartbeat
from sdwatch.spool.overview_reader import OverviewReader
from sdwatch.spool.run import Run
from sdwatch.spool.shown_runs import EndedRuns
from sdwatch.system.clock import iso
from tests.spool.spools import arrival_of, call, made_spool, picture
from tests.support.helpers import FakeClock

STATUS: dict[str, Any] = {
    "at": "2026-09-21T14:13:20.000Z",
    "hold": "",
    "counts": {},
    "lanes": [
        {
            "name": "forge", "url": "http://127.0.0.1:7860", "managed": True, "kind": "forge",
            "version": "f2.0.1", "state": "ready", "hold": "", "crashes_in_a_row": 0,
            "cooldown_left": 0.0, "busy": True,
        }
    ],
    "runs": [
        {
            "run_id": "R1", "lane": "forge", "doing": "stage 1 of 1", "source": "a.yaml",
            "calling": True, "place": {"kind": "txt2img", "stage": 1, "stages": 1, "call": 1,
                                       "calls": 2},
            "progress": {"step": 3, "steps": 20, "percent": 15, "eta": 12.5},
        },
        {"run_id": "R2", "lane": "", "doing": "waits", "source": "b.yaml"},
    ],
    "queued": 3,
    "queue": [
        {"source": "c.yaml", "priority": 2, "arrived": 1000.0, "calls": 1},
        {"source": "d.yaml", "priority": 0, "arrived": 900.0, "calls": None},
    ],
    "waiting": {"e.yaml": "still arriving"},
    "waiting_count": 7,
    "ignored": {"f.yaml.txt": "rename it to f.yaml"},
    "ignored_count": 1,
}  # fmt: skip


def finished(spool: Spool, clock: FakeClock, name: str, outcome: str = "done") -> Path:
    """A run that was claimed, made an image in 20 s after a crash of 10 s, and ended."""
    arrival = arrival_of(spool, clock, name)
    run = claim(arrival, spool, clock)
    assert run is not None
    run.record("call_started", call="1.1", attempt=1, incarnation=1)
    clock.wall_now += 10
    run.record("call_failed", call="1.1", seconds=10.0, crashed=True, diagnosis="crash")
    clock.wall_now += 30
    run.record("call_started", call="1.1", attempt=2, incarnation=2)
    clock.wall_now += 20
    run.finish_call(call(), [picture()], 0, seconds=20.0, warnings=["odd"])
    return publish(run, spool, outcome, None)


def beat(spool: Spool, **fields: Any) -> None:
    """A heartbeat of another machine."""
    about = {"worker": spool.worker, "host": "elsewhere", "pid": 1, "beat": 1, "every": 1.0}
    path = spool.working / HEARTBEAT
    path.write_text(json.dumps({**about, **STATUS, **fields}), encoding="utf-8")


def test_a_spool_without_a_monitor_shows_what_waits_in_its_order(spool: Spool) -> None:
    for number, name in enumerate(("b.yaml", "a.yaml", "c.yaml")):
        (spool.inbox / name).write_text("prompt: x\n")
        os.utime(spool.inbox / name, (2000 - number, 2000 - number))
    (spool.inbox / "castle.yaml.txt").write_text("prompt: x\n")
    found = OverviewReader(spool.root).read(patient=True)
    assert found.monitor.presence is Presence.STOPPED
    assert [job.source for job in found.queue] == ["c.yaml", "a.yaml", "b.yaml"]
    assert [near.source for near in found.near_misses] == ["castle.yaml.txt"]
    assert found.totals.queued == 3


def test_what_has_ended_is_read_from_its_folders(spool: Spool) -> None:
    clock = FakeClock()
    done = finished(spool, clock, "castle.yaml")
    failed = finished(spool, clock, "tower.yaml", "failed")
    (failed / "WHY.txt").write_text("The GPU is on fire.\n\nMore.\n", encoding="utf-8")
    (failed / "error.json").write_text(json.dumps({"blame": "machine", "diagnosis": "crash"}))
    found = OverviewReader(spool.root, clock).read(patient=True)
    (card,) = found.done
    assert (card.run_id, card.folder) == (done.name, f"done/{done.name}")
    assert (card.source, card.images, card.warnings, card.seconds) == ("castle.yaml", 1, 1, 60.0)
    assert card.documented
    (thumbnail,) = card.thumbnails
    assert (spool.root / thumbnail.path).is_file()
    assert (spool.root / thumbnail.image).is_file()
    (card,) = found.failed
    assert (card.why, card.blame, card.explained) == ("The GPU is on fire.", "machine", True)
    counts = found.counts
    assert (counts.done, counts.failed, counts.images) == (1, 1, 2)
    assert (counts.crashes, counts.lost, counts.whole) == (2, 80.0, True)


def test_the_heartbeat_of_a_monitor_that_runs_says_the_rest(spool: Spool) -> None:
    clock = FakeClock()
    finished(spool, clock, "castle.yaml")
    reader = OverviewReader(spool.root, clock)
    beat(spool)
    assert reader.read().monitor.presence is Presence.NOT_KNOWN
    beat(spool, beat=2)
    found = reader.read()
    assert found.monitor.presence is Presence.RUNNING
    assert (found.lanes[0].name, found.lanes[0].busy) == ("forge", True)
    assert found.active[0].progress.eta == 12.5
    assert (found.active[0].stage, found.active[0].calls) == ("txt2img", 2)
    assert [job.source for job in found.queue] == ["c.yaml", "d.yaml"]
    assert found.totals.queued == 2  # the third is suspended
    assert found.totals.waiting == 7
    # 12.5 s, one more call at the same pace, the run that resumes, and then the queue.
    assert [round(job.starts_in or 0, 1) for job in found.queue] == [47.2, 67.2]
    assert round(found.queue_ends_in or 0, 1) == 87.2


def test_a_monitor_of_another_machine_is_gone_when_its_heartbeat_stands_still(spool: Spool) -> None:
    clock = FakeClock()
    reader = OverviewReader(spool.root, clock)
    beat(spool)
    reader.read()
    beat(spool, beat=2)
    assert reader.read().monitor.presence is Presence.RUNNING
    clock.advance(4.9)
    assert reader.read().monitor.presence is Presence.RUNNING
    clock.advance(0.2)
    found = reader.read()
    assert found.monitor.presence is Presence.GONE
    assert found.monitor.host == "elsewhere"
    assert found.monitor.seen_at == 1_790_000_000.0
    assert found.queue_ends_in is None


def test_a_monitor_of_this_machine_whose_process_has_ended_is_gone_at_once(spool: Spool) -> None:
    Heartbeat(spool).beat(STATUS)
    assert OverviewReader(spool.root).read(patient=True).monitor.presence is Presence.RUNNING
    text = (spool.working / HEARTBEAT).read_text()
    dead = json.loads(text) | {"pid": 2**31 - 2}
    (spool.working / HEARTBEAT).write_text(json.dumps(dead))
    assert OverviewReader(spool.root).read(patient=True).monitor.presence is Presence.GONE


@pytest.mark.parametrize("text", ["", "{", "[]", '{"worker": 7}', "[" * 100_000, "\0" * 50])
def test_a_heartbeat_that_cannot_be_read_is_no_reason_to_say_that_it_is_gone(
    spool: Spool, text: str
) -> None:
    (spool.working / HEARTBEAT).write_text(text)
    assert OverviewReader(spool.root).read(patient=True).monitor.presence is Presence.NOT_KNOWN


def test_runs_of_a_monitor_that_is_gone_are_shown_as_suspended(spool: Spool) -> None:
    clock = FakeClock()
    arrival = arrival_of(spool, clock)
    run = claim(arrival, spool, clock)
    assert run is not None
    run.close()
    found = OverviewReader(spool.root).read(patient=True)
    assert [(each.source, each.lane) for each in found.active] == [("castle.yaml", "")]
    assert found.active[0].folder == f"working/{spool.worker}/{run.run_id}"
    assert found.totals.suspended == 1


def test_the_runs_of_another_worker_are_left_behind(spool: Spool) -> None:
    clock = FakeClock()
    other = made_spool(spool.root.parent, worker="box-2")
    run = claim(arrival_of(other, clock), other, clock)
    assert run is not None
    run.close()
    found = OverviewReader(spool.root, clock).read({**STATUS, "worker": spool.worker})
    assert [(left.worker, left.runs) for left in found.left_behind] == [("box-2", 1)]


def test_a_share_that_is_gone_is_said(tmp_path: Path) -> None:
    for root in (tmp_path / "never", tmp_path):
        found = OverviewReader(root).read(patient=True)
        assert found.gone
        assert found.monitor.presence is Presence.STOPPED


def test_a_hold_file_is_named(spool: Spool) -> None:
    (spool.root / "hold.txt").touch()
    assert OverviewReader(spool.root).read(patient=True).hold_file == "hold.txt"


def _nothing(run: Path) -> None:
    shutil.rmtree(run)
    run.mkdir()


def _a_broken_journal(run: Path) -> None:
    (run / "journal.jsonl").write_text('{"event": "call_finished"}\n[]\n"x"\n{"event": 7}\n{')


def _an_odd_journal(run: Path) -> None:
    lines = [
        {"event": "claimed", "at": 7, "source": ["x"]},
        {"event": "call_finished", "call": "1.1", "images": [], "seconds": "x", "warnings": "y"},
        {"event": "ended", "outcome": {"x": 1}, "at": "0000-00-00T99:00:00Z"},
    ]
    (run / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _an_end_in_the_last_second_that_has_a_date(run: Path) -> None:
    line = {"event": "ended", "outcome": "failed", "at": "9999-12-31T23:59:59-12:00"}
    (run / "journal.jsonl").write_text(json.dumps(line) + "\n")


def _an_end_in_the_first_year(run: Path) -> None:
    line = {"event": "ended", "outcome": "failed", "at": "0001-01-01T00:00:00+14:00"}
    (run / "journal.jsonl").write_text(json.dumps(line) + "\n")


def _links_in_place_of_files(run: Path) -> None:
    for name in ("WHY.txt", "error.json", "journal.jsonl"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to("/dev/zero")


def _an_envelope_that_is_none(run: Path) -> None:
    (run / "error.json").write_text("[" * 100_000)
    (run / "WHY.txt").write_bytes(b"\xff\xfe\x1b[31m" * 5000)


def _folders_in_place_of_files(run: Path) -> None:
    for name in ("WHY.txt", "error.json"):
        (run / name).unlink(missing_ok=True)
        (run / name).mkdir()


@pytest.mark.parametrize(
    "damage",
    [
        _nothing,
        _a_broken_journal,
        _an_odd_journal,
        _an_end_in_the_last_second_that_has_a_date,
        _an_end_in_the_first_year,
        pytest.param(_links_in_place_of_files, marks=pytest.mark.posix_only("links")),
        _an_envelope_that_is_none,
        _folders_in_place_of_files,
    ],
)
def test_whatever_somebody_did_to_one_run_the_others_are_shown(
    spool: Spool, damage: Callable[[Path], None]
) -> None:
    clock = FakeClock()
    damage(finished(spool, clock, "odd.yaml", "failed"))
    finished(spool, clock, "good.yaml", "failed")
    found = OverviewReader(spool.root, clock).read(patient=True)
    assert "good.yaml" in [run.source for run in found.failed]
    assert len(found.failed) == 2
    for run in found.failed:
        assert len(run.why) <= 400
        assert "\x1b" not in run.why
    assert "good.yaml" in page.whole(found)
    assert "good.yaml" in json.dumps(as_json(found))


def test_a_job_with_a_time_that_no_calendar_has_breaks_no_page(spool: Spool) -> None:
    beat(spool, queue=[{"source": "a.yaml", "arrived": 1e12, "priority": 0, "calls": 1}])
    found = OverviewReader(spool.root, FakeClock()).read()
    assert "a.yaml" in page.whole(found)
    assert json.loads(json.dumps(as_json(found)))["queue"][0]["arrived_at"].startswith("9999-")


# -- cheap


def test_a_run_that_has_ended_is_read_once(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    opened = counting(monkeypatch)
    finished(spool, clock, "one.yaml")
    reader = OverviewReader(spool.root, clock)
    for _ in range(3):
        reader.read(patient=True)
        clock.advance(100)
    assert len(opened) == 1
    finished(spool, clock, "two.yaml")
    assert names(reader.read(patient=True)) == ["two.yaml", "one.yaml"]
    assert len(opened) == 2


def test_a_run_that_was_removed_is_no_longer_shown(spool: Spool) -> None:
    clock = FakeClock()
    old = finished(spool, clock, "one.yaml")
    finished(spool, clock, "two.yaml")
    reader = OverviewReader(spool.root, clock)
    assert len(reader.read(patient=True).done) == 2
    shutil.rmtree(old)
    found = reader.read(patient=True)
    assert names(found) == ["two.yaml"]
    assert (found.totals.done, found.counts.done) == (1, 1)


def test_of_ten_thousand_old_runs_only_the_newest_are_read(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = counting(monkeypatch)
    for number in range(10_000):
        (spool.done / f"20200101-000000.{number % 1000:03}-job-{number:04x}").mkdir()
    clock = FakeClock()
    finished(spool, clock, "tonight.yaml")
    found = OverviewReader(spool.root, clock).read(patient=True)
    assert found.totals.done == 10_001
    assert names(found)[0] == "tonight.yaml"
    assert len(opened) < 100


def test_a_job_that_no_webui_can_do_is_not_said_to_start() -> None:
    queue = [{"source": name, "calls": 1} for name in ("a.yaml", "b.yaml")]
    status = {"queue": queue, "queued": 2, "waiting": {"a.yaml": "no checkpoint nope"}}
    assert [job.source for job in queue_of(status, RunTimes())] == ["b.yaml"]
    totals = totals_of(status, done=0, failed=0)
    assert (totals.queued, totals.waiting) == (1, 1)


def test_a_slow_share_does_not_keep_the_rest_of_the_page_waiting(spool: Spool) -> None:
    clock = FakeClock()
    for name in ("one.yaml", "two.yaml", "three.yaml"):
        finished(spool, clock, name)
        clock.wall_now += 1
    runs = EndedRuns(spool.done, clock)
    runs.refresh(0)
    assert [run.card.source for run in runs.newest(9)] == ["three.yaml"]
    assert not runs.is_whole
    runs.refresh(0)
    runs.refresh(0)
    assert runs.is_whole
    assert [run.card.source for run in runs.newest(2)] == ["three.yaml", "two.yaml"]


def names(found: Overview) -> list[str]:
    return [run.source for run in found.done]


def counting(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The runs that are opened to be read, from now on."""
    opened: list[Path] = []

    def opening(folder: Path, clock: FakeClock) -> Run:
        opened.append(folder)
        return Run(folder, clock)

    monkeypatch.setattr(shown_runs, "Run", opening)
    return opened


def test_the_time_of_the_fake_clock_is_the_one_of_these_tests() -> None:
    assert iso(FakeClock().wall()) == STATUS["at"]


def crashed(spool: Spool, clock: FakeClock, name: str) -> Run:
    """A run in working/ whose first call has crashed the WebUI after 10 s."""
    run = claim(arrival_of(spool, clock, name), spool, clock)
    assert run is not None
    run.record("call_started", call="1.1", attempt=1, incarnation=1)
    clock.wall_now += 10
    run.record("call_failed", call="1.1", seconds=10.0, crashed=True, diagnosis="crash")
    return run


def test_a_crash_counts_from_the_crash_on_and_not_from_the_end_of_its_run(spool: Spool) -> None:
    clock = FakeClock()
    run = crashed(spool, clock, "castle.yaml")
    reader = OverviewReader(spool.root, clock)

    def counts(later: float) -> tuple[int, float]:
        clock.wall_now += later
        found = reader.read({**STATUS, "worker": spool.worker, "at": iso(clock.wall())}).counts
        return found.crashes, found.lost

    assert counts(0) == (1, 10.0)
    assert counts(30) == (1, 40.0)
    run.record("call_started", call="1.1", attempt=2, incarnation=2)
    assert counts(500) == (1, 40.0)
    run.finish_call(call(), [picture()], 0, seconds=20.0)
    publish(run, spool, "done", None)
    assert counts(500) == (1, 40.0)


def test_while_no_monitor_runs_nothing_more_is_lost_to_a_crash(spool: Spool) -> None:
    clock = FakeClock()
    run = crashed(spool, clock, "castle.yaml")
    run.close()
    clock.wall_now += 3600
    found = OverviewReader(spool.root, clock).read()
    assert (found.counts.crashes, found.counts.lost) == (1, 10.0)
    assert [(each.source, each.run_id) for each in found.active] == [("castle.yaml", run.run_id)]


def test_calls_of_the_first_job_are_a_history_before_it_ends(spool: Spool) -> None:
    clock = FakeClock()
    run = claim(arrival_of(spool, clock, "grid.yaml"), spool, clock)
    assert run is not None
    run.record("planned", job_id="x", seeds=[])
    reader = OverviewReader(spool.root, clock)
    size = {"stage": "txt2img", "pixels": 8 * 16, "steps": None, "pictures": 1}
    queue = [{"source": "c.yaml", "calls": 6, "points": 3, "sizes": [{**size, "calls": 6.0}]}]
    status = {**STATUS, "worker": spool.worker, "runs": [], "queue": queue, "queued": 1}
    assert not reader.read(status).has_history
    run.finish_call(call(), [picture()], 0, seconds=20.0)
    found = reader.read(status)
    assert found.has_history
    assert (found.queue[0].takes, found.queue[0].points) == (120.0, 3)


def test_points_that_failed_are_read_from_the_envelope(spool: Spool) -> None:
    failed = finished(spool, FakeClock(), "grid.yaml", "failed")
    listed = [{"number": n, "values": f"animal = {n}", "diagnosis": "crash"} for n in range(1, 40)]
    odd = [7, None, {"number": "x"}, {"number": 50, "values": ["no"], "diagnosis": None}]
    (failed / "error.json").write_text(json.dumps({"failed_points": [*listed, *odd]}))
    (card,) = OverviewReader(spool.root, FakeClock()).read(patient=True).failed
    assert card.points_failed == 40
    assert (card.failed_points[0].number, card.failed_points[0].values) == (1, "animal = 1")
    assert len(card.failed_points) == 12
