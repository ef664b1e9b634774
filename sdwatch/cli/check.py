"""`sdwatch check`: validate job files, or the config and the way it starts its WebUIs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sdwatch.cli.asked import catalogue_of, client_of, webui_at
from sdwatch.cli.chosen_config import add_config_argument, choose_config, config_file
from sdwatch.cli.exit_codes import ExitCode
from sdwatch.cli.job_files import read_job_at, warnings_of
from sdwatch.cli.start_check import problems_of
from sdwatch.config import Config, WebUIConfig, load_config
from sdwatch.errors import ConfigError, JobError, JobUnfitError, Problem, SdwatchError
from sdwatch.policy.job.confinement import JobRules
from sdwatch.policy.job.job import Job
from sdwatch.policy.job.preflight import MAX_GENERATION, check_against
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.spool.job_file import is_job_name


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
    mistaken = check_jobs([_whole_job(path) for path in args.files], rules, against)
    for note in against.notes if against else ():
        print(note)
    print(f"{len(args.files)} checked, {mistaken} with mistakes")
    return ExitCode.BAD_JOB if mistaken else ExitCode.OK


class _Against:
    """A running WebUI that jobs are checked against; `notes` has what it has no list for.

    Raises WebUIError."""

    def __init__(self, url: str, config: Config | None) -> None:
        self.notes: dict[str, None] = {}
        self._most = config.max_generation if config else MAX_GENERATION
        self._rules = config.rules if config else JobRules()
        webui = _webui_at(url, config)
        client = client_of(webui)
        self._catalogue = catalogue_of(client, webui)
        client.close()
        catalogue = self._catalogue
        print(f"{webui.url}: {catalogue.kind.with_version(catalogue.version)}")

    def check(self, job: Job, path: Path) -> None:
        """Check one job. Raises JobUnfitError."""
        checked = check_against(job, self._catalogue, self._most, self._rules)
        self.notes |= dict.fromkeys(checked.notes)
        if checked.problems:
            raise JobUnfitError(str(path), list(checked.problems))


def _webui_at(url: str, config: Config | None) -> WebUIConfig:
    try:
        return webui_at(url, config)
    except ValueError as error:
        raise SdwatchError(f"{url}: must be http://HOST:PORT, without a path") from error


def check_jobs(paths: Sequence[Path], rules: JobRules, against: _Against | None = None) -> int:
    """Print mistakes and warnings as `file:line:column: message`; return how many jobs have
    mistakes."""
    mistaken = 0
    for path in paths:
        try:
            job = read_job_at(path, rules)
            lines = warnings_of(job, path)
            if against is not None:
                against.check(job, path)
        except JobError as error:
            mistaken += 1
            lines = [str(error)]
        for line in lines:
            print(printable_text(line))
    return mistaken


def _whole_job(path: Path) -> Path:
    """Return the folder of a job.yaml, to check it with the images beside it."""
    return path.absolute().parent if is_job_name(path.name) else path


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
