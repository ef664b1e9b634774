"""What a job gives to scripts: the form that WebUIs look for, and images by their names."""

from __future__ import annotations

import pytest

from sdwatch.errors import JobError
from sdwatch.policy.job.job import parse_job
from sdwatch.policy.job.stage.scripts import Where, where
from tests.support.stage_images import images_named
from tests.support.tables import table

IMAGES = frozenset({"pose.png", "poses/a.png", "mask.png"})


def problems_in(text: str, images: frozenset[str] | None = IMAGES) -> str:
    with pytest.raises(JobError) as refused:
        parse_job(text.encode(), "job.yaml", images)
    return str(refused.value)


def named(text: str) -> list[str]:
    (stage,) = parse_job(text.encode(), "job.yaml", IMAGES).stages
    return images_named(stage)


def unit(line: str) -> str:
    return f"prompt: a\nalwayson_scripts:\n  controlnet:\n    args:\n      - {{{line}}}\n"


# What a WebUI's script gets for what a job writes: the types of JSON, and nothing is guessed. A
# script that takes "yes" as a word must get the word.
ARGUMENTS: dict[str, object] = {
    "yes": "yes",
    "no": "no",
    "on": "on",
    "y": "y",
    '"yes"': "yes",
    "true": True,
    "True": True,
    "FALSE": False,
    '"true"': "true",
    "512": 512,
    "+5": 5,
    "-1": -1,
    '"512"': "512",
    "512.0": 512.0,
    '"512.0"': "512.0",
    "512.": "512.",
    ".5": 0.5,
    "-0.0": -0.0,
    "1.5e3": 1500.0,
    "1e3": "1e3",  # as a hash may look
    "12e4567890": "12e4567890",
    "1.5e999": "1.5e999",
    ".inf": ".inf",
    "nan": "nan",
    "007": "007",
    "0x1F": "0x1F",
    "1_000": "1_000",
    "3:2": "3:2",
    "1,5": "1,5",
    "2026-11-28": "2026-11-28",
    "9" * 18: int("9" * 18),
    "9" * 19: "9" * 19,
    " 1 ": 1,
    '" 1 "': " 1 ",
    "' yes'": " yes",
    "null": None,
    "~": None,
    "": None,
    '""': "",
    '"null"': "null",
    "{a: 1, b: yes, c: ~}": {"a": 1, "b": "yes", "c": None},
    '[1, "1", [off, {on: 1.0}]]': [1, "1", ["off", {"on": 1.0}]],
}


@table(("written", "sent"), ARGUMENTS.items(), ids=ARGUMENTS)
def test_the_argument_of_a_script_has_the_type_that_json_gives_it(
    written: str, sent: object
) -> None:
    stage = parse_job(
        f"prompt: a\nscript_name: X\nscript_args:\n- {written}\n"
        f"override_settings:\n  x: {written}\n"
        f"alwayson_scripts:\n  Y:\n    args:\n    - {written}\n    - x: {written}\n".encode(),
        "job.yaml",
        IMAGES,
    ).stages[0]
    always_on = {"Y": {"args": [sent, {"x": sent}]}}
    expected = [sent], {"x": sent}, always_on
    given = tuple(
        stage.fields[field] for field in ("script_args", "override_settings", "alwayson_scripts")
    )
    assert repr(given) == repr(expected)  # 1, 1.0 and True are equal


MISSHAPEN = {
    "arg: for args:": ("{arg: [{enabled: true}]}", '3:16: controlnet accepts only "args"'),
    "a mapping as args": ("{args: {enabled: true}}", "3:22: args of controlnet must be a list"),
    "a text as args": ("{args: canny}", "args of controlnet must be a list"),
    "a list in place of args": ("[{enabled: true}]", '3:15: controlnet has no "args"'),
    "nothing": ("", '3:3: controlnet has no "args"'),
    "an empty mapping": ("{}", '3:3: controlnet has no "args"'),
    "a switch": ("true", '3:3: controlnet has no "args"'),
    "more than args": ("{args: [], enabled: true}", 'accepts only "args", not "enabled"'),
}


@table(("entry", "says"), MISSHAPEN.values(), ids=MISSHAPEN)
def test_an_entry_of_another_form_is_an_error_that_shows_the_right_one(
    entry: str, says: str
) -> None:
    message = problems_in(f"prompt: a\nalwayson_scripts:\n  controlnet: {entry}\n")
    assert says in message
    assert "write `controlnet: {args: [...]}`" in message


@pytest.mark.parametrize("entry", ["{args: []}", "{args: [true, {ad_model: x}]}", "{args: [1, x]}"])
def test_the_right_form_is_accepted(entry: str) -> None:
    parse_job(f"prompt: a\nalwayson_scripts: {{ADetailer: {entry}}}\n".encode(), "job.yaml")


@table(
    "line",
    [
        "image: pose.png",
        "input_image: pose.png",
        "init_images: [pose.png]",
        "mask: ./pose.png",
        "image: {image: pose.png}",
        "ref_image: 'pose.png'",
    ],
)
def test_a_file_of_the_job_is_an_image_of_it(line: str) -> None:
    assert named(unit(line)) == ["pose.png"]


