"""Report what ended a command: a message for people, and the exit code."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress

from sdwatch.cli.shared.exit_codes import ExitCode, exit_code_of
from sdwatch.errors import SdwatchError
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.system import disk
from sdwatch.system.log_events import LogEvent, about

log = logging.getLogger("sdwatch")


def report(error: BaseException) -> ExitCode:
    """Print the message on stderr, and return the exit code. An internal error is raised again if
    SDWATCH_DEBUG is set."""
    if isinstance(error, KeyboardInterrupt):
        _complain(f"sdwatch: {str(error) or 'stopped by Ctrl-C'}")
        return ExitCode.INTERRUPTED
    if isinstance(error, BrokenPipeError):
        return ExitCode.OK  # our output went to something like `head`: its end is not our error
    if os.environ.get("SDWATCH_DEBUG"):
        raise error
    if isinstance(error, SdwatchError | OSError):
        _complain(f"sdwatch: {printable_text(disk.in_words(error))}")
        return exit_code_of(error) if isinstance(error, SdwatchError) else ExitCode.ERROR
    log.error("internal error", exc_info=error, extra=about(LogEvent.INTERNAL_ERROR))
    _complain(
        f"sdwatch: internal error: {type(error).__name__}: {error}\n"
        "  Please report it. With SDWATCH_DEBUG=1 in the environment it also prints the traceback."
    )
    return ExitCode.ERROR


def _complain(line: str) -> None:
    with suppress(OSError):  # stderr has no reader: the exit code says it
        print(line, file=sys.stderr, flush=True)
