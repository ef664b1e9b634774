"""A folder of the spool becomes a link at any look: what is only read is not read there either."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from sdwatch import system
from sdwatch.cli import replay
from sdwatch.cli.list import _line, _read_run
from sdwatch.cli.retry import _edit
from sdwatch.cli.shared.chosen_config import ChosenConfig, choose_config
from sdwatch.cli.show import _run
from sdwatch.errors import SdwatchError
from sdwatch.policy.failure.hold_reason import Held, HoldReason
from sdwatch.policy.page import page
from sdwatch.policy.page.overview import as_json
from sdwatch.spool import commands
from sdwatch.spool.bundle import bundle
from sdwatch.spool.diagnostics import WHY
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import Heartbeat, read_heartbeats
from sdwatch.spool.hold_note import HoldNote
from sdwatch.spool.overview_reader import OverviewReader
from sdwatch.stages.run_end import RunEnd
from sdwatch.system import disk, links
from sdwatch.web.pages import run_page
from tests.spool.spools import made_spool
from tests.spool.swaps import seen_in
from tests.support.fakes import PlainClient, Workplace, picture, reply, server_error

pytestmark = pytest.mark.posix_only("on Windows a person may make no links")

SECRET = "zanzibar"
WIDTH = 61952
JOB = """\
stages:
  - txt2img: {prompt: a castle, width: 64, height: 64}
  - img2img: {prompt: a castle at night, denoising_strength: 0.5}
"""


class Scene:
    """A run that failed in its second stage, in the spool of the current folder."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root.mkdir()
        self.root = root
        config = root / "sdwatch.yaml"
        webuis = {"forge": {"url": "http://127.0.0.1:9"}}
        config.write_text(json.dumps({"spool": "spool", "state": "state", "webuis": webuis}))
        config.chmod(0o600)
        editor = root / "edit.sh"
        editor.write_text(f'cp "$1" "{root}/shown"\necho "# edited" >> "$1"\n')
        monkeypatch.setenv("VISUAL", f"sh {editor}")
        monkeypatch.setattr(tempfile, "tempdir", str(root))  # where an edited job may stay
        monkeypatch.chdir(root)
        place = Workplace(root)
        run = place.claimed(JOB)
        runner = place.runner(run, PlainClient(reply(picture(1)), server_error()))
        assert runner.run_to_end(place.spool) is RunEnd.FAILED
        self.spool = place.spool
        self.run = place.failed()
        self.chosen: ChosenConfig = choose_config(None)


Operation = Callable[[Scene], bytes]
"""Works on a scene; all that it showed or gave to somebody."""


def make_a_bundle(scene: Scene) -> bytes:
    packed = bundle(scene.run, scene.chosen.config, ())
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        return b"".join(archive.read(name) for name in archive.namelist())


def rebuild_a_call(scene: Scene) -> bytes:
    _, payload = replay._rebuilt(scene.run, None, scene.chosen)
    return json.dumps(payload).encode()


def edit_a_run(scene: Scene) -> bytes:
    try:
        _edit(scene.run, scene.spool, scene.chosen.config.rules)
    finally:
        shown = scene.root / "shown"
        data = shown.read_bytes() if shown.exists() else b""
        assert SECRET.encode() not in data, "the editor showed it"
    return data


def submit_a_file(scene: Scene) -> bytes:
    job = scene.root / "sketch.yaml"
    job.write_text("prompt: a castle\n")
    return str(commands.submit(job, scene.spool.inbox)).encode()


def list_a_run(scene: Scene) -> bytes:
    return _line(_read_run(scene.run, {})).encode()


def show_a_run(scene: Scene) -> bytes:
    return "\n".join(_run(scene.run, scene.spool)).encode()


def make_the_page(scene: Scene) -> bytes:
    overview = OverviewReader(scene.spool.root).read(patient=True)
    return json.dumps(as_json(overview)).encode() + page.whole(overview).encode()


