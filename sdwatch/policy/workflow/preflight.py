"""Check a workflow against the node classes of one ComfyUI before anything is sent. Pure.

ComfyUI answers 400 to most of this. But where only a part is valid, it queues that, leaves the rest
out, and answers 200 (measured with ComfyUI 0.33.0).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from sdwatch.policy.naming import quoted, some_of
from sdwatch.policy.workflow.node_classes import InputRule, NodeClass, NodeClasses
from sdwatch.policy.workflow.places import InputPlace, nearest_file, nearest_name
from sdwatch.policy.workflow.workflow import Link, Node, Workflow, link_of, shortly


@dataclass(frozen=True)
class Misfit:
    """Why this ComfyUI cannot run a workflow. `node`: the id of the node, '' for all of it;
    `input`: which of its inputs, '' for none. `why`: of a value, what the input takes instead."""

    node: str
    input: str
    message: str
    why: str = ""


def misfits(
    workflow: Workflow,
    classes: NodeClasses,
    *,
    allowed_paid: Collection[str] = (),
    coming: Collection[InputPlace] = (),
) -> list[Misfit]:
    """Return what this ComfyUI would refuse, leave out or send to a paid service.

    `allowed_paid`: classes of paid services that may be used; `coming`: inputs whose file will be
    uploaded.
    """
    found = [*_missing_classes(workflow, classes)]
    for node in workflow.nodes.values():
        if (kind := classes.get(node.kind)) is None:
            continue
        if kind.is_paid and node.kind not in allowed_paid:
            found.append(
                Misfit(
                    node.id,
                    "",
                    f"node {node.shown} sends pictures to a paid service; to allow that, name "
                    f"{shortly(node.kind)} in the stage's `allow`",
                )
            )
        found += _of_inputs(workflow, node, kind, classes, coming)
    found += _circles(workflow)
    kinds = [classes.get(node.kind) for node in workflow.nodes.values()]
    if not any(kind is None or kind.saves for kind in kinds):  # one that is missing may
        found.append(Misfit("", "", "no node of the workflow saves anything"))
    return found


def _missing_classes(workflow: Workflow, classes: NodeClasses) -> Iterator[Misfit]:
    for node in workflow.nodes.values():
        if node.kind not in classes:
            near = nearest_name(node.kind, classes).removeprefix(";")
            missing = (
                f"this ComfyUI has no node class {shortly(node.kind)}, which {node.shown} needs"
            )
            words = f"{missing}: is a custom node missing or broken?{near}"
            yield Misfit(node.id, "", words)


def _of_inputs(
    workflow: Workflow,
    node: Node,
    kind: NodeClass,
    classes: NodeClasses,
    coming: Collection[InputPlace],
) -> Iterator[Misfit]:
    for name, rule in kind.inputs.items():
        if name not in node.inputs:
            if rule.required and not rule.type.startswith(_DYNAMIC):
                yield Misfit(node.id, name, f"node {node.shown} lacks its input {shortly(name)}")
            continue
        value = node.inputs[name]
        if (link := link_of(value)) is not None:
            why = _wrong_link(workflow, link, rule, classes)
        elif InputPlace(node.id, name) in coming:
            why = ""
        else:
            why = _wrong_value(value, rule)
        if why:
            words = f"input {shortly(name)} of node {node.shown} {why}"
            yield Misfit(node.id, name, words, "" if link else why)


def _wrong_link(workflow: Workflow, link: Link, rule: InputRule, classes: NodeClasses) -> str:
    source = workflow.nodes.get(link.node)
    if source is None:
        return f"is linked to node {shortly(link.node)}, which is not there"
    kind = classes.get(source.kind)
    if kind is None or not kind.outputs:
        return ""
    if not 0 <= link.slot < len(kind.outputs):
        return f"is linked to output {link.slot} of {source.shown}, which has {len(kind.outputs)}"
    given, wanted = kind.outputs[link.slot], rule.type
    if _fits(given, wanted):
        return ""
    return f"takes {wanted}; {source.shown} gives {given} there"


def _fits(given: str, wanted: str) -> bool:
    """Return whether a link fits. Types that may be several are `A,B`; `*` is any; how custom nodes
    match theirs nobody knows."""
    if "*" in (given, wanted) or "COMBO" in (given, wanted) or wanted.startswith(_DYNAMIC):
        return True
    return bool(set(given.split(",")) & set(wanted.split(",")))


_DYNAMIC = "COMFY_"
"""How the types start of inputs that make others: `images` stands for `images.image0` and so on."""

_ONLY_LINKED = frozenset(
    [
        *("MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "IMAGE", "MASK", "AUDIO", "VIDEO"),
        *("CONTROL_NET", "CLIP_VISION", "CLIP_VISION_OUTPUT", "STYLE_MODEL", "UPSCALE_MODEL"),
        *("SAMPLER", "SIGMAS", "GUIDER", "NOISE"),
    ]
)
"""Types that no value is of. A custom node may have a widget for a type of its own."""


def _wrong_value(value: Any, rule: InputRule) -> str:
    if isinstance(value, dict) and "__value__" in value:  # as the editor writes a list
        value = value["__value__"]
    if rule.type in _ONLY_LINKED:
        return f"must be linked to a node that gives {rule.type}"
    if rule.type == "COMBO":
        several = value if isinstance(value, list) else [value]
        return next(filter(None, (_not_listed(each, rule) for each in several)), "")
    if rule.type in ("INT", "FLOAT"):
        return _wrong_number(value, rule)
    return ""


def _not_listed(value: Any, rule: InputRule) -> str:
    if rule.choices is None or str(value) in rule.choices:
        return ""
    if rule.uploads and _ELSEWHERE.search(str(value)):
        return ""
    if not rule.choices:
        return "has no name to choose from: its list is empty"
    has = f"; it has {some_of(list(rule.choices))}" if len(rule.choices) <= _FEW else ""
    near = nearest_file(str(value), rule.choices) or has
    return f"has no {quoted(str(value))} in its list{near}"


_ELSEWHERE = re.compile(r"[/\\]|\[(?:input|output|temp)\]$")
"""A file in a folder of input/, or of another root. LoadImage lists the files of input/ itself, and
takes these, too; ComfyUI answers 400 if there is none (VALIDATE_INPUTS of 0.33.0)."""

_FEW = 12


def _wrong_number(value: Any, rule: InputRule) -> str:
    number = _number(value)
    if number is None:
        return "must be a whole number" if rule.type == "INT" else "must be a number"
    if rule.type == "INT" and isinstance(number, float) and not number.is_integer():
        return f"must be a whole number, not {number:g}"  # ComfyUI would cut the rest off
    if rule.minimum is not None and number < rule.minimum:
        return f"must be at least {plain(rule.minimum)}, not {plain(number)}"
    if rule.maximum is not None and number > rule.maximum:
        return f"must be at most {plain(rule.maximum)}, not {plain(number)}"
    return ""


def _number(value: Any) -> int | float | None:
    """Return a number, a whole one as such: a float has no place for the last digits of a seed.
    ComfyUI takes "64" for one, too."""
    try:
        if isinstance(value, int) or (isinstance(value, str) and _WHOLE.fullmatch(value)):
            return int(value)
        number = float(value)
    except (TypeError, ValueError):
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) < _EXACT else number


def plain(number: float) -> str:
    """Return a number for people, with all digits of a whole one."""
    known = _number(number)
    return str(known) if isinstance(known, int) else f"{number:g}"


_WHOLE = re.compile(r"\s*[-+]?[0-9]{1,40}\s*")
_EXACT = 2.0**53


def _circles(workflow: Workflow) -> Iterator[Misfit]:
    """Return one finding for the first circle of links."""
    done: set[str] = set()
    for start, first in workflow.nodes.items():
        way = {} if start in done else {start: first.links()}  # in order
        while way:
            id = next(reversed(way))
            if (found := next(way[id], None)) is None:
                del way[id]
                done.add(id)
                continue
            name, link = found
            if link.node in way:
                yield Misfit(id, name, f"node {workflow.nodes[id].shown} depends on itself")
                return
            if link.node in workflow.nodes and link.node not in done:
                way[link.node] = workflow.nodes[link.node].links()
