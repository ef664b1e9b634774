"""The parts of the page, each from a part of an Overview. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sdwatch.policy.failure.lifecycle import State
from sdwatch.policy.kinds.table import title_of
from sdwatch.policy.page.buttons import Forms
from sdwatch.policy.page.headline import Headline, Tone, lane_state
from sdwatch.policy.page.markup import (
    Markup,
    element,
    join,
    name_of,
    prose,
    section,
    state_of,
    unfolded,
)
from sdwatch.policy.page.overview import (
    ActiveCard,
    BoxCard,
    BoxLaneCard,
    LaneCard,
    Overview,
    Presence,
    QueuedJob,
    Remark,
)
from sdwatch.policy.page.times import clock_time, duration, iso
from sdwatch.policy.privacy.printable import counted
from sdwatch.policy.report.status_line import crashes_in_words

_MINUTE = 60.0  # seconds

_FIRST_QUEUED = 8
"""So many are shown at once; the others unfold, so that the pictures are not far down."""

_FIRST_BOXES = 8
"""So many are shown at once; the others unfold."""


def counts(overview: Overview) -> Markup:
    """Return what ended over the night."""
    night = overview.counts
    cancelled = f"{night.cancelled:,} cancelled" if night.cancelled else ""
    tiles = [
        _tile("done", night.done, "Done", counted(night.images, "image")),
        _tile("failed", night.failed, "Failed", cancelled),
        _tile(
            "lost",
            night.lost,
            "Time lost",
            counted(night.crashes, "crash", "crashes"),
            duration(night.lost),
        ),
    ]
    so_far = "" if night.whole else ", still being counted"
    words = f"The last {night.hours:g} hours{so_far}"
    title = element("h2", words, class_="quiet", id="counts-title")
    return element(
        "section", title, element("dl", tiles), class_="counts", aria_labelledby="counts-title"
    )


def _tile(name: str, number: float, label: str, note: str, value: str = "") -> Markup:
    """Return a tile. `value`: `number` in words, unless it is a count."""
    some = " some" if number else ""
    return element(
        "div",
        element("dt", label),
        element(
            "dd", element("strong", value or f"{number:,}"), element("small", note) if note else ""
        ),
        class_=f"tile {name}{some}",
    )


# -- lanes


def lanes(overview: Overview) -> Markup:
    """Return the WebUIs, each with its state, the reason and what a person can do."""
    if not overview.lanes:
        return Markup()
    cards = [_lane(lane) for lane in overview.lanes]
    return section("WebUIs" if len(cards) > 1 else "WebUI", element("ul", cards), id_="lanes")


def _lane(lane: LaneCard) -> Markup:
    state = lane_state(lane)
    how = [lane.version, "" if lane.managed else "external: sdwatch does not restart it"]
    facts = [*filter(None, how), *_lane_facts(lane)]
    return element(
        "li",
        element("div", element("strong", lane.name), state_of(state), class_="row"),
        element("p", prose(lane.hold), class_="reason") if lane.hold else "",
        element("p", prose(lane.advice), class_="advice") if lane.advice else "",
        _to_retry(lane),
        element("p", " · ".join(facts), class_="quiet") if facts else "",
        class_=f"card {state.tone}",
    )


def _lane_facts(lane: LaneCard) -> Iterator[str]:
    if lane.hold and lane.cooldown_left > 0:
        yield f"cooling down, {duration(lane.cooldown_left)} left"
    if lane.crashes_in_a_row:
        yield crashes_in_words(lane.crashes_in_a_row, lane.last_crash)
    if lane.last_failure and not lane.hold and lane.crashes_in_a_row:
        yield lane.last_failure
    if lane.gpu:
        yield lane.gpu
    if lane.rss:
        yield f"{memory(lane.rss)} of memory"
    if lane.warnings:
        yield f"{counted(lane.warnings, 'warning')}, the last: {lane.last_warning}"


def memory(size: int) -> str:
    """Return bytes of memory as `4.2 GB`, or as `93 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _to_retry(lane: LaneCard) -> Markup:
    if not lane.to_retry:
        return Markup()
    command = element("code", f"sdwatch retry {' '.join(lane.to_retry)}")
    return element("p", "To retry its failed jobs: ", command, class_="advice")


# -- other machines


def boxes(overview: Overview) -> Markup:
    """Return the boxes, those with something wrong first, each with its WebUIs."""
    if not overview.boxes and not overview.broker_down:
        return Markup()
    ranked = sorted(
        overview.boxes, key=lambda box: (_box_state(box).tone is not Tone.BAD, box.name)
    )
    down = ""
    if overview.broker_down:
        reason = f"The broker does not answer: {overview.broker_down}. What is there is kept."
        down = element("p", prose(reason), class_="notice bad")
    answering = sum(box.answers for box in overview.boxes)
    note = f"{answering} of {len(overview.boxes)} answer" if overview.boxes else ""
    cards = unfolded("ul", [_box(box) for box in ranked], _FIRST_BOXES, Markup()) if ranked else ""
    return section("Boxes", join(down, cards), id_="boxes", note=note)


def _box_state(box: BoxCard) -> Headline:
    if not box.answers:
        return Headline(Tone.BAD, "does not answer")
    if box.held or box.drained or box.paused:
        return Headline(Tone.WAITS, box.state)
    if box.runs:
        return Headline(Tone.BUSY, "generating")
    if box.lanes and all(lane.hold for lane in box.lanes):
        return Headline(Tone.BAD, "on hold")
    return Headline(Tone.GOOD, "ready") if box.serves else Headline(Tone.OFF, "not ready")


def _box(box: BoxCard) -> Markup:
    state = _box_state(box)
    return element(
        "li",
        element("div", element("strong", box.name), state_of(state), class_="row"),
        element("p", prose(box.paused), class_="reason") if box.paused else "",
        element("p", " · ".join(_box_facts(box)), class_="quiet"),
        [_box_lane(lane, answers=box.answers) for lane in box.lanes],
        class_=f"card {state.tone}",
    )


def _box_facts(box: BoxCard) -> Iterator[str]:
    if not box.answers:
        yield f"has not shown itself for {duration(box.seconds_ago)}"
    if box.runs or box.places:
        yield f"{box.runs} of {counted(box.places, 'place')} taken"
    else:
        yield "takes no jobs now"


def _box_lane(lane: BoxLaneCard, *, answers: bool) -> Markup:
    state = "on hold" if lane.hold else "ready" if lane.ready else "not ready"
    words = [*([state] if answers else []), title_of(lane.kind), *(f"#{tag}" for tag in lane.tags)]
    if lane.loaded:
        words.append(f"{lane.loaded} is loaded")
    if lane.checkpoint_count:
        words.append(counted(lane.checkpoint_count, "checkpoint"))
    named = ", ".join(lane.checkpoints)
    return join(
        element("p", f"{lane.name}: ", " · ".join(words), class_="quiet", title=named or None),
        element("p", prose(lane.hold), class_="reason") if lane.hold else "",
    )


# -- what runs


def active(overview: Overview, forms: Forms) -> Markup:
    """Return the runs in working/: those that a lane serves, then those that wait."""
    if not overview.active:
        return Markup()
    cards = [_active(run, overview, forms) for run in overview.active]
    more = overview.totals.suspended - sum(not run.lane for run in overview.active)
    rest = element("p", f"and {counted(more, 'suspended run')} more", class_="quiet more")
    title = "Now" if any(run.lane for run in overview.active) else "Suspended"
    return section(title, element("ul", cards), rest if more > 0 else "", id_="now")


def _active(run: ActiveCard, overview: Overview, forms: Forms) -> Markup:
    name = name_of(run.source or run.run_id)
    where = element(
        "span", run.lane if len(overview.lanes) > 1 or overview.boxes else "", class_="quiet"
    )
    if not run.lane:
        where = element("span", "suspended", class_="state waits")
    doing = "waits for its turn" if run.lane else "resumes as soon as a WebUI can serve it"
    lanes_down = [lane.name for lane in overview.lanes if lane.state != State.READY]
    return element(
        "li",
        element("div", element("strong", name), where, class_="row"),
        element("p", run.doing or doing, class_="doing"),
        _points_failed(run),
        _bar(run, waits=run.lane in lanes_down) if run.calling else "",
        element("div", forms.cancel_run(run.run_id, run.source), class_="actions")
        if forms.live
        else "",
        class_="card busy" if run.calling else "card",
    )


def _points_failed(run: ActiveCard) -> Markup:
    if not run.points_failed:
        return Markup()
    words = f"{counted(run.points_failed, 'point')} failed so far; the others are made."
    return element("p", words, class_="reason")


def _bar(run: ActiveCard, *, waits: bool) -> Markup:
    """Return how far a job has come, and its call. `waits`: the call is tried again once the WebUI
    is back."""
    if waits:
        return element("p", "The call waits until the WebUI is ready.", class_="quiet")
    share = share_of(run)
    bar = element(
        "progress",
        max=100,
        value=None if share is None else f"{100 * share:.0f}",
        aria_label=f"Progress of {run.source}",
    )
    return join(bar, element("p", *_progress_words(run), class_="quiet numbers"))


def share_of(run: ActiveCard) -> float | None:
    """Return the share of a job that is done, 0 to 1: of its points, their stages and calls, each
    counted alike, and of the call under way. None for a single call that says nothing: quick ones
    end before the WebUI is asked how far they are."""
    percent = run.progress.percent
    if percent is None and (run.calls or 1) * (run.stages or 1) * (run.points or 1) == 1:
        return None
    share = min(100.0, max(0.0, percent or 0.0)) / 100
    for at, count in (
        (run.call, run.calls), (run.stage_number, run.stages), (run.point, run.points),
    ):  # fmt: skip
        if at and count:
            share = (min(at, count) - 1 + share) / count
    return share


def _progress_words(run: ActiveCard) -> Iterator[Markup]:
    progress = run.progress
    words = [f"step {progress.step or 0} of {progress.steps}"] if progress.steps else []
    words += [f"{progress.percent:.0f} %"] if progress.percent is not None else []
    words += [f"{duration(progress.eta)} left"] if progress.eta is not None else []
    yield element("span", " · ".join(words) or "no steps reported yet")
    if run.left is not None and run.left > (progress.eta or 0) + 1:
        yield element("span", f"whole job: {duration(run.left)} left")


# -- the queue


def queue(overview: Overview, forms: Forms) -> Markup:
    """Return the jobs that wait, in their order, with when each is expected to start."""
    total = overview.totals.queued
    if not overview.queue:
        return section("Queue", _empty_queue(overview), id_="queue")
    rows = [_queued(job, overview, forms) for job in overview.queue]
    more = total - len(rows)
    rest = element("p", f"and {counted(more, 'job')} more", class_="quiet more")
    return section(
        "Queue",
        element("p", *_next(overview), class_="next"),
        unfolded("ol", rows, _FIRST_QUEUED, rest if more > 0 else Markup(), "rows"),
        id_="queue",
        note=_queue_note(overview),
    )


def _queue_note(overview: Overview) -> str:
    jobs = counted(overview.totals.queued, "job")
    if overview.queue_ends_in is None:
        return jobs
    ends = overview.made_at + overview.queue_ends_in
    return f"{jobs}, done about {clock_time(ends, overview.utc_offset, overview.made_at)}"


def _empty_queue(overview: Overview) -> Markup:
    inbox = element("code", "inbox/")
    if overview.totals.waiting:
        return element("p", "Nothing can start yet; see below.", class_="empty")
    return element("p", "Nothing is queued. Drop a job file into ", inbox, ".", class_="empty")


def _next(overview: Overview) -> Iterator[str]:
    first = overview.queue[0]
    if any(not run.lane and run.waits_until is None for run in overview.active):
        yield "Suspended runs resume first. "
    if first.waits_until is not None:
        yield "No job here may start yet. "
    yield from _next_on_lanes(overview)
    if all(job.starts_in is None for job in overview.queue):
        yield _why_no_start(overview)


def _next_on_lanes(overview: Overview) -> Iterator[str]:
    """Yield which job each WebUI gets next, and why; only once what is the same for all."""
    first, several = overview.queue[0], len(overview.lanes) > 1
    found = [each for each in overview.next if not (each.in_order and each.source == first.source)]
    if first.because is not None and (len(found) < len(overview.next) or not found):
        yield from ("Next: ", name_of(first.source), f", because {first.because}. ")
    for each in found:
        where = f"Next on {each.lane}: " if several else "Next: "
        yield from (where, name_of(each.source), f", because {each.why}. ")


def _why_no_start(overview: Overview) -> str:
    if overview.monitor.presence is not Presence.RUNNING:
        return "When each starts is unknown while no monitor runs."
    if not overview.has_history:
        return "No history yet: when each starts shows once a call has finished here."
    return "When each starts is unknown while no WebUI serves jobs."


def _queued(job: QueuedJob, overview: Overview, forms: Forms) -> Markup:
    parts = [f"priority {job.priority}" if job.priority else ""]
    parts.append(counted(job.points, "point") if job.points else "")
    calls = 0 if job.calls in (None, 1, job.points) else job.calls
    parts.append(counted(calls, "call") if calls else "")
    takes = job.takes or 0.0
    parts.append(f"about {duration(takes)}" if takes >= 0.5 else "less than 1 s" if takes else "")
    facts = " · ".join(filter(None, parts))
    return element(
        "li",
        element("div", name_of(job.source), element("p", facts, class_="quiet") if facts else ""),
        element("span", _start(job, overview), class_="when"),
        forms.cancel_job(job.source),
    )


def _start(job: QueuedJob, overview: Overview) -> Markup:
    if job.waits_until is not None:
        return _waits(job, job.waits_until, overview)
    if job.starts_in is None:
        return Markup()
    if job.starts_in < 1:
        return element("span", "now")
    at = overview.made_at + job.starts_in
    shown = clock_time(at, overview.utc_offset, overview.made_at)
    return element(
        "time", f"about {shown}", datetime=iso(at), title=f"in {duration(job.starts_in)}"
    )


def _waits(job: QueuedJob, until: float, overview: Overview) -> Markup:
    """Return until when a job waits for its time, and when it is expected to start if that is
    later."""
    opens = clock_time(until, overview.utc_offset, overview.made_at)
    words = f"waits until {opens}: {job.waits_for}"
    start = overview.made_at + (job.starts_in or 0.0)
    if start > until + _MINUTE:
        words += f"; about {clock_time(start, overview.utc_offset, overview.made_at)}"
    return element("time", words, datetime=iso(until))


def remarks(title: str, found: tuple[Remark, ...], total: int, id_: str) -> Markup:
    """Return files of the inbox with what is to say about each; nothing if there are none."""
    if not found:
        return Markup()
    rows = [
        element(
            "li",
            element("div", name_of(each.source), class_="row"),
            element("p", prose(each.reason), class_="quiet"),
        )
        for each in found
    ]
    rest = element("p", f"and {total - len(found):,} more", class_="quiet more")
    body = element("ul", rows, class_="rows"), rest if total > len(found) else ""
    return section(title, *body, id_=id_)
