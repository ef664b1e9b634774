"""Turn nodes of a YAML document into the values of a pydantic model; each mistake has its place.

pydantic types the values and finds the mistakes; here they get their places and the messages that
people read. Scalars are text until the model's annotation types them: `no` stays "no" in a text
field, and is False in a switch.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Annotated, Any, ClassVar, NamedTuple, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from sdwatch.errors import Problem
from sdwatch.policy.config.measures import seconds
from sdwatch.policy.job.text.document import Mapping, Node, Scalar, Sequence, unique
from sdwatch.policy.naming import nearest, shown

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
Place: TypeAlias = tuple[str | int, ...]
"""The way to a value: field, then keys and numbers within it."""
Model = TypeVar("Model", bound=BaseModel)

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}(?:\.0+)?")
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_FREE_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FREE_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)?\.[0-9]+([eE][-+]?[0-9]+)?")
_SEED = re.compile(r"[-+]?[0-9]{1,20}")  # the largest of ComfyUI has 20 digits
_MOST = 100  # problems

_BUILDING = threading.Lock()
"""A model is built with its first use, and pydantic cannot do that on two threads at once."""


class _Text(str):
    """A scalar's text, which pydantic types."""

    node: Scalar


class Written(BaseModel):
    """A model of what people write: a field without a value is as if its line were absent."""

    # Most models are only parts of others, which know how to read them; they need not be built.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
        defer_build=True,
    )

    named_by_key: ClassVar[str] = ""
    """The field that the key above it gives, see `named_by`."""

    @model_validator(mode="before")
    @classmethod
    def _without_empty(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        known = cls.model_fields
        return {k: v for k, v in value.items() if k not in known or not _is_null(v)}


@dataclass(frozen=True)
class Reading(BeforeValidator):
    """An annotation that reads a scalar's text. `allowed`: what it takes, for people."""

    allowed: str = ""


def reading(parse: Callable[[str], object], allowed: str, *, lists: bool = False) -> Reading:
    """Return an annotation: `parse` makes the value of a scalar's text, or raises ValueError.
    `allowed`: what it takes, for the message; `lists`: a list, too."""

    def read(value: object) -> object:
        try:
            if isinstance(value, _Text):
                return parse(str(value))
        except ValueError:
            raise must_be(allowed) from None
        if isinstance(value, dict | list) and not lists:
            raise must_be(allowed)
        return value

    return Reading(read, allowed=allowed)


def named_by(field: str) -> BeforeValidator:
    """Return an annotation of a tuple of models: written as a mapping, its keys are this field."""

    def read(value: object) -> object:
        if isinstance(value, _Text | list):
            raise must_be("a mapping of `name: settings`")
        if not isinstance(value, dict):
            return value
        return [_with_name(field, name, settings) for name, settings in value.items()]

    return BeforeValidator(read)


_TWICE = "\0"
"""Behind a field's name where the key above it has its value: then it is an unknown field."""


def _with_name(field: str, name: str, settings: object) -> object:
    if _is_null(settings):
        settings = {}
    if not isinstance(settings, dict):
        return settings
    return {field: name, **{k + _TWICE * (k == field): v for k, v in settings.items()}}


def must_be(allowed: str) -> PydanticCustomError:
    """Return what a validator raises. `allowed`: what it takes, for the message."""
    return PydanticCustomError("reading", "{allowed}", {"allowed": allowed})


def _is_null(value: object) -> bool:
    return isinstance(value, _Text) and value.node.is_null


def _whole(text: str) -> int:
    """Return a whole number, also from `512.0`, which programs may write."""
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    return int(text.partition(".")[0])


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return float(text)


def _free(value: Any) -> JSON:
    """Return a value whose shape only the WebUI knows: JSON's types, else text."""
    if isinstance(value, list):
        return [_free(item) for item in value]
    if isinstance(value, dict):
        return {key: _free(item) for key, item in value.items()}
    text = str(value)
    if not isinstance(value, _Text) or value.node.quoted:
        return value if not isinstance(value, _Text) else text
    if value.node.is_null:
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if _FREE_INTEGER.fullmatch(text):
        return int(text)
    if _FREE_NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return text


WHOLE = reading(_whole, "a whole number")
Whole: TypeAlias = Annotated[int, WHOLE]
DURATION = reading(seconds, "a duration such as 90, 1.5, 2 min or 1 h")
NUMBER = reading(_number, "a number such as 7 or 7.5")
Number: TypeAlias = Annotated[float, NUMBER]
Free: TypeAlias = Annotated[Any, BeforeValidator(_free)]
ONE_OR_MORE = BeforeValidator(lambda value: [value] if isinstance(value, _Text) else value)
"""An annotation of a list: one value stands for a list of one."""


def read_model(
    root: Node,
    model: type[Model],
    what: str,
    hint: Callable[[str], str] = lambda _: "",
    context: object = None,
) -> tuple[Model | None, list[Problem]]:
    """Return `model` made from `root`, or None, and all that is wrong. `what` names it to people;
    `hint`: what is known of an unknown field's name, as `; did you mean ...?`, or '' for what looks
    alike; `context`: for its validators. What is wrong between two fields of a model is found once
    each of its fields is right: a misspelt `command` is one mistake."""
    problems: list[Problem] = []
    value = _plain(root, problems)
    with _BUILDING:
        model.model_rebuild()
    try:
        made = model.model_validate(value, context=context)
    except ValidationError as error:
        found_in = _Findings(root, model, what, hint)
        details = filter(_is_mistake, error.errors(include_url=False))
        return None, [*problems, *map(found_in.problem, details)]
    return (None if problems else made), problems


def _is_mistake(detail: ErrorDetails) -> bool:
    """Return False for a list that pydantic counts as too short because its entries are wrong."""
    return detail["type"] != "too_short" or len(detail["input"]) < detail["ctx"]["min_length"]


def _plain(node: Node, problems: list[Problem]) -> object:
    """Return a node as pydantic takes it; add a problem for each key that is there twice."""
    if isinstance(node, Sequence):
        return [_plain(item, problems) for item in node.items]
    if isinstance(node, Mapping):
        return {k: _plain(value, problems) for k, (_, value) in unique(node, problems).items()}
    text = _Text(node.text)
    text.node = node
    return text


def locate(root: Node, place: Place) -> tuple[int, int]:
    """Return line and column of a value, or of the nearest that is there above it."""
    return _Findings(root).spot(place).at


class _Spot(NamedTuple):
    """Where a way ends: the value and what people call it; its place, or that of its key where this
    names it (see `named_by`); the model that it is, or that has it as a field."""

    node: Node
    label: str
    at: tuple[int, int]
    model: Any


def _model_in(kind: Any) -> Any:
    """Return the model in an annotation; None if there is none."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    return next(filter(None, map(_model_in, get_args(kind))), None)


_BOUNDS = {
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "greater_than": "must be more than {gt:g}",
    "less_than": "must be less than {lt:g}",
}
_WORDS = {
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "missing": "is missing",
}
_ALLOWED = {
    "finite": "a number such as 7 or 7.5",
    "bool": "true or false",
    "string": "text",
    "path": "a path",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
    "model": "a mapping of `field: value`",
}
"""By the first word of pydantic's name for the mistake."""


@dataclass
class _Findings:
    """What pydantic found in a document, in our words and with its places; see `read_model`."""

    root: Node
    model: Any = None
    what: str = ""
    hint: Callable[[str], str] = lambda _: ""
    unknown: int = 0
    entries: dict[int, dict[str, tuple[Scalar, Node]]] = field(default_factory=dict)

    def problem(self, detail: ErrorDetails) -> Problem:
        """Return one of them."""
        kind, place, ctx = detail["type"], detail["loc"], detail.get("ctx", {})
        if kind == "extra_forbidden":
            return self.unknown_field(self.spot(place[:-1]), str(place[-1]))
        spot, first = self.spot(place), kind.partition("_")[0]
        name = ".".join(str(part) for part in place if isinstance(part, str))
        if kind == "value_error":
            return Problem(*spot.at, f"{name}: {ctx['error']}" if name else str(ctx["error"]))
        if kind in _BOUNDS:
            given = f"{float(detail['input']):g}"
            return Problem(*spot.at, f"{name} {_BOUNDS[kind].format(**ctx)}, not {given}")
        if kind in _WORDS:
            return Problem(*spot.at, f"{name} {_WORDS[kind].format(**ctx)}")
        if "expected" in ctx:
            allowed = "one of " + ", ".join(re.findall("'([^']*)'", ctx["expected"]))
        else:
            allowed = ctx.get("allowed") or _ALLOWED.get(first, "of another type")
        not_text = allowed == "text" and not isinstance(spot.node, Scalar)
        quotes = " (text that starts with [ { or - must be in quotes)" if not_text else ""
        message = f"{spot.label} must be {allowed}, not {found(spot.node)}{quotes}"
        return Problem(spot.node.line, spot.node.column, message)

    def unknown_field(self, spot: _Spot, name: str) -> Problem:
        entries = self.entries_of(spot.node)
        key, _ = entries.get(name) or entries[name.removesuffix(_TWICE)]
        names = [n for n in spot.model.model_fields if n != spot.model.named_by_key]
        # A file with hundreds of unknown fields is not a misspelling, and looking costs time.
        self.unknown += 1
        few = self.unknown <= _MOST
        near = (self.hint(key.text) or nearest(key.text, names)) if few else ""
        return Problem(key.line, key.column, f"unknown field {found(key)} in {spot.label}{near}")

    def spot(self, place: Place) -> _Spot:
        """Follow the way to a value, as far as it is there."""
        node, label, model = self.root, self.what, self.model
        at = (node.line, node.column)
        for part in place:
            info = model.model_fields.get(part) if model else None
            if isinstance(node, Mapping):
                entries = self.entries_of(node)
                key = next(islice(entries, part, None)) if isinstance(part, int) else part
                if key not in entries:
                    break
                name, node = entries[key]
                label = str(part) if info else _below(label, key)
                at = (name.line, name.column) if isinstance(part, int) else (node.line, node.column)
            elif isinstance(node, Sequence) and isinstance(part, int):
                node = node.items[part]
                at = (node.line, node.column)
            model = _model_in(info.annotation) if info else model
        return _Spot(node, label, at, model)

    def entries_of(self, node: Node) -> dict[str, tuple[Scalar, Node]]:
        """Return the entries of a mapping by key; made once, for a file may have thousands."""
        if id(node) not in self.entries and isinstance(node, Mapping):
            self.entries[id(node)] = unique(node, [])
        return self.entries[id(node)]


def found(node: Node) -> str:
    """Return a node as people would call it; see `shown`."""
    if isinstance(node, Sequence):
        return "a list"
    if isinstance(node, Mapping):
        return "a mapping"
    return "nothing" if node.is_null else shown(node.text)


def readable(problems: Iterable[Problem]) -> list[Problem]:
    """Return problems in the order of the file, each once, and not more than a person would
    read."""
    ordered = sorted(set(problems), key=lambda p: (p.file, p.line, p.column, p.message))
    if len(ordered) <= _MOST:
        return ordered
    rest = ordered[_MOST]
    more = replace(rest, message=f"{len(ordered) - _MOST} more problems from here on")
    return [*ordered[:_MOST], more]


def _below(name: str, key: str) -> str:
    """Return the name of a field with a part that a person chose."""
    plain = len(key) <= 40 and key.isprintable()
    return f"{name}.{key if plain else shown(key)}"


def free(node: Scalar) -> JSON:
    """Return the value of a scalar whose shape only the WebUI knows: JSON's types, else text."""
    return _free(_plain(node, []))


def as_written(node: Scalar, now: Any) -> Any:
    """Return the value that a text of a job file is for an input of a workflow whose value is
    `now`: a text stays what it is, as `007` does, and a number is never rounded. Raises ValueError
    with what it must be."""
    text = node.text
    if isinstance(now, str):
        return "" if node.is_null and not text.strip() else text
    if isinstance(now, bool):
        if text.lower() not in ("true", "false"):
            raise ValueError("true or false")
        return text.lower() == "true"
    if isinstance(now, int | float):
        if _SEED.fullmatch(text):
            return int(text)
        if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
            return float(text)
        raise ValueError("a number")  # only ComfyUI knows whether it must be whole
    return free(node)
