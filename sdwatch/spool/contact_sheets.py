"""The contact sheet of a run whose job has a matrix: its pictures small, by their values.

As the thumbnails it is made when the run is published, and nothing depends on it. Pillow's own font
has the letters of ASCII only and shows all others as boxes (measured with Pillow 13.0, Aileron), so
other fonts of this machine are tried; a value in letters that none of them has is numbered.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from unicodedata import bidirectional, category

from PIL import Image as Picture
from PIL import ImageDraw, ImageFont, features

from sdwatch.errors import SpoolError
from sdwatch.policy.job.outputs.picture import BROKEN
from sdwatch.policy.job.points.contact_sheet import MARGIN, Label, Page
from sdwatch.policy.queue.run_names import IMAGES
from sdwatch.spool.inside import open_plain
from sdwatch.spool.run import Run
from sdwatch.spool.thumbnails import shrunk
from sdwatch.system import disk
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.run")

_MOST_PIXELS = 50_000_000  # of a picture that is decoded for it
_PAPER, _INK, _MISSING = "white", "black", "#dddddd"

_FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "segoeui.ttf", "arial.ttf", "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "msyh.ttc", "meiryo.ttc", "malgun.ttf",
    "PingFang.ttc", "AppleSDGothicNeo.ttc", "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf", "NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf",
    "Nirmala.ttf", "Nirmala.ttc", "LeelawUI.ttf",
)  # fmt: skip
"""Names of files of fonts that come with systems, in the order in which they are tried."""

_NO_LETTER = "\U0010fffe"
"""No font has it: what is shown for it is what is shown for a letter that is missing."""

_NOTE = "#1, #2, ...: values in letters that no font of this machine has; run.json has them"


def sheet_name(number: int) -> str:
    """Return the name of the page with this number, from 1."""
    return "contact_sheet.jpg" if number == 1 else f"contact_sheet.{number}.jpg"


def make_sheets(run: Run, pages: Sequence[Page], check: Callable[[], None]) -> None:
    """Draw the pages that are missing into a run's folder. `check`: called between pictures, may
    raise. Never raises what a picture or a disk is the cause of."""
    for number, page in enumerate(pages, 1):
        target = run.folder / sheet_name(number)
        try:
            if not disk.is_file(target):
                disk.refresh(target, _drawn(run, page, check))
        except (OSError, ValueError, MemoryError) as error:
            log.info(
                "%s: without a contact sheet: %s",
                run.run_id,
                disk.in_words(error),
                extra=about(LogEvent.DISK_REFUSES),
            )
            return


def _drawn(run: Run, page: Page, check: Callable[[], None]) -> bytes:
    sheet = Picture.new("RGB", (page.width, page.height), _PAPER)
    words = _Words(ImageDraw.Draw(sheet), page.line)
    top = MARGIN + (2 * page.line if page.columns else 0)
    step = page.tile + MARGIN
    high = step + (0 if page.rows else 2 * page.line)
    for column, label in enumerate(page.columns):
        words.write((page.left + column * step, MARGIN), label, page.tile)
    for row, label in enumerate(page.rows):
        words.write((MARGIN, top + row * high), label, page.left - 2 * MARGIN, most_lines=6)
        for column in range(len(page.columns)):
            if (row, column) not in page.cells:
                at = page.left + column * step, top + row * high
                box = (*at, at[0] + page.tile - 1, at[1] + page.tile - 1)
                ImageDraw.Draw(sheet).rectangle(box, outline=_MISSING)
    for (row, column), image in page.cells.items():
        check()
        at = page.left + column * step, top + row * high
        if (small := _small(run, image, page.tile)) is not None:
            sheet.paste(small, at)
        if label_below := page.below.get((row, column)):
            words.write((at[0], at[1] + page.tile), label_below, page.tile)
    if words.numbered:
        place = (MARGIN, page.height - page.line - MARGIN)
        words.write(place, Label(_NOTE, 0), page.width - 2 * MARGIN, most_lines=1)
    data = io.BytesIO()
    sheet.save(data, "JPEG", quality=85)
    return data.getvalue()


def _small(run: Run, image: str, side: int) -> Picture.Image | None:
    """Return a picture that fits into a square; None for what cannot be decoded, or is huge."""
    try:
        with open_plain(run.folder, f"{IMAGES}/{image}") as file:
            return shrunk(file, side, _MOST_PIXELS)
    except (*BROKEN, SpoolError):
        return None


@dataclass
class _Words:
    """Writes labels. `numbered`: one of them was written as a number."""

    draw: ImageDraw.ImageDraw
    size: int
    numbered: bool = field(default=False)

    def write(self, at: tuple[int, int], label: Label, width: int, *, most_lines: int = 2) -> None:
        font = font_for(label.text, self.size)
        text = label.text
        if font is None:
            text, self.numbered = _numbered(label), True
            font = _fonts(self.size)[0]
        x, y = at
        for line in _lines(text, font, width, most_lines):
            self.draw.text((x, y), line, fill=_INK, font=font)
            y += self.size


def _numbered(label: Label) -> str:
    name = label.text.partition(":")[0]
    return f"{name if name.isascii() else 'value'} #{label.place}"


def _lines(text: str, font: ImageFont.FreeTypeFont, width: int, most: int) -> list[str]:
    """Return a text in lines that fit; the last one ends in dots where there is more."""
    lines: list[str] = []
    rest = text
    while rest and len(lines) < most:
        end = len(rest)
        while end > 1 and font.getlength(rest[:end]) > width:
            blank = rest.rfind(" ", 0, end - 1)
            end = blank if blank > 0 else end - 1
        lines.append(rest[:end].strip())
        rest = rest[end:].strip()
    if rest and lines:
        last = lines[-1]
        while last and font.getlength(last + "...") > width:
            last = last[:-1]
        lines[-1] = last + "..."
    return lines


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont | None:
    """Return the first font of this machine that has all letters of a text and can join them; None
    if there is none."""
    if _needs_shaping(text) and not features.check("raqm"):
        return None
    return next((font for font in _fonts(size) if _has_all(font, text)), None)


def _needs_shaping(text: str) -> bool:
    """Return whether its letters change with their neighbours, or run from right to left."""
    return any(bidirectional(c) in ("R", "AL", "AN") or category(c) in ("Mn", "Mc") for c in text)


def _has_all(font: ImageFont.FreeTypeFont, text: str) -> bool:
    return all(c.isspace() or _has(font, c) for c in set(text))


def _has(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    if category(letter) in ("Cf", "Mn"):
        return True  # shown with its neighbours, or not at all
    shown, missing = font.getmask(letter), font.getmask(_NO_LETTER)
    return shown.size != missing.size or bytes(shown) != bytes(missing)


@cache
def _fonts(size: int) -> tuple[ImageFont.FreeTypeFont, ...]:
    """Return Pillow's own font and those of this machine."""
    own = ImageFont.load_default(size)
    assert isinstance(own, ImageFont.FreeTypeFont)  # every wheel of Pillow has FreeType
    return own, *(font for name in _FONTS if (font := _font(name, size)) is not None)


def _font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
