"""`sdwatch schema`: print the JSON Schema of a job."""

from __future__ import annotations

import argparse
import json

from sdwatch.cli.exit_codes import ExitCode
from sdwatch.policy.job.editor_schema import job_schema


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the help's last lines; the command has no flags."""
    parser.epilog = (
        "Editors complete and check a job whose first line is\n"
        "  # yaml-language-server: $schema=PATH/job.schema.json"
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Print the schema."""
    del args
    print(json.dumps(job_schema(), indent=2))
    return ExitCode.OK
