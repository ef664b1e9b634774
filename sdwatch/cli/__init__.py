"""The command line: which commands there are, and what an error looks like.

Only the module of the command at hand is imported, so that `--help` and `hold` are quick.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from sdwatch import __version__
from sdwatch.cli.exit_codes import ExitCode, exit_code_of
from sdwatch.errors import SdwatchError
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.system import streams

COMMANDS = {
    "run": "watch the inbox, keep the WebUI alive, work until stopped",
    "demo": "see it work within half a minute, crash included; needs no GPU",
    "init": "write a config and make the folders",
    "check": "validate job files or the config",
    "canary": "generate the smallest picture: does the configured WebUI work?",
    "submit": "check jobs, and put them into the inbox",
    "status": "show the monitor, the WebUIs, and running and waiting jobs",
    "list": "list the runs, newest first",
    "cancel": "cancel a run, or a job that still waits in the inbox",
    "retry": "put the jobs of runs back into the inbox, edited first with --edit",
    "replay": "send the one call that failed by hand, and show what comes back",
    "bundle": "make one zip about a run, for a bug report; without prompts",
    "hold": "start no new call until `resume`",
    "resume": "end the hold",
    "schema": "print the JSON Schema of a job, for editors",
}
"""Each is a module of this package with `arguments(parser)` and `main(args) -> ExitCode`. (So the
name `list` is not the builtin here.)"""

WITH_MONITOR = ("run", "demo")
"""Until their monitor takes the signals over they have nothing to undo."""

log = logging.getLogger("sdwatch")


def main(argv: Sequence[str] | None = None, *, unwind: Callable[[], None] = lambda: None) -> int:
    """Run the command that `argv` (default: the process's own) names and return its exit code.
    `unwind` is called before a command that a signal may interrupt with a KeyboardInterrupt."""
    streams.prepare()
    log.addHandler(logging.NullHandler())
    argv = sys.argv[1:] if argv is None else argv
    try:
        return _ended(argv, unwind)
    finally:
        streams.finish()


def _ended(argv: Sequence[str], unwind: Callable[[], None]) -> int:
    args = parser(*argv[:1]).parse_args(argv)
    try:
        if argv[0] not in WITH_MONITOR:
            unwind()
        code = int(args.main(args))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as error:
        _complain(f"sdwatch: {str(error) or 'stopped by Ctrl-C'}")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        return ExitCode.OK  # our output went to something like `head`: its end is no error of ours
    except Exception as error:
        # The main thread's outer edge: a message for people, the traceback only when asked for.
        if os.environ.get("SDWATCH_DEBUG"):
            raise
        return _report(error)


def parser(*loaded: str) -> argparse.ArgumentParser:
    """Build the parser of all commands. Only those named in `loaded` get their own arguments, since
    that imports their module; `args.main` is the function that runs the command."""
    whole = argparse.ArgumentParser(
        prog="sdwatch",
        description="Runs a folder of Stable Diffusion jobs against a WebUI that it keeps alive.",
        epilog="`sdwatch COMMAND --help` explains each command.",
    )
    whole.add_argument("--version", action="version", version=f"sdwatch {__version__}")
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}{'' if summary[-1] in '.?' else '.'}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name in loaded:
            module = importlib.import_module(f"{__name__}.{name}")
            module.arguments(command)
            command.set_defaults(main=module.main)
    return whole


def _report(error: Exception) -> ExitCode:
    if isinstance(error, SdwatchError | OSError):
        _complain(f"sdwatch: {printable_text(str(error))}")
        return exit_code_of(error) if isinstance(error, SdwatchError) else ExitCode.ERROR
    log.error("internal error", exc_info=error)
    about = f"{type(error).__name__}: {error}"
    _complain(f"sdwatch: internal error: {about} (set SDWATCH_DEBUG=1 to see where)")
    return ExitCode.ERROR


def _complain(line: str) -> None:
    with suppress(OSError):  # stderr has no reader: the exit code says it
        print(line, file=sys.stderr, flush=True)
