"""Whether a call was the first of its incarnation, and when an incarnation is recycled."""

from __future__ import annotations

from sdwatch.policy.lane.state import IncarnationUse, RecycleLimits

ONE, OTHER = 1, 2


def sent(use: IncarnationUse, *calls: int) -> tuple[IncarnationUse, list[bool]]:
    """Send these calls, and say of each whether it was the first of its incarnation."""
    firsts = []
    for call in calls:
        use, first = use.sending(call)
        firsts.append(first)
    return use, firsts


def test_only_attempts_of_the_call_that_came_first_are_the_first_of_their_incarnation() -> None:
    use = IncarnationUse().new_incarnation()
    use, firsts = sent(use, ONE, ONE, OTHER, ONE)
    assert firsts == [True, True, False, False], "another attempt: nothing else can have harmed it"
    assert sent(use.new_incarnation(), OTHER)[1] == [True]


def test_an_attempt_that_may_have_harmed_the_webui_makes_the_next_one_not_the_first() -> None:
    use, _ = sent(IncarnationUse().new_incarnation(), ONE)
    assert sent(use.doubt_attempt(), ONE)[1] == [False]


def test_an_adopted_webui_may_have_had_calls() -> None:
    assert sent(IncarnationUse(), ONE)[1] == [False]


def test_an_external_webui_has_no_first_call() -> None:
    assert sent(IncarnationUse(managed=False).new_incarnation(), ONE)[1] == [False]


def test_an_external_webui_is_never_recycled() -> None:
    use, _ = sent(IncarnationUse(managed=False), ONE)
    assert use.after_call(10, ("CLIP",), RecycleLimits(1, 1)).due == ""


def test_the_first_reason_to_recycle_is_the_one_that_is_reported() -> None:
    use, _ = sent(IncarnationUse().new_incarnation(), ONE)
    due = use.after_call(9_000_000, ("CLIP",), RecycleLimits(1, 5_000_000)).due
    assert due == "it kept CLIP after a job's call"