def test_images_in_script_args_are_found_too() -> None:
    assert named("prompt: a\nscript_name: x\nscript_args: [1, {image: mask.png}]\n") == ["mask.png"]


@table(
    "line",
    [
        "image: null",
        "image: None",
        "image: true",
        "mask: 0.5",
        "image: ''",
        f"image: iVBORw0KGgo{'A' * 40}",
        "image: 'data:image/png;base64,iVBORw0KGgo='",
        "ad_mask_merge_invert: pose",
        "module: pose.png",
        "resize_mode: Just Resize",
    ],
)
def test_what_is_no_name_of_a_file_is_left_as_it_is(line: str) -> None:
    assert named(unit(line)) == []


def test_a_missing_image_is_an_error_with_its_place_and_the_nearest_name() -> None:
    assert (
        'job.yaml:5:17: "pose.pgn" is not in the job folder; did you mean "pose.png"?'
        in problems_in(unit("image: pose.pgn"))
    )


def test_a_job_of_one_file_has_no_image_for_a_script() -> None:
    assert "put the file as job.yaml into a folder together with its images" in problems_in(
        unit("image: pose.png"), images=None
    )


@table("name", ["../pose.png", "/etc/pose.png", "C:/pose.png", "http://x/a.png"])
def test_an_image_of_a_script_does_not_reach_beyond_the_job(name: str) -> None:
    assert "job.yaml:5:" in problems_in(unit(f"image: '{name}'"))


@table(
    "key",
    ["image", "Input_Image", "init_images", "masks", "face_image", "mask_image", "image_mask"],
)
def test_a_key_that_holds_an_image(key: str) -> None:
    assert where(key) is Where.IMAGE


@table(
    "key",
    ["effective_region_mask", "batch_mask_gallery", "image_fg", "generated_image", "override"],
)
def test_a_key_that_may_hold_an_image_or_a_word(key: str) -> None:
    assert where(key) is Where.PERHAPS
    assert named(unit(f"{key}: poses/a.png")) == ["poses/a.png"]
    assert named(unit(f"{key}: Only masked")) == []


@table("key", ["module", "model", "ad_prompt", "weight"])
def test_a_key_that_holds_no_image(key: str) -> None:
    assert where(key) is Where.OTHER


# What each extension is given, and the job's files in it.
EXTENSIONS = {
    "ReActor: by its place": (
        "reactor: {args: [pose.png, true, '0', CodeFormer, 1, '', None]}",
        ["pose.png"],
    ),
    "Regional Prompter: a mask by its place": (
        "Regional Prompter: {args: [true, false, Mask, Vertical, Mask, '1,1', mask.png]}",
        ["mask.png"],
    ),
    "ADetailer: none": (
        "ADetailer: {args: [true, false, {ad_model: face_yolov8n.pt, ad_mask_merge_invert: None}]}",
        [],
    ),
    "Dynamic Prompts: none": (
        "Dynamic Prompts v2.17.1: {args: [true, false, 1, false]}",
        [],
    ),
    "AnimateDiff: none": (
        "AnimateDiff: {args: [{enable: true, model: mm_sd_v15.ckpt, format: [GIF, PNG]}]}",
        [],
    ),
    "ControlNet, with a mask": (
        "controlnet: {args: [{image: {image: pose.png, mask: mask.png}, model: canny}]}",
        ["pose.png", "mask.png"],
    ),
    "ControlNet's old form": (
        "ControlNet: {args: [{input_image: poses/a.png, mask: mask.png, module: none}]}",
        ["poses/a.png", "mask.png"],
    ),
    "IP-Adapter: several": (
        "ControlNet: {args: [{module: ip-adapter, image: [pose.png, poses/a.png]}]}",
        ["pose.png", "poses/a.png"],
    ),
    "Forge's ControlNet (forge#627)": (
        "ControlNet: {args: [{image: pose.png, mask_image: mask.png, generated_image: null}]}",
        ["pose.png", "mask.png"],
    ),
}


@table(("entry", "images"), EXTENSIONS.values(), ids=EXTENSIONS)
def test_each_extension_gets_the_files_of_the_job_that_it_is_given(
    entry: str, images: list[str]
) -> None:
    assert named(f"prompt: a\nalwayson_scripts:\n  {entry}\n") == images


def test_a_missing_image_in_a_list_of_arguments_is_an_error_too() -> None:
    assert '3:20: "face.png" is not in the job folder' in problems_in(
        "prompt: a\nalwayson_scripts:\n  reactor: {args: [face.png, true]}\n"
    )
    assert '"face.png" is not in the job folder' in problems_in(
        "prompt: a\nscript_name: x\nscript_args: [1, face.png]\n"
    )


def test_image_data_of_any_format_is_no_name() -> None:
    for start in ("AAAAHGZ0eXBhdmlm", "SUkqAA", "/9j/4AAQ"):
        assert named(unit(f"image: {start}{'A' * 2000}")) == []


def test_a_folder_is_refused_where_a_gallery_is_meant() -> None:
    assert "names a place on the WebUI" in problems_in(unit("batch_images: poses"))
