"""`sdwatch list`: list the jobs that wait and the runs, newest first, one line each."""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from sdwatch.cli.shared.chosen_config import add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.run_by_name import archived_runs, waiting_jobs, working_runs
from sdwatch.policy.config.measures import age
from sdwatch.policy.failure.diagnosis import Diagnosis
from sdwatch.policy.job.calls.payload import point_of
from sdwatch.policy.page.times import iso
from sdwatch.policy.privacy.printable import counted, printable
from sdwatch.policy.report.envelope import Unsent
from sdwatch.spool.diagnostics import WHY, read_evidence, read_json
from sdwatch.spool.failed_points import envelope_of, failed_points_in
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import read_heartbeats
from sdwatch.spool.manifest import MANIFEST
from sdwatch.spool.run import Run
from sdwatch.system import disk
from sdwatch.system.clock import SystemClock

FOLDERS = ("inbox", "working", "done", "failed")


class ListedState(StrEnum):
    """How a job or run stands."""

    WAITS = "waits"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNREADABLE = "?"


_FOLDER_OF = {
    ListedState.WAITS: "inbox",
    ListedState.WORKING: "working",
    ListedState.DONE: "done",
    ListedState.FAILED: "failed",
    ListedState.CANCELLED: "failed",
}
_DIAGNOSES = [str(diagnosis) for diagnosis in (*Diagnosis, *Unsent)]
_STAMP = re.compile(r"(\d{8}-\d{6})\.\d{3}-")


@dataclass(frozen=True)
class ListedRun:
    """A line of the list. `run`: its id, '-' for a job that waits; `job`: its path in the inbox;
    `at`: when it was claimed, or the job was changed, in UTC; `lane` and `diagnosis`: '' for
    none; `why`: the first line of WHY.txt, or what a run in working/ does; `points`: with pictures,
    0 for a job without points; `points_failed`: how many of them failed so far; `files`: other than
    images."""

    run: str
    state: ListedState
    path: str
    job: str
    at: str = ""
    images: int = 0
    lane: str = ""
    diagnosis: str = ""
    why: str = ""
    points: int = 0
    points_failed: int = 0
    files: int = 0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument("folder", nargs="?", choices=FOLDERS, help="show only this folder")
    parser.add_argument(
        "--state",
        choices=[str(state) for state in _FOLDER_OF],
        help="show only what is in this state",
    )
    parser.add_argument(
        "--since",
        type=_moment,
        metavar="TIME",
        help="only runs that started since then: `12 h`, `2 days`, or a date such as 2026-11-27",
    )
    parser.add_argument(
        "--name", metavar="GLOB", help="only jobs with such a file name, for example 'castle*'"
    )
    parser.add_argument(
        "--diagnosis",
        type=_diagnosis,
        choices=_DIAGNOSES,
        metavar="DIAGNOSIS",
        help="only runs that failed with this diagnosis (see error.json), such as 'out of memory'",
    )
    parser.add_argument("--lane", metavar="LANE", help="only runs of this WebUI")
    parser.add_argument("--json", action="store_true", help="print them as JSON, for programs")


def _diagnosis(text: str) -> str:
    """Return the diagnosis that is meant: whoever types it need not know how NaN is written."""
    return next((each for each in _DIAGNOSES if each.casefold() == text.casefold()), text)


def main(args: argparse.Namespace) -> ExitCode:
    """Print the list. Raises ConfigError, OSError."""
    spool = choose_config(args.config).spool
    folders = (args.folder,) if args.folder else FOLDERS
    found = (each for each in _listed(spool, folders, args) if _is_wanted(each, args))
    if args.json:
        print(json.dumps([asdict(each) for each in found], indent=2))
        return ExitCode.OK
    lines = 0
    for each in found:
        print(printable(_line(each)))
        lines += 1
    if not lines:
        filters = (args.state, args.since, args.name, args.diagnosis, args.lane)
        what = "nothing that fits these filters" if any(filters) else "nothing"
        print(f"{what} in {', '.join(f'{folder}/' for folder in folders)} of {spool.root}")
    return ExitCode.OK


