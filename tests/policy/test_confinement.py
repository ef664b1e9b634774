"""What a job may not reach: the WebUI's files and saving, the network, code; and what it may."""

from __future__ import annotations

import json

import pytest

from sdwatch.errors import JobError
from sdwatch.policy.job.job import Job, parse_job
from sdwatch.policy.job.stage.confinement import JobRules
from tests.support.tables import table

SAVES = "is refused: it changes what the WebUI saves"
PLACE = "is refused: it names a place on the WebUI's disk"
NETWORK = "is refused: it changes what the WebUI does on the network"
CODE = "is refused: it changes what code the WebUI runs"

SETTINGS = {
    SAVES: "samples_save grid_save save_txt save_mask save_init_img"
    " save_images_before_highres_fix export_for_4chan keep_incomplete save_log_fn ad_save_previews"
    " control_net_detectmap_autosaving profiling_enable",
    PLACE: "outdir_samples outdir_txt2img_samples outdir_img2img_grids outdir_save outdir_video"
    " samples_filename_pattern directories_filename_pattern temp_dir ckpt_dir lora_dir styles_dir"
    " onnx_temp_dir esrgan_models_path accelerate_offload_path profiling_filename font"
    " restore_config_state_file save_to_dirs image_watermark_image OUTDIR_SAMPLES",
    NETWORK: "api_enable_requests api_forbid_local_requests huggingface_token google_api_key"
    " huggingface_mirror remote_vae_encode server_listen offline_mode",
    CODE: "disabled_extensions disable_all_extensions custom_diffusers_pipeline",
}
FREE = (
    "sd_model_checkpoint sd_vae CLIP_stop_at_last_layers eta_noise_seed_delta randn_source"
    " samples_format jpeg_quality webp_lossless enable_pnginfo token_merging_ratio sd_lora"
    " forge_additional_modules upscaler_for_img2img face_restoration_model add_model_hash_to_info"
    " return_grid img2img_color_correction sgm_noise_multiplier lora_preferred_name tiling"
)


def job_of(text: str, *allow: str) -> Job:
    return parse_job(text.encode(), "job.yaml", rules=JobRules(allow))


def problems_of(text: str, *allow: str) -> list[str]:
    with pytest.raises(JobError) as caught:
        job_of(text, *allow)
    return str(caught.value).splitlines()


def settings(name: str, value: str = "x") -> str:
    return f"prompt: a\noverride_settings:\n  steps: 1\n  {name}: {json.dumps(value)}\n"


@table(("name", "why"), [(name, why) for why, names in SETTINGS.items() for name in names.split()])
def test_a_setting_of_the_webuis_own_is_refused_by_name_and_can_be_allowed(
    name: str, why: str
) -> None:
    (line,) = problems_of(settings(name))
    assert line.startswith(f'job.yaml:4:3: "{name}" {why}')
    assert line.endswith('(to permit it, name it under "allow" in the config)')
    assert job_of(settings(name), name).stages[0].fields["override_settings"][name] == "x"
    assert job_of(settings(name), "override_settings")


@table("name", FREE.split())
def test_a_setting_of_the_picture_is_the_jobs(name: str) -> None:
    assert job_of(settings(name))


PLACES = {
    "absolute": "/etc/passwd",
    "home": "~/a.safetensors",
    "home of another": "~root\\a",
    "drive": "c:\\models\\a.safetensors",
    "drive with slashes": "D:/a",
    "share": "\\\\host\\share\\a",
    "above": "../a.safetensors",
    "above within": "models/../../a",
    "above with backslashes": "a\\..\\b",
    "address": "https://example.org/a.safetensors",
    "file address": "FILE:///etc/passwd",
    "gradio's address": "file=/etc/passwd",
    "in a second line": "a\n/etc/passwd",
    "behind a blank": " /etc/passwd",
    "like a JPEG, and short": "/9j/a",
    "file address without slashes": "file:/etc/passwd",
    "address with backslashes": "http:\\\\host\\a",
    "in a drive's own folder": "C:secret.txt",
    "number in a drive's own folder": "c:1.txt",
    "above a drive's own folder": "C:..\\a",
    "device": "NUL",
    "device with an ending": "con.txt",
    "device with a colon": "aux:",
    "device in a folder": "models/COM1",
    "variable": "$HOME/a",
    "variable in braces": "${HOME}/a",
    "variable of Windows": "%USERPROFILE%\\x",
    "behind a byte order mark": "\ufeff/etc/passwd",
    "behind a zero-width space": "\u200b\u200bC:\\a",
    "with one within": "\u2060fi\u200ble:/etc/passwd",
}
FIELDS = {
    "a setting": ('override_settings: {{sd_vae: {}}}', "sd_vae"),
    "a setting's list": ("override_settings: {{forge_additional_modules: [a, {}]}}", "forge_addi"),
    "a checkpoint": ("refiner_checkpoint: {}", "refiner_checkpoint"),
    "modules": ("hr_additional_modules: [{}]", "hr_additional_modules"),
    "an upscaler": ("hr_upscaler: {}", "hr_upscaler"),
    "a style": ("styles: [{}]", "styles"),
    "a sampler": ("sampler_name: {}", "sampler_name"),
    "a script": ("script_name: {}", "script_name"),
    "a script's argument": ("script_args: [1, [{}]]", "script_args"),
    "an always-on script's": ("alwayson_scripts: {{ADetailer: {{args: [{}]}}}}", "ADetailer"),
    "deep in one": ("alwayson_scripts: {{X: {{args: [{{a: [{{b: {}}}]}}]}}}}", "X"),
}  # fmt: skip


