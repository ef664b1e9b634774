"""`sdwatch status`: show the monitor, the WebUIs, and running and waiting jobs, from files."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any, Never

from sdwatch.cli.shared.chosen_config import ChosenConfig, add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.progress_text import progress_in_words
from sdwatch.cli.shared.run_by_name import archived_runs, near_misses, waiting_jobs, working_runs
from sdwatch.policy.failure.lasting import in_words
from sdwatch.policy.kinds.table import kind_named
from sdwatch.policy.page.sections import memory
from sdwatch.policy.page.times import wall_of
from sdwatch.policy.privacy.printable import counted, printable, printable_text
from sdwatch.policy.report.notice import config_edited
from sdwatch.policy.report.status_line import (
    box_lines,
    crashes_in_words,
    queued_in,
    status_line,
    suspended_in,
)
from sdwatch.spool.heartbeat import (
    INTERVAL,
    QUIET_INTERVAL,
    UNREADABLE,
    is_certainly_here,
    is_dead_here,
    read_heartbeat,
    read_heartbeats,
    watched_for,
)
from sdwatch.spool.hold_note import notes_in
from sdwatch.system.state_folder import StateFolder

Beat = dict[str, Any]

_WIDTH = 80
_WATCH_EVERY = 1.0  # seconds


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print everything as JSON, for programs")
    how.add_argument(
        "--watch",
        action="store_true",
        help="keep showing it, until Ctrl-C; into a file or a pipe, one line for each change",
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Print it. Raises ConfigError, OSError."""
    chosen = choose_config(args.config)
    if args.watch:
        _watch(chosen)
    status = _status_of(chosen)
    print(json.dumps(status, indent=2) if args.json else _text(status))
    return ExitCode.OK


def status_text(chosen: ChosenConfig) -> str:
    """Return what `sdwatch status` prints. Raises OSError."""
    return _text(_status_of(chosen))


def _text(status: dict[str, Any]) -> str:
    return printable_text("\n".join(_lines(status)))


def _status_of(chosen: ChosenConfig) -> dict[str, Any]:
    """Return how the spool stands; while its share is gone, what this machine's monitor reports."""
    spool, state = chosen.spool, StateFolder(chosen.config.state)
    own = state.known_worker
    gone = spool.is_gone
    beats = _with_life(
        lambda: read_heartbeat(state.status_file) if gone else read_heartbeats(spool.root)
    )
    for beat in beats:
        beat["own"] = beat.get("worker") == own
        beat["silent_for"] = _silent_for(beat)
    return {
        "spool": str(spool.root),
        "hold": held.name if not gone and (held := spool.hold_file()) else "",
        "monitors": beats,
        "folders": {
            "inbox": 0 if gone else len(waiting_jobs(spool)),
            "working": 0 if gone else len(working_runs(spool)),
            "done": 0 if gone else len(archived_runs(spool.done)),
            "failed": 0 if gone else len(archived_runs(spool.failed)),
        },
        "ignored": {} if gone else near_misses(spool),
        "hold_notes": [] if gone else [note.name for note in notes_in(spool.root)],
        "gone": gone,
    }


# -- whether a monitor lives


def _with_life(read: Callable[[], list[Beat]]) -> list[Beat]:
    """Return each heartbeat with `running`. A monitor of this machine whose process is gone is
    dead, and one whose process is certainly here lives; any other is watched until its heartbeat
    moves, because clocks are never compared."""
    beats = read()
    sure = (beat for beat in beats if is_certainly_here(beat))
    moved: dict[str, Beat] = {str(beat.get("worker")): beat for beat in sure}
    unsure = [beat for beat in beats if not (is_dead_here(beat) or is_certainly_here(beat))]
    before = {str(beat.get("worker")): beat.get("beat") for beat in beats}
    longest = max((float(beat.get("every", INTERVAL)) for beat in unsure), default=0.0)
    deadline = time.monotonic() + min(longest, QUIET_INTERVAL) + 1.5 * INTERVAL
    while {str(b.get("worker")) for b in unsure} - set(moved) and time.monotonic() < deadline:
        time.sleep(INTERVAL / 10)
        for beat in read():
            worker = str(beat.get("worker"))
            if UNREADABLE not in beat and beat.get("beat") != before.get(worker):
                moved[worker] = beat
    return [
        {"running": str(beat.get("worker")) in moved, **moved.get(str(beat.get("worker")), beat)}
        for beat in beats
    ]


