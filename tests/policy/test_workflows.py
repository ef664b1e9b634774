"""Workflows of ComfyUI: read, addressed by node and input, checked against its classes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from sdwatch.policy.workflow.node_classes import NodeClass, read_classes
from sdwatch.policy.workflow.places import (
    SHORT_NAMES,
    InputPlace,
    PlaceError,
    place_of,
    short_place,
)
from sdwatch.policy.workflow.preflight import misfits
from sdwatch.policy.workflow.workflow import (
    Workflow,
    WorkflowError,
    read_workflow,
    texts_in,
    workflow_of,
)
from tests.support.tables import table

DRAWS: dict[str, Any] = {
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
    "5": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 512, "height": 768, "batch_size": 1},
    },
    "6": {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "a castle", "clip": ["4", 1]},
        "_meta": {"title": "Positive"},
    },
    "7": {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "fog", "clip": ["4", 1]},
        "_meta": {"title": "Negative"},
    },
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 2,
            "steps": 3,
            "cfg": 5.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
            "model": ["4", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "x"}},
}


def workflow(changed: dict[str, Any] | None = None) -> Workflow:
    return read_workflow(json.dumps({**DRAWS, **(changed or {})}).encode())


# -- reading


def test_what_is_read_is_what_is_sent() -> None:
    sent = workflow().as_prompt()
    assert {id: node["inputs"] for id, node in sent.items()} == {
        id: node["inputs"] for id, node in DRAWS.items()
    }
    assert sent["6"]["_meta"] == {"title": "Positive"}


def test_the_body_of_a_post_is_taken_too() -> None:
    body = json.dumps({"prompt": DRAWS, "client_id": "x"}).encode()
    assert read_workflow(b"\xef\xbb\xbf" + body) == workflow()


@table(
    ("data", "why"),
    [
        (b'{"nodes": [], "links": []}', "editor's own format"),
        (b"[]", "no nodes by id"),
        (b"{}", "is empty"),
        (b'{"3": 1}', "node 3 has no class_type"),
        (b'{"3": {"class_type": "A", "inputs": []}}', "inputs of node 3 are not a mapping"),
        (b'{"3": {"class_type": "A",\n}}', "this is not JSON"),
        (b"\xff{}", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"3": {"class_type": "A", "inputs": {"a": NaN}}}', "NaN is not a value of JSON"),
        (b'{"3": {"inputs": {"a": ' + b"1" * 5_000 + b"}}}", "too many digits"),
    ],
)
def test_what_is_no_workflow_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(WorkflowError, match=why):
        read_workflow(data)


def test_the_editors_own_format_names_the_menu() -> None:
    with pytest.raises(WorkflowError, match=r"Workflow → Export \(API\)"):
        read_workflow(b'{"nodes": []}')


def test_its_texts_are_all_that_its_inputs_say() -> None:
    texts = {text for node in workflow().nodes.values() for text in texts_in(node.values())}
    assert {"a castle", "fog", "sd15.safetensors", "x"} <= texts


# -- places


@table(
    ("written", "place"),
    [
        ("Positive.text", InputPlace("6", "text")),
        ("6.text", InputPlace("6", "text")),
        ("KSampler.seed", InputPlace("3", "seed")),
        ("5.width", InputPlace("5", "width")),
    ],
)
def test_an_input_is_named_by_title_or_id(written: str, place: InputPlace) -> None:
    assert place_of(workflow(), written) == place


@table(
    ("written", "why"),
    [
        ("Positiv.text", 'no node has the title or id "Positiv"; did you mean "Positive"'),
        ("Positive.txt", 'no input "txt"; did you mean "text"'),
        ("CLIPTextEncode.text", "no node has the title or id"),
        ("text", "name a node and one of its inputs"),
        (".text", "name a node and one of its inputs"),
        ("6.", "name a node and one of its inputs"),
    ],
)
def test_what_names_no_input_has_the_nearest_in_its_message(written: str, why: str) -> None:
    with pytest.raises(PlaceError, match=why):
        place_of(workflow(), written)


def test_a_title_that_several_nodes_have_needs_one_of_their_ids() -> None:
    twice = workflow({"7": {**DRAWS["7"], "_meta": {"title": "Positive"}}})
    with pytest.raises(PlaceError, match="use one of their ids: 6, 7"):
        place_of(twice, "Positive.text")


def test_each_short_name_has_its_place() -> None:
    assert {name: short_place(workflow(), name) for name in SHORT_NAMES} == {
        "prompt": ("6", "text"),
        "negative_prompt": ("7", "text"),
        "seed": ("3", "seed"),
        "steps": ("3", "steps"),
        "cfg": ("3", "cfg"),
        "width": ("5", "width"),
        "height": ("5", "height"),
        "checkpoint": ("4", "ckpt_name"),
    }


def test_the_prompt_is_found_behind_a_node_that_passes_both_on() -> None:
    control = {
        "class_type": "ControlNetApplyAdvanced",
        "inputs": {"positive": ["6", 0], "negative": ["7", 0], "strength": 1.0},
    }
    sampler = {
        **DRAWS["3"],
        "inputs": {**DRAWS["3"]["inputs"], "positive": ["20", 0], "negative": ["20", 1]},
    }
    made = workflow({"20": control, "3": sampler})
    assert short_place(made, "prompt") == ("6", "text")
    assert short_place(made, "negative_prompt") == ("7", "text")


def test_a_short_name_with_two_places_lists_them() -> None:
    second = {"class_type": "KSampler", "inputs": {**DRAWS["3"]["inputs"], "seed": 9}}
    with pytest.raises(PlaceError, match=r"KSampler \(3.seed\), KSampler \(33.seed\)"):
        short_place(workflow({"33": second}), "seed")
    without = {"class_type": "CheckpointLoaderSimple", "inputs": {}}
    with pytest.raises(PlaceError, match="has no place for checkpoint"):
        short_place(workflow({"4": without}), "checkpoint")


def test_what_has_no_place_is_refused_with_where_its_value_comes_from() -> None:
    linked = workflow_of(
        {
            "3": {"class_type": "KSampler", "inputs": {"seed": ["20", 0]}},
            "20": {"class_type": "Sum", "inputs": {"a": 5, "b": 6}},
        }
    )
    with pytest.raises(PlaceError) as caught:
        short_place(linked, "seed")
    assert str(caught.value).endswith(
        "seed of node 3 (KSampler) comes from node 20 (Sum) (made of 20.a, 20.b)"
    )
    with pytest.raises(PlaceError, match=r"there are 3 \(KSampler\), 20 \(Sum\)"):
        short_place(linked, "steps")


# -- preflight

CLASSES = read_classes(
    {
        "CheckpointLoaderSimple": {
            "input": {"required": {"ckpt_name": [["sd15.safetensors"], {}]}},
            "output": ["MODEL", "CLIP", "VAE"],
        },
        "EmptyLatentImage": {
            "input": {
                "required": {
                    side: ["INT", {"min": 16, "max": 16384, "step": 8}]
                    for side in ("width", "height")
                }
                | {"batch_size": ["INT", {"min": 1, "max": 4096}]}
            },
            "output": ["LATENT"],
        },
        "CLIPTextEncode": {
            "input": {"required": {"text": ["STRING", {}], "clip": ["CLIP"]}},
            "output": ["CONDITIONING"],
        },
        "KSampler": {
            "input": {
                "required": {
                    "model": ["MODEL"],
                    "seed": ["INT", {"min": 0, "max": 2**64 - 1}],
                    "steps": ["INT", {"min": 1, "max": 10000}],
                    "cfg": ["FLOAT", {"min": 0.0, "max": 100.0}],
                    "sampler_name": [["euler", "heun"]],
                    "scheduler": ["COMBO", {"options": ["normal", "karras"]}],
                    "positive": ["CONDITIONING"],
                    "negative": ["CONDITIONING"],
                    "latent_image": ["LATENT"],
                    "denoise": ["FLOAT", {"min": 0.0, "max": 1.0}],
                }
            },
            "output": ["LATENT"],
        },
        "VAEDecode": {
            "input": {"required": {"samples": ["LATENT"], "vae": ["VAE"]}},
            "output": ["IMAGE"],
        },
        "SaveImage": {
            "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}},
            "output": [],
            "output_node": True,
        },
        "LoadImage": {
            "input": {"required": {"image": [["a.png"], {"image_upload": True}]}},
            "output": ["IMAGE", "MASK"],
        },
        "PaidImage": {
            "input": {"required": {"images": ["IMAGE"]}},
            "output_node": True,
            "api_node": True,
        },
        "odd": {"input": {"required": {"a": 3, "b": [], "c": [None]}}},
        "none": None,
    }
)


def changed(id: str, **inputs: Any) -> Workflow:
    return workflow({id: {**DRAWS[id], "inputs": {**DRAWS[id]["inputs"], **inputs}}})


def said(made: Workflow) -> list[str]:
    return [misfit.message for misfit in misfits(made, CLASSES)]


def test_a_workflow_that_fits_has_no_misfit() -> None:
    assert said(workflow()) == []
    assert said(changed("3", steps="3", cfg=5, seed=2**64 - 1)) == []
    assert CLASSES["odd"] == NodeClass("odd", {})


@table(
    ("made", "why"),
    [
        (changed("4", ckpt_name="sd15.safetensor"), 'did you mean "sd15.safetensors"'),
        (changed("3", sampler_name="eulr"), 'has no "eulr" in its list; did you mean "euler"'),
        (changed("3", scheduler="karass"), 'did you mean "karras"'),
        (changed("3", steps=0), "must be at least 1, not 0"),
        (changed("3", denoise=2), "must be at most 1, not 2"),
        (changed("3", cfg="high"), "must be a number$"),
        (changed("3", steps="many"), "must be a whole number$"),
        (changed("3", model=1), "must be linked to a node that gives MODEL"),
        (changed("3", model=["77", 0]), "is linked to node 77, which is not there"),
        (changed("3", model=["4", 3]), r"output 3 of 4 \(CheckpointLoaderSimple\), which has 3"),
        (changed("3", model=["4", 1]), "takes MODEL; .* gives CLIP there"),
        (changed("5", width=8), "must be at least 16, not 8"),
        (changed("3", seed=2**64), f"must be at most {2**64 - 1}, not {2**64}$"),
        (changed("3", seed=str(2**64)), f"must be at most {2**64 - 1}, not {2**64}$"),
        (changed("3", seed=-(2**63)), f"must be at least 0, not -{2**63}$"),
        (changed("3", steps=10001.0), "must be at most 10000, not 10001$"),
        (changed("3", cfg=100.25), "must be at most 100, not 100.25$"),
        (changed("3", steps=2.5), "must be a whole number, not 2.5$"),
    ],
)
def test_an_input_that_does_not_fit_is_named(made: Workflow, why: str) -> None:
    (message,) = said(made)
    assert re.search(why, message), message


def test_the_nearest_file_is_found_without_folder_and_ending() -> None:
    files = ["x.ckpt", "castle.safetensors", "sdxl/photo-of-a-dream.safetensors"]
    loader = CLASSES["CheckpointLoaderSimple"]
    rule = replace(loader.inputs["ckpt_name"], choices=tuple(files))
    known = {**CLASSES, loader.name: replace(loader, inputs={"ckpt_name": rule})}
    for written, near in (("castel", files[1]), ("Photo-of-dream.ckpt", files[2])):
        (misfit,) = misfits(changed("4", ckpt_name=written), known)
        assert misfit.message.endswith(f'did you mean "{near}"?'), misfit.message


def test_a_node_class_that_is_missing_is_named_once() -> None:
    gone = {"class_type": "FaceDetailer", "inputs": {"image": ["8", 0]}}
    (message,) = said(workflow({"20": gone}))
    assert "no node class FaceDetailer" in message
    assert "custom node" in message


def test_an_input_that_is_missing_is_named() -> None:
    (message,) = said(workflow({"9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}}}))
    assert message == "node 9 (SaveImage) lacks its input filename_prefix"


def test_a_circle_is_found() -> None:
    circle = changed("5", width=["3", 0])
    assert any("depends on itself" in message for message in said(circle))


def test_a_workflow_that_saves_nothing_is_refused() -> None:
    nodes = {id: node for id, node in DRAWS.items() if id != "9"}
    assert said(read_workflow(json.dumps(nodes).encode())) == [
        "no node of the workflow saves anything"
    ]


def test_a_paid_service_is_used_only_if_it_is_allowed() -> None:
    paid = workflow({"30": {"class_type": "PaidImage", "inputs": {"images": ["8", 0]}}})
    (message,) = said(paid)
    assert "paid service" in message
    assert misfits(paid, CLASSES, allowed_paid=["PaidImage"]) == []


def test_an_image_that_will_be_uploaded_need_not_be_listed() -> None:
    load = {"class_type": "LoadImage", "inputs": {"image": "pose.png"}}
    made = workflow({"40": load})
    assert 'has no "pose.png" in its list' in said(made)[0]
    assert misfits(made, CLASSES, coming=[InputPlace("40", "image")]) == []


@pytest.mark.parametrize("name", ["sub/pose.png", "sub\\pose.png", "pose.png [output]"])
def test_an_image_that_loadimage_takes_and_does_not_list_is_not_refused(name: str) -> None:
    """It lists the files of input/ itself, and takes those of its folders, and of output/ and temp/
    (nodes.py of 0.33.0); a name that nobody has is a 400 of ComfyUI's own."""
    made = workflow({"40": {"class_type": "LoadImage", "inputs": {"image": name}}})
    assert misfits(made, CLASSES) == []


@pytest.mark.slow
def test_a_chain_of_ten_thousand_nodes_is_checked() -> None:
    nodes = {
        f"c{n}": {"class_type": "VAEDecode", "inputs": {"samples": [f"c{n + 1}", 0]}}
        for n in range(9_980)
    }
    assert not any("itself" in message for message in said(workflow(nodes)))