@table("place", PLACES.values(), ids=PLACES)
def test_no_text_is_a_path_or_an_address(place: str) -> None:
    """In one job: a stage for each field."""
    texts = [shape.format(json.dumps(place)) for shape, _ in FIELDS.values()]
    job = "stages:\n" + "".join(f"- {{txt2img: {{prompt: a, {text}}}}}\n" for text in texts)
    lines = problems_of(job)
    assert len(lines) == len(FIELDS)
    for row, (text, line, named) in enumerate(
        zip(texts, lines, (n for _, n in FIELDS.values()), strict=True), 2
    ):
        at = len("- {txt2img: {prompt: a, ") + text.index(json.dumps(place)) + 1
        assert line.startswith(f"job.yaml:{row}:{at}: ")
        assert "contains a" in line
        assert named in line
    assert job_of(job, *{text.partition(":")[0] for text in texts})


JPEG = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAgGBgcGBQgHBwcJCQgKDBQNDAsLDBkSEw8UHRof\n"
FINE = {
    "title in a folder": "override_settings: {sd_model_checkpoint: 'XL/base.safetensors [31e3]'}",
    "title with a backslash": "override_settings: {sd_model_checkpoint: 'XL\\base.safetensors'}",
    "base64": f"alwayson_scripts: {{ControlNet: {{args: [{{image: {json.dumps(JPEG)}}}]}}}}",
    "image data": "alwayson_scripts: {ControlNet: {args: [{image: 'data:image/png;base64,AA'}]}}",
    "prompts": "negative_prompt: /imagine ../x\nhr_prompt: https://a\nhr_negative_prompt: ~/a",
    "an extension's prompt": "alwayson_scripts: {ADetailer: {args: [{ad_prompt: /imagine a cat}]}}",
    "no folder": "alwayson_scripts: {ControlNet: {args: [{image_dir: '', batch_images: ''}]}}",
    "no place": "alwayson_scripts: {X: {args: [{save_to_dir: false, path: null, files: 3}]}}",
    "dots": "script_args: ['a...', '1/..2', '..a', 'half/half', 'a / b', '/', ':/']",
    "a score": "script_args: ['8:1', 'http', 'a: b', 'a:1.2', 's:0,1']",
    "a network": "script_args: ['<lora:x:1>', 'x1:model', 'base:v2', '${a}', '$b 5%']",
    "no device": "styles: [concept, 'con artist', null-style, 'auxiliary.safetensors']",
    "nothing saved": "save_images: false\noverride_settings_restore_afterwards: yes",
    "as WebUIs take for granted": "do_not_save_samples: false\ndo_not_save_grid: false",
    "not given": "save_images: null\ninfotext: null\noverride_settings_restore_afterwards:",
}


@table("text", FINE.values(), ids=FINE)
def test_a_name_a_prompt_and_image_data_are_none(text: str) -> None:
    assert job_of(f"prompt: /a castle in ../style, https://example.org\n{text}\n")


@table("key", ["input_dir", "batch_image_dir", "output_path", "file", "batch_images"])
def test_an_argument_that_says_by_its_name_that_it_is_a_place_is_refused(key: str) -> None:
    text = f"prompt: a\nalwayson_scripts:\n  ControlNet:\n    args: [{{{key}: pictures}}]\n"
    (line,) = problems_of(text)
    assert line.startswith("job.yaml:4:")
    assert f'"{key}" names a place on the WebUI\'s disk' in line
    assert job_of(text, "controlnet")


SCRIPTS = {
    "Custom code": "it runs code on the WebUI's machine",
    "custom CODE": "it runs code on the WebUI's machine",
    "Prompts from file or textbox": "its lines may name the folder to save to",
}


@pytest.mark.parametrize(("name", "why"), SCRIPTS.items())
def test_a_script_that_reaches_further_is_refused_and_can_be_allowed(name: str, why: str) -> None:
    text = f"prompt: a\nscript_name: {name}\nscript_args: ['/a']\n"
    problems = problems_of(text)
    assert problems[0].startswith(f'job.yaml:2:14: the script "{name.lower()[:11]}')
    assert why in problems[0]
    assert job_of(text, name)
    (line,) = problems_of(f"prompt: a\nalwayson_scripts: {{{name}: {{args: []}}}}\n")
    assert why in line