def _silent_for(beat: Beat) -> float:
    """Return for how many seconds a monitor of this machine, whose process is there, has shown no
    sign of life; 0.0 for less than it may, and for another machine, whose clock is not ours."""
    at = wall_of(beat.get("at")) if is_certainly_here(beat) else None
    silent = 0.0 if at is None else time.time() - at
    return silent if silent > watched_for(beat) else 0.0


# -- in words

_MOST_IGNORED = 10


def _lines(status: dict[str, Any]) -> Iterator[str]:
    yield f"spool {status['spool']}"
    if status["gone"]:
        yield (
            "the folder is empty or missing: its share is not mounted, or the spool was not made "
            "yet (`sdwatch run` makes it)"
        )
    else:
        yield ", ".join(f"{count} in {folder}" for folder, count in status["folders"].items())
    ignored = list(status["ignored"].items())
    for source, reason in ignored[:_MOST_IGNORED]:
        yield f"inbox/{source} is not a job: {reason}"
    if len(ignored) > _MOST_IGNORED:
        more = counted(len(ignored) - _MOST_IGNORED, "more file", "more files")
        yield f"not jobs either: {more} in the inbox"
    if status["hold"]:
        paused = f"on hold: paused by the file {status['hold']} in the spool"
        yield f"{paused}; `sdwatch resume` removes it"
    running = [beat for beat in status["monitors"] if beat["running"]]
    unknown = [beat for beat in status["monitors"] if not beat["running"] and UNREADABLE in beat]
    for beat in unknown:
        yield (
            f"worker {beat['worker']} may be running: its heartbeat in working/ cannot be read. "
            "Run `sdwatch status` again in a moment"
        )
    for beat in status["monitors"]:
        if not beat["running"] and beat not in unknown:
            yield _gone(beat)
    if not running and not unknown:
        yield "no monitor is running on this spool; `sdwatch run` starts one"
        for note in status["hold_notes"]:
            yield f"the last one ended on a hold: {note} in the spool says why, and what to do"
    for beat in running:
        yield ""
        yield from _monitor(beat)


def _gone(beat: Beat) -> str:
    """Return what became of a monitor, and how its runs resume: nobody takes his own runs over."""
    was = f"it was process {beat['pid']} on {beat['host']}, last seen {beat.get('at')}"
    if beat["own"]:
        resume = "`sdwatch run` resumes its runs"
    else:
        resume = (
            "Its runs resume when sdwatch starts there again; to resume them on this machine: "
            f"sdwatch run --take-over {beat['worker']}"
        )
    return f"worker {beat['worker']} is gone ({was}). {resume}"


def _monitor(beat: Beat) -> Iterator[str]:
    yield f"worker {beat['worker']} is running: process {beat['pid']} on {beat['host']}"
    if silent := beat.get("silent_for"):
        yield (
            f"  its last sign of life is {in_words(silent)} old: it may be frozen. If it stays so, "
            "end that process and start sdwatch again: no job is lost"
        )
    if beat["hold"]:
        yield f"  on hold: {beat['hold']}"
    if (left := beat.get("stopping")) is not None:
        yield f"  stopping: waiting at most {left:.0f} s for the call under way"
    for name in beat.get("stop_ignored", []):
        yield f"  the file {name} in the spool is older than its start, and is ignored; remove it"
    if edited := beat.get("config_edited"):
        yield f"  {config_edited(edited)}"
    for failing in beat.get("notify", []):
        yield (
            f"  notifications: {failing['target']} gets no messages since {failing['since']}: "
            f"{failing['why']}. `sdwatch notify test` tries it now"
        )
    for lane in beat["lanes"]:
        yield f"  {lane['name']:<12} {_lane(lane)}"
    yield from _boxes(beat.get("cluster", {}))
    for run in beat["runs"]:
        yield f"  {run['source']}  [{run['run_id']}]"
        yield from _run(run)
    for lane, chosen in beat.get("next_because", {}).items():
        yield f"  next on {lane}: {chosen['source']}, because {chosen['why']}"
    counts = ", ".join(f"{count} {ending}" for ending, count in beat["counts"].items())
    suspended = f"{number} suspended, " if (number := suspended_in(beat)) else ""
    yield f"  {suspended}{queued_in(beat)} queued; since the start: {counts}"
    for source, reason in beat["waiting"].items():
        yield f"  {source}: {reason}"


