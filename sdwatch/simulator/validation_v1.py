"""Request bodies against a schema; mistakes in the shape of pydantic 1.

Measured with A1111 v1.10.1: no `input`, no `url`; fractions and numbers are coerced, and so is a
list to an object. Of the words only those for an integer were recorded, the others are pydantic's.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from typing import Any

from sdwatch.simulator.failures import RefusedError

_BOOLEANS = {
    "true": True, "t": True, "yes": True, "y": True, "on": True, "1": True,
    "false": False, "f": False, "no": False, "n": False, "off": False, "0": False,
}  # fmt: skip
_LIMITS: tuple[tuple[str, str, str, Callable[[Any, Any], bool]], ...] = (
    ("exclusiveMinimum", "not_gt", "greater than", operator.gt),
    ("minimum", "not_ge", "greater than or equal to", operator.ge),
    ("maximum", "not_le", "less than or equal to", operator.le),
)


class _MistakeError(Exception):
    def __init__(self, kind: str, msg: str, ctx: dict[str, Any] | None = None) -> None:
        self.kind, self.msg, self.ctx = kind, msg, ctx
        super().__init__(msg)


class Pydantic1:
    """Pydantic 1. The names under `nullable` in a schema may be null, which its JSON cannot say."""

    def parse(self, raw: bytes) -> Any:
        """Return the body as JSON. Raises RefusedError (422) where it is missing or no JSON."""
        if not raw:
            raise RefusedError(422, [_error(["body"], "field required", "value_error.missing")])
        try:
            return json.loads(raw)
        except json.JSONDecodeError as e:
            ctx = {"msg": e.msg, "doc": e.doc, "pos": e.pos, "lineno": e.lineno, "colno": e.colno}
            error = _error(["body", e.pos], str(e), "value_error.jsondecode", ctx)
            raise RefusedError(422, [error]) from e
        except UnicodeDecodeError as e:
            raise RefusedError(400, "There was an error parsing the body") from e

    def check(self, body: Any, schema: dict[str, Any]) -> dict[str, Any]:
        """Return all fields of `schema` with the request's values or the defaults, unknown ones
        dropped.

        Raises RefusedError (422) with all mistakes.
        """
        body = self.check_object(body)
        fields: dict[str, Any] = {}
        mistakes: list[dict[str, Any]] = []
        for name, field in schema["properties"].items():
            if name not in body:
                if name in schema.get("required", ()):
                    error = _error(["body", name], "field required", "value_error.missing")
                    mistakes.append(error)
                fields[name] = field.get("default")
                continue
            try:
                nullable = name in schema.get("nullable", ())
                fields[name] = _value(body[name], field, nullable)
            except _MistakeError as e:
                mistakes.append(_error(["body", name], e.msg, e.kind, e.ctx))
        if mistakes:
            raise RefusedError(422, mistakes)
        return fields

    def check_object(self, body: Any) -> dict[str, Any]:
        """Return a body that may be any JSON object, or what `dict` makes one of."""
        try:
            return dict(body)
        except (TypeError, ValueError):
            msg = "value is not a valid dict"
            raise RefusedError(422, [_error(["body"], msg, "type_error.dict")]) from None


def _error(
    loc: list[Any], msg: str, kind: str, ctx: dict[str, Any] | None = None
) -> dict[str, Any]:
    error: dict[str, Any] = {"loc": loc, "msg": msg, "type": kind}
    return {**error, "ctx": ctx} if ctx else error


def _value(value: Any, field: dict[str, Any], nullable: bool) -> Any:
    if value is None:
        if nullable:
            return None
        raise _MistakeError("type_error.none.not_allowed", "none is not an allowed value")
    match field.get("type"):
        case "integer":
            value = _number(value, int, "integer")
        case "number":
            value = _number(value, float, "float")
        case "boolean":
            value = _boolean(value)
        case "string":
            value = _string(value)
        case "array" if not isinstance(value, list):
            raise _MistakeError("type_error.list", "value is not a valid list")
        case "object" if not isinstance(value, dict):
            raise _MistakeError("type_error.dict", "value is not a valid dict")
    _limits(value, field)
    return value


def _number(value: Any, to: type[int] | type[float], word: str) -> int | float:
    try:
        return to(value)
    except (TypeError, ValueError, OverflowError):
        raise _MistakeError(f"type_error.{word}", f"value is not a valid {word}") from None


def _boolean(value: Any) -> bool:
    word = str(value).lower() if isinstance(value, str | int) else None
    if word not in _BOOLEANS:
        raise _MistakeError("type_error.bool", "value could not be parsed to a boolean")
    return _BOOLEANS[word]


def _string(value: Any) -> str:
    if not isinstance(value, str | int | float):
        raise _MistakeError("type_error.str", "str type expected")
    return str(value)


def _limits(value: Any, field: dict[str, Any]) -> None:
    if "enum" in field and value not in field["enum"]:
        ctx = {"given": value, "permitted": field["enum"]}
        permitted = ", ".join(repr(e) for e in field["enum"])
        msg = f"unexpected value; permitted: {permitted}"
        raise _MistakeError("value_error.const", msg, ctx)
    for key, kind, words, holds in _LIMITS:
        if key in field and not holds(value, field[key]):
            msg = f"ensure this value is {words} {field[key]:g}"
            ctx = {"limit_value": field[key]}
            raise _MistakeError(f"value_error.number.{kind}", msg, ctx)
