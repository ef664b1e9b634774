"""The stages of a job as written, and as they are at one of its points. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sdwatch.errors import Problem
from sdwatch.policy.job.files.job_files import Entries
from sdwatch.policy.job.files.wildcards import Wildcards
from sdwatch.policy.job.points.expansion import Expansion
from sdwatch.policy.job.points.points import Axis, Values
from sdwatch.policy.job.points.shown_values import described, may_hold_text
from sdwatch.policy.job.stage.stage_kinds import PROMPTS, STAGES, StageKind
from sdwatch.policy.job.text.document import LINES, Mapping, Node, Scalar, is_null, problem_at
from sdwatch.policy.job.text.document import Sequence as SequenceNode
from sdwatch.policy.job.text.filling import MOST_FILLED, FilledTooLongError, Filler, names_in
from sdwatch.policy.job.text.typed_values import Written
from sdwatch.policy.naming import nearest, shown

_MAY_BE_UNUSED = ("repeat", "image.stem")
_NEVER_FILLED = ("id", "payload", "fan_out", "image", "repeat")  # by a name that is equal
_MOST_PROBLEMS = 100


@dataclass(frozen=True)
class Part:
    """A stage as written. `model`: what its fields are read with; `what`: its name there; `key`:
    where it starts; `node`: its fields; `number`: which stage of the job it is, from 1."""

    kind: StageKind
    model: type[Written]
    what: str
    key: Node
    node: Node
    number: int = 1

    def with_entries(self, entries: Iterable[tuple[Scalar, Node]]) -> Part:
        assert isinstance(self.node, Mapping)
        return replace(self, node=replace(self.node, entries=tuple(entries)))

    @property
    def entries(self) -> tuple[tuple[Scalar, Node], ...]:
        return self.node.entries if isinstance(self.node, Mapping) else ()

    @property
    def gives_images(self) -> bool:
        return self.gives(self.kind.image_field) or self.gives("input")

    def gives(self, name: str) -> bool:
        return any(key.text == name and not is_null(value) for key, value in self.entries)


class _Own(NamedTuple):
    """A field that a part has because a name is called so. `part`: its number."""

    part: int
    field: str
    name: str


@dataclass
class Template:
    """The stages of a job with `${name}` and `__name__` in them. `defaults`: fields for those that
    have and do not give them, what comes first counts. `problems`: names that do not fit."""

    written: Sequence[Part]
    expansion: Expansion
    wildcards: Wildcards
    defaults: Sequence[Entries] = ()
    problems: list[Problem] = field(default_factory=list)
    _own: list[_Own] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        for defaults in self.defaults:
            self.written = [_with_defaults(part, defaults) for part in self.written]
            self._check_defaults(defaults)
        self.wildcards.look_through(self._prompts())
        if self.expansion.fills:
            self._check_values()
            used = {name for part in self.written for name in self._names_of(part)}
            self._place_unused(used)

    def _prompts(self) -> Iterator[str]:
        """Yield the texts that a prompt may be made of."""
        for part in self.written:
            for key, value in part.entries:
                if key.text in PROMPTS and isinstance(value, Scalar):
                    yield value.text
                yield from (text.text for _, text in _set_in(part, key.text, value))
        yield from (value.text for value in self.expansion.points.values_with("__"))

    @property
    def varies(self) -> bool:
        """Return whether what is written is not yet what is sent."""
        return self.expansion.fills or self.wildcards.are_used

    def parts(self, number: int, random_seed: int) -> list[Part]:
        """Return the stages of a point. `random_seed`: for all that is left to chance."""
        if not self.varies:
            return list(self.written)
        values = self.expansion.points.values(number)
        chance = f"{random_seed}/{self.expansion.points.chance(number)}"
        return [self._filled(part, values, f"{chance}/{part.number - 1}") for part in self.written]

    def parts_with(self, number: int, axis: Axis) -> Iterator[Part]:
        """Yield the fields of a point that depend on the value of this axis, by stage."""
        values = self.expansion.points.values(number)
        for part in self.written:
            entries = [
                (key, value)
                for key, value in part.entries
                if any(name in axis.names for _, name in names_in(value))
            ]
            owns = any(own.part == part.number and own.name in axis.names for own in self._own)
            if entries or owns:
                if part.kind.runs_workflow:  # what may be written depends on its file
                    entries = list(part.entries)
                yield self._filled(part.with_entries(entries), values, "", axis.names)

    def alike_in(self, name: str) -> Scalar | None:
        """Return the first value of an axis of several whose values no stage mentions, with its
        place; None where there is none, or chance makes its points differ."""
        axes = (axis for axis in self.expansion.points.axes if name in axis.names)
        axis = next((axis for axis in axes if len(axis.rows) > 1), None)
        if axis is None or self.wildcards.are_used:
            return None
        values = (value for part in self.written for _, value in part.entries)
        if any(used == name for value in values for _, used in names_in(value)):
            return None
        return axis.at(0)[name]

    @property
    def only_in_prompts(self) -> frozenset[str]:
        """Return the names that are part of prompts and of nothing else: any text is one."""
        bound = {
            name
            for part in self.written
            for key, value in part.entries
            if key.text not in PROMPTS
            for _, name in names_in(value)
        } | {own.name for own in self._own if own.field not in PROMPTS}
        return frozenset(self.expansion.names) - bound

    @property
    def texts(self) -> frozenset[str]:
        """Return the names whose values are part of a prompt, or of a field that may hold
        one."""
        found = {
            name
            for part in self.written
            for key, value in part.entries
            if may_hold_text(key.text)
            for _, name in names_in(value)
        } | {own.name for own in self._own if may_hold_text(own.field)}
        return frozenset(found | {"image"} if "image.stem" in found else found)

    def about(self, number: int) -> str:
        """Return which point that is, by the values that make it differ, for people."""
        own = self.expansion.points.own(number)
        return f"point {number} ({described(own, self.texts)})"

    def _filled(
        self, part: Part, values: Values, chance: str, names: Sequence[str] | None = None
    ) -> Part:
        """Return a part with its values. `names`: the only ones that set a field of their own."""
        if not isinstance(part.node, Mapping):
            return part
        try:
            entries = self._entries(part, values, names)
            if self.wildcards.are_used and not self.wildcards.problems:
                entries |= self._picked(part, entries, chance)
        except FilledTooLongError as error:
            self.problems.append(error.problem)
            entries = {}
        return part.with_entries(entries.values())

    def _entries(
        self, part: Part, values: Values, names: Sequence[str] | None
    ) -> dict[str, tuple[Scalar, Node]]:
        filler = Filler(values)
        entries = {key.text: (key, filler.filled(value)) for key, value in part.entries}
        for own in self._own:
            value = values.get(own.name)
            is_one = own.part == part.number and (names is None or own.name in names)
            if is_one and value is not None and not value.is_null:
                several = own.field == part.kind.image_field and part.kind.takes_several
                node = SequenceNode((value,), value.line, value.column) if several else value
                entries[own.field] = (Scalar(own.field, value.line, value.column), node)
        return entries

    def _picked(
        self, part: Part, entries: dict[str, tuple[Scalar, Node]], chance: str
    ) -> dict[str, tuple[Scalar, Node]]:
        """Return the prompts with a line for each wildcard."""
        picked: dict[str, tuple[Scalar, Node]] = {}
        for name, (key, value) in entries.items():
            if name in PROMPTS and isinstance(value, Scalar):
                picked[name] = (key, self._line(value, f"{chance}/{name}"))
            elif texts := dict(_set_in(part, name, value)):
                assert isinstance(value, Mapping)
                lines = {k: self._line(v, f"{chance}/{name}.{k}") for k, v in texts.items()}
                filled = ((k, lines.get(k.text, v)) for k, v in value.entries)
                picked[name] = (key, replace(value, entries=tuple(filled)))
        return picked

    def _line(self, text: Scalar, chance: str) -> Scalar:
        if self.wildcards.longest(text.text) > MOST_FILLED:
            raise FilledTooLongError(text)
        return replace(text, text=self.wildcards.picked(text.text, chance))

    def _names_of(self, part: Part) -> Iterator[str]:
        """Yield the names that a part uses; one that has no value is a problem."""
        known = self.expansion.names
        for text, name in names_in(part.node):
            if name not in known and len(self.problems) < _MOST_PROBLEMS:
                self._fail(text, _no_value(name, self.expansion))
            yield name

    def _check_values(self) -> None:
        """Find values of the job file that use a name: they would be sent as they are."""
        for value in self.expansion.points.values_with("${"):
            if value.line >= LINES or "${" not in value.text:
                continue  # what a list of prompts says is a text
            name = next((n for _, n in names_in(value) if n in self.expansion.names), "")
            if name and len(self.problems) < _MOST_PROBLEMS:
                message = f"a value is not filled again: write here what ${{{name}}} stands for"
                self._fail(value, message)

    def _place_unused(self, used: Collection[str]) -> None:
        """Give each name that nothing uses to the first stage that has such a field."""
        varying = {name for axis in self.expansion.points.axes for name in axis.names}
        # By its stem the job says which other image it takes, or what to generate.
        need_not = (*_MAY_BE_UNUSED, "image") if "image.stem" in used else _MAY_BE_UNUSED
        for name in self.expansion.names:
            if name in used:
                continue
            if (owner := self._owner_of(name)) is not None:
                self._own.append(owner)
            elif name in varying and name not in need_not:
                line = self.expansion.names[name]
                message = f"nothing uses {name}; write ${{{name}}} where its value belongs"
                self.problems.append(Problem(line, 1, message))

    def _owner_of(self, name: str) -> _Own | None:
        for part in self.written:
            if name == "image" and part.kind.takes_image and not part.gives_images:
                return _Own(part.number, part.kind.image_field, name)
            if name in part.kind.fields.model_fields and name not in _NEVER_FILLED:
                return _Own(part.number, name, name)
        return None

    def _check_defaults(self, defaults: Entries) -> None:
        kinds = (kind for kind in STAGES.values() if not kind.runs_workflow)
        fields = {name for kind in kinds for name in kind.fields.model_fields}
        for key, _ in defaults:
            if key.text not in fields and len(self.problems) < _MOST_PROBLEMS:
                near = nearest(key.text, sorted(fields))
                self._fail(key, f"unknown field {shown(key.text)} in defaults{near}")

    def _fail(self, node: Node, message: str) -> None:
        self.problems.append(problem_at(node, message))


_OF_EACH_PICTURE = "outputs"
"""The field of the job itself that may have names whose values differ from point to point."""


def with_fixed(head: Mapping, expansion: Expansion, problems: list[Problem]) -> Mapping:
    """Return the fields of the job itself with the values that are the same for all points; one
    that differs from point to point is a problem there."""
    if not expansion.fills:
        return head
    fixed, filler = expansion.points.fixed, Filler(expansion.points.fixed)
    entries = []
    for key, value in head.entries:
        if key.text == _OF_EACH_PICTURE:
            entries.append((key, value))
            continue
        wrong = []
        for text, name in names_in(value):
            differs = f"${{{name}}} differs from point to point, and {key.text} is the same for all"
            why = f"{differs} of them" if name in expansion.names else _no_value(name, expansion)
            wrong += [problem_at(text, why)] if name not in fixed else []
        problems += wrong[:_MOST_PROBLEMS]
        if wrong:
            continue
        try:
            entries.append((key, filler.filled(value)))
        except FilledTooLongError as error:
            problems.append(error.problem)
    return replace(head, entries=tuple(entries))


def _no_value(name: str, expansion: Expansion) -> str:
    near = nearest(name, expansion.names) if expansion.names else ""
    return f"${{{name}}} has no value{near}; write $${{{name}}} for the text itself"


def _set_in(part: Part, field: str, value: Node) -> Iterator[tuple[str, Scalar]]:
    """Yield the texts for inputs of a workflow, prompts among them, by what they are set for."""
    if part.kind.runs_workflow and field == "set" and isinstance(value, Mapping):
        yield from ((k.text, v) for k, v in value.entries if isinstance(v, Scalar))


def _with_defaults(part: Part, defaults: Entries) -> Part:
    """Return a stage with the fields that it has and does not give. The file of a workflow gives
    all of them."""
    if not isinstance(part.node, Mapping) or part.kind.runs_workflow:
        return part
    added = [
        (key, value)
        for key, value in defaults
        if key.text in part.kind.fields.model_fields and not part.gives(key.text)
    ]
    names = {key.text for key, _ in added}
    return part.with_entries([*(e for e in part.entries if e[0].text not in names), *added])
