"""Find an input of a workflow by what people write: `Positive.text`, `5.width`, `prompt`. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from sdwatch.policy.naming import did_you_mean, shown, some_of
from sdwatch.policy.workflow.workflow import Link, Node, Workflow, link_of, shortly


class PlaceError(ValueError):
    """No input of the workflow is meant, or several may be; the text says which there are."""


class InputPlace(NamedTuple):
    """An input: the id of its node, and its name."""

    node: str
    input: str


def place_of(workflow: Workflow, written: str) -> InputPlace:
    """Return the input that `node.input` names, the node by its id or its title. Both may have
    dots. Raises PlaceError."""
    name, dot, input = written.rpartition(".")
    if not dot or not name or not input:
        raise PlaceError('name a node and one of its inputs, such as "Positive.text" or "5.width"')
    found = set(_with_dots(workflow, written))
    if len(found) == 1:
        return found.pop()
    node = node_named(workflow, name)
    if input not in node.inputs:
        there = some_of(list(map(shortly, node.inputs))) or "none"
        near = nearest_name(input, node.inputs) or f"; it has {there}"
        raise PlaceError(f"node {node.shown} has no input {shown(input)}{near}")
    return InputPlace(node.id, input)


def _with_dots(workflow: Workflow, written: str) -> Iterator[InputPlace]:
    """Yield each input that a text names if a dot may be part of a title, or of an input."""
    for at, sign in enumerate(written):
        name, input = written[:at], written[at + 1 :]
        if sign == "." and (named := _nodes_named(workflow, name)):
            yield from (InputPlace(node.id, input) for node in named if input in node.inputs)


def _nodes_named(workflow: Workflow, name: str) -> list[Node]:
    if (node := workflow.nodes.get(name)) is not None:
        return [node]
    wanted = name.strip()
    return [node for node in workflow.nodes.values() if node.title.strip() == wanted]


def node_named(workflow: Workflow, name: str) -> Node:
    """Return the node with this id, or this title. Raises PlaceError."""
    named = _nodes_named(workflow, name)
    if len(named) == 1:
        return named[0]
    if named:
        ids = some_of([shortly(node.id) for node in named])
        title = shortly(name)
        raise PlaceError(f"several nodes have the title {title}: use one of their ids: {ids}")
    titles = [node.title for node in workflow.nodes.values()]
    near = nearest_name(name, [*titles, *workflow.nodes]) or _nodes_there(workflow)
    raise PlaceError(f"no node has the title or id {shown(name)}{near}")


def _nodes_there(workflow: Workflow) -> str:
    first = ", ".join(node.shown for node in islice(workflow.nodes.values(), _MOST_LISTED))
    more = len(workflow.nodes) - _MOST_LISTED
    return f"; there are {first}" + (f" and {more:,} more" if more > 0 else "")


_MOST_LISTED = 12


def image_places(workflow: Workflow, *, by_class: bool = False) -> list[InputPlace]:
    """Return the inputs that name an image to load, as LoadImage's `image` does. `by_class`: only
    those of nodes whose class says that it loads one."""
    found = (
        _value_of(workflow, node, "image")
        for node in workflow.nodes.values()
        if not by_class or _LOADS.search(node.kind)
    )
    return list(dict.fromkeys(place for place in found if place is not None))


_LOADS = re.compile(r"load.?image", re.IGNORECASE)


# -- short names


def short_place(workflow: Workflow, name: str) -> InputPlace:
    """Return the one place that a short name means in this workflow. Raises PlaceError if there is
    none, or several, and lists them."""
    found = places_for(workflow, name)
    if len(found) == 1:
        return found[0]
    if not found:
        why = _linked(workflow, name) or _nodes_there(workflow)
        words = f"the workflow has no place for {name}; use `set:` with a node and input"
        raise PlaceError(f"{words}{why}")
    several = listed(workflow, found)
    raise PlaceError(f"{name} could be several: {several}; use `set:` with one of them")


def _linked(workflow: Workflow, name: str) -> str:
    """Return from where the inputs that a short name would mean come, '' where there are none."""
    inputs = _INPUTS.get(name) or (_TEXTS if "prompt" in name else (name,))
    found = []
    for node in workflow.nodes.values():
        for input, link in node.links():
            if input in inputs and (source := workflow.nodes.get(link.node)):
                named = [f"{shortly(source.id)}.{shortly(value)}" for value in source.values()]
                made = f" (made of {some_of(named)})" if named else ""
                found.append(f"{input} of node {node.shown} comes from node {source.shown}{made}")
    return f"; {some_of(found)}" if found else ""


def places_for(workflow: Workflow, name: str) -> list[InputPlace]:
    """Return all places that a short name may mean, in the order of the workflow."""
    order = {id: number for number, id in enumerate(workflow.nodes)}
    return sorted(set(_SHORT[name](workflow)), key=lambda place: (order[place.node], place.input))


def listed(workflow: Workflow, places: Iterable[InputPlace]) -> str:
    """Return places for people: `KSampler (3.seed), Upscaler (12.seed)`."""
    named = (
        (shortly(workflow.nodes[node].title), f"{shortly(node)}.{shortly(input)}")
        for node, input in places
    )
    return some_of([f"{title} ({place})" for title, place in named])


_MOST_COMPARED = 2000
_LONGEST_COMPARED = 100


def nearest_name(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean ...?`, or '' where nothing is near. Names in a file that somebody
    dropped may be many and long, and comparing them takes time."""
    if len(name) > _LONGEST_COMPARED:
        return ""
    short = (each for each in names if len(each) <= _LONGEST_COMPARED)
    return did_you_mean(name, list(islice(short, _MOST_COMPARED)))