def _moment(text: str) -> float:
    """Return seconds since 1970: of a date or time, in local time, or so long ago."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        pass
    try:
        if (seconds := age(text)) is not None:
            return time.time() - seconds
    except ValueError:
        pass
    how = "write `12 h`, `2 days` or 2026-11-27"
    raise argparse.ArgumentTypeError(f"{text!r} is not a time: {how}")


def _listed(
    spool: Spool, folders: tuple[str, ...], args: argparse.Namespace
) -> Iterator[ListedRun]:
    """Yield what could be wanted. What its name or folder rules out is not read."""
    if args.state:
        folders = tuple(folder for folder in folders if folder == _FOLDER_OF[args.state])
    if "inbox" in folders:
        for source, path in waiting_jobs(spool).items():
            yield ListedRun("-", ListedState.WAITS, str(path), source, _changed(path))
    runs: dict[str, Path] = {}
    if "working" in folders:
        runs |= working_runs(spool)
    if "done" in folders:
        runs |= archived_runs(spool.done)
    if "failed" in folders:
        runs |= archived_runs(spool.failed)
    now = _runs_now(spool) if "working" in folders else {}
    for run_id in sorted(runs, reverse=True):
        if not args.since or _claimed_at(run_id) >= args.since:
            yield _read_run(runs[run_id], now.get(run_id, {}))


def _read_run(folder: Path, now: Mapping[str, Any]) -> ListedRun:
    """Return a run as its folder has it. `now`: what its monitor reports of it."""
    run_id, path = folder.name, str(folder)
    try:
        ledger = Run(folder, SystemClock()).ledger
    except OSError as error:  # whatever somebody did to one run, the others are shown
        why = f"cannot be read: {error.strerror}"
        return ListedRun(run_id, ListedState.UNREADABLE, path, "", why=why)
    images = sum(not image.grid for call in ledger.calls.values() for image in call.pictures)
    state = ListedState.WORKING
    if ledger.ended:
        known = (state for state in ListedState if state == ledger.ended)
        state = next(known, ListedState.UNREADABLE)
    webui = read_json(folder, MANIFEST).get("webui")
    lane = str(webui.get("name", "")) if isinstance(webui, dict) else str(now.get("lane", ""))
    points = {point_of(name) for name, call in ledger.calls.items() if call.images is not None}
    envelope = envelope_of(folder)
    why = read_evidence(folder, WHY).decode("utf-8", "replace").partition("\n")[0]
    failed = len(failed_points_in(envelope)) or int(now.get("points_failed", 0))
    return ListedRun(
        run_id,
        state,
        path,
        str(ledger.claimed.get("source", "")),
        str(ledger.claimed.get("at", "")),
        images,
        lane,
        str(envelope.get("diagnosis", "")),
        why or ("" if ledger.ended else str(now.get("doing", ""))),
        len(points - {0}),
        failed,
        sum(len(call.files) for call in ledger.calls.values()),
    )


def _is_wanted(each: ListedRun, args: argparse.Namespace) -> bool:
    if args.state and each.state != args.state:
        return False
    if args.since and each.at and _seconds(each.at) < args.since:
        return False
    if args.name and not _is_called(each, args.name.casefold()):
        return False
    if args.diagnosis and each.diagnosis != args.diagnosis:
        return False
    return not args.lane or each.lane == args.lane


def _is_called(each: ListedRun, glob: str) -> bool:
    job = each.job.casefold()
    name = job.rpartition("/")[2]
    return any(fnmatchcase(form, glob) for form in (job, name, name.rpartition(".")[0]))


def _line(each: ListedRun) -> str:
    made = (
        ""
        if each.run == "-" or each.state is ListedState.UNREADABLE
        else counted(each.files, "file")
        if each.files and not each.images
        else counted(each.images, "image")
    )
    points = "" if each.why or not each.points else counted(each.points, "point")
    more = each.why or points
    return f"{each.run:<44}  {each.state:<9}  {made:>10}  {each.job:<20}  {more}".rstrip()


def _runs_now(spool: Spool) -> dict[str, Mapping[str, Any]]:
    """Return what monitors report of the runs in working/."""
    beats = read_heartbeats(spool.root)
    return {run["run_id"]: run for beat in beats for run in beat.get("runs", [])}


def _claimed_at(run_id: str) -> float:
    """Return when a run was claimed, by its name; infinity where its name does not say so."""
    found = _STAMP.match(run_id)
    try:
        stamp = datetime.strptime(found[1], "%Y%m%d-%H%M%S") if found else None
    except ValueError:
        stamp = None
    return float("inf") if stamp is None else stamp.replace(tzinfo=UTC).timestamp() + 1


def _seconds(at: str) -> float:
    try:
        return datetime.fromisoformat(at).timestamp()
    except (ValueError, OverflowError, OSError):
        return float("inf")


def _changed(path: Path) -> str:
    try:
        return iso(disk.look_at(path).st_mtime)
    except OSError:
        return ""
