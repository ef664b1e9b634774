"""Entries of ComfyUI's history, as a real one answered them, and the lists of its classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.translation.built_in import drawing
from sdwatch.policy.translation.lists import WorkflowRules, lists_of
from sdwatch.policy.translation.made import generation_info
from sdwatch.policy.workflow.node_classes import checkpoint_meant, read_classes
from sdwatch.policy.workflow.prompt_result import PromptEnd, read_entry, refusal_in
from sdwatch.policy.workflow.workflow import workflow_of
from tests.support.tables import table
from tests.webui.kinds import facts

HISTORIES = facts("comfyui", "histories")


@table("name", sorted(HISTORIES))
def test_every_recorded_entry_is_read(name: str) -> None:
    result = read_entry(HISTORIES[name])
    assert result.workflow is not None
    assert (result.failure is not None) is (result.end is PromptEnd.FAILED)
    if result.failure is not None:
        assert result.failure.exception
        assert result.failure.node in result.workflow.nodes


def test_an_interrupt_is_no_failure() -> None:
    ends = {name: read_entry(HISTORIES[name]).end for name in HISTORIES}
    for name, end in ends.items():
        assert (end is PromptEnd.INTERRUPTED) is ("interrupted" in name)


@table("entry", [None, [], {}, {"status": 1}, {"status": {"status_str": 1}}])
def test_what_is_no_entry_is_refused(entry: Any) -> None:
    with pytest.raises(ValueError, match="status"):
        read_entry(entry)


@pytest.mark.parametrize(
    "status",
    [
        {"status_str": "error"},
        {"status_str": "error", "messages": [1, [2], ["x", 3]]},
        {"status_str": "odd", "messages": None},
    ],
)
def test_an_entry_that_says_little_is_a_failure(status: Any) -> None:
    outputs = {"1": None, "2": {"images": [1, {"filename": 2}]}, "3": {"images": 5}}
    result = read_entry({"status": status, "outputs": outputs, "prompt": [0]})
    assert result.end is PromptEnd.FAILED
    assert result.workflow is None


def test_a_refusal_names_the_node_by_its_title() -> None:
    workflow = workflow_of(
        {"4": {"class_type": "X", "inputs": {}, "_meta": {"title": "The model"}}}
    )
    errors: list[dict[str, Any]] = [
        {"type": "value_not_in_list", "message": "Value not in list", "details": "a not in b"}
    ]
    answer = {"error": {"message": "no"}, "node_errors": {"4": {"errors": errors}}}
    assert refusal_in(answer, workflow) == "node 4 (The model): Value not in list: a not in b"
    assert refusal_in({"error": {"message": "empty", "details": ""}}, workflow) == "empty"
    assert refusal_in({"prompt_id": "a", "node_errors": {}}, workflow) == ""
    errors[0]["extra_info"] = {"input_name": "ckpt_name"}
    for places, place in (
        ({"4": "w.json:2:3"}, "w.json:2:3"),
        ({"4": "w.json:2:3", "4.ckpt_name": "job.yaml:3:9"}, "job.yaml:3:9"),
    ):
        assert refusal_in(answer, replace(workflow, places=places)) == (
            f"node 4 (The model) at {place}: Value not in list: a not in b"
        )
    errors[0] |= {"extra_info": {"input_name": "ckpt_name"}}
    for places, place in (
        ({"4": "w.json:2:3"}, "w.json:2:3"),
        ({"4": "w.json:2:3", "4.ckpt_name": "job.yaml:3:9"}, "job.yaml:3:9"),
    ):
        assert refusal_in(answer, replace(workflow, places=places)) == (
            f"node 4 (The model) at {place}: Value not in list: a not in b"
        )
    made = drawing({"seed": 1, "steps": 200_000, "n_iter": 2}, "x.ckpt", "folder")
    bigger = {"message": "Value 200000 bigger than max of 10000", "details": "steps",
              "extra_info": {"input_name": "steps"}}  # fmt: skip
    unknown = {"message": "Value not in list", "details": "ckpt_name: 'x' not in ['y']",
               "extra_info": {"input_name": "ckpt_name"}}  # fmt: skip
    both = {"sample-1": {"errors": [bigger]}, "sample-2": {"errors": [bigger]},
            "checkpoint": {"errors": [unknown]}}  # fmt: skip
    assert refusal_in({"error": {}, "node_errors": both}, made) == (
        "steps: Value 200000 bigger than max of 10000; "
        "sd_model_checkpoint: Value not in list: ckpt_name: 'x' not in ['y']"
    ), "a job has none of these nodes"
    for broken in (None, [], {"node_errors": 5}, {"node_errors": {"1": {"errors": [3]}}}):
        assert refusal_in(broken, workflow) == ""


# -- names


@table(
    ("name", "meant"),
    [
        ("sd/v1-5.safetensors", "sd/v1-5.safetensors"),
        ("v1-5", "sd/v1-5.safetensors"),
        ("V1-5.SAFETENSORS", "sd/v1-5.safetensors"),
        ("sd/v1-5", "sd/v1-5.safetensors"),
        ("twice", ""),
        ("a\\twice.ckpt", "a\\twice.ckpt"),
        ("v1", ""),
        ("", ""),
    ],
)
def test_a_checkpoint_may_be_named_without_folder_and_ending(name: str, meant: str) -> None:
    listed = ("sd/v1-5.safetensors", "a\\twice.ckpt", "b/twice.safetensors")
    assert checkpoint_meant(name, listed) == meant


CLASSES = read_classes(
    {
        "CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["a.safetensors"], {}]}}},
        "KSampler": {
            "input": {
                "required": {
                    "sampler_name": ["COMBO", {"options": ["euler", "dpmpp_2m"]}],
                    "scheduler": [["normal", "karras"]],
                }
            }
        },
    }
)


def test_its_names_and_those_of_others_are_in_the_lists() -> None:
    catalogue = Catalogue()
    for route, body in lists_of(CLASSES, ["bad-hands"]).items():
        catalogue = catalogue.with_list(route, body)
    has = {route: names.__contains__ for route, names in catalogue.lists.items()}
    assert all(map(has["samplers"], ("euler", "Euler", "DPM++ 2M", "dpmpp_2m")))
    assert not has["samplers"]("Heun")
    assert all(map(has["schedulers"], ("Karras", "karras", "Automatic", "Uniform")))
    assert not has["schedulers"]("Beta")
    assert all(map(has["sd-models"], ("a", "a.safetensors")))
    assert all(map(has["upscalers"], ("Lanczos", "Nearest")))
    assert has["embeddings"]("bad-hands")


@table(
    ("checkpoints", "fields", "refused"),
    [
        (("a",), {}, []),
        (("a", "b"), {}, [""]),
        ((), {}, [""]),
        (("a", "b"), {"override_settings": {"sd_model_checkpoint": "b"}}, []),
        (("a",), {"enable_hr": True, "styles": [], "batch_size": 2}, ["enable_hr"]),
        (("a",), {"prompt": "a <lora:x:1>"}, ["prompt"]),
    ],
)
def test_what_a_stage_cannot_have_is_refused(
    checkpoints: tuple[str, ...], fields: dict[str, Any], refused: list[str]
) -> None:
    loader = {"input": {"required": {"ckpt_name": [list(checkpoints)]}}}
    rules = WorkflowRules(read_classes({"CheckpointLoaderSimple": loader}))
    assert [name for name, _ in rules("txt2img", fields)] == refused


def test_a_job_keeps_its_own_name_for_a_sampler_that_means_the_same() -> None:
    inputs = {"seed": 4, "steps": 9, "cfg": 5.0, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
    workflow = workflow_of({"3": {"class_type": "KSampler", "inputs": inputs}})
    asked = {"sampler_name": "DPM++ 2M Karras", "batch_size": 2}
    info = generation_info(workflow, asked, "1.0")
    assert (info["sampler_name"], info["all_seeds"]) == ("DPM++ 2M Karras", [4, 4])
    other = generation_info(workflow, {"sampler_name": "Euler"}, "")
    assert other["sampler_name"] == "dpmpp_2m"
    assert "version" not in other
