"""Journals that no sdwatch writes, runs that are taken away, disks that take half a line, and
internal errors: each ends where people find it, and the others continue."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sdwatch.errors import RunStoppedError
from sdwatch.monitor.once import MonitorEnd
from sdwatch.spool.run import JOURNAL, Run
from sdwatch.stages.run_end import RunEnd
from sdwatch.stages.runner import StageRunner
from sdwatch.system.failpoints import Failpoint
from tests.support.fakes import PlainClient, Workplace, envelope, picture, reply
from tests.support.helpers import FakeClock, wait_until
from tests.support.monitored import Monitored, job, journal, lines_of, monitored

AT = '"at": "2026-11-23T06:52:43.123Z"'
CLAIMED = f'{{{AT}, "event": "claimed", "source": "castle.yaml", "settled": ""}}\n'

# What stands in the journal behind `claimed`.
BROKEN = {
    "planned-without-seeds": f'{{{AT}, "event": "planned"}}',
    "seeds-no-list": f'{{{AT}, "event": "planned", "seeds": 5}}',
    "seeds-of-others": f'{{{AT}, "event": "planned", "seeds": [{{"foo": 1}}]}}',
    "seeds-too-few": f'{{{AT}, "event": "planned", "seeds": []}}',
    "seeds-no-numbers": f'{{{AT}, "event": "planned", "seeds": [{{"seed": [], "subseed": 1}}]}}',
    "started-without-call": f'{{{AT}, "event": "call_started"}}',
    "failed-with-a-text-of-seconds": (
        f'{{{AT}, "event": "call_failed", "call": "1.1", "seconds": "long"}}'
    ),
    "images-a-text": f'{{{AT}, "event": "call_finished", "call": "1.1", "images": "abc"}}',
    "images-of-others": f'{{{AT}, "event": "call_finished", "call": "1.1", "images": [{{}}]}}',
    "image-with-a-number-for-a-name": (
        f'{{{AT}, "event": "call_finished", "call": "1.1", "images": [{{"name": 5, "sha256": "", '
        '"size": 1, "width": 1, "height": 1}]}'
    ),
    "image-with-a-name-that-no-file-can-have": (
        f'{{{AT}, "event": "call_finished", "call": "1.1", "images": [{{"name": "a\\u0000b", '
        '"sha256": "", "size": 1, "width": 1, "height": 1}]}'
    ),
    "image-with-half-a-character-in-its-name": (
        f'{{{AT}, "event": "call_finished", "call": "1.1", "images": [{{"name": "\\ud800.png", '
        '"sha256": "", "size": 1, "width": 1, "height": 1}]}'
    ),
    "evidence-of-nothing": f'{{{AT}, "event": "evidence", "call": "1.1", "files": null}}',
    "evidence-without-files": f'{{{AT}, "event": "evidence", "call": "1.1"}}',
    "ended-without-outcome": f'{{{AT}, "event": "ended"}}',
}
# Not as sdwatch writes it, and yet enough to resume by.
INCOMPLETE = {
    "started-without-time": '{"event": "call_started", "call": "1.1"}',
    "failed-and-nothing-more": f'{{{AT}, "event": "call_failed", "call": "1.1"}}',
    "an-event-of-a-later-version": f'{{{AT}, "event": "call_dreamt", "call": "1.1"}}',
}
# Lines that are no record at all: a death in mid-write leaves such, and they are passed over.
TORN = {
    "brackets": "[" * 100_000,
    "half-a-line": f'{{{AT}, "event": "call_fini',
    "no-mapping": '["call_finished"]',
    "event-a-number": '{"event": 5}',
    "zeros": "\0" * 512,
}


def put_run(spool: Monitored, run_id: str, line: str) -> None:
    """A run in working/, as another sdwatch, or somebody's editor, has left it."""
    folder = spool.spool / "working" / "box-1" / run_id
    folder.mkdir(parents=True)
    (folder / "job.yaml").write_text(job())
    (folder / JOURNAL).write_text(CLAIMED + line + "\n")


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    """A start on all of them, and one good job in the inbox."""
    with pytest.MonkeyPatch.context() as patch, monitored(tmp_path_factory.mktemp("n")) as spool:
        patch.setattr("sdwatch.monitor.runs.REFUSED_FOR", 0.1)
        spool.state.mkdir()
        (spool.state / "worker").write_text("box-1")
        for name, line in {**BROKEN, **INCOMPLETE, **TORN}.items():
            put_run(spool, name, line)
        spool.drop("good.yaml", job())
        spool.start(once=True)
        with suppress(AssertionError):  # which one it is that does not end, the tests say
            wait_until(lambda: spool.result, 20)
        spool.stop()
        yield spool


@pytest.mark.parametrize("name", BROKEN)
def test_a_journal_that_nobody_of_us_writes_ends_the_run_in_failed_and_sdwatch_is_blamed(
    night: Monitored, name: str
) -> None:
    run = night.spool / "failed" / name
    assert run in night.failed()
    assert (run / "job.yaml").read_text() == job()
    error = envelope(run)
    assert (error["blame"], error["diagnosis"]) == ("sdwatch", "internal error")
    assert "Fault:     sdwatch itself" in (run / "WHY.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", BROKEN)
def test_its_why_still_names_the_source(night: Monitored, name: str) -> None:
    run = night.spool / "failed" / name
    assert "Job:       castle.yaml" in (run / "WHY.txt").read_text(encoding="utf-8")
    assert json.loads((run / "run.json").read_text(encoding="utf-8"))["source"] == "castle.yaml"


