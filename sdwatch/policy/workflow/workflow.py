"""A workflow of ComfyUI as its API takes it: nodes by id, each with its class and inputs. Pure.

Such a file comes from the editor's menu *Workflow → Export (API)*. What the editor saves otherwise
has `nodes` and `links`, and ComfyUI answers it with a 500 (measured with ComfyUI 0.33.0).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

MAX_BYTES = 8_000_000
"""Of the file. Workflows that people share have some hundred kilobytes."""

MAX_NODES = 10_000

EXPORT = "in ComfyUI's menu choose Workflow → Export (API), and use that file"


class WorkflowError(ValueError):
    """A file that is not a workflow of the API, or not a template; the text says why and what to
    do. `place`: line and column in it, from 1; `unfinished`: its end may be missing; `node`: the id
    of the one that is wrong, '' for none."""

    def __init__(
        self,
        message: str,
        place: tuple[int, int] = (1, 1),
        *,
        unfinished: bool = False,
        node: str = "",
    ) -> None:
        super().__init__(message)
        self.node = node
        self.place = place
        self.unfinished = unfinished


class Link(NamedTuple):
    """An input that another node's output gives. `slot` counts that node's outputs from 0."""

    node: str
    slot: int


@dataclass(frozen=True)
class Node:
    """A node. `title`: what people see in the editor; its class if it has none of its own.
    `inputs`: links as [id, slot], or values of JSON."""

    id: str
    kind: str
    title: str
    inputs: Mapping[str, Any]

    @property
    def shown(self) -> str:
        """Return how messages name it: `3 (Positive)`, or its id if that is its title."""
        id, title = shortly(self.id), shortly(self.title)
        return id if title == id else f"{id} ({title})"

    def with_class(self, kind: str) -> str:
        """Return how messages name it as a node of the class `kind`: `3 (Positive) of class
        CLIPTextEncode`. Where its title is that class, once is enough."""
        return self.shown if self.title == kind else f"{self.shown} of class {shortly(kind)}"

    @property
    def model_files(self) -> list[str]:
        """Return the files of models that it loads, by their endings, for messages."""
        texts = (value for value in self.inputs.values() if isinstance(value, str))
        return [shortly(text) for text in texts if _MODEL_FILE.fullmatch(text)]

    def links(self) -> Iterator[tuple[str, Link]]:
        """Return each input that is a link, with its name."""
        for name, value in self.inputs.items():
            if (link := link_of(value)) is not None:
                yield name, link

    def values(self) -> dict[str, Any]:
        """Return the inputs that are not links."""
        return {name: v for name, v in self.inputs.items() if link_of(v) is None}


_LONGEST_SHOWN = 60
_MODEL_FILE = re.compile(r"(?i).+\.(?:safetensors|sft|ckpt|gguf|pth?|bin)")


def shortly(name: str) -> str:
    """Return a name in a workflow for a message: in one line, and not longer than a name is."""
    words = " ".join(name.split())
    return words if len(words) <= _LONGEST_SHOWN else f"{words[:_LONGEST_SHOWN]}…"


@dataclass(frozen=True)
class Workflow:
    """A workflow. `nodes`: by id, in the order of the file. `fields`: of one that is built in, the
    field of a job by the name of an input: nobody has seen its nodes. `places`: where a node or an
    input (`ID.NAME`) is written, for messages."""

    nodes: Mapping[str, Node]
    fields: Mapping[str, str] = field(default_factory=dict, compare=False)
    places: Mapping[str, str] = field(default_factory=dict, compare=False)

    def with_values(self, values: Mapping[tuple[str, str], Any]) -> Workflow:
        """Return it with other inputs. `values`: by id and name of the input."""
        nodes = dict(self.nodes)
        for (id, name), value in values.items():
            nodes[id] = replace(nodes[id], inputs={**nodes[id].inputs, name: value})
        return replace(self, nodes=nodes)

    def as_prompt(self) -> dict[str, Any]:
        """Return what POST /prompt takes as `prompt`."""
        return {
            node.id: {
                "class_type": node.kind,
                "inputs": dict(node.inputs),
                "_meta": {"title": node.title},
            }
            for node in self.nodes.values()
        }


def link_of(value: Any) -> Link | None:
    """Return the link that an input is, or None. ComfyUI takes a list of two for one, the second
    a number."""
    is_link = isinstance(value, list) and [type(part) for part in value] == [str, int]
    return Link(*value) if is_link else None


def read_workflow(data: bytes) -> Workflow:
    """Return the workflow in a file. Raises WorkflowError."""
    if len(data) > MAX_BYTES:
        raise WorkflowError(
            f"the file has {len(data):,} bytes; a workflow has at most {MAX_BYTES:,}"
        )
    found = _json(data)
    try:
        return _workflow_in(found)
    except WorkflowError as error:
        if error.node:
            error.place = places_of_nodes(data).get(error.node, (1, 1))
        raise


def _workflow_in(found: Any) -> Workflow:
    if not isinstance(found, dict):
        raise WorkflowError(f"this is not a workflow: it has no nodes by id; {EXPORT}")
    if isinstance(found.get("nodes"), list):
        raise WorkflowError(f"this is the editor's own format, which its API refuses; {EXPORT}")
    if isinstance(found.get("prompt"), dict) and "class_type" not in found["prompt"]:
        found = found["prompt"]  # the body of a POST /prompt, as scripts keep it
    return workflow_of(found)


def workflow_of(written: Mapping[str, Any]) -> Workflow:
    """Return the workflow of nodes by id, as a file, a queue or a history has them. Raises
    WorkflowError."""
    nodes = {id: _node(id, node) for id, node in written.items()}
    if not nodes:
        raise WorkflowError("the workflow is empty")
    if len(nodes) > MAX_NODES:
        raise WorkflowError(f"it has {len(nodes):,} nodes; at most {MAX_NODES:,} are taken")
    return Workflow(nodes)


def places_of_nodes(data: bytes) -> dict[str, tuple[int, int]]:
    """Return where each node of a file that is JSON starts, by its id: line and column, from 1."""
    text = data.decode("utf-8-sig")
    starts = dict(_keys_in(text, 0))
    if "prompt" in starts:  # the body of a POST /prompt
        inner = dict(_keys_in(text, starts["prompt"].value))
        starts = starts if "class_type" in inner else inner
    return {id: line_and_column(text, key.start) for id, key in starts.items()}


class _Key(NamedTuple):
    """A key of an object: where it starts in the text, and where its value does."""

    start: int
    value: int


def _keys_in(text: str, start: int) -> Iterator[tuple[str, _Key]]:
    """Yield the keys of the object that starts there. The text is JSON."""
    at, decoder = _behind_blanks(text, start), json.JSONDecoder()
    if text[at] != "{":
        return
    at = _behind_blanks(text, at + 1)
    while text[at] != "}":
        key, end = decoder.raw_decode(text, at)
        value = _behind_blanks(text, _behind_blanks(text, end) + 1)
        yield key, _Key(at, value)
        at = _behind_blanks(text, decoder.raw_decode(text, value)[1])
        if text[at] == ",":
            at = _behind_blanks(text, at + 1)


_OPEN_TEXT = re.compile(r'"(?:[^"\\]|\\.)*+\Z', re.DOTALL)
_CONTENT = re.compile(r"[^ \t\n\r]|\Z")


def _behind_blanks(text: str, at: int) -> int:
    found = _CONTENT.search(text, at)
    return found.start() if found else at


def line_and_column(text: str, at: int) -> tuple[int, int]:
    """Return the place of a character, both from 1."""
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def _json(data: bytes) -> Any:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise WorkflowError("the file is not UTF-8") from None
    try:
        return json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        at_end = error.pos >= len(text.rstrip()) or _OPEN_TEXT.match(text, error.pos) is not None
        place = (error.lineno, error.colno)
        raise WorkflowError(f"this is not JSON: {error.msg}", place, unfinished=at_end) from None
    except WorkflowError:
        raise
    except ValueError:  # Python reads no more than 4,300
        raise WorkflowError("a number in it has too many digits") from None
    except RecursionError:
        raise WorkflowError("it is nested too deeply for a workflow") from None


def _no_number(name: str) -> float:
    raise WorkflowError(f"{name} is not a value of JSON")


def _node(id: str, written: Any) -> Node:
    if not isinstance(written, dict) or not isinstance(written.get("class_type"), str):
        message = f"node {id[:40]} has no class_type, so this is not a workflow; {EXPORT}"
        raise WorkflowError(message, node=id)
    inputs = written.get("inputs", {})
    if not isinstance(inputs, dict):
        message = f"the inputs of node {id[:40]} are not a mapping; {EXPORT}"
        raise WorkflowError(message, node=id)
    kind, meta = written["class_type"], written.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    return Node(id, kind, title if isinstance(title, str) and title.strip() else kind, inputs)


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in a value of JSON."""
    rest = [value]
    while rest:
        match rest.pop():
            case str() as text:
                yield text
            case dict() as mapping:
                rest += mapping.values()
            case list() as items:
                rest += items
