"""Read a job in the inbox that has settled, and find out whether it is ready after all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sdwatch import system
from sdwatch.errors import JobError, Problem
from sdwatch.policy.job.files.job_images import NO_LINK, AnyName, FolderNames, is_missing, on_disk
from sdwatch.policy.job.job import Job, parse_job
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.privacy.printable import printable
from sdwatch.spool.arrival import Arrival
from sdwatch.spool.fingerprint import (
    TOO_DEEP,
    folder_files,
    fresh_size,
    is_too_deep,
    placeholders,
)
from sdwatch.spool.inside import size_of_arrived
from sdwatch.spool.job_file import NOT_LOCAL, job_file_in, read_beside, read_bounded, unreadable
from sdwatch.spool.outside import OutsideFiles
from sdwatch.system import disk


@dataclass(frozen=True)
class NotYet:
    """A job that is not ready after all. `why`: for people; `missing`: images that it names and
    that are not there, for people; `for_a_person`: it stays so until somebody does something."""

    why: str
    missing: tuple[str, ...] = ()
    for_a_person: bool = False


_NO_JOB_FILE = NotYet("its job file is gone")


@dataclass(frozen=True)
class JobReader:
    """Reads the jobs of an inbox. `rules`: what jobs may do; `arrival_timeout`: seconds."""

    rules: JobRules
    arrival_timeout: float

    def read(self, arrival: Arrival, *, late: bool, quiet: float) -> Job | NotYet:
        """Read and parse a job. `late`: images that a job folder names and that are missing are no
        longer waited for; `quiet`: seconds since its last change. Raises JobError, OSError."""
        try:
            return self._read(arrival, late, quiet)
        except JobError as error:
            if (wrong := error.outside) is None:
                raise
            return _waits_for(wrong)

    def _read(self, arrival: Arrival, late: bool, quiet: float) -> Job | NotYet:
        if arrival.is_folder:
            return self._read_folder(arrival, late, quiet)
        path = arrival.path
        if (held := self._held(path, quiet)) is not None:
            return held
        data = read_bounded(path, arrival.source)
        outside = OutsideFiles(self.rules, arrival.source).outside()
        return parse_job(data, arrival.source, None, path.stem, rules=self.rules, outside=outside)

    def _read_folder(self, arrival: Arrival, late: bool, quiet: float) -> Job | NotYet:
        path, source = arrival.path, arrival.source
        there = folder_files(path)
        if (file := job_file_in(path)) is None:
            return _NO_JOB_FILE
        if is_too_deep(path):
            raise unreadable(source, TOO_DEEP)
        if (held := self._held(file, quiet)) is not None:
            return held
        data = read_bounded(file, source)

        def read(name: str) -> bytes:
            return read_beside(path, name)

        parse = partial(
            parse_job,
            data,
            source,
            default_name=path.name,
            rules=self.rules,
            read=read,
            folder=f"{source}/",
            outside=OutsideFiles(self.rules, source).outside(),
        )
        job = parse(AnyName(there))
        named = set(job.named)
        if (not_yet := _missing_images(path, named, there, late)) is not None:
            return not_yet
        for name in sorted(named):
            if (held := self._held(path / on_disk(name, there), quiet)) is not None:
                return held
        return parse(there, look=lambda name: size_of_arrived(path, name, self.rules.max_image))

    def _held(self, file: Path, quiet: float) -> NotYet | None:
        """Return that a program has a file of this job open for writing, if one has. After the
        arrival timeout without a change it counts only where it blocks the claim."""
        if not disk.is_still_written(file):
            return None
        if quiet >= self.arrival_timeout and not system.WRITERS_BLOCK_CLAIMS:
            return None
        return NotYet(f"another program is still writing {printable(file.name)}")


def _waits_for(wrong: Problem) -> NotYet:
    """Return that a job waits: what is wrong is not a fault of its own, and all jobs that use that
    file would fail with it."""
    return NotYet(f"waits until this is corrected: {wrong.located('')}", for_a_person=True)


def _missing_images(folder: Path, named: set[str], there: FolderNames, late: bool) -> NotYet | None:
    missing = sorted(name for name in named if is_missing(name, there))
    elsewhere = placeholders(folder) if missing else frozenset()
    if online := [name for name in missing if on_disk(name, elsewhere) in elsewhere]:
        # However long that takes.
        return NotYet(f"{', '.join(online)} {NOT_LOCAL}", for_a_person=True)
    if missing and not late:
        awaited = [f"{name}, which {NO_LINK}" if there.has_link(name) else name for name in missing]
        return NotYet(f"waits for {', '.join(awaited)}", tuple(awaited))
    return None


def has_grown(arrival: Arrival) -> bool:
    """Return whether it is larger than a listing of the share says, which may be outdated: for an
    open file the server itself is asked."""
    path, fingerprint = arrival.path, arrival.fingerprint
    try:
        return any(fresh_size(path / name) != size for name, _, size, _ in fingerprint)
    except OSError:
        return False  # reported when it is read


def which_file(arrival: Arrival, error: OSError) -> str:
    """Return which file of a job folder it is, to start a sentence; nothing for a single file."""
    if not error.filename or not arrival.is_folder:
        return ""
    return f"{printable(str(error.filename))} "
