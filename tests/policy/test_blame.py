"""What was proven to be a job's own costs no more restarts, and is doubted when it is too often."""

from __future__ import annotations

from sdwatch.policy.blame import SUSPECTS, Blame

SAID = "500: KeyError"


def test_the_same_failure_is_known_when_it_was_proven_twice() -> None:
    blame = Blame()
    blame.blame("a", "run-a", SAID, 1, died=False)
    assert not blame.is_a_jobs_own(SAID, 1)
    blame.blame("b", "run-b", SAID, 2, died=False)
    assert blame.is_a_jobs_own(SAID, 2)
    assert not blame.is_a_jobs_own("500: ValueError", 2)


def test_in_another_generation_it_must_be_proven_once_more() -> None:
    blame = Blame()
    for generation in (1, 2):
        blame.blame("a", "run-a", SAID, generation, died=False)
    assert not blame.is_a_jobs_own(SAID, 3)
    blame.blame("b", "run-b", SAID, 3, died=False)
    assert blame.is_a_jobs_own(SAID, 3)


def died(blame: Blame, *jobs: str) -> None:
    for job in jobs:
        blame.blame(job, f"run-{job}", f"{job} died", 1, died=True)


def test_so_many_different_jobs_in_a_row_that_kill_it_are_suspects() -> None:
    blame = Blame()
    died(blame, *"ab")
    assert blame.take_suspects() == ()
    died(blame, "c")
    assert len(taken := blame.take_suspects()) == SUSPECTS
    assert taken == ("run-a", "run-b", "run-c")
    assert blame.take_suspects() == (), "they are counted anew"


def test_the_same_job_again_a_success_or_another_failure_is_not_in_the_row() -> None:
    blame = Blame()
    died(blame, *"aaa")
    assert blame.take_suspects() == ()
    died(blame, "b")
    blame.succeeded()
    died(blame, *"cd")
    blame.blame("e", "run-e", SAID, 1, died=False)
    died(blame, *"fg")
    assert blame.take_suspects() == ()
