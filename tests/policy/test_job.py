"""Job files: what is understood, and what is said about what is not."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sdwatch.errors import JobError, SpoolError
from sdwatch.policy.job.job import Job, Stage, parse_job
from sdwatch.system import resources
from tests.support.examples import examples
from tests.support.stage_images import images_named
from tests.support.tables import table

EXAMPLES = resources.config_folder() / "examples"
IMAGES = frozenset({"sketch.png", "mask.png", "parts/eye.png"})


def job_of(text: str, images: frozenset[str] | None = None) -> Job:
    return parse_job(text.encode(), "job.yaml", images, "castle")


def problems_of(text: str, images: frozenset[str] | None = None) -> list[str]:
    with pytest.raises(JobError) as caught:
        job_of(text, images)
    return str(caught.value).splitlines()


def test_the_smallest_job_is_a_prompt() -> None:
    stage = Stage("txt2img", {"prompt": "a castle"}, 1)
    assert job_of("prompt: a castle") == Job("castle", 0, (stage,))


def test_name_and_priority_stand_beside_the_fields() -> None:
    job = job_of("name: night\npriority: -3\nprompt: a\nsteps: 5\n")
    assert (job.name, job.priority) == ("night", -3)
    assert job.stages[0].fields == {"prompt": "a", "steps": 5}


def test_stages_are_read_in_order_with_their_lines() -> None:
    job = job_of(
        "name: three\nstages:\n"
        "  - txt2img:\n      prompt: a\n"
        "  - img2img: {denoising_strength: .4}\n"
        "  - upscale\n"
        "  - extra-single-image:\n"
    )
    assert job.stages == (
        Stage("txt2img", {"prompt": "a"}, 3),
        Stage("img2img", {"denoising_strength": 0.4}, 5),
        Stage("extra-single-image", {}, 6),
        Stage("extra-single-image", {}, 7),
    )


TYPED = {
    "text that looks like no": ("prompt: no", "no"),
    "text that looks like a number": ("prompt: 1", "1"),
    "text that looks octal": ("prompt: 0123", "0123"),
    "text that looks like a time": ("prompt: 3:2", "3:2"),
    "text in quotes": ('prompt: "a: b, #c"', "a: b, #c"),
    "text over lines": ("prompt: |\n  a\n  b\n", "a\nb\n"),
    "whole number": ("prompt: a\nsteps: 020", 20),
    "seed": ("prompt: a\nseed: -1", -1),
    "number": ("prompt: a\ncfg_scale: 7", 7.0),
    "number with exponent": ("prompt: a\neta: 1e-3", 0.001),
    "switch": ("prompt: a\ntiling: No", False),
    "switch as a number": ("prompt: a\ntiling: 1", True),
    "one style": ("prompt: a\nstyles: oil", ["oil"]),
    "styles": ("prompt: a\nstyles: [oil, 2]", ["oil", "2"]),
    "settings": (
        'prompt: a\noverride_settings: {a: 1, b: 1.5, c: yes, d: "1", e: null, f: True, g: 007}',
        {"a": 1, "b": 1.5, "c": "yes", "d": "1", "e": None, "f": True, "g": "007"},
    ),
    "a hash that looks like a number": (
        "prompt: a\noverride_settings: {sd_model_checkpoint: 12e4567890}",
        {"sd_model_checkpoint": "12e4567890"},
    ),
    "script arguments": ("prompt: a\nscript_args: [1, [x, {y: off}]]", [1, ["x", {"y": "off"}]]),
}


@table(("text", "value"), TYPED.values(), ids=TYPED)
def test_fields_are_typed_by_the_schema(text: str, value: object) -> None:
    given = list(job_of(text).stages[0].fields.values())[-1]
    assert (given, type(given)) == (value, type(value))


def test_a_field_without_a_value_is_as_if_it_were_not_there() -> None:
    job = job_of("prompt: a\nnegative_prompt:\nsteps: null\nstyles: ~\n")
    assert job.stages[0].fields == {"prompt": "a"}


REFUSED = {
    "no mapping": ("- a", "1:1: a job is a mapping of `field: value`, not a list; the smallest is"),
    "only text": ("a castle", '1:1: a job is a mapping of `field: value`, not "a castle"'),
    "no prompt": ("steps: 3", '1:1: a job needs a "prompt" with a text, or "stages"'),
    "no text": ("steps: 3\nprompt: #a", '2:1: a job needs a "prompt" with a text'),
    "misspelt": ("promt: a\nprompt: a", '1:1: unknown field "promt" in txt2img; did you mean "pro'),
    "nothing near": ("prompt: a\nxyzzy: 3", '2:1: unknown field "xyzzy" in txt2img; allowed are '),
    "other stage's field": ("prompt: a\nupscaler_1: b", '2:1: unknown field "upscaler_1" in txt2i'),
    "twice": ("prompt: a\nsteps: 3\nsteps: 4", '3:1: "steps" is there twice, first in line 2'),
    "twice within": (
        "prompt: a\nalwayson_scripts: {x: {a: 1, a: 2}}",
        '2:30: "a" is there twice',
    ),
    "list for text": ("prompt: [a, b]", "1:9: prompt must be text, not a list (text that starts"),
    "mapping for number": (
        "prompt: a\nsteps: {a: b}",
        "2:8: steps must be a whole number, not a m",
    ),
    "words for number": ("prompt: a\nsteps: many", '2:8: steps must be a whole number, not "many"'),
    "fraction": ("prompt: a\nsteps: 2.5", '2:8: steps must be a whole number, not "2.5"'),
    "underscore": ("prompt: a\nseed: 1_000", '2:7: seed must be a whole number, not "1_000"'),
    "exponent": ("prompt: a\nseed: 1e3", '2:7: seed must be a whole number, not "1e3"'),
    "huge": ("prompt: a\nseed: " + "9" * 5000, "2:7: seed must be a whole number"),
    "comma": ("prompt: a\ncfg_scale: 7,5", "2:12: cfg_scale must be a number such as 7 or 7.5"),
    "infinite": ("prompt: a\ncfg_scale: 1e999", "2:12: cfg_scale must be a number such as 7 or "),
    "no switch": ("prompt: a\ntiling: maybe", '2:9: tiling must be true or false, not "maybe"'),
    "no steps": ("prompt: a\nsteps: 0", "2:8: steps must be at least 1, not 0"),
    "tiny": ("prompt: a\nwidth: 0", "2:8: width must be at least 8, not 0"),
    "strong": ("prompt: a\ndenoising_strength: 2", "2:21: denoising_strength must be at most 1, n"),
    "seed": ("prompt: a\nseed: -2", "2:7: seed must be at least -1, not -2"),
    "priority": ("prompt: a\npriority: 5000", "2:11: priority must be at most 1000, not 5000"),
    "empty name": ('prompt: a\nname: ""', "2:7: name must have at least 1 characters"),
    "mixed": ("prompt: a\nstages: [upscale]", '1:1: "prompt" is beside "stages"; move it into'),
    "misspelt beside stages": (
        "nam: a\nstages: [txt2img]",
        '1:1: unknown field "nam" in a job; did',
    ),
    "empty stages": ("stages: []", "1:9: stages must be a list such as `- txt2img:`, not an empty"),
    "no stages": ("stages:", "1:8: stages must be a list such as `- txt2img:`, not nothing"),
    "stages as mapping": ("stages:\n  txt2img: {}", "2:3: stages must be a list such as"),
    "too many stages": ("stages: [" + "txt2img, " * 101 + "]", "1:9: a job has at most 100 stages"),
    "stage without list": ("txt2img:\n  prompt: a", '1:1: put the stage into a list under "stage'),
    "unknown stage": ("stages:\n- txtimg: {}", '2:3: unknown stage "txtimg"; did you mean "txt2i'),
    "unknown word": ("stages:\n- paint", '2:3: "paint" is not a stage; a stage is one of txt2img'),
    "fields beside the kind": (
        "stages:\n- txt2img:\n  prompt: a",
        "2:3: 2 keys in one stage (inden",
    ),
    "nothing to draw over": ("stages:\n- img2img: {}", "2:3: the first stage has no images"),
    "nothing to enlarge": ("stages:\n- upscale", "2:3: the first stage has no images to work on"),
    "resize by nothing": (
        "stages:\n- txt2img\n- upscale: {upscaling_resize: 0}",
        "3:31: upscaling_resize must be more than 0, not 0",
    ),
}


@table(("text", "says"), REFUSED.values(), ids=REFUSED)
def test_each_mistake_is_reported_with_its_place_and_what_is_allowed(text: str, says: str) -> None:
    problems = problems_of(text)
    assert any(line.startswith(f"job.yaml:{says}") for line in problems), problems


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file() -> None:
    problems = problems_of(
        "nam: x\nstages:\n"
        "  - txt2img:\n      promt: a\n      steps: 0\n      width: wide\n"
        "  - upscal\n"
        "  - upscale:\n      upscaling_resize: [2]\n      upscaler_1: a\n      upscaler_1: b\n"
    )
    assert [line.split(": ")[0] for line in problems] == [
        "job.yaml:1:1",
        "job.yaml:4:7",
        "job.yaml:5:14",
        "job.yaml:6:14",
        "job.yaml:7:5",
        "job.yaml:9:25",
        "job.yaml:11:7",
    ]


def test_images_are_called_by_their_names_in_the_job_folder() -> None:
    job = job_of(
        "stages:\n- img2img:\n    init_images: [./sketch.png, parts/eye.png]\n    mask: mask.png\n"
        "- upscale: {image: sketch.png}\n",
        IMAGES,
    )
    assert job.stages[0].fields["init_images"] == ["sketch.png", "parts/eye.png"]
    assert images_named(job.stages[0]) == ["sketch.png", "parts/eye.png", "mask.png"]
    assert images_named(job.stages[1]) == ["sketch.png"]


def test_one_image_may_stand_without_a_list() -> None:
    job = job_of("stages: [img2img: {init_images: sketch.png}]", IMAGES)
    assert job.stages[0].fields["init_images"] == ["sketch.png"]


BAD_NAMES = {
    "unknown": ("sketch.pn", '"sketch.pn" is not in the job folder; did you mean "sketch.png"?'),
    "parent": ("../sketch.png", "is outside the job folder"),
    "parent within": ("parts/../../a.png", "is outside the job folder"),
    "absolute": ("/etc/passwd", "is outside the job folder"),
    "home": ("~/a.png", "is outside the job folder"),
    "drive": ("C:/a.png", "is outside the job folder"),
    "backslash": ("parts\\eye.png", 'with "/" between folder and file'),
    "network": ("\\\\host\\share\\a.png", 'with "/" between folder and file'),
    "URL": ("https://example.org/a.png", "not a URL or image data"),
    "file URL": ("file:///etc/passwd", "not a URL or image data"),
    "data": ("data:image/png;base64,AAAA", "not a URL or image data"),
    "the folder": (".", "is outside the job folder"),
    "no name": ("", "is outside the job folder"),
    "gradio's URL": ("file=/etc/passwd", "not a URL or image data"),
    "other stream": ("sketch.png:secret", 'contains a ":"'),
    "other stream in a folder": ("parts:x/eye.png", 'contains a ":"'),
    "device": ("NUL", "is a device on Windows (NUL)"),
    "device with an ending": ("parts/con.png", "is a device on Windows (CON)"),
    "device with two endings": ("Com1.tar.gz", "is a device on Windows (COM1)"),
    "device with a space": ("aux .png", "is a device on Windows (AUX)"),
    "device as a folder": ("lpt9/eye.png", "is a device on Windows (LPT9)"),
    "device with a raised digit": ("com².png", "is a device on Windows (COM²)"),
    "dot at the end": ("sketch.png.", "ends in a dot or a space"),
    "space at the end": ("sketch.png ", "ends in a dot or a space"),
    "space at a folder's end": ("parts /eye.png", "ends in a dot or a space"),
}


@table("field", ["init_images", "mask", "image"])
@table(("name", "says"), BAD_NAMES.values(), ids=BAD_NAMES)
def test_no_name_reaches_outside_the_job_folder(name: str, says: str, field: str) -> None:
    kind = "upscale" if field == "image" else "img2img"
    (line,) = problems_of(f"stages:\n- txt2img\n- {kind}:\n    {field}: '{name}'\n", IMAGES)
    assert line.startswith(f"job.yaml:4:{7 + len(field)}: ")
    assert says in line


@table("name", ["console.png", "com10.png", "nul-1.png", "a.con", ".a..b c.png"])
def test_a_name_that_only_looks_like_a_device_is_a_name(name: str) -> None:
    job = job_of(f"stages:\n- img2img:\n    init_images: '{name}'\n", frozenset({name}))
    assert images_named(job.stages[0]) == [name]


def test_an_image_that_cannot_be_used_is_refused_where_it_is_named() -> None:
    def look(name: str) -> tuple[int, int]:
        if name == "sketch.png":
            raise SpoolError("is odd")
        return 64, 64

    text = b"stages:\n- img2img:\n    init_images: [mask.png, sketch.png]\n"
    with pytest.raises(JobError) as caught:
        parse_job(text, "job.yaml", IMAGES, look=look)
    assert str(caught.value) == 'job.yaml:3:29: "sketch.png" is odd'


def test_a_job_knows_the_sizes_of_its_images_each_looked_at_once() -> None:
    looked_at: list[str] = []

    def look(name: str) -> tuple[int, int]:
        looked_at.append(name)
        return 64 * len(looked_at), 64

    twice = b"- img2img: {init_images: ./mask.png, mask: mask.png}\n"
    text = b"stages:\n" + twice + b"- upscale: {image: mask.png}\n"
    assert parse_job(text, "job.yaml", IMAGES, look=look).sizes == {"mask.png": (64, 64)}
    assert looked_at == ["mask.png"]
    assert parse_job(text, "job.yaml", IMAGES).sizes == {}


def test_a_call_takes_no_more_than_64_images() -> None:
    (line,) = problems_of(f"stages:\n- img2img: {{init_images: [{'mask.png, ' * 65}]}}", IMAGES)
    assert line == "job.yaml:2:26: init_images must have at most 64 entries"


def test_a_job_of_one_file_has_no_images() -> None:
    (line,) = problems_of("stages:\n- img2img:\n    init_images: [a.png]\n")
    assert line.startswith(
        'job.yaml:3:19: a single job file cannot use the image "a.png"; put the file as'
    )


def test_a_prompt_that_a_comment_cuts_off_is_warned_of() -> None:
    job = job_of("prompt: 1girl, #tag\nsteps: 20 # enough\nnegative_prompt: 'x #y'\n")
    assert job.stages[0].fields["prompt"] == "1girl,"
    (warning,) = job.warnings
    assert (warning.line, warning.column) == (1, 9)
    assert "the last 4 characters are not part of prompt" in warning.message


PROMPT = "a secret castle by night, oil on canvas"
SHAPES = {
    "alone": "{}",
    "as a number": "prompt: a\nsteps: {}",
    "as a switch": "prompt: a\ntiling: {}",
    "as a mapping": "prompt: a\noverride_settings: {}",
    "in quotes": "prompt: a\nsteps: '{}'",
    "as a key": "prompt: a\n{}: 1",
    "as a key twice": "prompt: a\nalwayson_scripts:\n  {0}: 1\n  {0}: 2",
    "behind a comment sign": "prompt: a #{}",
    "as a name that is too long": "prompt: a\nname: " + "{0}, " * 9,
    "instead of stages": "stages: {}",
    "as a stage": "stages:\n- {}",
    "as the kind of a stage": "stages:\n- {}: 1",
    "beside stages": "{}: 1\nstages: [txt2img]",
    "as the fields of a stage": "stages:\n- txt2img: {}",
    "as an image": "stages:\n- upscale: {{image: '{}'}}",
    "as an image outside": "stages:\n- upscale: {{image: '../{}'}}",
    "as an image with a backslash": "stages:\n- upscale: {{image: '{}\\a'}}",
    "in broken YAML": "prompt: a: {}",
    "in an open quote": "prompt: '{}",
    "in an open bracket": "prompt: [{}",
    "behind a quote": "prompt: 'a' {}",
    "behind a tag": "prompt: !{}",
    "behind the handle of a tag": "prompt: !secret!{}",
    "behind an anchor": "prompt: &{}",
    "behind a tab": "prompt: a\n\t{}",
}


@table("images", [None, IMAGES], ids=["one file", "folder"])
@table("shape", SHAPES.values(), ids=SHAPES)
def test_no_message_carries_a_prompt(shape: str, images: frozenset[str] | None) -> None:
    try:
        problems = job_of(shape.format(PROMPT), images).warnings
    except JobError as error:
        problems = tuple(error.problems)
    assert problems
    assert not [p.message for p in problems if "secret" in p.message or "canvas" in p.message]


@pytest.mark.parametrize("line", ["send_images: false", "force_task_id: mine"])
def test_fields_that_would_lose_the_images_are_left_out_with_a_warning(line: str) -> None:
    job = job_of(f"prompt: a\n{line}\n")
    assert job.stages[0].fields == {"prompt": "a"}
    assert [(w.line, w.column) for w in job.warnings] == [(2, 1)]
    assert "is ignored" in job.warnings[0].message


@pytest.mark.slow
def test_memory_stays_flat_for_the_worst_files() -> None:
    files = [b"[" * 900_000, b"prompt: a\nx: " + b"{a: " * 100_000, b"\x00" * 1_000_001]
    files.append("".join(f"key{i}: 1\n" for i in range(9_000)).encode())
    tracemalloc.start()
    for data in files:
        with pytest.raises(JobError):
            parse_job(data, "job.yaml")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000_000


@pytest.mark.slow
@examples(150)
@given(st.binary(max_size=200))
def test_random_bytes_end_in_a_job_or_a_job_error(data: bytes) -> None:
    survives(data)


KEYS = st.sampled_from(
    ["prompt", "steps", "stages", "txt2img", "upscale", "img2img", "init_images", "name", "seed"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | KEYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@examples(150)
@given(VALUES)
def test_random_yaml_ends_in_a_job_or_a_job_error(value: object) -> None:
    survives(yaml.safe_dump(value).encode())


@pytest.mark.slow
@examples(150)
@given(st.text("ab:#-[]{}'\"&*!|>%@,\n\t ?", max_size=60))
def test_random_signs_end_in_a_job_or_a_job_error(text: str) -> None:
    survives(f"prompt: {text}".encode())


def survives(data: bytes) -> None:
    problems: list = []
    try:
        job = parse_job(data, "job.yaml", IMAGES)
    except JobError as error:
        problems = error.problems
    else:
        assert job.stages
        json.dumps([dict(stage.fields) for stage in job.stages], allow_nan=False)
        return
    assert problems
    assert all(p.line >= 1 and p.column >= 1 for p in problems)


@pytest.mark.slow
def test_at_most_a_hundred_mistakes_are_reported() -> None:
    problems = problems_of("".join(f"key{i}: 1\n" for i in range(5_000)))
    assert len(problems) == 101
    assert problems[-1] == "job.yaml:100:1: 4901 more problems from here on"


@table("path", sorted(EXAMPLES.glob("*/*.yaml")), ids=lambda path: path.stem)
def test_each_example_is_a_job_without_warnings(path: Path) -> None:
    job = parse_job(path.read_bytes(), path.name, None, path.stem)
    assert job.warnings == ()


@pytest.mark.parametrize("name", ["any/sketch", "a1111/alwayson-script"])
def test_the_example_folders_have_the_images_they_name(name: str) -> None:
    folder = EXAMPLES / name
    images = frozenset(path.name for path in folder.glob("*.png"))
    job = parse_job((folder / "job.yaml").read_bytes(), "job.yaml", images, "sketch")
    assert images_named(job.stages[0]) == ["sketch.png", "mask.png"]
