"""Claim and publish: each by one rename, and whatever dies when, one folder holds the job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from sdwatch.errors import SpoolError
from sdwatch.policy.report.envelope import broken_envelope, cancelled_envelope
from sdwatch.spool import after_death, archive, back_to_inbox
from sdwatch.spool.arrival import Arrival
from sdwatch.spool.folders import Spool
from sdwatch.spool.run import JOURNAL, Run
from sdwatch.system import disk
from tests.spool.spools import (
    JOB,
    DiedError,
    arrival_of,
    at_effect,
    call,
    folder_job,
    homes_of_the_job,
    inbox_of,
    made_spool,
    picture,
    settled,
)
from tests.support.helpers import FakeClock


def claimed(spool: Spool, clock: FakeClock, name: str = "castle.yaml") -> Run:
    run = archive.claim(arrival_of(spool, clock, name), spool, clock)
    assert run is not None
    return run


def open_files() -> int:
    return len(psutil.Process().open_files())


# -- the folders


def test_prepare_makes_the_folders_and_may_be_called_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a" / "b", "box-1")
    spool.prepare()
    spool.prepare()
    assert {path.name for path in spool.root.iterdir()} == {"inbox", "working", "done", "failed"}


def test_a_spool_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file is in the way")
    with pytest.raises(SpoolError, match="cannot be used"):
        Spool(tmp_path / "spool", "box-1").prepare()


def test_folders_on_two_file_systems_are_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_at = disk.look_at

    def done_is_elsewhere(path: Path) -> os.stat_result:
        found = look_at(path)
        named = {name: getattr(found, name) for name in dir(found) if name.startswith("st_")}
        values = list(found)
        values[2] += path.name == "done"  # st_dev
        return os.stat_result(values, named)  # type: ignore[arg-type]

    monkeypatch.setattr(disk, "look_at", done_is_elsewhere)
    with pytest.raises(SpoolError, match="one file system"):
        Spool(tmp_path / "spool", "box-1").prepare()


# -- claim


def test_a_claim_moves_the_file_and_names_its_source_first(spool: Spool, clock: FakeClock) -> None:
    run = claimed(spool, clock, "ann/castle.yaml")
    assert (run.folder / "job.yaml").read_text() == JOB
    assert run.folder.parent == spool.working
    (record,) = run.records
    assert (record["event"], record["source"]) == ("claimed", "ann/castle.yaml")
    assert run.is_as_claimed
    assert not (spool.inbox / "ann" / "castle.yaml").exists()


def test_a_claim_moves_a_folder_whole(spool: Spool, clock: FakeClock) -> None:
    folder_job(spool, "sketch", "stages:\n  - img2img: {init_images: a.png}\n", "a.png")
    (arrival,) = settled(inbox_of(spool, clock), clock)
    run = archive.claim(arrival, spool, clock)
    assert run is not None
    assert (run.folder / "job" / "a.png").read_bytes() == picture()
    assert run.read_job().name == "sketch"
    assert run.job_id.startswith("sketch-")
    assert not (spool.inbox / "sketch").exists()


def test_a_job_that_was_taken_away_meanwhile_leaves_nothing(spool: Spool, clock: FakeClock) -> None:
    arrival = arrival_of(spool, clock)
    arrival.path.unlink()
    before = open_files()
    assert archive.claim(arrival, spool, clock) is None
    assert spool.run_folders() == []
    assert open_files() == before


@pytest.mark.parametrize("seen", [True, False])
def test_a_cancelled_job_takes_its_marker_with_it(
    spool: Spool, clock: FakeClock, seen: bool
) -> None:
    """Also where it came after the scan."""
    arrival = arrival_of(spool, clock)
    marker = spool.inbox / "castle.yaml.cancel"
    marker.touch()
    arrival.marker = "castle.yaml.cancel" if seen else ""
    run = archive.claim(arrival, spool, clock)
    assert run is not None
    assert run.cancel_asked()
    assert not marker.exists()


def test_the_same_name_twice_is_two_runs(spool: Spool, clock: FakeClock) -> None:
    first, second = claimed(spool, clock), claimed(spool, clock)
    assert first.run_id != second.run_id
    assert len(spool.run_folders()) == 2


@pytest.mark.parametrize("number", range(1, 8))
def test_a_disk_that_refuses_any_one_step_of_a_claim_loses_nothing(
    spool: Spool, clock: FakeClock, number: int
) -> None:
    arrival = arrival_of(spool, clock)
    before = open_files()
    run = None
    with at_effect(number, lambda: OSError(28, "No space left on device")):
        try:
            run = archive.claim(arrival, spool, clock)
        except OSError:
            assert homes_of_the_job(spool) == ["inbox"]
            assert spool.run_folders() == []
    if run is not None:
        assert homes_of_the_job(spool) == ["working"]
        run.close()
    assert open_files() == before


def unreadable_after_a_rename(*_: object) -> bool:
    raise OSError(5, "Input/output error")


def test_a_job_that_cannot_be_looked_at_after_its_claim_is_not_lost_sight_of(
    spool: Spool, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrival = arrival_of(spool, clock)
    monkeypatch.setattr("sdwatch.system.renames._is_same", unreadable_after_a_rename)
    run = archive.claim(arrival, spool, clock)
    assert run is not None
    assert run.has_job
    run.close()


def test_a_run_that_cannot_be_looked_at_after_its_move_is_published(
    spool: Spool, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = archive.claim(arrival_of(spool, clock), spool, clock)
    assert run is not None
    monkeypatch.setattr("sdwatch.system.renames._is_same", unreadable_after_a_rename)
    assert archive.publish(run, spool, "done", None).parent == spool.done


def cancelled_arrival(spool: Spool, clock: FakeClock) -> Arrival:
    (spool.inbox / "castle.yaml.cancel").touch()
    return arrival_of(spool, clock)


def marker_in(spool: Spool) -> bool:
    return (spool.inbox / "castle.yaml.cancel").exists()


@pytest.mark.posix_only("on Windows what a death leaves open cannot be removed")
@pytest.mark.parametrize("number", range(1, 14))
def test_a_death_at_any_step_of_a_cancelled_claim_cancels_this_job_and_no_other(
    spool: Spool, clock: FakeClock, number: int
) -> None:
    arrival = cancelled_arrival(spool, clock)
    with at_effect(number, DiedError), suppress(DiedError):
        archive.claim(arrival, spool, clock)
    (home,) = homes_of_the_job(spool)
    to_resume = after_death.recover(spool, clock)
    assert homes_of_the_job(spool) == [home]
    assert spool.run_folders() == to_resume
    if home == "inbox":
        assert to_resume == []
        assert marker_in(spool)
        return
    (folder,) = to_resume
    assert Run(folder, clock).cancel_asked()
    assert not arrival_of(spool, clock).cancelled


@pytest.mark.parametrize("number", range(1, 14))
def test_a_disk_that_refuses_any_one_step_of_a_cancelled_claim_cancels_this_job_and_no_other(
    spool: Spool, clock: FakeClock, number: int
) -> None:
    arrival, run = cancelled_arrival(spool, clock), None
    with at_effect(number, lambda: OSError(28, "No space left on device")), suppress(OSError):
        run = archive.claim(arrival, spool, clock)
    if run is None:
        assert homes_of_the_job(spool) == ["inbox"]
        assert spool.run_folders() == []
        assert marker_in(spool)
        return
    assert run.cancel_asked()
    archive.publish(run, spool, "cancelled", cancelled_envelope())
    assert not arrival_of(spool, clock).cancelled


def test_a_marker_that_cannot_be_removed_cancels_no_other_job(
    spool: Spool, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, while a program keeps it open."""
    remove, held = disk.remove, [True]

    def refused(path: Path) -> None:
        if held and path.name.endswith(".cancel"):
            raise PermissionError(13, "The process cannot access the file", str(path))
        remove(path)

    monkeypatch.setattr(disk, "remove", refused)
    run = archive.claim(cancelled_arrival(spool, clock), spool, clock)
    assert run is not None
    assert run.cancel_asked()
    with pytest.raises(PermissionError):
        archive.publish(run, spool, "cancelled", cancelled_envelope())
    run.close()
    next_job = arrival_of(spool, clock)
    with pytest.raises(OSError, match=run.run_id):
        archive.claim(next_job, spool, clock)
    (folder,) = after_death.recover(spool, clock)
    held.clear()
    archive.publish(Run(folder, clock), spool, "cancelled", cancelled_envelope())
    assert not arrival_of(spool, clock).cancelled


