"""`_defaults.yaml`: which fields a job gets from the folders above it, and what is refused."""

from __future__ import annotations

import pytest

from sdwatch.errors import JobError
from sdwatch.policy.job.calls.preflight import check_against
from sdwatch.policy.job.files.job_files import Outside
from sdwatch.policy.job.files.near_miss import why_not_a_job
from sdwatch.policy.job.files.wildcards import LineFile
from tests.facts.catalogues import catalogue
from tests.policy.jobs_of import fields_of, from_outside, job_of, problems_of
from tests.support.tables import table


def test_what_is_nearer_comes_first() -> None:
    outside = from_outside("steps: 3\nwidth: 64\n", "steps: 4\nwidth: 128\nheight: 64\nseed: 1\n")
    files = {"_defaults.yaml": b"steps: 2\n"}
    text = "prompt: x\ndefaults: {cfg_scale: 2}\n"
    fields = job_of(text, files, outside=outside).stages[0].fields
    assert dict(fields) == {
        "prompt": "x", "cfg_scale": 2.0, "steps": 2, "width": 64, "height": 64, "seed": 1
    }  # fmt: skip
    own = job_of("prompt: x\nsteps: 1\ndefaults: {steps: 9, width: 8}\n", files, outside=outside)
    assert (own.stages[0].fields["steps"], own.stages[0].fields["width"]) == (1, 8)


def test_a_stage_gets_the_fields_that_it_has() -> None:
    outside = from_outside("steps: 3\nupscaler_1: Lanczos\n")
    job = job_of("stages:\n- txt2img: {prompt: x}\n- upscale\n", outside=outside)
    assert [dict(stage.fields) for stage in job.stages] == [
        {"prompt": "x", "steps": 3},
        {"upscaler_1": "Lanczos"},
    ]


def test_a_prompt_may_come_from_there() -> None:
    assert fields_of(job_of("steps: 3\n", outside=from_outside("prompt: y\n")), "prompt") == ["y"]
    assert fields_of(job_of("defaults: {prompt: y}\n"), "prompt") == ["y"]


def test_values_fill_its_names() -> None:
    outside = from_outside("negative_prompt: no ${animal}\n")
    job = job_of("prompt: ${animal}\nmatrix: {animal: [cat, owl]}\n", outside=outside)
    assert fields_of(job, "negative_prompt") == ["no cat", "no owl"]


@table("text", ["", "\n", "# nothing yet\n", "\ufeff# x\n"])
def test_one_that_says_nothing_gives_nothing(text: str) -> None:
    job = job_of("prompt: x\n", outside=from_outside(text))
    assert dict(job.stages[0].fields) == {"prompt": "x"}


@table(
    ("text", "says"),
    [
        ("stepz: 3\n", '1:1: unknown field "stepz" in defaults; did you mean "steps"?'),
        ("width: 64\nsteps: many\n", '2:8: steps must be a whole number, not "many"'),
        ("steps: [1\n", "brackets do not match"),
        ("- a\n", "1:1: _defaults.yaml is a mapping of `field: value`, not a list"),
        ("steps: 1\nsteps: 2\n", '2:1: "steps" is there twice, first in line 1'),
        ("save_images: true\n", '1:14: "save_images" is refused'),
        ("override_settings: {outdir_samples: /etc}\n", '1:21: "outdir_samples" is refused'),
        ("prompt: &a b\n", '1:9: "&" starts a YAML anchor'),
        ("matrix: {a: [1]}\n", '1:1: unknown field "matrix" in defaults'),
        ("a: " + "[" * 50 + "]" * 50 + "\n", "nested deeper than 32 levels"),
        ("prompt: \x1b[31m\n", "a control character (U+001B)"),
    ],
)
def test_each_mistake_names_the_file_and_is_no_fault_of_the_job(text: str, says: str) -> None:
    with pytest.raises(JobError) as caught:
        job_of("prompt: x\n", outside=from_outside(text))
    assert str(caught.value).startswith("_defaults.yaml:")
    assert says in str(caught.value)
    assert caught.value.outside is not None


def test_a_mistake_in_that_of_the_job_folder_is_the_jobs_own() -> None:
    with pytest.raises(JobError) as caught:
        job_of("prompt: x\n", {"_defaults.yaml": b"steps: many\n"})
    assert str(caught.value).startswith("_defaults.yaml:1:8: steps must be")
    assert caught.value.outside is None


def test_a_name_that_the_webui_does_not_know_has_its_place_there() -> None:
    job = job_of("prompt: x\n", outside=from_outside("width: 64\nsampler_name: Eulr\n"))
    (problem,) = check_against(job, catalogue("forge")).problems
    assert problem.located("job.yaml").startswith("_defaults.yaml:2:15: ")


def test_a_folder_of_what_was_used_before_replaces_what_is_outside() -> None:
    files = {
        "_used/README.txt": b"",
        "_used/inbox/_defaults.yaml": b"steps: 5\nseed: 5\n",
        "_used/inbox/a/_defaults.yaml": b"steps: 6\n",
        "_used/wildcards/color.txt": b"green\n",
    }
    outside = from_outside("steps: 1\nwidth: 64\n", wildcards={"color": b"red", "size": b"big"})
    fields = job_of("prompt: __color__ __size__\n", files, outside=outside).stages[0].fields
    assert dict(fields) == {"prompt": "green __size__", "steps": 6, "seed": 5}


def test_a_name_that_is_nearly_the_right_one_is_named() -> None:
    for name in ("_defaults.yml", "_Defaults.yaml", "_defaults.json"):
        assert "only a file called _defaults.yaml is read" in why_not_a_job(name)
    assert not why_not_a_job("defaults.yaml")


def test_a_file_that_vanished_a_moment_ago_gives_nothing() -> None:
    def gone() -> bytes:
        raise FileNotFoundError

    outside = Outside([LineFile("_defaults.yaml", gone, is_outside=True)])
    assert len(job_of("prompt: x\n", outside=outside).stages) == 1


def test_what_is_wrong_with_several_files_is_listed_file_by_file() -> None:
    says = problems_of("prompt: [x]\n", outside=from_outside("steps: a\n", "width: b\n"))
    assert [line.split(":")[0] for line in says.splitlines()] == [
        "job.yaml", "_defaults.yaml", "a/_defaults.yaml"
    ]  # fmt: skip
