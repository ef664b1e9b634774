"""All errors of sdwatch, with one base class.

Each says what failed, on which path or URL, why, and what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass


class SdwatchError(Exception):
    """Base class of every error that sdwatch raises on purpose; its text is for people."""


@dataclass(frozen=True)
class Problem:
    """One mistake in a YAML file. Line and column count from 1; 0 if there is none to name.
    `unfinished`: a file that is still being written looks the same. `file`: another one that the
    YAML file is read with, such as a list of prompts; '' for the YAML file itself. `outside`: that
    file is not part of the job: other jobs use it, too."""

    line: int
    column: int
    message: str
    unfinished: bool = False
    file: str = ""
    outside: bool = False

    def located(self, file: str) -> str:
        """Return `file:line:column: message`, which editors and terminals make clickable."""
        file = self.file or file
        if not self.line:
            return f"{file}: {self.message}"
        return f"{file}:{self.line}:{self.column}: {self.message}"


class FileProblems(SdwatchError):  # noqa: N818 - the problems are the error
    """A job or config file with mistakes; it holds all of them, not only the first."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self.file = file
        self.problems = sorted(problems, key=lambda p: (p.file, p.line, p.column))
        super().__init__("\n".join(p.located(file) for p in self.problems))

    @property
    def unfinished(self) -> bool:
        """Return whether the file may only be incomplete: nothing else is wrong with it."""
        return bool(self.problems) and all(problem.unfinished for problem in self.problems)

    @property
    def outside(self) -> Problem | None:
        """Return a mistake that is in a file outside of the job, or None."""
        return next((problem for problem in self.problems if problem.outside), None)


class JobError(FileProblems):
    """A job file that cannot be run as it is."""


class JobUnfitError(JobError):
    """A job that none of the configured WebUIs can do."""


class ConfigError(FileProblems):
    """A config file that sdwatch refuses."""


class NotFoundError(SdwatchError):
    """No run or job has this name, or several do."""


class SpoolError(SdwatchError):
    """A folder of the spool cannot be used: missing, full, read-only, on another file system."""


class UnfinishedError(SpoolError):
    """A file of a job is incomplete: still being written, or cut off."""


class JournalError(SpoolError):
    """A run's journal has records that sdwatch never writes; the run cannot resume from it."""


class AlreadyRunningError(SdwatchError):
    """Another monitor uses this spool or this state folder; the text names it."""


class ServiceError(SdwatchError):
    """A background service cannot be installed or controlled; the text says what to do."""


class NoServiceError(ServiceError):
    """There is no service of that name, or it is not one of sdwatch."""


class ProcessError(SdwatchError):
    """The WebUI's process could not be started or stopped."""


class PortTakenError(ProcessError):
    """A foreign process listens on the WebUI's port; sdwatch names it and never kills it."""


@dataclass(frozen=True)
class Probes:
    """The probes that were sent while a call made no progress. `answered`, `unanswered`: how many;
    `seconds`: over which time; `last`: how the last unanswered one failed."""

    answered: int = 0
    unanswered: int = 0
    seconds: float = 0.0
    last: str = ""

    def __str__(self) -> str:
        return ", ".join(
            filter(None, (self._counts(), f"the last: {self.last}" if self.unanswered else ""))
        )

    def _counts(self) -> str:
        during = f"in these {self.seconds:.0f} s"
        if not self.unanswered:
            probes = "the one probe" if self.answered == 1 else f"all {self.answered} probes"
            return f"it answered {probes} {during}" if self.answered else ""
        sent = self.answered + self.unanswered
        if not self.answered:
            none = "did not answer the one" if sent == 1 else f"answered none of {sent}"
            return f"it {none} {'probe' if sent == 1 else 'probes'} {during}"
        return f"it answered {self.answered} of {sent} probes {during}"


class WebUIError(SdwatchError):
    """A call to the WebUI failed.

    `status`: HTTP status, None if no reply came. `kind` and `said`: class and text in an error
    body, '' if it names none. `probes`: whether the WebUI still answered during a call without
    progress. `after`: seconds from the POST to its end, None if nobody measured. `facts`: how a 200
    that is not a success differs from the request. `node`: the class of the node of a workflow that
    raised the exception, '' where there are none."""

    probes: Probes | None = None
    after: float | None = None
    facts: tuple[str, ...] = ()
    node: str = ""

    def __init__(
        self,
        message: str,
        *,
        stage: str = "",
        status: int | None = None,
        kind: str = "",
        said: str = "",
    ) -> None:
        super().__init__(message)
        self.stage = stage
        self.status = status
        self.kind = kind
        self.said = said


class WebUIBadRequestError(WebUIError):
    """400, 404 or 422: the request itself is wrong; sending it again cannot help."""


class WebUIServerError(WebUIError):
    """500 from txt2img, img2img or extra-single-image."""


class WebUIUnreachableError(WebUIError):
    """Connection refused, reset, or closed before the reply was whole."""


class WebUINotSentError(WebUIUnreachableError):
    """There was no connection, or the call was given up before it had one: nothing was sent."""


class WebUIOccupiedError(WebUINotSentError):
    """Nothing was sent, because a generation of sdwatch's own that nobody waits for any more still
    runs, and an interrupt did not end it."""


class WebUIReplyError(WebUIError):
    """A 200 that is not a success: broken JSON, no image, an image that does not decode."""


class WebUINoResultError(WebUIReplyError):
    """The earlier attempts of a call have no result, and it may not be sent once more."""


class WebUIBusyError(WebUIError):
    """429 or 502 to 504: a proxy in between, or another client, keeps the WebUI busy."""


class WebUINotUsableError(WebUIError):
    """401, no `--api`, no checkpoint: the WebUI runs but its setup makes it unusable."""


class WebUIStuckError(WebUIError):
    """No progress for longer than the stall time, or the call exceeded its limit."""


class WebUIInterruptedError(WebUIError):
    """Somebody pressed Interrupt or Skip, so the reply is not what was asked for."""


class LaneError(SdwatchError):
    """An internal error of a lane ended a call."""


class RunCancelledError(SdwatchError):
    """Somebody cancelled the run."""


class RunTimedOutError(RunCancelledError):
    """The calls of the run took longer than its job allows."""


class RunStoppedError(SdwatchError):
    """The monitor stops, or the lane is on hold; the run stays in working/ and resumes later."""


class RunGoneError(SdwatchError):
    """Somebody removed the run's folder."""
