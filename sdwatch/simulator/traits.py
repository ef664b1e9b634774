"""What a kind of WebUI knows and says: its data, how it reads requests, what it refuses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sdwatch.simulator.checks import Checks
from sdwatch.simulator.voice import Voice

Schema = dict[str, Any]


class Validation(Protocol):
    """How request bodies are held against a schema. All raise what the reply says."""

    def parse(self, raw: bytes) -> Any:
        """Return the body as JSON."""

    def check(self, body: Any, schema: Schema) -> dict[str, Any]:
        """Return all fields of the schema, with the request's values or the defaults."""

    def check_object(self, body: Any) -> dict[str, Any]:
        """Return a body that may be any JSON object."""


@dataclass(frozen=True)
class Traits:
    """`schemas` are those of the stages and of png-info, by the route's name."""

    name: str
    lists: dict[str, Any]
    openapi: dict[str, Any] | None
    schemas: dict[str, Schema]
    job_names: dict[str, str]
    validation: Validation
    checks: Checks
    voice: Voice

    @property
    def version(self) -> str:
        """As it stands in the infotext."""
        return self.voice.version


def load(name: str) -> dict[str, Any]:
    """Return a data file of this folder."""
    data: dict[str, Any] = json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return data


def schemas_of(openapi: dict[str, Any]) -> dict[str, Schema]:
    """Return the schemas of the requests that an openapi.json describes, by the route's name."""
    found = {}
    for name in ("txt2img", "img2img", "extra-single-image", "png-info"):
        body = openapi["paths"][f"/sdapi/v1/{name}"]["post"]["requestBody"]
        reference: str = body["content"]["application/json"]["schema"]["$ref"]
        found[name] = openapi["components"]["schemas"][reference.rpartition("/")[2]]
    return found