FIELDS_BEYOND = {
    "save_images: true": "it changes what the WebUI saves",
    "save_images: 'Yes'": "it changes what the WebUI saves",
    "override_settings_restore_afterwards: false": "the settings of this job would stay",
    "override_settings_restore_afterwards: off": "the settings of this job would stay",
    "infotext: 'Steps: 2, Model: x'": "it may carry settings of the WebUI",
}


@table(("line", "why"), FIELDS_BEYOND.items())
def test_a_field_that_reaches_beyond_the_job_is_refused_by_name_and_can_be_allowed(
    line: str, why: str
) -> None:
    name = line.partition(":")[0]
    text = f"prompt: a\n{line}\n"
    (problems,) = problems_of(text)
    assert problems.startswith(f'job.yaml:2:{len(name) + 3}: "{name}" is refused: {why}')
    assert problems.endswith('(to permit it, name it under "allow" in the config)')
    assert name in job_of(text, name).stages[0].fields


FILES = (
    "etc/x.png", "outputs/old/y.png", "outputs\\old\\y.jpg", "./outputs/y.webp", "etc/x.PNG",
    "logs/webui.log", "config/x.json", "ui/config.yaml", "models/a.pkl", "extensions/x.py",
    "outputs/my old.png", "my outputs/y.png", "outputs/y.png.", "etc/x.png,etc/y.png",
    '{"image": "etc/x.png"}', "x\netc/x.png", "a=etc/x.txt", "a castle\netc/x.png", "[old]/x.png",
    "(a)/x y.png", "outputs/x.3gp", '{"a": ["my outputs/x y.png"]}', "{'a': 'my outputs/x y.png'}",
    '["/etc/passwd"]', '{"a": "[\\"http://box/\\"]"}', '"~/x.ckpt"',
)  # fmt: skip
NO_FILES = (
    "xl/ink.safetensors", "sd15/control_v11p_sd15_openpose", "sdxl/canny [d14c016b]",
    "__colors/warm__", "wildcards/__animal__", "<lora:styles/ink.safetensors:0.8>",
    "{red/blue|a/b}", "and/or", "1/2", "8/1.5", "a castle and/or a river, photo.png",
    "half/half.", "photo.png", "v1.5/ink", '{"prompt": "etc/x.png"}', '["a castle", "sd15/ink"]',
    "a castle,\nand/or a river", '{"model": "xl/ink.safetensors"}', "[day/night:0.5], f/1.8",
)  # fmt: skip
SCRIPT_SHAPES = {
    "a selectable script's": "script_name: X\nscript_args: [1, [{}]]",
    "an always-on script's": "alwayson_scripts: {{X: {{args: [{}]}}}}",
    "under a key": "alwayson_scripts: {{X: {{args: [{{deep: [{{source: {}}}]}}]}}}}",
}


@table("file", FILES)
def test_a_file_in_a_folder_of_the_webui_is_no_argument_of_a_script(file: str) -> None:
    """In one job: a stage for each way to give it."""
    texts = [shape.format(json.dumps(file)).replace("\n", ", ") for shape in SCRIPT_SHAPES.values()]
    job = "stages:\n" + "".join(f"- {{txt2img: {{prompt: a, {text}}}}}\n" for text in texts)
    given = ("contains a path", "contains an address")
    refused = [line for line in problems_of(job) if any(words in line for words in given)]
    assert {line.split(":")[1] for line in refused} == {"2", "3", "4"}
    assert job_of(job, "X")
    assert job_of(job, "script_args", "alwayson_scripts")


@table("shape", SCRIPT_SHAPES.values(), ids=SCRIPT_SHAPES)
@table("name", NO_FILES)
def test_names_in_folders_wildcards_and_prompts_are_none(name: str, shape: str) -> None:
    assert job_of(f"prompt: a\n{shape.format(json.dumps(name))}\n")


def test_a_prompt_of_a_script_may_say_anything() -> None:
    args = "[{ad_prompt: etc/x.png, prompt: outputs/y.png}]"
    assert job_of(f"prompt: a\nalwayson_scripts: {{ADetailer: {{args: {args}}}}}\n")


def test_a_file_of_the_job_is_its_own() -> None:
    text = b"prompt: a\nalwayson_scripts: {controlnet: {args: [{image: poses/a.png}]}}\n"
    assert parse_job(text, "job.yaml", frozenset({"poses/a.png"}))
    with pytest.raises(JobError, match="is not in the job folder"):
        parse_job(text, "job.yaml", frozenset({"other.png"}))
