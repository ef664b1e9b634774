"""A process that exchanges a folder of the spool for a link to a victim's, as fast as it can, while
a monitor process and commands work: nothing of the victim changes, and every job is there once."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sdwatch.errors import SdwatchError
from sdwatch.monitor.once import MonitorEnd
from sdwatch.spool import back_to_inbox, commands
from sdwatch.spool.folders import Spool
from tests.spool.swaps import seen_in
from tests.support.attacker import can_exchange, swapping
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, job, monitored

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two names")

SWAPS = 2_000
MOST = 40
"""Retries that win the race: each is a run."""
FAST = {"settle": 0, "scan_interval": 0.05}
SECRET = "the victim's own letter"


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A folder of the monitor's own user that has whatever a follower of links looks for."""
    (tmp_path / "probe").mkdir()
    if not can_exchange(tmp_path / "probe"):
        pytest.skip("this file system does not exchange names")
    folder = tmp_path / "victim"
    (folder / "Documents").mkdir(parents=True)
    (folder / "Documents" / "job.yaml").write_text(job(SECRET))
    (folder / "Documents" / "letter.txt").write_text(SECRET)
    (folder / "castle.yaml").write_text(job(SECRET))
    before = seen_in(folder)
    yield folder
    assert seen_in(folder) == before, "the link was followed"


@contextmanager
def racing(root: Path) -> Iterator[Monitored]:
    """A monitor process that is ready."""
    with monitored(root / "box", settings=FAST) as spool:
        spool.start_process()
        spool.wait_ready()
        yield spool


def is_full(held: int) -> bool:
    """Whether anything lies in a folder that is held open."""
    with os.scandir(held) as entries:
        return any(entries)


def prompts_in(*runs: Path) -> Counter[str]:
    """How often each prompt lies in these folders, as a job."""
    found: Counter[str] = Counter()
    for run in runs:
        for path in (*run.glob("job.yaml"), *run.glob("job/job.yaml")):
            found[path.read_text()] += 1
    return found


def wait_until_all_ended(spool: Monitored, jobs: list[str]) -> None:
    """Each of `jobs` is in done/ or failed/, once, and nothing else is."""

    def ended() -> bool:
        spool._assert_process_runs()
        return len(spool.done()) + len(spool.failed()) >= len(jobs)

    wait_until(ended, 90, f"{len(jobs)} jobs ended: {spool.monitor_log}")
    wait_until(lambda: not prompts_in(*spool.working()), 20, "no job is left in working/")
    assert prompts_in(*spool.done(), *spool.failed()) == Counter(jobs)
    # A retry that lost the race could not take its temporary copy away, nor a cancel its marker:
    # the inbox ignores those.
    left = [path.relative_to(spool.inbox) for path in spool.inbox.rglob("*") if path.is_file()]
    assert [path for path in left if ".tmp" not in str(path) and path.suffix != ".cancel"] == []


def test_a_claim_never_takes_what_a_racing_link_leads_to(tmp_path: Path, victim: Path) -> None:
    with racing(tmp_path) as spool:
        zz = spool.inbox / "zz"
        zz.mkdir()
        held = os.open(zz, os.O_RDONLY)  # of the folder itself, wherever it is at that moment
        jobs: list[str] = []
        began = time.monotonic()
        with swapping(zz, victim, tmp_path / "link", SWAPS) as running:
            while running():
                made = tmp_path / "Documents"
                made.mkdir()
                jobs.append(job(f"castle {len(jobs)}"))
                (made / "job.yaml").write_text(jobs[-1])
                os.rename(made, "Documents", dst_dir_fd=held)
                wait_until(lambda: not is_full(held) or not running(), 90, "it is claimed")
        os.close(held)
        assert len(jobs) > 1 or "no link is followed" in spool.monitor_log, "nothing was raced"
        seen = Counter(x for x in spool.monitor_log.splitlines() if x.startswith("zz"))
        assert max(seen.values(), default=0) <= 1 + (time.monotonic() - began) // 60, seen
        wait_until_all_ended(spool, jobs)


