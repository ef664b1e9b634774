"""Jobs that list values: which points they make, and what is wrong with a list."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdwatch.errors import JobError, SpoolError
from sdwatch.policy.job.calls.plan import pictures_of
from sdwatch.policy.job.job import parse_job
from sdwatch.policy.job.points.only_points import with_points
from sdwatch.policy.job.points.points import Axis, Grid, Points
from sdwatch.policy.job.text.document import Scalar
from tests.policy.jobs_of import fields_of, job_of, problems_of
from tests.support.examples import examples
from tests.support.tables import table


def test_a_matrix_makes_a_point_for_each_combination_the_last_name_first() -> None:
    job = job_of("prompt: a ${animal}\nmatrix:\n  animal: [cat, owl]\n  steps: [20, 30]\n")
    assert fields_of(job, "prompt") == ["a cat", "a cat", "a owl", "a owl"]
    assert fields_of(job, "steps") == [20, 30, 20, 30]


def test_lists_in_zip_go_together() -> None:
    text = "prompt: ${a}${b}\nmatrix: {zip: {a: [1, 2], b: [x, y]}, steps: [5, 6]}\n"
    job = job_of(text)
    assert fields_of(job, "prompt") == ["1x", "1x", "2y", "2y"]


def test_exclude_leaves_out_and_include_adds_for_each_repetition() -> None:
    text = (
        "prompt: ${a}${b}\nrepeat: 2\nmatrix:\n  a: [1, 2]\n  b: [3, 4]\n"
        "  exclude: [{a: 1, b: 3}, {a: 2, b: 4}]\n  include: [{a: 9, b: 9}]\n"
    )
    assert fields_of(job_of(text), "prompt") == ["14", "23", "99"] * 2


def test_a_value_alone_is_typed_by_its_field_and_in_a_text_it_is_text() -> None:
    text = "prompt: 'w${n}, $${n}'\nsteps: ${n}\nwidth: ${n}0\nmatrix: {n: [24, 32]}\n"
    (first, second) = [job_of(text).stages_of(n, 0)[0].fields for n in (1, 2)]
    assert dict(first) == {"prompt": "w24, ${n}", "steps": 24, "width": 240}
    assert second["width"] == 320


def test_without_lists_a_name_is_a_text_for_the_webui() -> None:
    job = job_of("prompt: '${season=!__season__} {a|b} ${x}'\n")
    assert job.stages[0].fields["prompt"] == "${season=!__season__} {a|b} ${x}"
    assert len(job.points) == 1


def test_defaults_are_for_each_stage_that_has_the_field_and_does_not_give_it() -> None:
    job = job_of(
        "defaults: {steps: 9, prompt: all}\nstages:\n- txt2img: {steps: 3}\n"
        "- img2img: {prompt: own}\n- upscale: {upscaler_1: Lanczos}\n"
    )
    assert [dict(stage.fields) for stage in job.stages] == [
        {"steps": 3, "prompt": "all"},
        {"prompt": "own", "steps": 9},
        {"upscaler_1": "Lanczos"},
    ]


def test_a_line_of_a_text_is_a_prompt_or_has_options() -> None:
    files = {"p.txt": b'a cat\n\n--prompt a big "dog runs" --steps 7 --cfg_scale 2\n'}
    job = job_of("prompts_from: p.txt\nsteps: 5\n", files)
    assert fields_of(job, "prompt") == ["a cat", "a big dog runs"]
    assert fields_of(job, "steps") == [5, 7]
    assert fields_of(job, "cfg_scale") == [None, 2.0]


def test_the_columns_of_a_table_are_names() -> None:
    files = {"p.csv": 'animal,place\ncat,"a house, old"\nowl,tree\n'.encode("utf-8-sig")}
    job = job_of("prompts_from: p.csv\nprompt: ${animal} in ${place}\n", files)
    assert fields_of(job, "prompt") == ["cat in a house, old", "owl in tree"]


def test_each_image_that_fits_is_a_point_in_natural_order() -> None:
    files = dict.fromkeys(("10.png", "2.PNG", "1.jpg", "poses/3.png", "notes.txt"), b"")
    text = "for_each: '*.png'\nstages:\n- img2img: {prompt: 'a ${image.stem}'}\n"
    job = job_of(text, files)
    assert fields_of(job, "init_images") == [["2.PNG"], ["10.png"]]
    assert fields_of(job, "prompt") == ["a 2", "a 10"]
    assert job.named == {"2.PNG", "10.png"}
    deeper = job_of(text.replace("*.png", "poses/*"), files)
    assert fields_of(deeper, "init_images") == [["poses/3.png"]]


def test_wildcards_are_picked_the_same_from_the_same_number() -> None:
    files = {"wildcards/color.txt": b"red\n# no color\ngreen\nblue\n\n"}
    job = job_of("prompt: __color__ __other__\nrepeat: 50\n", files)

    def picked(random_seed: int) -> list[object]:
        return [job.stages_of(point, random_seed)[0].fields["prompt"] for point in job.points]

    assert picked(7) == picked(7) != picked(8)
    assert set(picked(7)) == {f"{color} __other__" for color in ("red", "green", "blue")}


def test_the_points_of_a_matrix_share_their_chances_and_repetitions_do_not() -> None:
    points = job_of("prompt: ${a}\nmatrix: {a: [1, 2]}\nrepeat: 2\n").points
    assert [points.chance(n) for n in points] == ["0", "1", "0", "1"]


@table(
    ("text", "place", "words"),
    [
        ("prompt: ${anmal}\nmatrix: {animal: [cat]}\n", "1:9", 'did you mean "animal"?'),
        ("prompt: x\nmatrix:\n  animal: [cat]\n", "3:1", "nothing uses animal"),
        ("prompt: x\nmatrix:\n  steps: [20, many]\n", "3:15", "must be a whole number"),
        ("prompt: x\nmatrix: {steps: [20, many]}\n", "2:22", 'point 2 (steps = "many")'),
        ("prompt: x\nmatrix: {steps: []}\n", "2:17", "steps has no values"),
        ("prompt: x\nmatrix: {steps: [[1]]}\n", "2:18", "not a list"),
        ("prompt: ${a}\nmatrix: {a: [1], zip: {a: [2]}}\n", "2:24", "has values twice"),
        ("prompt: x\nmatrix: {zip: {a: [1], b: [1, 2]}}\n", "2:15", "a has 1, b has 2"),
        ("prompt: ${a}\nmatrix: {a: [1], exclude: {b: 1}}\n", "2:28", "not in the matrix"),
        ("prompt: ${a}\nmatrix: {a: [1], exclude: {a: 1}}\n", "2:9", "leaves nothing"),
        (
            "prompt: ${a}\nmatrix: {a: [1.0, 2], exclude: {a: 1}}\n",
            "2:36",
            'a is never "1", its list has "1.0", "2"',
        ),
        ("name: ${a}\nprompt: ${a}\nmatrix: {a: [1]}\n", "1:7", "differs from point to point"),
        ("timeout: ${b}\nprompt: x\nvars: {a: 1}\n", "1:10", "${b} has no value"),
        ("prompt: ${a}${b}\nmatrix: {a: [1], b: [1], include: {a: 1}}\n", "2:35", "for b, too"),
        ("prompt: ${a-b}\nmatrix: {a-b: [1]}\n", "2:10", "is not a name"),
        ("prompt: x\nrepeat: 0\n", "2:9", "at least 1"),
        ("prompt: x\nrepeat: 20000\n", "2:1", "max_points allows 10,000"),
        ("prompt: x\nrepeat: 3\npoints: [4]\n", "3:9", "the last is 3"),
        ("prompt: x\nmatirx: {a: [1]}\n", "2:1", 'did you mean "matrix"?'),
        ("prompt: x\nversion: 2\n", "2:10", "at most 1"),
        ("prompt: x\non_failure: wait\n", "2:13", "one of continue, stop"),
        ("prompt: x\ndefaults: {stepz: 3}\n", "2:12", 'did you mean "steps"?'),
        ("prompt: x\nfor_each: '*.png'\n", "2:11", "a single job file has no images"),
        ("prompts_from: p.txt\n", "1:15", "put it as job.yaml into a folder"),
    ],
)
def test_a_mistake_has_its_place_and_says_what_is_allowed(
    text: str, place: str, words: str
) -> None:
    message = problems_of(text)
    assert f"job.yaml:{place}: " in message
    assert words in message


@table(
    ("content", "words"),
    [
        (b'--prompt "a\n', "p.txt:1:10: a quote"),
        (b"x\n--stepz 3\n", 'p.txt:2:1: unknown option --stepz; did you mean "steps"?'),
        (b"--steps\n", "--steps has no value"),
        (b"--outpath_samples /etc\n", "a job does not say where the WebUI saves"),
        (b"\xff\xfea", "UTF-16"),
        (b"\n\n", "the file has only comments|the file is empty"),
    ],
)
def test_a_file_of_prompts_with_a_mistake_is_named_with_its_line(
    content: bytes, words: str
) -> None:
    message = problems_of("prompts_from: p.txt\n", {"p.txt": content})
    assert any(each in message for each in words.split("|"))


def test_a_file_of_prompts_that_is_not_there_yet_is_waited_for() -> None:
    with pytest.raises(JobError) as caught:
        job_of("prompts_from: p.txt\n", {"q.txt": b""})
    assert caught.value.unfinished


def test_a_file_of_prompts_that_leads_outside_is_refused() -> None:
    def read(_: str) -> bytes:
        raise SpoolError("leads outside the job's folder")

    with pytest.raises(JobError, match="leads outside"):
        parse_job(b"prompts_from: p.txt\n", "job.yaml", frozenset({"p.txt"}), read=read)


def test_values_cannot_reach_outside_the_job() -> None:
    message = problems_of(
        "prompt: x\noverride_settings: {sd_model_checkpoint: '${m}'}\n"
        "matrix: {m: [a, ../../secret.ckpt]}\n"
    )
    assert "job.yaml:3:17: " in message
    assert 'point 2 (m = "../../secret.ckpt")' in message


def test_values_that_do_not_go_together_fail_their_point_alone() -> None:
    job = job_of("prompt: x\nwidth: ${a}${b}\nmatrix: {a: ['', 1], b: [128, 9000]}\n")
    with pytest.raises(JobError, match="at point 4"):
        job.stages_of(4, 0)
    assert job.stages_of(1, 0)[0].fields["width"] == 128


@pytest.mark.slow
def test_ten_thousand_points_cost_no_more_memory_than_ten() -> None:
    def peak(text: str) -> int:
        tracemalloc.start()
        job = job_of(text)
        for point in range(1, len(job.points), 100):
            job.stages_of(point, 0)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    values = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"
    matrix = f"{{a: {values}, steps: {values}, cfg_scale: {values}, eta: [0, 1]}}"
    many = peak(f"prompt: ${{a}}\nmatrix: {matrix}\n")
    assert many < peak(f"prompt: ${{a}}\nmatrix: {{a: {values}}}\n") + 200_000


@pytest.mark.parametrize(
    ("text", "pictures"),
    [
        ("prompt: x\nn_iter: 3\nbatch_size: 2\nrepeat: 2\n", 12),
        ("matrix: {n_iter: [1, 2]}\nprompt: x\n", None),
        ("repeat: 2\nstages:\n- txt2img: {prompt: x, n_iter: 3}\n- upscale\n", 6),
    ],
)
def test_the_pictures_of_a_job_are_counted(text: str, pictures: int | None) -> None:
    assert pictures_of(job_of(text)) == pictures


@table(
    "text",
    [
        "prompt: a ${x}\nmatrix: {x: [1, 2, 3]}\n",
        "# mine\npoints: [1]\nrandom_seed: 3\nprompt: a ${x}\nmatrix:\n  x: [1, 2, 3]",
        "points:\n  - 3\n  - 1\nprompt: a ${x}  # no\nmatrix: {x: [1, 2, 3]}\nrandom_seed: 4\n",
        '{"prompt": "a ${x}", "matrix": {"x": [1, 2, 3]}, "points": [1]}',
        "{prompt: 'a ${x}', points: [1],\n matrix: {x: [1, 2, 3]}}",
        "--- {prompt: 'a ${x}', matrix: {x: [1, 2, 3]},}",
        "  prompt: a ${x}\n  matrix: {x: [1, 2, 3]}\n",
        "prompt: a ${x}\nmatrix: {x: [1, 2, 3]}\n...\n",
    ],
)
def test_a_job_can_be_written_for_some_of_its_points(text: str) -> None:
    data = with_points(text.encode(), "job.yaml", [2, 3], 99)
    job = parse_job(data, "job.yaml")
    assert list(job.points) == [2, 3]
    assert job.random_seed == 99
    assert fields_of(job, "prompt") == ["a 2", "a 3"]
    assert (b"# mine" in data) == ("# mine" in text)


@pytest.mark.parametrize("form", ["prompt: ${animal}", "stages: [{txt2img: {prompt: a}}]"])
def test_fields_of_the_job_itself_have_the_values_that_all_points_share(form: str) -> None:
    job = job_of(
        f"{form}\nname: ${{who}}-night\npriority: ${{n}}\nvars: {{who: me, n: 7, animal: x}}"
    )
    assert (job.name, job.priority) == ("me-night", 7)


@pytest.mark.parametrize("form", ["prompt: x", "stages: [{txt2img: {prompt: x}}]"])
def test_outputs_are_named_by_the_values_of_each_point_in_both_forms(form: str) -> None:
    job = job_of(f"{form}\noutputs: '${{steps}}/{{seed}}'\nmatrix: {{steps: [5, 6]}}\n")
    assert job.outputs.name == "${steps}/{seed}"


def test_an_image_with_brackets_in_its_name_fits_itself() -> None:
    files = {"poses/a[1].png": b"", "poses/b1.png": b""}
    job = job_of("prompt: ${image.stem}\nfor_each: poses/a[1].png\n", files)
    assert fields_of(job, "prompt") == ["a[1]"]


def test_the_stem_alone_may_name_a_second_image() -> None:
    files = {"poses/1.png": b"", "depth/1.png": b""}
    stage = "img2img: {input: 'depth/${image.stem}.png', prompt: x}"
    job = job_of(f"stages: [{{{stage}}}]\nfor_each: 'poses/*.png'\n", files)
    assert job.stages[0].links.inputs == ("depth/1.png",)


def test_an_accent_in_a_pattern_fits_as_macos_writes_it() -> None:
    files = {"Ka\u0308fer1.png": b""}
    job = job_of("prompt: ${image.stem}\nfor_each: 'K\u00e4*.png'\n", files)
    assert fields_of(job, "prompt") == ["Ka\u0308fer1"]


@table(
    ("text", "says"),
    [
        ("prompt: x\nfor_each: poses\\*.png\n", 'with "/" between folder and file'),
        ("prompt: x\nfor_each: '*.jpg'\n", 'did you mean "a.png"?'),
        ("stages: [{img2img: {input: poses\\*.png}}]\n", 'with "/" between folder and file'),
        ("prompt: x\nprompts_from: b.csv\n", 'did you mean "t.csv"?'),
    ],
)
def test_only_files_that_can_be_meant_are_named(text: str, says: str) -> None:
    problem = problems_of(text, {"job.yaml": b"", "a.png": b"", "t.csv": b"a\n1\n"})
    assert says in problem
    assert "job.yaml," not in problem


@table(
    "text",
    [
        '{"prompt": "${x} 😀 \u2028", "seed": 5, "matrix": {"x": [1.00, 2e3]}}',
        "{prompt: '${x}, \\u2028 \"ä\" \\', matrix: {x: [7.50, null, no, 'null', a b]}}",
        'prompt: "a\u2028${x}\x85b"\nmatrix: {x: [1.00, 2]}\n...\n',
        'prompt: "a\u2028${x}\x85b"\r\npoints: [1]\r\nmatrix: {x: [1.00, 2]}\r\n',
    ],
)
def test_a_job_written_for_some_of_its_points_has_the_same_values(text: str) -> None:
    data = with_points(text.encode(), "job.yaml", [2], 9)
    before, after = parse_job(text.encode(), "job.yaml"), parse_job(data, "job.yaml")
    for number in range(1, before.points.total + 1):
        assert before.stages_of(number, 9)[0].fields == after.stages_of(number, 9)[0].fields


ROWS = st.lists(st.integers(0, 3), min_size=1, max_size=4).map(
    lambda numbers: tuple((Scalar(str(n), 1, 1),) for n in numbers)
)


@given(st.lists(ROWS, min_size=1, max_size=3), st.integers(0, 3))
@examples(30)
def test_each_point_has_a_place_of_its_own_and_each_value_is_covered(
    lists: list[tuple[tuple[Scalar, ...], ...]], left_out: int
) -> None:
    axes = [Axis((f"n{i}",), rows) for i, rows in enumerate(lists)]
    grid = Grid(axes, [{"n0": Scalar(str(left_out), 1, 1)}])
    points = Points({}, (Axis(grid.names, grid), Axis(("r",), lists[0], own_chance=True)))
    made = [tuple(v.text for v in points.values(n).values()) for n in points]
    assert len(made) == points.total == len(grid) * len(lists[0])
    assert all(values[0] != str(left_out) for values in made)
    covered = {
        (name, value.text) for n, _ in points.covering() for name, value in points.values(n).items()
    }
    expected = {(name, v.text) for n in points for name, v in points.values(n).items()}
    assert not points.total or covered == expected
