"""`sdwatch logs`: print the log of the monitor, of a lane's WebUI, or of one run, and follow it."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from sdwatch.cli.shared.chosen_config import ChosenConfig, add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.progress_text import local
from sdwatch.cli.shared.run_by_name import all_runs, find, run_named
from sdwatch.config import WebUIConfig, secrets_in
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.spool.diagnostics import TAIL, evidence_files, read_evidence
from sdwatch.spool.earlier_texts import RunTexts
from sdwatch.system import disk
from sdwatch.system.line_follower import LineFollower
from sdwatch.system.log_events import FOR_PROGRAMS
from sdwatch.system.state_folder import StateFolder, json_log
from sdwatch.webui.log.follower import LogFollower
from sdwatch.webui.log.tail_capture import tail_text
from sdwatch.webui.process import process_identity

MONITOR = "monitor"

_MOST_LINES = 200
_POLL_S = 0.5

Lines = Callable[[], list[str]]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument(
        "what",
        nargs="?",
        default=MONITOR,
        metavar="monitor|LANE|RUN",
        help="the monitor's own log (the default); what a WebUI prints, by its name in the config; "
        "or what the monitor logged about one run, and the WebUI's last lines at each failure",
    )
    parser.add_argument(
        "-f", "--follow", action="store_true", help="print new lines as they come, until Ctrl-C"
    )
    parser.epilog = (
        f"Prints the last {_MOST_LINES} lines. The logs are on the machine of the monitor, in the\n"
        "state folder. No prompt is in them: what a WebUI prints of a job's texts is replaced."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Print the lines. Raises NotFoundError, ConfigError, OSError."""
    chosen = choose_config(args.config)
    lane = next((webui for webui in chosen.config.webuis if webui.name == args.what), None)
    if lane is not None:
        log = _of_lane(lane, chosen)
    elif args.what == MONITOR:
        log = _of_monitor(chosen)
    else:
        log = _of_run(_run(args.what, chosen), chosen)
    for line in log.last:
        _show(line)
    over = not args.follow
    while not over:
        over = log.is_over()  # then new lines are read once more
        for line in log.new_lines():
            _show(line)
        if not over:
            time.sleep(_POLL_S)
    return ExitCode.OK


@dataclass(frozen=True)
class _Log:
    """A log as it is shown: its last lines, and those that come after them until it is over."""

    last: Iterable[str]
    new_lines: Lines
    is_over: Callable[[], bool] = lambda: False


def _run(name: str, chosen: ChosenConfig) -> Path:
    runs = all_runs(chosen.spool)
    lanes = ", ".join(webui.name for webui in chosen.config.webuis)
    where = f"failed/, done/ or working/, and it is not `{MONITOR}` nor a lane ({lanes})"
    return find(run_named(name), runs, where)


def _show(line: str) -> None:
    print(printable_text(line), flush=True)


# -- the monitor's log


def _of_monitor(chosen: ChosenConfig) -> _Log:
    path = json_log(StateFolder(chosen.config.state).log_file)
    lines = LineFollower(path)

    def new_lines() -> list[str]:
        return list(filter(None, map(in_words, lines.poll())))

    return _Log(new_lines()[-_MOST_LINES:] or [f"nothing is logged in {path} yet"], new_lines)


def in_words(line: str) -> str:
    """Return a line of the JSON log for people: local time, level unless it is INFO, message; ''
    for one that cannot be read."""
    return _words(_entry(line))


def _entry(line: str) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return entry if isinstance(entry, dict) and "message" in entry else {}


def _words(entry: dict[str, Any]) -> str:
    if not entry or entry.get("event") in FOR_PROGRAMS:
        return ""
    level, at = str(entry.get("level", "")), str(entry.get("at", ""))
    head = f"{local(at, at)} {f'{level}: ' if level != 'info' else ''}"
    text = f"{head}{entry['message']}"
    return f"{text}\n{entry['traceback']}" if "traceback" in entry else text


# -- one run


def _of_run(run: Path, chosen: ChosenConfig) -> _Log:
    lines = LineFollower(json_log(StateFolder(chosen.config.state).log_file))

    def about_it() -> list[str]:
        entries = (_entry(line) for line in lines.poll())
        shown = (_words(entry) for entry in entries if entry.get("run") == run.name)
        return list(filter(None, shown))

    nothing = (
        f"this machine's log has nothing about {run.name}: another machine ran it, or it was too "
        f"long ago. `sdwatch show {run.name}` has what its folder says"
    )
    last = chain(about_it()[-_MOST_LINES:] or [nothing], _tails(run))
    return _Log(
        last, about_it, lambda: not disk.is_folder(run) or run.parent.name in ("done", "failed")
    )


def _tails(run: Path) -> Iterator[str]:
    """Yield what the WebUI printed last at each failure, as the evidence has it."""
    stem = TAIL.removesuffix(".log")
    for name in evidence_files(run):
        if name.startswith(stem):
            yield f"----- {name} -----"
            yield read_evidence(run, name).decode("utf-8", "replace").rstrip()


# -- what a WebUI prints


def _of_lane(lane: WebUIConfig, chosen: ChosenConfig) -> _Log:
    redactor = Redactor()
    for secret in secrets_in(lane):
        redactor.learn_secret(secret.value, secret.label)
    output = _LaneOutput(lane, chosen.config.state)
    texts = RunTexts(chosen.spool, chosen.config.rules, redactor)

    def clean(lines: list[str]) -> list[str]:
        if not lines:
            return []
        texts.refresh()  # after they were read: who caused them is known by now
        return redactor.redact("\n".join(lines)).splitlines()

    return _Log(clean(output.last_lines()), lambda: clean(output.new_lines()))


class _LaneOutput:
    """What a lane's WebUI prints: the output of its incarnations, or an external one's log file."""

    def __init__(self, lane: WebUIConfig, state: Path) -> None:
        self._lane = lane
        self._folder = state / f"webui-{lane.name}"
        self._paths = self._newest()
        self._followers = [LogFollower(path, offset=None) for path in self._paths]

    def last_lines(self) -> list[str]:
        if not self._paths:
            return [self._nothing()]
        lines: list[str] = []
        for path in self._paths:
            lines += [f"----- {path.name} -----", *tail_text(path, _MOST_LINES).splitlines()]
        return lines

    def new_lines(self) -> list[str]:
        """Return what came since the last call. A new incarnation is followed from its start."""
        lines = [line for follower in self._followers for line in follower.poll()]
        if (newest := self._newest()) != self._paths:
            lines += [line for follower in self._followers for line in follower.poll()]
            lines.append(f"----- {newest[0].name if newest else 'no output any more'} -----")
            self._paths = newest
            self._followers = [LogFollower(path) for path in newest]
        return lines

    def _newest(self) -> tuple[Path, ...]:
        if self._lane.command is None:
            return (self._lane.log_file,) if self._lane.log_file else ()
        return process_identity.newest_logs(self._folder)

    def _nothing(self) -> str:
        if self._lane.command is None:
            return f"{self._lane.name} is external: name its log_file in the config to read it here"
        return f"{self._lane.name} was not started on this machine yet ({self._folder})"
