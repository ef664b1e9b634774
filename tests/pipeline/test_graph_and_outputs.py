"""A run through a graph of stages, and what it makes of its result: with a plain client, through
deaths and refusals at each effect."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdwatch.policy.job.outputs.result import Format, OutputWish
from sdwatch.spool.archive import move_out
from sdwatch.spool.outputs import Outputs, make_late
from sdwatch.spool.outputs_to_make import OutputSettings, waiting
from sdwatch.spool.run import Run
from sdwatch.stages.run_end import RunEnd
from sdwatch.system import failpoints, links, new_files
from sdwatch.system.failpoints import Failpoint
from sdwatch.webui.http.client import Reply
from tests.support.death import Death, Points, Unsynced, listening
from tests.support.fakes import (
    FakeClient,
    FakeProcess,
    PlainClient,
    Workplace,
    events,
    journal,
    picture,
    reply,
    server_error,
)
from tests.support.helpers import FakeClock

GRAPH = """\
name: a castle
keep: last
stages:
  - txt2img: {id: base, prompt: a castle, n_iter: 2, seed: 7}
  - img2img: {id: day, input: base, prompt: by day, seed: 9}
  - upscale: {input: base, upscaling_resize: 1}
  - img2img: {input: day, prompt: all, fan_out: off, payload: {neu: {er: wert}}}
