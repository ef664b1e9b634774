"""How long calls will take: the nearest in size of what this machine's calls took."""

from __future__ import annotations

import pytest

from sdwatch.policy.job.calls.call_sizes import (
    MOST_SIZES,
    CallSize,
    KnownSizes,
    listed_sizes,
    size_of_record,
    sizes_in,
    sizes_listed,
)
from sdwatch.policy.job.calls.estimate import CallTimes, TimedCall, estimate
from sdwatch.policy.job.job import parse_job
from tests.support.tables import table

SIDE_512, SIDE_1024 = 512 * 512, 1024 * 1024
SMALL = CallSize("txt2img", SIDE_512, 20)
LARGE = CallSize("txt2img", SIDE_1024, 20)
UPSCALE = CallSize("extra-single-image", SIDE_1024)


def timed(*calls: tuple[float, CallSize | None]) -> CallTimes:
    return CallTimes(TimedCall(seconds, size) for seconds, size in calls)


@table(
    ("history", "size", "seconds"),
    [
        # The same size: what it took.
        ([(4, SMALL)], SMALL, 4),
        ([(4, SMALL), (5, SMALL), (90, SMALL)], SMALL, 5),
        # Another size, other steps, more pictures: in proportion.
        ([(4, SMALL)], LARGE, 16),
        ([(16, LARGE)], SMALL, 4),
        ([(4, SMALL)], CallSize("txt2img", SIDE_512, 40), 8),
        ([(4, SMALL)], CallSize("txt2img", SIDE_512, 20, 3), 12),
        # Both sizes are known: each is what it was, however many there are of the other.
        ([(4, SMALL)] * 50 + [(30, LARGE)] * 9, LARGE, 30),
        ([(4, SMALL)] * 50 + [(30, LARGE)] * 9, SMALL, 4),
        # The newest of the same size count.
        ([(3, SMALL)] * 9 + [(9, SMALL)] * 50, SMALL, 3),
        # Steps that the job leaves to the WebUI: those that the stage usually has.
        ([(4, SMALL)], CallSize("txt2img", SIDE_512, None), 4),
        ([(4, SMALL), (8, CallSize("txt2img", SIDE_512, 40))], CallSize("txt2img", SIDE_512), 6),
        # So with a size that nobody knows.
        ([(4, CallSize("img2img", SIDE_512, 20))], CallSize("img2img", None, 40), 8),
        # Each stage by itself; one that never ran takes what calls usually take.
        ([(4, SMALL), (1, UPSCALE)], UPSCALE, 1),
        ([(1, UPSCALE)], CallSize("extra-single-image", 4 * SIDE_1024), 4),
        ([(4, SMALL), (6, LARGE)], CallSize("img2img", SIDE_512, 20), 5),
        # A history without sizes, of an earlier version.
        ([(3, None), (5, None), (7, None)], LARGE, 5),
        ([(3, None), (5, None), (7, SMALL)], SMALL, 7),
        ([(3, None)], None, 3),
        # What no WebUI does costs nothing.
        ([(0, SMALL), (-4, SMALL), (5, SMALL)], SMALL, 5),
    ],
)
def test_a_call_takes_what_the_nearest_in_size_took(
    history: list[tuple[float, CallSize | None]], size: CallSize | None, seconds: float
) -> None:
    assert timed(*history).seconds_of(size) == pytest.approx(seconds)


def test_calls_add_up_and_without_a_history_nobody_knows() -> None:
    history = timed((4, SMALL), (30, LARGE))
    assert estimate(history, {SMALL: 3, LARGE: 2}) == 3 * 4 + 2 * 30
    assert estimate(history, {}) == 0
    assert estimate(timed(), {SMALL: 3}) is None
    assert estimate(timed((0, SMALL)), {SMALL: 3}) is None


STAGES = """stages:
- txt2img: {prompt: x, n_iter: 2, batch_size: 3, steps: 30, width: 768, height: 512}
- img2img: {prompt: y}
- upscale: {upscaling_resize: 2}
"""


