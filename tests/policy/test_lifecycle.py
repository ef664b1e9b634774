"""The states of one WebUI: what may follow what."""

from __future__ import annotations

import pytest

from sdwatch.policy.failure.lifecycle import (
    WEBUI_TRANSITIONS,
    LifecycleError,
    LifeEvent,
    State,
    diagram,
    next_state,
)
from tests.support.tables import table

E = LifeEvent

LIVES = {
    "a first start": [E.START, E.READY],
    "a crash": [E.START, E.READY, E.CRASHED, E.START, E.READY],
    "a start that fails, then one that does not": [
        E.START, E.START_FAILED, E.START, E.READY,
    ],
    "a hold that goes away": [
        E.START, E.READY, E.NOT_USABLE, E.NOT_USABLE, E.READY,
    ],
    "a start that finds it not usable, and a model that is put there": [
        E.START, E.NOT_USABLE, E.READY,
    ],
    "a port that is taken, and is free again": [
        E.START, E.NOT_USABLE, E.START, E.NOT_USABLE, E.START, E.READY,
    ],
    "a crash while on hold": [
        E.START, E.READY, E.NOT_USABLE, E.CRASHED, E.START, E.READY,
    ],
}  # fmt: skip


@table("events", LIVES.values(), ids=LIVES.keys())
def test_a_life_that_can_happen_ends_ready(events: list[LifeEvent]) -> None:
    state = State.DOWN
    for event in events:
        state = next_state(state, event)
    assert state is State.READY


@table("state", State)
@table("event", LifeEvent)
def test_only_what_the_table_has_can_happen(state: State, event: LifeEvent) -> None:
    if (state, event) in WEBUI_TRANSITIONS:
        assert next_state(state, event) is WEBUI_TRANSITIONS[state, event]
    else:
        with pytest.raises(LifecycleError, match=f"'{state.value}'.*'{event.value}'"):
            next_state(state, event)


@table("state", State)
def test_it_can_be_stopped_in_every_state_and_is_not_started_again(state: State) -> None:
    assert next_state(state, LifeEvent.STOP) is State.STOPPED
    assert {e for s, e in WEBUI_TRANSITIONS if s is State.STOPPED} == {LifeEvent.STOP}


def test_after_a_crash_nothing_is_ready_without_a_start() -> None:
    after = {WEBUI_TRANSITIONS[s, e] for s, e in WEBUI_TRANSITIONS if e is LifeEvent.CRASHED}
    assert after == {State.COOLING_DOWN}
    left_by = {e for s, e in WEBUI_TRANSITIONS if s is State.COOLING_DOWN}
    assert left_by == {LifeEvent.START, LifeEvent.CRASHED, LifeEvent.STOP}


def test_every_state_can_be_reached() -> None:
    reached = {State.DOWN}
    for _ in State:
        reached |= {after for (state, _), after in WEBUI_TRANSITIONS.items() if state in reached}
    assert reached == set(State)


def test_the_diagram_has_a_line_for_each_row_but_the_stops() -> None:
    lines = diagram().splitlines()
    assert lines[0] == "stateDiagram-v2"
    assert "    ready --> cooling_down: crashed" in lines
    rows = [event for _, event in WEBUI_TRANSITIONS if event is not LifeEvent.STOP]
    assert len(lines) == len(rows) + 2
