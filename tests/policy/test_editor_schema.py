"""The schema for editors takes what the reader takes, and refuses what people misspell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from sdwatch.errors import JobError
from sdwatch.policy.job.editor_schema import defaults_schema, job_schema
from sdwatch.policy.job.files.job_files import Outside
from sdwatch.policy.job.files.wildcards import LineFile
from sdwatch.policy.job.job import parse_job
from sdwatch.policy.job.stage.fields import ExtraSingleImageFields, Img2ImgFields, Txt2ImgFields
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.job.text.document import parse_document
from sdwatch.policy.job.text.typed_values import Written, read_model
from sdwatch.policy.job.written_stages import LongForm
from sdwatch.system import resources
from tests.support.tables import table
from tests.test_structure import ROOT

EXAMPLES = sorted((resources.config_folder() / "examples").rglob("*.yaml"))
of_jobs, of_defaults = cache(job_schema), cache(defaults_schema)
FILES = {
    "prompts.txt": b"a castle\na ship\n",
    "rows.csv": b"animal,steps\ncat,20\n",
    "poses/1.png": b"",
    "poses/2.png": b"",
    "pose.png": b"",
    "mask.png": b"",
}


class Yaml12(yaml.SafeLoader):
    """Types scalars as the core schema of YAML 1.2 does, which editors use."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - its base has it so


for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+0123456789.")),
):
    Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})$"), first)


class Yaml11(yaml.SafeLoader):
    """As other editors do it: `on` is true. Dates stay texts, JSON has none."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - its base has it so
        first: [(tag, pattern) for tag, pattern in pairs if not tag.endswith(":timestamp")]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@cache
def job_validator() -> Validator:
    return Draft202012Validator(of_jobs())


@cache
def defaults_validator() -> Validator:
    return Draft202012Validator(of_defaults())


def wrong_for_editors(validator: Validator, text: str) -> list[str]:
    """What editors underline, whichever YAML they read."""
    return [
        f"{error.json_path}: {error.message[:300]}"
        for loader in (Yaml12, Yaml11)
        for error in validator.iter_errors(yaml.load(text, loader))
    ]


def wrong_for_reader(text: str, files: dict[str, bytes], outside: Outside = Outside()) -> list[str]:  # noqa: B008
    names = frozenset(files)
    try:
        parse_job(text.encode(), "job.yaml", names, "job", read=files.__getitem__, outside=outside)
    except JobError as error:
        return [problem.message for problem in error.problems]
    return []


def with_defaults(text: str) -> Outside:
    return Outside([LineFile("_defaults.yaml", text.encode)])


@pytest.mark.slow
def test_both_schemas_are_of_the_draft_that_they_name() -> None:
    for schema in (of_jobs(), of_defaults()):
        assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
        Draft202012Validator.check_schema(schema)


def test_the_written_schemas_are_those_of_the_code() -> None:
    for name, schema in (("job", of_jobs()), ("defaults", of_defaults())):
        written = (resources.config_folder() / f"{name}.schema.json").read_text(encoding="utf-8")
        assert json.loads(written) == schema, (
            "write it again: sdwatch schema > config/job.schema.json, "
            "sdwatch schema --defaults > config/defaults.schema.json"
        )


def test_the_schema_has_each_field_of_the_job_language_with_the_models_descriptions() -> None:
    schema = of_jobs()
    models = {
        "txt2img": Txt2ImgFields,
        "img2img": Img2ImgFields,
        "extra-single-image": ExtraSingleImageFields,
    }
    for kind, model in models.items():
        fields = schema["$defs"][kind]["properties"]
        assert set(fields) == set(model.model_fields)
        for name, info in model.model_fields.items():
            assert fields[name].get("description") == info.description
    long, short = schema["then"]["properties"], schema["else"]["properties"]
    assert set(long) == {*LongForm.model_fields, "stages"}
    assert set(short) == {*LongForm.model_fields, *Txt2ImgFields.model_fields}
    for name, info in LongForm.model_fields.items():
        assert info.description
        assert long[name]["description"] == short[name]["description"] == info.description
    stage_fields = {name for model in models.values() for name in model.model_fields}
    assert set(schema["$defs"]["defaults"]["properties"]) == stage_fields
    assert set(of_defaults()["properties"]) == stage_fields


def jobs_in(text: str) -> list[str]:
    return text.split("\n---\n")


ACCEPTED = jobs_in("""
prompt: a castle
---
prompt: 1984
---
prompt: no
---
{"prompt": "a castle", "steps": 20, "tiling": false}
---
prompt: a castle
steps: "20"
cfg_scale: "7.5"
width: 512.0
tiling: on
restore_faces: Off
styles: one
negative_prompt: ~
---
name: x
priority: -3
keep: last
stages:
  - txt2img: {prompt: a, id: base}
  - upscale
  - img2img: {input: base, fan_out: off, prompt: b}
