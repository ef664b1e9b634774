"""`sdwatch status`: show the monitor, the WebUIs, and running and waiting jobs, from files."""

from __future__ import annotations

import argparse
import json
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

from sdwatch.cli.chosen_config import ChosenConfig, add_config_argument, choose_config
from sdwatch.cli.exit_codes import ExitCode
from sdwatch.cli.how_far import how_far_in_words
from sdwatch.cli.names import archived_runs, near_misses, waiting_jobs, working_runs
from sdwatch.policy.job.catalogue import Kind
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.policy.report.hold_note import config_edited
from sdwatch.spool.archive import Spool
from sdwatch.spool.heartbeat import (
    INTERVAL,
    UNREADABLE,
    is_dead_here,
    read_heartbeat,
    read_heartbeats,
)
from sdwatch.system.state_folder import StateFolder

Beat = dict[str, Any]

_WIDTH = 80


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument(
        "--json", action="store_true", help="print everything as JSON, for programs"
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Print it. Raises ConfigError, OSError."""
    chosen = choose_config(args.config)
    status = _gone_status(chosen) if chosen.spool.is_gone else _status(chosen.spool)
    if args.json:
        print(json.dumps(status, indent=2))
    else:
        print(printable_text("\n".join(_lines(status))))
    return ExitCode.OK


def _status(spool: Spool) -> dict[str, Any]:
    return {
        "spool": str(spool.root),
        "hold": held.name if (held := spool.hold_file()) else "",
        "monitors": _with_life(lambda: read_heartbeats(spool.root)),
        "folders": {
            "inbox": len(waiting_jobs(spool)),
            "working": len(working_runs(spool)),
            "done": len(archived_runs(spool.done)),
            "failed": len(archived_runs(spool.failed)),
        },
        "ignored": near_misses(spool),
        "gone": False,
    }


def _gone_status(chosen: ChosenConfig) -> dict[str, Any]:
    """Return what this machine's monitor reports while the spool's share is gone."""
    local = StateFolder(chosen.config.state).status_file
    return {
        "spool": str(chosen.spool.root),
        "hold": "",
        "monitors": _with_life(lambda: read_heartbeat(local)),
        "folders": dict.fromkeys(("inbox", "working", "done", "failed"), 0),
        "ignored": {},
        "gone": True,
    }


# -- whether a monitor lives


def _with_life(read: Callable[[], list[Beat]]) -> list[Beat]:
    """Return each heartbeat with `running`. A monitor of this machine whose process is gone is
    dead; any other is watched until its heartbeat moves, because clocks are never compared."""
    beats = read()
    unsure = {str(beat.get("worker")) for beat in beats if not is_dead_here(beat)}
    moved: dict[str, Beat] = {}
    before = {str(beat.get("worker")): beat.get("beat") for beat in beats}
    deadline = time.monotonic() + 2.5 * INTERVAL
    while unsure - set(moved) and time.monotonic() < deadline:
        time.sleep(INTERVAL / 10)
        for beat in read():
            worker = str(beat.get("worker"))
            if UNREADABLE not in beat and beat.get("beat") != before.get(worker):
                moved[worker] = beat
    return [
        {"running": str(beat.get("worker")) in moved, **moved.get(str(beat.get("worker")), beat)}
        for beat in beats
    ]


# -- in words

_MOST_IGNORED = 10


def _lines(status: dict[str, Any]) -> Iterator[str]:
    yield f"spool {status['spool']}"
    if status["gone"]:
        yield "the folder is empty or missing: there is no spool yet, or its share is not mounted"
    else:
        yield ", ".join(f"{count} in {folder}" for folder, count in status["folders"].items())
    ignored = list(status["ignored"].items())
    for source, reason in ignored[:_MOST_IGNORED]:
        yield f"inbox/{source} is not a job: {reason}"
    if len(ignored) > _MOST_IGNORED:
        yield f"{len(ignored) - _MOST_IGNORED} more files in the inbox are not jobs"
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
            yield (
                f"worker {beat['worker']} is gone (it was process {beat['pid']} on {beat['host']}, "
                f"last seen {beat.get('at')}); its runs resume when it is started again, "
                f"or here with `sdwatch run --take-over {beat['worker']}`"
            )
    if not running and not unknown:
        yield "no monitor runs on this spool; `sdwatch run` starts one"
    for beat in running:
        yield ""
        yield from _monitor(beat)


def _monitor(beat: Beat) -> Iterator[str]:
    yield f"worker {beat['worker']} is running: process {beat['pid']} on {beat['host']}"
    if beat["hold"]:
        yield f"  on hold: {beat['hold']}"
    if (left := beat.get("stopping")) is not None:
        yield f"  stopping: waiting at most {left:.0f} s for the call under way"
    if edited := beat.get("config_edited"):
        yield f"  {config_edited(edited)}"
    for lane in beat["lanes"]:
        yield f"  {lane['name']:<12} {_lane(lane)}"
    for run in beat["runs"]:
        yield f"  {run['source']}  [{run['run_id']}]"
        yield from _run(run)
    counts = ", ".join(f"{count} {ending}" for ending, count in beat["counts"].items())
    yield f"  {beat['queued']} queued; since its start {counts}"
    for source, reason in beat["waiting"].items():
        yield f"  {source}: {reason}"


def _run(run: dict[str, Any]) -> Iterator[str]:
    """Yield what a run does and how far its call has come, at 80 columns."""
    words = ", ".join([run["doing"], *how_far_in_words(run.get("progress") or {})])
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
        if lane.get("spent"):
            words.append(f"to put its jobs back: sdwatch retry {' '.join(lane['spent'])}")
    if lane["crashes_in_a_row"]:
        words.append(_count(lane["crashes_in_a_row"], "crash", "crashes") + " in a row")
    if lane["cooldown_left"]:
        words.append(f"cooling down for {lane['cooldown_left']:.0f} s")
    if lane.get("rss"):
        words.append(f"{lane['rss'] / 10**9:.1f} GB of memory")
    if lane.get("warnings"):
        words.append(
            f"{_count(lane['warnings'], 'warning', 'warnings')}, the last: {lane['last_warning']}"
        )
    return "; ".join(words)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _which(lane: dict[str, Any]) -> str:
    """Return kind and version, as far as they are known."""
    kind = Kind(lane["kind"])
    return "" if kind is Kind.UNKNOWN else kind.with_version(lane["version"])
