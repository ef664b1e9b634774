"""Is a 200 what was asked for? One table over the kinds of findings, and the legitimate cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sdwatch.policy.failure.check_levels import LEVELS
from sdwatch.policy.failure.reply_checks import (
    Finding,
    Picture,
    ReplyContents,
    findings,
    unknown_name,
)
from tests.support.tables import table

TXT2IMG: dict[str, Any] = {"prompt": "a cat", "width": 64, "height": 64, "seed": 1}
IMG2IMG: dict[str, Any] = {**TXT2IMG, "init_images": ["…"]}
EXTRA: dict[str, Any] = {"image": "…", "upscaler_1": "Lanczos", "upscaling_resize": 2}
MODEL = {"override_settings": {"sd_model_checkpoint": "random-sd15-a.safetensors [bd773b1ec0]"}}
A = {"sd_model_name": "random-sd15-a", "sd_model_hash": "bd773b1ec0"}
B = {"sd_model_name": "random-sd15-b", "sd_model_hash": "0123456789"}


def pictures(*sizes: tuple[int, int], plain: bool = False) -> list[Picture]:
    return [Picture(size, plain) for size in sizes]


def infotext(**parameters: str) -> dict[str, Any]:
    pairs = "".join(f", {key.replace('_', ' ')}: {value}" for key, value in parameters.items())
    return {"infotexts": [f"Sampler: no such\nNegative prompt: Model: x\nSteps: 2{pairs}"]}


def found(
    stage: str,
    payload: Mapping[str, Any],
    made: Sequence[Picture] = (Picture((64, 64)),),
    info: Mapping[str, Any] | None = None,
    given: Picture | None = None,
    **more: Any,
) -> list[str]:
    """The kinds that are found."""
    facts = ReplyContents(made, info or {}, lambda: given, **more)
    return [finding.kind for finding in findings(stage, payload, facts)]


GIVEN = Picture((64, 64))
WRONG: dict[str, tuple[list[str], str, dict[str, Any], dict[str, Any]]] = {
    "fewer than the batch": (["count"], "txt2img", {**TXT2IMG, "batch_size": 3}, {}),
    "only a grid": (["count"], "txt2img", TXT2IMG, {"made": []}),
    "half the size": (["size"], "txt2img", TXT2IMG, {"made": pictures((32, 32))}),
    "one side": (["size"], "txt2img", {"height": 96}, {"made": pictures((512, 64))}),
    "the second of a batch": (
        ["size"],
        "txt2img",
        {**TXT2IMG, "batch_size": 2},
        {"made": pictures((64, 64), (32, 64))},
    ),
    "hires that enlarged nothing": (
        ["size"],
        "txt2img",
        {**TXT2IMG, "enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent"},
        {},
    ),
    "img2img, neither asked nor given": (
        ["size"],
        "img2img",
        {**IMG2IMG, "width": 128},
        {"made": pictures((32, 32)), "given": Picture((96, 64))},
    ),
    "black": (["one_colour"], "txt2img", TXT2IMG, {"made": pictures((64, 64), plain=True)}),
    "black, of a coloured one": (
        ["one_colour"],
        "img2img",
        IMG2IMG,
        {"made": pictures((64, 64), plain=True), "given": GIVEN},
    ),
    "black, by a script": (
        ["one_colour"],
        "txt2img",
        {**TXT2IMG, "script_name": "X/Y/Z plot"},
        {"made": pictures((700, 90), plain=True)},
    ),
    "an upscale of colours is plain": (
        ["one_colour_upscale"],
        "extra-single-image",
        EXTRA,
        {"made": pictures((128, 128), plain=True), "given": GIVEN},
    ),
    "an upscale as it was": (
        ["upscale_unchanged"],
        "extra-single-image",
        EXTRA,
        {"given": GIVEN},
    ),
    "an upscale without upscaler": (
        ["upscale_unchanged"],
        "extra-single-image",
        {"image": "…", "upscaling_resize": 2},
        {"given": GIVEN},
    ),
    "an upscale by None": (
        ["upscale_unchanged"],
        "extra-single-image",
        {**EXTRA, "upscaler_1": "None"},
        {"given": GIVEN},
    ),
    "an upscale that says nothing": (
        ["upscale_unchanged"],
        "extra-single-image",
        {"image": "…"},
        {"given": GIVEN},
    ),
    "faces, and a size that nothing was named for": (
        ["upscale_unchanged"],
        "extra-single-image",
        {"gfpgan_visibility": 1, "upscaler_1": "None", "upscaling_resize": 2},
        {"given": GIVEN},
    ),
    "an upscale of another size": (
        ["size"],
        "extra-single-image",
        EXTRA,
        {"made": pictures((96, 96)), "given": GIVEN},
    ),
    "another model": (["model"], "txt2img", {**TXT2IMG, **MODEL}, {"info": B}),
    "another model, by SD.Next": (
        ["model"],
        "txt2img",
        {**TXT2IMG, **MODEL},
        {"info": {"sd_model_hash": "0123456789", **infotext(Model="random-sd15-b")}},
    ),
    "another model than the hash": (
        ["model"],
        "txt2img",
        {**TXT2IMG, "override_settings": {"sd_model_checkpoint": "bd773b1ec0"}},
        {"info": B},
    ),
    "unknown sampler": (
        ["sampler"],
        "txt2img",
        {**TXT2IMG, "sampler_name": "No Such Sampler"},
        {"info": {"sampler_name": "DPM++ 2M"}},
    ),
    "an alias that it does not resolve": (
        ["sampler"],
        "txt2img",
        {**TXT2IMG, "sampler_name": "k_euler"},
        {"info": {"sampler_name": "DPM++ 2M"}},
    ),
    "DPM++ 2M is not DPM++ 2M SDE": (
        ["sampler"],
        "txt2img",
        {**TXT2IMG, "sampler_name": "DPM++ 2M SDE"},
        {"info": {"sampler_name": "DPM++ 2M", **infotext(Schedule_type="Karras")}},
    ),
    "unknown scheduler": (
        ["scheduler"],
        "txt2img",
        {**TXT2IMG, "scheduler": "nope"},
        {"info": infotext(Schedule_type="Automatic")},
    ),
    "another seed": (["seed"], "txt2img", TXT2IMG, {"info": {"seed": 2}}),
    "interrupted": (
        ["interrupted"],
        "txt2img",
        {**TXT2IMG, "batch_size": 3},
        {"interrupted": "Interrupt"},
    ),
    "all at once": (
        ["size", "one_colour", "model", "seed", "fallback"],
        "txt2img",
        {**TXT2IMG, **MODEL},
        {
            "made": pictures((8, 8), plain=True),
            "info": {**B, "seed": 5},
            "log": ["Couldn't find network with name add_detail"],
        },
    ),
}


@table(("kinds", "stage", "payload", "more"), WRONG.values(), ids=WRONG)
def test_what_is_not_as_it_was_asked_for(
    kinds: list[str], stage: str, payload: dict[str, Any], more: dict[str, Any]
) -> None:
    assert found(stage, payload, **more) == kinds
    assert set(kinds) <= set(LEVELS)


RIGHT: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "says nothing of itself": ("txt2img", {**TXT2IMG, **MODEL, "sampler_name": "Euler"}, {}),
    "more than asked, as of a ControlNet": (
        "txt2img",
        TXT2IMG,
        {"made": [Picture((64, 64)), Picture((512, 512), one_colour=True)]},
    ),
    "no size asked": ("txt2img", {"prompt": "a cat"}, {"made": pictures((512, 512))}),
    "65 is 64": (
        "txt2img",
        {**TXT2IMG, "width": 65, "height": 70},
        {"made": pictures((64, 64)), "info": {"width": 65, "height": 70}},
    ),
    "65 is 128 to stable-diffusion.cpp": (
        "txt2img",
        {**TXT2IMG, "width": 65},
        {"made": pictures((128, 64))},
    ),
    "hires": (
        "txt2img",
        {**TXT2IMG, "enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Latent"},
        {"made": pictures((96, 96))},
    ),
    "hires to a size": (
        "txt2img",
        {**TXT2IMG, "enable_hr": True, "hr_resize_x": 128},
        {"made": pictures((128, 128))},
    ),
    "hires without an upscaler": ("txt2img", {**TXT2IMG, "enable_hr": True}, {}),
    "SD.Next's img2img keeps the size": (
        "img2img",
        {**IMG2IMG, "width": 128},
        {"made": pictures((96, 64)), "given": Picture((96, 64))},
    ),
    "one colour, as it was given": (
        "img2img",
        IMG2IMG,
        {"made": pictures((64, 64), plain=True), "given": Picture((64, 64), one_colour=True)},
    ),
    "a script": (
        "txt2img",
        {**TXT2IMG, "script_name": "X/Y/Z plot", "sampler_name": "Euler"},
        {"made": pictures((700, 90)), "info": {"sampler_name": "Heun", "seed": 7}},
    ),
    "upscaled": (
        "extra-single-image",
        EXTRA,
        {"made": pictures((128, 128)), "given": GIVEN},
    ),
    "upscaled, to a multiple of 8": (
        "extra-single-image",
        {**EXTRA, "upscaling_resize": 1.5},
        {"made": pictures((72, 72)), "given": Picture((50, 50))},
    ),
    "upscaled by 1": ("extra-single-image", {**EXTRA, "upscaling_resize": 1}, {"given": GIVEN}),
    "by 1, with None": (
        "extra-single-image",
        {"upscaler_1": "None", "upscaling_resize": 1},
        {"given": GIVEN},
    ),
    "only faces, with None": (
        "extra-single-image",
        {"codeformer_visibility": 1, "upscaler_1": "None"},
        {"given": GIVEN},
    ),
    "only faces": ("extra-single-image", {"gfpgan_visibility": 1}, {"given": GIVEN}),
    "upscaled to a size": (
        "extra-single-image",
        {
            **EXTRA,
            "resize_mode": 1,
            "upscaling_resize_w": 100,
            "upscaling_resize_h": 200,
        },
        {"made": pictures((100, 200)), "given": GIVEN},
    ),
    "upscaled to a size, uncropped": (
        "extra-single-image",
        {
            **EXTRA,
            "resize_mode": 1,
            "upscaling_resize_w": 100,
            "upscaling_resize_h": 200,
            "upscaling_crop": False,
        },
        {"made": pictures((200, 200)), "given": GIVEN},
    ),
    "an upscale of one colour": (
        "extra-single-image",
        EXTRA,
        {"made": pictures((128, 128), plain=True), "given": Picture((64, 64), one_colour=True)},
    ),
    "the model by its title": ("txt2img", {**TXT2IMG, **MODEL}, {"info": A}),
    "a title with an old hash": (
        "txt2img",
        {**TXT2IMG, "override_settings": {"sd_model_checkpoint": "random-sd15-a [00aa]"}},
        {"info": A},
    ),
    "a part of its name": (
        "txt2img",
        {**TXT2IMG, "override_settings": {"sd_model_checkpoint": "sd15-a"}},
        {"info": A},
    ),
    "with its folder": (
        "txt2img",
        {**TXT2IMG, "override_settings": {"sd_model_checkpoint": "old\\random-sd15-a.ckpt"}},
        {"info": A},
    ),
    "by its hash": (
        "txt2img",
        {**TXT2IMG, "override_settings": {"sd_model_checkpoint": "bd773b1ec0"}},
        {"info": A},
    ),
    "by its sha256": (
        "txt2img",
        {**TXT2IMG, "override_settings": {"sd_model_checkpoint": "bd773b1ec0" + 54 * "c"}},
        {"info": A},
    ),
    "stable-diffusion.cpp's names": (
        "txt2img",
        {**TXT2IMG, **MODEL, "sampler_name": "Euler"},
        {"info": {"sd_model_name": "random-sd15-a.safetensors", "sampler_name": "euler"}},
    ),
    "a second model": (
        "txt2img",
        {**TXT2IMG, **MODEL, "refiner_checkpoint": "random-sd15-b"},
        {"info": B},
    ),
    "the old style of a sampler": (
        "txt2img",
        {**TXT2IMG, "sampler_name": "DPM++ 2M Karras"},
        {"info": {"sampler_name": "DPM++ 2M", **infotext(Schedule_type="Karras")}},
    ),
    "the old style wins": (
        "txt2img",
        {**TXT2IMG, "sampler_name": "DPM++ 2M Karras", "scheduler": "exponential"},
        {"info": {"sampler_name": "DPM++ 2M", **infotext(Schedule_type="Karras")}},
    ),
    "an alias": (
        "txt2img",
        {**TXT2IMG, "sampler_name": "k_euler_ancestral"},
        {"info": {"sampler_name": "Euler a"}},
    ),
    "SD.Next's own scheduler": (
        "txt2img",
        {**TXT2IMG, "sampler_name": "Euler"},
        {"info": {"sampler_name": "Default"}},
    ),
    "a scheduler by its name": (
        "txt2img",
        {**TXT2IMG, "scheduler": "sgm_uniform"},
        {"info": infotext(Schedule_type="SGM Uniform")},
    ),
    "automatic": (
        "txt2img",
        {**TXT2IMG, "scheduler": "Automatic"},
        {"info": infotext(Schedule_type="Karras")},
    ),
    "SD.Next names classes": (
        "txt2img",
        {**TXT2IMG, "scheduler": "karras"},
        {"info": infotext(Scheduler="EulerDiscreteScheduler")},
    ),
    "a seed left to it": ("txt2img", {**TXT2IMG, "seed": -1}, {"info": {"seed": 99}}),
    "a seed that is too large": ("txt2img", {**TXT2IMG, "seed": 2**40}, {"info": {"seed": 0}}),
    "an honest infotext": (
        "txt2img",
        {**TXT2IMG, **MODEL},
        {"info": infotext(Hires_prompt='"a, Model: x"', Model="random-sd15-a")},
    ),
    "a flood": ("txt2img", TXT2IMG, {"info": {"infotexts": ["Steps: " + "9, " * 20_000]}}),
    "a log of good news": (
        "txt2img",
        TXT2IMG,
        {"log": ["[LORA] Loaded x for KModel-UNet with 192 keys at weight 1.0 (skipped 0 keys)"]},
    ),
    "SD.Next's boot": (
        "txt2img",
        TXT2IMG,
        {"log": ["08:06:36-708944 INFO     Network load: type=embeddings loaded=0 skipped=0"]},
    ),
}


@table(("stage", "payload", "more"), RIGHT.values(), ids=RIGHT)
def test_what_is_as_it_was_asked_for(
    stage: str, payload: dict[str, Any], more: dict[str, Any]
) -> None:
    assert found(stage, payload, **more) == []


@table(
    ("line", "words"),
    [
        ("Couldn't find network with name add_detail", "LoRA"),
        ("*** Unable to load RealESRGAN model https://github.com/x", "upscaler"),
        ("*** Unable to load ESRGAN model <webui>/models/ESRGAN/x.pth", "upscaler"),
        ("08:07:01-120000 WARNING  Override not found: checkpoint=nope", "checkpoint"),
        ("Checkpoint x not found; loading fallback y", "checkpoint"),
        ("Couldn't find VAE named x; using None instead", "VAE"),
        ("Unable to load face-restoration model", "faces"),
        ("08:07 ERROR    Could not find upscaler: name=x", "upscaler"),
        ('08:07 ERROR    Network load: type=LoRA name="x" not found', "LoRA"),
        ("[LORA] LoRA version mismatch for KModel: x.safetensors", "LoRA"),
    ],
)
def test_a_fallback_in_the_log_is_reported_once(line: str, words: str) -> None:
    made = ReplyContents([Picture((64, 64))], {}, log=["  0%|   | 0/2", line, line])
    (finding,) = findings("txt2img", TXT2IMG, made)
    assert (finding.kind, finding.line) == ("fallback", line)
    assert words in finding.words


SAMPLERS = [{"name": "Euler", "aliases": ["k_euler"]}, {"name": "DPM++ 2M"}]
MODELS = [{"title": "a.safetensors [12]", "model_name": "a", "hash": "12", "filename": "/x/a"}]


@table(
    ("finding", "listed", "said"),
    [
        (
            Finding("sampler", "", "Eulr"),
            SAMPLERS,
            "knows no sampler 'Eulr'; did you mean \"Euler\"?",
        ),
        (Finding("sampler", "", "Euler"), SAMPLERS, ""),
        (Finding("sampler", "", "DPM++ 2M Foo"), SAMPLERS, "knows no sampler 'DPM++ 2M Foo'"),
        (Finding("sampler", "", "Eulr"), [], ""),
        (Finding("sampler", "", "Eulr"), ["Euler", None], ""),
        (Finding("model", "", "a"), MODELS, ""),
        (Finding("model", "", "a.safetensors"), MODELS, ""),
        (Finding("model", "", "nope"), MODELS, "knows no model 'nope'"),
    ],
)
def test_a_name_that_the_webui_does_not_know(
    finding: Finding, listed: list[Any], said: str
) -> None:
    why = unknown_name(finding, listed)
    assert said in why
    assert bool(why) == bool(said)
