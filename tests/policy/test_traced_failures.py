"""What was proven to be a job's own costs no more restarts, and is doubted when it is too often."""

from __future__ import annotations

from sdwatch.policy.failure.facts import Diagnosis, FailureKey
from sdwatch.policy.failure.traced_failures import REPEATEDLY, TracedFailures


def of(said: str) -> FailureKey:
    """As two jobs may share it."""
    return FailureKey(Diagnosis.SERVER_ERROR, said=(said,)).shared(str)


SAID, OTHER = of("500: KeyError"), of("500: ValueError")


def test_the_same_failure_is_known_when_it_was_traced_to_two_jobs() -> None:
    traced = TracedFailures()
    traced = traced.trace("a", "run-a", SAID, died=False)
    assert not traced.is_a_jobs_own(SAID)
    traced = traced.trace("b", "run-b", SAID, died=False)
    assert traced.is_a_jobs_own(SAID)
    assert not traced.is_a_jobs_own(OTHER)


def test_one_job_that_is_tried_again_proves_nothing_of_others() -> None:
    traced = TracedFailures()
    for run in ("first", "second", "third"):
        traced = traced.trace("a", run, SAID, died=False)
    assert not traced.is_a_jobs_own(SAID)


def test_two_mistakes_that_take_turns_are_both_known() -> None:
    traced = TracedFailures()
    for job, said in enumerate((SAID, OTHER, SAID, OTHER)):
        traced = traced.trace(f"{job}", "run", said, died=False)
    assert traced.is_a_jobs_own(SAID)
    assert traced.is_a_jobs_own(OTHER)


def test_a_failure_must_be_traced_again_once_the_webui_may_be_another() -> None:
    traced = TracedFailures()
    for job in "ab":
        traced = traced.trace(job, "run", SAID, died=False)
    assert traced.is_a_jobs_own(SAID)
    traced = traced.forget()
    assert not traced.is_a_jobs_own(SAID)


def test_a_failure_without_a_word_is_never_known() -> None:
    traced = TracedFailures()
    for job in "abc":
        traced = traced.trace(job, "run", None, died=False)
    assert not traced.is_a_jobs_own(None)


OOM = "CUDA out of memory. Tried to allocate {} GiB. GPU 0 has {} GiB free. Process {} has 9.1 GiB"


def test_numbers_that_are_others_each_time_make_no_other_failure() -> None:
    traced = TracedFailures()
    traced = traced.trace("a", "run-a", of(OOM.format("16.00", "3.21", 4711)), died=False)
    traced = traced.trace("b", "run-b", of(OOM.format("16.00", "2.90", 4712)), died=False)
    assert traced.is_a_jobs_own(of(OOM.format("16.00", "0.10", 99)))
    assert not traced.is_a_jobs_own(of(OOM.format("2.00", "0.10", 99))), (
        "a smaller picture is another"
    )


def died(traced: TracedFailures, *jobs: str) -> TracedFailures:
    for job in jobs:
        traced = traced.trace(job, f"run-{job}", of(f"{job} died"), died=True)
    return traced


def test_so_many_different_jobs_in_a_row_that_kill_it_are_taken_for_a_crash_of_it() -> None:
    traced = TracedFailures()
    traced = died(traced, *"ab")
    assert traced.take_repeated() == (traced, ())
    traced = died(traced, "c")
    traced, taken = traced.take_repeated()
    assert taken == ("run-a", "run-b", "run-c")
    assert len(taken) == REPEATEDLY
    assert traced.take_repeated() == (traced, ()), "they are counted again"


def test_the_same_job_again_a_success_or_another_failure_is_not_in_the_row() -> None:
    traced = TracedFailures()
    traced = died(traced, *"aaa")
    assert traced.take_repeated() == (traced, ())
    traced = died(traced, "b")
    traced = traced.succeeded()
    traced = died(traced, *"cd")
    traced = traced.trace("e", "run-e", SAID, died=False)
    traced = died(traced, *"fg")
    assert traced.take_repeated() == (traced, ())


def test_the_texts_of_the_jobs_make_no_other_failure() -> None:
    """As redaction leaves them, in one piece or in more."""
    traced = TracedFailures()
    said = "could not understand '{}' at 12"
    traced = traced.trace(
        "a", "run", of(said.format("<text 30 chars sha256:8e847340>")), died=False
    )
    two = "<text 12 chars sha256:11111111>, <text 9 chars sha256:22222222>"
    traced = traced.trace("b", "run", of(said.format(two)), died=False)
    assert traced.is_a_jobs_own(of(said.format("<text 5 chars sha256:33333333>")))
    assert not traced.is_a_jobs_own(of("could not draw '<text 5 chars sha256:33333333>' at 12"))
