"""Jobs against the lists of the four real WebUIs, as recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sdwatch.policy.job.calls.catalogue import Catalogue, catalogue_of
from sdwatch.policy.job.calls.preflight import Checked, check_against
from sdwatch.policy.job.job import parse_job
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.kinds.forge_neo import FORGE_NEO
from sdwatch.policy.kinds.table import kind_named
from sdwatch.policy.kinds.unknown import UNKNOWN
from tests.facts.catalogues import KINDS, catalogue
from tests.support.tables import table

ALL = KINDS
SAME = ("forge", "a1111")


def checked(kind: str, stage: str = "txt2img", most: int = 100_000_000, **fields: Any) -> Checked:
    """One stage, after a txt2img where it needs an image."""
    lines = [f"      {name}: {json.dumps(value)}" for name, value in fields.items()]
    first = [] if stage == "txt2img" else ["  - txt2img: {width: 64, height: 64}"]
    text = "\n".join(["stages:", *first, f"  - {stage}:", *lines])
    return check_against(parse_job(text.encode(), "job.yaml"), catalogue(kind), most)


def problems_in(kind: str, stage: str = "txt2img", **fields: Any) -> str:
    """The one problem."""
    problems = checked(kind, stage, **fields).problems
    assert len(problems) == 1, problems
    return problems[0].message


A = "random-sd15-a"
SHA = "bd773b1ec0c0ec93e2b6ae902691b1ac4ba99719cb174f8e52070f545f5769c5"


def model(name: str) -> dict[str, Any]:
    return {"override_settings": {"sd_model_checkpoint": name}}


GOOD: list[tuple[tuple[str, ...], str, dict[str, Any]]] = [
    (ALL, "txt2img", {"prompt": "a castle", "steps": 20, "width": 512, "height": 768}),
    (SAME, "txt2img", {"sampler_name": "DPM++ 2M"}),
    (SAME, "txt2img", {"sampler_name": "DPM++ 2M Karras"}),
    (SAME, "txt2img", {"sampler_name": "DPM++ 2M SDE Heun SGM Uniform"}),
    (SAME, "txt2img", {"sampler_index": "Euler a", "scheduler": "karras"}),
    (SAME, "txt2img", {"scheduler": "SGM Uniform"}),
    (("sdnext",), "txt2img", {"sampler_name": "dpm++ 2m sde"}),
    (("sdnext",), "txt2img", {"sampler_name": "Default"}),
    (("sdcpp",), "txt2img", {"sampler_name": "euler_a", "scheduler": "karras"}),
    (("sdcpp",), "txt2img", {"sampler_name": "Euler a"}),
    (ALL, "txt2img", model(A)),
    (SAME, "txt2img", model(f"{A}.safetensors")),
    (SAME, "txt2img", model(f"{A}.safetensors [bd773b1ec0]")),
    ((*SAME, "sdnext"), "txt2img", model(f"{A} [bd773b1ec0]")),
    ((*SAME, "sdnext"), "txt2img", model("bd773b1ec0")),
    ((*SAME, "sdnext"), "txt2img", model(SHA)),
    (("sdnext",), "txt2img", model("stable-diffusion-v1-5")),
    (SAME, "txt2img", model("random-sd15-b.safetensors")),
    (SAME, "txt2img", model("old.ckpt [81761151]")),  # no list has the first kind of hash
    (SAME, "txt2img", {"refiner_checkpoint": "sd15-b", "refiner_switch_at": 0.5}),
    (SAME, "txt2img", {"refiner_checkpoint": "None"}),
    (SAME, "txt2img", {"enable_hr": True, "hr_upscaler": "Latent (nearest)"}),
    (SAME, "txt2img", {"enable_hr": True, "hr_sampler_name": "Use same sampler"}),
    (SAME, "txt2img", {"hr_upscaler": "is not used"}),
    (("sdnext",), "upscale", {"upscaler_1": "None"}),
    (SAME, "upscale", {"upscaler_1": "None", "upscaling_resize": 1}),
    (SAME, "upscale", {"upscaler_1": "None", "gfpgan_visibility": 1}),
    (SAME, "upscale", {"upscaler_1": "R-ESRGAN 4x+", "upscaling_resize": 2}),
    (("sdnext",), "upscale", {"upscaler_1": "Resize Lanczos"}),
    (SAME, "txt2img", {"script_name": "X/Y/Z plot", "script_args": []}),
    (SAME, "txt2img", {"alwayson_scripts": {"Refiner": {"args": []}}}),
    (("forge",), "txt2img", {"styles": ["Kamph_Default_Negative (NO)"]}),
    (("sdcpp",), "txt2img", {"prompt": "a castle <lora:zz-nan:0.7>"}),
    (SAME, "txt2img", {"override_settings": {"CLIP_stop_at_last_layers": 2}}),
    (("sdnext",), "txt2img", {"override_settings": {"an_extensions_own": 2}}),
    (("a1111",), "txt2img", {"override_settings": {"sd_vae": "Automatic"}}),
    (("forge",), "txt2img", {"override_settings": {"forge_additional_modules": []}}),
    (("a1111",), "txt2img", {"width": 8, "height": 8}),
    (("forge",), "txt2img", {"width": 8, "height": 64}),
]


@table(("kinds", "stage", "fields"), GOOD, ids=repr)
def test_what_a_webui_does_is_let_through(
    kinds: tuple[str, ...], stage: str, fields: dict[str, Any]
) -> None:
    for kind in kinds:
        assert checked(kind, stage, **fields).problems == (), kind


MEANT = "; did you mean "
BAD: list[tuple[tuple[str, ...], str, dict[str, Any], str]] = [
    (SAME, "txt2img", {"sampler_name": "DPM+ 2M"}, f'no sampler "DPM+ 2M"{MEANT}"DPM++ 2M"?'),
    (SAME, "txt2img", {"sampler_name": "euler"}, f'no sampler "euler"{MEANT}"Euler"?'),
    (SAME, "txt2img", {"sampler_name": "k_lms"}, f'no sampler "k_lms"{MEANT}"LMS"?'),
    (("sdnext",), "txt2img", {"sampler_name": "DPM++ 2M Karras"}, "no sampler"),
    (("sdnext",), "txt2img", {"sampler_name": "LMS"}, f'no sampler "LMS"{MEANT}"LMSD"?'),
    (("sdcpp",), "txt2img", {"sampler_name": "DPM++ 2M Karras"}, f'{MEANT}"dpm++2m"?'),
    (SAME, "txt2img", {"scheduler": "KARRAS"}, f'no scheduler "KARRAS"{MEANT}"Karras"?'),
    (("sdcpp",), "txt2img", {"scheduler": "nope"}, "no scheduler"),
    (("sdnext",), "txt2img", {"scheduler": "Karras"}, "knows no field scheduler"),
    (ALL, "txt2img", model("no-such"), 'no checkpoint "no-such"'),
    (SAME, "txt2img", model("random-sd15-A"), f'{MEANT}"random-sd15-a.safetensors [bd773b1ec0]"?'),
    (SAME, "txt2img", model("sd15-b"), "no checkpoint"),  # only a refiner is searched for
    (SAME, "txt2img", {"refiner_checkpoint": "no-such"}, "no checkpoint"),
    (SAME, "txt2img", {"enable_hr": True, "hr_upscaler": "latent"}, f'{MEANT}"Latent"?'),
    (SAME, "upscale", {"upscaler_1": "lanczos"}, f'no upscaler "lanczos"{MEANT}"Lanczos"?'),
    (("sdnext",), "upscale", {"upscaler_1": "R-ESRGAN 4x+"}, "no upscaler"),
    (SAME, "upscale", {"upscaler_1": "None"}, 'has the upscaler_1 "None"; there are Lanczos, Near'),
    (SAME,
     "upscale", {"upscaler_2": "Lanczos"}, "to enlarge a picture, and this stage names none;"),
    (SAME, "upscale", {"upscaling_resize": 9000}, "needs an upscaler to enlarge"),
    (SAME, "upscale", {"upscaler_1": "None", "resize_mode": 1}, "needs an upscaler"),
    (SAME, "txt2img", {"script_name": "no such"}, 'no selectable script "no such"'),
    (SAME, "txt2img", {"alwayson_scripts": {"refinr": {"args": []}}}, f'{MEANT}"refiner"?'),
    (("sdcpp",), "txt2img", {"script_name": "X/Y/Z plot"}, "has no scripts"),
    (("sdcpp",), "txt2img", {"override_settings": {"eta": 1}}, "has no settings"),
    (("forge",), "txt2img", {"styles": ["Kamph_Default"]}, "no style"),
    (("sdcpp",), "txt2img", {"prompt": "a <lora:zz-nann:1>"}, f'LoRA "zz-nann"{MEANT}"zz-nan"?'),
    (SAME, "txt2img", {"prompt": "<lora:x:1> <lora:x:2>"}, 'no LoRA "x"; its list is empty'),
    (SAME, "txt2img", {"prompt": "a, embedding:EasyNegative"}, 'no embedding "EasyNegative"'),
    (SAME, "txt2img", {"negative_prompt": "embedding:EasyNeg"}, 'no embedding "EasyNeg"'),
    (SAME, "txt2img", {"hr_negative_prompt": "embedding:x", "enable_hr": True}, 'embedding "x"'),
    (SAME, "txt2img", {"override_settings": {"CLIP_stop_at_last_layer": 2}}, f"{MEANT}"),
    (SAME, "txt2img", {"override_settings": {"clip_stop_at_last": 2}}, f'{MEANT}"CLIP_stop_at_las'),
    (SAME, "txt2img", {"override_settings": {"xyz": 2}}, 'has no setting "xyz" (if an ext'),
    (("a1111",), "txt2img", {"override_settings": {"forge_additional_modules": []}}, "no setting"),
    (("a1111",), "txt2img", {"override_settings": {"sd_vae": "a.vae"}}, 'no VAE "a.vae"'),
    (("forge",), "txt2img", {"hr_additional_modules": ["x"], "enable_hr": True}, "no module"),
    (("a1111",), "txt2img", {"hr_cfg": 2}, "(AUTOMATIC1111) knows no field hr_cfg"),
    (("sdnext",), "txt2img", {"restore_faces": True}, "(SD.Next) knows no field restore_faces"),
    (("sdnext",), "upscale", {"upscaling_resize": 9}, "only if it is at most 8, not 9"),
    (("sdcpp",), "upscale", {}, "(stable-diffusion.cpp) has no extra-single-image"),
    (ALL, "txt2img", {"width": 65},
     "width must be a multiple of 8, not 65; the WebUI would silently use 64"),
    (ALL, "txt2img", {"height": 1001},
     "height must be a multiple of 8, not 1001; the WebUI would silently use 1000"),
    (("forge", "sdnext"), "txt2img", {"width": 8, "height": 8}, "500 to a size of 8x8"),
]  # fmt: skip


@table(("kinds", "stage", "fields", "message"), BAD, ids=repr)
def test_what_a_webui_cannot_do_is_reported(
    kinds: tuple[str, ...], stage: str, fields: dict[str, Any], message: str
) -> None:
    for kind in kinds:
        assert message in problems_in(kind, stage, **fields), kind


@table(
    ("fields", "words"),
    [
        ({"width": 16384, "height": 8192}, "16384x8192 has 134.2 megapixels"),
        ({"width": 4096, "height": 4096, "batch_size": 8}, "4096x4096, 8 of them, has 134.2"),
        ({"width": 4096, "height": 4096, "enable_hr": True, "hr_scale": 3}, "12288x12288"),
        ({"enable_hr": True, "hr_resize_x": 16384}, "16384x16384"),
    ],
)
def test_a_generation_that_is_too_large_is_reported(fields: dict[str, Any], words: str) -> None:
    message = problems_in("forge", **fields)
    assert words in message
    assert "max_generation in the config allows 100" in message


def test_an_upscale_is_bounded_where_its_input_is_known() -> None:
    by = {"upscaler_1": "Lanczos"}
    assert "64000x64000" in problems_in("forge", "upscale", **by, upscaling_resize=1000)
    assert not checked("forge", "upscale", **by, upscaling_resize=100).problems
    big = {"resize_mode": 1, "upscaling_resize_w": 20000, "upscaling_resize_h": 20000}
    assert "20000x20000" in problems_in("forge", "upscale", **by, **big)
    assert (
        "max_generation" in checked("forge", width=512, height=512, most=1000).problems[0].message
    )


def with_images(*stages: str, size: tuple[int, int] = (64, 64)) -> list[str]:
    """What is reported with Forge about a job whose folder has images of this size."""
    text = "\n".join(["stages:", *(f"  - {stage}" for stage in stages)])
    job = parse_job(text.encode(), "job.yaml", frozenset({"a.png"}), look=lambda _: size)
    return [problem.message for problem in check_against(job, catalogue("forge")).problems]


def test_an_upscale_is_bounded_by_the_image_that_lies_beside_the_job() -> None:
    upscale = "upscale: {image: a.png, upscaler_1: Lanczos, upscaling_resize: %s}"
    (message,) = with_images(upscale % 400)
    assert message.startswith("25600x25600 has 655.4 megapixels; max_generation")
    assert with_images(upscale % 100) == []
    # Its own image is taken, not that of the stage before.
    assert with_images("txt2img: {width: 2048, height: 2048}", upscale % 100) == []


def test_what_later_stages_make_is_bounded_from_the_first_image_on() -> None:
    image, twice = "img2img: {init_images: a.png}", "upscale: {upscaler_1: Lanczos}"
    assert with_images(image, *[twice] * 7) == []
    assert "16384x16384" in with_images(image, *[twice] * 8)[0]
    (message,) = with_images("img2img: {init_images: a.png, batch_size: 2}", size=(8192, 8192))
    assert message.startswith("8192x8192, 2 of them, has 134.2 megapixels")


def test_an_upscale_to_a_size_enlarges_all_of_the_image_before_it_cuts() -> None:
    to_size = ("upscale: {image: a.png, upscaler_1: Lanczos, resize_mode: 1, "
               "upscaling_resize_w: 2048, upscaling_resize_h: 64%s}")  # fmt: skip
    assert with_images(to_size % "") == []
    (message,) = with_images(to_size % "", size=(64, 4096))
    assert message.startswith("2048x131072 has 268.4 megapixels")
    again = "upscale: {upscaler_1: Lanczos, upscaling_resize: 10}"
    assert with_images(to_size % "", again) == []
    assert "20480x20480" in with_images(to_size % ", upscaling_crop: false", again)[0]


def test_factors_beyond_all_measure_are_counted_with() -> None:
    upscale = "upscale: {image: a.png, upscaler_1: Lanczos, upscaling_resize: %s}"
    (message,) = with_images(upscale % "1e308")
    assert "max_generation" in message
    to_size = "upscale: {upscaler_1: Lanczos, resize_mode: 1}"
    assert with_images(upscale % "1e-9", to_size) == []
    hires = "txt2img: {enable_hr: true, hr_scale: 1e-9}"
    assert with_images(hires, to_size, "img2img") == []


def test_an_upscale_that_enlarges_nothing_leaves_the_size_as_it_was() -> None:
    nothing = "upscale: {image: a.png, upscaler_1: None, upscaling_resize: 1}"
    assert with_images(nothing, "upscale: {upscaler_1: Lanczos, upscaling_resize: 100}") == []
    unknown = "upscale: {image: a.png, upscaler_1: None, resize_mode: 1}"
    assert with_images(unknown, size=(512, 512)) == []


def test_each_problem_stands_where_the_value_does() -> None:
    text = b"""\
