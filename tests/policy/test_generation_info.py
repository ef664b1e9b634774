"""What a WebUI says it used: typed, bounded, and without prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdwatch.policy.failure.generation_info import named_in, what_made_it
from tests.support.tables import table

FACTS = Path(__file__).parents[1] / "facts"


def recorded_info(kind: str) -> dict[str, Any]:
    if kind == "forge":
        text = (FACTS / kind / "post_txt2img.json").read_text(encoding="utf-8")
        body = json.loads(text)["body"]
    else:
        text = (FACTS / kind / "replies.json").read_text(encoding="utf-8")
        body = json.loads(text)["post_txt2img"]["body"]
    info: dict[str, Any] = json.loads(body["info"])
    return info


def with_line(line: str, **info: Any) -> dict[str, Any]:
    return {"infotexts": [f"a castle\nNegative prompt: blurry\n{line}"], **info}


@table(
    ("kind", "said"),
    [
        ("forge", {"sampler": "Euler", "scheduler": "Automatic", "cfg_scale": 7.0, "clip_skip": 1}),
        ("a1111", {"sampler": "Euler", "scheduler": "Automatic", "cfg_scale": 7.0, "clip_skip": 1}),
        ("sdnext", {"sampler": "Euler", "pipeline": "StableDiffusionPipeline", "cfg_scale": 6.0}),
        ("sdcpp", {"sampler": "euler", "rng": "cuda", "cfg_scale": 7.0}),
    ],
)
def test_each_kind_says_what_it_used(kind: str, said: dict[str, Any]) -> None:
    made = what_made_it(recorded_info(kind))
    same = {"steps": 2, "width": 64, "height": 64, "seeds": [1]}
    assert made["used"].items() >= {**said, **same}.items()
    assert made["model"].startswith("random-sd15-a")
    assert "cat" not in json.dumps(made).replace("cation", "")


def test_the_second_pass_the_vae_and_the_modules_are_read_from_the_infotext() -> None:
    line = (
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5.5, Seed: 7, "
        "Size: 512x768, Model hash: bd773b1ec0, Model: castle, VAE: ae.safetensors, "
        "VAE hash: abc, Clip skip: 2, Denoising strength: 0.45, Module 1: ae, Module 2: t5, "
        "Hires Module 1: Use same choices, Hires upscale: 1.5, Hires steps: 12, "
        'Hires upscaler: R-ESRGAN 4x+, Hires prompt: "a secret, castle", Version: neo'
    )
    made = what_made_it(with_line(line))
    assert made["webui_version"] == "neo"
    assert made["used"] == {
        "sampler": "DPM++ 2M",
        "scheduler": "Karras",
        "steps": 20,
        "cfg_scale": 5.5,
        "denoising_strength": 0.45,
        "clip_skip": 2,
        "vae": "ae.safetensors",
        "vae_hash": "abc",
        "modules": ["ae", "t5"],
        "hires": {
            "scale": 1.5,
            "steps": 12,
            "upscaler": "R-ESRGAN 4x+",
            "modules": ["Use same choices"],
        },
    }


def test_a_second_prompt_is_in_none_of_it_whether_it_is_quoted_or_not() -> None:
    for prompt in ("secret", '"a secret, castle"', '"Steps: secret"'):
        made = what_made_it(with_line(f"Steps: 2, Hires prompt: {prompt}, Sampler: Euler"))
        assert made == {"used": {"sampler": "Euler", "steps": 2}}


def test_all_seeds_of_a_call_are_there_in_the_order_of_its_images() -> None:
    used = what_made_it({"all_seeds": [5, 6, 7], "all_subseeds": [1, 1, 1]})["used"]
    assert (used["seeds"], used["subseeds"]) == ([5, 6, 7], [1, 1, 1])


@table(
    "info",
    [
        {},
        {"infotexts": None},
        {"infotexts": [{"a": 1}]},
        {"steps": "many", "cfg_scale": float("nan"), "width": True, "height": 2**70},
        {"sampler_name": ["Euler"], "all_seeds": [1, "x"], "clip_skip": 1.5},
        with_line("Steps: x, Hires upscale: one, Hires steps: 1e999, CFG scale: nan"),
        with_line("Steps: " + "9" * 30_000),
    ],
)
def test_what_is_of_another_type_or_beyond_all_bounds_is_left_out(info: dict[str, Any]) -> None:
    assert what_made_it(info) == {}


def test_more_seeds_than_a_reply_has_images_are_no_list_of_seeds() -> None:
    assert what_made_it({"all_seeds": list(range(5000))}) == {}


def test_names_are_bounded_and_command_no_terminal() -> None:
    assert named_in({"version": "v" * 1000}, "version") == "v" * 200
    used = what_made_it({"sampler_name": "Eu\x1b[2Jler"})["used"]
    assert used["sampler"] == "Eu\\x1b[2Jler"
