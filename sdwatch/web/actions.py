"""What the buttons and forms do: they write the files that a person could, by the same functions as
the command line. Each returns what happens now, in words."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import yaml

from sdwatch.errors import FileProblems, JobError, Problem, SpoolError
from sdwatch.policy.job.stage.confinement import DEVICE, JobRules
from sdwatch.policy.job.text.document import MAX_BYTES
from sdwatch.spool import back_to_inbox, commands
from sdwatch.spool.folders import Spool
from sdwatch.spool.job_file import job_file_in
from sdwatch.spool.new_jobs import read_job_at
from sdwatch.spool.run import read_source
from sdwatch.web.pages import NUMBERS
from sdwatch.web.url_paths import ended_run

_TEXTS = ("prompt", "negative_prompt", "sampler_name")
_LONGEST_NAME = 100


def hold(spool: Spool) -> str:
    """Hold everything. Raises SpoolError, OSError."""
    held = commands.hold(spool)
    return "on hold: no call and no WebUI is started" if held else "it was on hold already"


def resume(spool: Spool) -> str:
    """End the hold. Raises SpoolError, OSError."""
    notes, holds = commands.resume(spool)
    if not notes and not holds:
        return "it was not on hold"
    return "the monitor sends calls again, and checks WebUIs that were on hold"


def retry(spool: Spool, run_id: str) -> str:
    """Put a run's job back into the inbox. Raises NotFoundError, SpoolError, OSError."""
    run = ended_run(spool, run_id)
    spool.prepare()
    return f"{run_id}: queued again as {back_to_inbox.retry(run, spool.inbox).name}"


def retry_failed_points(spool: Spool, run_id: str, rules: JobRules) -> str:
    """Make a job of the points of a run that failed. Raises NotFoundError, SpoolError,
    FileProblems, OSError."""
    run = ended_run(spool, run_id)
    numbers = commands.failed_points_of(run, rules)
    spool.prepare()
    queued = commands.retry_points(run, spool, numbers, rules)
    what = "point" if len(numbers) == 1 else "points"
    return f"{run_id}: {len(numbers)} {what} queued again as {queued.name}"


def job_text_of(spool: Spool, run_id: str) -> tuple[str, str]:
    """Return the name of a run's job in the inbox, and its text. Raises NotFoundError, SpoolError,
    OSError."""
    run = ended_run(spool, run_id)
    with _own_folder() as folder:
        file = _file_of(back_to_inbox.copy_of_job(run, folder))
        try:
            return read_source(run), file.read_bytes()[:MAX_BYTES].decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise SpoolError(
                f"{file.name}: is not UTF-8, so it is edited by hand: sdwatch retry --edit {run_id}"
            ) from error


def retry_edited(spool: Spool, run_id: str, job: str, rules: JobRules) -> str:
    """Put a run's job back into the inbox with another text. Raises JobError with all mistakes,
    NotFoundError, SpoolError, OSError."""
    run = ended_run(spool, run_id)
    with _own_folder() as folder:
        copy = back_to_inbox.copy_of_job(run, folder)
        # A browser sends each line end as CR LF.
        _file_of(copy).write_bytes(job.replace("\r\n", "\n").encode("utf-8", "replace"))
        read_job_at(copy, rules)
        spool.prepare()
        return f"{run_id}: queued again as {back_to_inbox.retry(run, spool.inbox, copy).name}"


def drop_form(spool: Spool, given: Mapping[str, str], rules: JobRules) -> str:
    """Put the job of the form into the inbox. Raises JobError with all mistakes, SpoolError,
    OSError."""
    name = _file_name(given.get("name", "")) or "job"
    name = name if name.lower().endswith((".yaml", ".yml")) else f"{name}.yaml"
    text = yaml.safe_dump(_fields(given), sort_keys=False, allow_unicode=True, width=10**6)
    with _own_folder() as folder:
        (folder / name).write_text(text, encoding="utf-8")
        return _drop(spool, [folder / name], rules)


def drop_files(spool: Spool, files: Sequence[tuple[str, BinaryIO]], rules: JobRules) -> str:
    """Put files into the inbox, all of them or none. `files`: each with the name that the browser
    gave it. Raises JobError with all mistakes, SpoolError, OSError."""
    if not files:
        raise JobError("", [Problem(0, 0, "no file was chosen")])
    with _own_folder() as folder:
        paths = []
        for number, (name, data) in enumerate(files):
            path = folder / str(number) / (_file_name(name) or "job.yaml")
            path.parent.mkdir()
            with open(path, "wb") as file:
                shutil.copyfileobj(data, file)
            paths.append(path)
        return _drop(spool, paths, rules)


def _drop(spool: Spool, paths: Sequence[Path], rules: JobRules) -> str:
    problems: list[Problem] = []
    for path in paths:
        try:
            read_job_at(path, rules)
        except JobError as error:
            several = f"{path.name}: " if len(paths) > 1 else ""
            problems += [Problem(p.line, p.column, f"{several}{p.message}") for p in error.problems]
    if problems:
        raise JobError("", problems)
    spool.prepare()
    dropped = [commands.submit(path, spool.inbox).name for path in paths]
    return f"in the inbox: {', '.join(dropped)}"


def in_words(error: FileProblems) -> list[str]:
    """Return the mistakes, each with its place but without the path of our copy."""
    return [
        f"line {p.line}, column {p.column}: {p.message}" if p.line else p.message
        for p in error.problems
    ]


def _fields(given: Mapping[str, str]) -> dict[str, Any]:
    """Return the job. A number that is none stays a text, so that the job's own reader refuses it
    with its reason."""
    fields: dict[str, Any] = {}
    for name in _TEXTS:
        if text := given.get(name, "").replace("\r\n", "\n").strip():
            fields[name] = text
    for name in NUMBERS:
        if text := given.get(name, "").strip():
            is_number = text.isascii() and text.isdecimal() and len(text) < 20
            fields[name] = int(text) if is_number else text
    if checkpoint := given.get("checkpoint", "").strip():
        fields["override_settings"] = {"sd_model_checkpoint": checkpoint}
    return fields or {"prompt": ""}


def _file_name(given: str) -> str:
    """Return a name that is one on every system: the last part of a path, without what only some
    accept."""
    last = given.replace("\\", "/").rpartition("/")[2]
    kept = "".join(c if c.isprintable() and c not in ':*?"<>|' else "-" for c in last)
    name = PurePath(kept.strip(" .~#$_"))
    prefix = "job-" if DEVICE.fullmatch(name.name) else ""
    return f"{prefix}{name.stem[:_LONGEST_NAME]}{name.suffix[:20]}"


def _file_of(copy: Path) -> Path:
    """Return the job's own file of a copy. Raises SpoolError."""
    file = job_file_in(copy) or copy
    if file.is_symlink() or not file.is_file():  # a link would lead to a file of this user
        raise SpoolError(f"{copy.name}: the job file is gone, or is a link")
    return file


@contextmanager
def _own_folder() -> Iterator[Path]:
    """Give a folder for this user alone, which is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="sdwatch-web-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
