"""What a call is changed to after it ran out of memory."""

from __future__ import annotations

from typing import Any

from sdwatch.policy.job.calls.catalogue import Catalogue, Names, fold
from sdwatch.policy.job.calls.oom_ladder import known_parts, ladder, parts_of, rung_of
from sdwatch.policy.job.calls.payload import Call, point_of, stage_of
from sdwatch.policy.job.conduct import OomStep
from sdwatch.policy.kinds.a1111 import A1111
from sdwatch.policy.kinds.forge import FORGE
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.sdcpp import SDCPP
from sdwatch.policy.kinds.sdnext import SDNEXT
from tests.support.tables import table

BATCH, TILED, SIZE = OomStep.BATCH, OomStep.TILED_VAE, OomStep.SIZE


def call(kind: str = "txt2img", call_id: str = "1.1", **fields: Any) -> Call:
    given = {"seed": 7, "subseed": 3, **fields} if kind != "extra-single-image" else fields
    return Call(call_id, 1, 1, kind, given, ())


def catalogue(kind: Kind, *scripts: str, settings: tuple[str, ...] = ()) -> Catalogue:
    names = Names(scripts, frozenset(map(fold, scripts)), folds=True)
    lists = {"scripts/txt2img": names, "scripts/img2img": names}
    return Catalogue(kind, lists=lists, settings=frozenset(settings))


FORGES = catalogue(FORGE, "never oom integrated")


def rungs(*steps: OomStep, of: Call, on: Catalogue | None = FORGES) -> list[tuple[str, Any]]:
    found = ladder(steps, of, of.fields, on)
    return [(rung.name, rung.skipped or dict(rung.changes)) for rung in found]


@table(
    ("batch", "expected"),
    [(4, [2, 1]), (3, [2, 1]), (2, [1]), (8, [4, 2, 1]), (5, [3, 2, 1])],
)
def test_a_batch_is_halved_until_it_is_one_picture(batch: int, expected: list[int]) -> None:
    assert rungs(BATCH, of=call(batch_size=batch)) == [
        (f"batch{size}", {"batch_size": size}) for size in expected
    ]


@table(
    ("size", "expected"),
    [
        ((1024, 1024), [(768, 768), (576, 576)]),
        ((832, 1216), [(576, 896), (448, 640)]),
        ((512, 512), [(384, 384), (256, 256)]),
        ((512, 2048), [(384, 1536), (256, 1152)]),
        ((384, 384), [(256, 256)]),
        ((520, 1000), [(384, 704), (256, 512)]),
    ],
)
def test_a_side_gets_three_quarters_twice_and_stays_a_multiple_of_64(
    size: tuple[int, int], expected: list[tuple[int, int]]
) -> None:
    width, height = size
    found = rungs(SIZE, of=call(width=width, height=height))
    assert found == [(f"{w}x{h}", {"width": w, "height": h}) for w, h in expected]


def test_what_is_small_already_stays() -> None:
    ((name, why),) = rungs(SIZE, of=call(width=256, height=1024))
    assert (name, why) == ("size", "no side of 256x1024 may get smaller than 256")


def test_a_second_pass_gets_smaller_with_the_first() -> None:
    wanted = call(width=512, height=512, enable_hr=True, hr_resize_x=1024, hr_resize_y=2048)
    assert rungs(SIZE, of=wanted)[0][1] == {
        "width": 384, "height": 384, "hr_resize_x": 768, "hr_resize_y": 1536,
    }  # fmt: skip


def test_an_upscale_enlarges_less() -> None:
    enlarged = call("extra-single-image", upscaling_resize=4.0, upscaler_1="Lanczos")
    assert rungs(BATCH, TILED, SIZE, of=enlarged) == [
        ("batch", "it makes one picture at a time"),
        ("tiled_vae", "an upscale has none"),
        ("3x", {"upscaling_resize": 3.0}),
        ("2_25x", {"upscaling_resize": 2.25}),
    ]
    assert rungs(SIZE, of=call("extra-single-image", upscaling_resize=1.2)) == [
        ("size", "it cannot enlarge less")
    ]


