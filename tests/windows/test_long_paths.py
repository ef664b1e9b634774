"""Paths longer than the 259 characters that Windows takes by default (LongPathsEnabled=0)."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from sdwatch import system
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.errors import SpoolError
from sdwatch.policy.queue.run_names import LONGEST_IMAGE, LONGEST_RUN_ID, image_prefix, run_id
from sdwatch.spool.folders import Spool
from sdwatch.system import disk
from sdwatch.system.long_paths import LONGEST_FOLDER, extended, too_long, units
from sdwatch.system.state_folder import StateFolder
from tests.functional.cli import LIMIT, make_spool, started
from tests.windows.imitated import ROOT, imitating, python

EXTENDED = {
    "D:\\spool": "\\\\?\\D:\\spool",
    "D:/spool/inbox": "\\\\?\\D:\\spool\\inbox",
    "D:\\a\\..\\spool\\.\\x": "\\\\?\\D:\\spool\\x",
    "\\\\server\\share\\spool": "\\\\?\\UNC\\server\\share\\spool",
    "//server/share/spool": "\\\\?\\UNC\\server\\share\\spool",
    "\\\\server\\share\\büro\\画像": "\\\\?\\UNC\\server\\share\\büro\\画像",
    "\\\\?\\D:\\spool": "\\\\?\\D:\\spool",
    "\\\\?\\UNC\\server\\share": "\\\\?\\UNC\\server\\share",
    "\\\\.\\pipe\\name": "\\\\.\\pipe\\name",
}


@pytest.mark.parametrize(("path", "form"), EXTENDED.items())
def test_a_path_of_windows_has_a_form_that_may_be_long(path: str, form: str) -> None:
    assert extended(path) == form
    assert extended(form) == form


def test_a_path_is_as_long_as_windows_counts_it() -> None:
    assert units("C:\\🏰") == 5
    assert too_long("C:\\" + "🏰" * 122) == ""
    assert "has 249 characters" in too_long("C:\\" + "🏰" * 123)


def test_the_longest_names_are_as_long_as_they_are_said_to_be() -> None:
    run = run_id("20261123-065243.123", "a" * 99, "3f2a")
    assert len(run) == LONGEST_RUN_ID
    assert len(f"{image_prefix(run)}_1-txt2img_001-01.png") == LONGEST_IMAGE


def deep(folder: Path, length: int = 230) -> Path:
    """A folder below `folder` whose path has `length` characters."""
    path = folder
    while len(str(path)) < length - 42:
        path = path / "a folder with a long name, as people make"
    path = path / ("x" * (length - len(str(path)) - 1))
    disk.ensure_folder(path)
    return path


@pytest.mark.timeout(900)  # ten commands, and wine takes its time to start each
def test_the_whole_road_of_a_job_works_in_a_deep_spool(tmp_path: Path) -> None:
    """On Windows without long paths, as it is by default; the limit is imitated where wine has
    none. Elsewhere there is no such limit."""
    limits = imitating("short_paths") if os.name == "nt" else {}
    root = deep(tmp_path)
    assert len(str(root)) == 230
    (tmp_path / "home").mkdir()
    home = make_spool(tmp_path / "home", spool=str(root), retention={"failed": {"age": "30 days"}})

    def command(*words: object, code: int = ExitCode.OK) -> str:
        result = started(home, *words, **limits)
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout

    (home / "Burg.yaml").write_text("prompt: a castle\nsteps: 2\n", encoding="utf-8")
    (home / "wrong.yaml").write_text("prompt: a castle\nsteps: 2\n", encoding="utf-8")
    command("submit", "Burg.yaml", "wrong.yaml")
    disk.write(root / "inbox" / "wrong.yaml", b"sampler_name: no such sampler\nprompt: a\n")
    command("hold")
    command("resume")
    result = command("run", "--once")
    assert "1 done, 1 failed" in result
    assert "\\\\?\\" not in result
    (done,) = disk.folders_in(root / "done")
    (failed,) = disk.folders_in(root / "failed")
    manifest = json.loads(disk.read(done / "run.json"))
    (image,) = manifest["calls"][0]["images"]
    assert len(disk.read(done / "images" / image["name"])) == image["size"]
    assert len(str(done / "images" / image["name"])) > 300
    names = {entry.name for entry in disk.entries(failed)}
    assert {"WHY.txt", "error.json", "run.json", "journal.jsonl", "job.yaml"} <= names
    command("bundle", failed.name)
    (bundle,) = home.glob("*.zip")
    with zipfile.ZipFile(bundle) as file:
        assert file.testzip() is None
    command("list")
    command("status")
    command("retry", "burg")
    result = command("run", "--once")
    assert "1 done" in result
    env = {**os.environ, "PYTHONPATH": str(ROOT), **limits}
    subprocess.run(python("-c", REMOVES, root), env=env, check=True, timeout=LIMIT)
    assert disk.folders_in(root / "done") == disk.folders_in(root / "failed") == []


REMOVES = """
import sys
from pathlib import Path
from sdwatch.system import disk, links, renames
root = Path(sys.argv[1])
links.follow_none_below(root)
for run in disk.folders_in(root / "done") + disk.folders_in(root / "failed"):
    renames.rename(run, root / "working" / f".removed-{run.name}")  # as retention does
    disk.remove_tree(root / "working" / f".removed-{run.name}")
"""


def test_a_path_that_is_too_long_is_called_that_and_not_a_missing_folder() -> None:
    lost = FileNotFoundError(errno.ENOENT, "No such file or directory", "C:\\" + "x" * 300)
    result = disk.refusal(lost, Path("spool"))
    assert result.startswith("the path has 303 characters, and Windows takes 247 by default")
    assert "move the spool" in result
    lost.filename = "C:\\spool\\done"
    assert disk.refusal(lost, Path("spool")) == "No such file or directory: C:\\spool\\done"


@pytest.mark.posix_only("on Windows the spool works with the limit")
def test_where_even_that_cannot_work_the_reason_is_given(tmp_path: Path) -> None:
    """On Linux the imitated limit has no way around it."""
    root = deep(tmp_path, 200)
    (tmp_path / "home").mkdir()
    home = make_spool(tmp_path / "home", spool=str(root), arrival_timeout=1)
    (root / "inbox").mkdir()
    (root / "inbox" / "castle.yaml").write_text("prompt: a castle\n", encoding="utf-8")
    result = started(home, "run", "--once", **imitating("short_paths"))
    assert "cannot be claimed: the path has" in result.stdout, result.stdout + result.stderr
    assert (root / "inbox" / "castle.yaml").exists()


def test_what_other_programs_cannot_open_is_reported_beforehand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def as_on_windows(path: Path) -> str:
        return too_long(str(path))

    monkeypatch.setattr(system, "too_long_for_programs", as_on_windows)
    assert Spool(Path("/spool"), "w").too_deep == ""
    result = Spool(Path("/" + "s" * 150), "w").too_deep
    assert "Explorer and many other programs cannot open" in result
    with pytest.raises(SpoolError, match="Give `state` in the config a shorter path"):
        StateFolder(Path("/" + "s" * 200)).hold()


@pytest.mark.skipif(os.name != "nt", reason="elsewhere every path is taken as it is")
def test_a_short_path_stays_as_it_is_and_a_long_one_gets_the_prefix(tmp_path: Path) -> None:
    assert system.long_path(Path("castle.yaml")) == Path("castle.yaml")
    assert system.long_path(tmp_path) == tmp_path
    long = tmp_path / ("x" * LONGEST_FOLDER)
    assert str(system.long_path(long)) == f"\\\\?\\{long}"