def test_a_marker_of_the_next_job_is_not_taken_for_that_of_the_last(
    spool: Spool, clock: FakeClock
) -> None:
    arrival = cancelled_arrival(spool, clock)
    run = archive.claim(arrival, spool, clock)
    assert run is not None
    run.close()
    (spool.inbox / "castle.yaml.cancel").touch()  # while the monitor is away
    os.utime(spool.inbox / "castle.yaml.cancel", (1, 1))
    (folder,) = after_death.recover(spool, clock)
    archive.publish(Run(folder, clock), spool, "cancelled", cancelled_envelope())
    assert arrival_of(spool, clock).cancelled


def test_a_marker_that_is_withdrawn_before_the_claim_cancels_nothing(
    spool: Spool, clock: FakeClock
) -> None:
    arrival = cancelled_arrival(spool, clock)
    (spool.inbox / "castle.yaml.cancel").unlink()
    assert archive.claim(arrival, spool, clock) is None
    assert spool.run_folders() == []
    assert not arrival_of(spool, clock).cancelled


@pytest.mark.posix_only("on Windows what a death leaves open cannot be removed")
def test_a_marker_that_came_during_a_claim_is_taken_after_a_death(
    spool: Spool, clock: FakeClock
) -> None:
    arrival = arrival_of(spool, clock)
    (spool.inbox / "castle.yaml.cancel").touch()  # after the scan
    with at_effect(8, DiedError) as seen, suppress(DiedError):
        archive.claim(arrival, spool, clock)
    assert seen[-1] == "rename cancel"
    (folder,) = after_death.recover(spool, clock)
    assert Run(folder, clock).cancel_asked()
    assert not marker_in(spool)