def make_the_page_of_a_run(scene: Scene) -> bytes:
    return str(run_page(scene.spool, f"failed/{scene.run.name}", "")).encode()


def beat(scene: Scene) -> bytes:
    heartbeat = Heartbeat(scene.spool)
    heartbeat.beat({"at": "now"})
    heartbeat.end()
    return b""


OPERATIONS = (
    make_a_bundle,
    rebuild_a_call,
    edit_a_run,
    submit_a_file,
    list_a_run,
    show_a_run,
    make_the_page,
    make_the_page_of_a_run,
    beat,
)


class AtLook:
    """Counts the walks down from a spool's root, and acts before the n-th (from 1)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[], None]):
        self.count = 0
        for name in ("holding", "open_inside"):
            original = getattr(system, name)

            def walk(*args: object, _original: Callable[..., object] = original) -> object:
                self.count += 1
                if self.count == number:
                    act()
                return _original(*args)

            monkeypatch.setattr(system, name, walk)
            monkeypatch.setattr(links.system, name, walk)


def with_secrets(folder: Path) -> None:
    """Another's folder, which has the same names: his texts, and numbers that no bundle hides."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.suffix != ".png":
            data = path.read_bytes().replace(b"castle", SECRET.encode())
            data = data.replace(b'"job.yaml"', f'"{SECRET}.yaml"'.encode())
            path.write_bytes(data.replace(b'"width": 64', b'"width": %d' % WIDTH))


def folders_of(spool: Spool) -> list[Path]:
    found = [Path(base, name) for base, names, _ in os.walk(spool.root) for name in names]
    return sorted(path.relative_to(spool.root) for path in found)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.__name__)
def test_a_folder_that_becomes_a_link_at_any_look_is_neither_read_nor_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: Operation
) -> None:
    scene = Scene(tmp_path / "scene", monkeypatch)
    kept = tmp_path / "kept"
    shutil.copytree(scene.spool.root, kept)
    with monkeypatch.context() as patched:
        looks = AtLook(patched, 0, lambda: None)
        operation(scene)
    assert looks.count > 1
    for number in range(1, looks.count + 1):
        for index in range(len(folders_of(scene.spool))):
            for folder in (scene.spool.root, scene.root / "outside"):
                shutil.rmtree(folder, ignore_errors=True)
            (scene.root / "shown").unlink(missing_ok=True)
            shutil.copytree(kept, scene.spool.root)
            with monkeypatch.context() as patched:
                swapped_at(scene, patched, operation, number, index)


def swapped_at(
    scene: Scene, patched: pytest.MonkeyPatch, operation: Operation, number: int, index: int
) -> None:
    """One folder becomes a link at the n-th look, and stays one."""
    outside = scene.root / "outside"
    before: dict[str, tuple[object, ...]] = {}
    where = ""

    def swap() -> None:
        nonlocal where
        folders = folders_of(scene.spool)
        if index >= len(folders):
            return
        where = str(folders[index])
        folder = scene.spool.root / where
        shutil.copytree(folder, outside, symlinks=True)
        with_secrets(outside)
        before.update(seen_in(outside))
        folder.rename(folder.with_name(".away"))
        folder.symlink_to(outside)

    AtLook(patched, number, swap)
    given = b""
    with suppress(OSError, SdwatchError):
        given = operation(scene)
    what = f"{operation.__name__}, look {number}, {where}"
    assert SECRET.encode() not in given, what
    assert str(WIDTH).encode() not in given, what
    if where:
        assert seen_in(outside) == before, what
    for path in scene.spool.inbox.rglob("*"):
        if path.is_file() and not path.is_symlink() and outside not in path.resolve().parents:
            assert SECRET.encode() not in path.read_bytes(), what


# -- links in the place of files


HELD = Held(HoldReason("no model"), "2026-11-23T06:52:43Z", (), 0)


