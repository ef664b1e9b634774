"""A catalogue made of whatever a WebUI answers: what cannot be read is not known, and is no reason
against a job."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from sdwatch.policy.job.calls.catalogue import LISTS, Catalogue, catalogue_of
from sdwatch.policy.job.calls.preflight import check_against
from sdwatch.policy.job.job import parse_job
from sdwatch.policy.job.stage.stage_kinds import API, STAGES
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.sdnext import SDNEXT
from sdwatch.policy.kinds.table import KINDS
from tests.support.examples import examples
from tests.support.tables import table

JOB = parse_job(
    b"""\
stages:
  - txt2img:
      prompt: <lora:detail:1> embedding:easy
      steps: 20
      width: 512
      sampler_name: Euler
      scheduler: Karras
      styles: [film]
      script_name: x
      enable_hr: true
      hr_upscaler: Latent
      override_settings: {sd_model_checkpoint: m, sd_vae: v, forge_additional_modules: [a]}
  - upscale:
      upscaler_1: Lanczos
""",
    "job.yaml",
)
EMPTY = {"scripts": {}, "embeddings": {"loaded": {}}}
MAY_BE_EMPTY = {"prompt-styles", "loras", "embeddings", "sd-vae", "sd-modules"}


# JSON as Python reads it: also numbers that no float holds, NaN, Infinity, halves of characters.
HALVES = st.text("aE:/\\ [f]_-\ud800\x1b\0", max_size=12)
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), float("inf")])
PLAIN = st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | HALVES
KEYS = st.sampled_from(
    ["name", "title", "label", "model_name", "aliases", "hash", "sha256", "filename", "path",
     "alias", "loaded", "skipped", "txt2img", "img2img", "updated", "commit"]
)  # fmt: skip
ANYTHING = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | HALVES, inner, max_size=5),
    max_leaves=12,
)
ITEMS = st.lists(st.dictionaries(KEYS, ANYTHING, max_size=6), max_size=4)


@pytest.mark.slow
@examples(60)
@given(body=ANYTHING | ITEMS)
def test_a_list_of_any_json_is_known_or_not(body: Any) -> None:
    """To make a body takes longer than to read it as each list of each kind of WebUI."""
    for route, kind in product(LISTS, KINDS.values()):
        note(f"{route} of {kind}")
        known_or_not(route, kind, body)


def known_or_not(route: str, kind: Kind, body: Any) -> None:
    try:
        made = Catalogue(kind).with_list(route, body)
    except ValueError as error:
        made = Catalogue(kind).without_list(route, str(error))
    else:
        named = any(names.shown for names in made.lists.values())
        assert named or (route in MAY_BE_EMPTY and not (body and isinstance(body, list)))
    check_against(JOB, made.with_version(body))


PART = ANYTHING | st.dictionaries(
    st.sampled_from(["type", "minimum", "maximum", "exclusiveMinimum", "enum", "anyOf", "$ref"]),
    ANYTHING | NUMBERS | st.lists(ANYTHING, max_size=3),
)
PROPERTIES = st.fixed_dictionaries(
    {
        "properties": ANYTHING
        | st.dictionaries(st.sampled_from(["steps", "width", "script_name"]), PART).map(
            lambda some: {"prompt": {}, "image": {}, **some}
        )
    }
)


def posted(schema: Any) -> Any:
    return {"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}}


PATHS = st.dictionaries(
    st.sampled_from([API + name for name in (*STAGES, "sd-vae", "sd-modules", "checkpoint")]),
    ANYTHING | (PROPERTIES | PART).map(posted),
)


@pytest.mark.slow
@examples(250)
@given(
    openapi=ANYTHING
    | st.fixed_dictionaries(
        {"paths": PATHS | ANYTHING, "components": ANYTHING},
    )
)
def test_a_schema_of_any_json_is_known_or_not(openapi: Any) -> None:
    check_against(JOB, catalogue_of(openapi))


@table("bound", ["1" + "0" * 400, "-1" + "0" * 400, "NaN", "Infinity",
                                   "-Infinity", '"9"', "true", "[]", "null"])  # fmt: skip
@table("name", ["minimum", "maximum", "exclusiveMinimum"])
def test_a_bound_that_is_none_refuses_nothing(name: str, bound: str) -> None:
    rule = json.loads(f'{{"type": "integer", "{name}": {bound}}}')
    fields = {"steps": rule, "prompt": {}, "image": {}}
    made = catalogue_of({"paths": {API + kind: posted({"properties": fields}) for kind in STAGES}})
    assert made.stages is not None
    assert all(made.stages.values())
    messages = [problem.message for problem in check_against(JOB, made).problems]
    assert not any("takes steps only" in message for message in messages)


@table(
    "rule",
    [{"type": "int64"}, {"anyOf": [{"type": "null"}, {"type": ["string"]}]}, {"enum": [[], {}]},
     {"enum": []}, {"enum": "20"}, {"enum": True}, {"enum": 5}, {"anyOf": [{}]}],
)  # fmt: skip
def test_a_rule_that_nobody_understands_refuses_nothing(rule: Any) -> None:
    fields = {"steps": rule, "prompt": {}}
    made = catalogue_of({"paths": {API + "txt2img": posted({"properties": fields})}})
    text = b"prompt: a\nsteps: 20"
    messages = [problem.message for problem in check_against(parse_job(text, "j"), made).problems]
    assert not any("takes steps only" in message for message in messages)


def test_a_schema_without_what_each_call_has_is_none() -> None:
    part = posted({"properties": {"steps": {"maximum": 10**400}}})
    made = catalogue_of({"paths": {API + "txt2img": part}})
    assert made.stages == {"txt2img": None}
    assert check_against(parse_job(b"prompt: a\nsteps: 20", "j"), made).problems == ()


@table("route", LISTS)
@table("body", [["Euler", "Euler a"], [{}], [{"name": ""}], [None, 3, []]])
def test_entries_without_a_name_are_no_list(route: str, body: Any) -> None:
    with pytest.raises(ValueError, match=r"names nothing|has no (scripts|embeddings)"):
        Catalogue().with_list(route, body)


@table("route", LISTS)
def test_only_what_a_person_adds_may_be_none(route: str) -> None:
    body = EMPTY.get(route, [])
    if route in MAY_BE_EMPTY:
        assert Catalogue().with_list(route, body).lists[route].shown == ()
    else:
        with pytest.raises(ValueError, match=r"names nothing|has no scripts"):
            Catalogue().with_list(route, body)


def test_one_entry_that_can_be_used_is_a_list() -> None:
    made = Catalogue().with_list(
        "samplers", ["x", {"name": 3, "aliases": ["k"]}, {"name": "Euler"}]
    )
    assert made.lists["samplers"].shown == ("Euler",)
    assert set(made.lists["samplers"].hints.values()) == {"Euler"}


def test_a_version_is_a_short_text() -> None:
    made = Catalogue(SDNEXT).with_version({"updated": {"a": 1}, "commit": "c" * 10**6})
    assert made.version == "c" * 100
