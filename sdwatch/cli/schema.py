"""`sdwatch schema`: print the JSON Schema of a job, or of a `_defaults.yaml`."""

from __future__ import annotations

import argparse
import json

from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.policy.job.editor_schema import defaults_schema, job_schema


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "--defaults", action="store_true", help="print the schema of a _defaults.yaml instead"
    )
    parser.epilog = (
        "Save it as job.schema.json. Editors then complete and check a job whose first line is\n"
        "  # yaml-language-server: $schema=PATH/job.schema.json"
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Print the schema."""
    print(json.dumps(defaults_schema() if args.defaults else job_schema(), indent=2))
    return ExitCode.OK
