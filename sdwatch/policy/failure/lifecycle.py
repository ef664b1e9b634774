"""The states of one WebUI as one table; nothing else decides on transitions.

README and ARCHITECTURE show it as a diagram (`diagram`); a test keeps them equal.
A lane on hold after a failed start is cooling down, and shows the reason until the WebUI is ready
again. A WebUI that a start found unusable is not usable, whether its process answers or nothing
runs; that is not a crash, so no cool-down follows.
"""

from __future__ import annotations

from enum import StrEnum

from sdwatch.errors import SdwatchError


class State(StrEnum):
    """The state of one WebUI."""

    DOWN = "down"
    STARTING = "starting"
    READY = "ready"
    COOLING_DOWN = "cooling down"
    NOT_USABLE = "not usable"
    STOPPED = "stopped"


class Event(StrEnum):
    """What may happen to a WebUI."""

    START = "start"
    READY = "is ready"
    CRASHED = "crashed"
    START_FAILED = "start failed"
    NOT_USABLE = "found not usable"
    RECYCLED = "recycled"
    STOP = "stop"


WEBUI_TRANSITIONS: dict[tuple[State, Event], State] = {
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
    """An event that cannot happen in this state: an internal error."""


def next_state(state: State, event: Event) -> State:
    """Return the state after `event`. Raises LifecycleError if the table has no such row."""
    try:
        return WEBUI_TRANSITIONS[state, event]
    except KeyError:
        raise LifecycleError(
            f"a WebUI that is {state.value!r} cannot have {event.value!r}"
        ) from None


def diagram() -> str:
    """Return the table as a mermaid state diagram, without the stops: any state has one."""

    def name(state: State) -> str:
        return state.value.replace(" ", "_")

    lines = ["stateDiagram-v2", f"    [*] --> {name(State.DOWN)}"]
    for (state, event), after in WEBUI_TRANSITIONS.items():
        if event is not Event.STOP:
            lines.append(f"    {name(state)} --> {name(after)}: {event.value}")
    return "\n".join(lines)
