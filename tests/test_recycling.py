"""Whether a call was the first of its incarnation."""

from __future__ import annotations

from typing import Any, cast

from sdwatch.lane.recycling import Recycling
from sdwatch.webui.http.option_leaks import OptionLeaks
from tests.lanes import simulator

ONE: dict[str, Any] = {"prompt": "one"}
OTHER: dict[str, Any] = {"prompt": "one"}


def recycling(**webui: Any) -> Recycling:
    return Recycling(simulator(**webui), cast(OptionLeaks, None), lambda: 0)


def test_only_attempts_of_the_call_that_came_first_are_the_first_of_their_incarnation() -> None:
    made = recycling()
    made.start_incarnation()
    assert made.sending(ONE)
    assert made.sending(ONE), "another attempt: nothing else can have harmed the WebUI"
    assert not made.sending(OTHER)
    assert not made.sending(ONE)
    made.start_incarnation()
    assert made.sending(OTHER)


def test_an_adopted_webui_may_have_had_calls() -> None:
    assert not recycling().sending(ONE)


def test_an_external_webui_has_no_first_call() -> None:
    made = recycling(command=None)
    made.start_incarnation()
    assert not made.sending(ONE)