"""
NAMED = GRAPH + "outputs: '{name}/{stage}-{seed}'\n"
MATRIX = """\
prompt: "${animal}"
seed: 3
matrix: {animal: [cat, owl], steps: [1, 2]}
outputs: "{point}-{animal}-{steps}"
"""


def numbered() -> Callable[[str, Mapping[str, Any]], Reply]:
    """Answers with pictures that say which was asked for: the same request, the same picture."""

    def answer(stage: str, payload: Mapping[str, Any]) -> Reply:
        text = json.dumps([stage, payload], sort_keys=True).encode()
        first = int(hashlib.sha256(text).hexdigest()[:3], 16)
        images = [picture(first + i, infotext="x") for i in range(payload.get("batch_size", 1))]
        return Reply(tuple(images), 0)

    return answer


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


def settings(place: Workplace, name: str = "", format: Format | None = None) -> OutputSettings:
    return OutputSettings(place.spool.root / "outputs", OutputWish(name, format))


def end(place: Workplace, run: Run, client: Any, **more: Any) -> RunEnd:
    more = {"outputs": settings(place), **more}
    return place.runner(run, client, **more).run_to_end(place.spool)


def outputs_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return found


# -- the graph


def test_each_stage_gets_the_images_of_the_one_that_it_names(place: Workplace) -> None:
    client = PlainClient(numbered())
    assert end(place, place.claimed(GRAPH), client) is RunEnd.DONE
    stages = [stage for stage, _ in client.posts]
    assert stages == ["txt2img"] * 2 + ["img2img"] * 2 + ["extra-single-image"] * 2 + ["img2img"]
    payloads = [payload for _, payload in client.posts]
    base = [payload["init_images"] for payload in payloads[2:4]]
    assert [[payload["image"]] for payload in payloads[4:6]] == base
    assert payloads[6]["neu"] == {"er": "wert"}
    assert payloads[6]["batch_size"] == len(payloads[6]["init_images"]) == 2
    calls = [call["call"] for call in manifest(place.done())["calls"]]
    assert calls == ["1.1", "1.2", "2.1", "2.2", "3.1", "3.2", "4.1"]


def test_what_is_not_kept_is_gone_from_the_result_and_named_in_it(place: Workplace) -> None:
    assert end(place, place.claimed(GRAPH), PlainClient(numbered())) is RunEnd.DONE
    left = sorted(path.name.split("_", 1)[1] for path in (place.done() / "images").iterdir())
    assert left == [
        "3-upscale_001-01.png", "3-upscale_002-01.png", "4-img2img_001-01.png",
        "4-img2img_001-02.png",
    ]  # fmt: skip
    images = [i for call in manifest(place.done())["calls"] for i in call["images"]]
    assert [image.get("kept", True) for image in images] == [False] * 4 + [True] * 4
    thumbnails = {path.name for path in (place.done() / "thumbnails").iterdir()}
    assert all("4-img2img" in name for name in thumbnails)


def test_a_run_that_fails_keeps_what_an_unfinished_point_has(place: Workplace) -> None:
    made = numbered()

    def fails(stage: str, payload: Mapping[str, Any]) -> Reply:
        if stage == "extra-single-image":
            raise server_error()
        return made(stage, payload)

    assert end(place, place.claimed(GRAPH), PlainClient(fails)) is RunEnd.FAILED
    assert len(list((place.failed() / "images").iterdir())) == 4


def test_a_call_whose_image_was_not_kept_cannot_be_made_again(place: Workplace) -> None:
    assert end(place, place.claimed(GRAPH), PlainClient(numbered())) is RunEnd.DONE
    run = Run(place.done(), place.clock)
    with pytest.raises(Exception, match="was not kept"):
        place.runner(run).rebuild("2.1")


def test_the_texts_of_a_raw_payload_are_in_no_evidence(place: Workplace) -> None:
    said = "velvet tortoise reading tarot"
    run = place.claimed(f"prompt: x\npayload: {{neu: {{words: {said}}}}}\n")
    runner = place.recovering(run, FakeClient(server_error(f"no {said}")), FakeProcess())
    assert runner.run_to_end(place.spool) is RunEnd.FAILED
    written = {path.name: path.read_bytes() for path in place.failed().iterdir() if path.is_file()}
    assert "stage_failure_payload.json" in written
    for name, data in written.items():
        assert (said.encode() in data) == (name in ("job.yaml", "run.json")), name


# -- outputs


def test_outputs_are_named_by_the_pattern_and_never_overwrite(place: Workplace) -> None:
    folder = place.spool.root / "outputs" / "a castle"
    folder.mkdir(parents=True)
    (folder / "UPSCALE-7.PNG").write_bytes(b"somebody's")
    assert end(place, place.claimed(NAMED), PlainClient(numbered())) is RunEnd.DONE
    run = place.done()
    made = manifest(run)["outputs"]["made"]
    seeds = [call["used"] for call in manifest(run)["calls"] if "used" in call]
    assert not seeds, "the plain client reports none"
    drawn = journal(run)[1]["seeds"][3]["seed"]
    assert sorted(made.values()) == sorted(
        [
            "a castle/upscale-7-2.png", "a castle/upscale-8.png",
            f"a castle/img2img-{drawn}.png", f"a castle/img2img-{drawn + 1}.png",
        ]
    )  # fmt: skip
    found = outputs_of(place.spool.root / "outputs")
    assert found.pop("a castle/UPSCALE-7.PNG") == b"somebody's"
    assert found == {name: (run / "images" / image).read_bytes() for image, name in made.items()}
    one = next(iter(made.items()))
    same = (run / "images" / one[0]).samefile(place.spool.root / "outputs" / one[1])
    assert same, "a link costs no room"


def test_two_runs_of_one_job_have_outputs_of_their_own(place: Workplace) -> None:
    for _ in range(2):
        assert end(place, place.claimed(MATRIX), PlainClient(numbered())) is RunEnd.DONE
    names = sorted(outputs_of(place.spool.root / "outputs"))
    assert names[:2] == ["0001-cat-1-2.png", "0001-cat-1.png"]
    assert len(names) == 8


def test_the_config_names_outputs_and_their_format_for_other_jobs(place: Workplace) -> None:
    default = settings(place, "{run}", Format.JPEG)
    assert end(place, place.claimed("prompt: x\n"), PlainClient(numbered()), outputs=default)
    (name,) = outputs_of(place.spool.root / "outputs")
    assert name == f"{place.done().name}.jpg"
    with Image.open(place.spool.root / "outputs" / name) as made:
        assert made.format == "JPEG"
    assert end(place, place.claimed("prompt: x\noutputs: off\n"), PlainClient(numbered()))
    assert len(outputs_of(place.spool.root / "outputs")) == 1


def test_good_pictures_of_a_run_that_fails_have_outputs_too(place: Workplace) -> None:
    made = numbered()

    def owls_fail(stage: str, payload: Mapping[str, Any]) -> Reply:
        if payload["prompt"] == "owl":
            raise server_error()
        return made(stage, payload)

    assert end(place, place.claimed(MATRIX), PlainClient(owls_fail)) is RunEnd.FAILED
    assert sorted(outputs_of(place.spool.root / "outputs")) == ["0001-cat-1.png", "0002-cat-2.png"]
    assert (place.failed() / "contact_sheet.jpg").is_file()


def test_a_matrix_has_a_contact_sheet(place: Workplace) -> None:
    assert end(place, place.claimed(MATRIX), PlainClient(numbered())) is RunEnd.DONE
    with Image.open(place.done() / "contact_sheet.jpg") as sheet:
        sheet.load()
        assert sheet.width > 2 * 384


def test_no_link_leads_outputs_elsewhere(place: Workplace, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    try:
        (place.spool.root / "outputs").symlink_to(elsewhere, target_is_directory=True)
    except OSError:
        pytest.skip("this user may not make links")
    assert end(place, place.claimed(NAMED), PlainClient(numbered())) is RunEnd.DONE
    assert not list(elsewhere.iterdir())
    assert "a link or a file is in the place" in manifest(place.done())["outputs"]["refused"]


# -- names that are taken meanwhile, and disks without links


def test_a_name_that_somebody_takes_in_that_moment_is_not_overwritten(place: Workplace) -> None:
    folder = place.spool.root / "outputs"

    def somebody(effect: Failpoint) -> None:
        if effect.label == "link" and effect.path.name == "0001-cat-1.png":
            effect.path.write_bytes(b"somebody's")

    failpoints.before = somebody
    try:
        assert end(place, place.claimed(MATRIX), PlainClient(numbered())) is RunEnd.DONE
    finally:
        failpoints.before = failpoints._nothing
    found = outputs_of(folder)
    assert found["0001-cat-1.png"] == b"somebody's"
    assert set(manifest(place.done())["outputs"]["made"].values()) == set(found) - {
        "0001-cat-1.png"
    }
    assert "0001-cat-1-2.png" in found


def test_without_hard_links_outputs_are_copies(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", no_links)
    assert end(place, place.claimed(MATRIX), PlainClient(numbered())) is RunEnd.DONE
    made = manifest(place.done())["outputs"]["made"]
    found = outputs_of(place.spool.root / "outputs")
    assert found == {
        name: (place.done() / "images" / image).read_bytes() for image, name in made.items()
    }
    assert len(found) == 4


# -- a folder that refuses


def refuse_outputs(effect: Failpoint) -> None:
    if "outputs" in effect.path.parts:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(effect.path))


def test_a_full_disk_of_outputs_fails_no_run_and_they_are_made_later(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("sdwatch.system.failpoints.before", refuse_outputs)
        assert end(place, place.claimed(NAMED), PlainClient(numbered())) is RunEnd.DONE
    run = place.done()
    why = manifest(run)["outputs"]["refused"]
    assert why.startswith(os.strerror(errno.ENOSPC))
    assert "castle" not in why, "a name of a file may be a prompt"
    assert waiting(place.spool) == [run.name]
    late = Outputs(place.spool.root / "outputs", place.spool.root)
    assert make_late(place.spool, run.name, late, place.clock)
    assert len(outputs_of(place.spool.root / "outputs")) == 4
    assert len(manifest(run)["outputs"]["made"]) == 4
    assert "refused" not in manifest(run)["outputs"]
    assert waiting(place.spool) == []


def test_outputs_of_a_run_that_somebody_removed_are_forgotten(place: Workplace) -> None:
    (place.spool.working / "gone.outputs").touch()
    late = Outputs(place.spool.root / "outputs", place.spool.root)
    assert make_late(place.spool, "gone", late, place.clock)
    assert waiting(place.spool) == []


def test_a_name_in_an_edited_journal_leads_nowhere(place: Workplace, tmp_path: Path) -> None:
    run = place.claimed(NAMED)
    run.record("outputs_planned", outputs={"x": "../../x.png"})
    client = PlainClient(numbered())
    runner = place.runner(run, client, outputs=settings(place))
    names = [image.name for image in runner.run_stages()]
    run.record("outputs_planned", outputs={name: f"../../{name}" for name in names})
    assert runner.run_to_end(place.spool) is RunEnd.DONE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spool"]
    assert len(outputs_of(place.spool.root / "outputs")) == 4


# -- deaths


def _die(effect: Failpoint) -> None:
    raise Death(effect)


def dies_at(place: Workplace, number: int, job: str, unsynced: Unsynced | None) -> str:
    """Run a job that dies at its n-th effect, and resume it to its end; return what that was."""
    client = PlainClient(numbered())
    run = place.claimed(job)
    with listening(Points(number, _die, unsynced)) as points:
        try:
            end(place, run, client, outputs=format_for(place, job))
        except Death:
            run.close()
    if unsynced is not None:
        unsynced.lose()
        unsynced.close()
    for folder in place.spool.run_folders():
        again = Run(folder, place.clock)
        again.sweep()
        if again.ledger.ended:
            again.close()
            move_out(folder, place.spool, again.ledger.ended)
        else:
            client = PlainClient(numbered())
            assert end(place, again, client, outputs=format_for(place, job)) is RunEnd.DONE
    return points.reached


def format_for(place: Workplace, job: str) -> OutputSettings:
    """Links for the one job, files of their own for the other."""
    return settings(place, "", Format.WEBP if job == COPIED else None)


def finishing(tmp_path: Path, job: str) -> range:
    """The numbers of the effects from the last call's end to the publication."""
    place = Workplace(tmp_path)
    with listening(Points(0, _die)) as points:
        end(place, place.claimed(job), PlainClient(numbered()), outputs=format_for(place, job))
    images = (i for i, seen in enumerate(points.seen) if re.fullmatch(r"rename 2.*\.png", seen))
    last = max(images)
    first = points.seen.index("append journal.jsonl", last)
    return range(first, len(points.seen) + 1)


