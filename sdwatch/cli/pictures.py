"""Save a picture, or another file, in the folder in which a command was called."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from PIL import Image

from sdwatch.policy.job.picture import PictureData, opened


def save(stem: str, image: PictureData) -> Path:
    """Save it and return its path: in the current folder, or in the one for temporary files if the
    current one cannot be written. Nothing is overwritten. Raises OSError."""
    with Image.open(opened(image)) as picture:
        ending = (picture.format or "img").lower().replace("jpeg", "jpg")
    return save_file(stem, ending, image)


def save_file(stem: str, ending: str, data: PictureData) -> Path:
    """Save any file in the same way. Raises OSError."""
    try:
        return _write_new(Path.cwd(), stem, ending, data)
    except OSError:
        return _write_new(Path(tempfile.gettempdir()), stem, ending, data)


def _write_new(folder: Path, stem: str, ending: str, data: PictureData) -> Path:
    count = 1
    while True:
        path = folder / (f"{stem}.{ending}" if count == 1 else f"{stem}-{count}.{ending}")
        try:
            with open(path, "xb") as file:
                shutil.copyfileobj(opened(data), file)
        except FileExistsError:
            count += 1
        else:
            return path
