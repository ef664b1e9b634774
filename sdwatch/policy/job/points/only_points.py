"""Write into a job file which of its points are made, and with which random seed. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from sdwatch.errors import FileProblems
from sdwatch.policy.job.text.document import Mapping, Node, Scalar, parse_document, text_of

_FIELDS = ("points", "random_seed")


def with_points(data: bytes, file: str, points: Sequence[int], random_seed: int) -> bytes:
    """Return a job file that makes only these points, with this random seed, whatever it said about
    that. All else stays as it was written, comments too; where two lines cannot simply be added (in
    `{…}`, behind `...`, below an indented text) all is written again, with the same content. Raises
    FileProblems, UnreadableError."""
    root = parse_document(data, file)
    new = {"points": list(points), "random_seed": random_seed}
    if not isinstance(root, Mapping):
        return _with_lines(text_of(data).splitlines(keepends=True), new)
    rest = tuple(entry for entry in root.entries if entry[0].text not in _FIELDS)
    whole = _content(Mapping(rest, 0, 0)) | {"points": [*map(str, points)]}
    whole |= {"random_seed": str(random_seed)}
    edited = _edited(text_of(data), root, new)
    try:
        if _content(parse_document(edited, file)) == whole:
            return edited
    except FileProblems:
        pass
    entries = [*(f"{_text(key)}: {_text(value)}" for key, value in rest)]
    entries += [f'"{name}": {value}' for name, value in new.items()]
    return ("{\n  " + ",\n  ".join(entries) + "\n}\n").encode()


def _edited(text: str, root: Mapping, new: dict[str, Any]) -> bytes:
    """Return the text without the lines of the fields that are replaced, and with new ones."""
    lines = [line[0] for line in _LINE.finditer(text) if line[0]]  # as the parser counts them
    starts = [key.line for key, _ in root.entries] + [len(lines) + 1]
    for (key, _), end in zip(reversed(root.entries), reversed(starts[1:]), strict=True):
        if key.text in _FIELDS:
            del lines[key.line - 1 : end - 1]
    return _with_lines(lines, new)


def _with_lines(lines: Sequence[str], new: dict[str, Any]) -> bytes:
    text = "".join(lines)
    ending = "" if not text or text.endswith(("\n", "\r")) else "\n"
    return (text + ending + "".join(f"{name}: {value}\n" for name, value in new.items())).encode()


_LINE = re.compile("[^\r\n\x85\u2028\u2029]*+(?:\r\n|[\r\n\x85\u2028\u2029]|\\Z)")


def _content(node: Node) -> Any:
    """Return what is written, whatever its places and signs."""
    if isinstance(node, Mapping):
        return {key.text: _content(value) for key, value in node.entries}
    if not isinstance(node, Scalar):
        return [_content(item) for item in node.items]
    if node.is_null:
        return None
    return ('"', node.text) if node.quoted else node.text


def _text(node: Node) -> str:
    """Return a node as text that is read as the same one; of JSON it is JSON."""
    if isinstance(node, Mapping):
        return "{" + ", ".join(f"{_text(k)}: {_text(v)}" for k, v in node.entries) + "}"
    if not isinstance(node, Scalar):
        return "[" + ", ".join(map(_text, node.items)) + "]"
    if node.is_null:
        return "null"
    if not node.quoted and _PLAIN.fullmatch(node.text):
        return node.text
    quoted = json.dumps(node.text, ensure_ascii=False)
    return _ESCAPED.sub(lambda sign: f"\\u{ord(sign[0]):04x}", quoted)


_ESCAPED = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""Signs that YAML reads as something else, or not at all. Others beyond ASCII stay: in YAML no two
escapes make one letter."""

_PLAIN = re.compile(r"[-+]?[A-Za-z0-9_.]+")
"""A number or a word, which has the same meaning without quotes only."""
