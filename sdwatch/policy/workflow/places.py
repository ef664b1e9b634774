"""Find an input of a workflow by what people write: `Positive.text`, `5.width`, `prompt`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

from sdwatch.policy.naming import did_you_mean, shown, some_of
from sdwatch.policy.workflow.workflow import Link, Node, Workflow, shortly


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
        near = nearest_name(input, node.inputs) or _inputs_of(node)
        raise PlaceError(f"node {node.shown} has no input {shown(input)}{near}")
    return InputPlace(node.id, input)


def _with_dots(workflow: Workflow, written: str) -> Iterator[InputPlace]:
    """Yield each input that a text names if a dot may be part of a title, or of an input."""
    for at, sign in enumerate(written):
        name, input = written[:at], written[at + 1 :]
        if sign == "." and (named := _nodes_named(workflow, name)):
            yield from (InputPlace(node.id, input) for node in named if input in node.inputs)


def _inputs_of(node: Node) -> str:
    return (
        f"; it has {some_of(list(map(shortly, node.inputs)))}" if node.inputs else "; it has none"
    )


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


def image_places(workflow: Workflow) -> list[InputPlace]:
    """Return the inputs that name an image to load, as LoadImage's `image` does."""
    return list(_ending_in("image")(workflow))


# -- short names


def short_place(workflow: Workflow, name: str) -> InputPlace:
    """Return the one place that a short name means in this workflow. Raises PlaceError if there is
    none, or several, and lists them."""
    found = places_for(workflow, name)
    if len(found) == 1:
        return found[0]
    if not found:
        raise PlaceError(f"the workflow has no place for {name}; use `set:` with a node and input")
    several = listed(workflow, found)
    raise PlaceError(f"{name} could be several: {several}; use `set:` with one of them")


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


def _samplers(workflow: Workflow) -> Iterator[Node]:
    """Return the nodes that sample: conditioning goes in there."""
    for node in workflow.nodes.values():
        if any(name in ("positive", "negative", "conditioning") for name, _ in node.links()):
            yield node


def _ending_in(*names: str) -> Callable[[Workflow], Iterator[InputPlace]]:
    """Return a search for plain values with these names."""

    def search(workflow: Workflow) -> Iterator[InputPlace]:
        for node in workflow.nodes.values():
            yield from (InputPlace(node.id, name) for name in node.values() if name in names)

    return search


def _size(name: str) -> Callable[[Workflow], Iterator[InputPlace]]:
    """Return a search for a side of what is generated: of an empty latent image, since other nodes
    have sides, too (a crop, an upscale)."""

    def search(workflow: Workflow) -> Iterator[InputPlace]:
        for node in workflow.nodes.values():
            has_sides = {"width", "height", "batch_size"} <= node.values().keys()
            if has_sides and "latent" in node.kind.lower():
                yield InputPlace(node.id, name)

    return search


def _prompt(*roles: str) -> Callable[[Workflow], Iterator[InputPlace]]:
    """Return a search for the texts that reach the samplers by these inputs."""

    def search(workflow: Workflow) -> Iterator[InputPlace]:
        for node in _samplers(workflow):
            ends = [link for name, link in node.links() if name in roles]
            yield from _texts_behind(workflow, ends, roles)

    return search


def _texts_behind(
    workflow: Workflow, links: Iterable[Link], roles: tuple[str, ...]
) -> Iterator[InputPlace]:
    """Return the texts of the first encoders on the way back. A node that passes both prompts on,
    as ControlNet does, is followed by the same input only."""
    rest, seen = list(links), set[str]()
    while rest:
        node = workflow.nodes.get(rest.pop().node)
        if node is None or node.id in seen:
            continue
        seen.add(node.id)
        texts = [name for name, value in node.values().items() if _is_prompt(name, value)]
        yield from (InputPlace(node.id, name) for name in texts)
        linked = [link for name, link in node.links() if name in _TEXTS]
        if texts or linked:  # an encoder, or what gives it its text
            rest += linked
            continue
        links_on = dict(node.links())
        same = [link for name, link in links_on.items() if name in roles]
        rest += same or links_on.values()


def _is_prompt(name: str, value: object) -> bool:
    return isinstance(value, str) and name in _TEXTS


_TEXTS = ("text", "text_g", "text_l", "clip_l", "t5xxl", "prompt", "string", "value")
"""Inputs of encoders, and of nodes that only hold a text."""


_SHORT: Mapping[str, Callable[[Workflow], Iterator[InputPlace]]] = {
    "prompt": _prompt("positive", "conditioning"),
    "negative_prompt": _prompt("negative"),
    "seed": _ending_in("seed", "noise_seed"),
    "steps": _ending_in("steps"),
    "cfg": _ending_in("cfg"),
    "width": _size("width"),
    "height": _size("height"),
    "checkpoint": _ending_in("ckpt_name"),
}

SHORT_NAMES = tuple(_SHORT)
"""What a stage may set without naming a node."""
