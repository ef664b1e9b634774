"""Stages that name each other: whose images each takes, its calls, what is wrong with a name."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from sdwatch.errors import JobError
from sdwatch.policy.job.calls.payload import Call, Seeds, calls_of, taken_from
from sdwatch.policy.job.calls.plan import last_stages, pictures_of, plan_of, result_of
from sdwatch.policy.job.files.job_images import matching
from sdwatch.policy.job.job import Job, parse_job
from sdwatch.policy.job.outputs.result import Keep
from sdwatch.policy.job.stage.confinement import JobRules
from tests.support.tables import table

IMAGES = frozenset(["poses/1.png", "poses/2.png", "poses/10.png", "castle.png", "notes.txt"])
BASE = "- txt2img: {id: base, prompt: x, n_iter: 2}\n"


def job_of(stages: str, images: Collection[str] | None = IMAGES, more: str = "") -> Job:
    names = None if images is None else frozenset(images)
    return parse_job(f"{more}stages:\n{stages}".encode(), "job.yaml", names, "castle")


def problems_of(stages: str, images: Collection[str] | None = IMAGES, more: str = "") -> str:
    with pytest.raises(JobError) as caught:
        job_of(stages, images, more)
    return str(caught.value)


def calls(job: Job, number: int, inputs: Collection[str] = ()) -> list[Call]:
    return calls_of(number, job.stages[number - 1], Seeds(5, 6, drawn=True), tuple(inputs))


def sources(job: Job) -> list[int]:
    return [taken_from(number, stage) for number, stage in enumerate(job.stages, 1)]


# -- whose images


def test_a_stage_takes_the_images_of_the_one_that_it_names() -> None:
    job = job_of(BASE + "- img2img: {id: day, prompt: d}\n- img2img: {input: base, prompt: n}\n")
    assert sources(job) == [0, 1, 1]


def test_without_an_input_a_stage_takes_those_of_the_stage_before() -> None:
    job = job_of(BASE + "- img2img: {prompt: d}\n- upscale: {upscaler_1: Lanczos}\n")
    assert sources(job) == [0, 1, 2]


def test_an_image_of_the_folder_and_a_pattern_are_inputs_in_natural_order() -> None:
    job = job_of("- img2img: {input: poses/*.png, prompt: x}\n- upscale: {input: castle.png}\n")
    assert sources(job) == [0, 0]
    assert [call.images for call in calls(job, 1)] == [
        ("poses/1.png",), ("poses/2.png",), ("poses/10.png",),
    ]  # fmt: skip
    assert [call.images for call in calls(job, 2)] == [("castle.png",)]
    assert job.named == {"poses/1.png", "poses/2.png", "poses/10.png", "castle.png"}


def test_a_star_stands_for_nothing_in_other_folders() -> None:
    assert matching("*.PNG", IMAGES) == ["castle.png"]
    assert matching("poses/?.png", IMAGES) == ["poses/1.png", "poses/2.png"]
    assert matching("*/*", IMAGES) == ["poses/1.png", "poses/2.png", "poses/10.png"]


@pytest.mark.parametrize(
    ("fan_out", "images"),
    [("", [("a",), ("b",)]), (", fan_out: on", [("a",), ("b",)]), (", fan_out: off", [("a", "b")])],
)
def test_fan_out_is_one_call_for_each_image(fan_out: str, images: list[tuple[str, ...]]) -> None:
    job = job_of(BASE + f"- img2img: {{input: base, prompt: x{fan_out}}}\n")
    assert [call.images for call in calls(job, 2, ["a", "b"])] == images


def test_all_images_in_one_call_are_its_batch() -> None:
    job = job_of(BASE + "- img2img: {prompt: x, fan_out: no, batch_size: 9, n_iter: 2}\n")
    made = calls(job, 2, ["a", "b", "c"])
    assert [(c.id, c.fields["batch_size"], c.fields["seed"]) for c in made] == [
        ("2.1", 3, 5), ("2.2", 3, 8),
    ]  # fmt: skip
    (alone, _) = calls(job, 2, ["a"])
    assert alone.fields["batch_size"] == 9, "one image may be drawn several times"


def test_images_that_a_stage_names_itself_may_be_fanned_out() -> None:
    job = job_of("- img2img: {init_images: [castle.png, poses/1.png], prompt: x, fan_out: on}\n")
    assert [call.images for call in calls(job, 1)] == [("castle.png",), ("poses/1.png",)]


def test_the_calls_of_a_stage_depend_only_on_what_is_recorded() -> None:
    job = job_of(BASE + "- img2img: {input: base, prompt: x, n_iter: 2}\n")
    assert calls(job, 2, ["a", "b"]) == calls(job, 2, ["a", "b"])
    assert [call.id for call in calls(job, 2, ["a", "b"])] == ["2.1", "2.2", "2.3", "2.4"]
    assert [call.id for call in calls(job, 2, ["a"])] == ["2.1", "2.2"]


def test_a_point_of_a_matrix_goes_through_the_graph() -> None:
    stages = BASE + "- img2img: {input: '${from}', prompt: x}\n"
    job = job_of(stages, more="matrix: {from: [base, castle.png, poses/*.png]}\n")
    linked = [job.stages_of(point, 0)[1].links for point in (1, 2, 3)]
    assert [(each.taken_from, len(each.inputs)) for each in linked] == [
        (1, 0),
        (None, 1),
        (None, 3),
    ]


def test_an_input_may_be_a_list_of_the_matrix_without_a_name() -> None:
    job = job_of("- img2img: {prompt: x}\n", more="matrix: {input: [castle.png, poses/1.png]}\n")
    assert [job.stages_of(n, 0)[0].links.inputs for n in (1, 2)] == [
        ("castle.png",), ("poses/1.png",),
    ]  # fmt: skip


# -- what is wrong


@table(
    ("stages", "problem"),
    [
        (
            "- img2img: {input: bsae, prompt: x}\n",
            '3:20: no stage before this one has the id "bsae"; did you mean "base"?',
        ),
        (
            "- img2img: {input: late, prompt: x}\n- upscale: {id: late}\n",
            '3:20: "late" is stage 3, which comes after this one (stage 2); before it there are '
            "base",
        ),
        ("- img2img: {id: me, input: me, prompt: x}\n", '3:28: "me" is this stage itself'),
        (
            "- img2img: {id: a, input: b, prompt: x}\n- upscale: {id: b, input: a}\n",
            "3:27: the inputs go in a circle: a takes from b takes from a",
        ),
        (
            "- img2img: {input: castel.png, prompt: x}\n",
            '3:20: "castel.png" is not in the job folder; did you mean "castle.png"?',
        ),
        (
            "- img2img: {input: poses/*.jpg, prompt: x}\n",
            '3:20: no image in the job folder fits "poses/*.jpg"; did you mean',
        ),
        ("- img2img: {input: ../*.png, prompt: x}\n", "3:20: no image in the job folder fits"),
        ("- img2img: {input: /etc/a.png, prompt: x}\n", "is outside the job folder"),
        ("- upscale: {input: base, fan_out: no}\n", "works on one image at a time"),
        ("- upscale: {input: base, image: castle.png}\n", 'give "input" or "image", not both'),
        ("- upscale: {id: base}\n", '3:17: stage 1 has the id "base", too'),
        ("- upscale: {id: 'a b'}\n", '3:17: "a b" is not an id; an id has letters'),
        ("- txt2img: {prompt: x, input: base}\n", '"input" belongs to a stage of its own'),
    ],
)
def test_a_wrong_input_is_named_at_its_place(stages: str, problem: str) -> None:
    assert problem in problems_of(BASE + stages)


def test_a_stage_is_not_found_in_a_job_of_one_file_either() -> None:
    found = problems_of(BASE + "- img2img: {input: bas, prompt: x}\n", None)
    assert 'did you mean "base"?' in found
    found = problems_of(BASE + "- img2img: {input: '*.png', prompt: x}\n", None)
    assert "a single job file has no images" in found


def test_a_wrong_input_at_a_later_point_names_the_point() -> None:
    stages = BASE + "- img2img: {input: '${from}', prompt: x}\n"
    found = problems_of(stages, more="matrix: {from: [base, other]}\n")
    assert 'job.yaml:1:23: no stage before this one has the id "other"' in found
    assert 'at point 2 (from = "other")' in found


def test_a_first_stage_that_works_on_images_needs_some() -> None:
    assert 'name them in "init_images" or "input"' in problems_of("- img2img: {prompt: x}\n")


# -- the payload


def test_a_payload_is_sent_as_it_is() -> None:
    job = job_of("- txt2img: {prompt: x, payload: {neu: [1, 'a'], deep: {er: off}}}\n")
    (call,) = calls(job, 1)
    assert call.fields["neu"] == [1, "a"]
    assert call.fields["deep"] == {"er": "off"}
    assert "payload" not in call.fields
    assert job.stages[0].texts["neu"] == [1, "a"]


@table(
    ("key", "why"),
    [
        ("prompt", "write it as a field of the stage (txt2img or img2img)"),
        ("seed", "which sdwatch checks"),
        ("init_images", "write it as a field of the stage (img2img)"),
        ("alwayson_scripts", "which sdwatch checks"),
        ("override_settings", "which sdwatch checks"),
        ("send_images", "the WebUI would return nothing"),
        ("save_images", "it changes what the WebUI saves"),
        ("do_not_save_samples", "it changes what the WebUI saves"),
        ("force_task_id", "sdwatch names its tasks itself"),
        ("infotext", "it may carry settings of the WebUI"),
        ("firstpass_image", "it takes an image"),
        ("latent_mask", "it takes an image"),
        ("outdir_samples", "names a place on the WebUI's disk"),
        ("save_grid", "it changes what the WebUI saves"),
        ("api_key", "it changes what the WebUI does on the network"),
    ],
)
def test_a_payload_sets_nothing_that_sdwatch_decides_about(key: str, why: str) -> None:
    found = problems_of(f"- txt2img: {{prompt: x, payload: {{{key}: 1}}}}\n")
    assert found.startswith("job.yaml:2:34: ")
    assert why in found


@table("value", ["/etc/passwd", "C:\\x.png", "http://10.0.0.1/x", "../../x", "{a: [{b: //srv/x}]}"])
def test_a_payload_reaches_no_place(value: str) -> None:
    found = problems_of(f"- txt2img: {{prompt: x, payload: {{neu: {value}}}}}\n")
    assert "a path" in found or "an address" in found


def test_the_config_may_allow_a_place_in_a_payload() -> None:
    text = b"prompt: x\npayload: {neu_dir: /srv/x}\n"
    rules = JobRules(allow=("neu_dir",))
    assert parse_job(text, "job.yaml", rules=rules).stages[0].links.payload["neu_dir"] == "/srv/x"


# -- the plan


GRAPH = (
    BASE
    + "- img2img: {id: day, input: base, prompt: d, batch_size: 2}\n"
    + "- upscale: {input: day}\n- img2img: {input: base, prompt: n, fan_out: off}\n"
)


def test_the_plan_counts_calls_and_pictures_stage_by_stage() -> None:
    planned = plan_of(job_of(GRAPH).stages)
    assert [(p.taken_from, p.calls, p.pictures) for p in planned] == [
        (0, 2, 2), (1, 2, 4), (2, 4, 4), (1, 1, 2),
    ]  # fmt: skip
    assert sum(each.calls for each in plan_of(job_of(GRAPH).stages)) == 9
    assert pictures_of(job_of(GRAPH)) == 4 + 2


def test_a_job_of_very_many_pictures_is_planned_at_once() -> None:
    many = "- img2img: {prompt: x, n_iter: 1000}\n" * 98
    job = job_of("- txt2img: {prompt: x, n_iter: 1000}\n" + many)
    assert 10**12 <= sum(each.calls for each in plan_of(job.stages)) < 10**15


def test_the_last_stages_are_those_that_no_other_takes_from() -> None:
    stages = job_of(GRAPH).stages
    assert last_stages(stages) == result_of(stages, Keep.LAST) == {3, 4}
    assert result_of(stages, Keep.ALL) == {1, 2, 3, 4}
