"""Which stage works on whose images, and what a stage sends as it is. Pure.

A stage has an `id`; a later one names it as its `input`, or an image of the job folder, or a
pattern. A stage takes only from those before it, so that the calls of a job have one order and each
of them a name that is known once the stages before it are finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdwatch.errors import Problem
from sdwatch.policy.job.files.job_images import (
    JobImages,
    images_in,
    images_named,
    is_pattern,
)
from sdwatch.policy.job.points.template import Part
from sdwatch.policy.job.stage.confinement import JobRules, beyond_in
from sdwatch.policy.job.stage.fields import ID, InputFields, RouteFields
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.job.text import document
from sdwatch.policy.job.text.document import MistakeError, Node, Scalar, problem_at
from sdwatch.policy.job.text.typed_values import found
from sdwatch.policy.naming import nearest

OWN = frozenset({*RouteFields.model_fields, *InputFields.model_fields})
"""Fields of a stage that are for sdwatch, and are not sent."""

_NOT_MEASURED = "it takes an image, and what a WebUI does with a text there was not measured"
_DECIDED: Mapping[str, str] = {
    "send_images": "the WebUI would return nothing",
    "force_task_id": "sdwatch names its tasks itself",
    "save_images": "it changes what the WebUI saves",
    "do_not_save_samples": "it changes what the WebUI saves",
    "do_not_save_grid": "it changes what the WebUI saves",
    "override_settings_restore_afterwards": (
        "the settings of this job would stay for the jobs after it"
    ),
    "infotext": "it may carry settings of the WebUI; write its fields one by one",
    "firstpass_image": _NOT_MEASURED,
    "latent_mask": _NOT_MEASURED,
}
"""Fields of a payload that sdwatch decides about, and why."""

_WITH_PAYLOAD = [kind for kind in STAGES.values() if not kind.runs_workflow]

NOT_IN_PAYLOAD = frozenset(
    {*_DECIDED, *(name for kind in _WITH_PAYLOAD for name in kind.fields.model_fields)}
)


@dataclass(frozen=True)
class Links:
    """How a stage is linked to others. `id`: '' without one; `taken_from`: the number of the stage
    whose images it takes, None for the one before it; `inputs`: images of the job folder that its
    `input` names; `fan_out`: one call for each image, None where the job does not say; `payload`:
    fields that are sent as they are."""

    id: str = ""
    taken_from: int | None = None
    inputs: tuple[str, ...] = ()
    fan_out: bool | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StageIds:
    """The stages of a job by their ids: of each its number from 1, and what it names as its
    `input`."""

    numbers: Mapping[str, int] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)

    def before(self, number: int) -> list[str]:
        """Return the ids of the stages before this one."""
        return [name for name, other in self.numbers.items() if other < number]

    def circle(self, name: str) -> list[str]:
        """Return the ids of a circle that starts and ends with this one; empty if there is none."""
        way = [name]
        while (name := self.inputs.get(name, "")) in self.numbers and name not in way:
            way.append(name)
        return [*way, name] if name == way[0] else []


def ids_of(parts: Sequence[Part]) -> tuple[StageIds, list[Problem]]:
    """Return the ids that stages give themselves, and what is wrong with one."""
    numbers: dict[str, int] = {}
    inputs: dict[str, str] = {}
    wrong: list[Problem] = []
    for part in parts:
        given = {key.text: value for key, value in part.entries}
        node = given.get("id")
        if not isinstance(node, Scalar) or node.is_null:
            continue
        if not ID.fullmatch(node.text):
            why = "has letters, digits, _ and -, and starts with a letter or _"
            wrong.append(problem_at(node, f"{found(node)} is not an id; an id {why}"))
        elif node.text in numbers:
            message = f"stage {numbers[node.text]} has the id {found(node)}, too"
            wrong.append(problem_at(node, message))
        else:
            numbers[node.text] = part.number
            if isinstance(taken := given.get("input"), Scalar):
                inputs[node.text] = taken.text
    return StageIds(numbers, inputs), wrong


@dataclass
class LinkReader:
    """Reads how the stages of a job are linked. `report`: gets what is wrong; `named`: gets the
    images of the job folder that are needed."""

    ids: StageIds
    images: JobImages
    rules: JobRules
    report: Callable[[Problem], None]
    named: Callable[[Sequence[str]], None]

    def read(self, part: Part, given: Mapping[str, Any]) -> Links:
        """Return the links of a stage. `given`: its fields, typed."""
        nodes = {key.text: value for key, value in part.entries}
        own = part.kind.image_field
        taken_from: int | None = None
        inputs: tuple[str, ...] = ()
        node = nodes.get("input")
        if isinstance(node, Scalar) and not node.is_null:
            try:
                if part.gives(own) and not isinstance(nodes[own], document.Mapping):
                    raise MistakeError(node, f'give "input" or "{own}", not both')
                taken_from, inputs = self._input(node, part.number)
            except MistakeError as error:
                self.report(error.problem)
        fan_out = given.get("fan_out")
        if fan_out is False and not part.kind.takes_several:
            message = f"a stage {part.what} works on one image at a time; remove fan_out"
            self.report(problem_at(nodes["fan_out"], message))
        if fan_out is None and node is not None:
            fan_out = True
        payload = nodes.get("payload")
        if isinstance(payload, document.Mapping):
            for place, why in refused(payload, self.rules):
                self.report(problem_at(place, why))
        return Links(
            str(given.get("id", "")), taken_from, inputs, fan_out, dict(given.get("payload", {}))
        )

    def _input(self, node: Scalar, number: int) -> tuple[int | None, tuple[str, ...]]:
        """Return what an `input` means: the number of a stage, or images of the job folder."""
        text = node.text
        if text in self.ids.numbers:
            other = self.ids.numbers[text]
            if other >= number:
                self.report(problem_at(node, self._not_before(text, number)))
            return other, ()
        if is_pattern(text):
            return None, self._matching(node)
        if ID.fullmatch(text) and not self.images.is_there(text):
            known = [*self.ids.before(number), *images_in(self.images.names or ())]
            near = nearest(text, known) if known else "; give the stage before this one an id"
            message = f"no stage before this one has the id {found(node)}{near}"
            raise MistakeError(node, message)
        if why := self.images.refusal(text):
            raise MistakeError(node, why, unfinished=self.images.is_unfinished(text))
        names = (self.images.actual_name(text),)
        self.named(names)
        return None, names

    def _not_before(self, text: str, number: int) -> str:
        later = self.ids.numbers[text]
        if later == number:
            return f'"{text}" is this stage itself, and has no images yet'
        own = next((name for name, other in self.ids.numbers.items() if other == number), "")
        if own and (circle := self.ids.circle(own)):
            return f"the inputs go in a circle: {' takes from '.join(circle)}"
        near = self.ids.before(number)
        others = f"; before it there are {', '.join(near)}" if near else ""
        return f'"{text}" is stage {later}, which comes after this one (stage {number}){others}'

    def _matching(self, node: Scalar) -> tuple[str, ...]:
        names = tuple(images_named(node, self.images.names))
        for name in names:
            if why := self.images.refusal(name):
                self.report(problem_at(node, why, unfinished=self.images.is_unfinished(name)))
        self.named(names)
        return names


def refused(payload: document.Mapping, rules: JobRules) -> Iterator[tuple[Node, str]]:
    """Yield what a payload may not have: what sdwatch decides about or checks, and what reaches
    beyond the job."""
    for key, value in payload.entries:
        kinds = [kind for kind in _WITH_PAYLOAD if key.text in kind.fields.model_fields]
        if why := _DECIDED.get(key.text):
            yield key, f"payload cannot set {key.text}: {why}"
        elif kinds:
            where = " or ".join(kind.short_name for kind in kinds)
            yield (
                key,
                (
                    f"payload cannot set {key.text}, which sdwatch checks: write it as a "
                    f"field of the stage ({where})"
                ),
            )
        else:
            yield from beyond_in(key, value, rules)
