"""The states of one WebUI as one table; nothing else decides what may follow what.

README and ARCHITECTURE show it as a diagram (`diagram`); a test keeps them equal.
A lane that holds after a failed start is cooling down, with the reason in words beside its state
until the WebUI is ready again. One that a start found not usable is not usable, whether its process
answers or nothing runs; no crash is behind that, and no cool-down after it.
"""

from __future__ import annotations

from enum import StrEnum

from sdwatch.errors import SdwatchError


class State(StrEnum):
    """Where one WebUI is."""

    DOWN = "down"
    STARTING = "starting"
    READY = "ready"
    COOLING_DOWN = "cooling down"
    NOT_USABLE = "not usable"
    STOPPED = "stopped"


class Event(StrEnum):
    """What may happen to it."""

    START = "start"
    READY = "is ready"
    CRASHED = "crashed"
    START_FAILED = "start failed"
    NOT_USABLE = "found not usable"
    RECYCLED = "recycled"
    STOP = "stop"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.DOWN, Event.START): State.STARTING,
    (State.STARTING, Event.READY): State.READY,
    (State.STARTING, Event.START_FAILED): State.COOLING_DOWN,
    (State.STARTING, Event.NOT_USABLE): State.NOT_USABLE,
    (State.READY, Event.CRASHED): State.COOLING_DOWN,
    (State.READY, Event.NOT_USABLE): State.NOT_USABLE,
    (State.READY, Event.RECYCLED): State.DOWN,
    (State.NOT_USABLE, Event.START): State.STARTING,
    (State.NOT_USABLE, Event.READY): State.READY,
    (State.NOT_USABLE, Event.NOT_USABLE): State.NOT_USABLE,
    (State.NOT_USABLE, Event.CRASHED): State.COOLING_DOWN,
    (State.COOLING_DOWN, Event.START): State.STARTING,
    (State.COOLING_DOWN, Event.CRASHED): State.COOLING_DOWN,
    **{(state, Event.STOP): State.STOPPED for state in State},
}


class LifecycleError(SdwatchError):
    """An event that cannot happen in this state: a mistake in sdwatch itself."""


def next_state(state: State, event: Event) -> State:
    """The state after `event`. Raises LifecycleError where the table has no such row."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise LifecycleError(
            f"a WebUI that is {state.value!r} cannot have {event.value!r}"
        ) from None


def diagram() -> str:
    """The table as a mermaid state diagram."""

    def name(state: State) -> str:
        return state.value.replace(" ", "_")

    lines = ["stateDiagram-v2", f"    [*] --> {name(State.DOWN)}"]
    for (state, event), after in TRANSITIONS.items():
        if event is not Event.STOP:
            lines.append(f"    {name(state)} --> {name(after)}: {event.value}")
    lines.append(f"    {name(State.STOPPED)} --> [*]")
    return "\n".join(lines)
