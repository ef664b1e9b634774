"""Read the workflow that a stage names, and what the job says in the place of its values. Pure.

The file has a value for each input. The job names an input as `Positive.text`, or by a short name
where the workflow has exactly one such place; nothing is guessed. An input that is linked to
another node is never cut off: what gives the value is set instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from sdwatch.errors import Problem
from sdwatch.policy.job.files.job_files import JobFiles
from sdwatch.policy.job.files.job_images import AnyName, on_disk
from sdwatch.policy.job.graph import Links
from sdwatch.policy.job.points.template import Part
from sdwatch.policy.job.stage.confinement import HINT, JobRules, place_in
from sdwatch.policy.job.text import document
from sdwatch.policy.job.text.document import (
    MistakeError,
    Node,
    Scalar,
    UnreadableError,
    is_null,
    problem_at,
    text_of,
)
from sdwatch.policy.job.text.typed_values import as_written, found, locate
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
    prompt_texts,
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
    texts_in,
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
    """The workflow of a stage, with what the job says in it. `stage`: as it is in the job; `file`:
    as it was read.

    `seeds`: the inputs that get the seed of a call, each with what it is further; `seed`: what the
    job or the file says, -1 for a random one, None where it has no such input. `image`: the input
    that gets the image of a call, None for none; `images`: inputs that get an image of the job
    folder in each call. `outputs`: the ids of the nodes whose pictures are taken, () for all.
    `allow`: the classes of paid services that it may use. `said`: where the job says what an
    input gets.
    """

    stage: Node
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

    def where(self, place: InputPlace) -> tuple[int, int]:
        """Return where the value of an input is written: in the job, or else in the file."""
        way = self.said.get(place)
        return self.file.place(place.node) if way is None else locate(self.stage, way)

    def places(self) -> dict[str, tuple[int, int]]:
        """Return where each node is written, and each input that the job sets (`ID.NAME`)."""
        said = {f"{place.node}.{place.input}": self.where(place) for place in self.said}
        return {**{id: self.file.place(id) for id in self.workflow.nodes}, **said}

    def reaching(self, rules: JobRules) -> Iterator[Problem]:
        """Yield each path and address in it, at its place. ComfyUI itself lets no file outside its
        own folders be named. Custom nodes promise nothing of the kind, so a workflow names none,
        whoever gets it. The text of a prompt may be anything. Inputs that are places by their name
        are known by their class, see workflow_checks.py."""
        prompts = prompt_texts(self.workflow)
        for node in self.workflow.nodes.values():
            for name, value in node.values().items():
                place = InputPlace(node.id, name)
                if name == PREFIX or place in prompts or rules.allows(node.kind, name):
                    continue  # a prefix each call has of its own
                if what := next(filter(None, map(place_in, texts_in(value))), ""):
                    message = f"{name} of node {node.shown} contains {what}{HINT}"
                    yield Problem(*self.where(place), message)

    def value(self, name: str) -> Any:
        """Return the value of the one input that a short name means; None where there is none, or
        more than one."""
        places = places_for(self.workflow, name)
        if len(places) != 1:
            return None
        ((node, input),) = places
        return self.workflow.nodes[node].inputs[input]


@dataclass
class WorkflowReader:
    """Reads the workflows of a job's stages; each file once. `named`: gets the names of files of
    the job folder that are needed; `report`: gets what is wrong."""

    files: JobFiles
    named: Callable[[Iterable[str]], None]
    report: Callable[[Problem], None]
    _known: dict[str, WorkflowFile | None] = field(init=False, default_factory=dict)

    def read(self, part: Part, links: Links, given: Mapping[str, Any]) -> StageWorkflow | None:
        """Return the workflow of a stage, None where it cannot be read. `given`: its fields,
        typed; a missing one had a mistake."""
        nodes = {key.text: value for key, value in part.entries if not is_null(value)}
        node = nodes.get("file")
        if not isinstance(node, Scalar):
            if "file" not in nodes:
                message = 'name the workflow in "file": what ComfyUI\'s Export (API) wrote'
                self.report(problem_at(part.key, message))
            return None
        try:
            file = self._file(node)
        except UnreadableError as error:
            self.report(error.problem)
            return None
        if file is None:
            return None
        stage = _Stage(part.node, file, nodes, given, self.report)
        takes_image = bool(links.inputs) or links.taken_from is not None
        return stage.read(takes_image=takes_image, follows=part.number > 1)

    def _file(self, node: Scalar) -> WorkflowFile | None:
        names = self.files.names
        if names is None:
            message = "a single job file cannot use the workflow {}; put it as job.yaml into a "
            raise MistakeError(node, message.format(shown(node.text)) + "folder together with it")
        there = frozenset(iter(names))  # without those that AnyName pretends
        if (name := on_disk(node.text, there)) not in there:
            if not isinstance(names, AnyName) or not _is_inside(node.text):
                others = sorted(name for name in there if name.lower().endswith(".json"))
                near = nearest(node.text, others) if others else "; there is no .json in it"
                message = f"{shown(node.text)} is not in the job folder{near}"
                raise MistakeError(node, message, unfinished=True)
            self.named([node.text])  # it may still come
            return None
        self.named([name])
        if name not in self._known:
            self._known[name] = None
            self._known[name] = self._opened(node, name)
        return self._known[name]

    def _opened(self, node: Scalar, name: str) -> WorkflowFile:
        first = self.files.sources.add(self.files.shown(name))
        workflow, at = self.files.made_of(node, name, _workflow_in)
        file = WorkflowFile(workflow, first, at)
        if not may_save(workflow):
            message = (
                "no node of the workflow saves anything: use SaveImage (a PreviewImage only shows)"
            )
            raise UnreadableError(*file.place(""), message)
        return file


def _workflow_in(data: bytes) -> tuple[Workflow, Mapping[str, tuple[int, int]]]:
    """Return the workflow of a file, and where each node starts. Raises UnreadableError."""
    text_of(data)
    try:
        return read_workflow(data), places_of_nodes(data)
    except WorkflowError as error:
        raise UnreadableError(*error.place, str(error), unfinished=error.unfinished) from None


@dataclass
class _Stage:
    """Puts what one stage says into its workflow. `stage`: as written; `nodes`: its fields;
    `given`: typed; a mistaken one is missing there."""

    stage: Node
    file: WorkflowFile
    nodes: Mapping[str, Node]
    given: Mapping[str, Any]
    report: Callable[[Problem], None]
    _mistakes: int = 0
    _values: dict[tuple[str, str], Any] = field(default_factory=dict)
    _said: dict[InputPlace, Way] = field(default_factory=dict)

    def read(self, *, takes_image: bool, follows: bool) -> StageWorkflow:
        """Return the whole. `takes_image`: each call has an image, from wherever; `follows`: else
        it takes those of the stage before, if it loads any."""
        self._set()
        self._short_names()
        images = self._images_by_place()
        workflow = self.file.workflow.with_values(self._values)
        seed, seeds = self._seeds(workflow)
        image = None
        with self._noting(self.nodes["file"]):
            if takes_image or isinstance(self.given.get("images"), list):
                image = self._place_of_image(workflow)
            elif follows:
                image = self._place_for_stage_before(workflow)
        return StageWorkflow(
            self.stage,
            self.file,
            workflow,
            seeds,
            seed,
            image,
            images,
            self._outputs(),
            self._allowed(),
            self._said,
        )

    @contextmanager
    def _noting(self, node: Node) -> Iterator[None]:
        """Report a mistake that shows within, at `node` if it has no place of its own."""
        try:
            yield
        except UnreadableError as error:
            self._mistakes += 1
            self.report(error.problem)
        except PlaceError as error:
            self._mistakes += 1
            self.report(problem_at(node, str(error)))

    def _set(self) -> None:
        node = self.nodes.get("set")
        entries = node.entries if isinstance(node, document.Mapping) else ()
        for key, value in entries if "set" in self.given else ():
            if self._mistakes > _MOST_MISTAKES:
                break
            with self._noting(key):
                self._set_one(key, value)

    def _set_one(self, key: Scalar, value: Node) -> None:
        place = self._place(key)
        if place.input == PREFIX:
            message = f"{PREFIX} is set by sdwatch; to name the pictures use `outputs` of the job"
            raise MistakeError(key, message)
        if not isinstance(value, Scalar):
            message = f"{key.text} takes a text, a number or a switch, not {found(value)}"
            raise MistakeError(value, message)
        self._note(key, place, ("set", key.text))
        try:
            now = self.file.workflow.nodes[place.node].inputs[place.input]
            self._values[place] = as_written(value, now)
        except ValueError as error:
            raise MistakeError(value, f"{key.text} must be {error}, not {found(value)}") from None

    def _place(self, key: Scalar) -> InputPlace:
        """Return the input that a key names. Raises PlaceError, also where that is a link."""
        place = place_of(self.file.workflow, key.text)
        node = self.file.workflow.nodes[place.node]
        if (link := link_of(node.inputs[place.input])) is None:
            return place
        source = self.file.workflow.nodes.get(link.node)
        inputs = source.values() if source else {}
        named = (f"{shortly(link.node)}.{shortly(name)}" for name in list(inputs)[:_MOST_NAMED])
        there = ", ".join(named)
        instead = f"; set what that makes it of: {there}" if there else ""
        gives = source.shown if source else shortly(link.node)
        raise PlaceError(f"{place.input} of node {node.shown} comes from node {gives}{instead}")

    def _note(self, node: Node, place: InputPlace, way: Way) -> None:
        """Note where the job says what an input gets. Raises MistakeError for the second time."""
        if (before := self._said.get(place)) is not None:
            both = " and ".join(" in ".join(reversed(each)) for each in (before, way))
            raise MistakeError(node, f"{both} are the same input of the workflow; keep one")
        self._said[place] = way

    def _short_names(self) -> None:
        for name in SHORT_NAMES:
            if name in self.given and name in self.nodes:
                node = self.nodes[name]
                with self._noting(node):
                    place = short_place(self.file.workflow, name)
                    self._note(node, place, (name,))
                    self._values[place] = self.given[name]

    def _images_by_place(self) -> dict[InputPlace, str]:
        node, given = self.nodes.get("images"), self.given.get("images")
        images = {}
        if isinstance(node, document.Mapping) and isinstance(given, dict):
            for key, _ in node.entries:
                with self._noting(key):
                    place = self._place(key)
                    self._note(key, place, ("images", key.text))
                    images[place] = given[key.text]
        return images

    def _free(self, places: Iterable[InputPlace]) -> list[InputPlace]:
        return [place for place in places if place not in self._said]

    def _place_for_stage_before(self, workflow: Workflow) -> InputPlace | None:
        places = self._free(image_places(workflow, by_class=True))
        if len(places) > 1:
            raise PlaceError(
                f"the picture of the stage before could be for several: "
                f"{listed(workflow, places)}; name the others: `images: {{%s.%s: pose.png}}` for "
                "a file of the job folder, `set:` for one that ComfyUI has in its input/"
                % places[-1],
            )
        return places[0] if places else None

    def _place_of_image(self, workflow: Workflow) -> InputPlace:
        places = self._free(image_places(workflow))
        if len(places) == 1:
            return places[0]
        message = "the workflow has no place for an image: no LoadImage that is free"
        if places:
            message = (
                f"the image could be for several: {listed(workflow, places)}; name those that "
                "are the same in each call, as `images: {%s.%s: pose.png}`" % places[0]
            )
        raise MistakeError(self.nodes.get("images") or self.nodes["input"], message)

    def _outputs(self) -> tuple[str, ...]:
        ids = []
        for node in _items(self.nodes.get("outputs")):
            with self._noting(node):
                named = node_named(self.file.workflow, node.text)
                if saves_nothing(named):
                    raise PlaceError(f"node {named.shown} saves nothing that sdwatch can take")
                ids.append(named.id)
        return tuple(ids)

    def _allowed(self) -> tuple[str, ...]:
        kinds = {node.kind for node in self.file.workflow.nodes.values()}
        given = list(_items(self.nodes.get("allow")))
        for node in given:
            if node.text not in kinds:
                near = nearest_name(node.text, kinds)
                message = f"no node of the workflow has the class {shown(node.text)}{near}"
                self.report(problem_at(node, message))
        return tuple(node.text for node in given if node.text in kinds)

    def _seeds(self, workflow: Workflow) -> tuple[int | None, Mapping[InputPlace, int]]:
        """Return the seed, and the inputs that get it. Where some are -1, which ComfyUI refuses,
        they get a random one, and the others stay; else all move together."""
        places = places_for(workflow, "seed")
        values = {place: workflow.nodes[place.node].inputs[place.input] for place in places}
        numbers = {place: value for place, value in values.items() if type(value) is int}
        drawn = [place for place, value in numbers.items() if value < 0]
        if drawn:
            return -1, dict.fromkeys(drawn, 0)
        first = next(iter(numbers.values()), None)
        if first is None:
            if (self.given.get("repeat") or 1) > 1:
                message = "the workflow has no seed, so it would make the same again"
                self.report(problem_at(self.nodes["repeat"], message))
            return None, {}
        return first, {place: value - first for place, value in numbers.items()}


_MOST_NAMED = 6
_MOST_MISTAKES = 20


def _items(node: Node | None) -> Iterator[Scalar]:
    """Yield the texts of a list, or the one that stands for it."""
    listed = node.items if isinstance(node, document.Sequence) else (node,)
    yield from (item for item in listed if isinstance(item, Scalar) and not item.is_null)


def _is_inside(name: str) -> bool:
    """Return whether a file of this name could be in a job folder."""
    parts = PurePosixPath(name).parts
    return bool(parts) and ".." not in parts and not re.match(r"[/~]|.*[\\:]", name)