SMALL = NAMED.replace(", n_iter: 2", "")
COPIED = MATRIX.replace("[1, 2]", "[1]") + "keep: last\n"


@pytest.mark.parametrize("job", [SMALL, COPIED], ids=["graph", "converted"])
@pytest.mark.parametrize("lost", [False, True], ids=["killed", "power cut"])
def test_a_death_at_any_effect_neither_doubles_nor_loses_an_output(
    tmp_path: Path, job: str, lost: bool
) -> None:
    if lost and os.name == "nt":
        pytest.skip("a power cut is made with functions relative to a folder")
    wanted = 2
    for number in finishing(tmp_path / "count", job):
        place = Workplace(tmp_path / f"{number}")
        reached = dies_at(place, number, job, Unsynced() if lost else None)
        where = f"{number}: {reached}"
        run = place.done()
        made = manifest(run)["outputs"]["made"]
        found = outputs_of(place.spool.root / "outputs")
        assert len(made) == wanted, where
        assert set(found) == set(made.values()), where
        assert events(run)[-1] == "ended", where
        finished = [r["call"] for r in journal(run) if r["event"] == "call_finished"]
        assert len(finished) == len(set(finished)), f"{where}: a finished call was repeated"
        kept = {i["name"] for c in manifest(run)["calls"] for i in c["images"] if i.get("kept", 1)}
        assert {path.name for path in (run / "images").iterdir()} == kept, where


