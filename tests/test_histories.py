"""One job that can never work does not hold the lane, and one WebUI that cannot work costs no job:
a table of nights, each in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdwatch.policy.failure.recovery import SENT_AT_MOST
from tests.support.examples import examples
from tests.support.histories import ModelWebUI, night

INNOCENT = [f"good {name}" for name in "abcdef"]
TWO_BAD = ["oom one", "oom two"]


@dataclass(frozen=True)
class Row:
    """`jobs` in order; `fault`, `cured_at`: of the WebUI itself, see ModelWebUI. `failed`: the jobs
    that fail, all others are done, or wait where the lane is left `held`. `restarts`: at most."""

    what: str
    jobs: list[str]
    failed: list[str]
    fault: str = ""
    cured_at: int | None = None
    managed: bool = True
    by_hand: bool = False
    held: bool = False
    holds: int = 0
    restarts: int = 99
    side: int = 512


ROWS = (
    Row("two jobs that never fit, one that leaks once, six innocent ones",
        [*TWO_BAD, "oom-leaks-once x", *INNOCENT], TWO_BAD, restarts=3),
    Row("the same, and the two leave the memory taken, too",
        ["oom-leaks one", "oom-leaks two", "oom-leaks-once x", *INNOCENT],
        ["oom-leaks one", "oom-leaks two"]),
    Row("the leak comes first",
        ["oom-leaks-once x", *INNOCENT, *TWO_BAD], TWO_BAD, restarts=3),
    Row("the leak comes again and again",
        [*TWO_BAD, *(job for n in "123" for job in (f"oom-leaks-once {n}", f"good {n}"))], TWO_BAD),
    Row("small pictures before: none shows whether a larger one still fits",
        [*TWO_BAD, "oom-leaks-once x", *INNOCENT], TWO_BAD, side=1024),
    Row("a generic 500 in two bad jobs, and once in a third",
        ["generic one", "generic two", "generic-once x", *INNOCENT],
        ["generic one", "generic two"]),
    Row("thirty jobs with the same mistake cost two restarts",
        [f"broken {n}" for n in range(30)], [f"broken {n}" for n in range(30)], restarts=2),
    Row("a job that kills it each time", ["good a", "kills x", *INNOCENT], ["kills x"], restarts=2),
    Row("a job that poisons it each time",
        ["good a", "poisons x", *INNOCENT], ["poisons x"], restarts=3),
    Row("a job that kills it once", ["good a", "kills-once x", *INNOCENT], [], restarts=1),
    Row("a WebUI that is dead for good", INNOCENT, [], fault="dead", held=True, holds=1),
    Row("one that draws the canary and nothing else", INNOCENT, [], fault="tiny-only", held=True,
        holds=1),
    Row("one that is dead until its fourth start", INNOCENT, [], fault="dead", cured_at=4, holds=1),
    Row("one that draws nothing but tiny pictures until it is restarted",
        INNOCENT, [], fault="tiny-only", cured_at=2, restarts=1),
    Row("bad jobs on a WebUI that is dead until its fourth start",
        [*TWO_BAD, *INNOCENT], TWO_BAD, fault="dead", cured_at=4, holds=1),
    Row("not ours, its memory stays taken, and nobody restarts it",
        ["good a", "oom-leaks-once x", *INNOCENT], [], managed=False, held=True, holds=1),
    Row("not ours, its memory stays taken, and somebody restarts it",
        ["good a", "oom-leaks-once x", *INNOCENT], [], managed=False, by_hand=True, holds=1),
    Row("not ours, and a job that never fits", ["good a", "oom x", *INNOCENT], ["oom x"],
        managed=False),
    Row("not ours, two that never fit, one that leaks once",
        [*TWO_BAD, "oom-leaks-once x", *INNOCENT], TWO_BAD, managed=False, by_hand=True, holds=1),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_the_right_party_is_blamed(row: Row) -> None:
    webui = ModelWebUI(row.fault, row.cured_at)
    ended = night(row.jobs, webui, managed=row.managed, by_hand=row.by_hand, side=row.side)
    assert ended.failed == row.failed
    assert bool(ended.waiting) is row.held
    rest = [job for job in row.jobs if job not in row.failed]
    assert ended.done + ended.waiting == rest
    assert ended.lane.holds == row.holds
    if not row.held:
        assert ended.lane.restarts <= row.restarts
    assert all(ended.posts(job) <= SENT_AT_MOST for job in row.jobs)
    assert all(ended.posts(job) >= 2 for job in row.failed), "each had its second attempt"


KINDS = ("good", "oom", "oom-leaks", "broken", "generic", "kills", "poisons")
ANY = st.sampled_from([*KINDS, *(f"{kind}-once" for kind in KINDS if kind != "good")])


def named(kinds: list[str]) -> list[str]:
    return [f"{kind} {number}" for number, kind in enumerate(kinds)]


def is_good(job: str) -> bool:
    kind = job.partition(" ")[0]
    return kind == "good" or kind.endswith("-once")


@examples(75)
@given(st.lists(ANY, max_size=14))
def test_in_any_night_the_bad_jobs_fail_the_others_are_done_and_no_lane_is_held(
    kinds: list[str],
) -> None:
    jobs = named(kinds)
    ended = night(jobs)
    assert ended.done == [job for job in jobs if is_good(job)]
    assert ended.failed == [job for job in jobs if not is_good(job)]
    assert ended.lane.holds == 0
    assert all(ended.posts(job) <= 3 for job in jobs)


@examples(30)
@given(
    # What harms a call once beside a WebUI that harms it once is more than two attempts can take.
    st.lists(st.sampled_from(KINDS), max_size=8),
    st.sampled_from(["dead", "tiny-only"]),
    st.sampled_from([2, 4, 5, 6]),
)
def test_a_webui_that_is_cured_by_its_nth_start_costs_no_good_job(
    kinds: list[str], fault: str, cured_at: int
) -> None:
    jobs = named(kinds)
    ended = night(jobs, ModelWebUI(fault, cured_at))
    assert ended.done == [job for job in jobs if is_good(job)]
    assert all(ended.posts(job) <= SENT_AT_MOST for job in jobs)


def test_a_webui_that_is_dead_for_just_the_two_starts_of_a_call_is_taken_for_harmed_by_it() -> None:
    """The limit of what a self-test can tell: so does a job that harms each WebUI it is sent to."""
    dead = night(["good a", "good b"], ModelWebUI("dead", cured_at=3))
    assert (dead.failed, dead.done) == (["good a"], ["good b"])
    harmful = night(["oom-leaks a", "good b"])
    assert (harmful.failed, harmful.done) == (["oom-leaks a"], ["good b"])


@examples(30)
@given(st.lists(ANY, max_size=8), st.sampled_from(["dead", "tiny-only"]), st.booleans())
def test_a_webui_that_is_never_cured_costs_no_job(
    kinds: list[str], fault: str, managed: bool
) -> None:
    ended = night(named(kinds), ModelWebUI(fault), managed=managed)
    assert ended.failed == ended.done == []