@pytest.mark.parametrize("name", ["HOLD-sim.txt", ".HOLD-sim.txt.tmp"])
def test_a_link_in_the_place_of_a_hold_note_is_replaced_and_not_written_through(
    tmp_path: Path, name: str
) -> None:
    spool = made_spool(tmp_path)
    letter = tmp_path / "letter.txt"
    letter.write_text(SECRET)
    (spool.root / name).symlink_to(letter)
    note = HoldNote(spool.root, "sim")
    note.show(HELD)
    assert not (spool.root / "HOLD-sim.txt").is_symlink()
    assert "no model" in (spool.root / "HOLD-sim.txt").read_text()
    assert not note.was_taken_away()
    (spool.root / "HOLD-sim.txt").unlink()
    (spool.root / "HOLD-sim.txt").symlink_to(letter)
    note.show(None)
    assert not (spool.root / "HOLD-sim.txt").is_symlink()
    assert letter.read_text() == SECRET


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("name", ["heartbeat.json", "heartbeat.tmp"])
def test_a_link_in_the_place_of_the_heartbeat_is_not_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_full: bool
) -> None:
    """On a full disk the heartbeat's room is used again: not that of what a link leads to."""
    spool = made_spool(tmp_path)
    letter = tmp_path / "letter.txt"
    letter.write_text(SECRET)
    (spool.working / name).symlink_to(letter)

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    if is_full:
        monkeypatch.setattr(disk, "_new_file", full)
    heartbeat = Heartbeat(spool)
    with suppress(OSError):
        heartbeat.beat({"at": "now"})
    heartbeat.end()
    assert letter.read_text() == SECRET


# -- what is no plain file in their place


@pytest.mark.parametrize("what", ["pipe", "huge", "deep", "folder", "link"])
def test_an_invalid_heartbeat_of_another_monitor_is_reported_as_unreadable(
    tmp_path: Path, what: str
) -> None:
    spool = made_spool(tmp_path)
    (spool.root / "working" / "other").mkdir()
    held = put_there(spool.root / "working" / "other" / "heartbeat.json", what)
    (beat,) = read_heartbeats(spool.root)
    assert beat == {"worker": "other", "unreadable": True}
    if held is not None:
        os.close(held)


@pytest.mark.parametrize("name", ["journal.jsonl", WHY, "job.yaml", "run.json", "error.json"])
@pytest.mark.parametrize("what", ["pipe", "huge", "deep", "folder", "link"])
def test_whatever_takes_a_files_place_in_a_run_breaks_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, name: str
) -> None:
    scene = Scene(tmp_path / "scene", monkeypatch)
    (scene.run / name).unlink()
    held = put_there(scene.run / name, what)
    for show in (list_a_run, make_the_page):
        assert scene.run.name.encode() in show(scene)
    for operation in (
        make_a_bundle,
        rebuild_a_call,
        edit_a_run,
        show_a_run,
        make_the_page_of_a_run,
    ):
        with suppress(OSError, SdwatchError):
            assert SECRET.encode() not in operation(scene)
    if held is not None:
        os.close(held)


def put_there(path: Path, what: str) -> int | None:
    """A thing of this kind; of a pipe a descriptor that keeps it open, so that it has no end."""
    if what == "pipe":
        os.mkfifo(path)
        return os.open(path, os.O_RDWR)
    if what == "huge":
        path.touch()
        os.truncate(path, 1 << 40)
    elif what == "deep":
        path.write_bytes(b"[" * 500_000)
    elif what == "folder":
        path.mkdir()
    else:
        letter = path.parent.parent / "letter"
        letter.write_text(f'{{"worker": "{SECRET}", "prompt": "{SECRET}"}}\n')
        path.symlink_to(letter)
    return None


def test_a_pipe_in_a_job_is_left_out_by_a_retry(tmp_path: Path) -> None:
    source = tmp_path / "job"
    source.mkdir()
    (source / "job.yaml").write_text("prompt: a castle\n")
    held = put_there(source / "pipe", "pipe")
    disk.copy(source, tmp_path / "copy", follow_links=False)
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["job.yaml"]
    assert held is not None
    os.close(held)
