"""The JSON Schemas of a job file and of a `_defaults.yaml`, for editors. Pure.

They take what the reader takes, and find what a person misspells or mistypes. What depends on the
rest of the file, on its folder or on the WebUI is left to `sdwatch check`. Editors read YAML 1.2,
where `on` and `off` are texts, and a name such as `${steps}` may stand for a value of any type.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from pydantic import BaseModel

from sdwatch.policy.job.graph import NOT_IN_PAYLOAD
from sdwatch.policy.job.outputs.result import ResultFields
from sdwatch.policy.job.stage.stage_kinds import STAGE_NAMES, STAGES, TXT2IMG, StageKind
from sdwatch.policy.job.written_stages import MAX_STAGES, LongForm, ShortForm

Schema: TypeAlias = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NULL: Schema = {"type": "null"}
_COMMON: dict[str, Schema] = {
    "text": {"type": "string"},
    "whole": {"type": "integer"},
    "number": {"type": "number"},
    "switch": {"type": "boolean"},
}
"""What most fields take; written once."""
_OBJECT_OR_NULL = ["object", "null"]  # a key without a value is as if its line were absent
_SCALARS = ["string", "number", "boolean"]
_NO_TEXT = ["number", "boolean"]  # what is a text to the reader
_FILLED = r"\$\{"
_AS_TEXT = {
    "integer": r"^[-+]?[0-9]{1,18}(\.0+)?$",
    "number": r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$",
    "boolean": r"^([Oo][Nn]|[Oo][Ff][Ff]|[Yy]([Ee][Ss])?|[Nn][Oo]?|[Tt]([Rr][Uu][Ee])?"
    r"|[Ff]([Aa][Ll][Ss][Ee])?|[01])$",
}
"""Values that are texts in a file: in quotes, or `on` and `off`."""


def job_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a job file."""
    definitions = _definitions()
    stages = {
        "description": "What to do, one after the other. Without it the job is one txt2img.",
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_STAGES,
        "items": _stage(),
    }
    long, short = _fields_of(LongForm, definitions), _fields_of(ShortForm, definitions)
    short["properties"] |= _fields_by_reference(TXT2IMG)
    return {
        "$schema": _DIALECT,
        "title": "A job of sdwatch",
        "description": "A prompt with the fields of txt2img, or a list of stages.",
        "type": "object",
        "properties": {"stages": stages},
        "if": {"required": ["stages"]},
        "then": {**long, "properties": {**long["properties"], "stages": True}},
        "else": {**short, **_WITH_A_PROMPT},
        "$defs": definitions,
    }


def defaults_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a `_defaults.yaml`."""
    definitions = _definitions()
    defaults = definitions.pop("defaults")
    return {"$schema": _DIALECT, "title": "Defaults of sdwatch", **defaults, "$defs": definitions}


def _given(name: str) -> Schema:
    """Return what is so of a job that gives `prompt` in this field."""
    return {"required": [name], "properties": {name: {"required": ["prompt"]}}}


_IN_ZIP = {"required": ["matrix"], "properties": {"matrix": {"required": ["zip"]}}}
_WITH_A_PROMPT: Schema = {
    "if": {
        "anyOf": [
            {"required": ["prompts_from"]},
            *map(_given, ("vars", "matrix", "defaults")),
            _IN_ZIP,
        ]
    },
    "else": {"required": ["prompt"], "properties": {"prompt": {"not": _NULL}}},
}
"""A job without stages has a prompt, also from a list. That one may be in a `_defaults.yaml` above
the job, an editor cannot know."""


def _definitions() -> Schema:
    definitions: Schema = {
        "payload": {
            "type": _OBJECT_OR_NULL,
            "propertyNames": {"not": {"enum": sorted(NOT_IN_PAYLOAD)}},
        },
        **{name: {"anyOf": [*_forms(kind), _NULL]} for name, kind in _COMMON.items()},
    }
    for kind in STAGES.values():
        fields = _fields_of(kind.fields, definitions)
        about = {"description": f"POST {kind.route}."}
        definitions[kind.name] = {**about, **fields, "type": _OBJECT_OR_NULL}
    either: Schema = {}
    for kind in (kind for kind in STAGES.values() if not kind.runs_workflow):
        for name, field in _fields_by_reference(kind).items():
            either[name] = {"anyOf": [either[name], field]} if name in either else field
    definitions["defaults"] = {
        "description": "Fields for each stage that has such a field and does not give it.",
        "type": _OBJECT_OR_NULL,
        "properties": either,
        "additionalProperties": False,
    }
    return definitions


def _fields_by_reference(kind: StageKind) -> Schema:
    where = f"#/$defs/{kind.name}/properties"
    return {name: {"$ref": f"{where}/{name}"} for name in kind.fields.model_fields}


def _stage() -> Schema:
    """Return a stage: its kind alone, or with its fields. Not by `anyOf`, because editors then only
    say that nothing fits."""
    names = {name: {"$ref": f"#/$defs/{kind.name}"} for name, kind in STAGE_NAMES.items()}
    return {
        "type": ["object", "string"],
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "properties": names,
        "if": {"type": "string"},
        "then": {"enum": list(names)},
    }


def _fields_of(model: type[BaseModel], definitions: Schema) -> Schema:
    """Return the schema of one model, as tolerant as the reader; what it refers to is added to
    `definitions`."""
    schema = model.model_json_schema()
    for name, inner in schema.pop("$defs", {}).items():
        definitions[name] = _tolerant(inner)
    made = _tolerant(schema)
    fields = made["properties"]
    for name in fields.keys() & {"payload", "defaults"}:
        about = fields[name]["description"]
        fields[name] = {"description": about, "$ref": f"#/$defs/{name}"}
    if issubclass(model, ResultFields):  # a name, or `off`, may stand for the whole
        names = definitions["OutputFields"]["properties"]["name"]["anyOf"]
        fields["outputs"]["anyOf"] = [{"$ref": "#/$defs/OutputFields"}, {"type": _NO_TEXT}, *names]
    return made


def _tolerant(schema: Schema) -> Schema:
    fields = {name: _field(field) for name, field in schema["properties"].items()}
    return {"type": "object", "properties": fields, "additionalProperties": False}


def _field(field: Schema) -> Schema:
    about = {"description": field["description"]} if "description" in field else {}
    for name, kind in _COMMON.items():
        if field["anyOf"] == [kind, _NULL]:
            return {**about, "$ref": f"#/$defs/{name}"}
    return {**about, "anyOf": [form for kind in field["anyOf"] for form in _forms(kind)]}


def _forms(kind: Schema) -> Iterator[Schema]:
    """Yield the ways in which a value of this kind is written."""
    name = kind.get("type")
    if "anyOf" in kind:
        for each in kind["anyOf"]:
            yield from _forms(each)
    elif name == "array":
        items = kind.get("items", {})
        forms = list(_forms(items)) if items else [{}]
        yield {**kind, "items": forms[0] if len(forms) == 1 else {"anyOf": forms}}
        # One value stands for a list of one.
        yield from forms if items else [{"type": _SCALARS}]
    elif name in _AS_TEXT:
        yield kind
        yield {"type": "string", "pattern": f"{_AS_TEXT[name]}|{_FILLED}"}
        if name == "boolean":
            yield {"enum": [0, 1]}
    elif name == "string" and not kind.keys() & {"enum", "const", "pattern"}:
        yield {**kind, "type": _SCALARS}  # what looks like a number or a switch is a text, too
    else:
        yield kind
