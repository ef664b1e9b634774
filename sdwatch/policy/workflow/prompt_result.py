"""What became of a prompt, by its entry in ComfyUI's /history; and why one was refused. Pure.

Shapes measured with ComfyUI 0.33.0. An entry whose prompt was interrupted says `error`, too; only
its last message distinguishes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain, islice
from typing import Any

from sdwatch.policy.workflow.workflow import Workflow, WorkflowError, workflow_of

_TIPS = re.compile(r"\n[^\S\n]*(?:This error means you ran out of memory|TIPS: )")
"""What ComfyUI adds to the message of an exception (execution.py of 0.33.0); sdwatch has advice
of its own."""

_MOST_FILES = 1000
_MOST_TEXT = 1 << 20
_MOST_ERRORS = 20


class PromptEnd(Enum):
    """How a prompt ended."""

    SUCCESS = "success"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class OutputFile:
    """A file that a node saved. `type`: output, temp or input, the root that `subfolder` is in.
    Nodes list theirs as images (videos, too), audio, latents, 3d, files, gifs …: what a file is
    shows its content."""

    filename: str
    subfolder: str
    type: str


@dataclass(frozen=True)
class NodeFailure:
    """The exception that ended a prompt. `exception`: its class; `message`: its text."""

    node: str
    kind: str
    exception: str
    message: str


@dataclass(frozen=True)
class PromptResult:
    """An entry of /history. `workflow`: as it ran, None where it cannot be read; `files`: by the id
    of the node that saved them, in their order; `texts`: by the id of the node that shows them and
    saved no file of them; `cached`: the nodes that did not run, None where it does not say."""

    end: PromptEnd
    workflow: Workflow | None = None
    files: Mapping[str, tuple[OutputFile, ...]] = field(default_factory=dict)
    failure: NodeFailure | None = None
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    cached: frozenset[str] | None = None


def read_entry(entry: Any) -> PromptResult:
    """Return the result in an entry. Raises ValueError where it has no status."""
    status = entry.get("status") if isinstance(entry, dict) else None
    if not isinstance(status, dict) or not isinstance(status.get("status_str"), str):
        raise ValueError("an entry of /history without a status")
    said = [(name, data) for name, data in _messages(status) if isinstance(data, dict)]
    last, data = said[-1] if said else ("", {})
    end, failure = PromptEnd.FAILED, None
    if status["status_str"] == "success":
        end = PromptEnd.SUCCESS
    elif last == "execution_interrupted":
        end = PromptEnd.INTERRUPTED
    else:
        failure = NodeFailure(
            _text(data, "node_id"),
            _text(data, "node_type"),
            _text(data, "exception_type"),
            _TIPS.split(_text(data, "exception_message"), maxsplit=1)[0].strip(),
        )
    files = dict(_files_in(entry))
    texts = {node: text for node, text in _texts_in(entry) if not files.get(node)}
    return PromptResult(end, _workflow_in(entry), files, failure, texts, _cached_in(status))


def _messages(status: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    messages = status.get("messages")
    for message in messages if isinstance(messages, list) else []:
        if isinstance(message, list) and len(message) == 2:
            yield str(message[0]), message[1]


def _workflow_in(entry: Mapping[str, Any]) -> Workflow | None:
    prompt = entry.get("prompt")
    written = prompt[2] if isinstance(prompt, list) and len(prompt) > 2 else None
    try:
        return workflow_of(written) if isinstance(written, dict) else None
    except WorkflowError:
        return None


def _outputs_in(entry: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    outputs = entry.get("outputs")
    for node, given in (outputs if isinstance(outputs, dict) else {}).items():
        yield str(node), given if isinstance(given, dict) else {}


def _files_in(entry: Mapping[str, Any]) -> Iterator[tuple[str, tuple[OutputFile, ...]]]:
    for node, given in _outputs_in(entry):
        listed = chain.from_iterable(each for each in given.values() if isinstance(each, list))
        files = (
            OutputFile(_text(each, "filename"), _text(each, "subfolder"), _text(each, "type"))
            for each in listed
            if isinstance(each, dict) and _text(each, "filename")
        )
        # A node may list one file under two names.
        yield node, tuple(dict.fromkeys(islice(files, _MOST_FILES)))


def _texts_in(entry: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield what nodes show as `text`, such as PreviewAny."""
    for node, given in _outputs_in(entry):
        shown = given.get("text")
        listed = shown[:_MOST_FILES] if isinstance(shown, list) else [shown]
        texts = tuple(each for each in listed if isinstance(each, str) and each.strip())
        if texts and sum(map(len, texts)) <= _MOST_TEXT:
            yield node, texts


def _cached_in(status: Mapping[str, Any]) -> frozenset[str] | None:
    cached = next((data for name, data in _messages(status) if name == "execution_cached"), None)
    nodes = cached.get("nodes") if isinstance(cached, dict) else None
    return frozenset(map(str, nodes)) if isinstance(nodes, list) else None


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""


def refusal_in(answer: Any, workflow: Workflow) -> str:
    """Return why ComfyUI refused a workflow, or a part of it, by its answer to the POST; '' where
    it refused nothing. Nodes are named by id and title; of a workflow that is built in, the fields
    of the job are instead."""
    if not isinstance(answer, dict):
        return ""
    said = list(_node_errors(answer.get("node_errors"), workflow))
    error = answer.get("error")
    if not said and isinstance(error, dict):
        said = [": ".join(filter(None, (_text(error, "message"), _text(error, "details"))))]
    elif not said and isinstance(error, str):
        said = [error]
    return "; ".join(dict.fromkeys(said))


def _node_errors(errors: Any, workflow: Workflow) -> Iterator[str]:
    for id, given in list((errors if isinstance(errors, dict) else {}).items())[:_MOST_ERRORS]:
        node = workflow.nodes.get(str(id))
        listed = given.get("errors") if isinstance(given, dict) else None
        for error in listed[:_MOST_ERRORS] if isinstance(listed, list) else []:
            if isinstance(error, dict):
                extra, details = error.get("extra_info"), _text(error, "details")
                named = _text(extra, "input_name") if isinstance(extra, dict) else ""
                name = workflow.fields.get(named, "")
                words = (_text(error, "message"), "" if name and details == named else details)
                places = workflow.places
                place = places.get(f"{id}.{named}") or places.get(str(id), "")
                where = name or f"node {node.shown if node else id}"
                where += f" at {place}" if place else ""
                yield f"{where}: {': '.join(filter(None, words))}"
