"""Fonts of a contact sheet, and what becomes of pictures and letters that cannot be shown."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageFont, features

from sdwatch.policy.job.job import parse_job
from sdwatch.policy.job.points.contact_sheet import pages_of
from sdwatch.spool import contact_sheets
from sdwatch.spool.contact_sheets import font_for, make_sheets, sheet_name
from sdwatch.spool.run import Run
from tests.support.fakes import Workplace, picture


@pytest.fixture
def only_pillow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without any font that is tried."""
    monkeypatch.setattr(contact_sheets, "_FONTS", ())
    contact_sheets._fonts.cache_clear()
    yield
    contact_sheets._fonts.cache_clear()


def run_with(tmp_path: Path, images: dict[str, bytes]) -> Run:
    run = Workplace(tmp_path).claimed("prompt: x\n")
    (run.folder / "images").mkdir()
    for name, data in images.items():
        (run.folder / "images" / name).write_bytes(data)
    return run


def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written on sheets from now on."""
    lines: list[str] = []
    plain = contact_sheets._lines

    def seen(text: str, font: ImageFont.FreeTypeFont, width: int, most: int) -> list[str]:
        lines.append(text)
        return plain(text, font, width, most)

    monkeypatch.setattr(contact_sheets, "_lines", seen)
    return lines


def make(run: Run, text: str, images: dict[int, list[str]]) -> None:
    points = parse_job(text.encode(), "job.yaml").points
    make_sheets(run, pages_of(points, images), lambda: None)


@pytest.mark.usefixtures("only_pillow")
def test_pillows_own_font_has_ascii_and_an_umlaut_is_found_missing() -> None:
    assert font_for("steps: 20, cfg_scale: 7.5 (a/b)", 20) is not None
    assert font_for("größe", 20) is None
    assert font_for("猫", 20) is None


@pytest.mark.usefixtures("only_pillow")
def test_a_value_in_letters_that_no_font_has_is_numbered_and_the_sheet_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = written(monkeypatch)
    run = run_with(tmp_path, {"1.png": picture(1), "2.png": picture(2)})
    make(run, 'prompt: "${tier}"\nmatrix: {tier: [cat, 猫]}\n', {1: ["1.png"], 2: ["2.png"]})
    assert lines == ["tier: cat", "tier #2", contact_sheets._NOTE]
    with Image.open(run.folder / sheet_name(1)) as sheet:
        sheet.load()


def test_letters_that_join_need_raqm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda _: False)
    assert font_for("שלום", 20) is None
    assert font_for("plain", 20) is not None


@pytest.mark.parametrize("broken", [b"", b"no picture", picture()[:100]])
def test_a_picture_that_cannot_be_decoded_leaves_its_place_empty(
    tmp_path: Path, broken: bytes
) -> None:
    run = run_with(tmp_path, {"1.png": picture(1), "2.png": broken})
    text = "prompt: x\nmatrix: {steps: [1, 2]}\n"
    make(run, text, {1: ["1.png"], 2: ["2.png", "gone.png", "../journal.jsonl"]})
    with Image.open(run.folder / sheet_name(1)) as sheet:
        sheet.load()


def test_a_sheet_that_is_there_is_not_drawn_again(tmp_path: Path) -> None:
    run = run_with(tmp_path, {"1.png": picture(1), "2.png": picture(2)})
    (run.folder / sheet_name(1)).write_bytes(b"as it was")
    make(run, "prompt: x\nmatrix: {steps: [1, 2]}\n", {1: ["1.png"], 2: ["2.png"]})
    assert (run.folder / sheet_name(1)).read_bytes() == b"as it was"


def test_a_long_label_ends_in_dots_within_its_width() -> None:
    font = ImageFont.load_default(14)
    assert isinstance(font, ImageFont.FreeTypeFont)
    lines = contact_sheets._lines("word " * 50, font, 200, 2)
    assert len(lines) == 2
    assert lines[-1].endswith("...")
    assert all(font.getlength(line) <= 200 for line in lines)
    assert contact_sheets._lines("x" * 300, font, 100, 3)[-1].endswith("...")


def test_a_picture_keeps_its_shape_and_its_colours(tmp_path: Path) -> None:
    tall = io.BytesIO()
    Image.new("RGB", (20, 400), "red").save(tall, "PNG")
    run = run_with(tmp_path, {"1.png": tall.getvalue(), "2.png": picture(2)})
    make(run, "prompt: x\nmatrix: {steps: [1, 2]}\n", {1: ["1.png"], 2: ["2.png"]})
    with Image.open(run.folder / sheet_name(1)) as sheet:
        colours = sheet.convert("RGB").crop((8, 8, 27, 300)).resize((1, 1)).getpixel((0, 0))
    assert isinstance(colours, tuple)
    assert colours[0] > 200
    assert colours[1] < 80
