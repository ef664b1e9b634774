"""txt2img, img2img and upscale as workflows of ComfyUI."""

from __future__ import annotations

from typing import Any

import pytest

from sdwatch.policy.translation.built_in import drawing, enlarging, refusals
from sdwatch.policy.translation.samplers import (
    sampler_and_scheduler,
    sampler_names,
    scheduler_names,
)
from sdwatch.simulator.traits import load
from tests.support.tables import table
from tests.webui.kinds import facts


def inputs(made: Any) -> dict[str, dict[str, Any]]:
    return {node.id: dict(node.inputs) for node in made.nodes.values()}


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (("Euler a", ""), ("euler_ancestral", "normal")),
        (("DPM++ 2M", ""), ("dpmpp_2m", "karras")),
        (("DPM++ 2M", "Automatic"), ("dpmpp_2m", "karras")),
        (("DPM++ 2M Karras", ""), ("dpmpp_2m", "karras")),
        (("DPM++ 2M SDE Exponential", ""), ("dpmpp_2m_sde", "exponential")),
        (("dpm++ 2m sde", "SGM Uniform"), ("dpmpp_2m_sde", "sgm_uniform")),
        (("Euler", "KL Optimal"), ("euler", "kl_optimal")),
        (("res_multistep", "beta"), ("res_multistep", "beta")),
        (("", ""), ("euler", "normal")),
        (("", "Karras"), ("euler", "karras")),
        (("Restart", ""), ("Restart", "normal")),
    ],
)
def test_a_sampler_has_comfyuis_name(given: tuple[str, str], made: tuple[str, str]) -> None:
    assert sampler_and_scheduler(*given) == made


def test_txt2img_has_what_was_asked_for() -> None:
    fields = {
        "prompt": "a castle",
        "negative_prompt": "fog",
        "seed": 7,
        "steps": 4,
        "cfg_scale": 0,
        "width": 64,
        "height": 96,
        "batch_size": 2,
        "n_iter": 2,
        "denoising_strength": 0.3,
    }
    made = inputs(drawing(fields, "a.safetensors", "sdwatch/run/1.1"))
    assert made["checkpoint"] == {"ckpt_name": "a.safetensors"}
    assert made["latent-1"] == {"width": 64, "height": 96, "batch_size": 2}
    assert (made["positive"]["text"], made["negative"]["text"]) == ("a castle", "fog")
    assert [made[f"sample-{n}"]["seed"] for n in (1, 2)] == [7, 9]
    first = made["sample-1"]
    assert (first["steps"], first["cfg"], first["denoise"]) == (4, 0.0, 1.0)
    assert made["save-2"]["filename_prefix"] == "sdwatch/run/1.1/save-2"


def test_img2img_starts_from_the_image_in_its_size() -> None:
    fields = {"prompt": "a", "seed": 1, "init_images": ["…"], "width": 64, "height": 32}
    made = inputs(drawing(fields, "a.safetensors", "x", ["sdwatch/a.png"]))
    assert made["image-1"] == {"image": "sdwatch/a.png"}
    assert (made["scaled-1"]["width"], made["scaled-1"]["height"]) == (64, 32)
    assert made["latent-1"]["pixels"] == ["scaled-1", 0]
    assert made["sample-1"]["denoise"] == 0.75
    plain = inputs(drawing({"prompt": "a", "seed": 1, "init_images": ["…"]}, "a", "x", ["a.png"]))
    assert plain["latent-1"]["pixels"] == ["image-1", 0]


def test_an_upscale_has_the_size_that_was_asked_for() -> None:
    plain = inputs(enlarging({"upscaler_1": "Nearest", "upscaling_resize": 3}, "x", "a", (10, 20)))
    assert plain["scaled"]["image"] == ["image", 0]
    assert (plain["scaled"]["width"], plain["scaled"]["height"]) == (30, 60)
    assert plain["scaled"]["upscale_method"] == "nearest-exact"
    model = inputs(enlarging({"upscaler_1": "4x.pth"}, "x", "a", (10, 20)))
    assert model["model"] == {"model_name": "4x.pth"}
    assert model["scaled"]["image"] == ["grown", 0]
    assert (model["scaled"]["width"], model["scaled"]["height"]) == (20, 40)


@table(
    ("stage", "fields", "refused"),
    [
        ("txt2img", {"prompt": "a", "steps": 3, "width": 64}, []),
        ("txt2img", {"enable_hr": True, "hr_scale": 2}, ["enable_hr", "hr_scale"]),
        ("txt2img", {"enable_hr": False, "tiling": None, "styles": []}, []),
        (
            "txt2img",
            {"styles": ["a"], "alwayson_scripts": {"x": {}}},
            ["styles", "alwayson_scripts"],
        ),
        ("txt2img", {"override_settings": {"sd_model_checkpoint": "a"}}, []),
        ("txt2img", {"override_settings": {"CLIP_stop_at_last_layers": 2}}, ["override_settings"]),
        ("img2img", {"init_images": ["a"], "mask": "b"}, ["mask"]),
        ("extra-single-image", {"image": "a", "gfpgan_visibility": 1.0}, ["gfpgan_visibility"]),
    ],
)
def test_what_has_no_counterpart_is_refused(
    stage: str, fields: dict[str, Any], refused: list[str]
) -> None:
    assert [field for field, _ in refusals(stage, fields)] == refused
    assert all(why for _, why in refusals(stage, fields))


RECORDED = load("comfyui_nodes.json")["KSampler"]["input"]["required"]
"""ComfyUI 0.33.0: the recorded lists of its KSampler."""

NO_COUNTERPART = {"Restart", "PLMS", "DDIM CFG++"}
NO_SCHEDULE = {"Polyexponential", "Align Your Steps", "Align Your Steps GITS", "Turbo",
               "Align Your Steps 11", "Align Your Steps 32"}  # fmt: skip


@pytest.mark.parametrize("kind", ["a1111", "forge"])
def test_each_sampler_and_scheduler_of_others_is_mapped_or_refused(kind: str) -> None:
    lists = facts(kind, "catalogue_lists")
    samplers = [each["name"] for each in lists["samplers"]["body"]]
    schedulers = [each["label"] for each in lists["schedulers"]["body"]]
    own, kinds_of_schedule = RECORDED["sampler_name"][0], RECORDED["scheduler"][0]
    known, known_schedules = sampler_names(own), scheduler_names(kinds_of_schedule)
    assert {name for name in samplers if name not in known} <= NO_COUNTERPART
    assert {name for name in schedulers if name not in known_schedules} <= NO_SCHEDULE
    for sampler in set(samplers) & set(known):
        for scheduler in {"", *schedulers} & {"", *known_schedules}:
            made, schedule = sampler_and_scheduler(sampler, scheduler)
            assert made in own, (sampler, scheduler)
            assert schedule in kinds_of_schedule, (sampler, scheduler)


def test_every_name_of_the_recorded_lists_can_be_asked_for() -> None:
    for sampler in RECORDED["sampler_name"][0]:
        for scheduler in RECORDED["scheduler"][0]:
            assert sampler_and_scheduler(sampler, scheduler) == (sampler, scheduler)
