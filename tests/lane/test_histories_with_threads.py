"""Random histories in which everything around a lane takes its own time: events come late, and the
monitor may be killed between any two effects."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from sdwatch.policy.lane.state import RecycleLimits
from tests.lane.history_of import SETUP
from tests.lane.threads_around import World

SETUPS = (
    SETUP,
    replace(SETUP, managed=False),
    replace(SETUP, recovery=False),
    replace(SETUP, recycling=RecycleLimits(max_calls=2, max_rss=5_000_000)),
)
BROKE_ONCE = (309, 2238)
"""Numbers of histories that showed something."""


def world_of(number: int) -> tuple[World, Random]:
    random = Random(number)
    return World(random.randrange, SETUPS[number % len(SETUPS)]), random


@pytest.mark.parametrize("number", [*range(40), *BROKE_ONCE])
def test_each_run_ends_and_no_promise_is_broken(number: int) -> None:
    world, random = world_of(number)
    world.continues(random.randrange(10, 250))
    world.comes_to_rest()


@pytest.mark.parametrize("number", range(20))
def test_each_stop_ends(number: int) -> None:
    world, random = world_of(number)
    length = random.randrange(10, 250)
    world.continues(length)
    world.stop()
    world.continues(length % 20)
    world.comes_to_rest()
