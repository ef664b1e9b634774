"""The local state folder: the worker's id, and a folder for each WebUI."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from sdwatch.errors import SpoolError
from sdwatch.system.state_folder import StateFolder

ID = re.compile(r"[a-z0-9-]{1,60}")


def kept_and_new(root: Path) -> tuple[Path, str]:
    """What was set aside, and the id that came instead; it is the same from then on."""
    worker = StateFolder(root).worker
    assert ID.fullmatch(worker)
    assert StateFolder(root).worker == worker
    (aside,) = root.glob("worker.unreadable-*")
    return aside, worker


def test_the_workers_id_is_made_once(tmp_path: Path) -> None:
    worker = StateFolder(tmp_path).worker
    assert ID.fullmatch(worker)
    assert StateFolder(tmp_path).worker == worker
    assert [path.name for path in tmp_path.iterdir()] == ["worker"]


def test_an_id_from_before_is_kept_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "worker").write_text("render-2-a1b2c3\n")
    assert StateFolder(tmp_path).worker == "render-2-a1b2c3"


@pytest.mark.parametrize("name", ["büro_pc.örtlich", "HOST.example.org", "-", "h" * 300, ""])
def test_the_id_is_one_whatever_the_host_is_called(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    worker = StateFolder(tmp_path).worker
    assert ID.fullmatch(worker)
    assert StateFolder(tmp_path).worker == worker


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"../..", b"/etc", b"A", b"a b", b"a\nb", b"\xff\xfe", "é".encode(), b"a" * 61],
)
def test_an_invalid_id_is_set_aside(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "worker").write_bytes(content)
    aside, _ = kept_and_new(tmp_path)
    assert aside.read_bytes() == content
    assert f"set aside as {aside.name}" in caplog.text


def test_a_folder_in_place_of_the_id_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "worker" / "inside").mkdir(parents=True)
    aside, _ = kept_and_new(tmp_path)
    assert (aside / "inside").is_dir()


def test_an_id_that_cannot_be_kept_says_where(tmp_path: Path) -> None:
    with pytest.raises(SpoolError, match=re.escape(str(tmp_path / "gone" / "worker"))):
        _ = StateFolder(tmp_path / "gone").worker


def test_a_file_in_place_of_a_webuis_folder_is_named(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    assert state.webui("one").is_dir()
    (tmp_path / "webui-two").touch()
    with pytest.raises(SpoolError, match=re.escape(str(tmp_path / "webui-two"))):
        state.webui("two")


def test_a_file_in_place_of_the_state_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(SpoolError, match=re.escape(str(tmp_path / "state"))):
        StateFolder(tmp_path / "state").hold()
