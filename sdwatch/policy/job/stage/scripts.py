"""Check the arguments of a WebUI's scripts and extensions, and find the images in them. Pure.

A WebUI silently ignores an entry of `alwayson_scripts` without `args` and generates without the
extension (AUTOMATIC1111 v1.10.1, modules/api/api.py; adetailer#125). ControlNet, ADetailer and
others take images as base64 inside their arguments (controlnet#318, #865): under a key, or by
their position in the list (two-shot#4; ReActor and Regional Prompter too, not measured).

A job names files instead. Under a key for images or masks any text is a file name (`image`,
`mask_image`); in the list itself, and under a key that contains such a word
(`effective_region_mask`, `batch_mask_gallery`), only a text with the suffix of a picture is.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from typing import Any

from sdwatch.policy.job.text.document import Mapping, Node, Scalar, Sequence
from sdwatch.policy.naming import shown

SCRIPT_FIELDS = ("alwayson_scripts", "script_args")

_IMAGE_KEY = re.compile(
    r"(?:(?:input|init|source|reference|ref|control|pose|face|mask|inpaint|style|target|base)_)?"
    r"(?:images?|img|mask|masks)|image_mask|mask_for_\w+",
    re.IGNORECASE,
)
_IMAGE_WORDS = frozenset(
    {"image", "images", "img", "imgs", "mask", "masks", "picture", "pictures", "photo", "gallery"}
    | {"face", "source", "reference", "override", "input", "target", "frame", "frames"}
)
_PICTURE_NAME = re.compile(
    r"[^\n<>|\"?*,]{1,200}\.(?:png|jpe?g|webp|bmp|gif|tiff?|avif)", re.IGNORECASE
)
_LONGEST_NAME = 1000  # what is longer is image data, of whatever format
IMAGE_DATA = re.compile(r"data:|iVBORw0KGgo|/9j/|UklGR|R0lGOD|Qk[0-9A-Za-z]{2}[0-9A-Za-z+/]{200}")
_NO_TEXT = re.compile(r"~|true|false|[-+.0-9e]*", re.IGNORECASE)
_NO_IMAGE = ("", "none", "null")


class Where(enum.Enum):
    """Where a text is, which decides whether it is the name of a file of the job."""

    IMAGE = enum.auto()  # under a key for images: each is
    PERHAPS = enum.auto()  # in a list of arguments, or under a key that has such a word: see above
    OTHER = enum.auto()


def where(key: str) -> Where:
    """Return what is under this key of a script's arguments."""
    if _IMAGE_KEY.fullmatch(key):
        return Where.IMAGE
    words = re.split(r"[_\s-]", key.lower())
    if key.lower() == "args" or not _IMAGE_WORDS.isdisjoint(words):
        return Where.PERHAPS
    return Where.OTHER


def is_name(text: str, place: Where) -> bool:
    """Return whether a text there is the name of a file of the job, and not image data."""
    if place is Where.OTHER or len(text) > _LONGEST_NAME or IMAGE_DATA.match(text):
        return False
    if place is Where.PERHAPS:
        return _PICTURE_NAME.fullmatch(text.strip()) is not None
    return text.strip().lower() not in _NO_IMAGE


def misshapen(node: Node) -> Iterator[tuple[Node, str]]:
    """Return each entry of `alwayson_scripts` in a form that WebUIs ignore, and the right form."""
    for name, entry in node.entries if isinstance(node, Mapping) else ():
        title = name.text if re.fullmatch(r"[\w .+-]{1,60}", name.text) else shown(name.text)
        right = f"write `{title}: {{args: [...]}}`, with the arguments as a list"
        entries = entry.entries if isinstance(entry, Mapping) else ()
        if not entries:
            is_list = isinstance(entry, Sequence)
            yield (entry if is_list else name), f'{title} has no "args"; {right}'
        for key, _ in entries:
            if key.text != "args":
                yield key, f'{title} accepts only "args", not {shown(key.text)}; {right}'
        args = next((value for key, value in entries if key.text == "args"), None)
        if args is not None and not isinstance(args, Sequence):
            how = ": put `- ` before its first line" if isinstance(args, Mapping) else ""
            yield args, f"args of {title} must be a list; {right}{how}"


def image_nodes(node: Node) -> Iterator[tuple[Scalar, Where]]:
    """Return the texts in a script's arguments that may name a file of the job, as nodes of the
    document, and where they are."""
    for text, there in texts_below(node):
        # As text is read what is not a switch or a number.
        if is_name(text.text, there) and (text.quoted or not _NO_TEXT.fullmatch(text.text)):
            yield text, there


def texts_below(
    node: Node, place: Where = Where.PERHAPS, *, prompts: bool = True
) -> Iterator[tuple[Scalar, Where]]:
    """Yield all scalars of a script's arguments and where they are, with or without `prompts`."""
    if isinstance(node, Mapping):
        for key, value in node.entries:
            if prompts or not key.text.lower().endswith("prompt"):
                yield from texts_below(value, where(key.text), prompts=prompts)
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from texts_below(item, place, prompts=prompts)
    else:
        yield node, place


def images_in(value: Any) -> list[str]:
    """Return the same texts from arguments that were already read, in their order."""
    names: list[str] = []

    def note(name: str) -> str:
        names.append(name)
        return name

    with_images(value, note)
    return names


def with_images(value: Any, image: Callable[[str], str], place: Where = Where.PERHAPS) -> Any:
    """Return the arguments with `image(name)` for each text that may be a file of the job."""
    if isinstance(value, dict):
        return {key: with_images(inner, image, where(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_images(item, image, place) for item in value]
    return image(value) if isinstance(value, str) and is_name(value, place) else value
