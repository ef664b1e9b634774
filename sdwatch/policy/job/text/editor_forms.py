"""What editors know of values that are read from the nodes of a file, as parts of a JSON Schema.
Pure.

Expressions are in the dialect of ECMA-262, which has no named groups and whose \\w is ASCII only.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic import WithJsonSchema

MATRIX_PARTS = ("zip", "include", "exclude")
"""Keys of a matrix that are not names."""

_PUNCTUATION = r"\s!-/:-@\[-^`{-~"
_NAME_FOR_EDITORS = {
    "pattern": rf"^[A-Za-z_][^{_PUNCTUATION}]{{0,39}}(\.[A-Za-z_][^{_PUNCTUATION}]{{0,39}})?$",
}  # filling.NAME
_OWN_NAME = {**_NAME_FOR_EDITORS, "not": {"enum": list(MATRIX_PARTS)}}
_VALUE = {"type": ["string", "number", "boolean", "null"]}
_VALUES = {"anyOf": [_VALUE, {"type": "array", "minItems": 1, "items": _VALUE}]}


def _one_or_more(values: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    one = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": names,
        "additionalProperties": values,
    }
    return {"anyOf": [one, {"type": "array", "items": one}]}


VARS = WithJsonSchema(
    {"type": "object", "propertyNames": _OWN_NAME, "additionalProperties": _VALUE}
)
MATRIX = WithJsonSchema(
    {
        "type": "object",
        "propertyNames": _NAME_FOR_EDITORS,
        "properties": {
            "zip": _one_or_more(_VALUES, _OWN_NAME),
            "include": _one_or_more(_VALUE, _NAME_FOR_EDITORS),
            "exclude": _one_or_more(_VALUE, _NAME_FOR_EDITORS),
        },
        "additionalProperties": _VALUES,
    }
)
"""For editors. What is between names and values is checked when the job is read."""


def text_like(pattern: re.Pattern[str]) -> WithJsonSchema:
    """Return a text that fits this expression, with blanks around it."""
    plain = re.sub(r"\(\?P<\w+>", "(", pattern.pattern)
    return WithJsonSchema({"type": "string", "pattern": rf"^\s*(?:{plain})\s*$"})


def duration_form(bound: str) -> dict[str, Any]:
    """Return what `measures.seconds` takes; `bound`: minimum or exclusiveMinimum, which is 0."""
    unit = "[sS]([eE][cC])?|[mM][iI][nN]|[hH]"
    text = rf"^\s*([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*({unit})?\s*$"
    return {"anyOf": [{"type": "number", bound: 0}, {"type": "string", "pattern": text}]}