def nearest_file(name: str, names: Sequence[str]) -> str:
    """Return the same for files, which people name without their folder and ending."""
    if len(name) > _LONGEST_COMPARED:
        return ""
    short = (each for each in names[:_MOST_COMPARED] if len(each) <= _LONGEST_COMPARED)
    stems = {_FOLDER_AND_ENDING.sub("", each).lower(): each for each in short}
    near = difflib.get_close_matches(_FOLDER_AND_ENDING.sub("", name).lower(), stems, 1)
    return f'; did you mean "{stems[near[0]]}"?' if near else ""


_FOLDER_AND_ENDING = re.compile(r".*[/\\]|\.[A-Za-z0-9]{2,12}$")


def _values_named(workflow: Workflow, *, names: Sequence[str]) -> Iterator[InputPlace]:
    """Yield the values of inputs with these names."""
    for node in workflow.nodes.values():
        for name in names:
            if (place := _value_of(workflow, node, name)) is not None:
                yield place


def _value_of(workflow: Workflow, node: Node, name: str) -> InputPlace | None:
    """Return where the value of an input is written: there, or in the node that it is linked to,
    if that does nothing but hold a value, as PrimitiveInt does; None where it is computed."""
    seen = {node.id}
    while name in node.inputs:
        if (link := link_of(node.inputs[name])) is None:
            return InputPlace(node.id, name)
        source = workflow.nodes.get(link.node)
        if source is None or source.id in seen or list(source.inputs) != [_HELD]:
            return None
        node, name = source, _HELD
        seen.add(node.id)
    return None


_HELD = "value"
"""The one input of a node that holds a value (comfy_extras/nodes_primitive.py of 0.33.0)."""


def _side(workflow: Workflow, *, name: str) -> Iterator[InputPlace]:
    """Yield a side of what is generated: of an empty latent image, since other nodes have sides,
    too (a crop, an upscale)."""
    for node in workflow.nodes.values():
        has_sides = {"width", "height", "batch_size"} <= node.inputs.keys()
        place = _value_of(workflow, node, name)
        if place is not None and has_sides and "latent" in node.kind.lower():
            yield place


_OF_SAMPLERS = ("positive", "negative", "conditioning")


def _prompt(workflow: Workflow, *, roles: Sequence[str]) -> Iterator[InputPlace]:
    """Yield the texts that reach the samplers, where conditioning goes in, by these inputs."""
    for node in workflow.nodes.values():
        if any(name in _OF_SAMPLERS for name, _ in node.links()):
            ends = [link for name, link in node.links() if name in roles]
            yield from _texts_behind(workflow, ends, roles)


def _texts_behind(
    workflow: Workflow, links: Iterable[Link], roles: Sequence[str]
) -> Iterator[InputPlace]:
    """Return the texts of the first encoders on the way back. A node that passes both prompts on,
    as ControlNet does, is followed by the same input only."""
    rest, seen = list(links), set[str]()
    while rest:
        node = workflow.nodes.get(rest.pop().node)
        if node is None or node.id in seen:
            continue
        seen.add(node.id)
        given = node.values()
        texts = [name for name in given if name in _TEXTS and isinstance(given[name], str)]
        yield from (InputPlace(node.id, name) for name in texts)
        linked = [link for name, link in node.links() if name in _TEXTS]
        if texts or linked:  # an encoder, or what gives it its text
            rest += linked
            continue
        links_on = dict(node.links())
        same = [link for name, link in links_on.items() if name in roles]
        rest += same or links_on.values()


_TEXTS = ("text", "text_g", "text_l", "clip_l", "t5xxl", "prompt", "string", "value")
"""Inputs of encoders, and of nodes that only hold a text."""


def prompt_texts(workflow: Workflow) -> set[InputPlace]:
    """Return the texts that end in a text encoder, and nowhere in a file: its own, and those of
    nodes that hold one text, or that only join some."""
    rest: list[tuple[Node, Collection[str]]] = []
    for node in workflow.nodes.values():
        if node.kind.startswith(_ENCODES):
            rest.append((node, node.inputs))
        elif any(name == "clip" for name, _ in node.links()):
            rest.append((node, _TEXTS))
    found, seen = set[InputPlace](), set[str]()
    while rest:
        node, names = rest.pop()
        seen.add(node.id)
        found |= {InputPlace(node.id, name) for name in node.values() if name in names}
        for name, link in node.links():
            source = workflow.nodes.get(link.node) if name in names else None
            if source is None or source.id in seen:
                continue
            if source.kind in _JOIN:
                rest.append((source, source.inputs))
            elif len(source.inputs) == 1:
                rest.append((source, _TEXTS))
    return found


_ENCODES = "CLIPTextEncode"
_JOIN = (
    "StringConcatenate",
    "StringReplace",
    "StringSubstring",
    "StringTrim",
    "CaseConverter",
    "RegexReplace",
)
"""Classes that take texts, and how to change these (comfy_extras/nodes_string.py of 0.33.0)."""


_INPUTS: Mapping[str, tuple[str, ...]] = {
    "seed": ("seed", "noise_seed"),
    "steps": ("steps",),
    "cfg": ("cfg",),
    "checkpoint": ("ckpt_name",),
}
"""The inputs that a short name means, but for those that only some nodes have it by."""


_SHORT: Mapping[str, Callable[[Workflow], Iterator[InputPlace]]] = {
    "prompt": partial(_prompt, roles=("positive", "conditioning")),
    "negative_prompt": partial(_prompt, roles=("negative",)),
    "width": partial(_side, name="width"),
    "height": partial(_side, name="height"),
    **{name: partial(_values_named, names=inputs) for name, inputs in _INPUTS.items()},
}

SHORT_NAMES = (
    "prompt", "negative_prompt", "seed", "steps", "cfg", "width", "height", "checkpoint",
)  # fmt: skip
"""What a stage may set without naming a node."""
