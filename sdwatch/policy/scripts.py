"""What a job gives to the WebUI's scripts and extensions: its form, and the images in it. Pure.

A WebUI passes over an entry of `alwayson_scripts` without `args` in silence, and draws without the
extension (AUTOMATIC1111 v1.10.1, modules/api/api.py; adetailer#125). ControlNet, ADetailer and
others take images as base64 inside their arguments (controlnet#318, #865).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from sdwatch.policy.document import Mapping, Node, Scalar, Sequence, shown

SCRIPT_FIELDS = ("alwayson_scripts", "script_args")

_IMAGE_KEY = re.compile(
    r"(?:(?:input|init|source|reference|ref|control|pose|face|mask|inpaint|style|target|base)_)?"
    r"(?:images?|img|mask|masks)|image_mask|mask_for_\w+",
    re.IGNORECASE,
)
_DATA = re.compile(r"data:|iVBORw0KGgo|/9j/|UklGR|R0lGOD|Qk[0-9A-Za-z]{2}[0-9A-Za-z+/]{200}")
_NO_TEXT = re.compile(r"~|true|false|[-+.0-9e]*", re.IGNORECASE)
_NO_IMAGE = ("", "none", "null")


def is_image_key(key: str) -> bool:
    """Whether what stands under this key of a script's arguments is an image, or several."""
    return _IMAGE_KEY.fullmatch(key) is not None


def is_name(text: str) -> bool:
    """Whether a text under such a key is the name of a file of the job, and not image data."""
    return text.strip().lower() not in _NO_IMAGE and _DATA.match(text) is None


def misshapen(node: Node) -> Iterator[tuple[Node, str]]:
    """What has not the form that WebUIs look for in `alwayson_scripts`: where, and the right
    form."""
    for name, entry in node.entries if isinstance(node, Mapping) else ():
        yield from _misshapen_entry(name, entry)


def _misshapen_entry(name: Scalar, entry: Node) -> Iterator[tuple[Node, str]]:
    title = name.text if re.fullmatch(r"[\w .+-]{1,60}", name.text) else shown(name.text)
    right = f"write `{title}: {{args: [...]}}`, with the arguments as a list"
    if not isinstance(entry, Mapping):
        yield (name if isinstance(entry, Scalar) else entry), f'{title} has no "args"; {right}'
        return
    args = next((value for key, value in entry.entries if key.text == "args"), None)
    for key, _ in entry.entries:
        if key.text != "args":
            yield key, f'{title} takes nothing but "args", not {shown(key.text)}; {right}'
    if args is None and not entry.entries:
        yield name, f'{title} has no "args"; {right}'
    if isinstance(args, Mapping):
        yield args, f"args of {title} must be a list; {right}: put `- ` before its first line"
    elif isinstance(args, Scalar):
        yield args, f"args of {title} must be a list; {right}"


def image_nodes(node: Node, under_image_key: bool = False) -> Iterator[Scalar]:
    """The names of the job's files in a script's arguments, as they stand in the document."""
    if isinstance(node, Mapping):
        for key, value in node.entries:
            yield from image_nodes(value, is_image_key(key.text))
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from image_nodes(item, under_image_key)
    elif under_image_key and is_name(node.text) and _is_text(node):
        yield node


def _is_text(node: Scalar) -> bool:
    """Whether it is read as a text, and not as a switch or a number."""
    return node.quoted or _NO_TEXT.fullmatch(node.text) is None


def images_in(value: Any) -> list[str]:
    """The same of the arguments as they were read, in their order."""
    names: list[str] = []

    def note(name: str) -> str:
        names.append(name)
        return name

    with_images(value, note)
    return names


def with_images(value: Any, image: Callable[[str], str], under_image_key: bool = False) -> Any:
    """The arguments with `image(name)` in place of the name of each file of the job."""
    if isinstance(value, dict):
        return {key: with_images(inner, image, is_image_key(key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_images(item, image, under_image_key) for item in value]
    return image(value) if under_image_key and isinstance(value, str) and is_name(value) else value