@pytest.mark.parametrize("job", [SMALL, COPIED], ids=["graph", "converted"])
def test_a_disk_that_refuses_any_effect_once_costs_no_run_and_no_output(
    tmp_path: Path, job: str
) -> None:
    def refuse(effect: Failpoint) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(effect.path))

    for number in finishing(tmp_path / "count", job):
        place = Workplace(tmp_path / f"{number}", clock=FakeClock())
        run = place.claimed(job)
        with listening(Points(number, refuse)) as points:
            more = {"outputs": format_for(place, job)}
            assert end(place, run, PlainClient(numbered()), **more) is RunEnd.DONE
        where = f"{number}: {points.reached}"
        for run_id in waiting(place.spool):
            late = Outputs(place.spool.root / "outputs", place.spool.root)
            assert make_late(place.spool, run_id, late, place.clock), where
        made = manifest(place.done())["outputs"]["made"]
        found = outputs_of(place.spool.root / "outputs")
        assert len(made) == 2, where
        assert set(found) == set(made.values()), where


def test_a_link_that_comes_in_the_place_of_a_picture_gets_no_second_name(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    links.follow_none_below(tmp_path / "root")
    (tmp_path / "root").mkdir()
    try:
        (tmp_path / "root" / "a.png").symlink_to(tmp_path / "secret")
    except OSError:
        pytest.skip("this user may not make links")
    with pytest.raises(OSError, match="not a plain file"):
        new_files.link(tmp_path / "root" / "a.png", tmp_path / "root" / "b.png")
    assert not (tmp_path / "root" / "b.png").is_symlink()


def test_what_somebody_moved_since_is_not_made_again(place: Workplace) -> None:
    run = place.claimed(NAMED)
    seen: list[str] = []

    def dies_at_the_end(effect: Failpoint) -> None:
        seen.append(effect.label)
        if effect.path.name == "run.json":
            raise Death(effect)

    failpoints.before = dies_at_the_end
    try:
        with pytest.raises(Death):
            end(place, run, PlainClient(numbered()))
    finally:
        failpoints.before = failpoints._nothing
    run.close()
    for path in (place.spool.root / "outputs" / "a castle").iterdir():
        path.unlink()
    assert end(place, place.resumed(), PlainClient(reply())) is RunEnd.DONE
    assert outputs_of(place.spool.root / "outputs") == {}
