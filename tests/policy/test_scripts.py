"""What a job gives to scripts: the form that WebUIs look for, and images by their names."""

from __future__ import annotations

import pytest

from sdwatch.errors import JobError
from sdwatch.policy.job import image_names, parse_job
from sdwatch.policy.scripts import is_image_key

IMAGES = frozenset({"pose.png", "poses/a.png", "mask.png"})


def told(text: str, images: frozenset[str] | None = IMAGES) -> str:
    with pytest.raises(JobError) as refused:
        parse_job(text.encode(), "job.yaml", images)
    return str(refused.value)


def named(text: str) -> list[str]:
    (stage,) = parse_job(text.encode(), "job.yaml", IMAGES).stages
    return image_names(stage)


def unit(line: str) -> str:
    return f"prompt: a\nalwayson_scripts:\n  controlnet:\n    args:\n      - {{{line}}}\n"


MISSHAPEN = {
    "arg: for args:": ("{arg: [{enabled: true}]}", '3:16: controlnet takes nothing but "args"'),
    "a mapping as args": ("{args: {enabled: true}}", "3:22: args of controlnet must be a list"),
    "a text as args": ("{args: canny}", "args of controlnet must be a list"),
    "a list in place of args": ("[{enabled: true}]", '3:15: controlnet has no "args"'),
    "nothing": ("", '3:3: controlnet has no "args"'),
    "an empty mapping": ("{}", '3:3: controlnet has no "args"'),
    "a switch": ("true", '3:3: controlnet has no "args"'),
    "more than args": ("{args: [], enabled: true}", 'takes nothing but "args", not "enabled"'),
}


@pytest.mark.parametrize(("entry", "says"), MISSHAPEN.values(), ids=MISSHAPEN)
def test_an_entry_of_another_form_is_an_error_that_shows_the_right_one(
    entry: str, says: str
) -> None:
    message = told(f"prompt: a\nalwayson_scripts:\n  controlnet: {entry}\n")
    assert says in message
    assert "write `controlnet: {args: [...]}`" in message


@pytest.mark.parametrize("entry", ["{args: []}", "{args: [true, {ad_model: x}]}", "{args: [1, x]}"])
def test_the_right_form_is_accepted(entry: str) -> None:
    parse_job(f"prompt: a\nalwayson_scripts: {{ADetailer: {entry}}}\n".encode(), "job.yaml")


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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
    assert 'job.yaml:5:17: "pose.pgn" is not in the job folder; did you mean "pose.png"?' in told(
        unit("image: pose.pgn")
    )


def test_a_job_of_one_file_has_no_image_for_a_script() -> None:
    assert "put it as job.yaml into a folder with its images" in told(
        unit("image: pose.png"), images=None
    )


@pytest.mark.parametrize("name", ["../pose.png", "/etc/pose.png", "C:/pose.png", "http://x/a.png"])
def test_an_image_of_a_script_does_not_reach_beyond_the_job(name: str) -> None:
    assert "job.yaml:5:" in told(unit(f"image: '{name}'"))


@pytest.mark.parametrize("key", ["image", "Input_Image", "init_images", "masks", "face_image"])
def test_a_key_that_holds_an_image(key: str) -> None:
    assert is_image_key(key)


@pytest.mark.parametrize("key", ["image_cfg_scale", "mask_blur", "save_images", "module", "model"])
def test_a_key_that_holds_no_image(key: str) -> None:
    assert not is_image_key(key)