@pytest.mark.parametrize("name", INCOMPLETE)
def test_a_record_that_lacks_something_does_not_keep_a_run_from_its_end(
    night: Monitored, name: str
) -> None:
    ended = [night.spool / "done" / name, night.spool / "failed" / name]
    assert [folder.exists() for folder in ended].count(True) == 1


@pytest.mark.parametrize("name", TORN)
def test_a_line_that_is_no_record_is_passed_over(night: Monitored, name: str) -> None:
    assert night.spool / "done" / name in night.done()


def test_the_start_continues_and_ends_when_nothing_is_left(night: Monitored) -> None:
    assert night.result is MonitorEnd.EMPTY, night.told
    assert night.working() == []
    sources = [json.loads((run / "run.json").read_text())["source"] for run in night.done()]
    assert "good.yaml" in sources


# -- what somebody takes away


def stopped(*arguments: Any) -> Any:
    del arguments
    raise RunStoppedError("the monitor was stopped")


def test_a_recorded_image_that_is_gone_fails_the_run_with_its_name(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    client = PlainClient(reply(picture(1)), stopped)
    run = place.claimed(job(n_iter=2))
    assert place.runner(run, client).run_to_end(place.spool) is RunEnd.STOPPED
    (image,) = (run.folder / "images").iterdir()
    image.unlink()

    client = PlainClient()
    runner = place.runner(place.resumed(), client)
    assert runner.run_to_end(place.spool) is RunEnd.FAILED
    assert client.posts == []
    assert image.name in envelope(place.failed())["message"]
    assert image.name in (place.failed() / "WHY.txt").read_text()


def test_a_run_that_is_removed_halfway_is_reported_and_the_next_job_runs(
    tmp_path: Path,
) -> None:
    with monitored(tmp_path, flags=("--step-time", "0.1")) as spool:
        spool.drop("castle.yaml", job(n_iter=3))
        spool.start(once=True)
        spool.wait_posts(1)
        (run,) = spool.working()
        run.rename(tmp_path / "taken-away")
        spool.drop("tower.yaml", job())
        assert spool.ended() is MonitorEnd.EMPTY
        assert f"{run.name}: somebody removed its folder in working/" in spool.told
        assert [journal(r, "claimed")[0]["source"] for r in spool.done()] == ["tower.yaml"]
        assert spool.working() + spool.failed() == []
        assert not (spool.spool / "failed" / run.name).exists()
        assert (tmp_path / "taken-away" / "job.yaml").exists()


# -- half a line


@pytest.mark.parametrize("label", ["append", "sync"])
def test_nothing_remains_of_a_record_that_the_disk_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str
) -> None:
    run = Run(tmp_path, FakeClock())
    run.record("claimed", source="castle.yaml")
    before = (tmp_path / JOURNAL).read_bytes()

    def refuse(effect: Failpoint) -> None:
        if (effect.label, effect.path.name) == (label, JOURNAL):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(effect.path))

    with monkeypatch.context() as full:
        full.setattr("sdwatch.system.failpoints.before", refuse)
        with pytest.raises(OSError, match="No space"):
            run.record("call_started", call="1.1")
    assert (tmp_path / JOURNAL).read_bytes() == before
    assert not run.ledger.call("1.1").open
    run.record("call_started", call="1.2")
    run.close()
    assert [r.get("call") for r in lines_of(tmp_path / JOURNAL)] == [None, "1.2"]


SHORT_WRITE = """
import resource, sys
from pathlib import Path
from sdwatch.system.clock import SystemClock
from sdwatch.spool.run import Run

run = Run(Path(sys.argv[1]), SystemClock())
run.record("claimed", source="castle.yaml")
size = (run.folder / "journal.jsonl").stat().st_size
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))
try:
    run.record("call_started", call="1.1")
except OSError as error:
    print("refused:", error.strerror, (run.folder / "journal.jsonl").stat().st_size - size)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
run.record("call_started", call="1.2")
"""


@pytest.mark.posix_only("RLIMIT_FSIZE")
def test_nothing_remains_of_a_line_that_the_disk_takes_in_part(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SHORT_WRITE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.stdout == "refused: File too large 0\n", done.stderr
    records = lines_of(tmp_path / JOURNAL)
    assert [r["event"] for r in records] == ["claimed", "call_started"]
    assert records[1]["call"] == "1.2"


# -- sdwatch itself


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """sdwatch breaks on the job that is called `bad.yaml`; its run's id, each time."""
    seen: list[str] = []
    real: Callable[[StageRunner], Any] = StageRunner.run_stages

    def run_stages(runner: StageRunner) -> Any:
        run: Run = runner._run
        if run.source != "bad.yaml":
            return real(runner)
        seen.append(run.run_id)
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(StageRunner, "run_stages", run_stages)
    monkeypatch.setattr("sdwatch.monitor.runs.REFUSED_FOR", 0.1)
    return seen


def test_a_run_on_which_sdwatch_breaks_is_tried_once_more_and_then_fails(
    tmp_path: Path, breaks: list[str]
) -> None:
    with monitored(tmp_path) as spool:
        spool.drop("bad.yaml", job())
        spool.drop("good.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        (run,) = spool.failed()
        assert breaks == [run.name] * 2
        assert len(spool.done()) == 1
        assert envelope(run)["blame"] == "sdwatch"
        why = (run / "WHY.txt").read_text()
        assert "a mistake of ours" in why
        assert "Fault:     sdwatch itself" in why
        assert (run / "job.yaml").read_text() == job()
        assert any("suspended in working/; will resume" in line for line in spool.told)
        assert any(f"{run.name}: failed: bad.yaml" in line for line in spool.told)
