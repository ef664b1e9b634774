"""All errors of sdwatch, under one root.

Each says what failed, on which path or URL, why, and what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass


class SdwatchError(Exception):
    """Root of every error that sdwatch raises on purpose; its text is for people."""


@dataclass(frozen=True)
class Problem:
    """One mistake in a YAML file. Line and column count from 1; 0 where none can be named.
    `unfinished`: it would also look like this while the file is still being written."""

    line: int
    column: int
    message: str
    unfinished: bool = False

    def located(self, file: str) -> str:
        """`file:line:column: message`, the form that editors and terminals make clickable."""
        if not self.line:
            return f"{file}: {self.message}"
        return f"{file}:{self.line}:{self.column}: {self.message}"


class FileProblems(SdwatchError):  # noqa: N818 - the problems are the error
    """A job or config file with mistakes: all of them, not the first only."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        self.file = file
        self.problems = sorted(problems, key=lambda p: (p.line, p.column))
        super().__init__("\n".join(p.located(file) for p in self.problems))

    @property
    def unfinished(self) -> bool:
        """Whether the file may only not be whole yet: nothing else is wrong with it."""
        return bool(self.problems) and all(problem.unfinished for problem in self.problems)


class JobError(FileProblems):
    """A job file that cannot be run as it is."""


class JobUnfitError(JobError):
    """A job that none of the configured WebUIs can do as it is."""


class ConfigError(FileProblems):
    """A config file that sdwatch refuses."""


class SpoolError(SdwatchError):
    """A folder of the spool cannot be used: missing, full, read-only, on another file system."""


class UnfinishedError(SpoolError):
    """A file of a job that is not whole: still being written, or cut off."""


class JournalError(SpoolError):
    """A run's journal has records that no sdwatch writes; the run cannot go on by it."""


class AlreadyRunningError(SdwatchError):
    """Another monitor holds this spool or this state folder; the text names it."""


class ProcessError(SdwatchError):
    """The WebUI's process could not be started or stopped."""


class PortTakenError(ProcessError):
    """A process that is not ours listens on the WebUI's port; it is named, never killed."""


@dataclass(frozen=True)
class Probes:
    """The probes sent while a call made no progress: how many were `answered` and `unanswered`,
    over how many `seconds`; `last`: how the last unanswered one failed."""

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
            return f"it answered all {self.answered} probes {during}" if self.answered else ""
        sent = self.answered + self.unanswered
        if not self.answered:
            return f"it answered none of {sent} probes {during}"
        return f"it answered {self.answered} of {sent} probes {during}"


class WebUIError(SdwatchError):
    """A call to the WebUI failed. `status` is the HTTP status, None where no reply came; `kind` and
    `said` are the class and the text in an error body, '' where it names none. `probes`: of a call
    without progress, whether the WebUI still answered. `after`: seconds from the POST to its end,
    None where nobody measured. `facts`: of a 200 that is no success, in what it differs from what
    was asked for."""

    probes: Probes | None = None
    after: float | None = None
    facts: tuple[str, ...] = ()

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


class WebUIReplyError(WebUIError):
    """A 200 that is no success: broken JSON, no image, an image that does not decode."""


class WebUIBusyError(WebUIError):
    """429 or 502 to 504: somebody in between, or somebody else, keeps the WebUI from us."""


class WebUINotUsableError(WebUIError):
    """401, no `--api`, no checkpoint: the WebUI is up and of no use as it is set up."""


class WebUIStuckError(WebUIError):
    """No progress for longer than the stall time, or the call's own limit was passed."""


class WebUIInterruptedError(WebUIError):
    """Somebody pressed Interrupt or Skip: what came back is not what was asked for."""


class RunCancelledError(SdwatchError):
    """Somebody cancelled the run."""


class RunStoppedError(SdwatchError):
    """The monitor stops, or the lane is on hold; the run stays in working/ and goes on later."""
