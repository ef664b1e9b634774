"""Turn nodes of a YAML document into the values of a pydantic model; each mistake has its place.

Scalars are text until the model's annotation types them: `no` stays "no" in a text field, and
is False in a switch.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from sdwatch.errors import Problem
from sdwatch.policy.job.document import Mapping, Node, Scalar, Sequence, shown, unique

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
Place: TypeAlias = tuple[str | int, ...]
"""The way to a value: field, then keys and numbers within it."""
Places: TypeAlias = dict[Place, tuple[int, int]]
"""Line and column of each."""
Model = TypeVar("Model", bound=BaseModel)

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_FREE_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FREE_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)?\.[0-9]+([eE][-+]?[0-9]+)?")
_SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_BAD = object()
_MOST = 100


@dataclass(frozen=True)
class Reading:
    """In an annotation: how a scalar's text becomes the value; `parse` raises ValueError."""

    parse: Callable[[str], object]
    allowed: str


@dataclass(frozen=True)
class NamedBy:
    """In an annotation of a tuple of models: written as a mapping, its keys are this field."""

    field: str


def read_model(node: Node, model: type[Model], what: str) -> tuple[Model | None, list[Problem]]:
    """`model` made from `node`, or None, and all that is wrong. `what` names it to people."""
    made, problems, _ = read_with_places(node, model, what)
    return made, problems


def read_with_places(
    node: Node, model: type[Model], what: str, hint: Callable[[str], str] = lambda _: ""
) -> tuple[Model | None, list[Problem], Places]:
    """The same, and where each value stands. `hint`: what is known of an unknown field's name, as
    `; did you mean ...?`, or '' for what looks alike."""
    reader = _Reader(hint)
    value = reader.model(node, model, what, ())
    if value is _BAD:
        return None, reader.problems, reader.places
    try:
        made = model.model_validate(value)
    except ValidationError as error:
        reader.validation(error, (node.line, node.column))
        return None, reader.problems, reader.places
    return (None if reader.problems else made), reader.problems, reader.places


def nearest(name: str, allowed: Iterable[str], how_near: float = 0.6) -> str:
    """`; did you mean ...?`, or what is allowed where nothing is so near."""
    names = list(allowed)
    if (near := nearest_name(name, names, how_near)) is not None:
        return f'; did you mean "{near}"?'
    shown = ", ".join(names[:12])
    return f"; allowed are {shown}" + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def nearest_name(name: str, allowed: Iterable[str], how_near: float = 0.6) -> str | None:
    """Return which of them is meant; None where nothing is so near."""
    folded = {n.lower().replace("-", "_"): n for n in allowed}
    near = difflib.get_close_matches(name.lower().replace("-", "_"), folded, 1, how_near)
    return folded[near[0]] if near else None


