"""What a job says of a workflow of its own: read, put into it, checked, carried to ComfyUI."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sdwatch.errors import JobError
from sdwatch.policy.failure.reply_checks import Picture, ReplyContents, findings
from sdwatch.policy.job.calls.call_sizes import CallSize, sizes_in
from sdwatch.policy.job.calls.catalogue import NODE_CLASSES, Catalogue
from sdwatch.policy.job.calls.oom_ladder import ladder
from sdwatch.policy.job.calls.payload import MAX_SEED, Seeds, calls_of, draw_seeds
from sdwatch.policy.job.calls.plan import pictures_of, plan_of
from sdwatch.policy.job.calls.preflight import Checked, check_against
from sdwatch.policy.job.conduct import OomStep
from sdwatch.policy.job.files.job_images import AnyName
from sdwatch.policy.job.job import Job, Stage, parse_job
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.kinds.table import KINDS
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.policy.privacy.sanitise import sanitise
from sdwatch.policy.queue.schedule import left_loaded, needed_first
from sdwatch.policy.workflow.node_classes import read_classes, with_listed_checkpoints
from sdwatch.policy.workflow.prompt_result import OutputFile, PromptEnd, PromptResult
from sdwatch.policy.workflow.saved_files import files_of, shows_mask
from sdwatch.policy.workflow.workflow import workflow_of
from sdwatch.policy.workflow.workflow_call import WorkflowCall, call_in, taken
from tests.policy.test_workflows import CLASSES, DRAWS
from tests.support.tables import table

Nodes = dict[str, Any]


def nodes(**changed: Any) -> Nodes:
    """The workflow of test_workflows with other nodes; `n20=…` is node 20, None leaves it out."""
    made = {**DRAWS, **{id.removeprefix("n"): node for id, node in changed.items()}}
    return {id: node for id, node in made.items() if node is not None}


def node(kind: str, title: str = "", /, **inputs: Any) -> Nodes:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title or kind}}


LOADS = nodes(
    n10=node("LoadImage", "Photo", image="example.png"),
    n11=node("VAEEncode", pixels=["10", 0], vae=["4", 2]),
    n3={**DRAWS["3"], "inputs": {**DRAWS["3"]["inputs"], "latent_image": ["11", 0]}},
)
TWO_LOADS = {**LOADS, "12": node("LoadImage", "Pose", image="example.png")}


def seeded(seed: Any, second: Any = None) -> Nodes:
    first = {**DRAWS["3"], "inputs": {**DRAWS["3"]["inputs"], "seed": seed}}
    more = {} if second is None else {"n33": node("KSamplerAdvanced", noise_seed=second)}
    return nodes(n3=first, **more)


def read(
    fields: str,
    workflow: Nodes | bytes = DRAWS,
    *,
    more: str = "",
    files: Mapping[str, bytes] | None = None,
    rules: JobRules = JobRules(),  # noqa: B008
) -> Job:
    """The job of one such stage; `fields` is on line 3, in braces."""
    data = workflow if isinstance(workflow, bytes) else json.dumps(workflow, indent=1).encode()
    there = {"job.yaml": b"", "wf.json": data, **(files or {})}
    text = f"{more}stages:\n- workflow:\n    {{file: wf.json, {fields}}}\n"
    return parse_job(
        text.encode(), "job", frozenset(there), "job", rules=rules, look=lambda _: (64, 64),
        read=there.__getitem__, folder="job/",
    )  # fmt: skip


def refused(fields: str, workflow: Nodes | bytes = DRAWS, **more: Any) -> list[str]:
    with pytest.raises(JobError) as error:
        read(fields, workflow, **more)
    return [problem.located("job.yaml") for problem in error.value.problems]


def prompt(job: Job, seeds: Seeds | None = None, *, inputs: tuple[str, ...] = ()) -> list[Nodes]:
    """The workflow of each call, as it is sent."""
    stage = job.stages[0]
    assert stage.workflow is not None
    calls = calls_of(1, stage, seeds or draw_seeds(stage, lambda: 777), inputs)
    made = [stage.workflow.call(call.fields.get("seed")) for call in calls]
    names = [[f"{i}.png" for i in range(len(call.images))] for call in made]
    return [
        {id: n["inputs"] for id, n in call.ready("sdwatch/id", name).as_prompt().items()}
        for call, name in zip(made, names, strict=True)
    ]


# -- the file


@table(
    ("workflow", "why"),
    [
        (b'{"nodes": [], "links": []}', r"job/wf.json:1:1: .*editor's own format.*Export \(API\)"),
        (b"[]", r"job/wf.json:1:1: this is not a workflow.*Export \(API\)"),
        (b'{"3": {"class_type": "A",\n}}', r"job/wf.json:2:1: this is not JSON"),
        (b'{"4": {"class_type": "A"},\n "3": 1}', r"job/wf.json:2:2: node 3 has no class_type"),
        (b"", r"job/wf.json:1:1: the file is empty"),
        (b"\xff\xfe{", r"job/wf.json:1:1: .*UTF-16"),
        (b"\x89PNG\r\n\x1a\n", r"job/wf.json:1:1: this is not a text file"),
        (b'{"a": ' * 3000, r"job/wf.json:1:1: .*nested too deeply"),
        (nodes(n9=None), r"job/wf.json:1:1: no node of the workflow saves anything"),
        (
            nodes(n9=node("PreviewImage", images=["8", 0])),
            r"job/wf.json:1:1: no node of the workflow saves anything.*PreviewImage only shows",
        ),
    ],
)
def test_a_file_that_is_no_workflow_is_refused_at_its_place(
    workflow: Nodes | bytes, why: str
) -> None:
    (message,) = refused("", workflow)
    assert re.match(why, message), message


def test_a_file_that_is_cut_off_may_still_be_arriving() -> None:
    whole = json.dumps(DRAWS).encode()
    for data in (b"", whole[: len(whole) // 2], whole[:200] + b"\0" * 50):
        with pytest.raises(JobError) as error:
            read("", data)
        assert [problem.unfinished for problem in error.value.problems] == [True], data
    with pytest.raises(JobError) as error:
        read("", b'{"3": x}' + b" " * 10)
    assert [problem.unfinished for problem in error.value.problems] == [False]


def test_a_file_that_is_not_there_is_awaited_or_its_neighbour_is_named() -> None:
    text = b"stages:\n- workflow: {file: portrait.json}\n"
    there = frozenset(["job.yaml", "portrai.json"])
    awaiting = parse_job(text, "job", AnyName(there), "job")
    assert awaiting.named == {"portrait.json"}
    with pytest.raises(JobError, match="did you mean"):
        parse_job(text, "job", there, "job")
    with pytest.raises(JobError, match="a single job file cannot use"):
        parse_job(text, "job", None, "job")


@table("name", ["../wf.json", "/etc/wf.json", "C:/wf.json", "a\\wf.json", "~/x"])
def test_a_file_outside_the_job_folder_is_neither_read_nor_awaited(name: str) -> None:
    def nothing(name: str) -> bytes:
        assert name == "_defaults.yaml"
        raise FileNotFoundError(name)

    text = f"stages:\n- workflow: {{file: '{name}'}}\n".encode()
    for there in (frozenset(["job.yaml"]), AnyName(frozenset(["job.yaml"]))):
        with pytest.raises(JobError):
            parse_job(text, "job", there, "job", read=nothing)


def test_a_workflow_without_a_file_says_what_it_needs() -> None:
    with pytest.raises(JobError, match='name the workflow in "file"'):
        parse_job(b"stages:\n- workflow: {steps: 5}\n", "job", frozenset(), "job")
    with pytest.raises(JobError, match=r"`- workflow:`"):
        parse_job(b"workflow: {file: wf.json}\n", "job", frozenset(["wf.json"]), "job")


@pytest.mark.parametrize("dropped", [{"nodes": [], "links": []}, DRAWS])
def test_a_workflow_that_was_dropped_as_a_job_says_how_to_name_it(dropped: Nodes) -> None:
    with pytest.raises(JobError) as error:
        parse_job(json.dumps(dropped).encode(), "wf.json")
    (problem,) = error.value.problems
    assert "a workflow of ComfyUI and no job" in problem.message


# -- set


@table(
    ("written", "place", "value"),
    [
        ("Positive.text: a lighthouse", ("6", "text"), "a lighthouse"),
        ("Positive.text: 1984", ("6", "text"), "1984"),
        ("Positive.text: 007", ("6", "text"), "007"),
        ("Positive.text: 'yes'", ("6", "text"), "yes"),
        ("Positive.text: no", ("6", "text"), "no"),
        ("Positive.text: ''", ("6", "text"), ""),
        ("Positive.text: ", ("6", "text"), ""),
        ("'5.width': 1216", ("5", "width"), 1216),
        ("'5.width': '1216'", ("5", "width"), 1216),
        ("3.cfg: 7", ("3", "cfg"), 7),
        ("3.cfg: 7.25", ("3", "cfg"), 7.25),
        ("3.cfg: 1e1", ("3", "cfg"), 10.0),
        ("KSampler.seed: 18446744073709551615", ("3", "seed"), 2**64 - 1),
        ("KSampler.sampler_name: heun", ("3", "sampler_name"), "heun"),
        ("20.on: false", ("20", "on"), False),
        ("20.maybe: 12", ("20", "maybe"), 12),
        ("20.a.b: 3", ("20", "a.b"), 3),
        ("Ver. 1.5.on: true", ("21", "on"), True),
    ],
)
def test_a_value_is_of_the_type_that_the_input_has(
    written: str, place: tuple[str, str], value: object
) -> None:
    odd = {
        "n20": node("Odd", on=True, maybe=None, **{"a.b": 1}),
        "n21": node("Odd", "Ver. 1.5", on=False),
    }
    (sent,) = prompt(read(f"set: {{{written}}}", nodes(**odd)))
    made = sent[place[0]][place[1]]
    assert made == value
    assert type(made) is type(value)


@table(
    ("written", "why"),
    [
        ("Positiv.text: x", 'no node has the title or id "Positiv"; did you mean "Positive"'),
        ("Positive.txt: x", 'no input "txt"; did you mean "text"'),
        ("'55.text': x", "no node has the title or id"),
        ("text: x", "name a node and one of its inputs"),
        ("5.width: wide", '5.width must be a number, not "wide"'),
        ("5.width: [1]", "takes a text, a number or a switch, not a list"),
        ("20.on: 5", 'must be true or false, not "5"'),
        (
            "3.positive: x",
            r"positive of node 3 \(KSampler\) comes from node 6 \(Positive\); .*6.text",
        ),
        ("9.filename_prefix: x", "filename_prefix is set by sdwatch"),
    ],
)
def test_what_cannot_be_set_says_why_at_its_place(written: str, why: str) -> None:
    (message,) = refused(f"set: {{{written}}}", nodes(n20=node("Odd", on=True)))
    assert re.match(rf"job.yaml:3:\d+: .*{why}", message), message


def test_a_title_of_several_nodes_needs_an_id() -> None:
    twice = nodes(n7={**DRAWS["7"], "_meta": {"title": "Positive"}})
    (message,) = refused("set: {Positive.text: x}", twice)
    assert "several nodes have the title Positive: use one of their ids: 6, 7" in message


def test_the_same_input_twice_is_a_mistake() -> None:
    for fields in ("prompt: x, set: {6.text: y}", "set: {6.text: x, Positive.text: y}"):
        (message,) = refused(fields)
        assert "are the same input of the workflow; keep one" in message


# -- short names


def test_short_names_set_their_one_place() -> None:
    fields = (
        "prompt: x, negative_prompt: y, seed: 9, steps: 8, cfg: 1.5, width: 64, height: 32, "
        "checkpoint: b.safetensors"
    )
    (sent,) = prompt(read(fields))
    assert (sent["6"]["text"], sent["7"]["text"]) == ("x", "y")
    assert (sent["5"]["width"], sent["5"]["height"]) == (64, 32)
    assert sent["4"]["ckpt_name"] == "b.safetensors"
    assert [sent["3"][name] for name in ("seed", "steps", "cfg")] == [9, 8, 1.5]


def test_a_short_name_with_several_places_lists_them() -> None:
    twice = nodes(n33={**DRAWS["3"], "_meta": {"title": "Refine"}})
    (message,) = refused("steps: 5", twice)
    assert message == (
        "job.yaml:3:28: steps could be several: KSampler (3.steps), Refine (33.steps); "
        "use `set:` with one of them"
    )
    (message,) = refused("checkpoint: x", nodes(n4=node("UNETLoader", unet_name="flux")))
    assert "the workflow has no place for checkpoint" in message


def test_a_prompt_that_a_node_of_its_own_holds_is_found_there() -> None:
    held = nodes(
        n6=node("CLIPTextEncode", "Positive", text=["20", 0], clip=["4", 1]),
        n20=node("PrimitiveStringMultiline", "Text", value="a castle"),
    )
    (sent,) = prompt(read("prompt: a lighthouse", held))
    assert sent["20"]["value"] == "a lighthouse"
    (message,) = refused("set: {Positive.text: x}", held)
    assert "comes from node 20 (Text); set what that makes it of: 20.value" in message


def test_a_field_that_it_does_not_have_belongs_below_set() -> None:
    (message,) = refused("denoise: 0.5")
    assert "an input of a node stands below `set`" in message
    for alias, name in (("cfg_scale", "cfg"), ("n_iter", "repeat"), ("init_images", "images")):
        messages = refused(f"{alias}: 1")
        assert any(f'did you mean "{name}"?' in message for message in messages)


def test_defaults_of_a_folder_do_not_reach_into_a_workflow() -> None:
    job = read("steps: 7", more="defaults: {steps: 30, width: 1024, negative_prompt: blurry}\n")
    assert job.stages[0].fields == {"file": "wf.json", "steps": 7}
    with pytest.raises(JobError, match="unknown field"):
        read("", more="defaults: {file: other.json}\n")


# -- seeds


def seeds_sent(fields: str, workflow: Nodes = DRAWS, **more: Any) -> list[list[int]]:
    sent = prompt(read(fields, workflow, **more))
    return [
        [n[name] for n in call.values() for name in ("seed", "noise_seed") if name in n]
        for call in sent
    ]


def test_the_seed_is_that_of_the_file_unless_the_job_gives_one() -> None:
    assert seeds_sent("") == [[2]]
    assert seeds_sent("seed: 9") == [[9]]
    assert seeds_sent("set: {3.seed: 8}") == [[8]]


def test_a_seed_of_minus_one_is_drawn_wherever_it_is_written() -> None:
    assert seeds_sent("seed: -1") == [[777]]
    assert seeds_sent("", seeded(-1)) == [[777]]
    assert seeds_sent("set: {3.seed: -1}") == [[777]]


def test_repeat_counts_the_seed_on() -> None:
    assert seeds_sent("repeat: 3") == [[2], [3], [4]]
    assert seeds_sent("repeat: 2, seed: -1") == [[777], [778]]
    assert seeds_sent("repeat: 2", seeded(2**64 - 1)) == [[2**64 - 1], [0]]


def test_seeds_of_several_samplers_move_together_and_a_fixed_one_stays_beside_a_drawn_one() -> None:
    assert seeds_sent("repeat: 2", seeded(5, 100)) == [[5, 100], [6, 101]]
    assert seeds_sent("repeat: 2", seeded(-1, 100)) == [[777, 100], [778, 100]]


def test_a_workflow_without_a_seed_is_not_repeated() -> None:
    without = nodes(n3=node("Upscale", image=["10", 0]))
    (message,) = refused("repeat: 2", without)
    assert re.match(r"job.yaml:3:\d+: the workflow has no seed", message)
    (message,) = refused("", without, more="repeat: 3\n")
    assert re.match(r"job.yaml:1:\d+: no workflow of the job has a seed", message)
    assert len(read("set: {6.text: 'of ${repeat}'}", without, more="repeat: 3\n").points) == 3
    assert len(read("", more="repeat: 3\n").points) == 3
    assert draw_seeds(read("", without).stages[0], lambda: 1) is None


def test_seeds_that_are_drawn_count_on_over_images_and_a_given_one_does_not() -> None:
    files = {"a.png": b"", "b.png": b""}
    for seed, expected in (("-1", [777, 778]), ("5", [5, 5])):
        job = read(f"images: [a.png, b.png], seed: {seed}", LOADS, files=files)
        assert [call["3"]["seed"] for call in prompt(job)] == expected


def held(kind: str, value: Any, title: str = "Seed for all") -> Nodes:
    """Two samplers whose seeds come from one node that holds it, and their steps."""
    sampler = {"seed": ["80", 0], "steps": ["81", 0]}
    first = {**DRAWS["3"], "inputs": {**DRAWS["3"]["inputs"], **sampler}}
    return nodes(
        n3=first,
        n33=node("KSamplerAdvanced", noise_seed=["80", 0]),
        n5=node("EmptyLatentImage", width=["82", 0], height=64, batch_size=1),
        n80=node(kind, title, value=value),
        n81=node("PrimitiveInt", "Steps", value=4),
        n82=node("PrimitiveInt", "Width", value=64),
    )


def test_a_short_name_follows_a_link_to_the_node_that_holds_the_value() -> None:
    (sent,) = prompt(read("seed: 9, steps: 7, width: 128", held("PrimitiveInt", 5)))
    assert [sent[id]["value"] for id in ("80", "81", "82")] == [9, 7, 128]
    assert sent["3"]["seed"] == ["80", 0]
    for fields, values in (
        ("repeat: 2", [5, 6]),
        ("seed: -1, repeat: 2", [777, 778]),
        ("set: {Seed for all.value: -1}", [777]),
    ):
        sent = prompt(read(fields, held("PrimitiveInt", 5)))
        assert [each["80"]["value"] for each in sent] == values, fields
    assert prompt(read("", held("PrimitiveInt", -1)))[0]["80"]["value"] == 777


def test_a_short_name_without_a_place_names_what_gives_the_value() -> None:
    adds = held("PrimitiveInt", 5)
    adds["80"] = node("Add", "Sum", a=1, b=2)
    (message,) = refused("seed: 5", adds)
    assert message.endswith(
        "the workflow has no place for seed; use `set:` with a node and input; seed of node 3 "
        "(KSampler) comes from node 80 (Sum) (made of 80.a, 80.b), noise_seed of node 33 "
        "(KSamplerAdvanced) comes from node 80 (Sum) (made of 80.a, 80.b)"
    )
    joined = nodes(
        n6=node("CLIPTextEncode", text=["83", 0], clip=["4", 1]),
        n83=node("StringConcatenate", string_a="a", string_b="b", delimiter=","),
    )
    (message,) = refused("prompt: x", joined)
    assert "comes from node 83 (StringConcatenate) (made of 83.string_a, 83.string_b" in message


# -- images


def test_each_image_is_a_call_and_goes_to_the_one_place_for_it() -> None:
    job = read("images: [a.png, b.png]", LOADS, files={"a.png": b"", "b.png": b""})
    calls = calls_of(1, job.stages[0], None, ())
    assert [call.images for call in calls] == [("a.png",), ("b.png",)]
    assert [call["10"]["image"] for call in prompt(job)] == ["0.png", "0.png"]
    assert job.named == {"a.png", "b.png", "wf.json"}


def test_an_image_by_its_input_is_the_same_in_each_call() -> None:
    files = {"a.png": b"", "poses/1.png": b"", "poses/2.png": b""}
    job = read("images: {Pose.image: a.png}, input: poses/*.png", TWO_LOADS, files=files)
    calls = calls_of(1, job.stages[0], None, ())
    assert [call.images for call in calls] == [("poses/1.png",), ("poses/2.png",)]
    assert [(c["12"]["image"], c["10"]["image"]) for c in prompt(job)] == [("0.png", "1.png")] * 2
    assert job.named == {*files, "wf.json"}


def second_stage(
    fields: str, workflow: Nodes, files: Mapping[str, bytes] | None = None
) -> tuple[Stage, int]:
    """A workflow behind a txt2img, and the stage that it takes its images from; 0 for none."""
    text = f"stages:\n- txt2img: {{id: base, prompt: x}}\n- workflow: {{file: wf.json{fields}}}\n"
    there = {"job.yaml": b"", "wf.json": json.dumps(workflow).encode(), **(files or {})}
    job = parse_job(
        text.encode(), "job", frozenset(there), "job", read=there.__getitem__,
        look=lambda _: (64, 64),
    )  # fmt: skip
    return job.stages[1], plan_of(job.stages)[1].taken_from


def test_a_workflow_with_one_place_for_an_image_works_on_the_stage_before() -> None:
    # Its LoadImage names ComfyUI's own example.png, as the editor's default does.
    stage, source = second_stage("", LOADS)
    assert source == 1
    assert stage.workflow is not None
    assert stage.workflow.image == ("10", "image")
    assert [call.images for call in calls_of(2, stage, None, ("1.png", "2.png"))] == [
        ("1.png",), ("2.png",),
    ]  # fmt: skip
    assert second_stage(", input: base", LOADS)[1] == 1
    assert second_stage("", DRAWS)[1] == 0  # it loads no image
    assert plan_of(read("", LOADS).stages)[0].taken_from == 0  # nothing is before it


def test_only_nodes_that_load_an_image_get_it_unasked() -> None:
    drawn = nodes(n20=node("ImageFromText", image="PHN2Zz4="))
    stage, source = second_stage("", drawn)
    assert (source, stage.workflow and stage.workflow.image) == (0, None)
    also = {**LOADS, "20": drawn["20"]}
    stage, source = second_stage("", also)
    assert (source, stage.workflow and stage.workflow.image) == (1, ("10", "image"))


def test_a_job_says_that_a_later_workflow_loads_a_file_of_comfyui() -> None:
    assert second_stage(", set: {Photo.image: example.png}", LOADS)[1] == 0
    stage, source = second_stage(", set: {Pose.image: example.png}", TWO_LOADS)
    assert (source, stage.workflow and stage.workflow.image) == (1, ("10", "image"))
    pose = {"pose.png": b""}
    stage, source = second_stage(", images: {Photo.image: pose.png}", TWO_LOADS, pose)
    assert (source, stage.workflow and stage.workflow.image) == (1, ("12", "image"))


def test_with_several_places_a_later_workflow_says_which_one_is_for_the_stage_before() -> None:
    with pytest.raises(JobError) as error:
        second_stage("", TWO_LOADS)
    (problem,) = error.value.problems
    assert (problem.line, problem.column) == (3, 20)
    assert problem.message == (
        "the picture of the stage before could be for several: Photo (10.image), Pose (12.image); "
        "name the others: `images: {12.image: pose.png}` for a file of the job folder, `set:` for "
        "one that ComfyUI has in its input/"
    )


def test_the_id_of_a_stage_among_images_belongs_into_input() -> None:
    with pytest.raises(JobError, match='for the pictures of that stage write "input: base"'):
        second_stage(", images: base", LOADS)


@table(
    ("fields", "workflow", "why"),
    [
        ("images: a.png", DRAWS, "has no place for an image"),
        ("images: a.png", TWO_LOADS, r"Photo \(10.image\), Pose \(12.image\); name those"),
        ("images: b.png", LOADS, "is not in the job folder"),
        ("images: {Poze.image: a.png}", TWO_LOADS, 'did you mean "Pose"'),
        ("images: {Pose.image: b.png}", TWO_LOADS, "is not in the job folder"),
        ("images: {Pose.image: ../a.png}", TWO_LOADS, "is outside the job folder"),
        ("images: {11.pixels: a.png}", LOADS, "pixels of node 11 .* comes from node 10"),
        ("images: a.png, input: '*.png'", LOADS, 'give "input" or "images", not both'),
        ("images: a.png, fan_out: off", LOADS, "one image at a time"),
        ("images: {a: [b]}", LOADS, "must be an image of the job folder"),
    ],
)
def test_an_image_without_one_clear_place_is_refused(
    fields: str, workflow: Nodes, why: str
) -> None:
    messages = refused(fields, workflow, files={"a.png": b""})
    assert any(re.search(why, message) for message in messages), messages


# -- outputs


def test_outputs_are_the_nodes_that_save_and_no_previews() -> None:
    several = nodes(
        n12=node("SaveImage", "Final", images=["8", 0], filename_prefix="b"),
        n13=node("PreviewImage", images=["8", 0]),
    )
    stage = read("", several).stages[0]
    assert stage.workflow is not None
    assert stage.workflow.call(1).taken == ("9", "12")
    chosen = read("outputs: [Final]", several).stages[0].workflow
    assert chosen is not None
    payload = chosen.call(1).as_payload()
    files = {
        id: (OutputFile("x.png", "sdwatch/1", kind),)
        for id, kind in (("9", "output"), ("12", "output"), ("13", "temp"))
    }
    result = taken(payload, PromptResult(PromptEnd.SUCCESS, None, files))
    assert list(result.files) == ["12"]
    everything = taken(
        stage.workflow.call(1).as_payload(), PromptResult(PromptEnd.SUCCESS, None, files)
    )
    assert list(everything.files) == ["9", "12"]
    assert taken({}, result) is result
    (message,) = refused("outputs: [Finale]", several)
    assert 'did you mean "Final"' in message
    (message,) = refused("outputs: [PreviewImage]", several)
    assert "saves nothing that sdwatch can take" in message


def test_each_save_node_of_a_call_has_a_prefix_of_its_own() -> None:
    several = nodes(n12=node("SaveLatent", samples=["3", 0], filename_prefix=["77", 0]))
    (sent,) = prompt(read("", several))
    prefixes = [n["filename_prefix"] for n in sent.values() if "filename_prefix" in n]
    assert prefixes == ["sdwatch/id/save-1", "sdwatch/id/save-2"]


def test_a_payload_carries_the_whole_call() -> None:
    job = read("images: a.png, outputs: SaveImage", LOADS, files={"a.png": b""})
    used = job.stages[0].workflow
    assert used is not None
    call = used.call(5)
    carried = call_in(json.loads(json.dumps(call.as_payload())))
    assert carried == call
    assert call_in({"prompt": "x"}) is None


# -- how many, how large, how long


@table(
    ("workflow", "expected"),
    [
        (DRAWS, 1),
        (nodes(n5=node("EmptyLatentImage", width=64, height=64, batch_size=4)), 4),
        (nodes(n8=node("SomethingCustom", samples=["3", 0])), None),
        (nodes(n5=node("EmptyLatentImage", width=64, height=64, batch_size=["20", 0])), None),
        (LOADS, 1),
        (nodes(n8=node("VAEDecode", samples=["8", 0])), None),
        (
            nodes(
                n14=node("RepeatLatentBatch", samples=["5", 0], amount=3),
                n3={**DRAWS["3"], "inputs": {**DRAWS["3"]["inputs"], "latent_image": ["14", 0]}},
            ),
            3,
        ),
    ],
)
def test_pictures_are_counted_where_each_node_is_known(
    workflow: Nodes, expected: int | None
) -> None:
    job = read("repeat: 2", workflow)
    assert pictures_of(job) == (None if expected is None else 2 * expected)
    used = job.stages[0].workflow
    assert used is not None
    files = files_of(
        used.call(1).ready("sdwatch/id", [""] * len(used.call(1).images)), CATALOGUE.classes
    )
    names = [(f"save-1_{n:05}_.png", f"save-1_{n:05}.png") for n in range(1, (expected or 0) + 1)]
    assert files == (None if expected is None else names)


def test_estimates_and_the_order_of_jobs_know_steps_size_and_checkpoint() -> None:
    job = read("steps: 12, repeat: 3")
    assert sizes_in(job) == {CallSize("workflow", 512 * 768, 12, 1): 3}
    assert needed_first(job) == left_loaded(job) == "sd15.safetensors"
    assert needed_first(read("", nodes(n4=node("UNETLoader", unet_name="x")))) is None


def test_after_out_of_memory_a_workflow_is_not_changed() -> None:
    job = read("")
    (call,) = calls_of(1, job.stages[0], None, ())
    rungs = list(ladder(list(OomStep), call, {}, None))
    assert [rung.step for rung in rungs] == list(OomStep)
    assert all(rung.skipped for rung in rungs)


# -- points


def test_values_of_points_are_in_set_and_in_short_names() -> None:
    more = "matrix: {animal: [cat, owl], steps: [5, 6]}\n"
    job = read("set: {Positive.text: 'a ${animal}'}", more=more)
    made = [job.stages_of(point, 0)[0].workflow for point in job.points]
    texts = [(w.workflow.nodes["6"].inputs["text"], w.value("steps")) for w in made if w]
    assert texts == [("a cat", 5), ("a cat", 6), ("a owl", 5), ("a owl", 6)]


def test_a_mistake_at_one_point_is_found_before_the_first_call() -> None:
    messages = refused("steps: 5", more="matrix: {cfg: [5, high]}\n")
    assert any("job.yaml:1:" in message and "cfg" in message for message in messages), messages


def test_the_image_of_a_point_is_the_image_of_the_workflow() -> None:
    files = {"a.png": b"", "b.png": b""}
    job = read("", LOADS, more="for_each: '*.png'\n", files=files)
    assert [job.stages_of(p, 0)[0].fields["images"] for p in (1, 2)] == [["a.png"], ["b.png"]]


def test_wildcards_in_set_are_picked_for_each_text() -> None:
    lines = b"red\nblue\ngreen\n"
    fields = "set: {Positive.text: a __color__ cat, Negative.text: __color__}"
    job = read(fields, files={"wildcards/color.txt": lines})
    used = job.stages_of(1, 3)[0].workflow
    assert used is not None
    texts = [used.workflow.nodes[id].inputs["text"] for id in "67"]
    assert re.fullmatch("a (red|blue|green) cat", texts[0])
    assert texts[1] in ("red", "blue", "green")
    others = [job.stages_of(1, n)[0].workflow for n in range(30)]
    assert len({w.workflow.nodes["6"].inputs["text"] for w in others if w}) == 3


# -- preflight

CATALOGUE = Catalogue(
    KINDS["comfyui"],
    stages=dict.fromkeys(KINDS["comfyui"].stages_without_schema),
    classes={**CLASSES, **read_classes({
        "PreviewImage": {"input": {"required": {"images": ["IMAGE"]}}, "output_node": True},
        "VAEEncode": {
            "input": {"required": {"pixels": ["IMAGE"], "vae": ["VAE"]}}, "output": ["LATENT"],
        },
        "ReadText": {"input": {"required": {"file_path": ["STRING", {}]}}, "output": ["STRING"]},
        "Prefixed": {"input": {"required": {"filename_prefix": ["STRING", {}]}}},
    })},
)  # fmt: skip


def checked(job: Job, **more: Any) -> Checked:
    return check_against(job, CATALOGUE, **more)


def found(job: Job, **more: Any) -> list[str]:
    return [problem.located("job.yaml") for problem in checked(job, **more).problems]


def test_a_workflow_that_fits_passes() -> None:
    assert found(read("prompt: x, seed: -1")) == []
    assert found(read("images: a.png", LOADS, files={"a.png": b""})) == []


def of_seeds(most: int, least: int = 0) -> Catalogue:
    """A ComfyUI with a sampler whose seeds end there."""
    sampler = {
        "input": {"required": {"seed": ["INT", {"min": least, "max": most}]}},
        "output_node": True,
    }
    classes = {**CLASSES, **read_classes({"Small": sampler})}
    return CATALOGUE.with_classes(classes, lambda *_: ())


def test_a_drawn_seed_fits_into_each_node_that_takes_31_bits() -> None:
    for_small = nodes(n20=node("Small", "Noise", seed=-1), n3=None, n8=None, n9=None)
    job = read("repeat: 3", for_small)
    seeds = draw_seeds(job.stages[0], lambda: MAX_SEED)
    assert seeds is not None
    assert 0 <= seeds.seed < 2**30  # what counts on from there stays below 2**31
    assert check_against(job, of_seeds(2**31 - 1, least=1)).problems == ()
    (problem,) = check_against(job, of_seeds(9999)).problems
    assert problem.message == (
        "input seed of node 20 (Noise) takes at most 9999, and a random seed may be as large as "
        "2147483647: give a seed"
    )
    (said,) = check_against(read("seed: -1", for_small), of_seeds(9999)).problems
    assert (said.line, said.column) == (3, 27)


def test_the_last_seed_of_a_repetition_fits_too() -> None:
    for_small = nodes(n20=node("Small", "Noise", seed=9998), n3=None, n8=None, n9=None)
    assert check_against(read("repeat: 2", for_small), of_seeds(9999)).problems == ()
    (problem,) = check_against(read("repeat: 3", for_small), of_seeds(9999)).problems
    assert problem.message == (
        "input seed of node 20 (Noise) takes at most 9999, and the last of 3 calls has 10000"
    )


@table("name", ["sd15", "SD15", "sd15.safetensors"])
def test_a_checkpoint_may_be_named_as_in_other_stages(name: str) -> None:
    for fields in (f"checkpoint: {name}", f"set: {{4.ckpt_name: {name}}}"):
        job = read(fields)
        assert found(job) == []
        used = job.stages[0].workflow
        assert used is not None
        sent = with_listed_checkpoints(used.workflow, CLASSES)
        assert sent.nodes["4"].inputs["ckpt_name"] == "sd15.safetensors"


def test_what_does_not_fit_has_the_place_where_it_is_written() -> None:
    job = read("checkpoint: sd16.safetensors, set: {3.steps: 0}")
    assert found(job) == [
        "job.yaml:3:33: input ckpt_name of node 4 (CheckpointLoaderSimple) has no "
        '"sd16.safetensors" in its list; did you mean "sd15.safetensors"?',
        "job.yaml:3:66: input steps of node 3 (KSampler) must be at least 1, not 0",
    ]
    wrong = nodes(n20=node("FaceDetailer", image=["8", 0]))
    (message,) = found(read("", wrong))
    line = json.dumps(wrong, indent=1)[: json.dumps(wrong, indent=1).index('"20"')].count("\n") + 1
    assert message.startswith(f"job/wf.json:{line}:2: this ComfyUI has no node class FaceDetailer")


def test_before_a_workflow_is_refused_the_node_classes_are_read_again() -> None:
    assert checked(read("checkpoint: new.safetensors")).stale == {NODE_CLASSES}
    just_installed = read("", nodes(n20=node("FaceDetailer", image=["8", 0])))
    assert checked(just_installed).stale == {NODE_CLASSES}
    assert checked(read("set: {3.steps: 0}")).stale == {NODE_CLASSES}, "a newer one may allow it"
    assert checked(read("")).stale == frozenset()


def test_a_number_is_not_rounded_in_silence() -> None:
    (message,) = found(read("set: {3.steps: 5.5}"))
    assert "must be a whole number, not 5.5" in message


def test_a_prompt_in_the_place_of_a_name_is_not_shown() -> None:
    text = "a woman in a red dress on a beach at night"
    (message,) = found(read(f"set: {{3.scheduler: {text}}}"))
    assert text not in message
    assert "a text of 42 characters" in message


def test_inputs_that_make_others_and_widgets_of_custom_nodes_are_left_to_comfyui() -> None:
    made = {
        "ImageStitch": {
            "input": {
                "required": {
                    "images": ["COMFY_AUTOGROW_V3", {}],
                    "mode": ["COMFY_DYNAMICCOMBO_V3", {}],
                    "color": ["COLOR", {}],
                    "tags": ["COMBO", {"options": ["a", "b"], "multiselect": True}],
                }
            }
        }
    }
    catalogue = replace(CATALOGUE, classes={**CLASSES, **read_classes(made)})
    inputs = {"images.image0": ["8", 0], "mode": "scale", "mode.factor": 2, "color": "#fff"}
    for tags, wrong in ((["a", "b"], 0), (["a", "c"], 1)):
        stitch = node("ImageStitch", **inputs, tags={"__value__": tags})
        job = read("", nodes(n20=stitch))
        assert len(check_against(job, catalogue).problems) == wrong


PAID = nodes(n20=node("PaidImage", "Upscale in the cloud", images=["8", 0]))


def test_a_paid_service_needs_a_word_of_the_job_or_of_the_config() -> None:
    (message,) = found(read("", PAID))
    assert "sends pictures to a paid service" in message
    assert found(read("allow: PaidImage", PAID)) == []
    assert found(read("", PAID), rules=JobRules(allow=("PaidImage",))) == []
    (message,) = refused("allow: [PaidImages]", PAID)
    assert 'did you mean "PaidImage"' in message


def test_what_comes_from_a_mask_is_a_mask_and_nothing_else_is() -> None:
    made = workflow_of(
        nodes(
            n20=node("MaskToImage", mask=["19", 0]),
            n21=node("ImageScale", image=["20", 0]),
            n22=node("SaveImage", images=["21", 0], filename_prefix="mask"),
        )
    )
    assert [id for id in ("9", "22") if shows_mask(made, id)] == ["22"]


def test_a_node_that_cannot_save_is_not_waited_for() -> None:
    only = nodes(
        n9=node("Prefixed", filename_prefix="x"), n13=node("PreviewImage", images=["8", 0])
    )
    assert any(
        "no node of the workflow saves anything" in message for message in found(read("", only))
    )
    both = nodes(n12=node("Prefixed", filename_prefix="x"))
    assert found(read("", both)) == []
    (message,) = found(read("outputs: Prefixed", both))
    assert "node 12 (Prefixed) saves nothing" in message


def warned(job: Job) -> list[str]:
    result = checked(job)
    assert result.problems == ()
    return [warning.located("job.yaml") for warning in result.warnings]


def test_a_side_that_its_node_would_silently_change_is_a_warning() -> None:
    assert warned(read("height: 96, set: {5.width: 100}")) == [
        "job.yaml:3:48: input width of node 5 (EmptyLatentImage) goes in steps of 8; its node may "
        "silently use 96"
    ]


def test_an_embedding_that_a_prompt_of_a_workflow_names_is_looked_up() -> None:
    held = nodes(
        n6=node("CLIPTextEncode", "Positive", text=["20", 0], clip=["4", 1]),
        n20=node("PrimitiveString", "Text", value="a castle"),
    )
    known = CATALOGUE.with_list("embeddings", {"loaded": {"easynegative": {}}, "skipped": {}})
    known = replace(known, classes={**CLASSES, **PRIMITIVE})
    for workflow, input in ((DRAWS, "Positive.text"), (held, "Text.value")):
        good = read(f"set: {{{input}: 'embedding:easynegative'}}", workflow)
        assert check_against(good, known).problems == ()
        bad = read(f"set: {{{input}: 'a castle, embedding:easynegativ'}}", workflow)
        (problem,) = check_against(bad, known).problems
        assert problem.line == 3
        assert 'no embedding "easynegativ"; did you mean "easynegative"?' in problem.message


PRIMITIVE = read_classes(
    {"PrimitiveString": {"input": {"required": {"value": ["STRING", {}]}}, "output": ["STRING"]}}
)


def test_a_call_that_is_too_large_is_refused() -> None:
    (message,) = found(read("width: 8192, height: 8192"), max_generation=1_000_000)
    assert "megapixels; max_generation" in message


@pytest.mark.parametrize("kind", ["forge", "sdcpp", "unknown"])
def test_other_webuis_run_no_workflows(kind: str) -> None:
    catalogue = Catalogue(KINDS[kind])
    (problem,) = check_against(read(""), catalogue).problems
    assert "runs no workflows; ComfyUI does" in problem.message


def test_without_its_classes_nothing_is_held_against_a_workflow() -> None:
    bare = Catalogue(KINDS["comfyui"], stages=CATALOGUE.stages)
    result = check_against(read("checkpoint: x"), bare)
    assert result.problems == ()
    assert any("/object_info" in note for note in result.notes)


# -- what reaches outside


@table("value", ["/etc/passwd", "..\\x.png", "C:\\x", "http://example.com/x", "~/x", "file:x"])
def test_a_workflow_names_no_place(value: str) -> None:
    far = nodes(n20=node("Custom", "Reader", source=value))
    (message,) = refused("", far)
    assert message.startswith("job/wf.json:")
    assert "source of node 20 (Reader) contains a" in message
    assert read("", far, rules=JobRules(allow=("Custom",)))
    assert read("", far, rules=JobRules(allow=("source",)))
    near = nodes(n20=node("Custom", "Reader", source="x"))
    (message,) = refused(f"set: {{Reader.source: '{value}'}}", near)
    assert message.startswith("job.yaml:3:")


def test_a_prompt_may_be_any_text() -> None:
    assert read("set: {Positive.text: '/imagine ../ a castle'}")


def test_a_prompt_that_other_nodes_hold_or_join_may_be_any_text_too() -> None:
    joined = nodes(
        n6=node("CLIPTextEncode", "Positive", text=["83", 0], clip=["4", 1]),
        n83=node("StringConcatenate", string_a=["84", 0], string_b="//fog", delimiter=" / "),
        n84=node("PrimitiveStringMultiline", "Text", value="//a castle"),
        n7=node("TextEncodeQwenImageEdit", "Negative", prompt="/blurry", clip=["4", 1]),
    )
    assert read("", joined)
    assert read("set: {Text.value: //a lighthouse}", joined)
    # What only looks like it: a file that a node reads, a text that no encoder gets.
    for wrong in (
        nodes(n6=node("CLIPTextEncode", text=["83", 0], clip=["4", 1]),
              n83=node("ReadText", text="/etc/passwd", lines=3)),
        nodes(n84=node("PrimitiveString", value="/etc/passwd")),
    ):  # fmt: skip
        (message,) = refused("", wrong)
        assert "contains a path" in message


def test_an_input_that_is_a_place_by_its_name_is_refused_by_its_class() -> None:
    reads = nodes(n20=node("ReadText", file_path="notes.txt"))
    (message,) = found(read("", reads))
    assert "file_path of node 20 (ReadText) names a place on ComfyUI's disk" in message
    assert found(read("", nodes(n20=node("ReadText", file_path="")))) == []
    assert found(read("", reads), rules=JobRules(allow=("file_path",))) == []


# -- privacy


def test_evidence_has_the_structure_of_a_workflow_and_none_of_its_texts() -> None:
    private = nodes(
        n6=node("CLIPTextEncode", "a secret title", text="a naked secret", clip=["4", 1]),
        n20=node("Custom", notes={"deep": ["another secret"]}),
    )
    private["secret id"] = node("Custom", x="y")
    used = read("", private).stages[0].workflow
    assert used is not None
    clean = sanitise({"seed": 5, **used.call(5).as_payload()})
    shown = json.dumps(clean)
    assert "secret" not in shown
    assert clean["own_workflow"]["nodes"]["3"]["class_type"] == "KSampler"
    assert clean["own_workflow"]["nodes"]["3"]["links"]["positive"] == ["6", 0]
    assert clean["own_workflow"]["nodes"]["3"]["values"]["steps"] == 3
    assert clean["own_workflow"]["nodes"]["3"]["values"]["sampler_name"] == "euler"
    assert clean["own_workflow"]["nodes"]["4"]["values"]["ckpt_name"] == "sd15.safetensors"


def test_prompts_inside_a_workflow_are_redacted_and_its_classes_and_titles_are_not() -> None:
    used = read("set: {Positive.text: a naked secret}").stages[0].workflow
    assert used is not None
    redactor = Redactor()
    redactor.learn(used.call(5).as_payload())
    said = redactor.redact("node 6 (Positive) of CLIPTextEncode: a naked secret; euler, normal, 9")
    assert "secret" not in said
    for kept in ("6 (Positive)", "CLIPTextEncode", "euler", "normal", "9"):
        assert kept in said


def test_a_workflow_that_is_none_is_hidden_like_any_other_field() -> None:
    assert "secret" not in json.dumps(sanitise({"own_workflow": "a secret"}))
    assert "secret" not in json.dumps(sanitise({"own_workflow": {"nodes": {"a": "a secret"}}}))


def test_of_very_many_texts_the_prompts_are_remembered() -> None:
    notes = {f"n{100 + n}": node("Note", note=f"note number {n} of many") for n in range(700)}
    used = read("", nodes(**notes)).stages[0].workflow
    assert used is not None
    redactor = Redactor()
    redactor.learn(used.call(5).as_payload())
    assert "a castle" not in redactor.redact('"a castle"')


# -- hostile files


@pytest.mark.slow
def test_a_hostile_workflow_costs_no_more_than_others() -> None:
    many = {f"n{n}": node("X" * 50, f"title {n} " * 5, a=[str(n + 1), 0]) for n in range(100, 2000)}
    long = node("K" * 100_000, "T" * 200_000 + "\n", **{"i" * 100_000: 1})
    wrong = ", ".join(f"{'z' * 60}{n}.x: 1" for n in range(100))
    started = time.monotonic()
    messages = refused(f"set: {{{wrong}}}, prompt: x", nodes(**many, n20=long))
    assert time.monotonic() - started < 60
    assert max(map(len, messages)) < 2000
    assert max(len(m) for m in found(read("", nodes(n20=long)))) < 2000


# -- replies


def test_of_the_pictures_of_a_workflow_only_the_colour_is_checked() -> None:
    payload = WorkflowCall(read("").stages[0].workflow.workflow).as_payload()  # type: ignore[union-attr]
    black = ReplyContents([Picture((64, 64), one_colour=True)], {})
    assert [f.kind for f in findings("workflow", payload, black)] == ["one_colour"]
    odd = ReplyContents([Picture((3, 5))], {"seed": 1, "sd_model_name": "x"})
    assert findings("workflow", payload, odd) == ()
