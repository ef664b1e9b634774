"""A run's folder: its journal, its job, its images, its manifest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from sdwatch.errors import JobError, SpoolError
from sdwatch.policy.queue.run_names import image_prefix
from sdwatch.spool.archive import claim
from sdwatch.spool.folders import Spool
from sdwatch.spool.run import JOURNAL, Run, new_run_id
from tests.spool.spools import arrival_of, call, folder_job, inbox_of, picture, settled
from tests.support.helpers import FakeClock


@pytest.fixture
def run(spool: Spool, clock: FakeClock) -> Run:
    claimed = claim(arrival_of(spool, clock), spool, clock)
    assert claimed is not None
    return claimed


def again(run: Run) -> Run:
    """The same folder, as the next monitor opens it."""
    run.close()
    return Run(run.folder, FakeClock())


# -- names


def test_a_run_id_is_readable_and_names_no_two_runs() -> None:
    ids = {new_run_id("My Castle!", 1_790_000_000.5) for _ in range(20)}
    assert len(ids) == 20
    assert all(run_id.startswith("20260921-141320.500-my-castle-") for run_id in ids)


def test_run_ids_sort_by_time() -> None:
    walls = [1_790_000_000.0 + seconds for seconds in (0.001, 0.9, 1, 60, 86_400)]
    ids = [new_run_id(name, wall) for name, wall in zip("zyxwv", walls, strict=True)]
    assert ids == sorted(ids)


@pytest.mark.parametrize("name", ["", "..", "///", "a" * 300, "CON", "\n", "$(rm)"])
def test_no_name_of_a_job_leads_out_of_the_folder(name: str) -> None:
    run_id = new_run_id(name, 0.0)
    assert len(run_id) < 80
    assert set(run_id) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")


# -- journal


def test_the_journal_is_read_again_as_it_was_written(run: Run) -> None:
    run.record("call_started", call="1.1", attempt=1, incarnation=1)
    run.record("call_failed", call="1.1", counted=True)
    after = again(run)
    assert after.records == run.records
    assert after.ledger.call("1.1").counted == 1
    assert after.source == "castle.yaml"


def test_a_torn_line_is_passed_over_and_the_next_one_is_whole(run: Run) -> None:
    run.close()
    with open(run.folder / JOURNAL, "ab") as file:
        file.write(b'{"at": "2026", "event": "call_star')
    after = again(run)
    assert [record["event"] for record in after.records] == ["claimed"]
    after.record("call_started", call="1.1", attempt=1, incarnation=1)
    last = again(after)
    assert [record["event"] for record in last.records] == ["claimed", "call_started"]


@pytest.mark.parametrize("line", [b"[]", b"null", b"\xff\xfe", b'{"event": 3}', b"{}", b"\x00" * 9])
def test_a_line_that_is_no_record_is_passed_over(run: Run, line: bytes) -> None:
    run.close()
    with open(run.folder / JOURNAL, "ab") as file:
        file.write(line + b"\n")
    assert [record["event"] for record in again(run).records] == ["claimed"]


def test_a_call_that_is_open_at_the_end_was_cut_off(run: Run) -> None:
    run.record("call_started", call="1.1", attempt=1, incarnation=1)
    assert again(run).ledger.call("1.1").cut_offs == 1


# -- the job


def test_the_seeds_are_drawn_once(run: Run) -> None:
    run.read_job()
    run.plan()
    after = again(run)
    after.read_job()
    after.plan()
    assert after.seeds == run.seeds
    assert run.seeds[0] is not None
    assert run.seeds[0].drawn
    assert len([record for record in after.records if record["event"] == "planned"]) == 1


def test_the_job_id_is_the_name_and_a_hash_of_the_bytes(run: Run) -> None:
    run.read_job()
    first = run.job_id
    assert first.startswith("castle-")
    (run.folder / "job.yaml").write_text("prompt: another\n")
    run.read_job()
    assert run.job_id != first


def test_a_job_that_changed_after_it_had_settled_is_noticed(run: Run) -> None:
    assert run.is_as_claimed
    (run.folder / "job.yaml").write_text("prompt: another one\n")
    assert not run.is_as_claimed


def test_a_job_too_large_to_be_one_is_not_read(run: Run) -> None:
    with open(run.folder / "job.yaml", "ab") as file:
        file.truncate(200 * 10**6)
    with pytest.raises(JobError, match="200,000,000 bytes"):
        run.read_job()


# -- images


@pytest.mark.parametrize(("kind", "ending"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_an_images_name_follows_its_content(run: Run, kind: str, ending: str) -> None:
    (image,) = run.finish_call(call(), [picture(kind)], 0)
    assert image.name == f"{image_prefix(run.run_id)}_1-txt2img_001-01.{ending}"
    assert (image.width, image.height, image.grid) == (8, 16, False)
    with Image.open(run.folder / "images" / image.name) as saved:
        assert saved.format == kind


def test_images_are_saved_byte_for_byte_and_none_over_another(run: Run) -> None:
    data = [picture(colour=colour) for colour in range(3)]
    run.finish_call(call(1), data[:2], 1)
    run.finish_call(call(2), data[2:], 0)
    run.finish_call(call(1, stage=2, kind="extra-single-image"), data[:1], 0)
    found = {path.name: path.read_bytes() for path in (run.folder / "images").iterdir()}
    prefix = f"{image_prefix(run.run_id)}_"
    assert found == {
        f"{prefix}1-txt2img_001-grid.png": data[0],
        f"{prefix}1-txt2img_001-02.png": data[1],
        f"{prefix}1-txt2img_002-01.png": data[2],
        f"{prefix}2-upscale_001-01.png": data[0],
    }


def test_an_image_does_not_repeat_the_whole_run_id_and_says_day_job_and_run(tmp_path: Path) -> None:
    run = Run(tmp_path / "20261123-065243.123-ärger-im-büro-mit-der-schrift-3f2a", FakeClock())
    run.folder.mkdir()
    (image,) = run.finish_call(call(), [picture()], 0)
    assert image.name == "20261123-065243-ärger-im-büro-mi-3f2a_1-txt2img_001-01.png"
    run.close()


def test_images_of_an_earlier_version_keep_their_names(run: Run) -> None:
    """Earlier versions named them after the whole run id; what was not recorded is made again."""
    old, lost = (f"{run.run_id}_1-txt2img_00{n}-01.png" for n in (1, 2))
    (run.folder / "images").mkdir()
    for name in (old, lost, "mine.png"):
        (run.folder / "images" / name).write_bytes(picture())
    about = {"name": old, "sha256": "0" * 64, "size": len(picture()), "width": 8, "height": 16}
    run.record("call_finished", call="1.1", images=[{**about, "grid": False}])
    run.close()
    after = again(run)
    after.sweep()
    (image,) = after.ledger.call("1.1").images or ()
    assert not after.lacks_of("1.1")
    assert after.read_image(image.name, own=False) == picture()
    (new,) = after.finish_call(call(2), [picture()], 0)
    names = {path.name for path in (run.folder / "images").iterdir()}
    assert names == {old, "mine.png", new.name}
    assert [path.name for path in (run.folder / "unrecorded").iterdir()] == [lost]
    after.write_manifest("done")
    manifest = json.loads((run.folder / "run.json").read_text("utf-8"))
    assert [made["images"][0]["name"] for made in manifest["calls"]] == [old, new.name]
    after.close()


def test_images_that_no_record_names_are_moved_aside(run: Run) -> None:
    """Of a job file that was still being written, and of a call that a death cut off before it was
    recorded, whose reply had another format the second time."""
    (first,) = run.finish_call(call(), [picture()], 0)
    run.record("job_changed", job_id="another")
    (made,) = run.finish_call(call(2), [picture("JPEG")], 0)
    images, aside = run.folder / "images", run.folder / "unrecorded"
    cut_off = made.name.replace(".jpg", ".png")
    for _ in range(2):  # twice: nothing is overwritten
        (images / cut_off).write_bytes(picture())
        run.sweep()
    assert [path.name for path in images.iterdir()] == [made.name]
    assert {path.name for path in aside.iterdir()} == {first.name, cut_off, f"2-{cut_off}"}


@pytest.mark.posix_only("links need a privilege on Windows")
def test_a_link_named_like_an_image_is_moved_and_not_followed(run: Run, tmp_path: Path) -> None:
    (made,) = run.finish_call(call(), [picture()], 0)
    elsewhere = tmp_path / "elsewhere.png"
    elsewhere.write_bytes(picture())
    link = made.name.replace("_001", "_002")
    (run.folder / "images" / link).symlink_to(elsewhere)
    run.sweep()
    assert (run.folder / "unrecorded" / link).is_symlink()
    assert elsewhere.read_bytes() == picture()


def test_without_a_readable_journal_no_image_is_moved(run: Run) -> None:
    (made,) = run.finish_call(call(), [picture()], 0)
    run.close()
    with (run.folder / JOURNAL).open("a", encoding="utf-8") as file:
        file.write('{"event": "call_finished", "call": "1.2", "images": 5}\n')
    after = again(run)
    assert after.broken
    after.sweep()
    assert (run.folder / "images" / made.name).is_file()


def test_a_finished_call_is_known_after_a_restart(run: Run) -> None:
    saved = run.finish_call(call(), [picture()], 0, seconds=1.5)
    assert again(run).ledger.call("1.1").images == saved


@pytest.mark.posix_only("symbolic links, which need a privilege on Windows")
def test_an_image_of_a_job_cannot_lie_outside_its_folder(
    spool: Spool, clock: FakeClock, tmp_path: Path
) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    folder_job(spool, "sketch", "stages:\n  - img2img: {init_images: a.png}\n", "a.png")
    (arrival,) = settled(inbox_of(spool, clock), clock)
    run = claim(arrival, spool, clock)
    assert run is not None
    (run.folder / "job" / "link.png").symlink_to(tmp_path / "secret.png")
    assert run.read_image("a.png", own=True) == picture()
    for name in ("link.png", "../job.yaml", "/etc/hostname", str(tmp_path / "secret.png")):
        with pytest.raises(SpoolError, match="outside"):
            run.read_image(name, own=True)


# -- manifest


def test_the_manifest_has_each_call_with_its_attempts_and_images(
    run: Run, clock: FakeClock
) -> None:
    run.read_job()
    run.plan()
    run.record("call_started", call="1.1", attempt=1, incarnation=1)
    clock.advance(2)
    run.record("call_failed", call="1.1", diagnosis="crash", counted=True)
    run.record("call_started", call="1.1", attempt=2, incarnation=2)
    run.finish_call(call(), [picture()], 0, seconds=0.5, model="dream")
    run.write_manifest("done")

    manifest = json.loads((run.folder / "run.json").read_text())
    assert (manifest["run_id"], manifest["source"]) == (run.run_id, "castle.yaml")
    assert manifest["outcome"] == "done"
    (stage,) = manifest["job"]["stages"]
    assert stage["txt2img"]["prompt"] == "a castle"
    assert stage["txt2img"]["seed"] >= 0
    (made,) = manifest["calls"]
    assert [attempt["outcome"] for attempt in made["attempts"]] == ["failed", "finished"]
    assert made["attempts"][0]["diagnosis"] == "crash"
    assert made["attempts"][0]["began"] < made["attempts"][0]["ended"]
    (image,) = made["images"]
    assert image["name"] == f"{image_prefix(run.run_id)}_1-txt2img_001-01.png"
    assert len(image["sha256"]) == 64