@pytest.mark.posix_only("on Windows what a death leaves open cannot be removed")
@pytest.mark.parametrize("number", range(1, 12))
def test_a_death_at_any_step_of_a_claim_leaves_the_job_in_one_place(
    spool: Spool, clock: FakeClock, number: int
) -> None:
    arrival = arrival_of(spool, clock)
    with at_effect(number, DiedError), suppress(DiedError):
        archive.claim(arrival, spool, clock)
    (home,) = homes_of_the_job(spool)
    to_go_on = after_death.recover(spool, clock)
    assert len(to_go_on) == (home == "working")
    assert spool.run_folders() == to_go_on
    assert homes_of_the_job(spool) == [home]


DIES = """
import os, sys
from pathlib import Path
from sdwatch.spool import archive
from tests.support.helpers import FakeClock
from tests.spool.spools import at_effect, inbox_of, made_spool, settled

spool, clock = made_spool(Path(sys.argv[1])), FakeClock()
(arrival,) = settled(inbox_of(spool, clock), clock)
with at_effect(int(sys.argv[2]), lambda: os._exit(9)):
    archive.claim(arrival, spool, clock)
"""


@pytest.mark.parametrize("number", range(1, 9))
def test_a_process_that_dies_at_any_step_of_a_claim_leaves_the_job_in_one_place(
    tmp_path: Path, number: int
) -> None:
    spool, clock = made_spool(tmp_path), FakeClock()
    (spool.inbox / "castle.yaml").write_text(JOB)
    command = [sys.executable, "-c", DIES, str(tmp_path), str(number)]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, cwd=root, timeout=400).returncode == 9
    (home,) = homes_of_the_job(spool)
    to_resume = after_death.recover(spool, clock)
    assert len(to_resume) == (home == "working")
    assert spool.run_folders() == to_resume
    assert homes_of_the_job(spool) == [home]


# -- publish


def test_a_done_run_is_moved_whole_and_its_journal_is_closed(
    spool: Spool, clock: FakeClock
) -> None:
    run = claimed(spool, clock)
    run.read_job()
    run.plan()
    run.finish_call(call(), [picture()], 0)
    before = open_files()
    where = archive.publish(run, spool, "done", None)
    assert where == spool.done / run.run_id
    assert {path.name for path in where.iterdir()} == {
        "job.yaml",
        "run.json",
        JOURNAL,
        "images",
        "thumbnails",
    }
    assert Run(where, clock).ledger.ended == "done"
    assert open_files() == before - 1
    assert spool.run_folders() == []


