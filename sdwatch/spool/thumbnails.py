"""Small pictures of a run's images, made once, when it is published, for the page.

Nothing depends on them: a picture that is broken or huge, or a disk that refuses, costs its
thumbnail and nothing else. Neither synced nor announced; what a death left is made again.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from PIL import Image as Picture

from sdwatch.errors import SpoolError
from sdwatch.policy.failure.ledger import Image, Ledger
from sdwatch.policy.job.calls.payload import stage_of
from sdwatch.policy.job.outputs.picture import BROKEN, FORMATS
from sdwatch.spool.inside import open_plain
from sdwatch.system import EntryKind, disk
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch.run")

THUMBNAILS = "thumbnails"

_SIDE = 320  # pixels of the longer side: sharp on a phone, a few kilobytes
_MOST = 4  # of a run: what the page shows
_MOST_PIXELS = 25_000_000
"""A PNG or WebP is decoded whole, 4 bytes for each pixel: this is 100 MB and a third of a second. A
JPEG is decoded at an eighth of its size."""

_FILE_NAME = re.compile(r"[^./\\:][^/\\:]*")
"""Names come from a journal, and whoever may write to the share may have edited that."""


def make_thumbnails(run: Path, ledger: Ledger) -> None:
    """Make the thumbnails of a run that are missing: of its last stage, the first few images. Never
    raises what a picture or a disk is the cause of."""
    images = _last_images(ledger)[:_MOST]
    if not images:
        return
    try:
        folder = run / THUMBNAILS
        if not disk.is_folder(folder):
            disk.make_folder(folder)
        for image in images:
            target = folder / thumbnail_name(image.name)
            if not disk.is_file(target):
                _make(run, image, target)
    except OSError as error:
        log.info(
            "%s: without thumbnails: %s",
            run.name,
            disk.in_words(error),
            extra=about(LogEvent.DISK_REFUSES),
        )


def sweep_thumbnails(run: Path) -> None:
    """Remove the parts of thumbnails that a death left: of a picture that is made again or not.
    Raises OSError."""
    folder = run / THUMBNAILS
    if folder.is_symlink() or not disk.is_folder(folder):
        return
    for entry in disk.entries(folder):
        if entry.name.endswith(".tmp") and entry.kind is EntryKind.FILE:
            disk.remove(folder / entry.name)


def thumbnail_name(image: str) -> str:
    """Return the name of an image's thumbnail."""
    return f"{image}.jpg"


def _last_images(ledger: Ledger) -> Sequence[Image]:
    """Return the pictures of the last stage that has any, without grids."""
    by_stage: dict[str, list[Image]] = {}
    for call_id, call in ledger.calls.items():
        found = [i for i in call.pictures if not i.grid and _is_file_name(i.name)]
        if found:
            by_stage.setdefault(stage_of(call_id), []).extend(found)
    return list(by_stage.values())[-1] if by_stage else []


def _is_file_name(name: object) -> bool:
    return isinstance(name, str) and _FILE_NAME.fullmatch(name) is not None


def _make(run: Path, image: Image, target: Path) -> None:
    data = io.BytesIO()
    try:
        with open_plain(run, f"images/{image.name}") as file:
            # As sharp as the default (bicubic) where a picture gets smaller, in 60 % of the time.
            small = shrunk(file, _SIDE, _MOST_PIXELS, Picture.Resampling.HAMMING)
        small.save(data, "JPEG", quality=80)
    except (*BROKEN, SpoolError):
        log.info(
            "%s: no thumbnail of %s: it cannot be decoded",
            run.name,
            image.name,
            extra=about(LogEvent.FILE_UNREADABLE),
        )
        return
    disk.refresh(target, data.getvalue())


def shrunk(
    file: IO[bytes],
    side: int,
    most_pixels: int,
    resampling: Picture.Resampling = Picture.Resampling.BICUBIC,
) -> Picture.Image:
    """Return a picture that fits into a square, without transparency, on white. Raises what Pillow
    does, ValueError if it is huge."""
    with Picture.open(file, formats=FORMATS) as picture:
        picture.draft("RGB", (2 * side, 2 * side))
        if picture.width * picture.height > most_pixels:
            raise ValueError("too large")
        picture.thumbnail((side, side), resampling)
        if "A" not in picture.getbands() and "transparency" not in picture.info:
            return picture.convert("RGB")
        with_alpha = picture.convert("RGBA")
        flat = Picture.new("RGB", picture.size, "white")
        flat.paste(with_alpha, mask=with_alpha.getchannel("A"))
        return flat
