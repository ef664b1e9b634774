"""Read the workflow that a stage names, and what the job says in the place of its values. Pure.

The file has a value for each input. The job names an input as `Positive.text`, or by a short name
where the workflow has exactly one such place; nothing is guessed. An input that is linked to
another node is never cut off: what gives the value is set instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from sdwatch.errors import SpoolError
from sdwatch.policy.job.files.job_files import JobFiles
from sdwatch.policy.job.files.job_images import AnyName, on_disk
from sdwatch.policy.job.files.sources import Sources
from sdwatch.policy.job.graph import Links
from sdwatch.policy.job.points.template import Part
from sdwatch.policy.job.text import document
from sdwatch.policy.job.text.document import Node, Scalar, UnreadableError, text_of
from sdwatch.policy.job.text.typed_values import found, locate
from sdwatch.policy.job.workflow_values import as_written
from sdwatch.policy.naming import nearest, shown
from sdwatch.policy.workflow.places import (
    SHORT_NAMES,
    InputPlace,
    PlaceError,
    image_places,
    listed,
    nearest_name,
    node_named,
    place_of,
    places_for,
    short_place,
)
from sdwatch.policy.workflow.saved_files import may_save, pictures_in, saves_nothing
from sdwatch.policy.workflow.workflow import (
    Workflow,
    WorkflowError,
    link_of,
    places_of_nodes,
    read_workflow,
    shortly,
)
from sdwatch.policy.workflow.workflow_call import PREFIX, WorkflowCall

Way = tuple[str, ...]
"""To a value in a stage: the name of a field, and of what is in it."""

SEEDS = 2**64
"""So many there are."""


@dataclass(frozen=True)
class WorkflowFile:
    """A file that was read. `first`: what to add to its lines, so that places in it differ from
    those of the job file; `at`: where each node starts."""

    workflow: Workflow
    first: int
    at: Mapping[str, tuple[int, int]]

    def place(self, node: str) -> tuple[int, int]:
        """Return where a node is, or the start of the file for ''."""
        line, column = self.at.get(node, (1, 1))
        return self.first + line, column


@dataclass(frozen=True)
class StageWorkflow:
    """The workflow of a stage, with what the job says in it. `file`: as it was read.

    `seeds`: the inputs that get the seed of a call, each with what it is further; `seed`: what the
    job or the file says, -1 for a random one, None where it has no such input. `image`: the input
    that gets the image of a call, None for none; `images`: inputs that get an image of the job
    folder in each call. `outputs`: the ids of the nodes whose pictures are taken, () for all.
    `allow`: the classes of paid services that it may use. `said`: where the job says what an
    input gets.
    """

    file: WorkflowFile
    workflow: Workflow
    seeds: Mapping[InputPlace, int] = field(default_factory=dict)
    seed: int | None = None
    image: InputPlace | None = None
    images: Mapping[InputPlace, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    said: Mapping[InputPlace, Way] = field(default_factory=dict)

    def call(self, seed: int | None) -> WorkflowCall:
        """Return the workflow of a call with this seed. Its images are those for `images`, in their
        order, then that of the call."""
        values: dict[tuple[str, str], Any] = {}
        if seed is not None:
            values = {place: (seed + further) % SEEDS for place, further in self.seeds.items()}
        own = () if self.image is None else (self.image,)
        return WorkflowCall(self.workflow.with_values(values), (*self.images, *own), self.outputs)

    @property
    def pictures(self) -> int | None:
        """Return how many pictures a call makes; None where nobody knows."""
        return pictures_in(self.call(None))

    @property
    def as_set(self) -> dict[str, dict[str, Any]]:
        """Return the field `set` with its values as they are sent, {} where the job has none."""
        given = {
            way[1]: self.workflow.nodes[node].inputs[input]
            for (node, input), way in self.said.items()
            if way[0] == "set"
        }
        return {"set": given} if given else {}

    def where(self, stage: Node, place: InputPlace) -> tuple[int, int]:
        """Return where the value of an input is written: in the job, or else in the file. `stage`:
        as it is in the job."""
        way = self.said.get(place)
        return self.file.place(place.node) if way is None else locate(stage, way)

    def places(self, stage: Node) -> dict[str, tuple[int, int]]:
        """Return where each node is written, and each input that the job sets (`ID.NAME`)."""
        said = {f"{place.node}.{place.input}": self.where(stage, place) for place in self.said}
        return {**{id: self.file.place(id) for id in self.workflow.nodes}, **said}

    def value(self, name: str) -> Any:
        """Return the value of the one input that a short name means; None where there is none, or
        more than one."""
        places = places_for(self.workflow, name)
        if len(places) != 1:
            return None
        ((node, input),) = places
        return self.workflow.nodes[node].inputs[input]


class WorkflowReader:
    """Reads the workflows of a job's stages; each file once. `named`: gets the names of files of
    the job folder that are needed; `fail(node, message, unfinished)`: reports a mistake."""

    def __init__(
        self,
        files: JobFiles,
        sources: Sources,
        named: Callable[[Iterable[str]], None],
        fail: Callable[[Node, str, bool], None],
    ) -> None:
        self._files = files
        self._sources = sources
        self._named = named
        self._fail = fail
        self._known: dict[str, WorkflowFile | None] = {}  # None: it has a mistake

    def read(
        self, part: Part, links: Links, given: Mapping[str, Any], *, follows: bool
    ) -> StageWorkflow | None:
        """Return the workflow of a stage, None where it cannot be read. `given`: its fields,
        typed; a missing one had a mistake. `follows`: there is a stage before it."""
        nodes = {key.text: value for key, value in part.entries if not _is_null(value)}
        node = nodes.get("file")
        if not isinstance(node, Scalar):
            if "file" not in nodes:
                message = 'name the workflow in "file": what ComfyUI\'s Export (API) wrote'
                self._fail(part.key, message, False)
            return None
        file = self._file(node)
        if file is None:
            return None
        stage = _Stage(file, nodes, given, lambda place, why: self._fail(place, why, False))
        takes_image = bool(links.inputs) or links.taken_from is not None
        return stage.read(takes_image=takes_image, follows=follows)

    def _file(self, node: Scalar) -> WorkflowFile | None:
        names = self._files.names
        if names is None:
            message = "a single job file cannot use the workflow {}; put it as job.yaml into a "
            self._fail(node, message.format(shown(node.text)) + "folder together with it", False)
            return None
        there = frozenset(iter(names))  # without those that AnyName pretends
        if (name := on_disk(node.text, there)) not in there:
            if isinstance(names, AnyName) and _is_inside(node.text):
                self._named([node.text])  # it may still come
            else:
                self._not_there(node, there)
            return None
        self._named([name])
        if name not in self._known:
            self._known[name] = self._opened(node, name)
        return self._known[name]

    def _not_there(self, node: Scalar, there: frozenset[str]) -> None:
        others = sorted(name for name in there if name.lower().endswith(".json"))
        near = nearest(node.text, others) if others else "; there is no .json in it"
        self._fail(node, f"{shown(node.text)} is not in the job folder{near}", True)

    def _opened(self, node: Scalar, name: str) -> WorkflowFile | None:
        first = self._sources.add(self._files.shown(name))
        try:
            data = self._files.read(name)
            text_of(data)
            workflow = read_workflow(data)
        except FileNotFoundError:
            self._fail(node, f"{shown(name)} is not in the job folder", True)
        except SpoolError as error:
            self._fail(node, f"{shown(name)} {error}", False)
        except UnreadableError as error:
            wrong = error.problem
            place = Scalar("", first + wrong.line, wrong.column)
            self._fail(place, wrong.message, wrong.unfinished)
        except WorkflowError as error:
            place = Scalar("", first + error.place[0], error.place[1])
            self._fail(place, str(error), error.unfinished)
        else:
            file = WorkflowFile(workflow, first, places_of_nodes(data))
            if may_save(workflow):
                return file
            message = (
                "no node of the workflow saves anything: use SaveImage (a PreviewImage only shows)"
            )
            self._fail(Scalar("", *file.place("")), message, False)
        return None


class _Stage:
    """Puts what one stage says into its workflow. `nodes`: its fields as written; `given`: typed;
    a mistaken one is missing there."""

    def __init__(
        self,
        file: WorkflowFile,
        nodes: Mapping[str, Node],
        given: Mapping[str, Any],
        fail: Callable[[Node, str], None],
    ) -> None:
        self._file = file
        self._workflow = file.workflow
        self._nodes = nodes
        self._given = given
        self._report = fail
        self._mistakes = 0
        self._values: dict[tuple[str, str], Any] = {}
        self._said: dict[InputPlace, Way] = {}

    def read(self, *, takes_image: bool, follows: bool) -> StageWorkflow:
        """Return the whole. `takes_image`: each call has an image, from wherever; `follows`: else
        it takes those of the stage before, if it loads any."""
        self._set()
        self._short_names()
        images = self._images_by_place()
        workflow = self._workflow.with_values(self._values)
        seed, seeds = self._seeds(workflow)
        image = None
        if takes_image or isinstance(self._given.get("images"), list):
            image = self._place_of_image(workflow)
        elif follows:
            image = self._place_for_stage_before(workflow)
        return StageWorkflow(
            self._file,
            workflow,
            seeds,
            seed,
            image,
            images,
            tuple(self._outputs()),
            tuple(self._allowed()),
            self._said,
        )

    def _fail(self, node: Node, message: str) -> None:
        self._mistakes += 1
        self._report(node, message)

    def _set(self) -> None:
        node = self._nodes.get("set")
        entries = node.entries if isinstance(node, document.Mapping) else ()
        for key, value in entries if "set" in self._given else ():
            if self._mistakes > _MOST_MISTAKES:
                break
            place = self._place(key)
            if place is None:
                continue
            if place.input == PREFIX:
                message = (
                    f"{PREFIX} is set by sdwatch; to name the pictures use `outputs` of the job"
                )
                self._fail(key, message)
            elif not isinstance(value, Scalar):
                self._fail(
                    value, f"{key.text} takes a text, a number or a switch, not {found(value)}"
                )
            elif self._is_new(key, place, ("set", key.text)):
                now = self._workflow.nodes[place.node].inputs[place.input]
                try:
                    self._values[place] = as_written(value, now)
                except ValueError as error:
                    self._fail(value, f"{key.text} must be {error}, not {found(value)}")

    def _place(self, key: Scalar) -> InputPlace | None:
        """Return the input that a key names, unless that is a link."""
        try:
            place = place_of(self._workflow, key.text)
        except PlaceError as error:
            self._fail(key, str(error))
            return None
        node = self._workflow.nodes[place.node]
        if (link := link_of(node.inputs[place.input])) is None:
            return place
        source = self._workflow.nodes.get(link.node)
        inputs = source.values() if source else {}
        named = (f"{shortly(link.node)}.{shortly(name)}" for name in list(inputs)[:_MOST_NAMED])
        there = ", ".join(named)
        instead = f"; set what that makes it of: {there}" if there else ""
        gives = source.shown if source else shortly(link.node)
        message = f"{place.input} of node {node.shown} comes from node {gives}{instead}"
        self._fail(key, message)
        return None

    def _is_new(self, node: Node, place: InputPlace, way: Way) -> bool:
        if (before := self._said.get(place)) is not None:
            both = " and ".join(map(_in_words, (before, way)))
            self._fail(node, f"{both} are the same input of the workflow; keep one")
            return False
        self._said[place] = way
        return True

    def _short_names(self) -> None:
        for name in SHORT_NAMES:
            if name not in self._given or name not in self._nodes:
                continue
            try:
                place = short_place(self._workflow, name)
            except PlaceError as error:
                self._fail(self._nodes[name], str(error))
                continue
            if self._is_new(self._nodes[name], place, (name,)):
                self._values[place] = self._given[name]

    def _images_by_place(self) -> dict[InputPlace, str]:
        node, given = self._nodes.get("images"), self._given.get("images")
        images = {}
        if isinstance(node, document.Mapping) and isinstance(given, dict):
            for key, _ in node.entries:
                place = self._place(key)
                if place is not None and self._is_new(key, place, ("images", key.text)):
                    images[place] = given[key.text]
        return images

    def _free(self, places: Iterable[InputPlace]) -> list[InputPlace]:
        return [place for place in places if place not in self._said]

    def _place_for_stage_before(self, workflow: Workflow) -> InputPlace | None:
        places = self._free(image_places(workflow, by_class=True))
        if len(places) > 1:
            self._fail(
                self._nodes["file"],
                f"the picture of the stage before could be for several: "
                f"{listed(workflow, places)}; name the others: `images: {{%s.%s: pose.png}}` for "
                "a file of the job folder, `set:` for one that ComfyUI has in its input/"
                % places[-1],
            )
        return places[0] if len(places) == 1 else None

    def _place_of_image(self, workflow: Workflow) -> InputPlace | None:
        places = self._free(image_places(workflow))
        if len(places) == 1:
            return places[0]
        node = self._nodes.get("images") or self._nodes["input"]
        if not places:
            self._fail(node, "the workflow has no place for an image: no LoadImage that is free")
        else:
            self._fail(
                node,
                f"the image could be for several: {listed(workflow, places)}; name those that "
                "are the same in each call, as `images: {%s.%s: pose.png}`" % places[0],
            )
        return None

    def _outputs(self) -> Iterator[str]:
        for node in _items(self._nodes.get("outputs")):
            try:
                named = node_named(self._workflow, node.text)
            except PlaceError as error:
                self._fail(node, str(error))
                continue
            if saves_nothing(named):
                self._fail(node, f"node {named.shown} saves nothing that sdwatch can take")
            else:
                yield named.id

    def _allowed(self) -> Iterator[str]:
        kinds = {node.kind for node in self._workflow.nodes.values()}
        for node in _items(self._nodes.get("allow")):
            if node.text in kinds:
                yield node.text
            else:
                near = nearest_name(node.text, kinds)
                self._fail(node, f"no node of the workflow has the class {shown(node.text)}{near}")

    def _seeds(self, workflow: Workflow) -> tuple[int | None, Mapping[InputPlace, int]]:
        """Return the seed, and the inputs that get it. Where some are -1, which ComfyUI refuses,
        they get a random one, and the others stay; else all move together."""
        places = places_for(workflow, "seed")
        values = {place: workflow.nodes[place.node].inputs[place.input] for place in places}
        numbers = {place: value for place, value in values.items() if _is_whole(value)}
        drawn = [place for place, value in numbers.items() if value < 0]
        if drawn:
            return -1, dict.fromkeys(drawn, 0)
        first = next(iter(numbers.values()), None)
        if first is None:
            if (self._given.get("repeat") or 1) > 1:
                message = "the workflow has no seed, so it would make the same again"
                self._fail(self._nodes["repeat"], message)
            return None, {}
        return first, {place: value - first for place, value in numbers.items()}


_MOST_NAMED = 6
_MOST_MISTAKES = 20


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _in_words(way: Way) -> str:
    return way[-1] if len(way) == 1 else f"{way[-1]} in {way[0]}"


def _items(node: Node | None) -> Iterator[Scalar]:
    """Yield the texts of a list, or the one that stands for it."""
    listed = node.items if isinstance(node, document.Sequence) else (node,)
    yield from (item for item in listed if isinstance(item, Scalar) and not item.is_null)


def _is_inside(name: str) -> bool:
    """Return whether a file of this name could be in a job folder."""
    parts = PurePosixPath(name).parts
    return bool(parts) and ".." not in parts and not re.match(r"[/~]|.*[\\:]", name)


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.is_null
