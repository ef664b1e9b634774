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


class LifeEvent(StrEnum):
    """What changes the state of a WebUI."""

    START = "start"
    READY = "is ready"
    CRASHED = "crashed"
    START_FAILED = "start failed"
    NOT_USABLE = "found not usable"
    RECYCLED = "recycled"
    STOP = "stop"


WEBUI_TRANSITIONS: dict[tuple[State, LifeEvent], State] = {
    (State.DOWN, LifeEvent.START): State.STARTING,
    (State.STARTING, LifeEvent.READY): State.READY,
    (State.STARTING, LifeEvent.START_FAILED): State.COOLING_DOWN,
    (State.STARTING, LifeEvent.NOT_USABLE): State.NOT_USABLE,
    (State.READY, LifeEvent.CRASHED): State.COOLING_DOWN,
    (State.READY, LifeEvent.NOT_USABLE): State.NOT_USABLE,
    (State.READY, LifeEvent.RECYCLED): State.DOWN,
    (State.NOT_USABLE, LifeEvent.START): State.STARTING,
    (State.NOT_USABLE, LifeEvent.READY): State.READY,
    (State.NOT_USABLE, LifeEvent.NOT_USABLE): State.NOT_USABLE,
    (State.NOT_USABLE, LifeEvent.CRASHED): State.COOLING_DOWN,
    (State.COOLING_DOWN, LifeEvent.START): State.STARTING,
    (State.COOLING_DOWN, LifeEvent.CRASHED): State.COOLING_DOWN,
    **{(state, LifeEvent.STOP): State.STOPPED for state in State},
}


class LifecycleError(SdwatchError):
    """An event that cannot happen in this state: an internal error."""


def next_state(state: State, event: LifeEvent) -> State:
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
        if event is not LifeEvent.STOP:
            lines.append(f"    {name(state)} --> {name(after)}: {event.value}")
    return "\n".join(lines)
