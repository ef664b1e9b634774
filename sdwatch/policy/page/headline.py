"""What a tired person wants to know first, in one line. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.page.overview import LaneCard, Overview, Presence
from sdwatch.policy.page.times import clock_time, duration


class Tone(StrEnum):
    """How things are: a colour of the page, which always stands beside a word."""

    GOOD = "good"
    BUSY = "busy"
    WAITS = "waits"
    BAD = "bad"
    OFF = "off"


@dataclass(frozen=True)
class Headline:
    """`word`: the state; `sentence`: what it means, or what a person can do."""

    tone: Tone
    word: str
    sentence: str = ""


_WITHOUT_MONITOR = {
    Presence.STOPPED: Headline(
        Tone.OFF, "Stopped", "No monitor is running on this spool; `sdwatch run` starts one."
    ),
    Presence.GONE: Headline(
        Tone.BAD,
        "The monitor is gone",
        "It ended without a word, or is frozen. No job is lost: start sdwatch again on that "
        "machine, and the runs resume.",
    ),
    Presence.NOT_KNOWN: Headline(
        Tone.WAITS, "Looking for the monitor", "Whether it is alive shows within half a minute."
    ),
}

_LANES: dict[str, Tone] = {
    State.READY: Tone.GOOD,
    State.STARTING: Tone.BUSY,
    State.DOWN: Tone.OFF,
    State.COOLING_DOWN: Tone.WAITS,
    State.NOT_USABLE: Tone.BAD,
    State.STOPPED: Tone.OFF,
}


def lane_state(lane: LaneCard) -> Headline:
    """Return the state of a lane: what keeps it from serving jobs comes first."""
    if lane.hold:
        return Headline(Tone.BAD, "on hold", lane.hold)
    if lane.state == State.READY and lane.busy:
        return Headline(Tone.BUSY, "generating")
    if lane.cooldown_left > 0:
        return Headline(Tone.WAITS, f"cooling down, {duration(lane.cooldown_left)} left")
    return Headline(_LANES.get(lane.state, Tone.OFF), lane.state or "unknown")


def headline(overview: Overview) -> Headline:
    """Return how the whole spool stands: what is wrong for all lanes comes first, and what is wrong
    with some of them before what goes well."""
    monitor = overview.monitor
    if overview.gone:
        return Headline(
            Tone.BAD,
            "The spool is not there",
            "Its share is not mounted, or its disk is gone. Nothing is lost; sdwatch waits for it.",
        )
    if (without := _WITHOUT_MONITOR.get(monitor.presence)) is not None:
        return without
    if monitor.presence is Presence.STOPPING:
        left = f" It waits at most {duration(monitor.stopping or 0)} for the call under way."
        return Headline(Tone.WAITS, "Stopping", f"What is unfinished resumes later.{left}")
    if monitor.hold:
        held = f"Paused by the file {overview.hold_file} in the spool; `sdwatch resume` removes it."
        return Headline(Tone.WAITS, "On hold", held if overview.hold_file else monitor.hold)
    return next(_of_lanes(overview), None) or Headline(Tone.BUSY, "Starting")


def _of_lanes(overview: Overview) -> Iterator[Headline]:
    lanes = overview.lanes
    if overview.boxes or overview.broker_down:
        yield from _of_boxes(overview)
    states = [lane_state(lane) for lane in lanes]
    held = [lane.name for lane in lanes if lane.hold]
    if held and len(held) == len(lanes):
        which = "The WebUI is" if len(held) == 1 else "All WebUIs are"
        yield Headline(
            Tone.BAD,
            "On hold",
            f"{which} unusable for now; sdwatch keeps checking. No job fails because of it.",
        )
    elif held:
        yield Headline(Tone.WAITS, "Partly on hold", f"{', '.join(held)}: no job goes there now.")
    if states and all(state.tone is Tone.WAITS for state in states):
        yield Headline(Tone.WAITS, "Cooling down", "The WebUI crashed and is restarted soon.")
    if any(lane.busy for lane in lanes) or any(run.lane for run in overview.active):
        yield Headline(Tone.BUSY, "Generating", _ahead(overview))
    if (until := _only_waits(overview)) is not None:
        opens = clock_time(until, overview.utc_offset, overview.made_at)
        yield Headline(
            Tone.WAITS, f"Waiting until {opens}", f"No job may start. {_ahead(overview)}"
        )
    if overview.totals.queued or overview.totals.suspended:
        yield Headline(Tone.WAITS, "Waiting for the WebUI", _ahead(overview))
    serve = any(box.serves for box in overview.boxes)
    if (lanes or serve) and all(state.tone is Tone.GOOD for state in states):
        yield Headline(Tone.GOOD, "Ready", "Nothing is queued: drop a job file into inbox/.")
    elif lanes:
        yield Headline(Tone.BUSY, "Starting", "The WebUI is not ready yet.")


def _of_boxes(overview: Overview) -> Iterator[Headline]:
    """Yield what is wrong with other machines: with all of them only where no lane is here."""
    if overview.broker_down:
        words = "The broker does not answer"
        rest = "what is on other machines is finished there, and handed in later"
        yield Headline(Tone.BAD, "No broker", f"{words}; {rest}.")
    gone = [box.name for box in overview.boxes if not box.answers]
    if gone and not overview.lanes and len(gone) == len(overview.boxes):
        which = "The box does not answer" if len(gone) == 1 else "No box answers"
        yield Headline(Tone.BAD, "No box", f"{which}. No job fails because of it.")


def _only_waits(overview: Overview) -> float | None:
    """Return when the first job may start, if all that is there waits for its time; None else."""
    runs = [run.waits_until for run in overview.active if not run.lane]
    waits = [*(job.waits_until for job in overview.queue), *runs]
    times = [each for each in waits if each is not None]
    return min(times) if times and len(times) == len(waits) else None


def _ahead(overview: Overview) -> str:
    queued = overview.totals.queued
    if not queued:
        return "Nothing else is queued."
    jobs = f"{queued} {'job waits' if queued == 1 else 'jobs wait'}"
    if overview.queue_ends_in is None:
        return f"{jobs}."
    ends = overview.made_at + overview.queue_ends_in
    return f"{jobs}; all done about {clock_time(ends, overview.utc_offset, overview.made_at)}."