---
stages: [{txt2img: {prompt: a}}, {extra-single-image: ~}]
---
prompt: a ${animal} ${n} times
steps: ${steps}
tiling: ${tiled}
override_settings: {sd_model_checkpoint: "${model}"}
vars: {model: a, steps: 20}
repeat: 2
matrix:
  animal: [cat, owl]
  n: 3
  tiled: [on, off]
---
prompt: ${animal} ${größe}
matrix:
  animal: [cat, owl]
  größe: [1, 2.5]
  include: [{animal: dog, größe: 9}]
  exclude: {animal: cat}
---
matrix: {prompt: [a, b], seed: [1, 2]}
---
matrix: {zip: {prompt: [a, b], seed: [1, 2]}}
---
matrix: {zip: [{prompt: [a, b], seed: [1, 2]}, {steps: [3, 4], cfg_scale: [5, 6]}]}
---
prompts_from: prompts.txt
line_seeds: count
on_failure: stop
---
prompts_from: rows.csv
prompt: a ${animal}
points: 1
---
vars: {prompt: a castle}
version: 1
random_seed: 4294967295
---
defaults: {prompt: a castle, steps: 20, resize_mode: 3, upscaler_1: Lanczos}
stages: [txt2img]
---
defaults: {prompt: a castle}
---
for_each: "poses/*.png"
stages: [{img2img: {prompt: "like ${image.stem}", denoising_strength: .5}}]
points: [1, 2]
---
prompt: a
for_each: poses/*.png
alwayson_scripts: {ControlNet: {args: [{image: "${image}"}]}}
---
stages: [{img2img: {init_images: pose.png, mask: mask.png, prompt: a}}]
---
stages: [{img2img: {init_images: [pose.png, poses/1.png], prompt: a, payload: {new_field: 1}}}]
---
prompt: a
only: 22:00-07:00
not_before: 2026-12-01 22:00
timeout: 2 h
delay_between_calls: 30
oom: batch
outputs: off
---
prompt: a
only: [mon-fri 22:00-07:00, "sat, sun 0:00-24:00"]
not_before: 2026-12-01T22:00:00+01:00
timeout: 1.5
delay_between_calls: 0
oom: [batch, tiled_vae, size]
outputs: "{date}/{name}-{point}"
---
prompt: a
not_before: 2026-12-01
outputs: {name: "{seed}", format: webp}
script_name: x
script_args: 1
hr_additional_modules: []
""")

REFUSED = jobs_in("""
steps: 20
---
prompt:
---
propmt: a castle
---
prompt: a castle
stpes: 20
---
prompt: a castle
steps: many
---
prompt: a castle
steps: 0
---
prompt: a castle
width: 4
---
prompt: a castle
tiling: maybe
---
prompt: [a castle]
---
prompt: a castle
denoising_strength: 2
---
prompt: a castle
txt2img: {prompt: b}
---
txt2img: {prompt: b}
---
stages: []
---
stages: {txt2img: {prompt: b}}
---
stages: [{text2img: {prompt: b}}]
---
stages: [upscaler]
---
stages: [{txt2img: {prompt: a}, upscale: {}}]
---
prompt: a
stages: [{txt2img: {prompt: b}}]
---
stages: [{txt2img: {prompt: a, upscaler_1: Lanczos}}]
---
stages: [{txt2img: {prompt: a, priority: 3}}]
---
stages: [{txt2img: {prompt: a, input: base}}]
---
stages: [{txt2img: {prompt: a, id: my base}}]
---
stages: [{txt2img: {prompt: a}}, {img2img: {prompt: b, fan_out: both}}]
---
stages: [{txt2img: {prompt: a}}, {upscale: {resize_mode: 2}}]
---
prompt: a
payload: {steps: 3}
---
prompt: a
payload: {send_images: false}
---
prompt: a
matrix: [cat, owl]
---
prompt: a ${x}
matrix: {x: []}
---
prompt: a ${x}
matrix: {x: [{a: 1}]}
---
prompt: a ${my-name}
matrix: {my-name: [1, 2]}
---
prompt: a ${x}
matrix: {x: [1, 2], zip: [3]}
---
prompt: a ${x}
vars: {x: [1, 2]}
---
prompt: a
vars: {zip: 1}
---
prompt: a
repeat: 0
---
prompt: a
version: 2
---
prompt: a
on_failure: ignore
---
prompts_from: prompts.txt
line_seeds: all
---
prompt: a
points: 0
---
prompt: a
random_seed: -1
---
prompt: a
defaults: {steps: few}
---
prompt: a
defaults: {priority: 2}
---
prompt: a
priority: 2000
---
prompt: a
keep: first
---
prompt: a
outputs: {nmae: x}
---
prompt: a
outputs: {format: gif}
---
prompt: a
outputs: ../elsewhere
---
prompt: a
outputs: /home/me
---
prompt: a
outputs: 'a\\b'
---
prompt: a
only: at night
---
prompt: a
only: []
---
prompt: a
not_before: tomorrow
---
prompt: a
timeout: 0
---
prompt: a
timeout: 2 weeks
---
prompt: a
delay_between_calls: -1
---
prompt: a
oom: smaller
---
- prompt: a
""")


@table("text", ACCEPTED)
def test_what_the_reader_takes_no_editor_underlines(text: str) -> None:
    assert wrong_for_reader(text, FILES) == []
    assert wrong_for_editors(job_validator(), text) == []


@table("text", REFUSED)
def test_what_the_reader_refuses_editors_underline(text: str) -> None:
    assert wrong_for_reader(text, FILES)
    assert wrong_for_editors(job_validator(), text)


VALUES = (
    *("3", "0", "1", "-1", "2.0", "0.5", ".5", "5000000", '"3"', "on", "off", "Yes", "true"),
    *("maybe", "a text", "''", "~", "[a]", "[1, 2]", "[]", "{a: 1}", "all", "last", "1 h", "2026"),
    *("22:00-07:00", "2026-12-01 22:00", "batch", "[batch, size]", "[[a]]", "webp", "continue"),
)


@pytest.mark.slow
@table("model", [*(kind.fields for kind in STAGES.values()), LongForm])
def test_schema_and_reader_agree_on_each_value_of_each_field(model: type[Written]) -> None:
    schema = of_jobs()
    name = next((kind.name for kind in STAGES.values() if kind.fields is model), "")
    part = {"$ref": f"#/$defs/{name}"} if name else schema["then"]
    validator = Draft202012Validator({**part, "$defs": schema["$defs"]})
    differ = []
    for field in model.model_fields:
        for value in VALUES:
            text = f"{field}: {value}"
            _, problems = read_model(parse_document(text.encode(), "job.yaml"), model, "job")
            is_right = validator.is_valid(yaml.load(text, Yaml12))
            if field in ("id", "defaults") and not problems:
                continue  # the reader checks them more closely where it knows all stages
            if value == '"3"' and any("must be at" in each.message for each in problems):
                continue  # an editor knows no bounds of a text
            if is_right is bool(problems):
                differ.append((text, "editors take it" if is_right else "editors refuse it"))
    assert not differ, "\n".join(map(str, differ))


@table(
    ("text", "is_right"),
    [
        ("steps: 30\nsampler_name: Euler\ntiling: on\n", True),
        ("prompt: a\nupscaler_1: Lanczos\nresize_mode: 3\npayload: {new_field: 1}\n", True),
        ("stpes: 30\n", False),
        ("steps: many\n", False),
        ("name: x\n", False),
        ("matrix: {steps: [1]}\n", False),
        ("stages: [txt2img]\n", False),
        ("payload: {prompt: x}\n", False),
        ("- steps\n", False),
    ],
)
def test_a_file_of_defaults_has_a_schema_of_its_own(text: str, is_right: bool) -> None:
    job = "stages: [{txt2img: {prompt: a}}, {img2img: {prompt: b}}]\n"
    assert (wrong_for_reader(job, {}, with_defaults(text)) == []) is is_right
    assert (wrong_for_editors(defaults_validator(), text) == []) is is_right


def test_an_unknown_field_is_named_where_it_is() -> None:
    """Editors show these messages; `anyOf` over whole jobs would say that nothing fits."""
    for text, expected in (
        ("prompt: a\nstpes: 3\n", "$: Additional properties are not allowed ('stpes' was"),
        ("stages: [upscale]\npriorty: 1\n", "$: Additional properties are not allowed ('priorty'"),
        ("steps: 3\n", "$: 'prompt' is a required property"),
        ("stages: [{img2img: {stpes: 3}}]", "$.stages[0].img2img: Additional properties are"),
        (
            "stages: [{text2img: {}}]",
            "$.stages[0]: Additional properties are not allowed ('text2img'",
        ),
        ("stages: [upscaler]", "$.stages[0]: 'upscaler' is not one of ['txt2img'"),
        ("prompt: a\ndefaults: {stpes: 3}", "$.defaults: Additional properties are not allowed"),
    ):
        (first, *_) = wrong_for_editors(job_validator(), text)
        assert first.startswith(expected)


@table("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_each_example_is_right_for_editors_and_names_the_schema_that_init_installs(
    path: Path,
) -> None:
    text = path.read_text(encoding="utf-8")
    assert wrong_for_editors(job_validator(), text) == []
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert named is not None
    # `init` writes the schema beside the folder of examples.
    depth = len(path.relative_to(resources.config_folder() / "examples").parts) - 1
    assert named[1] == "../" * depth + "job.schema.json"


def blocks() -> Iterator[str]:
    text = (ROOT / "docs/jobs.md").read_text(encoding="utf-8")
    yield from re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_each_yaml_block_of_the_page_about_jobs_is_a_right_job_or_file_of_defaults() -> None:
    found = list(blocks())
    assert len(found) > 8
    of_defaults = [text for text in found if "$schema=../defaults.schema.json" in text]
    assert len(of_defaults) == 1
    for text in found:
        if text in of_defaults:
            assert wrong_for_editors(defaults_validator(), text) == []
            assert wrong_for_reader("prompt: a", {}, with_defaults(text)) == []
        else:
            assert wrong_for_editors(job_validator(), text) == [], text
            assert wrong_for_reader(text, FILES) == [], text


def test_the_page_about_jobs_starts_with_the_three_that_most_people_need() -> None:
    one, prompts, grid = (
        parse_job(text.encode(), "job.yaml", frozenset(FILES), read=FILES.__getitem__)
        for text in list(blocks())[:3]
    )
    assert one.points.total == 1
    assert prompts.points.total == 2
    assert grid.points.total == 6
