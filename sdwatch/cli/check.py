"""`sdwatch check`: every mistake of job files with its place, or of the config."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sdwatch.cli.chosen_config import add_config_argument, choose_config, config_file
from sdwatch.cli.exit_codes import ExitCode
from sdwatch.cli.job_files import read_job_at, warnings_of
from sdwatch.config import Config, load_config
from sdwatch.errors import JobError
from sdwatch.policy.reach import JobRules
from sdwatch.spool.run import JOB_NAMES


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    add_config_argument(parser)
    parser.add_argument(
        "files", type=Path, nargs="*", metavar="FILE", help="jobs; without any: the config"
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Print what is wrong. Raises ConfigError."""
    if not args.files:
        return _check_config(args.config)
    rules = load_config(file).rules if (file := config_file(args.config)) else JobRules()
    mistaken = check_jobs([_whole_job(path) for path in args.files], rules)
    print(f"{len(args.files)} checked, {mistaken} with mistakes")
    return ExitCode.BAD_JOB if mistaken else ExitCode.OK


def check_jobs(paths: Sequence[Path], rules: JobRules) -> int:
    """Print mistakes and warnings as `file:line:column: message`; how many jobs have mistakes."""
    mistaken = 0
    for path in paths:
        try:
            lines = warnings_of(read_job_at(path, rules), path)
        except JobError as error:
            mistaken += 1
            lines = [str(error)]
        for line in lines:
            print(line)
    return mistaken


def _whole_job(path: Path) -> Path:
    """The job.yaml of a job folder is checked with the images beside it."""
    return path.absolute().parent if path.name in JOB_NAMES else path


def _check_config(named: Path | None) -> ExitCode:
    chosen = choose_config(named)
    for warning in _unlikely(chosen.config):
        print(f"{chosen.file}: warning: {warning}", file=sys.stderr)
    webuis = ", ".join(f"{webui.name} ({webui.url})" for webui in chosen.config.webuis)
    print(f"{chosen.file or 'the built-in config'}: no mistakes")
    print(f"  spool   {chosen.config.spool}")
    print(f"  state   {chosen.config.state}")
    print(f"  webuis  {webuis}")
    return ExitCode.OK


def _unlikely(config: Config) -> list[str]:
    return [
        f"webuis.{webui.name}: there is no folder {webui.cwd}, so this WebUI cannot be started"
        for webui in config.webuis
        if webui.cwd and not webui.cwd.is_dir()
    ]
