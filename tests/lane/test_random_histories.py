"""Random histories of a lane, its runs, its WebUI and its people: whatever happens in whatever
order, the machine stays in its tables and keeps its promises. Everything around the lane takes its
own time: events come late, and the monitor may be killed between any two effects."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdwatch.policy.lane.state import RecycleLimits
from tests.lane.history_of import SETUP
from tests.lane.threads_around import World

SETUPS = (
    SETUP,
    replace(SETUP, managed=False),
    replace(SETUP, recovery=False),
    replace(SETUP, recycling=RecycleLimits(max_calls=2, max_rss=5_000_000)),
)
BROKE_ONCE = (309, 1325, 2238)
"""Numbers of histories that showed something."""


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.sampled_from(SETUPS), st.randoms(use_true_random=False), st.integers(10, 500))
def test_each_run_ends_and_no_promise_is_broken(setup, random, length) -> None:  # type: ignore[no-untyped-def]
    world = World(random.randrange, setup)
    world.continues(length)
    world.comes_to_rest()


@pytest.mark.parametrize("number", [*range(40), *BROKE_ONCE])
def test_each_stop_ends(number: int) -> None:
    random = Random(number)
    world = World(random.randrange, SETUPS[number % len(SETUPS)])
    length = random.randrange(10, 500)
    world.continues(length)
    world.stop()
    world.continues(length % 20)
    world.comes_to_rest()
