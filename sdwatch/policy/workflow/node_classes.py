"""The node classes of one ComfyUI, from its GET /object_info. Pure.

Shapes measured with ComfyUI 0.33.0: an input is [TYPE, options], a list of names is the type itself
or ["COMBO", {"options": names}].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PureWindowsPath
from typing import Any

from sdwatch.policy.workflow.workflow import Workflow


@dataclass(frozen=True)
class InputRule:
    """What an input takes. `type`: as nodes link by it; "COMBO" for one of `choices`. `minimum`,
    `maximum`: of a number; `step`: of a whole one, counted from the minimum. `uploads`: its names
    are files that a person uploads, so more may come."""

    type: str
    required: bool
    choices: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    step: int = 1
    uploads: bool = False


@dataclass(frozen=True)
class NodeClass:
    """A class. `outputs`: the types of its outputs. `saves`: a workflow may end in it. `is_paid`:
    it sends what it gets to a service that costs money."""

    name: str
    inputs: Mapping[str, InputRule]
    outputs: tuple[str, ...] = ()
    saves: bool = False
    is_paid: bool = False


NodeClasses = Mapping[str, NodeClass]

_CHECKPOINT = "ckpt_name"


def rule_of(classes: NodeClasses, kind: str, input: str) -> InputRule | None:
    """Return what an input of a class takes; None where that is not known."""
    found = classes.get(kind)
    return found.inputs.get(input) if found else None


def read_classes(answer: Any) -> dict[str, NodeClass]:
    """Return the classes in an answer. What is not understood is left out: a custom node may
    describe itself in any way."""
    if not isinstance(answer, dict):
        return {}
    read = (_class(name, given) for name, given in answer.items() if isinstance(given, dict))
    return {made.name: made for made in read}


def _class(name: str, given: Mapping[str, Any]) -> NodeClass:
    groups = given.get("input")
    inputs = {}
    for group in ("required", "optional"):
        rules = groups.get(group) if isinstance(groups, dict) else None
        for input, written in (rules if isinstance(rules, dict) else {}).items():
            if (rule := _rule(written, required=group == "required")) is not None:
                inputs[str(input)] = rule
    outputs = given.get("output")
    return NodeClass(
        name,
        inputs,
        tuple(map(str, outputs)) if isinstance(outputs, list) else (),
        saves=given.get("output_node") is True,
        is_paid=given.get("api_node") is True,
    )


def _rule(written: Any, *, required: bool) -> InputRule | None:
    if not isinstance(written, list) or not written:
        return None
    type, *rest = written
    options = rest[0] if rest and isinstance(rest[0], dict) else {}
    choices = type if isinstance(type, list) else None
    if type == "COMBO":
        choices = options.get("options")
    if isinstance(type, list):
        type = "COMBO"
    if not isinstance(type, str):
        return None
    return InputRule(
        type,
        required,
        choices=tuple(map(str, choices)) if isinstance(choices, list) else None,
        minimum=_number(options.get("min")),
        maximum=_number(options.get("max")),
        step=step if isinstance(step := options.get("step"), int) and step > 0 else 1,
        uploads=any(str(key).endswith("_upload") for key in options),
    )


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else None


# -- checkpoints, as the list names them and as jobs do


def choices(classes: NodeClasses, kind: str, input: str) -> tuple[str, ...]:
    """Return the names that an input of a class takes; () where there is no such list."""
    rule = rule_of(classes, kind, input)
    return (rule.choices or ()) if rule else ()


def checkpoints(classes: NodeClasses) -> tuple[str, ...]:
    """Return the checkpoints, as CheckpointLoaderSimple names them: paths below their folder."""
    return choices(classes, "CheckpointLoaderSimple", _CHECKPOINT)


def checkpoint_meant(name: str, listed: Sequence[str]) -> str:
    """Return the checkpoint of the list that a job's name means: as it is listed, or without its
    folder or its ending; '' where none or several are meant. Case is passed over."""
    if name in listed:
        return name
    found = []
    for each in listed:
        path = PureWindowsPath(each)
        ways = (path.as_posix(), path.with_suffix("").as_posix(), path.name, path.stem, each)
        if name.lower() in map(str.lower, ways):
            found.append(each)
    return found[0] if len(found) == 1 else ""


def with_listed_checkpoints(workflow: Workflow, classes: NodeClasses) -> Workflow:
    """Return a workflow whose checkpoints have the names in ComfyUI's list, where the same file is
    meant; one that is not there keeps its name."""
    listed = checkpoints(classes)
    values: dict[tuple[str, str], str] = {}
    for node in workflow.nodes.values():
        name = node.inputs.get(_CHECKPOINT)
        if isinstance(name, str) and (meant := checkpoint_meant(name, listed)):
            values[node.id, _CHECKPOINT] = meant
    return workflow.with_values(values)