def test_a_run_of_an_earlier_version_resumes_and_is_published_with_its_images(
    spool: Spool, clock: FakeClock
) -> None:
    """Its id has letters of ASCII only, and its images are named after the whole id."""
    now = claimed(spool, clock)
    now.close()
    folder = spool.working / "20251123-065243.123-rger-im-b-ro-3f2a"
    now.folder.rename(folder)
    old, lost = (f"{folder.name}_1-txt2img_00{number}-01.png" for number in (1, 2))
    (folder / "images").mkdir()
    for name in (old, lost):
        (folder / "images" / name).write_bytes(picture())
    before = Run(folder, clock)
    about = {"name": old, "sha256": "0" * 64, "size": len(picture()), "width": 8, "height": 16}
    before.record("call_finished", call="1.1", images=[{**about, "grid": False}])
    before.close()
    assert after_death.recover(spool, clock) == [folder]
    run = Run(folder, clock)
    run.read_job()
    assert len(run.ledger.call("1.1").images or ()) == 1
    assert not run.lacks_of("1.1")
    (new,) = run.finish_call(call(2), [picture()], 0)
    where = archive.publish(run, spool, "done", None)
    assert where == spool.done / folder.name
    assert {path.name for path in (where / "images").iterdir()} == {old, new.name}


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_a_failed_run_explains_itself(spool: Spool, clock: FakeClock, outcome: str) -> None:
    run = claimed(spool, clock)
    where = archive.publish(run, spool, outcome, cancelled_envelope())
    assert where.parent == spool.failed
    assert (where / "WHY.txt").read_text().startswith("somebody cancelled this run\n")
    assert (where / "error.json").is_file()


def test_a_cancelled_run_that_had_failed_before_says_what_was_tried(
    spool: Spool, clock: FakeClock
) -> None:
    run = claimed(spool, clock)
    run.record("call_started", call="1.1")
    run.record("call_failed", call="1.1", diagnosis="crash", message="it died", incarnation=1)
    where = archive.publish(run, spool, "cancelled", cancelled_envelope())
    text = (where / "WHY.txt").read_text()
    assert "error: it died" in text
    assert "Before that, a call had already failed" in text


def test_where_nothing_was_sent_it_says_so_and_names_the_config(
    spool: Spool, clock: FakeClock
) -> None:
    spool = replace(spool, config=Path("/srv/my sd/sdwatch.yaml"))
    where = archive.publish(claimed(spool, clock), spool, "cancelled", cancelled_envelope())
    text = (where / "WHY.txt").read_text()
    assert "Nothing was sent to a WebUI." in text
    assert "already failed" not in text
    quote = '"' if os.name == "nt" else "'"
    option = f"--config {quote}{Path('/srv/my sd/sdwatch.yaml')}{quote}"
    assert f"    sdwatch retry {where.name} {option}\n" in text


@pytest.mark.parametrize("number", range(1, 25))
def test_a_death_at_any_step_of_publishing_leaves_one_whole_run(
    spool: Spool, clock: FakeClock, number: int
) -> None:
    run = claimed(spool, clock)
    with at_effect(number, DiedError):
        try:
            archive.publish(run, spool, "failed", cancelled_envelope())
        except DiedError:
            run.close()
    to_resume = after_death.recover(spool, clock)
    if to_resume:  # it had not ended yet: publishing resumes where it was
        assert homes_of_the_job(spool) == ["working"]
        archive.publish(Run(to_resume[0], clock), spool, "failed", cancelled_envelope())
    assert homes_of_the_job(spool) == ["failed"]
    where = spool.failed / run.run_id
    assert {path.name for path in where.iterdir() if path.name[0] != "."} == {
        "job.yaml",
        "run.json",
        JOURNAL,
        "WHY.txt",
        "error.json",
    }
    assert [r["event"] for r in Run(where, clock).records].count("ended") == 1


