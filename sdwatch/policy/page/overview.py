"""How a spool stands, as one value: status.json, status.html and the live page are made from it.
Pure.

Times are seconds since 1970 (UTC), durations are seconds. Paths are relative to the spool and have
forward slashes. Lists for people are cut: a count beside each of them is the whole number. Nothing
here is a prompt: of jobs it has the names of files.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sdwatch.policy.page.times import iso

FORMAT = 1
"""The version of status.json: it changes when a field is renamed, removed or means something else,
and not when one is added."""


class Presence(StrEnum):
    """Whether a monitor works on the spool, as far as its heartbeat shows. Clocks are never
    compared: what counts is whether the heartbeat moves."""

    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    """It stopped cleanly, and removed its heartbeat; or none ever ran on this spool."""
    GONE = "gone"
    """Its process has ended without a word, or its heartbeat has stood still for too long."""
    NOT_KNOWN = "unknown"
    """Of another machine, or unreadable, and not yet watched for long enough."""


@dataclass(frozen=True)
class NextJob:
    """The job that a lane gets next, and why. `in_order`: only because it is the first."""

    lane: str
    source: str
    why: str = ""
    in_order: bool = False


class Because(StrEnum):
    """Why a job is the next one."""

    ONLY = "no other job waits"
    PRIORITY = "its priority is the highest"
    OLDEST = "it has waited longest"
    NAME = "its name comes first of those that arrived at the same moment"


@dataclass(frozen=True)
class Unreached:
    """Somebody whom messages do not reach. `target`: its number in the config, such as
    `webhook 1`; `since`: as in the journal."""

    target: str
    why: str = ""
    since: str = ""


@dataclass(frozen=True)
class MonitorCard:
    """The monitor. `seen_at`: the time in its last heartbeat, by its own clock, None if unknown;
    `hold`: why no new call may start on any lane, '' if calls may; `stopping`: seconds left of a
    clean stop; `config_edited`: the name of the
    config file, if it changed since the start; `stop_ignored`:
    stop files older than the start; `unreached`: who gets no messages now, each with the reason."""

    presence: Presence
    worker: str = ""
    host: str = ""
    pid: int = 0
    seen_at: float | None = None
    hold: str = ""
    stopping: float | None = None
    config_edited: str = ""
    stop_ignored: tuple[str, ...] = ()
    unreached: tuple[Unreached, ...] = ()


@dataclass(frozen=True)
class LeftBehind:
    """Another worker that is gone, with its runs in working/. They resume when sdwatch starts there
    again, or after `sdwatch run --take-over WORKER`."""

    worker: str
    host: str = ""
    runs: int = 0


@dataclass(frozen=True)
class LaneCard:
    """A WebUI. `version`: its kind and version in words, '' if unknown; `state`: a value of
    lifecycle.State; `hold`: why the lane is on hold, '' if it is not, and `advice` what a person
    can do; `to_retry`: runs that failed because of what caused the hold; `cooldown_left`: seconds
    for which nothing is started or sent; `last_crash`: what the last of these crashes was, in a few
    words, '' for none; `last_failure`: why the last start failed, ''; `gpu`: what was done to free
    its GPU, '' for nothing; `rss`: bytes of memory of its processes, None if unknown."""

    name: str
    url: str = ""
    version: str = ""
    managed: bool = True
    state: str = ""
    busy: bool = False
    hold: str = ""
    advice: str = ""
    to_retry: tuple[str, ...] = ()
    crashes_in_a_row: int = 0
    cooldown_left: float = 0.0
    last_crash: str = ""
    last_failure: str = ""
    gpu: str = ""
    rss: int | None = None
    warnings: int = 0
    last_warning: str = ""


@dataclass(frozen=True)
class CallProgress:
    """How far a call has come, each part as far as the WebUI reports it. `percent`: 0 to 100;
    `eta`: seconds left."""

    step: int | None = None
    steps: int | None = None
    percent: float | None = None
    eta: float | None = None


@dataclass(frozen=True)
class ActiveCard:
    """A run in working/. `folder`: of the run; `lane`: '' while it is suspended; `doing`: in
    words, why it waits or what it does; `stage`: the kind of stage, '' if none has started;
    `stage_number` of `stages` and `call` of `calls`, None if unknown; `point` of `points`, None for
    a job without points; `points_failed`: so many have failed so far; `calling`: a call is with the
    WebUI; `left`: seconds that the run is expected to last from now on, None if unknown;
    `waits_until`: when its time comes (`only`, `not_before`), seconds since 1970, None if it waits
    for none."""

    run_id: str
    folder: str
    source: str = ""
    lane: str = ""
    doing: str = ""
    calling: bool = False
    stage: str = ""
    stage_number: int | None = None
    stages: int | None = None
    call: int | None = None
    calls: int | None = None
    point: int | None = None
    points: int | None = None
    points_failed: int = 0
    progress: CallProgress = CallProgress()
    left: float | None = None
    waits_until: float | None = None


@dataclass(frozen=True)
class QueuedJob:
    """A job that waits: in their order those that may start, then by their time the others.
    `source`: its path in the inbox; `arrived_at`: its mtime, None if unknown; `calls`: how many it
    will need, None if nobody has read it yet; `because`: why it is the first in the order, None for
    all others; `starts_in`: seconds until it is expected to start, None without a history, or while
    no lane may serve it; `points`: how many it has, None for a job without points; `takes`: seconds
    that it is expected to take, None if unknown; `waits_until`: when its time comes, seconds since
    1970, None if it may start; `waits_for`: the field that says so, `only` or `not_before`."""

    source: str
    priority: int = 0
    arrived_at: float | None = None
    calls: int | None = None
    because: Because | None = None
    starts_in: float | None = None
    points: int | None = None
    takes: float | None = None
    waits_until: float | None = None
    waits_for: str = ""


@dataclass(frozen=True)
class Remark:
    """A file or folder of the inbox, and what is to say about it: why it waits, or why it is not a
    job although it looks like one."""

    source: str
    reason: str


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of an image. `path`: of the small picture, '' if none was made; `image`: of
    the whole one."""

    path: str
    image: str


