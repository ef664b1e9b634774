"""The files that a run made: images in images/, other files in files/, each under a name that no
other run and no other call has, see policy/queue/run_names.py. What no record names is moved to
unrecorded/: it is of a call that a death cut off before it was recorded, or of a job file that was
still being written. A person's own files stay."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Container, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from PIL import Image as Picture

from sdwatch.policy.failure.ledger import Image, OtherFile
from sdwatch.policy.job.calls.payload import Call
from sdwatch.policy.job.outputs.picture import PictureData, opened
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.queue import run_names
from sdwatch.policy.queue.run_names import FILES, IMAGES
from sdwatch.system import EntryKind, disk, renames
from sdwatch.system.reading import pieces_of

UNRECORDED = "unrecorded"

_FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


class SavedData(Protocol):
    """See webui/http/reply.py."""

    @property
    def data(self) -> PictureData: ...
    @property
    def ending(self) -> str: ...


def save_all(
    folder: Path, call: Call, images: Sequence[PictureData], grids: int, files: Sequence[SavedData]
) -> tuple[tuple[Image, ...], tuple[OtherFile, ...]]:
    """Save all that a call made in a run's folder, synced. `grids`: how many of the images come
    before its pictures. Raises OSError."""
    saved = tuple(
        _save_image(folder, call, number, data, grids) for number, data in enumerate(images, 1)
    )
    others = tuple(_save_file(folder, call, number, file) for number, file in enumerate(files, 1))
    for name in (IMAGES, FILES):
        if disk.is_folder(folder / name):
            disk.sync_folder(folder / name)
    disk.sync_folder(folder)  # the names of the two themselves
    return saved, others


def prepare(folder: Path, *, files: bool) -> None:
    """Make the folders that are missing. Raises OSError."""
    for name in (IMAGES, FILES) if files else (IMAGES,):
        if not disk.is_folder(folder / name):
            disk.make_folder(folder / name)


def _save_image(folder: Path, call: Call, number: int, data: PictureData, grids: int) -> Image:
    grid = number <= grids
    with Picture.open(opened(data)) as picture:
        extension = _FORMATS.get(picture.format or "", "img")
        width, height = picture.size
    what = "grid" if grid else f"{number:02d}"
    if call.changed is not None:  # its pictures have the numbers that the whole call gives them
        first = call.changed.first
        what = f"grid{first:02d}" if grid else f"{first + number - 1 - grids:02d}"
    name = f"{_start_of_name(folder, call)}-{what}.{extension}"
    return Image(name, _write(folder / IMAGES / name, data), len(data), width, height, grid)


def _save_file(folder: Path, call: Call, number: int, file: SavedData) -> OtherFile:
    part = f"-part{call.changed.first:02d}" if call.changed is not None else ""
    name = f"{_start_of_name(folder, call)}{part}-file{number:02d}.{file.ending}"
    return OtherFile(name, _write(folder / FILES / name, file.data), len(file.data))


def _start_of_name(folder: Path, call: Call) -> str:
    kind = STAGES[call.kind].short_name
    point = f"_p{call.point:04d}" if call.point else ""
    prefix = f"{run_names.image_prefix(folder.name)}{point}"
    return f"{prefix}_{call.stage}-{kind}_{call.number:03d}"


def _write(path: Path, data: PictureData) -> str:
    """Write a file, and return its sha256."""
    digest = hashlib.sha256()
    disk.write(path, _parts(data, digest.update))
    return digest.hexdigest()


def _parts(data: PictureData, seen: Callable[[bytes], None]) -> Iterator[bytes]:
    """Yield the bytes of a file in parts; `seen` gets each of them first."""
    with opened(data) as file:
        for part in pieces_of(file):
            seen(part)
            yield part


def move_aside(made: Path, ours: tuple[str, ...], recorded: Container[str]) -> None:
    """Move each file and link in the folder `made` that is named like what this run makes and is
    not recorded into the run's folder `unrecorded`; a link itself, not what it leads to. `ours`:
    how such names begin. Raises OSError; calling it again resumes."""
    if not disk.is_folder(made):
        return
    left = [
        entry.name
        for entry in disk.entries(made)
        if entry.kind is not EntryKind.FOLDER
        and entry.name.startswith(ours)
        and entry.name not in recorded
    ]
    if not left:
        return
    aside = made.parent / UNRECORDED
    disk.ensure_folder(aside)
    for name in left:
        _move(made / name, aside)
    disk.sync_folder(made)


def _move(path: Path, aside: Path) -> None:
    for number in itertools.count(1):
        target = aside / (path.name if number == 1 else f"{number}-{path.name}")
        try:
            renames.rename(path, target)
        except FileExistsError:
            continue
        except FileNotFoundError:
            return  # somebody removed it
        return