def _boxes(cluster: dict[str, Any]) -> Iterator[str]:
    """Yield what is to say of other machines: each that does jobs from here, or the broker of this
    one."""
    if down := cluster.get("broker"):
        yield f"  the broker does not answer: {down}"
    if box := cluster.get("box"):
        yield f"  is box {box} of a cluster, with {counted(len(cluster['held']), 'run')} from there"
    for name, each in cluster.get("boxes", {}).items():
        for line in box_lines(name, each):
            yield f"  {line}"


def _run(run: dict[str, Any]) -> Iterator[str]:
    """Yield what a run does and how far its call has come, at 80 columns."""
    failed = run.get("points_failed") or 0
    so_far = [f"{counted(failed, 'point')} failed so far"] if failed else []
    words = ", ".join([run["doing"], *progress_in_words(run.get("progress") or {}), *so_far])
    indent = " " * 4
    yield from textwrap.wrap(
        words, _WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )


def _lane(lane: dict[str, Any]) -> str:
    managed = "managed" if lane["managed"] else "external"
    words = [", ".join(filter(None, [lane["state"], _which(lane), managed, lane["url"]]))]
    if lane["hold"]:
        words.append(f"on hold: {lane['hold']}")
        if lane.get("advice"):
            words.append(f"what to do: {lane['advice']}")
        if runs := lane.get("failed_runs"):
            words.append(f"to retry its failed jobs: sdwatch retry {' '.join(runs)}")
    if lane["crashes_in_a_row"]:
        words.append(crashes_in_words(lane["crashes_in_a_row"], lane.get("last_crash", "")))
    if lane["cooldown_left"]:
        words.append(f"cooling down for {lane['cooldown_left']:.0f} s")
    if lane.get("gpu"):
        words.append(lane["gpu"])
    if lane.get("rss"):
        words.append(f"{memory(lane['rss'])} of memory")
    if lane.get("warnings"):
        words.append(f"{counted(lane['warnings'], 'warning')}, the last: {lane['last_warning']}")
    return "; ".join(words)


def _which(lane: dict[str, Any]) -> str:
    """Return kind and version, as far as they are known."""
    kind = kind_named(lane["kind"])
    return kind.with_version(lane["version"]) if kind.is_known else ""


# -- again and again


def _watch(chosen: ChosenConfig) -> Never:
    """Show the status until a signal comes."""
    if not sys.stdout.isatty():
        _print_changes(chosen)
    from rich.live import Live  # rich takes a while to import
    from rich.text import Text

    with Live(auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            live.update(Text(_text(_status_of(chosen))), refresh=True)
            time.sleep(_WATCH_EVERY)


def _print_changes(chosen: ChosenConfig) -> Never:
    shown = ""
    while True:
        if (line := printable("; ".join(_headlines(_status_of(chosen))))) != shown:
            print(time.strftime("%Y-%m-%d %H:%M:%S"), line, flush=True)
            shown = line
        time.sleep(_WATCH_EVERY)


def _headlines(status: dict[str, Any]) -> Iterator[str]:
    """Yield the parts of a line that changes whenever something happens; not with each step of a
    picture."""
    if status["gone"]:
        yield "the spool is empty or missing"
        return
    yield ", ".join(f"{count} in {folder}" for folder, count in status["folders"].items())
    running = [beat for beat in status["monitors"] if beat["running"]]
    for beat in running:
        yield status_line(beat)
        yield from (f"{run['source']}: {run['doing']}" for run in beat["runs"])
    if not running:
        yield "no monitor is running"
