"""`sdwatch doctor`: check all that the first night needs, and say what to do about each finding."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence

from sdwatch.cli.checks import check_machine, check_webuis
from sdwatch.cli.checks.findings import Area, DoctorFinding, Examination, Weight, examined, worst_of
from sdwatch.cli.checks.started_webuis import StartedWebUIs
from sdwatch.cli.shared.chosen_config import ChosenConfig, add_config_argument, choose_config
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.policy.privacy.printable import printable_text

_CODES = {Weight.WARNING: ExitCode.WARNINGS, Weight.PROBLEM: ExitCode.ERROR}
_SIGNS = {
    Weight.OK: "ok",
    Weight.NOTE: "note",
    Weight.WARNING: "warning",
    Weight.PROBLEM: "PROBLEM",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument(
        "--start",
        action="store_true",
        help="start each WebUI that does not run, as `sdwatch run` would; test a picture; stop it",
    )
    parser.epilog = (
        "It delays no job, sends no message, and starts a WebUI only with --start, while no\n"
        "monitor runs. If a WebUI is ready and idle, it saves the smallest picture in this\n"
        "folder, as `sdwatch canary` does. The exit code is 1 if something keeps jobs from\n"
        "running, 9 if there are only warnings, and 0 otherwise."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Print all findings. Raises ConfigError."""
    chosen = choose_config(args.config)
    if args.start:
        found = _with_starts(chosen, args.json)
    else:
        found = _made(examinations(chosen), args.json)
    worst = worst_of(found)
    if args.json:
        print(json.dumps(_as_json(found), indent=2))
    else:
        print(_summary(found))
    return _CODES.get(worst, ExitCode.OK)


def _with_starts(chosen: ChosenConfig, as_json: bool) -> list[DoctorFinding]:
    """Check with WebUIs that are started for it. While a monitor runs, its own are asked."""
    starts = StartedWebUIs(chosen)
    with starts.held() as why_not:
        if why_not:
            why = f"no WebUI was started: {why_not}"
            note = DoctorFinding(Weight.NOTE, why, area=Area.MONITOR)
            return [*_made_of([note], as_json), *_made(examinations(chosen), as_json)]
        names = [webui.name for webui in chosen.config.webuis if check_webuis.will_start(webui)]
        if names and not as_json:
            print(f"starting {', '.join(names)}; that may take minutes (Ctrl-C stops it)")
        return _made(examinations(chosen, starts), as_json)


def _made(examinations: Sequence[Examination], as_json: bool) -> list[DoctorFinding]:
    """Make these examinations; print each finding as it comes, unless JSON is asked for."""
    return _made_of(examined(examinations), as_json)


def _made_of(findings: Iterable[DoctorFinding], as_json: bool) -> list[DoctorFinding]:
    found = []
    for finding in findings:
        found.append(finding)
        if not as_json:
            print(printable_text(_shown(finding)), flush=True)
    return found


def examinations(chosen: ChosenConfig, starts: StartedWebUIs | None = None) -> list[Examination]:
    """Return all that is checked with this config, in the order in which it is shown. `starts`: see
    check_webuis.examinations_of."""
    of_webuis = [
        examination
        for webui in chosen.config.webuis
        for examination in check_webuis.examinations_of(webui, chosen, starts)
    ]
    return [*check_machine.examinations_of(chosen), *of_webuis]


def _shown(finding: DoctorFinding) -> str:
    about = f"{finding.area} {finding.about}".strip()
    line = f"{_SIGNS[finding.weight]:<8} {about}: {finding.message}"
    return f"{line}\n           {finding.advice}" if finding.advice else line


def _as_json(found: Iterable[DoctorFinding]) -> dict[str, object]:
    found = list(found)
    return {
        "worst": worst_of(found).name.lower(),
        "findings": [
            {
                "area": str(finding.area),
                "about": finding.about,
                "weight": finding.weight.name.lower(),
                "message": finding.message,
                "advice": finding.advice,
            }
            for finding in found
        ],
    }


def _summary(found: Iterable[DoctorFinding]) -> str:
    weights = [finding.weight for finding in found]
    problems, warnings = weights.count(Weight.PROBLEM), weights.count(Weight.WARNING)
    if problems:
        return f"Not ready: {problems} to fix, {warnings} to look at."
    return f"Ready, with {warnings} to look at." if warnings else "Ready."
