"""What people write who know a WebUI and not sdwatch: it is a job, or the message says how."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sdwatch.errors import JobError
from sdwatch.policy.job.job import Job, parse_job
from tests.support.tables import table

INFOTEXT = """\
masterpiece, 1girl, castle <lora:add_detail:0.6>,
on a cliff
Negative prompt: EasyNegative, (worst quality, low quality:1.4)
Steps: 30, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1557894541, Size: 512x768, \
Model hash: 7234b76e42, Model: chilloutmix, Clip skip: 2, ENSD: 31337
"""


def read(text: str | bytes) -> Job:
    data = text if isinstance(text, bytes) else text.encode()
    return parse_job(data, "job.yaml", None, "job")


def fields(text: str | bytes) -> dict[str, Any]:
    (stage,) = read(text).stages
    return dict(stage.fields)


def problems_in(text: str | bytes) -> str:
    with pytest.raises(JobError) as refused:
        read(text)
    return str(refused.value)


# -- the infotext of a picture


def test_an_infotext_pasted_as_it_is_becomes_a_job() -> None:
    assert fields(INFOTEXT) == {
        "prompt": "masterpiece, 1girl, castle <lora:add_detail:0.6>,\non a cliff",
        "negative_prompt": "EasyNegative, (worst quality, low quality:1.4)",
        "steps": 30,
        "sampler_name": "DPM++ 2M Karras",
        "cfg_scale": 7.0,
        "seed": 1557894541,
        "width": 512,
        "height": 768,
        "override_settings": {
            "sd_model_checkpoint": "chilloutmix",
            "CLIP_stop_at_last_layers": 2,
            "eta_noise_seed_delta": 31337,
        },
    }


def test_what_an_infotext_has_beside_is_named_as_left_out() -> None:
    (warning,) = read(INFOTEXT).warnings
    assert (warning.line, warning.message) == (
        4,
        "left out of the picture's settings: Model hash",
    )


def test_hires_variation_and_quoted_values_of_an_infotext_are_read() -> None:
    text = (
        "a castle\nSteps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7.5, Seed: 5, "
        "Size: 64x64, Denoising strength: 0.5, Hires upscale: 2, Hires steps: 10, Hires upscaler: "
        'Latent, Variation seed: 3, Variation seed strength: 0.2, Hires prompt: "a tower, \\"old\\"'
        ', tall", Refiner: xl [abc123], Refiner switch at: 0.8, Version: v1.10.1'
    )
    found = fields(text)
    assert found["enable_hr"] is True
    assert found["hr_prompt"] == 'a tower, "old", tall'
    assert (found["hr_scale"], found["hr_second_pass_steps"]) == (2.0, 10)
    assert (found["subseed"], found["subseed_strength"]) == (3, 0.2)
    assert (found["refiner_checkpoint"], found["scheduler"]) == ("xl", "Karras")
    assert "negative_prompt" not in found


def test_a_wrong_value_in_an_infotext_is_reported_with_its_place() -> None:
    assert "job.yaml:2:" in problems_in("a castle\nSteps: 20, Sampler: Euler, Size: 2x2, Seed: 5")


def test_a_job_that_only_speaks_of_steps_is_no_infotext() -> None:
    assert fields("prompt: 'Steps: 20, Sampler: x'\nsteps: 3\n")["steps"] == 3


def test_a_line_of_yaml_in_braces_is_no_infotext() -> None:
    text = "{prompt: a castle, width: 64,\n  steps: 3, seed: 5, height: 64}\n"
    assert fields(text) == {"prompt": "a castle", "width": 64, "steps": 3, "seed": 5, "height": 64}


# -- JSON and the dumps of WebUIs

DUMP: dict[str, Any] = {
    "prompt": "a portrait \U0001f600 a/b",
    "steps": 20,
    "width": 832.0,
    "seed_enable_extras": True,
    "firstpass_image": None,
    "s_tmax": None,
    "script_name": None,
    "script_args": [],
    "styles": [],
    "override_settings": {},
    "alwayson_scripts": {"Never OOM Integrated": {"args": [{"unet_enabled": True}]}},
    "hdr_mode": 0,
    "detailer_steps": 10,
    "hr_resize_context": "None",
}


@table(
    "text",
    [
        json.dumps(DUMP),
        json.dumps(DUMP, indent="\t"),
        json.dumps(DUMP, indent=4, ensure_ascii=False),
        json.dumps(DUMP, separators=(",", ":")),
        json.dumps(DUMP).replace("a/b", "a\\/b"),
        "\ufeff" + json.dumps(DUMP, indent="\t").replace("\n", "\r\n"),
    ],
)
def test_a_payload_dumped_by_a_webui_is_a_job(text: str) -> None:
    found = fields(text)
    assert found["prompt"] == DUMP["prompt"]
    assert (found["steps"], found["width"]) == (20, 832)
    assert found["alwayson_scripts"] == DUMP["alwayson_scripts"]
    assert not {"seed_enable_extras", "hdr_mode", "firstpass_image"} & set(found)


def test_a_dumped_field_that_is_left_out_is_named() -> None:
    messages = [warning.message for warning in read(json.dumps(DUMP)).warnings]
    assert any(message.startswith("seed_enable_extras is ignored") for message in messages)


def test_a_field_of_another_webui_that_says_something_is_not_passed_over() -> None:
    assert '"detailer_steps"' in problems_in("prompt: a\ndetailer_steps: 37\n")
    assert '"stepz"' in problems_in("prompt: a\nstepz: 0\n")


@pytest.mark.parametrize(("text", "value"), [("512.0", 512), ('"512"', 512), ("512.00", 512)])
def test_a_whole_float_is_an_integer(text: str, value: int) -> None:
    found = fields(f"prompt: a\nwidth: {text}\n")["width"]
    assert (found, type(found)) == (value, int)


@table("text", ["512.5", "512.", ".0", "5.12e2", "inf", "0x200"])
def test_no_other_float_is_an_integer(text: str) -> None:
    assert "width must be a whole number" in problems_in(f"prompt: a\nsteps: 3\nwidth: {text}\n")


# -- names that people use

ALIASES = {
    "checkpoint: foo": "override_settings: {sd_model_checkpoint: NAME}",
    "Model: foo": "override_settings: {sd_model_checkpoint: NAME}",
    "ckpt_name: foo": "override_settings: {sd_model_checkpoint: NAME}",
    "count: 4": '"n_iter"',
    "batch count: 4": '"n_iter"',
    "num_images: 4": '"n_iter"',
    "denoise: 0.5": '"denoising_strength"',
    "cfg: 7": '"cfg_scale"',
    "sampler: Euler": '"sampler_name"',
    "Schedule type: Karras": '"scheduler"',
    "clip_skip: 2": "CLIP_stop_at_last_layers: 2",
    "size: 512x768": "`width: 512` and `height: 768`",
    "hires: true": "`enable_hr: true`",
    "lora: x": "<lora:NAME:0.8>",
    "filename: a.png": "`name` names the job",
    "init_images: a.png": "`- img2img:`",
    "denoising: 0.3": '"denoising_strength"',
    "upscaler_1: Lanczos": "`- upscale:`",
    "controlnet_units: []": "alwayson_scripts: {ControlNet: {args: [...]}}",
    "Steps: 3": '"steps"',
    "stepz: 3": '"steps"',
}


@table(("line", "hint"), ALIASES.items())
def test_an_unknown_field_says_where_what_is_meant_goes(line: str, hint: str) -> None:
    assert hint in problems_in(f"prompt: a castle\n{line}\n")


# -- what YAML's own words do not explain

WRONG = {
    "a no-break space behind a colon": (
        "prompt: a castle\nsteps:\u00a020\n",
        "2:7: a no-break space (U+00A0) is here",
    ),
    "a no-break space in the indentation": (
        "stages:\n\u00a0 - txt2img: {prompt: a}\n",
        "2:1: a no-break space (U+00A0)",
    ),
    "an ideographic space": ("prompt:\u3000a\n", "1:8: a special space (U+3000)"),
    "text below | that is not indented": (
        "prompt: |\na castle, on a cliff\nin the evening\n",
        '2:1: text below "|" or ">" must be indented',
    ),
    "text below > in a stage": (
        "stages:\n  - txt2img:\n      prompt: >\n      a castle\n      steps: 3\n",
        '4:7: text below "|" or ">" must be indented',
    ),
    "a path of Windows in double quotes": (
        'prompt: a\nname: "C:\\Users\\ann"\n',
        "a backslash needs another one; use 'single quotes'",
    ),
    "another path of Windows in double quotes": (
        'prompt: a\nname: "D:\\stable\\xyz"\n',
        "a backslash needs another one; use 'single quotes'",
    ),
    "a module by its path": (
        "prompt: a\noverride_settings: {forge_additional_modules: [/models/VAE/ae.safetensors]}\n",
        'write its bare name, "ae.safetensors"',
    ),
    "a module by its path on Windows": (
        "prompt: a\noverride_settings: {sd_vae: 'D:\\models\\VAE\\ae.safetensors'}\n",
        'write its bare name, "ae.safetensors"',
    ),
}


@table(("text", "says"), WRONG.values(), ids=WRONG)
def test_the_message_says_what_to_do(text: str, says: str) -> None:
    assert says in problems_in(text)


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_says_how_to_save_the_file(coding: str) -> None:
    assert "save" in problems_in("prompt: a castle\n".encode(coding))
    assert "UTF-8" in problems_in("prompt: a castle\n".encode(coding))


def test_odd_spaces_inside_a_prompt_are_the_prompts_own() -> None:
    assert fields("prompt: a\u00a0castle:\u3000old\n")["prompt"] == "a\u00a0castle:\u3000old"
    assert "U+00A0" not in problems_in("prompt: a\u00a0castle\nstepz: 3\n")
