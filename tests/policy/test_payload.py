"""From a stage to its calls."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdwatch.policy.job.calls.payload import MAX_SEED, Call, Seeds, calls_of, draw_seeds, own_images
from sdwatch.policy.job.job import Stage
from tests.support.examples import examples
from tests.support.tables import table


def stage(kind: str = "txt2img", **fields: Any) -> Stage:
    return Stage(kind, fields, line=1)


def generation_info(fields: dict[str, Any]) -> list[tuple[int, int]]:
    """Seed and subseed of each image that a WebUI makes of a payload, n_iter by n_iter."""
    varies = fields.get("subseed_strength", 0) > 0
    total = fields.get("n_iter", 1) * fields.get("batch_size", 1)
    return [
        (fields["seed"] + (0 if varies else i), fields["subseed"] + (i if varies else 0))
        for i in range(total)
    ]


def seeds_that_show(pairs: list[tuple[int, int]], varies: bool) -> list[tuple[int, int]]:
    """The subseed is of no consequence without a strength."""
    return pairs if varies else [(seed, 0) for seed, _ in pairs]


def split(fields: dict[str, Any], seeds: Seeds, inputs: tuple[str, ...] = ()) -> list[Call]:
    kind: str = "img2img" if inputs else "txt2img"
    return calls_of(1, stage(kind, **fields), seeds, inputs)


@examples(25)
@given(
    seed=st.integers(0, MAX_SEED),
    subseed=st.integers(0, MAX_SEED),
    n_iter=st.integers(1, 12),
    batch=st.integers(1, 5),
    strength=st.sampled_from([0, 0.0, 0.3, 1]),
)
def test_the_split_calls_make_the_same_images_as_the_whole(
    seed: int, subseed: int, n_iter: int, batch: int, strength: float
) -> None:
    fields = {"n_iter": n_iter, "batch_size": batch, "subseed_strength": strength}
    calls = split(fields, Seeds(seed, subseed, drawn=False))
    assert len(calls) == n_iter
    assert all(call.fields["n_iter"] == 1 for call in calls)
    parts = [pair for call in calls for pair in generation_info(dict(call.fields))]
    whole = generation_info(fields | {"seed": seed, "subseed": subseed})
    assert seeds_that_show(parts, strength > 0) == seeds_that_show(whole, strength > 0)


@examples(25)
@given(
    seed=st.integers(0, MAX_SEED),
    inputs=st.integers(1, 5),
    n_iter=st.integers(1, 4),
    batch=st.integers(1, 3),
    strength=st.sampled_from([0, 0.5]),
)
def test_a_random_seed_counts_on_so_that_no_two_images_share_it(
    seed: int, inputs: int, n_iter: int, batch: int, strength: float
) -> None:
    fields = {"n_iter": n_iter, "batch_size": batch, "subseed_strength": strength}
    names = tuple(f"{i}.png" for i in range(inputs))
    calls = split(fields, Seeds(seed, seed, drawn=True), names)
    made = [pair for call in calls for pair in generation_info(dict(call.fields))]
    assert len(set(made)) == len(made) == inputs * n_iter * batch


def test_a_seed_that_the_job_gave_is_used_for_each_input_alike() -> None:
    calls = split({"n_iter": 2}, Seeds(7, 0, drawn=False), ("a.png", "b.png"))
    assert [(call.images, call.fields["seed"]) for call in calls] == [
        (("a.png",), 7), (("a.png",), 8), (("b.png",), 7), (("b.png",), 8),
    ]  # fmt: skip


def test_a_call_keeps_its_name_and_its_payload_after_every_restart() -> None:
    fields = {"prompt": "a cat", "n_iter": 3, "batch_size": 2}
    first = calls_of(2, stage(**fields), Seeds(5, 6, drawn=True), ())
    assert [call.id for call in first] == ["2.1", "2.2", "2.3"]
    assert first == calls_of(2, stage(**fields), Seeds(5, 6, drawn=True), ())


def test_a_payload_has_what_was_given_and_only_what_is_needed_beside_it() -> None:
    (call,) = calls_of(1, stage(prompt="a cat", steps=4), Seeds(5, 6, drawn=False), ())
    assert call.fields == {
        "prompt": "a cat", "steps": 4, "seed": 5, "subseed": 6, "n_iter": 1, "send_images": True,
    }  # fmt: skip


def test_txt2img_leaves_the_images_of_the_stage_before_alone() -> None:
    (call,) = calls_of(2, stage(prompt="a cat"), Seeds(1, 2, drawn=False), ("a.png", "b.png"))
    assert call.images == ()


@pytest.mark.parametrize("kind", ["img2img", "extra-single-image"])
def test_each_image_of_the_stage_before_gets_a_call_of_its_own(kind: str) -> None:
    seeds = None if kind == "extra-single-image" else Seeds(1, 2, drawn=False)
    calls = calls_of(2, stage(kind), seeds, ("a.png", "b.png"))
    assert [(call.id, call.images) for call in calls] == [("2.1", ("a.png",)), ("2.2", ("b.png",))]
    assert calls_of(2, stage(kind), seeds, ()) == []


def test_a_stage_with_images_of_its_own_takes_those_in_one_call() -> None:
    named = stage("img2img", init_images=["x.png", "y.png"])
    (call,) = calls_of(2, named, Seeds(1, 2, drawn=False), ("a.png", "b.png"))
    assert call.images == own_images(named) == ("x.png", "y.png")
    assert "init_images" not in call.fields
    (call,) = calls_of(2, stage("extra-single-image", image="x.png"), None, ("a.png",))
    assert call.images == ("x.png",)
    assert call.fields == {}


@table(
    ("fields", "expected"),
    [
        ({}, Seeds(100, 101, drawn=True)),
        ({"seed": -1, "subseed": -1}, Seeds(100, 101, drawn=True)),
        ({"seed": 0, "subseed": 0}, Seeds(0, 0, drawn=False)),
        ({"seed": 5}, Seeds(5, 100, drawn=False)),
        ({"subseed": 5}, Seeds(100, 5, drawn=True)),
    ],
)
def test_only_what_is_left_to_chance_is_random(fields: dict[str, int], expected: Seeds) -> None:
    draw: Iterator[int] = count(100)
    assert draw_seeds(stage(**fields), lambda: next(draw)) == expected


def test_upscaling_has_no_seeds() -> None:
    assert draw_seeds(stage("extra-single-image"), lambda: 1) is None


def test_a_seed_is_sent_as_the_job_has_it_however_large() -> None:
    """A WebUI counts on past 32 bits, too: the second image of n_iter has the seed + 1."""
    calls = split({"n_iter": 2}, Seeds(MAX_SEED, 0, drawn=False))
    assert [call.fields["seed"] for call in calls] == [MAX_SEED, MAX_SEED + 1]
    (call,) = split({}, Seeds(5_000_000_000, 0, drawn=False))
    assert call.fields["seed"] == 5_000_000_000
