"""Request bodies against a schema; mistakes in the shape of pydantic 2.

Measured with Forge dfdcbab6: numbers as strings are taken, fractions are not, unknown fields are
dropped in silence.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from typing import Any

from sdwatch.simulator.failures import RefusedError

_WORDS = {
    "true": True, "t": True, "yes": True, "y": True, "on": True, "1": True,
    "false": False, "f": False, "no": False, "n": False, "off": False, "0": False,
}  # fmt: skip
_LIMITS: tuple[tuple[str, str, str, str, Callable[[Any, Any], bool]], ...] = (
    ("exclusiveMinimum", "greater_than", "greater than", "gt", operator.gt),
    ("minimum", "greater_than_equal", "greater than or equal to", "ge", operator.ge),
    ("maximum", "less_than_equal", "less than or equal to", "le", operator.le),
)
_DICT = "Input should be a valid dictionary"


class _MistakeError(Exception):
    def __init__(self, kind: str, msg: str, ctx: dict[str, Any] | None = None) -> None:
        self.kind, self.msg, self.ctx = kind, msg, ctx
        super().__init__(msg)


class Pydantic2:
    """Pydantic 2. `url` is where its mistakes point to, None where FastAPI leaves that out."""

    def __init__(self, url: str | None) -> None:
        self._url = url

    def parse(self, raw: bytes) -> Any:
        """Return the body as JSON. Raises RefusedError (422) where it is missing or no JSON."""
        if not raw:
            raise RefusedError(422, [self._error("missing", ["body"], "Field required", None)])
        try:
            return json.loads(raw)
        except json.JSONDecodeError as e:
            detail = {
                "type": "json_invalid",
                "loc": ["body", e.pos],
                "msg": "JSON decode error",
                "input": {},
                "ctx": {"error": e.msg},
            }
            raise RefusedError(422, [detail]) from e
        except UnicodeDecodeError as e:
            raise RefusedError(400, "There was an error parsing the body") from e

    def check(self, body: Any, schema: dict[str, Any]) -> dict[str, Any]:
        """Return all fields of `schema` with the request's values or the defaults, unknown ones
        dropped.

        Raises RefusedError (422) with all mistakes.
        """
        if not isinstance(body, dict):
            msg = f"{_DICT} or object to extract fields from"
            raise RefusedError(422, [self._error("model_attributes_type", ["body"], msg, body)])
        fields: dict[str, Any] = {}
        mistakes: list[dict[str, Any]] = []
        for name, field in schema["properties"].items():
            where = ["body", name]
            if name not in body:
                if name in schema.get("required", ()):
                    mistakes.append(self._error("missing", where, "Field required", body))
                fields[name] = field.get("default")
                continue
            try:
                fields[name] = _value(body[name], field)
            except _MistakeError as e:
                mistakes.append(self._error(e.kind, where, e.msg, body[name], e.ctx))
        if mistakes:
            raise RefusedError(422, mistakes)
        return fields

    def check_object(self, body: Any) -> dict[str, Any]:
        """Return a body that may be any JSON object."""
        if not isinstance(body, dict):
            raise RefusedError(422, [self._error("dict_type", ["body"], _DICT, body)])
        return body

    def _error(
        self, kind: str, loc: list[str], msg: str, value: Any, ctx: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        error: dict[str, Any] = {"type": kind, "loc": loc, "msg": msg, "input": value}
        if ctx:
            error["ctx"] = ctx
        return {**error, "url": self._url + kind} if self._url else error


def _value(value: Any, field: dict[str, Any]) -> Any:
    """Return the value as the field has it: of its first type, or text where that is another."""
    options = field.get("anyOf", [field])
    if value is None and any(o.get("type") == "null" for o in options):
        return None
    for other in options[1:]:
        if other.get("type") == "string" and isinstance(value, str):
            return value
    return _typed(value, options[0])


def _typed(value: Any, field: dict[str, Any]) -> Any:
    match field.get("type"):
        case "integer":
            value = _integer(value)
        case "number":
            value = _number(value)
        case "boolean":
            value = _boolean(value)
        case "string" if not isinstance(value, str):
            raise _MistakeError("string_type", "Input should be a valid string")
        case "array" if not isinstance(value, list):
            raise _MistakeError("list_type", "Input should be a valid list")
        case "object" if not isinstance(value, dict):
            raise _MistakeError("dict_type", _DICT)
    _limits(value, field)
    return value


def _integer(value: Any) -> int:
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            msg = "Input should be a valid integer, unable to parse string as an integer"
            raise _MistakeError("int_parsing", msg) from None
    if isinstance(value, float) and not value.is_integer():
        msg = "Input should be a valid integer, got a number with a fractional part"
        raise _MistakeError("int_from_float", msg)
    if isinstance(value, int | float):
        return int(value)
    raise _MistakeError("int_type", "Input should be a valid integer")


def _number(value: Any) -> float:
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            msg = "Input should be a valid number, unable to parse string as a number"
            raise _MistakeError("float_parsing", msg) from None
    if isinstance(value, int | float):
        return float(value)
    raise _MistakeError("float_type", "Input should be a valid number")


def _boolean(value: Any) -> bool:
    word = str(value).lower() if isinstance(value, str | int) else None
    if isinstance(value, float | list | dict) or value is None:
        raise _MistakeError("bool_type", "Input should be a valid boolean")
    if word not in _WORDS:
        msg = "Input should be a valid boolean, unable to interpret input"
        raise _MistakeError("bool_parsing", msg)
    return _WORDS[word]


def _limits(value: Any, field: dict[str, Any]) -> None:
    if "enum" in field and value not in field["enum"]:
        expected = " or ".join(str(e) for e in field["enum"])
        raise _MistakeError("literal_error", f"Input should be {expected}", {"expected": expected})
    for key, kind, words, short, holds in _LIMITS:
        if key in field and not holds(value, field[key]):
            limit = field[key]
            raise _MistakeError(kind, f"Input should be {words} {limit:g}", {short: limit})
