"""Find the texts in a script's arguments that name a file in a folder. Pure.

An extension that is given `outputs/old/y.png` opens it, if it is there, below the folder in which
the WebUI was started. Names of models in sub-folders, wildcards (`__colors/warm__`), networks
(`<lora:ink/soft:1>`) and prompts look alike, and are none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_LONGEST = 4096  # of a path
_MODELS = "safetensors sft ckpt pt pth bin gguf onnx engine trt"
_MODEL = frozenset(_MODELS.split())
_FILES = """
png apng jpg jpeg jpe jfif webp gif bmp tif tiff avif heic heif jxl ico svg psd exr hdr tga dds
mp4 3gp 3g2 m4v webm mkv avi mov wmv mpg mpeg mp3 wav flac ogg m4a
txt md csv tsv json jsonl yaml yml toml ini cfg conf env xml html htm log lock sql db sqlite
sqlite3 parquet pem key crt cer p12 pfx kdbx
zip tar gz tgz bz2 xz zst 7z rar iso
py pyc pyd so dll exe bat cmd ps1 sh js ts mjs wasm jar
pkl pickle npy npz mat h5 hdf5 msgpack index part tmp bak old
pdf doc docx xls xlsx ppt pptx odt rtf 3mf
"""
_DATA = frozenset(_FILES.split())
_ENDING = re.compile(r"\.([A-Za-z][A-Za-z0-9]{0,11}|7z|3gp|3g2|3mf)[\s.]*$")
_ITEMS = re.compile(r"[\s,;]+")
_PIECES = re.compile(r"[\"'=()\[\]]+")
_CLOSING = "\"'()[]{}="
_QUOTED = re.compile(r"\"([^\"\n]*)\"|'([^'\n]*)'")
_MODEL_KEY = re.compile(
    r"(?:^|_)(?:model|models|module|checkpoint|ckpt|vae|lora|loras|unet|controlnet|adapter|weights"
    r"|embedding|upscaler|detector)(?:_\d+|_name)?$",
    re.IGNORECASE,
)


def texts_in(text: str, key: str = "") -> Iterator[tuple[str, str]]:
    """Return each text that a text holds, with the key that it stands under: those of JSON, which
    extensions take as an argument, else the text itself, under `key`. Prompts are left out."""
    try:
        value = json.loads(text) if text.lstrip()[:1] in ("{", "[", '"') else None
        yield from [(text, key)] if value is None else _texts_of(value, key)
    except (ValueError, RecursionError):
        yield text, key


def _texts_of(value: Any, key: str) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return list(texts_in(value, key))
    if isinstance(value, list):
        return [found for item in value for found in _texts_of(item, key)]
    if isinstance(value, dict):
        inner = [(k, item) for k, item in value.items() if not k.lower().endswith("prompt")]
        return [found for k, item in inner for found in _texts_of(item, k)]
    return []


def files_named_in(text: str) -> Iterator[str]:
    """Return each word of a text that names a file in a folder. A line of several words, or what
    stands in quotes, is one only where it has no comma and ends in what only files end in, as
    `my outputs/a.png`."""
    if "." not in text or not ("/" in text or "\\" in text):
        return
    for line in text.splitlines():
        inside = [one or other for one, other in _QUOTED.findall(line)]
        yield from dict.fromkeys(file for part in (line, *inside) for file in _files_in(part))


def _files_in(line: str) -> Iterator[str]:
    whole = line.strip()
    if re.search(r"\s", whole):
        if "," not in whole and is_data(whole) and _has_folder(whole):
            yield whole
        is_list = whole[0] in "[{" or re.search(r"(?<![,;\s])\s", whole) is None
        if not is_list:  # it has blanks elsewhere than behind commas, and is not JSON
            return
    for item in _ITEMS.split(whole):
        # `[old]/a.png` is a folder, `[old/a.png]` a list.
        pieces = [piece for piece in _PIECES.split(item) if _is_file(piece)]
        yield from pieces or filter(_is_file, [item.rstrip(_CLOSING)])


def _is_file(text: str) -> bool:
    return len(text) <= _LONGEST and _ENDING.search(text) is not None and _has_folder(text)


def _has_folder(text: str) -> bool:
    folder, sign, _ = text.replace("\\", "/").rpartition("/")
    return bool(sign and folder.strip("./ "))


def _ending(text: str) -> str:
    found = _ENDING.search(text)
    return found[1].lower() if found else ""


def is_data(path: str) -> bool:
    """Return whether it ends as pictures, texts, archives and programs do: no list of a WebUI has
    such names."""
    return _ending(path) in _DATA


def is_model(path: str, key: str) -> bool:
    """Return whether it ends as the files of models do, and stands under a key of a script's
    arguments that is for the name of a model."""
    return _ending(path) in _MODEL and _MODEL_KEY.search(key) is not None


def bare_name(file: str) -> str:
    """Return the name of a file without its folder and its suffix, in small letters."""
    last = re.split(r"[/\\]", file)[-1].lower()
    return re.sub(r"\.(safetensors|ckpt|gguf|pt|sft|bin|png|webp)$", "", last)
