"""Names and files that nobody expects: none blocks, none is followed, none takes another job down,
and a good job ends in done/ whatever it is called."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdwatch.errors import JobError
from sdwatch.monitor.once import MonitorEnd
from sdwatch.policy.job.job import Job
from sdwatch.spool import archive, back_to_inbox, candidates, job_reader
from sdwatch.spool.folders import Spool
from sdwatch.spool.run import read_bounded
from sdwatch.stages.run_end import RunEnd
from tests.spool.spools import JOB, folder_job, inbox_of, settled
from tests.support.fakes import PlainClient, Workplace
from tests.support.helpers import FakeClock
from tests.support.monitored import Monitored, job, journal, monitored

ODD = {
    "newline": "two\nlines.yaml",
    "escape": "\x1b[31mred\x07.yaml",
    "dash": "--help.yaml",
    "255 bytes": "n" * 250 + ".yaml",
    "spaces": "  a castle  .yaml",
    "composed": "caf\u00e9.yaml",
    "decomposed": "cafe\u0301.yaml",
    "lower case": "tower.yaml",
    "upper case": "TOWER.YAML",
    "quotes": "a\"b'c`$(id).yaml",
    "right to left": "\u202egpj.yaml",
    "only a sign": "%.yml",
}
if sys.platform == "win32":
    del ODD["upper case"]  # the same file as the one in lower case
    ODD = {why: name for why, name in ODD.items() if not re.search(r'[\x00-\x1f<>:"/\\|?*]', name)}
else:
    ODD["not UTF-8"] = os.fsdecode(b"caf\xe9-\xff.yaml")
SECRET = "prompt: the text of another file\n"


def sources(spool: Spool, clock: FakeClock) -> list[str]:
    return sorted(arrival.source for arrival in settled(inbox_of(spool, clock), clock))


def manifest(run: Path) -> dict[str, Any]:
    """Also a proof that run.json is UTF-8 and JSON."""
    value: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return value


def texts_below(folder: Path) -> str:
    """All plain files below a folder, as one text; links are not followed."""
    files = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    return "\n".join(p.read_bytes().decode("utf-8", "replace") for p in files)


# -- names, through a real monitor


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    """For each odd name a good job, and in `bad` a broken one."""
    with monitored(tmp_path_factory.mktemp("night")) as spool:
        (spool.inbox / "bad").mkdir()
        for name in ODD.values():
            (spool.inbox / name).write_text(job())
            (spool.inbox / "bad" / name).write_text("step: 2\n")
        spool.start(once=True)
        assert spool.ended(90) is MonitorEnd.EMPTY
        yield spool


def run_of(runs: list[Path], source: str) -> Path:
    (run,) = [run for run in runs if manifest(run)["source"] == source]
    return run


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
def test_a_good_job_is_done_under_any_name_and_its_journal_names_the_source(
    night: Monitored, name: str
) -> None:
    run = run_of(night.done(), name)
    assert journal(run, "claimed")[0]["source"] == name
    assert journal(run, "ended")[0]["outcome"] == "done"
    assert (run / "job.yaml").read_text() == job()
    assert len(manifest(run)["calls"]) == 1


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
def test_a_broken_job_fails_under_any_name_with_a_why_that_can_be_shown(
    night: Monitored, name: str
) -> None:
    run = run_of(night.failed(), f"bad/{name}")
    why = (run / "WHY.txt").read_text(encoding="utf-8")
    assert 'did you mean "steps"?' in why
    assert all(line.isprintable() for line in why.split("\n")), why
    (said,) = [line for line in why.splitlines() if line.startswith("Job:")]
    if name.isprintable():
        assert said == f"Job:       bad/{name}"
    assert json.loads((run / "error.json").read_text(encoding="utf-8"))["blame"] == "job"


def test_each_odd_name_had_a_run_of_its_own_and_the_messages_can_be_shown(night: Monitored) -> None:
    assert (len(night.done()), len(night.failed())) == (len(ODD), len(ODD))
    assert not any(path.is_file() for path in night.inbox.rglob("*"))
    assert all(line.isprintable() for line in night.told), night.told
    "\n".join(night.told).encode("utf-8")


@pytest.mark.parametrize("name", ODD.values(), ids=ODD)
def test_a_retry_puts_it_back_under_its_own_name(
    night: Monitored, tmp_path: Path, name: str
) -> None:
    back = back_to_inbox.retry(run_of(night.failed(), f"bad/{name}"), tmp_path)
    assert back.read_text() == "step: 2\n"
    assert back == tmp_path / "bad" / name


# -- what is no plain file


@pytest.mark.posix_only("named pipes in a folder")
def test_a_pipe_is_no_job_and_does_not_block(spool: Spool, clock: FakeClock) -> None:
    os.mkfifo(spool.inbox / "x.yaml")
    (spool.inbox / "folder").mkdir()
    os.mkfifo(spool.inbox / "folder" / "job.yaml")
    (spool.inbox / "good.yaml").write_text(JOB)
    assert sources(spool, clock) == ["good.yaml"]


@pytest.mark.posix_only("named pipes in a folder")
def test_a_pipe_that_takes_a_job_files_place_is_refused_without_waiting_for_it(
    tmp_path: Path,
) -> None:
    os.mkfifo(tmp_path / "x.yaml")
    with pytest.raises(JobError, match="not a plain file"):
        read_bounded(tmp_path / "x.yaml", "x.yaml")


@pytest.mark.posix_only("named pipes in a folder")
def test_with_pipes_in_the_inbox_a_monitor_does_the_others_and_ends(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        os.mkfifo(spool.inbox / "x.yaml")
        (spool.inbox / "folder").mkdir()
        os.mkfifo(spool.inbox / "folder" / "job.yaml")
        spool.drop("good.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        assert (len(spool.done()), spool.failed()) == (1, [])
        assert spool.waiting() == ["folder", "x.yaml"]


@pytest.mark.posix_only("symbolic links, which need a privilege on Windows")
@pytest.mark.parametrize("name", ["job.yaml", "job.yml"])
def test_a_job_folder_whose_job_file_is_a_link_is_not_a_job(
    spool: Spool, clock: FakeClock, tmp_path: Path, name: str
) -> None:
    (tmp_path / "secret").write_text(SECRET)
    (spool.inbox / "sketch").mkdir()
    (spool.inbox / "sketch" / name).symlink_to(tmp_path / "secret")
    (spool.inbox / "link.yaml").symlink_to(tmp_path / "secret")
    (spool.inbox / "good.yaml").write_text(JOB)
    assert sources(spool, clock) == ["good.yaml"]
    assert SECRET not in texts_below(spool.root)


@pytest.mark.posix_only("symbolic links, which need a privilege on Windows")
def test_a_job_file_that_becomes_a_link_after_it_was_listed_is_not_followed(
    spool: Spool, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text(SECRET)
    folder = folder_job(spool, "sketch", JOB)

    def swapped(path: Path, shown_as: str) -> bytes:
        path.unlink()
        path.symlink_to(tmp_path / "secret")
        return read_bounded(path, shown_as)

    monkeypatch.setattr(job_reader, "read_bounded", swapped)
    found = settled(inbox_of(spool, clock), clock)
    assert not any(isinstance(arrival.job, Job) for arrival in found)
    assert (folder / "job.yaml").is_symlink()
    assert SECRET.strip() not in repr(found)


@pytest.mark.posix_only("symbolic links, which need a privilege on Windows")
def test_a_job_file_that_becomes_a_link_after_the_claim_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    place = Workplace(tmp_path)
    client = PlainClient()
    run = place.claimed(JOB, {"a.png": b"never looked at"})
    (run.folder / "job" / "job.yaml").unlink()
    (run.folder / "job" / "job.yaml").symlink_to(tmp_path / "secret")
    assert place.runner(run, client).run_to_end(place.spool) is RunEnd.FAILED
    assert client.posts == []
    assert SECRET.strip() not in texts_below(place.spool.root)
    assert "Fault:     the job" in (place.failed() / "WHY.txt").read_text()


# -- folders


CLOSED = """
import os, sys
from pathlib import Path
from sdwatch.system.clock import SystemClock
from sdwatch.spool.inbox import Inbox