@pytest.mark.parametrize("number", range(1, 25))
def test_publishing_again_after_the_disk_refused_a_step_resumes_where_it_was(
    spool: Spool, clock: FakeClock, number: int
) -> None:
    run = claimed(spool, clock)
    with at_effect(number, lambda: OSError(28, "No space left on device")):
        try:
            archive.publish(run, spool, "failed", cancelled_envelope())
        except OSError:
            archive.publish(run, spool, "failed", cancelled_envelope())
    assert homes_of_the_job(spool) == ["failed"]


# -- start


def test_a_run_whose_end_is_recorded_is_moved_as_that_says(spool: Spool, clock: FakeClock) -> None:
    """Its move was refused, or an internal error came between the record and the move."""
    run = claimed(spool, clock)
    run.record("ended", outcome="done")
    published = archive.publish(run, spool, "failed", broken_envelope("KeyError()"))
    assert published == spool.done / run.run_id
    assert not (published / "WHY.txt").exists()


def test_an_empty_run_folder_is_swept(spool: Spool, clock: FakeClock) -> None:
    (spool.working / "20260101-000000.000-castle-0000").mkdir()
    half = Run(spool.working / "20260101-000000.000-castle-0001", clock)
    half.folder.mkdir()
    half.record("claimed", source="castle.yaml")
    half.close()
    assert after_death.recover(spool, clock) == []
    assert spool.run_folders() == []


def test_a_folder_without_a_job_that_holds_anything_else_is_left_alone(
    spool: Spool, clock: FakeClock
) -> None:
    folder = spool.working / "somebody's"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert after_death.recover(spool, clock) == []
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("outcome", "where"), [("done", "done"), ("failed", "failed"), ("cancelled", "failed")]
)
def test_what_had_ended_and_was_not_moved_is_published_at_start(
    spool: Spool, clock: FakeClock, outcome: str, where: str
) -> None:
    run = claimed(spool, clock)
    run.record("ended", outcome=outcome)
    run.write_manifest(outcome)
    run.close()
    assert after_death.recover(spool, clock) == []
    assert homes_of_the_job(spool) == [where]


def test_runs_of_another_worker_are_left_alone(spool: Spool, clock: FakeClock) -> None:
    other = made_spool(spool.root.parent, worker="box-2")
    run = claimed(other, clock)
    assert after_death.recover(spool, clock) == []
    assert run.folder.is_dir()


def test_runs_resume_oldest_first(spool: Spool, clock: FakeClock) -> None:
    runs = []
    for name in ("z.yaml", "m.yaml", "a.yaml"):
        runs.append(claimed(spool, clock, name).folder)
        clock.advance(1)
    assert after_death.recover(spool, clock) == runs


# -- again


def test_a_retry_puts_the_job_back_as_it_was_dropped(spool: Spool, clock: FakeClock) -> None:
    run = claimed(spool, clock)
    where = archive.publish(run, spool, "failed", cancelled_envelope())
    assert back_to_inbox.retry(where, spool.inbox) == spool.inbox / "castle.yaml"
    assert (spool.inbox / "castle.yaml").read_text() == JOB
    assert (where / "job.yaml").read_text() == JOB


def test_a_retry_of_a_folder_job_puts_the_folder_back(spool: Spool, clock: FakeClock) -> None:
    folder_job(spool, "my sketch", "stages:\n  - img2img: {init_images: a.png}\n", "a.png")
    (arrival,) = settled(inbox_of(spool, clock), clock)
    run = archive.claim(arrival, spool, clock)
    assert run is not None
    where = archive.publish(run, spool, "failed", cancelled_envelope())
    back = back_to_inbox.retry(where, spool.inbox)
    assert back == spool.inbox / "my sketch"
    assert {path.name for path in back.iterdir()} == {"job.yaml", "a.png"}


