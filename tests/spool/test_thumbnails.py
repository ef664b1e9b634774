"""Thumbnails: small, made once, and never worth a run."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as Picture

from sdwatch.policy.failure.ledger import CallLedger, Image, Ledger
from sdwatch.spool.after_death import recover
from sdwatch.spool.archive import claim, publish
from sdwatch.spool.thumbnails import THUMBNAILS, make_thumbnails
from sdwatch.system import disk
from tests.spool.spools import arrival_of, call, made_spool, picture
from tests.support.helpers import FakeClock


def image_file(run: Path, name: str, data: bytes) -> Image:
    (run / "images").mkdir(exist_ok=True)
    (run / "images" / name).write_bytes(data)
    return Image(name, "", len(data), 8, 8)


def ledger_of(**stages: list[Image]) -> Ledger:
    """A call for each stage, `s1`, `s2`."""
    calls = {f"{n[1:]}.1": CallLedger(images=tuple(images)) for n, images in stages.items()}
    return Ledger(calls=calls)


def drawn(size: tuple[int, int] = (1024, 768), kind: str = "PNG", mode: str = "RGB") -> bytes:
    data = io.BytesIO()
    Picture.new(mode, size, None).save(data, kind)
    return data.getvalue()


def made(run: Path) -> list[str]:
    folder = run / THUMBNAILS
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_thumbnail_is_a_small_jpeg_of_the_same_shape(tmp_path: Path, kind: str) -> None:
    image = image_file(tmp_path, f"a.{kind.lower()}", drawn(kind=kind))
    make_thumbnails(tmp_path, ledger_of(s1=[image]))
    (name,) = made(tmp_path)
    assert name == f"a.{kind.lower()}.jpg"
    with Picture.open(tmp_path / THUMBNAILS / name) as small:
        assert (small.format, small.size, small.mode) == ("JPEG", (320, 240), "RGB")
    assert (tmp_path / THUMBNAILS / name).stat().st_size < 20_000


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "I;16", "1"])
def test_every_mode_of_picture_has_a_thumbnail(tmp_path: Path, mode: str) -> None:
    make_thumbnails(tmp_path, ledger_of(s1=[image_file(tmp_path, "a.png", drawn(mode=mode))]))
    assert made(tmp_path) == ["a.png.jpg"]


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    make_thumbnails(tmp_path, ledger_of(s1=[image_file(tmp_path, "a.png", drawn(mode="RGBA"))]))
    with Picture.open(tmp_path / THUMBNAILS / "a.png.jpg") as small:
        assert small.getpixel((5, 5)) == (255, 255, 255)


def test_the_last_stage_is_shown_and_of_it_four_without_grids(tmp_path: Path) -> None:
    def images(stage: str) -> list[Image]:
        return [image_file(tmp_path, f"{stage}-{n}.png", picture()) for n in range(6)]

    grid = image_file(tmp_path, "grid.png", picture())
    grid = Image(grid.name, "", grid.size, 8, 8, grid=True)
    make_thumbnails(tmp_path, ledger_of(s1=images("one"), s2=[grid, *images("two")]))
    assert made(tmp_path) == [f"two-{n}.png.jpg" for n in range(4)]


def bomb() -> bytes:
    """A PNG that says that it is 60,000 pixels wide and high."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize(
    "made_bad",  # a function: each process that collects the tests would draw them all
    [
        lambda: b"",
        lambda: b"no picture",
        lambda: drawn()[:300],
        lambda: drawn(kind="JPEG")[:500],
        bomb,
        lambda: drawn((6000, 5000)),
    ],
    ids=["empty", "text", "cut png", "cut jpeg", "bomb", "huge"],
)
def test_a_picture_that_is_broken_or_huge_costs_only_its_thumbnail(
    tmp_path: Path, made_bad: Callable[[], bytes]
) -> None:
    bad = image_file(tmp_path, "bad.png", made_bad())
    images = [bad, image_file(tmp_path, "good.png", picture())]
    make_thumbnails(tmp_path, ledger_of(s1=images))
    assert made(tmp_path) == ["good.png.jpg"]


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "..\\evil", "a:stream", "..", ".x"])
def test_a_name_in_an_edited_journal_leads_nowhere(tmp_path: Path, name: str) -> None:
    run = tmp_path / "a" / "b" / "run"
    run.mkdir(parents=True)
    (tmp_path / "evil").write_bytes(picture())
    make_thumbnails(run, ledger_of(s1=[Image(name, "", 1, 8, 8)]))
    assert not made(run)
    assert not list(tmp_path.rglob("*.jpg"))


@pytest.mark.posix_only("a link to a file outside")
def test_a_link_in_place_of_an_image_is_not_followed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "images").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(picture())
    (run / "images" / "a.png").symlink_to(tmp_path / "secret.png")
    make_thumbnails(run, ledger_of(s1=[Image("a.png", "", 1, 8, 8)]))
    assert not made(run)


def test_a_disk_that_refuses_thumbnails_costs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    spool, clock = made_spool(tmp_path), FakeClock()
    run = claim(arrival_of(spool, clock), spool, clock)
    assert run is not None
    run.record("call_started", call="1.1", attempt=1, incarnation=1)
    run.finish_call(call(), [picture()], 0)
    monkeypatch.setattr(disk, "refresh", full)
    folder = publish(run, spool, "done", None)
    assert folder.is_dir()
    assert made(folder) == []


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    ledger = ledger_of(s1=[image_file(tmp_path, "a.png", picture())])
    make_thumbnails(tmp_path, ledger)
    before = (tmp_path / THUMBNAILS / "a.png.jpg").stat().st_mtime_ns
    make_thumbnails(tmp_path, ledger)
    assert (tmp_path / THUMBNAILS / "a.png.jpg").stat().st_mtime_ns == before


def test_what_a_death_left_of_a_thumbnail_is_gone_at_the_next_start(tmp_path: Path) -> None:
    spool, clock = made_spool(tmp_path), FakeClock()
    run = claim(arrival_of(spool, clock), spool, clock)
    assert run is not None
    run.close()
    folder = run.folder / THUMBNAILS
    folder.mkdir()
    (folder / "of-a-picture-that-is-gone.png.tmp").write_bytes(b"half")
    (folder / "kept.png.jpg").write_bytes(b"whole")
    assert recover(spool, clock) == [run.folder]
    assert [path.name for path in folder.iterdir()] == ["kept.png.jpg"]


@pytest.mark.posix_only("links")
def test_a_link_in_place_of_the_thumbnails_is_not_swept(tmp_path: Path) -> None:
    spool, clock = made_spool(tmp_path), FakeClock()
    run = claim(arrival_of(spool, clock), spool, clock)
    assert run is not None
    run.close()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.tmp").touch()
    (run.folder / THUMBNAILS).symlink_to(tmp_path / "elsewhere")
    recover(spool, clock)
    assert (tmp_path / "elsewhere" / "mine.tmp").exists()
