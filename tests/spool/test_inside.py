"""Files of a job are read without leaving its folder, and images no larger than is said."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from sdwatch.errors import SpoolError
from sdwatch.spool import inside
from sdwatch.spool.inside import open_plain, read_picture, size_of_picture
from tests.support.fakes import picture
from tests.support.helpers import open_handles

MANY = 10_000
SIZE = (64, 64)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `a.png` and `parts/eye.png`, and beside it one that is not to be reached."""
    for name, number in (("job/a.png", 1), ("job/parts/eye.png", 2), ("secret/eye.png", 3)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture(number))
    return tmp_path / "job"


def test_what_is_inside_is_read(folder: Path) -> None:
    assert read_picture(folder, "a.png", MANY) == picture(1)
    assert read_picture(folder, "./parts/eye.png", MANY) == picture(2)
    assert size_of_picture(folder, "parts/eye.png", MANY) == SIZE


@pytest.mark.posix_only("symbolic links")
def test_the_folder_itself_may_be_reached_by_a_link(folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    assert read_picture(folder.parent / "link", "a.png", MANY) == picture(1)


@pytest.mark.posix_only("symbolic links")
def test_neither_a_link_nor_a_folder_that_is_one_is_followed(folder: Path) -> None:
    (folder / "link.png").symlink_to("../secret/eye.png")
    (folder / "same.png").symlink_to("a.png")
    (folder / "away").symlink_to("../secret")
    absolute = str(folder.parent / "secret" / "eye.png")
    for name in ("link.png", "same.png", "away/eye.png", "../secret/eye.png", absolute):
        with pytest.raises(SpoolError, match="leads outside the job's folder"):
            read_picture(folder, name, MANY)
        with pytest.raises(SpoolError, match="leads outside the job's folder"):
            size_of_picture(folder, name, MANY)


@pytest.mark.posix_only("symbolic links; on Windows a held folder cannot be swapped")
@pytest.mark.parametrize(("opened", "ends"), [(1, SpoolError), (2, None), (3, None)])
def test_a_folder_that_becomes_a_link_on_the_way_never_leads_outside(
    folder: Path, monkeypatch: pytest.MonkeyPatch, opened: int, ends: type[Exception] | None
) -> None:
    calls = 0
    real = os.open

    def open_then_swap(*arguments: Any, **more: Any) -> int:
        nonlocal calls
        fd = real(*arguments, **more)
        calls += 1
        if calls == opened:
            (folder / "parts").rename(folder / "kept")
            (folder / "parts").symlink_to("../secret")
        return fd

    monkeypatch.setattr(os, "open", open_then_swap)
    if ends is None:  # what was opened before is the folder's own, whatever has its name now
        assert read_picture(folder, "parts/eye.png", MANY) == picture(2)
    else:
        with pytest.raises(ends, match="leads outside"):
            read_picture(folder, "parts/eye.png", MANY)
    assert calls >= opened
    assert (folder / "parts").is_symlink()


def test_nothing_is_left_open(folder: Path) -> None:
    before = open_handles()
    for name in ("none.png", "parts", "parts/none.png", "a.png/b", "../x"):
        with pytest.raises((SpoolError, FileNotFoundError)):
            open_plain(folder, name)
    open_plain(folder, "a.png").close()
    assert open_handles() == before


@pytest.mark.posix_only("named pipes in a folder")
def test_what_is_no_plain_file_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    with pytest.raises(SpoolError, match="is not a plain file"):
        read_picture(folder, "pipe.png", MANY)


def test_a_folder_in_the_place_of_an_image_is_no_plain_file(folder: Path) -> None:
    with pytest.raises(SpoolError, match="is not a plain file"):
        read_picture(folder, "parts", MANY)


def test_an_empty_name_is_nothing_inside(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_plain(folder, "")


PICTURES = {
    "a text": (b"this is a text", "is not a PNG, JPEG or WebP picture"),
    "nothing": (b"", "is not a PNG, JPEG or WebP picture"),
    "a GIF": (picture(kind="GIF"), "is not a PNG, JPEG or WebP picture"),
    "a TIFF": (picture(kind="TIFF"), "is not a PNG, JPEG or WebP picture"),
    "many pixels": (picture(size=(101, 100)), "has 101 x 100 pixels, more than 0.01 megapixels"),
    "many pixels in a JPEG": (picture(kind="JPEG", size=(100, 101)), "has 100 x 101 pixels"),
    "many pixels in a WebP": (picture(kind="WEBP", size=(100, 101)), "has 100 x 101 pixels"),
}


@pytest.mark.parametrize(("data", "says"), PICTURES.values(), ids=PICTURES)
def test_what_cannot_be_used_is_known_from_its_first_bytes(
    folder: Path, data: bytes, says: str
) -> None:
    (folder / "a.png").write_bytes(data)
    for read in (size_of_picture, read_picture):
        with pytest.raises(SpoolError, match=says):
            read(folder, "a.png", MANY)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_what_is_cut_off_is_seen_when_it_is_read(folder: Path, kind: str) -> None:
    (folder / "a.png").write_bytes(picture(kind=kind))
    assert read_picture(folder, "a.png", MANY) == picture(kind=kind)
    (folder / "a.png").write_bytes(picture(kind=kind)[:-20])
    with pytest.raises(SpoolError, match="is cut off or damaged"):
        read_picture(folder, "a.png", MANY)


def test_a_file_that_is_too_large_is_not_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "MAX_PICTURE_BYTES", 100)
    for read in (size_of_picture, read_picture):
        with pytest.raises(SpoolError, match="has more than 0 MB"):
            read(folder, "a.png", MANY)
