"""`sdwatch check`: validate job files, or the config and the way it starts its WebUIs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from sdwatch.cli.checks.start_check import problems_of
from sdwatch.cli.shared.chosen_config import add_config_argument, choose_config, config_file
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.webui_client import catalogue_of, client_of, webui_at
from sdwatch.config import Config
from sdwatch.config_file import load_config
from sdwatch.errors import ConfigError, JobError, JobUnfitError, Problem
from sdwatch.policy.job.calls.call_sizes import sizes_in
from sdwatch.policy.job.calls.estimate import CallTimes, estimate
from sdwatch.policy.job.calls.payload import takes_all_at_once
from sdwatch.policy.job.calls.plan import PlannedStage, last_stages, pictures_of, plan_of
from sdwatch.policy.job.calls.preflight import check_against
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.outputs.result import Keep
from sdwatch.policy.job.stage.confinement import MAX_GENERATION, JobRules
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.job.when import waits_in_words
from sdwatch.policy.page.times import duration
from sdwatch.policy.privacy.printable import counted, printable_text
from sdwatch.spool.call_times import read_call_times
from sdwatch.spool.job_file import is_job_name, job_file_in
from sdwatch.spool.new_jobs import read_job_at, warnings_of
from sdwatch.system.clock import SystemClock


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    add_config_argument(parser)
    parser.add_argument(
        "--against",
        metavar="URL",
        help="also check their names, fields and sizes against the WebUI that runs there",
    )
    parser.add_argument(
        "files",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="job files or folders; without any, the config is checked",
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Print the mistakes. Raises ConfigError, WebUIError."""
    if not args.files:
        if args.against:
            print("sdwatch check: --against needs job files", file=sys.stderr)
            return ExitCode.USAGE
        return _check_config(args.config)
    config = load_config(file) if (file := config_file(args.config)) else None
    rules = config.rules if config else JobRules()
    against = _Against(args.against, config) if args.against else None
    # A job.yaml is checked with the images beside it.
    jobs = [without_dots(path).parent if is_job_name(path.name) else path for path in args.files]
    mistaken = check_jobs(jobs, rules, against, config.spool if config else None)
    for note in against.notes if against else ():
        print(note)
    print(f"{len(args.files)} checked, {mistaken} with mistakes")
    return ExitCode.BAD_JOB if mistaken else ExitCode.OK


def without_dots(path: Path) -> Path:
    """Return a whole path without `..`: seen from within the spool, `../castle` would look like
    something below it, where no `..` is followed. A job that is a link keeps its name."""
    whole = path.absolute()
    return whole.resolve() if whole.name == ".." else whole.parent.resolve() / whole.name


class _Against:
    """A running WebUI that jobs are checked against; `notes` has what it has no list for.

    Raises WebUIError."""

    def __init__(self, url: str, config: Config | None) -> None:
        self.notes: dict[str, None] = {}
        self._most = config.max_generation if config else MAX_GENERATION
        self._rules = config.rules if config else JobRules()
        webui = webui_at(url, config)
        client = client_of(webui)
        self._catalogue = catalogue_of(client, webui)
        client.close()
        catalogue = self._catalogue
        print(f"{webui.url}: {catalogue.kind.with_version(catalogue.version)}")

    def check(self, job: Job, path: Path) -> list[str]:
        """Check one job; return the warnings. Raises JobUnfitError."""
        checked = check_against(job, self._catalogue, self._most, self._rules)
        self.notes |= dict.fromkeys(checked.notes)
        if checked.problems:
            # Mistakes of its own files carry their names, as those that parsing finds.
            raise JobUnfitError(str(job_file_in(path) or path), list(checked.problems))
        return warnings_of(checked.warnings, job_file_in(path) or path)