@table(
    ("text", "sizes"),
    [
        ("prompt: x\n", {CallSize("txt2img", SIDE_512): 1}),
        ("prompt: x\nsteps: 20\nn_iter: 5\n", {SMALL: 5}),
        ("prompt: x\nsteps: 20\nbatch_size: 4\n", {CallSize("txt2img", SIDE_512, 20, 4): 1}),
        ("prompt: x\nsteps: 20\nenable_hr: true\nhr_scale: 2\n", {LARGE: 1}),
        (
            STAGES,
            {
                CallSize("txt2img", 768 * 512, 30, 3): 2,
                CallSize("img2img", 768 * 512): 6,
                CallSize("extra-single-image", 4 * 768 * 512): 6,
            },
        ),
        ("prompt: ${p}\nsteps: 20\nmatrix: {p: [a, b, c]}\n", {SMALL: 3}),
        ("prompt: x\nsteps: 20\nrepeat: 1000\n", {SMALL: 1000}),
        (
            "prompt: x\nmatrix: {steps: [20, 40]}\n",
            {SMALL: 1, CallSize("txt2img", SIDE_512, 40): 1},
        ),
        ("prompt: ${p}\nsteps: 20\nmatrix: {p: [a, b, c]}\npoints: [2]\n", {SMALL: 1}),
    ],
)
def test_a_job_has_calls_of_these_sizes(text: str, sizes: dict[CallSize, float]) -> None:
    assert sizes_in(parse_job(text.encode(), "job.yaml")) == pytest.approx(sizes)


def test_of_many_points_some_stand_for_all() -> None:
    text = "prompt: ${p}\nmatrix: {p: [a, b, c, d], steps: [20, 40]}\nrepeat: 50\n"
    sizes = sizes_in(parse_job(text.encode(), "job.yaml"))
    assert sum(sizes.values()) == pytest.approx(400)
    assert sizes[SMALL] == pytest.approx(200, rel=0.2)


IMAGE = {"name": "a.png", "width": 1024, "height": 1024}


@table(
    ("record", "size"),
    [
        ({"stage": "txt2img", "images": [IMAGE], "used": {"steps": 20}}, LARGE),
        (
            {"stage": "txt2img", "images": [{**IMAGE, "grid": True}, IMAGE, IMAGE]},
            CallSize("txt2img", SIDE_1024, None, 2),
        ),
        ({"stage": "extra-single-image", "images": [IMAGE], "used": {"steps": 9}}, UPSCALE),
        ({"images": [IMAGE]}, None),
        ({"stage": "txt2img", "images": []}, None),
        ({"stage": ["txt2img"], "images": [IMAGE]}, None),
        ({"stage": "txt2img", "images": [7, None]}, None),
        (
            {"stage": "txt2img", "images": [{"width": "9", "height": -1}], "used": 7},
            CallSize("txt2img"),
        ),
    ],
)
def test_a_record_says_how_large_a_call_was(
    record: dict[str, object], size: CallSize | None
) -> None:
    assert size_of_record(record) == size


def test_a_heartbeat_has_few_sizes_that_stand_for_all() -> None:
    sizes = {CallSize("txt2img", SIDE_512, steps): 2.0 for steps in range(1, 61)}
    sizes[UPSCALE] = 5.0
    listed = listed_sizes(sizes)
    assert len(listed) <= MOST_SIZES + 1
    found = sizes_listed(listed)
    assert sum(found.values()) == 125
    assert found[UPSCALE] == 5
    history = timed((4, SMALL), (1, UPSCALE))
    assert estimate(history, found) == pytest.approx(estimate(history, sizes), rel=0.1)
    assert sizes_listed(listed_sizes({SMALL: 3.0})) == {SMALL: 3.0}


def test_the_sizes_of_a_job_in_memory_are_remembered() -> None:
    known, job = KnownSizes(), parse_job(b"prompt: x\n", "job.yaml")
    assert known.of(job) is known.of(job)
    assert known.of(parse_job(b"prompt: x\nn_iter: 2\n", "job.yaml")) != known.of(job)