@pytest.mark.posix_only("symbolic links")
def test_a_retry_does_not_bring_in_what_a_link_leads_to(spool: Spool, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    whole, file, linked = (spool.failed / name for name in ("whole", "file", "linked"))
    for run in (whole / "job", file, linked):
        run.mkdir(parents=True)
    (whole / "job" / "job.yaml").write_text(JOB)
    (whole / "job" / "a.png").symlink_to(tmp_path / "secret")
    back = back_to_inbox.retry(whole, spool.inbox)
    assert (back / "a.png").is_symlink()
    (file / "job.yaml").symlink_to(tmp_path / "secret")
    (linked / "job").symlink_to(whole / "job")
    for run in (file, linked):
        with pytest.raises(SpoolError, match="no job in this run"):
            back_to_inbox.retry(run, spool.inbox)


def test_a_retry_of_a_run_without_a_job_is_a_clear_error(spool: Spool) -> None:
    (spool.failed / "empty").mkdir()
    with pytest.raises(SpoolError, match="no job in this run"):
        back_to_inbox.retry(spool.failed / "empty", spool.inbox)


def test_putting_a_job_in_never_overwrites_another(spool: Spool) -> None:
    for number in range(3):
        temporary = spool.inbox / f".castle-{number}.tmp"
        temporary.write_text(str(number))
        back_to_inbox.put_in(temporary, spool.inbox, "castle", ".yaml")
    found = {path.name: path.read_text() for path in spool.inbox.iterdir()}
    assert found == {"castle.yaml": "0", "castle-2.yaml": "1", "castle-3.yaml": "2"}


@pytest.mark.parametrize("stem", ["x" * 250, "城" * 83 + "x", "x" * 255])
def test_a_name_that_is_as_long_as_can_be_is_shortened_for_its_number(
    spool: Spool, stem: str
) -> None:
    for number in range(12):
        temporary = spool.inbox / f".{number}.tmp"
        temporary.write_text(str(number))
        back_to_inbox.put_in(temporary, spool.inbox, stem, ".yaml")
    found = sorted(spool.inbox.iterdir(), key=lambda path: int(path.read_text()))
    assert [path.read_text() for path in found] == [str(number) for number in range(12)]
    assert found[11].name.endswith("-12.yaml")
    assert len(os.fsencode(found[11].name)) in (253, 254, 255)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_job_that_cannot_be_put_in_leaves_nothing_in_the_inbox(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def refuse(_: Path, target: Path) -> None:
        raise PermissionError(13, "Permission denied", str(target))

    run = spool.failed / "run"
    (run / "job").mkdir(parents=True)
    (run / "job.yaml").write_text(JOB)
    (run / "job" / "job.yaml").write_text(JOB)
    if kind == "file":
        shutil.rmtree(run / "job")
    monkeypatch.setattr(archive.renames, "rename", refuse)
    with pytest.raises(PermissionError):
        back_to_inbox.retry(run, spool.inbox)
    assert list(spool.inbox.iterdir()) == []


def test_folders_that_were_taken_away_are_made_again(spool: Spool) -> None:
    shutil.rmtree(spool.working.parent)
    spool.done.rmdir()
    spool.repair()
    assert spool.working.is_dir()
    assert spool.done.is_dir()


def test_nothing_is_made_on_a_share_that_is_gone_as_a_whole(spool: Spool) -> None:
    shutil.rmtree(spool.root)
    spool.repair()
    assert not spool.root.exists()


def test_a_retry_of_a_folder_with_a_hole_that_would_fill_the_disk_is_refused(
    spool: Spool,
) -> None:
    run = spool.failed / "run"
    (run / "job").mkdir(parents=True)
    (run / "job" / "job.yaml").write_text(JOB)
    with open(run / "job" / "hole.png", "wb") as file:
        file.truncate(257 << 20)
    with pytest.raises(SpoolError, match="at most 256 MB in a file"):
        back_to_inbox.retry(run, spool.inbox)
    assert list(spool.inbox.iterdir()) == []


def test_what_a_retry_left_in_the_inbox_when_it_died_is_removed_at_a_start_a_day_later(
    spool: Spool, clock: FakeClock
) -> None:
    now = int(clock.wall())
    within = spool.inbox / "night"
    old_file = within / f".77-{now - 90_000}000000000.tmp"
    old_folder = spool.inbox / f".78-{now - 90_000}000000000.tmp"
    young = spool.inbox / f".79-{now - 3_600}000000000.tmp"
    others = [spool.inbox / name for name in (".castle.tmp", ".77-1.tmp", "77-1.tmp")]
    within.mkdir()
    old_folder.mkdir()
    for path in (old_file, old_folder / "job.yaml", young, *others):
        path.write_text(JOB)
    after_death.recover(spool, clock)
    assert not old_file.exists()
    assert not old_folder.exists()
    assert all(path.exists() for path in (young, *others))
