"""Fields that a kind of WebUI needs and a job left out."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from sdwatch.policy.job.calls.catalogue import Catalogue, catalogue_of
from sdwatch.policy.job.calls.payload import completed, may_need_more
from sdwatch.policy.kinds.forge import FORGE
from sdwatch.policy.kinds.forge_neo import FORGE_NEO
from tests.facts.catalogues import catalogue, openapi
from tests.support.tables import table

HIRES = {"enable_hr": True, "hr_scale": 2}
MODULES = {"hr_additional_modules": ["Use same choices"]}


def without_its_field() -> Catalogue:
    """A Forge of before that field was there, or after."""
    older: Any = copy.deepcopy(openapi("forge"))
    for schema in older["components"]["schemas"].values():
        schema.get("properties", {}).pop("hr_additional_modules", None)
    return catalogue_of(older)


def neo() -> Catalogue:
    paths = {p: m for p, m in openapi("forge")["paths"].items() if "hypernet" not in p}
    return catalogue_of(
        {**openapi("forge"), "paths": {p: m for p, m in paths.items() if "realesrgan" not in p}}
    )


def test_a_hires_job_gets_its_modules_on_forge_and_forge_neo() -> None:
    assert (catalogue("forge").kind, neo().kind) == (FORGE, FORGE_NEO)
    for known in (catalogue("forge"), neo()):
        assert completed("txt2img", HIRES, known) == MODULES
        assert completed("txt2img", {**HIRES, "hr_additional_modules": None}, known) == MODULES


@table(
    ("stage", "fields"),
    [
        ("txt2img", {}),
        ("txt2img", {"enable_hr": False, "hr_scale": 2}),
        ("img2img", HIRES),
        ("extra-single-image", {}),
        ("txt2img", {**HIRES, "hr_additional_modules": []}),
        ("txt2img", {**HIRES, "hr_additional_modules": ["ae.safetensors"]}),
    ],
)
def test_other_calls_are_sent_as_the_job_says(stage: str, fields: dict[str, Any]) -> None:
    assert completed(stage, fields, catalogue("forge")) == {}
    assert not may_need_more(stage, {**fields, "hr_resize_mode": 1})


@pytest.mark.parametrize("given", [{}, {"hr_resize_mode": None}])
def test_a_hires_job_gets_a_resize_mode_on_sdnext(given: dict[str, Any]) -> None:
    assert completed("txt2img", {**HIRES, **given}, catalogue("sdnext")) == {"hr_resize_mode": 1}
    assert completed("txt2img", {**HIRES, "hr_resize_mode": 2}, catalogue("sdnext")) == {}


@pytest.mark.parametrize("kind", ["a1111", "sdcpp"])
def test_other_kinds_get_nothing_that_they_do_not_know(kind: str) -> None:
    assert completed("txt2img", HIRES, catalogue(kind)) == {}


def test_a_forge_whose_schema_has_no_such_field_gets_none() -> None:
    assert without_its_field().kind is FORGE
    assert completed("txt2img", HIRES, without_its_field()) == {}


def test_nothing_is_added_for_an_unknown_webui() -> None:
    assert completed("txt2img", HIRES, None) == completed("txt2img", HIRES, Catalogue()) == {}
    assert may_need_more("txt2img", HIRES)
