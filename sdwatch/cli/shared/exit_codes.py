"""The exit codes of the commands, for scripts."""

from __future__ import annotations

from enum import IntEnum

from sdwatch.errors import (
    AlreadyRunningError,
    ConfigError,
    JobError,
    NoServiceError,
    NotFoundError,
    SdwatchError,
)
from sdwatch.system import signals


class ExitCode(IntEnum):
    """The exit codes of `sdwatch`. A signal (Ctrl-C, SIGTERM, SIGHUP, Ctrl-Break) stops `run`
    cleanly, with 0, and ends any other command with 130."""

    OK = 0
    """Done; for `run` also: stopped on request."""
    ERROR = 1
    """It failed, and the message says why."""
    USAGE = 2
    """The command line is wrong."""
    HOLD = 3
    """`run --once` ended on a hold that needs a person, or that outlasted the cool-down list; no
    job is lost."""
    ALREADY_RUNNING = 4
    """Another monitor has this spool or this state folder."""
    BAD_CONFIG = 5
    """The config has mistakes."""
    BAD_JOB = 6
    """`check` or `submit` found mistakes in a job; nothing was submitted."""
    NOT_FOUND = 7
    """No such run, job or service, or more than one matches."""
    DEMO_FAILED = 8
    """The demo did not end as promised."""
    WARNINGS = 9
    """`doctor` found nothing that keeps jobs from running, but something to look at."""
    WAITING = 10
    """`run --once` ended because all jobs that are left wait for a time (`only`, `not_before`);
    no job is lost."""
    INTERRUPTED = signals.INTERRUPTED
    """A signal (Ctrl-C, SIGTERM, SIGHUP, Ctrl-Break) ended a command other than `run`; `run` only
    if a second one cut its clean stop short."""


_CODES: tuple[tuple[type[SdwatchError], ExitCode], ...] = (
    (AlreadyRunningError, ExitCode.ALREADY_RUNNING),
    (ConfigError, ExitCode.BAD_CONFIG),
    (JobError, ExitCode.BAD_JOB),
    (NotFoundError, ExitCode.NOT_FOUND),
    (NoServiceError, ExitCode.NOT_FOUND),
)


def exit_code_of(error: SdwatchError) -> ExitCode:
    """Return the exit code for an error that ends a command."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.ERROR)