os.chdir(sys.argv[1])  # the folders above it are closed to others
if os.getuid() == 0:
    Inbox(Path("inbox"), 0.0, 0.0, SystemClock()).scan()  # imports what it needs, as long as it may
    os.setgid(65534)
    os.setuid(65534)
try:
    os.listdir("inbox/closed")
except PermissionError:
    inbox = Inbox(Path("inbox"), 0.0, 60.0, SystemClock())
    print(sorted(arrival.source for arrival in inbox.scan()), sorted(inbox.for_a_person))
"""


@pytest.mark.posix_only("modes and users")
def test_a_folder_and_a_file_that_are_closed_to_us_do_not_block_the_others(tmp_path: Path) -> None:
    root = tmp_path / "root"
    closed = root / "inbox" / "closed"
    closed.mkdir(parents=True)
    for folder in (root, root / "inbox"):
        folder.chmod(0o755)
    for path in (closed / "within.yaml", root / "inbox" / "shut.yaml", root / "inbox" / "x.yaml"):
        path.write_text(JOB)
        path.chmod(0o644)
    (root / "inbox" / "shut.yaml").chmod(0)
    closed.chmod(0)
    try:
        command = [sys.executable, "-c", CLOSED, str(root)]
        seen = subprocess.run(command, capture_output=True, text=True, timeout=400)
    finally:
        closed.chmod(0o755)
    assert seen.stdout == "['x.yaml'] ['closed/', 'shut.yaml']\n", seen.stderr


def nested(root: Path, depth: int) -> Path:
    """A folder in a folder in a folder …; the innermost."""
    folder = root
    for _ in range(depth):
        folder = folder / "d"
        folder.mkdir()
    return folder


def remove_nested(innermost: Path, root: Path) -> None:
    """Without recursion, as the one who removes temporary folders would do it."""
    while innermost != root:
        for path in innermost.iterdir():
            path.unlink()
        innermost.rmdir()
        innermost = innermost.parent


def test_700_folders_in_folders_do_not_block_the_others(spool: Spool, clock: FakeClock) -> None:
    innermost = nested(spool.inbox, 700)
    try:
        (innermost / "deep.yaml").write_text(JOB)
        (spool.inbox / "good.yaml").write_text(JOB)
        assert sources(spool, clock) == ["good.yaml"]
    finally:
        remove_nested(innermost, spool.inbox)


def test_a_job_folder_with_700_folders_in_folders_is_refused_and_claimed_whole(
    spool: Spool, clock: FakeClock
) -> None:
    folder = folder_job(spool, "sketch", JOB)
    innermost = nested(folder, 700)
    (arrival,) = settled(inbox_of(spool, clock), clock)
    assert isinstance(arrival.job, JobError)
    run = archive.claim(arrival, spool, clock)
    assert run is not None
    run.close()
    where = run.folder / "job"
    innermost = where / innermost.relative_to(folder)
    try:
        assert innermost.is_dir()
        assert run.is_as_claimed
    finally:
        remove_nested(innermost, where)
        shutil.rmtree(run.folder)


# -- what vanishes, and what cannot be read


def test_a_job_file_that_is_away_for_a_moment_is_looked_at_again(
    spool: Spool, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_job(spool, "sketch", JOB)
    real = job_reader.job_file_in
    away = iter([False, False, True])  # listed twice, then away where it is to be read

    def job_file_in(folder: Path) -> Path | None:
        return None if next(away, False) else real(folder)

    for module in (candidates, job_reader):
        monkeypatch.setattr(module, "job_file_in", job_file_in)
    inbox = inbox_of(spool, clock)
    assert settled(inbox, clock) == []
    assert dict(inbox.reasons()) == {"sketch": "its job file is gone"}
    (arrival,) = inbox.scan()
    assert isinstance(arrival.job, Job)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_job_that_vanishes_as_it_is_read_is_not_held_against_it(
    spool: Spool, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if kind == "file":
        (spool.inbox / "sketch.yaml").write_text(JOB)
    else:
        folder_job(spool, "sketch", JOB)
    away = iter([True])

    def read(path: Path, shown_as: str) -> bytes:
        """As an editor saves: renamed away, and back a moment later."""
        if next(away, False):
            return read_bounded(path.with_name("away"), shown_as)
        return read_bounded(path, shown_as)

    monkeypatch.setattr(job_reader, "read_bounded", read)
    inbox = inbox_of(spool, clock)
    assert settled(inbox, clock) == []
    (arrival,) = inbox.scan()
    assert isinstance(arrival.job, Job)


def test_a_job_file_that_is_taken_away_before_the_claim_costs_no_run(
    spool: Spool, clock: FakeClock
) -> None:
    (spool.inbox / "castle.yaml").write_text(JOB)
    (arrival,) = settled(inbox_of(spool, clock), clock)
    arrival.path.unlink()
    assert archive.claim(arrival, spool, clock) is None
    assert spool.run_folders() == []


def test_a_job_folder_whose_job_file_is_taken_away_after_the_claim_fails_as_the_jobs_own_fault(
    tmp_path: Path,
) -> None:
    place = Workplace(tmp_path)
    run = place.claimed(JOB, {"a.png": b"never looked at"})
    (run.folder / "job" / "job.yaml").unlink()
    assert place.runner(run, PlainClient()).run_to_end(place.spool) is RunEnd.FAILED
    assert "Fault:     the job" in (place.failed() / "WHY.txt").read_text()


def test_one_job_file_that_cannot_be_read_does_not_keep_once_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, shown_as: str) -> bytes:
        if path.name == "shut.yaml":
            raise PermissionError(13, "Permission denied", str(path))
        return read_bounded(path, shown_as)

    monkeypatch.setattr(job_reader, "read_bounded", read)
    with monitored(tmp_path) as spool:
        spool.drop("shut.yaml", job())
        spool.drop("good.yaml", job())
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        assert (len(spool.done()), spool.failed()) == (1, [])
        assert spool.waiting() == ["shut.yaml"]
        assert "shut.yaml: cannot be read yet: Permission denied" in spool.told
