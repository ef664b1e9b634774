"""The metrics, read by Prometheus' own parser."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from sdwatch.lane.crash_history_file import CrashHistoryFile
from sdwatch.policy.lane.crash_history import HistoryRecord
from sdwatch.policy.lane.instant import Instant
from sdwatch.policy.page.overview import LaneCard, MonitorCard, Overview, Presence, Totals
from sdwatch.spool.folders import Spool
from sdwatch.spool.overview_reader import OverviewReader
from sdwatch.system.clock import SystemClock
from sdwatch.web import metrics
from sdwatch.web.metrics import Metrics
from sdwatch.web.settled_runs import BUSY_OVER, SettledRuns
from tests.support.helpers import wait_until
from tests.web.served import DONE, WORKER, add_run, add_runs, served


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool", "")
    spool.prepare()
    return spool


def metrics_of(spool: Spool) -> Metrics:
    return Metrics(spool, OverviewReader(spool.root))


def parsed(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(text: str) -> dict[str, float]:
    """Each sample by its name and labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name + "".join(f" {v}" for _, v in sorted(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def heartbeat(spool: Spool, **lane: object) -> None:
    about = {"name": "sim", "url": "http://x", "managed": True, "kind": "forge", "version": "1",
             "state": "cooling down", "hold": "", "crashes_in_a_row": 2, "cooldown_left": 7.5,
             "rss": 5 * 10**9, **lane}  # fmt: skip
    beat = {"worker": WORKER, "host": "elsewhere", "pid": 1, "beat": 1, "lanes": [about],
            "at": "2026-11-28T01:30:00.000Z", "queued": 3}  # fmt: skip
    (spool.root / "working" / WORKER).mkdir(parents=True, exist_ok=True)
    (spool.root / "working" / WORKER / "heartbeat.json").write_text(json.dumps(beat), "utf-8")


def test_what_a_night_shows(spool: Spool) -> None:
    add_runs(spool)
    add_run(spool.failed / "20261128-020000.000-x-dd04", "cancelled", stage="img2img")
    heartbeat(spool, restarts={"crash": 2, "recycled": 1, "made up": 4, "also": 1}, busy=True)
    (spool.inbox / "old.yaml").write_text("prompt: x\n")
    os.utime(spool.inbox / "old.yaml", (1_700_000_000, 1_700_000_000))
    found = values(metrics_of(spool).text())
    assert found["sdwatch_jobs_total done"] == 1
    assert found["sdwatch_jobs_total failed"] == 1
    assert found["sdwatch_jobs_total cancelled"] == 1
    assert found["sdwatch_images_total"] == 2
    assert found["sdwatch_calls_total finished txt2img"] == 1
    assert found["sdwatch_calls_total failed txt2img"] == 1
    assert found["sdwatch_calls_total finished img2img"] == 1
    assert found["sdwatch_call_failures_total out of memory"] == 1
    assert found["sdwatch_call_duration_seconds_sum txt2img"] == 14
    assert found["sdwatch_call_duration_seconds_count txt2img"] == 2
    assert found["sdwatch_call_duration_seconds_bucket 5.0 txt2img"] == 0
    assert found["sdwatch_call_duration_seconds_bucket 10.0 txt2img"] == 2
    assert found["sdwatch_call_duration_seconds_bucket +Inf txt2img"] == 2
    assert found["sdwatch_lane_restarts_total crash sim"] == 2
    assert found["sdwatch_lane_restarts_total recycled sim"] == 1
    assert found["sdwatch_lane_restarts_total other sim"] == 5
    assert found["sdwatch_lane_cooldown_remaining_seconds sim"] == 7.5
    assert found["sdwatch_lane_state sim cooling down"] == 1
    assert found["sdwatch_lane_state sim ready"] == 0
    assert found["sdwatch_lane_memory_bytes sim"] == 5e9
    assert found["sdwatch_lane_busy_ratio sim"] == pytest.approx(3 * 7 / BUSY_OVER, abs=1e-4)
    assert found["sdwatch_queue_jobs"] == 3
    assert found["sdwatch_queue_oldest_age_seconds"] > 9 * 10**7
    assert found["sdwatch_spool_readable"] == 1
    assert found["sdwatch_hold"] == 0


def test_names_and_units_follow_prometheus_rules(spool: Spool) -> None:
    add_runs(spool)
    heartbeat(spool, restarts={"crash": 1})
    text = metrics_of(spool).text()
    assert text.endswith("\n")
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert len(types) > 15
    for name, kind in types.items():
        assert re.fullmatch(r"sdwatch_[a-z_]+", name)
        assert (kind == "counter") == name.endswith("_total")
        assert not re.search(r"_(ms|minutes|mb|percent|count|sum|bucket)$", name), name
        assert re.search(rf"^# HELP {name} \S", text, re.MULTILINE)
    assert types["sdwatch_call_duration_seconds"] == "histogram"
    assert {family.type for family in parsed(text).values()} <= {"counter", "gauge", "histogram"}


def test_each_run_is_read_once_and_stays_counted(spool: Spool) -> None:
    add_runs(spool)
    metrics = metrics_of(spool)
    first = values(metrics.text())
    (spool.done / DONE / "run.json").write_text("{broken")  # nobody looks at it again
    assert values(metrics.text())["sdwatch_jobs_total done"] == 1
    for path in (spool.done / DONE).rglob("*"):
        if path.is_file():
            path.unlink()
    (spool.done / DONE / "images").rmdir()
    (spool.done / DONE).rmdir()
    add_run(spool.done / "20261128-050000.000-new-aa09", "done")
    last = values(metrics.text())
    assert last["sdwatch_jobs_total done"] == first["sdwatch_jobs_total done"] + 1
    assert last["sdwatch_unreadable_runs"] == 0


def test_counts_are_left_out_until_all_runs_were_read(spool: Spool) -> None:
    for number in range(5):
        add_run(spool.done / f"20261128-05000{number}.000-new-aa09", "done")
    runs = SettledRuns(spool)
    runs.refresh(0)
    assert not runs.is_whole
    metrics = Metrics(spool, OverviewReader(spool.root), reading=0)
    assert "sdwatch_jobs_total" not in metrics.text()
    for _ in range(5):
        text = metrics.text()
    assert values(text)["sdwatch_jobs_total done"] == 5


@pytest.mark.parametrize(
    "manifest",
    [
        "", "[]", "7", "{broken", "[" * 100_000, '{"calls": 7}', '{"calls": [7]}', '{"job": "x"}',
        '{"outcome": ["x"], "webui": 7}', '{"calls": [{"call": "9.9", "attempts": [7]}]}',
        '{"outcome": {}, "calls": [{"call": {}, "attempts": [{"began": 7, "ended": "x"}]}]}',
        '{"calls": [{"call": "1.1", "attempts": [{"outcome": "\\ud800", "diagnosis": "x\\n"}]}]}',
    ],
)  # fmt: skip
def test_a_manifest_of_somebody_else_breaks_nothing(spool: Spool, manifest: str) -> None:
    add_runs(spool)
    run = spool.done / "20261128-060000.000-odd-aa07"
    run.mkdir()
    (run / "run.json").write_text(manifest, "utf-8")
    found = values(metrics_of(spool).text())
    assert found["sdwatch_jobs_total failed"] == 1
    labels = {label for key in found for label in key.split(" ")[1:]}
    assert "x" not in labels


def test_labels_have_few_values_whatever_others_write(spool: Spool) -> None:
    for number in range(60):
        run = add_run(
            spool.done / f"20261128-0600{number:02}.000-n-aa", f"o{number}", stage=f"s{number}"
        )
        manifest = json.loads((run / "run.json").read_text())
        manifest["webui"]["name"] = f"w{number}"
        manifest["calls"][0]["attempts"][0]["diagnosis"] = f"d{number}"
        (run / "run.json").write_text(json.dumps(manifest))
    lanes = tuple(LaneCard(f'l{n}\n"\\{"x" * 500}', state=f"s{n}") for n in range(500))
    overview = Overview("x", 0.0, MonitorCard(Presence.RUNNING), lanes=lanes, totals=Totals())
    text = metrics_of(spool).text(overview)
    assert len(values(text)) < 400
    assert max(map(len, text.splitlines())) < 400


def test_a_spool_that_is_gone_is_a_value_and_no_error(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "nothing", "")
    found = values(metrics_of(spool).text())
    assert found["sdwatch_spool_readable"] == 0
    assert found["sdwatch_monitor_up"] == 0
    assert "sdwatch_queue_jobs" not in found


def test_the_server_serves_them(tmp_path: Path) -> None:
    with served(tmp_path) as it:
        add_runs(it.spool)
        reply = it.get("/metrics")
        assert reply.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert values(reply.text)["sdwatch_jobs_total done"] == 1


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "EVERY", 0.05)


@pytest.mark.usefixtures("quickly")
def test_the_textfile_is_kept_and_goes_with_its_writer(spool: Spool, tmp_path: Path) -> None:
    file, stop = tmp_path / "sdwatch.prom", threading.Event()
    told: list[str] = []
    writer = threading.Thread(target=metrics.keep_textfile, args=(file, spool, stop, told.append))
    writer.start()
    try:
        wait_until(file.exists)
        add_run(spool.done / DONE, "done")

        def counted() -> bool:
            return "sdwatch_jobs_total" in file.read_text("utf-8")

        wait_until(counted)
        assert values(file.read_text("utf-8"))["sdwatch_jobs_total done"] == 1
    finally:
        stop.set()
        writer.join(60)
    assert not file.exists()
    assert not told


def record(event: str, **fields: object) -> HistoryRecord:
    return HistoryRecord(event, Instant(0, 0, "boot"), fields)


def restarts() -> Iterator[tuple[list[HistoryRecord], dict[str, int]]]:
    start, crash = record("start"), record("crash", kind="out of memory")
    yield [start], {}
    yield [start, crash, start], {"out of memory": 1}
    yield [start, crash, crash, record("stable"), start, start], {"out of memory": 1, "other": 1}
    yield [start, record("recycled", reason="x"), start], {"recycled": 1}
    yield [crash, start], {"out of memory": 1}  # adopted, and it died then


@pytest.mark.parametrize(("records", "counts"), list(restarts()))
def test_restarts_are_counted_by_their_cause(
    tmp_path: Path, records: list[HistoryRecord], counts: dict[str, int]
) -> None:
    history = CrashHistoryFile(tmp_path / "crashes.jsonl", (1.0,), SystemClock())
    for each in records:
        history.save(each)
    assert history.restarts == counts
