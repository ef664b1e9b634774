"""What was proven to be a job's own costs no more restarts, and is doubted when it is too often."""

from __future__ import annotations

from sdwatch.policy.failure.facts import Diagnosis, FailureKey
from sdwatch.policy.lane.knowledge import REPEATEDLY, Knowledge, Size, Wanted


def of(said: str) -> FailureKey:
    """As two jobs may share it."""
    return FailureKey(Diagnosis.SERVER_ERROR, said=(said,)).shared(str)


SMALL = Wanted(Size(64, 64))
"""What the self-test stands for."""

SAID, OTHER = of("500: KeyError"), of("500: ValueError")


def test_the_same_failure_is_known_when_it_was_traced_to_two_jobs() -> None:
    traced = Knowledge()
    traced = traced.trace("a", "run-a", SAID, died=False)
    assert not traced.is_a_jobs_own(SAID, SMALL)
    traced = traced.trace("b", "run-b", SAID, died=False)
    assert traced.is_a_jobs_own(SAID, SMALL)
    assert not traced.is_a_jobs_own(OTHER, SMALL)


def test_one_job_that_is_tried_again_proves_nothing_of_others() -> None:
    traced = Knowledge()
    for run in ("first", "second", "third"):
        traced = traced.trace("a", run, SAID, died=False)
    assert not traced.is_a_jobs_own(SAID, SMALL)


def test_two_mistakes_that_take_turns_are_both_known() -> None:
    traced = Knowledge()
    for job, said in enumerate((SAID, OTHER, SAID, OTHER)):
        traced = traced.trace(f"{job}", "run", said, died=False)
    assert traced.is_a_jobs_own(SAID, SMALL)
    assert traced.is_a_jobs_own(OTHER, SMALL)


def test_a_failure_must_be_traced_again_once_the_webui_may_be_another() -> None:
    traced = Knowledge()
    for job in "ab":
        traced = traced.trace(job, "run", SAID, died=False)
    assert traced.is_a_jobs_own(SAID, SMALL)
    traced = traced.forget_blame()
    assert not traced.is_a_jobs_own(SAID, SMALL)


def test_a_failure_without_a_word_is_never_known() -> None:
    traced = Knowledge()
    for job in "abc":
        traced = traced.trace(job, "run", None, died=False)
    assert not traced.is_a_jobs_own(None, SMALL)


OOM = "CUDA out of memory. Tried to allocate {} GiB. GPU 0 has {} GiB free. Process {} has 9.1 GiB"


def test_numbers_that_are_others_each_time_make_no_other_failure() -> None:
    traced = Knowledge()
    traced = traced.trace("a", "run-a", of(OOM.format("16.00", "3.21", 4711)), died=False)
    traced = traced.trace("b", "run-b", of(OOM.format("16.00", "2.90", 4712)), died=False)
    assert traced.is_a_jobs_own(of(OOM.format("16.00", "0.10", 99)), SMALL)
    assert not traced.is_a_jobs_own(of(OOM.format("2.00", "0.10", 99)), SMALL), (
        "a smaller picture is another"
    )


def died(traced: Knowledge, *jobs: str) -> Knowledge:
    for job in jobs:
        traced = traced.trace(job, f"run-{job}", of(f"{job} died"), died=True)
    return traced


def test_so_many_different_jobs_in_a_row_that_kill_it_are_taken_for_a_crash_of_it() -> None:
    traced = Knowledge()
    traced = died(traced, *"ab")
    assert traced.take_repeated() == (traced, ())
    traced = died(traced, "c")
    traced, taken = traced.take_repeated()
    assert taken == ("run-a", "run-b", "run-c")
    assert len(taken) == REPEATEDLY
    assert traced.take_repeated() == (traced, ()), "they are counted again"


def test_the_same_job_again_a_success_or_another_failure_is_not_in_the_row() -> None:
    traced = Knowledge()
    traced = died(traced, *"aaa")
    assert traced.take_repeated() == (traced, ())
    traced = died(traced, "b")
    traced = traced.succeeded(SMALL)
    traced = died(traced, *"cd")
    traced = traced.trace("e", "run-e", SAID, died=False)
    traced = died(traced, *"fg")
    assert traced.take_repeated() == (traced, ())


def test_the_texts_of_the_jobs_make_no_other_failure() -> None:
    """As redaction leaves them, in one piece or in more."""
    traced = Knowledge()
    said = "could not understand '{}' at 12"
    traced = traced.trace(
        "a", "run", of(said.format("<text 30 chars sha256:8e847340>")), died=False
    )
    two = "<text 12 chars sha256:11111111>, <text 9 chars sha256:22222222>"
    traced = traced.trace("b", "run", of(said.format(two)), died=False)
    assert traced.is_a_jobs_own(of(said.format("<text 5 chars sha256:33333333>")), SMALL)
    assert not traced.is_a_jobs_own(
        of("could not draw '<text 5 chars sha256:33333333>' at 12"), SMALL
    )