prompt: |
  a castle
  <lora:x:1>
sampler_name: Eulr
styles: [one, two]
override_settings:
  CLIP_stop_at_last_layers: 2
  sd_model_checkpoint: "nope"
width: 100
"""
    problems = check_against(parse_job(text, "job.yaml"), catalogue("forge")).problems
    places = {problem.message.split(") has no ")[-1][:7]: problem for problem in problems}
    assert {name: (p.line, p.column) for name, p in places.items()} == {
        'LoRA "x': (1, 9),
        "sampler": (4, 15),
        'style "': (5, 15),
        "checkpo": (8, 24),
        "width m": (9, 8),
    }
    assert sorted((p.line, p.column) for p in problems).count((5, 10)) == 1


def test_a_missing_stage_is_reported_where_it_starts() -> None:
    (problem,) = checked("sdcpp", "upscale").problems
    assert (problem.line, problem.column) == (3, 5)


def test_lists_that_are_not_there_are_skipped_and_said_so() -> None:
    result = checked("sdcpp", styles=["x"], sampler_name="euler", prompt="embedding:abc")
    assert result.problems == ()
    assert [note.split(":")[0] for note in result.notes] == ["embeddings", "prompt-styles"]
    note, _ = checked("sdnext", script_name="none of them").notes
    assert note == "scripts: not checked: this WebUI (SD.Next): it answered 404"


def test_nothing_is_held_against_a_job_by_what_is_not_known() -> None:
    text = b"prompt: <lora:a:1>\nsampler_name: b\nscheduler: c\noverride_settings: {sd_vae: d}"
    result = check_against(parse_job(text, "job.yaml"), Catalogue())
    assert result.problems == ()
    names = ["fields", "loras", "samplers", "schedulers", "settings", "sd-vae"]
    assert [note.split(":")[0] for note in result.notes] == names
    assert checked_by_unknown_kind("DPM++ 2m karras").problems == ()


def checked_by_unknown_kind(sampler: str) -> Checked:
    """By names that are there, of a WebUI that is not known: what any would take is taken."""
    made = Catalogue()
    for route in ("samplers", "schedulers"):
        body = [{"name": "DPM++ 2M"}] if route == "samplers" else [{"name": "karras"}]
        made = made.with_list(route, body)
    return check_against(parse_job(f"prompt: a\nsampler_name: {sampler}".encode(), "j"), made)


def test_names_that_a_script_makes_up_are_not_looked_up() -> None:
    made_up = "<lora:{detail|sharp}:1> <lora:__loras__:0.7> <lora:${it}:1> embedding:__x__"
    assert checked("forge", prompt=made_up).problems == ()
    assert '"x_y"' in problems_in("forge", prompt="{<lora:x_y:1>|b}")


def test_a_list_that_names_nothing_is_skipped_and_said_so() -> None:
    job = parse_job(b"prompt: a\nsampler_name: Euler", "job.yaml")
    made = Catalogue().without_list("samplers", "its answer cannot be read: it names nothing")
    result = check_against(job, made)
    assert result.problems == ()
    assert any("names nothing" in note for note in result.notes)


def test_what_may_be_a_prompt_is_not_shown() -> None:
    prompt = "a red castle on a green hill"
    for fields in ({"prompt": f"<lora:{prompt}:1>"}, {"sampler_name": prompt}):
        message = problems_in("forge", **fields)
        assert "a text of 28 characters" in message
        assert "castle" not in message
    assert '"a_name_of_one_long_word_v2.0-final"' in problems_in(
        "forge", prompt="<lora:a_name_of_one_long_word_v2.0-final:1>"
    )


def test_a_setting_that_the_config_allows_is_taken_for_one_that_is_not_listed() -> None:
    job = parse_job(b"prompt: a\noverride_settings: {An_Extensions_Own: 2}", "job.yaml")
    rules = JobRules(allow=("an_extensions_own",))
    assert check_against(job, catalogue("forge"), rules=rules).problems == ()
    assert check_against(job, catalogue("forge")).problems


def test_embeddings_of_sdnext_are_names_and_none_without_a_model() -> None:
    body = {"loaded": ["EasyNegative"], "skipped": ["for-sdxl"]}
    made = catalogue("sdnext").with_list("embeddings", body)
    for name in ("easynegative", "for-sdxl"):
        job = parse_job(f"prompt: a embedding:{name}".encode(), "job.yaml")
        assert check_against(job, made).problems == ()
    job = parse_job(b"prompt: a\nnegative_prompt: embedding:EasyNegativ", "job.yaml")
    (problem,) = check_against(job, made).problems
    assert problem.message.endswith('no embedding "EasyNegativ"; did you mean "EasyNegative"?')
    with pytest.raises(ValueError, match="empty, as it also is without a model"):
        catalogue("sdnext").with_list("embeddings", {"loaded": [], "skipped": []})


def test_a_negative_prompt_has_no_loras() -> None:
    assert checked("forge", negative_prompt="<lora:x:1>").problems == ()


def test_only_lists_that_may_have_changed_are_to_be_read_again() -> None:
    assert checked("forge", sampler_name="x").stale == frozenset()
    assert checked("forge", **model("x")).stale == {"sd-models"}
    assert checked("forge", prompt="<lora:x:1>", sampler_name="x").stale == {"loras"}


@table("kind", KINDS)
def test_each_kind_is_found_by_its_routes(kind: str) -> None:
    assert catalogue(kind).kind is kind_named(kind)


@table(
    "openapi",
    [None, [], {}, {"paths": 3}, {"paths": {}}, {"paths": {"/sdapi/v1/txt2img": []}},
     {"paths": {"/sdapi/v1/txt2img": {"post": {}}}, "components": {"schemas": []}}],
)  # fmt: skip
def test_a_schema_that_says_nothing_is_unknown(openapi: Any) -> None:
    made = catalogue_of(openapi)
    assert made.kind is UNKNOWN
    job = parse_job(b"prompt: a\nsteps: 3", "job.yaml")
    assert check_against(job, made).problems == ()


@table("body", [None, 3, "x", {}, {"loaded": []}, {"txt2img": 1}, [None, 3, []]], ids=repr)
def test_a_list_of_any_shape_is_read_or_refused(body: Any) -> None:
    for route in ("samplers", "scripts", "embeddings", "sd-models", "loras"):
        try:
            made = catalogue("forge").with_list(route, body)
        except ValueError:
            continue
        assert not any(names.shown for name, names in made.lists.items() if route in name)


def test_an_unknown_always_on_script_lists_those_that_are_always_on() -> None:
    said = problems_in("forge", alwayson_scripts={"zzzz": {"args": []}})
    assert 'has no always-on script "zzzz"; allowed are extra options, controlnet' in said
    assert "x/y/z plot" not in said


def test_an_unknown_selectable_script_lists_those_that_can_be_selected() -> None:
    said = problems_in("forge", script_name="zzzz")
    assert 'has no selectable script "zzzz"; allowed are prompt matrix' in said
    assert "controlnet" not in said


def test_the_message_about_a_script_of_the_other_role_says_where_to_name_it() -> None:
    said = problems_in("forge", alwayson_scripts={"X/Y/Z plot": {"args": []}})
    assert '"X/Y/Z plot" is a selectable script: name it as script_name' in said
    said = problems_in("forge", script_name="ControlNet")
    assert '"ControlNet" is an always-on script: name it in alwayson_scripts' in said


def test_a_script_whose_role_nobody_says_may_be_of_either() -> None:
    for fields in ({"alwayson_scripts": {"Hypertile": {"args": []}}}, {"script_name": "Hypertile"}):
        assert not checked("a1111", **fields).problems


def test_sd_vae_is_refused_on_forge_neo_which_has_no_use_of_it() -> None:
    neo = replace(catalogue("forge"), kind=FORGE_NEO)
    job = parse_job(b"prompt: a castle\noverride_settings: {sd_vae: ae.safetensors}\n", "job.yaml")
    (problem,) = check_against(job, neo).problems
    assert "sd_vae has no effect on Forge Neo" in problem.message
    assert "forge_additional_modules" in problem.message


@table(
    ("options", "said"),
    [({}, "60 calls a minute unless"), ({"server_rate_limit": 100}, "20 calls a minute, after"),
     ({"server_rate_limit": True}, "60 calls"), ({"server_rate_limit": 0}, ""), ([], "60 calls")],
)  # fmt: skip
def test_the_rate_limit_of_sdnext_is_noted_beforehand(options: Any, said: str) -> None:
    limited = catalogue("sdnext").with_options(options)
    notes = check_against(parse_job(b"prompt: a castle", "j"), limited).notes
    assert any("server_rate_limit" in note and said in note for note in notes) == bool(said)


def test_what_calls_have_shown_is_held_against_later_jobs() -> None:
    cannot = replace(
        catalogue("forge"), cannot={"extra-single-image": "why"}, useless={"Lanczos": "its weights"}
    )
    text = "stages:\n- txt2img: {enable_hr: true, width: 64, height: 64}\n- upscale: {}\n"
    (problem,) = check_against(parse_job(text.encode(), "j"), cannot).problems
    assert problem.message == "this WebUI (Forge) cannot do extra-single-image: why"
    cannot = replace(cannot, cannot={})
    text = "stages:\n- txt2img: {width: 64, height: 64}\n- upscale: {upscaler_1: Lanczos}\n"
    (problem,) = check_against(parse_job(text.encode(), "j"), cannot).problems
    assert problem.message == 'this WebUI (Forge) cannot enlarge with "Lanczos": its weights'


def with_lora(kind: str) -> Catalogue:
    item = {"name": "ink", "alias": "ink", "path": "/sd/models/Lora/styles/ink.safetensors"}
    return catalogue(kind).with_list("loras", [item])


def of_script(args: str, known: Catalogue, *allow: str) -> Checked:
    title = known.lists["scripts/txt2img"].shown[0]
    text = f"prompt: a\nalwayson_scripts: {{{json.dumps(title)}: {{args: {args}}}}}\n"
    rules = JobRules(allow)
    return check_against(parse_job(text.encode(), "job.yaml", rules=rules), known, rules=rules)


def names_a_place(checked: Checked) -> bool:
    return any("is in none of the WebUI's lists" in problem.message for problem in checked.problems)


@table("kind", SAME)
@table("args", ["[etc/x.safetensors]", "[a, [styles/other.pt]]", "[{x: 'old/anna.v2'}]"])
def test_a_file_that_a_script_names_must_be_in_a_list(kind: str, args: str) -> None:
    known = with_lora(kind)
    assert names_a_place(of_script(args, known))
    title = known.lists["scripts/txt2img"].shown[0]
    assert not names_a_place(of_script(args, known, title))


@table("kind", SAME)
@table(
    "args",
    [
        "[styles/ink.safetensors]",
        "['styles\\ink.safetensors,Lora/styles/ink.safetensors']",
        "[{model: 'sdxl/control_canny.safetensors', prompt: 'etc/x.pt'}]",
        "['<lora:styles/ink.safetensors:1>', '__a/b__', sd15/openpose]",
    ],
)
def test_a_lora_in_a_folder_and_the_model_of_an_extension_are_let_through(
    kind: str, args: str
) -> None:
    assert not names_a_place(of_script(args, with_lora(kind)))


def test_a_file_that_a_script_names_is_not_checked_without_the_lists() -> None:
    known = with_lora("forge").without_list("loras", "500")
    found = of_script("[styles/other.safetensors]", known)
    assert not names_a_place(found)
    assert any(note.startswith("files that scripts name: not checked") for note in found.notes)
