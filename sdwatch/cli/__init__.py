"""The command line: which commands there are, and what an error looks like.

Only the module of the command at hand is imported, so that `--help` and `hold` are quick.
"""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import sys
from collections.abc import Sequence

from sdwatch import __version__
from sdwatch.cli.exit_codes import ExitCode, exit_code_of
from sdwatch.cli.plain import open_missing_streams
from sdwatch.errors import SdwatchError
from sdwatch.policy.printable import printable_text

COMMANDS = {
    "run": "watch the inbox, keep the WebUI alive, work until stopped",
    "demo": "see it work within half a minute, crash included; needs no GPU",
    "init": "write a config and make the folders",
    "check": "tell the mistakes of job files, or of the config",
    "canary": "draw the smallest picture: does the configured WebUI work?",
    "submit": "check jobs, and put them into the inbox",
    "status": "say who runs, what each WebUI does, and what waits",
    "list": "list the runs, newest first",
    "cancel": "cancel a run, or a job that still waits in the inbox",
    "retry": "put the jobs of runs into the inbox again, edited if need be",
    "replay": "send the one call that failed by hand, and show what comes back",
    "bundle": "make one zip about a run, for a bug report; without prompts",
    "hold": "begin no new call until `resume`",
    "resume": "end the hold",
    "schema": "print the JSON Schema of a job, for editors",
}
"""Each is a module of this package with `arguments(parser)` and `main(args) -> ExitCode`. (So the
name `list` is not the builtin here.)"""

log = logging.getLogger("sdwatch")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (default: the process's own) names; its exit code."""
    open_missing_streams()
    _never_fail_on_encoding()
    log.addHandler(logging.NullHandler())
    args = _parsed(sys.argv[1:] if argv is None else argv)
    try:
        code = int(args.main(args))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return _reader_gone()
    except Exception as error:
        # The main thread's outer edge: a message for people, the traceback only when asked for.
        if os.environ.get("SDWATCH_DEBUG"):
            raise
        return _tell(error)


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sdwatch",
        description="Runs a folder of Stable Diffusion jobs against a WebUI that it keeps alive.",
        epilog="`sdwatch COMMAND --help` tells more.",
    )
    parser.add_argument("--version", action="version", version=f"sdwatch {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if argv and argv[0] == name:
            module = importlib.import_module(f"{__name__}.{name}")
            module.arguments(command)
            command.set_defaults(main=module.main)
    return parser.parse_args(argv)


def _tell(error: Exception) -> ExitCode:
    if isinstance(error, SdwatchError):
        print(f"sdwatch: {printable_text(str(error))}", file=sys.stderr)
        return exit_code_of(error)
    if isinstance(error, OSError):
        print(f"sdwatch: {printable_text(str(error))}", file=sys.stderr)
    else:
        log.error("sdwatch itself broke", exc_info=error)
        about = f"{type(error).__name__}: {error}"
        print(f"sdwatch itself broke: {about} (all of it: SDWATCH_DEBUG=1)", file=sys.stderr)
    return ExitCode.ERROR


def _reader_gone() -> ExitCode:
    """Our output went to something like `head`: its end is no error of ours."""
    # The interpreter flushes stdout once more at its exit, which must not fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.OK


def _never_fail_on_encoding() -> None:
    """Old Windows consoles cannot print every sign; a ? is better than an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