@dataclass(frozen=True)
class PointCard:
    """A point of a job that failed. `values`: what makes it differ from others, short and without
    prompts; `diagnosis`: '' if unknown."""

    number: int
    values: str = ""
    diagnosis: str = ""


@dataclass(frozen=True)
class EndedCard:
    """A run in done/ or failed/. `outcome`: done, failed or cancelled, '' if its journal cannot be
    read; `seconds`: from its claim to its end; `images`: how many it has, without grids; `files`:
    the paths of its other files, such as videos; `points`: for how many points it has pictures, 0
    for a job without points; `points_failed`: how many of them failed, and `failed_points` the
    first of these; `why`: the first line of WHY.txt; `diagnosis` and `blame`: of error.json;
    `explained`: WHY.txt is there; `documented`: run.json is."""

    run_id: str
    folder: str
    outcome: str = ""
    source: str = ""
    ended_at: float | None = None
    seconds: float | None = None
    images: int = 0
    files: tuple[str, ...] = ()
    points: int = 0
    points_failed: int = 0
    failed_points: tuple[PointCard, ...] = ()
    thumbnails: tuple[Thumbnail, ...] = ()
    warnings: int = 0
    why: str = ""
    diagnosis: str = ""
    blame: str = ""
    explained: bool = False
    documented: bool = False


@dataclass(frozen=True)
class NightCounts:
    """What ended in the last `hours`. `images`: of all these runs; `crashes`: of a WebUI during a
    call in these hours, also of runs that have not ended; `lost`: seconds of WebUI time lost to
    them: the attempts that ended in a crash, and the time until the same run's next attempt or its
    end, or until now; `whole`: all these runs have been read, which takes a while at first."""

    hours: float = 12.0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    images: int = 0
    crashes: int = 0
    lost: float = 0.0
    whole: bool = True


@dataclass(frozen=True)
class Totals:
    """How many there are: jobs that can start (`queued`) and that wait for something (`waiting`),
    runs that wait in working/ (`suspended`), what is in the folders, near misses of the inbox."""

    queued: int = 0
    waiting: int = 0
    suspended: int = 0
    done: int = 0
    failed: int = 0
    near_misses: int = 0


@dataclass(frozen=True)
class Overview:
    """How a spool stands. `spool`: the name of its folder; `made_at`: when this was read;
    `utc_offset`: seconds by which the clocks of the people are ahead of UTC; `again_in`: seconds
    after which the page is replaced at the latest, or read again; `gone`: the spool's share is not
    there; `hold_file`: the name of the file by which a person holds everything, '';
    `queue_ends_in`: seconds until all that is queued is expected to be done, None if unknown;
    `has_history`: runs have finished, so that starts can be expected; `next`: which job each lane
    that is ready gets next."""

    spool: str
    made_at: float
    monitor: MonitorCard
    version: str = ""
    utc_offset: int = 0
    again_in: float = 60.0
    gone: bool = False
    hold_file: str = ""
    left_behind: tuple[LeftBehind, ...] = ()
    lanes: tuple[LaneCard, ...] = ()
    active: tuple[ActiveCard, ...] = ()
    queue: tuple[QueuedJob, ...] = ()
    queue_ends_in: float | None = None
    waiting: tuple[Remark, ...] = ()
    done: tuple[EndedCard, ...] = ()
    failed: tuple[EndedCard, ...] = ()
    near_misses: tuple[Remark, ...] = ()
    has_history: bool = False
    next: tuple[NextJob, ...] = ()
    counts: NightCounts = NightCounts()
    totals: Totals = Totals()
    problems: tuple[str, ...] = ()
    """What could not be read, in words."""


def as_json(overview: Overview) -> dict[str, Any]:
    """Return the content of status.json: the fields of Overview, with times as in the journal."""
    return {"format": FORMAT, **_with_times(asdict(overview))}


_TIMES = ("_at", "_until")


def _with_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: iso(each) if key.endswith(_TIMES) and each is not None else _with_times(each)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [_with_times(each) for each in value]
    return value