@pytest.mark.parametrize("where", ["done", "failed", "working", "inbox"])
def test_runs_are_published_whole_and_once_past_a_racing_link(
    tmp_path: Path, victim: Path, where: str
) -> None:
    with racing(tmp_path) as spool:
        jobs = [job(f"castle {n}", **({} if n % 2 else {"sampler_name": "Eulr"})) for n in range(8)]
        folder = spool.spool / where
        if where == "working":
            (folder,) = folder.iterdir()
        with swapping(folder, victim, tmp_path / "link", SWAPS) as running:
            for number, text in enumerate(jobs):
                made = tmp_path / f"{number}.yaml"
                made.write_text(text)
                while made.exists():
                    with suppress(FileNotFoundError):
                        target = spool.inbox / made.name
                        if where == "inbox":  # else the attacker gives it to the victim himself
                            assert wait_until(lambda: not running(), 120)
                        made.rename(target)
            wait_until(lambda: not running(), 120, "the attacker is done")
        wait_until_all_ended(spool, jobs)
        # Of a claim that lost the race an empty run may be left, which the next start takes away.
        assert spool.signal(signal.SIGTERM) == 0
        spool.start(once=True)
        assert spool.ended() is MonitorEnd.EMPTY
        assert spool.working() == []
        assert len(spool.done()) + len(spool.failed()) == len(jobs)


@pytest.mark.parametrize("where", ["inbox/zz", "failed", "failed/RUN"])
def test_a_retry_past_a_racing_link_submits_the_runs_own_job_or_nothing(
    tmp_path: Path, victim: Path, where: str
) -> None:
    with racing(tmp_path) as spool:
        zz = spool.inbox / "zz"
        bad = job("a castle", sampler_name="Eulr")
        made = tmp_path / "Documents"
        made.mkdir()
        (made / "job.yaml").write_text(bad)
        zz.mkdir()
        made.rename(zz / "Documents")
        spool.wait_for(failed=1)
        (run,) = spool.failed()
        of_worker = Spool(spool.spool, "box-1")
        submitted = tried = 0
        folder = spool.spool / where.replace("RUN", run.name)
        other, link = lookalike(victim, run), tmp_path / "link"
        with swapping(folder, other, link, SWAPS, lambda: tried > submitted > 0) as running:
            while running():
                tried += 1
                with suppress(OSError, SdwatchError):
                    if submitted < MOST:
                        back_to_inbox.retry(run, of_worker.inbox)
                        submitted += 1
        wait_until_all_ended(spool, [bad] * (1 + submitted))


def lookalike(victim: Path, run: Path) -> Path:
    """A folder that has what the run has, with the victim's job."""
    for folder in (victim.parent / "lookalike", victim.parent / "lookalike" / run.name):
        (folder / "job").mkdir(parents=True)
        (folder / "job" / "job.yaml").write_text(job(SECRET))
        (folder / "journal.jsonl").write_bytes((run / "journal.jsonl").read_bytes())
    return victim.parent / "lookalike"


def test_a_cancel_past_a_racing_link_marks_the_job_or_nothing(tmp_path: Path, victim: Path) -> None:
    with racing(tmp_path) as spool:
        (spool.spool / "hold").touch()
        zz = spool.inbox / "zz"
        (zz / "Documents").mkdir(parents=True)
        (zz / "Documents" / "job.yaml").write_text(job())
        of_worker = Spool(spool.spool, "box-1")
        cancelled = 0
        with swapping(zz, victim, tmp_path / "link", SWAPS, lambda: cancelled > 0) as running:
            while running():
                with suppress(OSError, SdwatchError):
                    commands.cancel(zz / "Documents", of_worker)
                    cancelled += 1
        wait_until_all_ended(spool, [job()])
        assert len(spool.failed()) == 1
