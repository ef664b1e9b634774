"""The JSON Schema of a job file, for editors. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from sdwatch.policy.job.job import (
    MAX_STAGES,
    STAGE_ALIASES,
    STAGE_FIELDS,
    STAGE_KINDS,
    Header,
    ShortForm,
)


def job_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a job file, for editors."""
    models: dict[str, type[BaseModel]] = {"header": Header, "short": ShortForm}
    models.update((str(kind), model) for kind, model in STAGE_FIELDS.items())
    definitions = {name: _editor_schema(model) for name, model in models.items()}
    kinds = {**{str(kind): kind for kind in STAGE_KINDS}, **STAGE_ALIASES}
    fields = {
        name: {"anyOf": [{"$ref": f"#/$defs/{kind}"}, {"type": "null"}]}
        for name, kind in kinds.items()
    }
    mapping = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": fields,
    }
    stage = {"anyOf": [mapping, {"enum": list(kinds)}]}
    header = definitions.pop("header")
    long_form = {
        **header,
        "required": ["stages"],
        "properties": {
            **header["properties"],
            "stages": {"type": "array", "minItems": 1, "maxItems": MAX_STAGES, "items": stage},
        },
    }
    short = definitions.pop("short")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A job of sdwatch",
        "oneOf": [{**short, "required": ["prompt"]}, long_form],
        "$defs": definitions,
    }


def _editor_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema of one model, as tolerant as the parser: text may look like a number."""
    schema = model.model_json_schema()
    schema.pop("title", None)
    schema.pop("description", None)
    for field in schema["properties"].values():
        field.pop("title", None)
        field.pop("default", None)
        if {"type": "array", "items": {"type": "string"}} in field["anyOf"]:
            field["anyOf"].append({"type": "string"})
        for kind in field["anyOf"]:
            if kind.get("type") == "string":
                kind["type"] = ["string", "number", "boolean"]
    return schema
