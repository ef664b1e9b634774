"""The command line: which commands there are, and what an error looks like.

Only the module of the command at hand is imported, and what reports an error only for one, so that
`--help` is quick (benchmarks/startup.py).
"""

from __future__ import annotations

import argparse
import gc
import importlib
import sys

from sdwatch import __version__
from sdwatch.system import streams

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COMMANDS = {
    "run": "watch the inbox, keep the WebUI alive, and run jobs until stopped",
    "stop": "stop the monitor cleanly, by a file in the spool",
    "service": "run the monitor in the background, started by the system",
    "demo": "see it work within half a minute, crash included; needs no GPU",
    "init": "write a config and make the folders",
    "check": "validate job files or the config",
    "doctor": "check all that the first night needs, and say what to do",
    "canary": "test whether the configured WebUIs work, with the smallest picture",
    "submit": "check jobs, and copy them into the inbox",
    "status": "show the monitor, the WebUIs, and running and waiting jobs",
    "web": "show the live page in a browser, with buttons; or keep metrics in a file",
    "cluster": "run the broker by which several machines share one inbox, and show them",
    "list": "list the waiting jobs, then the runs, newest first",
    "show": "show one run: its calls with attempts and times, its pictures, and why it failed",
    "open": "open a run's folder, its last picture or its WHY.txt",
    "logs": "print the log of the monitor, of a WebUI or of one run, and follow it",
    "cancel": "cancel a run, or a job that still waits in the inbox",
    "retry": "put the jobs of finished runs back into the inbox; --edit opens them first",
    "replay": "send a run's failed call once, by hand, and show the reply",
    "bundle": "make one zip about a run for a bug report, without prompts",
    "drain": "give a box of the cluster no more runs until `sdwatch resume BOX`",
    "hold": "start no call and no WebUI until `sdwatch resume`",
    "resume": "remove the hold, and check WebUIs on hold again now",
    "notify": "send a test message to each address in `notify:` of the config",
    "schema": "print the JSON Schema of a job, for editors",
    "completion": "print the script that lets a shell complete commands and names of runs",
}
"""Each is a module of this package with `arguments(parser)` and `main(args) -> ExitCode`. (So the
names `list` and `open` are not the builtins here.)"""

WITH_MONITOR = ("run", "demo")
"""Until their monitor takes the signals over they have nothing to undo."""


def main(argv: Sequence[str] | None = None, *, unwind: Callable[[], None] = lambda: None) -> int:
    """Run the command that `argv` (default: the process's own) names and return its exit code.
    `unwind` is called before a command that a signal may interrupt with a KeyboardInterrupt."""
    streams.prepare()
    argv = sys.argv[1:] if argv is None else argv
    try:
        return _ended(argv, unwind)
    finally:
        streams.finish()


def _ended(argv: Sequence[str], unwind: Callable[[], None]) -> int:
    args = parser(*argv[:1]).parse_args(argv)
    gc.freeze()  # the imports are done, see __main__
    gc.enable()
    import logging  # slow to import, and `--help` logs nothing

    # Else it prints on stderr what is logged, as long as nobody has set it up.
    logging.getLogger("sdwatch").addHandler(logging.NullHandler())
    try:
        if argv[0] not in WITH_MONITOR:
            unwind()
        code = int(args.main(args))
        sys.stdout.flush()
        return code
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001
        # The main thread's outer edge: a message for people, the traceback only when asked for.
        from sdwatch.cli.shared.last_words import report

        return report(error)


def parser(*loaded: str) -> argparse.ArgumentParser:
    """Build the parser of all commands. Only those named in `loaded` get their own arguments, since
    that imports their module; `args.main` is the function that runs the command."""
    whole = argparse.ArgumentParser(
        prog="sdwatch",
        description="Run the Stable Diffusion jobs of a folder on a WebUI, and keep it alive.",
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
