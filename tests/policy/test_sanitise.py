"""No prompt, image or secret survives in the payload that is kept as evidence."""

from __future__ import annotations

import base64
import copy
import hashlib
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sdwatch.policy.privacy.sanitise import kind_of, sanitise, strings
from tests.support.examples import examples
from tests.support.tables import table


def picture(kind: str = "PNG", size: tuple[int, int] = (48, 32)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, kind)
    return buffer.getvalue()


def text(value: str) -> dict[str, Any]:
    digest = hashlib.sha256(value.encode()).hexdigest()
    return {"text": {"length": len(value), "sha256": digest}}


def test_numbers_booleans_null_and_names_stay() -> None:
    payload = {
        "steps": 20,
        "cfg_scale": 7.5,
        "enable_hr": True,
        "seed": None,
        "sampler_name": "Euler a",
        "scheduler": "Karras",
        "upscaler_1": "R-ESRGAN 4x+",
        "override_settings": {"sd_model_checkpoint": "model.safetensors [abc]", "sd_vae": "None"},
        "hr_additional_modules": ["clip.safetensors"],
        "resize_mode": 1,
    }
    assert sanitise(payload) == payload


def test_texts_are_hidden_wherever_they_are_nested() -> None:
    secret = "a cat in the hat"
    payload = {
        "prompt": secret,
        "styles": [secret, "b"],
        "override_settings": {"comment": secret, "deep": {"er": [[secret]]}},
        "alwayson_scripts": {"ADetailer": {"args": [True, {"ad_prompt": secret, "ad_steps": 3}]}},
        "unknown": (secret,),
    }
    clean = sanitise(payload)
    assert secret not in json.dumps(clean)
    assert clean["prompt"] == text(secret)
    assert clean["styles"] == [text(secret), text("b")]
    args = clean["alwayson_scripts"]["ADetailer"]["args"]
    assert args == [True, {"ad_prompt": text(secret), "ad_steps": 3}]
    assert clean["unknown"] == [text(secret)]


@pytest.mark.parametrize("value", ["x" * 201, "Euler\na cat", "Euler\x1b"])
def test_what_is_no_name_is_hidden_under_a_name_key(value: str) -> None:
    assert sanitise({"sampler_name": value}) == {"sampler_name": text(value)}


@table("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
@table("prefix", ["", "data:image/png;base64,"])
def test_an_image_becomes_its_size_and_digest(kind: str, prefix: str) -> None:
    data = picture(kind)
    encoded = prefix + base64.b64encode(data).decode()
    expected = {
        "image": {
            "length": len(encoded),
            "sha256": hashlib.sha256(data).hexdigest(),
            "size": "48x32",
        }
    }
    assert sanitise({"init_images": [encoded]}) == {"init_images": [expected]}
    assert sanitise({"mask": encoded}) == {"mask": expected}


def test_an_image_under_an_unknown_key_is_found() -> None:
    encoded = base64.b64encode(picture()).decode()
    clean = sanitise({"alwayson_scripts": {"controlnet": {"args": [{"any": encoded}]}}})
    assert clean["alwayson_scripts"]["controlnet"]["args"][0]["any"]["image"]["size"] == "48x32"
    rubbish = base64.b64encode(bytes(range(256)) * 8).decode()
    assert sanitise({"sampler_name": rubbish})["sampler_name"]["image"]["size"] is None


@table("value", ["!!!", "", "/home/anna/cat.png", "iVBORw0KGgo=", "data:,", "é"])
def test_what_is_no_image_under_an_image_key_is_hidden_without_an_error(value: str) -> None:
    clean = sanitise({"image": value})["image"]["image"]
    assert clean["length"] == len(value)
    assert clean["size"] is None


def test_a_truncated_image_and_a_bomb_are_no_error() -> None:
    cut = base64.b64encode(picture()[:40]).decode()
    assert sanitise({"image": cut})["image"]["image"]["size"] in ("48x32", None)
    huge = bytearray(picture())
    huge[16:24] = (100_000).to_bytes(4, "big") * 2
    assert "image" in sanitise({"image": base64.b64encode(huge).decode()})["image"]


@table("key", ["password", "api_key", "Authorization", "auth_token", "passwd"])
@table("value", ["hunter2", 1234, ["hunter2"], {"x": "hunter2"}])
def test_a_secret_leaves_neither_digest_nor_length(key: str, value: Any) -> None:
    assert sanitise({"args": {key: value}}) == {"args": {key: {"secret": "hidden"}}}


def test_script_names_stay_as_keys_and_overlong_keys_do_not() -> None:
    clean = sanitise({"alwayson_scripts": {"Script: my own": 1, "a cat " * 50: 2}})
    first, second = clean["alwayson_scripts"]
    assert first == "Script: my own"
    assert "cat" not in second


def test_nesting_without_end_is_cut() -> None:
    deep: Any = "a cat"
    for _ in range(5000):
        deep = [deep]
    assert "nested too deep" in json.dumps(sanitise({"x": deep}))


def test_the_payload_itself_is_not_changed() -> None:
    payload = {"prompt": "a", "styles": ["b"], "x": {"y": ["c"]}}
    before = copy.deepcopy(payload)
    assert sanitise(payload) == sanitise(payload)
    assert payload == before


@pytest.mark.slow
@examples(12)
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(min_size=5),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
            max_leaves=8,
        ),
    )
)
def test_no_string_value_is_in_clear(payload: dict[str, Any]) -> None:
    def check(clean: Any, key: str, original: Any) -> None:
        if isinstance(original, str):
            assert isinstance(clean, dict) or kind_of(key, original) == "name"
        elif isinstance(original, list):
            for one, other in zip(clean, original, strict=True):
                check(one, key, other)
        elif isinstance(original, dict):
            for one, name in zip(clean.values(), original, strict=False):
                check(one, name, original[name])

    for name, value in payload.items():
        check(sanitise({name: value}).popitem()[1], name, value)


KEY = "a purple hippopotamus under seven moons"


@table(
    "payload",
    [
        {"alwayson_scripts": {KEY: {"args": []}}},
        {"alwayson_scripts": {"ADetailer": {"args": [{KEY: 1}]}}},
        {"comments": {KEY: "x"}},
        {"comments": {"雪の中の青い城": 1, "雪の 城": 2}},
        {"override_settings": {"deep": [{KEY: [{KEY: 1}]}]}},
    ],
)
def test_a_key_that_may_be_a_prompt_is_hidden_and_learned(payload: dict[str, Any]) -> None:
    shown = json.dumps(sanitise(payload), ensure_ascii=False)
    assert "hippopotamus" not in shown
    assert "城" not in shown
    keys = [text for kind, text in strings(payload) if kind == "text"]
    assert KEY in keys or "雪の中の青い城" in keys


@table(
    "title",
    ["ADetailer", "ControlNet", "Dynamic Prompts v2.17.1", "FreeU Integrated (SD 1.x, SD 2.x)"],
)
def test_the_title_of_a_script_that_is_known_stays(title: str) -> None:
    assert list(sanitise({"alwayson_scripts": {title: {"args": [1]}}})["alwayson_scripts"]) == [
        title
    ]