def check_jobs(
    paths: Sequence[Path],
    rules: JobRules,
    against: _Against | None = None,
    spool: Path | None = None,
) -> int:
    """Print mistakes and warnings as `file:line:column: message`, and how much a job makes that
    makes more than one picture; return how many jobs have mistakes. `spool`: whose history says how
    long they take."""
    mistaken = 0
    history: CallTimes | None = None
    for path in paths:
        try:
            job = read_job_at(path, rules)
            lines = warnings_of(job.warnings, path)
            if job.points.are_several or (pictures_of(job) or 0) > 1:
                if history is None:
                    history = read_call_times(spool) if spool else CallTimes()
                lines.append(f"{path}: {_counted(job, history)}")
            lines += _calls_in_order(job, path)
            lines += _waiting(job, path)
            if against is not None:
                lines += against.check(job, path)
        except JobError as error:
            mistaken += 1
            lines = [str(error)]
        for line in lines:
            print(printable_text(line))
    return mistaken


def _counted(job: Job, history: CallTimes) -> str:
    """Return how much a job makes, and how long that takes on this machine, as far as it is
    known."""
    points, pictures = len(job.points), pictures_of(job)
    parts = [counted(points, "point")] if job.points.are_several else []
    if pictures is not None:
        parts.append(counted(pictures, "picture"))
    if history and (seconds := estimate(history, sizes_in(job))) is not None:
        parts.append(f"about {duration(seconds)} from the history of this machine")
    return ", ".join(parts)


def _calls_in_order(job: Job, path: Path) -> Iterator[str]:
    """Yield lines with the calls of each stage; none for a job of one plain stage."""
    planned = plan_of(job.stages)
    if len(planned) < 2 and not (planned and planned[0].stage.links.inputs):
        return
    points = ", of each point" if len(job.points) > 1 else ""
    yield f"{path}: calls in order{points}:"
    for each in planned:
        what = f"{_stage_name(each)}{_takes(each, planned)}: {counted(each.calls, 'call')}"
        yield f"  {each.number}. {what}"
    if job.keep is Keep.LAST:
        last = ", ".join(map(str, sorted(last_stages(job.stages))))
        yield f"  kept: the pictures of stages {last}"


def _stage_name(planned: PlannedStage) -> str:
    stage = planned.stage
    kind = STAGES[stage.kind].short_name
    return f"{stage.links.id} ({kind})" if stage.links.id else kind


def _takes(planned: PlannedStage, others: list[PlannedStage]) -> str:
    """Return which images a stage takes, and whether one at a time."""
    if not planned.taken_from and not planned.own:
        return ""
    whose = "the job folder"
    if planned.taken_from:
        other = others[planned.taken_from - 1]
        whose = other.stage.links.id or f"stage {other.number}"
    elif planned.own == 1:
        return ", of an image of the job folder"
    together = takes_all_at_once(planned.stage)
    return f", of {'all images' if together else 'each image'} of {whose}"


def _waiting(job: Job, path: Path) -> list[str]:
    """Return until when the job would wait on this machine, were it dropped now."""
    clock = SystemClock()
    now = clock.wall()
    waits = job.conduct.when.waits(now, clock.utc_offset)
    return [] if waits is None else [f"{path}: {waits_in_words(waits, now, clock.utc_offset)}"]


def _check_config(named: Path | None) -> ExitCode:
    """Check the config. Raises ConfigError, also for what would keep a WebUI from starting."""
    chosen = choose_config(named)
    file = str(chosen.file or "the built-in config")
    mistakes, warnings = problems_of(chosen.config, chosen.file)
    for warning in warnings:
        problem = Problem(warning.line, warning.column, f"warning: {warning.message}").located(file)
        print(printable_text(problem), file=sys.stderr)
    if mistakes:
        raise ConfigError(file, mistakes)
    webuis = ", ".join(f"{webui.name} ({webui.url})" for webui in chosen.config.webuis)
    print(f"{file}: no mistakes")
    print(f"  spool   {chosen.config.spool}")
    print(f"  state   {chosen.config.state}")
    print(f"  webuis  {webuis}")
    return ExitCode.OK