def found(node: Node) -> str:
    """A node as people would call it; see `shown`."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Mapping):
        return "a mapping"
    if node.is_null:
        return "nothing"
    return shown(node.text)


def readable(problems: Iterable[Problem]) -> list[Problem]:
    """In the order of the file, each once, and not more than a person would read."""
    ordered = sorted(set(problems), key=lambda p: (p.line, p.column, p.message))
    if len(ordered) <= _MOST:
        return ordered
    rest = ordered[_MOST]
    more = replace(rest, message=f"{len(ordered) - _MOST} more problems from here on")
    return [*ordered[:_MOST], more]


class _Reader:
    """One walk over a document: collects problems, and where each value stands."""

    def __init__(self, hint: Callable[[str], str]) -> None:
        self.problems: list[Problem] = []
        self.places: Places = {}
        self.hint = hint
        self.failed: set[Place] = set()

    def fail(self, node: Node, place: Place, message: str) -> object:
        self.problems.append(Problem(node.line, node.column, message))
        self.failed.add(place)
        return _BAD

    def model(
        self, node: Node, model: type[BaseModel], what: str, place: Place, skip: str = ""
    ) -> object:
        self.places[place] = (node.line, node.column)
        if not isinstance(node, Mapping):
            return self.fail(
                node, place, f"{what} must be a mapping of `field: value`, not {found(node)}"
            )
        values: dict[str, object] = {}
        for name, (key, value) in unique(node, self.problems).items():
            if name not in model.model_fields or name == skip:
                self.unknown(key, model, what, skip)
            elif not (isinstance(value, Scalar) and value.is_null):  # as if the line were absent
                made = self.field(value, name, model.model_fields[name], (*place, name))
                if made is not _BAD:
                    values[name] = made
        return values

    def unknown(self, key: Scalar, model: type[BaseModel], what: str, skip: str) -> None:
        names = [name for name in model.model_fields if name != skip]
        # A file with hundreds of unknown fields is no misspelling, and looking costs time.
        few = len(self.problems) < _MOST
        near = (self.hint(key.text) or nearest(key.text, names)) if few else ""
        message = f"unknown field {found(key)} in {what}{near}"
        self.problems.append(Problem(key.line, key.column, message))

    def field(self, node: Node, name: str, info: FieldInfo, place: Place) -> object:
        return self.value(node, info.annotation, tuple(info.metadata), name, place)

    def value(
        self, node: Node, kind: Any, metadata: tuple[object, ...], name: str, place: Place
    ) -> object:
        self.places[place] = (node.line, node.column)
        while hasattr(kind, "__metadata__"):
            metadata, kind = (*metadata, *kind.__metadata__), kind.__origin__
        if get_origin(kind) in (Union, UnionType):
            (inner,) = (arg for arg in get_args(kind) if arg is not type(None))
            return self.value(node, inner, metadata, name, place)
        for mark in metadata:
            if isinstance(mark, Reading) and isinstance(node, Scalar):
                return self.scalar(node, mark, name, place)
            if isinstance(mark, NamedBy):
                return self.named(node, get_args(kind)[0], mark.field, name, place)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return self.model(node, kind, name, place)
        if get_origin(kind) in (list, tuple):
            return self.items(node, get_args(kind)[0], name, place)
        if get_origin(kind) is dict:
            return self.mapping(node, get_args(kind)[1], name, place)
        if kind is Any:
            return self.free(node)
        return self.scalar(node, _reading(kind), name, place)

    def scalar(self, node: Node, reading: Reading, name: str, place: Place) -> object:
        if isinstance(node, Scalar):
            try:
                return reading.parse(node.text)
            except ValueError:
                pass
        hint = ""
        if not isinstance(node, Scalar) and reading.allowed.startswith("text"):
            hint = " (text that starts with [ { or - must be in quotes)"
        return self.fail(node, place, f"{name} must be {reading.allowed}, not {found(node)}{hint}")

    def items(self, node: Node, kind: Any, name: str, place: Place) -> object:
        if isinstance(node, Mapping):
            return self.fail(node, place, f"{name} must be a list, not a mapping")
        nodes = node.items if isinstance(node, Sequence) else (node,)  # one stands for a list
        made = [self.value(n, kind, (), name, (*place, i)) for i, n in enumerate(nodes)]
        if any(value is _BAD for value in made):
            self.failed.add(place)
            return _BAD
        return made

    def mapping(self, node: Node, kind: Any, name: str, place: Place) -> object:
        if not isinstance(node, Mapping):
            return self.fail(node, place, f"{name} must be a mapping, not {found(node)}")
        made = {
            key: self.value(value, kind, (), _below(name, key), (*place, key))
            for key, (_, value) in unique(node, self.problems).items()
        }
        return {key: value for key, value in made.items() if value is not _BAD}

    def named(
        self, node: Node, model: type[BaseModel], field: str, name: str, place: Place
    ) -> object:
        if not isinstance(node, Mapping):
            return self.fail(
                node, place, f"{name} must be a mapping of `name: settings`, not {found(node)}"
            )
        made = []
        for index, (key, value) in enumerate(unique(node, self.problems).values()):
            where = (*place, index)
            if isinstance(value, Scalar) and value.is_null:
                value = Mapping((), key.line, key.column)
            settings = self.model(value, model, _below(name, key.text), where, field)
            self.places[where] = self.places[(*where, field)] = (key.line, key.column)
            if not isinstance(settings, dict):
                self.failed.add(place)
                return _BAD
            made.append({field: key.text, **settings})
        return made

    def free(self, node: Node) -> JSON:
        """Return a value whose shape only the WebUI knows: JSON's types, else text."""
        if isinstance(node, Sequence):
            return [self.free(item) for item in node.items]
        if isinstance(node, Mapping):
            pairs = unique(node, self.problems)
            return {key: self.free(value) for key, (_, value) in pairs.items()}
        return node.text if node.quoted else _free_scalar(node)

    def validation(self, error: ValidationError, root: tuple[int, int]) -> None:
        """Add pydantic's findings at the place of the value, except for those already reported."""
        for detail in error.errors(include_url=False):
            place = tuple(detail["loc"])
            if place in self.failed:
                continue
            known = next(
                (place[:n] for n in range(len(place), 0, -1) if place[:n] in self.places), None
            )
            line, column = self.places[known] if known else root
            self.problems.append(Problem(line, column, _message(detail)))


def _below(name: str, key: str) -> str:
    """Return the name of a field with a part that a person chose."""
    plain = len(key) <= 40 and key.isprintable()
    return f"{name}.{key if plain else shown(key)}"


def _reading(kind: Any) -> Reading:
    if get_origin(kind) is Literal:
        return Reading(_one_of(get_args(kind)), "one of " + ", ".join(map(str, get_args(kind))))
    return _READINGS[kind]


def _one_of(choices: tuple[object, ...]) -> Callable[[str], object]:
    def parse(text: str) -> object:
        for choice in choices:
            if text == str(choice):
                return choice
        raise ValueError(text)

    return parse


def _integer(text: str) -> int:
    """Return a whole number, also from `512.0`, which programs may write."""
    whole, _, fraction = text.partition(".")
    if not _INTEGER.fullmatch(whole) or fraction.strip("0") or text.endswith("."):
        raise ValueError(text)
    return int(whole)


def _number(text: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _switch(text: str) -> bool:
    try:
        return _SWITCH[text.lower()]
    except KeyError:
        raise ValueError(text) from None


_READINGS: dict[object, Reading] = {
    str: Reading(str, "text"),
    Path: Reading(Path, "a path"),
    int: Reading(_integer, "a whole number"),
    float: Reading(_number, "a number such as 7 or 7.5"),
    bool: Reading(_switch, "true or false"),
}


def _free_scalar(node: Scalar) -> JSON:
    text = node.text
    if node.is_null:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _FREE_INTEGER.fullmatch(text):
        return int(text)
    if _FREE_NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


_WORDS = {
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "greater_than": "must be more than {gt:g}",
    "less_than": "must be less than {lt:g}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "missing": "is missing",
}


def _message(detail: ErrorDetails) -> str:
    name = ".".join(str(part) for part in detail["loc"] if isinstance(part, str))
    if detail["type"] == "value_error":
        return f"{name}: {detail['ctx']['error']}" if name else str(detail["ctx"]["error"])
    words = _WORDS.get(detail["type"])
    if words is None:
        return f"{name}: {detail['msg']}"
    given = "" if detail["type"] == "missing" else _given(detail["input"])
    return f"{name} {words.format(**detail.get('ctx', {}))}{given}"


def _given(value: object) -> str:
    return f", not {value:g}" if isinstance(value, int | float) else ""
