"""Templates: workflows that people add, with placeholders for the fields of a job."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdwatch.errors import Problem
from sdwatch.policy.job.stage.fields import ExtraSingleImageFields, Img2ImgFields, Txt2ImgFields
from sdwatch.policy.translation.built_in import drawing, enlarging, refusals
from sdwatch.policy.translation.lists import WorkflowRules, lists_of
from sdwatch.policy.translation.template_file import WorkflowTemplate, read_template
from sdwatch.policy.translation.templates import Templates, unfit
from sdwatch.policy.workflow.node_classes import NodeClasses, read_classes
from sdwatch.policy.workflow.saved_files import files_of
from sdwatch.policy.workflow.workflow import WorkflowError
from sdwatch.simulator.traits import load
from sdwatch.system.resources import config_folder
from tests.support.tables import table

FLUX = config_folder() / "comfyui-templates" / "flux-dev.txt2img.json"
NAMED = {"override_settings": {"sd_model_checkpoint": "Flux-Dev"}}


def flux() -> WorkflowTemplate:
    return read_template(FLUX.name, FLUX.read_bytes())


def text_of(change: str, to: str) -> bytes:
    text = FLUX.read_text(encoding="utf-8")
    assert change in text
    return text.replace(change, to).encode()


def classes(**lists: list[str]) -> NodeClasses:
    """The classes of the simulator, with these lists of names."""
    text = json.dumps(load("comfyui_nodes.json"))
    for name in ("checkpoints", "vae", "loras", "upscale_models", "input", "diffusion_models",
                 "text_encoders"):  # fmt: skip
        text = text.replace(json.dumps({"$list": name}), json.dumps(lists.get(name, [])))
    return read_classes(json.loads(text))


FILES = {
    "diffusion_models": ["flux1-dev.safetensors"],
    "text_encoders": ["clip_l.safetensors", "t5xxl_fp16.safetensors"],
    "vae": ["ae.safetensors"],
}


def test_the_template_for_flux_fits_a_comfyui_that_has_its_files() -> None:
    assert list(unfit(flux(), classes(**FILES), {})) == []
    ((field, why),) = unfit(flux(), classes(**{**FILES, "vae": ["sdxl.safetensors"]}), {})
    assert field == ""
    assert why.startswith("flux-dev.txt2img.json: ")
    assert "ae.safetensors" in why


def test_a_template_gets_what_the_job_asks_for_and_keeps_its_defaults() -> None:
    fields = {"prompt": "a {red|blue} owl", "seed": 7, "width": 640, "batch_size": 2,
              "sampler_name": "DPM++ 2M", **NAMED}  # fmt: skip
    nodes = flux().filled(fields, "sdwatch/x").nodes
    assert nodes["positive"].inputs["text"] == "a {red|blue} owl"
    assert nodes["guidance"].inputs["guidance"] == 3.5
    assert nodes["size"].inputs == {"width": 640, "height": 1024, "batch_size": 2}
    sampler = nodes["sampler"].inputs
    assert (sampler["seed"], sampler["steps"], sampler["cfg"]) == (7, 20, 1.0)
    assert (sampler["sampler_name"], sampler["scheduler"]) == ("dpmpp_2m", "simple")
    assert str(nodes["save"].inputs["filename_prefix"]).startswith("sdwatch/x/")
    saved = files_of(flux().filled(fields, "x"), classes())
    assert saved is not None
    assert [names[0] for names in saved] == [
        f"save-{list(flux().workflow.nodes).index('save') + 1}_0000{n}_.png" for n in (1, 2)
    ]


def test_a_prompt_that_looks_like_a_placeholder_is_a_prompt() -> None:
    nodes = flux().filled({"prompt": "{seed} and {width:3}", "seed": 1}, "x").nodes
    assert nodes["positive"].inputs["text"] == "{seed} and {width:3}"


def test_what_a_template_has_no_place_for_is_refused() -> None:
    fields = {"prompt": "a", "negative_prompt": "ugly", "enable_hr": True, "tiling": False,
              "override_settings": {"sd_model_checkpoint": "flux-dev", "sd_vae": "x"}}  # fmt: skip
    refused = dict(flux().refusals(fields))
    assert list(refused) == ["negative_prompt", "enable_hr", "override_settings"]
    assert "no {negative_prompt}" in refused["negative_prompt"]


def test_a_job_chooses_a_template_as_its_checkpoint() -> None:
    templates = Templates((flux(),))
    assert templates.named("txt2img", NAMED) == flux()
    assert templates.named("img2img", NAMED) is None
    assert "only flux-dev.txt2img.json" in templates.why_not("img2img", NAMED)
    assert templates.why_not("txt2img", {"prompt": "a"}) == ""
    found = lists_of(classes(checkpoints=["a.safetensors"]), (), templates)
    assert [item["model_name"] for item in found["sd-models"]] == ["a", "flux-dev"]


def test_a_job_is_checked_against_the_template_that_it_names() -> None:
    rules = WorkflowRules(classes(), Templates((flux(),)))
    why = [why for _, why in rules("txt2img", {"prompt": "a", **NAMED})]
    assert any("flux1-dev.safetensors" in each or "its list is empty" in each for each in why)
    fitting = WorkflowRules(classes(**FILES), Templates((flux(),)))
    assert list(fitting("txt2img", {"prompt": "a", **NAMED})) == []
    assert [field for field, _ in fitting("txt2img", {"styles": ["a"], **NAMED})] == ["styles"]


IN_RANGE = {"steps": 20, "cfg_scale": 7.5, "width": 64, "batch_size": 2, "seed": 2**64 - 1}
OUTSIDE = {
    "steps": (200_000, "steps must be at most 10000, not 200000"),
    "cfg_scale": (500.0, "cfg_scale must be at most 100, not 500"),
    "batch_size": (5000, "batch_size must be at most 4096, not 5000"),
    "height": (8, "height must be at least 16, not 8"),
    "seed": (2**64, f"seed must be at most {2**64 - 1}, not {2**64}"),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_number_outside_the_range_of_its_node_is_refused_by_the_field_of_the_job(
    name: str,
) -> None:
    value, why = OUTSIDE[name]
    known = classes(**FILES, checkpoints=["a.safetensors"])
    built_in = WorkflowRules(known)
    assert list(built_in("txt2img", IN_RANGE)) == []
    assert list(built_in("txt2img", {name: value})) == [(name, why)]
    ours = WorkflowRules(known, Templates((flux(),)))
    assert list(ours("txt2img", {name: value, **NAMED})) == [(name, why)]


def test_the_pictures_of_an_img2img_are_repeated_64_times_at_most() -> None:
    rules = WorkflowRules(classes(checkpoints=["a.safetensors"]))
    assert list(rules("img2img", {"batch_size": 64, "width": 64})) == []
    assert list(rules("img2img", {"batch_size": 65})) == [
        ("batch_size", "batch_size must be at most 64, not 65")
    ]


def test_the_last_seed_of_all_rounds_fits_and_so_does_any_that_is_drawn() -> None:
    rules = WorkflowRules(classes(checkpoints=["a.safetensors"]))
    near = {"seed": 2**64 - 3, "batch_size": 2}
    assert list(rules("txt2img", {**near, "n_iter": 2})) == []
    assert [field for field, _ in rules("txt2img", {**near, "n_iter": 3})] == ["seed"]
    small = dict(classes(**FILES))
    sampler = small["KSampler"]
    seeds = replace(sampler.inputs["seed"], maximum=2**31 - 1)
    small["KSampler"] = replace(sampler, inputs={**sampler.inputs, "seed": seeds})
    of_small = WorkflowRules(small, Templates((flux(),)))
    for fields in (NAMED, {"seed": -1, **NAMED}):
        ((field, why),) = of_small("txt2img", fields)
        assert (field, why) == (
            "", "flux-dev.txt2img.json: a random seed may be too large for it: give a seed "
            "of at most 2147483647",
        )  # fmt: skip


@table(
    ("change", "to", "place", "why"),
    [
        ('"{steps:20}"', '"{step:20}"', (49, 17), "did you mean.*steps"),
        ('"{steps:20}"', '"{steps:many}"', (49, 17), "must be a whole number"),
        ('"{seed}"', '"{seed:5}"', (48, 16), "no default"),
        ('"{seed}"', "5", (1, 1), "all its pictures were alike"),
        ('"text": "{prompt}"', '"text": "owl"', (1, 1), r'"\{prompt\}", which it needs'),
        ('"class_type": "SaveImage",', "", (66, 3), "node save has no class_type"),
        ('"inputs": {"text": ""', '"inputs": {"text": ', (33, 24), "not JSON"),
        ("filename_prefix", "prefix", (1, 1), "saves anything"),
        ('"{height:1024}"', '"{width:512}"', (40, 18), "two defaults"),
        ('"{height:1024}"', '"{image}"', (40, 18), "not a placeholder"),
    ],
)
def test_a_wrong_template_is_refused_with_its_place(
    change: str, to: str, place: tuple[int, int], why: str
) -> None:
    with pytest.raises(WorkflowError, match=why) as raised:
        read_template(FLUX.name, text_of(change, to))
    assert raised.value.place == place


def test_the_editors_own_format_is_refused_with_the_menu_to_use() -> None:
    with pytest.raises(WorkflowError, match="Export"):
        read_template(FLUX.name, b'{"nodes": [], "links": []}')


@pytest.mark.parametrize(
    "name", ["flux.json", "flux.hires.json", ".txt2img.json", "flux.workflow.json"]
)
def test_the_name_of_a_template_says_its_stage(name: str) -> None:
    with pytest.raises(WorkflowError, match=r"NAME\.txt2img\.json, .*upscale\.json$"):
        read_template(name, FLUX.read_bytes())


def test_a_template_stands_for_a_checkpoint_of_its_name_in_its_own_stage_only() -> None:
    named = {"override_settings": {"sd_model_checkpoint": "flux-dev"}}
    both = classes(**FILES, checkpoints=["flux-dev.safetensors", "b.safetensors"])
    rules = WorkflowRules(both, Templates((flux(),)))
    assert list(rules("img2img", named)) == []
    template = rules("txt2img", {"negative_prompt": "fog", **named})
    assert [field for field, _ in template] == ["negative_prompt"]
    alone = WorkflowRules(classes(**FILES, checkpoints=["b.ckpt"]), Templates((flux(),)))
    ((_, why),) = alone("img2img", named)
    assert "only flux-dev.txt2img.json" in why
    big = read_template("4x.pth.upscale.json", json.dumps(UPSCALE).encode())
    wrong = {"4x.pth": Problem(1, 2, "is broken", file="t/4x.pth.upscale.json")}
    enlarges = {"upscaler_1": "4x.pth"}
    models = classes(upscale_models=["4x.pth"])
    assert WorkflowRules(models, Templates((big,))).templates.why_not("txt2img", enlarges) == ""
    ((_, why),) = WorkflowRules(models, Templates((), wrong))("extra-single-image", enlarges)
    assert "is broken" in why


def test_a_template_that_is_wrong_refuses_jobs_of_its_own_stage_only() -> None:
    wrong = {"a": Problem(1, 2, "is broken", file="t/a.img2img.json")}
    rules = WorkflowRules(classes(checkpoints=["a.ckpt", "b.ckpt"]), Templates((), wrong))
    named = {"override_settings": {"sd_model_checkpoint": "a"}}
    assert list(rules("txt2img", named)) == []
    ((_, why),) = rules("img2img", named)
    assert "is broken" in why


UPSCALE = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "{image}"}},
    "2": {"class_type": "ImageScaleBy", "inputs": {
        "image": ["1", 0], "upscale_method": "lanczos", "scale_by": "{upscaling_resize:4}"}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
}  # fmt: skip


def test_a_template_may_enlarge() -> None:
    template = read_template("big.upscale.json", json.dumps(UPSCALE).encode())
    assert template.stage == "extra-single-image"
    nodes = template.filled({"image": "BASE64", "upscaler_1": "big"}, "x", ["a.png"]).nodes
    assert nodes["1"].inputs["image"] == "a.png"
    assert nodes["2"].inputs["scale_by"] == 4.0
    with pytest.raises(WorkflowError, match="one image"):
        template.filled({}, "x", ["a.png", "b.png"])
    assert Templates((template,)).names(upscale=True) == ["big"]
    assert list(template.refusals({"upscaler_1": "big", "upscaler_2": "x"})) == [
        ("upscaler_2", "the template big has no {upscaler_2} in it")
    ]
    assert list(unfit(template, classes(), {})) == []


def test_a_number_of_pictures_in_the_file_is_nobodys_guess() -> None:
    fixed = read_template(FLUX.name, text_of('"{batch_size:1}"', "4"))
    fixed_names = files_of(fixed.filled({"prompt": "x", "seed": 1}, "x"), classes())
    assert len(fixed_names or ()) == 4


# -- the built-in workflows: every field of a job is used, or refused with the reason

CHANGED: dict[str, Any] = {
    "prompt": "an owl", "negative_prompt": "ugly", "seed": 9, "steps": 3, "cfg_scale": 2.0,
    "width": 128, "height": 128, "sampler_name": "Heun", "scheduler": "Karras", "batch_size": 2,
    "n_iter": 2, "denoising_strength": 0.2, "upscaler_1": "4x.pth", "upscaling_resize": 3.0,
    "image": "b.png", "init_images": ["b.png"], "resize_mode": 1,
    "override_settings": {"sd_vae": "x"},
}  # fmt: skip
_OF_EACH_CALL = ("override_settings", "init_images", "image")


def made(stage: str, fields: dict[str, Any]) -> Any:
    images = ["a.png"] if stage == "img2img" else []
    if stage == "extra-single-image":
        return enlarging(fields, "x", "a.png", (64, 64)).as_prompt()
    return drawing({"seed": 1, "prompt": "a", **fields}, "m", "x", images).as_prompt()


@pytest.mark.parametrize(
    ("stage", "kind"),
    [
        ("txt2img", Txt2ImgFields),
        ("img2img", Img2ImgFields),
        ("extra-single-image", ExtraSingleImageFields),
    ],
)
def test_every_field_of_a_job_is_used_or_refused(stage: str, kind: Any) -> None:
    silent = []
    for name in kind.model_fields:
        value = CHANGED.get(name, "something")
        refused = dict(refusals(stage, {name: value}))
        if refused:
            assert refused[name]
            continue
        given = {"init_images": ["a"]} if stage == "img2img" else {}
        uses = made(stage, {**given, name: value}) != made(stage, given)
        if not uses and name not in _OF_EACH_CALL:
            silent.append(name)
    # txt2img has no image to keep a part of: AUTOMATIC1111 reads this there for hires alone.
    assert silent == (["denoising_strength"] if stage == "txt2img" else [])


def test_a_template_folder_is_not_needed(tmp_path: Path) -> None:
    from sdwatch.webui.http.template_folder import read_templates

    assert read_templates(None) == Templates()
    missing = read_templates(tmp_path / "none")
    assert "none" in missing.wrong[""].located("")
    (tmp_path / "flux-dev.txt2img.json").write_bytes(FLUX.read_bytes())
    (tmp_path / "bad.txt2img.json").write_text("{")
    (tmp_path / "README.md").write_text("not one")
    found = read_templates(tmp_path)
    assert [each.name for each in found.known] == ["flux-dev"]
    assert found.wrong["bad"].located("") == (
        f"{tmp_path / 'bad.txt2img.json'}:1:2: " + found.wrong["bad"].message
    )
    named = {"override_settings": {"sd_model_checkpoint": "bad"}}
    assert "bad.txt2img.json:1:2" in found.why_not("txt2img", named)