@table(
    ("on", "expected"),
    [
        (FORGES, {"alwayson_scripts": {"never oom integrated": {"args": [False, True]}}}),
        (catalogue(FORGE), "this Forge has no script never oom integrated"),
        (catalogue(A1111, "tiled vae"), {"alwayson_scripts": {"tiled vae": {"args": [True]}}}),
        (catalogue(A1111), "this AUTOMATIC1111 has no script tiled vae"),
        (catalogue(SDNEXT), {"override_settings": {"diffusers_vae_tiling": True}}),
        (catalogue(SDNEXT, settings=("x",)), "this SD.Next has no setting diffusers_vae_tiling"),
        (catalogue(SDCPP), "stable-diffusion.cpp cannot be asked for it"),
        (None, "this WebUI cannot be asked for it"),
    ],
)
def test_each_kind_is_asked_for_a_tiled_vae_in_its_own_way_or_says_why_not(
    on: Catalogue | None, expected: Any
) -> None:
    assert rungs(TILED, of=call(), on=on)[0][1] == expected


def test_what_the_job_says_of_scripts_and_settings_is_kept() -> None:
    mine = {"adetailer": {"args": [True]}}
    wanted = call(alwayson_scripts=mine)
    (rung,) = ladder([TILED], wanted, wanted.fields, FORGES)
    assert "adetailer" not in str(rung.as_record())  # it may have prompts
    ((part, _),) = parts_of(wanted, rung, 0)
    assert part.fields["alwayson_scripts"] == {
        **mine,
        "never oom integrated": {"args": [False, True]},
    }
    own = call(alwayson_scripts={"Never OOM Integrated": {"args": [True, True]}})
    assert "the job sets" in rungs(TILED, of=own)[0][1]


def test_rungs_add_up_in_the_order_of_the_job_and_are_recorded_whole() -> None:
    wanted = call(batch_size=2, width=1024, height=1024)
    found = list(ladder([BATCH, TILED, SIZE], wanted, wanted.fields, FORGES))
    assert [rung.name for rung in found] == ["batch1", "tiled", "768x768", "576x576"]
    assert found[-1].changes == {
        "batch_size": 1,
        "alwayson_scripts": {"never oom integrated": {"args": [False, True]}},
        "width": 576,
        "height": 576,
    }
    assert found[-1].words == (
        "one picture at a time, with a tiled VAE, generated at 576x576 instead of 1024x1024"
    )
    assert [rung_of(rung.as_record()) for rung in found] == found
    reversed_order = ladder([SIZE, BATCH], wanted, wanted.fields, FORGES)
    assert [rung.name for rung in reversed_order] == ["768x768", "576x576", "batch1"]


def seeds(wanted: Call, name: str = "seed") -> list[tuple[str, int, int]]:
    """The calls of the first rung: their ids, batches and seeds."""
    rung = next(ladder([BATCH], wanted, wanted.fields, FORGES))
    return [
        (part.id, part.fields["batch_size"], part.fields[name])
        for part, _ in parts_of(wanted, rung, 0)
    ]


def test_smaller_batches_make_the_same_pictures_with_the_same_seeds() -> None:
    assert seeds(call(batch_size=4)) == [("1.1-batch2-1", 2, 7), ("1.1-batch2-3", 2, 9)]
    assert seeds(call(batch_size=3)) == [("1.1-batch2-1", 2, 7), ("1.1-batch2-3", 1, 9)]
    varied = call(batch_size=4, subseed_strength=0.5)
    assert [seed for _, _, seed in seeds(varied)] == [7, 7]
    assert [seed for _, _, seed in seeds(varied, "subseed")] == [3, 5]


def test_what_was_made_on_a_rung_is_kept_on_the_next_one() -> None:
    wanted = call(batch_size=4, call_id="p12.2.3")
    upper, lower = ladder([BATCH], wanted, wanted.fields, FORGES)
    finished = {"p12.2.3-batch2-1": "two", "p12.2.3-batch1-3": "third"}
    found = list(known_parts(wanted, [upper, lower], finished.get))
    assert [(part.id, images) for part, images in found] == [
        ("p12.2.3-batch2-1", "two"),
        ("p12.2.3-batch2-3", None),
        ("p12.2.3-batch1-3", "third"),
        ("p12.2.3-batch1-4", None),
    ]
    last = found[-1][0]
    assert last.changed is not None
    assert (last.changed.of, last.changed.first, last.fields["seed"]) == ("p12.2.3", 4, 10)
    assert (point_of(last.id), stage_of(last.id)) == (12, "2")
