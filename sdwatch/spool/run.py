"""One run: a folder with the job as it was dropped, its journal, its manifest, its images.

The journal is append-only and synced line by line: what happened, in order, and what a resume
reads. The ledger is what the journal says.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image as Picture

from sdwatch.errors import JobError, JournalError, Problem, SpoolError
from sdwatch.policy.failure.ledger import Image, Ledger, read_ledger
from sdwatch.policy.job import run_names
from sdwatch.policy.job.confinement import JobRules
from sdwatch.policy.job.control import is_cancel
from sdwatch.policy.job.document import MAX_BYTES, too_large
from sdwatch.policy.job.job import Job, parse_job
from sdwatch.policy.job.job_images import on_disk
from sdwatch.policy.job.payload import MAX_SEED, UPSCALE, Call, Seeds, draw_seeds
from sdwatch.policy.job.picture import MOST_PIXELS
from sdwatch.spool.fingerprint import digest, fingerprint_of, folder_files
from sdwatch.spool.inside import open_plain, read_picture, size_of_picture
from sdwatch.spool.job_file import is_job_name, job_file_in
from sdwatch.system import EntryKind, disk
from sdwatch.system.clock import Clock, iso

JOURNAL = "journal.jsonl"
MANIFEST = "run.json"
IMAGES = "images"
JOB_FILE = "job.yaml"
JOB_FOLDER = "job"

_FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}


def new_run_id(name: str, wall: float) -> str:
    """Return a new run's id, see policy/job/run_names.py. `name`: the job's; `wall`: seconds since
    1970."""
    time = datetime.fromtimestamp(wall, UTC)
    stamp = f"{time:%Y%m%d-%H%M%S}.{time.microsecond // 1000:03d}"
    return run_names.run_id(stamp, name, secrets.token_hex(2))


class Run:
    """A run folder that is open for writing. One thread at a time works on it."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        """Open a run folder, a new one or one to resume. Raises OSError."""
        self.folder = folder
        self.run_id = folder.name
        self.job_id = folder.name
        self.job: Job | None = None
        self.seeds: list[Seeds | None] = []
        self.about_webui: Callable[[], dict[str, Any]] = dict  # asked when run.json is written
        self._most_pixels = JobRules().max_image
        self._clock = clock
        self.broken: JournalError | None = None
        self.ledger = Ledger()
        self._records = _read_journal(folder / JOURNAL)
        try:
            self.ledger = read_ledger(self._records)
        except JournalError as error:
            self.broken = error
            claimed = (record for record in self._records if record["event"] == "claimed")
            self.ledger.claimed = next(claimed, {})
        self._journal_fd: int | None = None

    # -- journal

    @property
    def records(self) -> Sequence[Mapping[str, Any]]:
        """The journal so far."""
        return self._records

    def now(self) -> str:
        """Return the time in the form of the journal."""
        return iso(self._clock.wall())

    def record(self, event: str, **data: Any) -> None:
        """Append one line to the journal, synced. Raises OSError."""
        line = {"at": self.now(), "event": event, **data}
        path = self.folder / JOURNAL
        text = json.dumps(line, ensure_ascii=False)
        try:
            disk.append_line(self._open_journal(), disk.encoded(text), path)
        except OSError:
            self.close()  # a file that was open on a share stays broken when the share returns
            raise
        self._records.append(line)
        self.ledger.take(line)

    def close(self) -> None:
        """Close the journal; the folder can be renamed then, on Windows too."""
        fd, self._journal_fd = self._journal_fd, None
        if fd is not None:
            with suppress(OSError):  # of a share that went away; every line was synced before
                os.close(fd)

    def _open_journal(self) -> int:
        if self._journal_fd is None:
            self._journal_fd = disk.open_lines(self.folder / JOURNAL)
        return self._journal_fd

    # -- the job

    @property
    def job_path(self) -> Path | None:
        """The job's YAML file in this folder; None where there is none."""
        file = self.folder / JOB_FILE
        return file if disk.is_file(file) else job_file_in(self.folder / JOB_FOLDER)

    @property
    def has_job(self) -> bool:
        """Whether the claim's rename happened."""
        return disk.exists(self.folder / JOB_FILE) or disk.exists(self.folder / JOB_FOLDER)

    @property
    def source(self) -> str:
        """Where in the inbox it came from."""
        return str(self.ledger.claimed.get("source", ""))

    @property
    def is_as_claimed(self) -> bool:
        """Whether the job is still what had settled in the inbox. Raises OSError."""
        return self.looks_like() == self.ledger.claimed.get("settled")

    def looks_like(self) -> str:
        """Return the digest of the job's fingerprint now; `claimed` has the one from the inbox.
        Raises OSError."""
        folder = self.folder / JOB_FOLDER
        return digest(fingerprint_of(folder if disk.is_folder(folder) else self.folder / JOB_FILE))

    def read_job(self, rules: JobRules = JobRules()) -> Job:  # noqa: B008 - it is frozen
        """Parse the job as it lies here. Raises JobError, OSError."""
        path = self.job_path
        if path is None:
            raise unreadable(self.source or JOB_FILE, "the job file is gone")
        source = self.source or path.name
        data = read_bounded(path, source, self.folder)
        stem = Path(source).name if path.parent.name == JOB_FOLDER else Path(source).stem
        self.job_id = f"{stem}-{hashlib.sha256(data).hexdigest()[:8]}"
        self._most_pixels = rules.max_image
        self.job = parse_job(
            data, source, images_beside(path), stem, rules=rules, look=self._size_of_picture
        )
        return self.job

    def _size_of_picture(self, name: str) -> tuple[int, int]:
        return size_of_picture(self.folder, f"{JOB_FOLDER}/{name}", self._most_pixels)

    def plan(self) -> None:
        """Pick the seeds that the job left to chance, once; a resume finds them in the journal."""
        assert self.job is not None
        if self.ledger.seeds is None:
            drawn = [draw_seeds(s, lambda: random.randint(0, MAX_SEED)) for s in self.job.stages]
            seeds = [asdict(s) if s else None for s in drawn]
            self.record("planned", job_id=self.job_id, seeds=seeds)
        assert self.ledger.seeds is not None
        try:
            self.seeds = [Seeds(**s) if s else None for s in self.ledger.seeds]
            self.seeds[len(self.job.stages) - 1]
        except (TypeError, IndexError) as error:
            raise JournalError(f"the seeds in the journal cannot be read: {error}") from error

    def forget_another_job(self) -> None:
        """Start over if the job file is not the one from which the calls so far were planned,
        because somebody still wrote to it: those calls no longer count."""
        if self.ledger.seeds is not None and self.ledger.job_id not in ("", self.job_id):
            self.record("job_changed", job_id=self.job_id)

    def cancel_asked(self) -> bool:
        """Return whether a person put `cancel` (or cancel.txt) into this folder."""
        return is_cancelled(self.folder)

    # -- images

    @property
    def is_gone(self) -> bool:
        """Whether somebody removed this folder, while the one above it is there. A share that is
        gone for the moment, or a link in the place of the folder above, is not that."""
        try:
            return disk.is_missing(self.folder)
        except OSError:
            return False

    def has_image(self, image: Image) -> bool:
        """Return whether a recorded image is there with its recorded size."""
        try:
            return disk.look_at(self.folder / IMAGES / image.name).st_size == image.size
        except FileNotFoundError:
            return False

    def read_image(self, name: str, own: bool) -> bytes:
        """Return an image that a call needs: the job's own (`own`), or one of the stage before.
        Raises SpoolError if it is not one or leads outside this folder, OSError."""
        folder, most = (JOB_FOLDER, self._most_pixels) if own else (IMAGES, MOST_PIXELS)
        if own:  # a script has it as the job wrote it
            name = on_disk(name, folder_files(self.folder / JOB_FOLDER))
        return read_picture(self.folder, str(PurePosixPath(folder, name)), most)

    def finish_call(
        self, call: Call, images: Sequence[bytes], grids: int, **facts: Any
    ) -> tuple[Image, ...]:
        """Save a call's images as they came and record the call as finished. Raises OSError."""
        folder = self.folder / IMAGES
        if not disk.is_folder(folder):
            disk.make_folder(folder)
        recorded = tuple(
            self._save(call, number, data, grid=number <= grids)
            for number, data in enumerate(images, 1)
        )
        disk.sync_folder(folder)
        disk.sync_folder(self.folder)  # the name of images/ itself
        self.record(
            "call_finished", call=call.id, images=[asdict(image) for image in recorded], **facts
        )
        return recorded

    def sweep(self) -> None:
        """Remove files that a death or a full disk left half written. Raises OSError."""
        disk.sweep_temporaries(self.folder)
        disk.sweep_temporaries(self.folder / IMAGES)
        self._sweep_old_names()

    def _sweep_old_names(self) -> None:
        """Remove images of earlier versions, named after the whole run id, that are not
        recorded: such a version died before, and the image is made again under another name.
        Recorded images keep their names."""
        folder = self.folder / IMAGES
        if self.broken or not disk.is_folder(folder):
            return  # without a readable journal nothing is known to be left over
        finished = [r for r in self._records if r["event"] == "call_finished"]
        recorded = {image["name"] for record in finished for image in record["images"]}
        for entry in disk.entries(folder):
            is_old = entry.name.startswith(f"{self.run_id}_") and entry.kind is EntryKind.FILE
            if is_old and entry.name not in recorded:
                disk.remove(folder / entry.name)

    def _save(self, call: Call, number: int, data: bytes, grid: bool) -> Image:
        """Save one image, under a name that no other run and no other call has, see
        policy/job/run_names.py."""
        with Picture.open(io.BytesIO(data)) as picture:
            extension = _FORMATS.get(picture.format or "", "img")
            width, height = picture.size
        kind = "upscale" if call.kind == UPSCALE else call.kind
        what = "grid" if grid else f"{number:02d}"
        prefix = run_names.image_prefix(self.run_id)
        name = f"{prefix}_{call.stage}-{kind}_{call.number:03d}-{what}.{extension}"
        disk.write(self.folder / IMAGES / name, data)
        digest = hashlib.sha256(data).hexdigest()
        return Image(name, digest, len(data), width, height, grid)

    # -- manifest

    def write_manifest(self, outcome: str) -> None:
        """Write run.json: what was asked for, what was filled in, and what came out."""
        disk.write_json(self.folder / MANIFEST, self._manifest(outcome))

    def _manifest(self, outcome: str) -> dict[str, Any]:
        job = self.job
        return {
            "run_id": self.run_id,
            "job_id": self.job_id,
            "source": self.ledger.claimed.get("source"),
            "claimed": self.ledger.claimed.get("at"),
            "ended": iso(self._clock.wall()),
            "outcome": outcome,
            "webui": self.about_webui(),
            "job": job
            and {
                "name": job.name,
                "priority": job.priority,
                "stages": [
                    {stage.kind: dict(stage.fields) | _seed_fields(seeds)}
                    for stage, seeds in zip(job.stages, self.seeds or [None] * 100, strict=False)
                ],
            },
            "warnings": [p.located(JOB_FILE) for p in job.warnings] if job else [],
            "calls": [] if self.broken else _calls_of(self._records),
        }


def _seed_fields(seeds: Seeds | None) -> dict[str, int]:
    return {"seed": seeds.seed, "subseed": seeds.subseed} if seeds else {}


_OF_THE_CALL = ("images", "warnings", "used", "added")
"""Facts about a call: `used` is what the WebUI reports that it used, `added` what the job left out
and this kind of WebUI needs."""


def _calls_of(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each call with its attempts and images, from the journal."""
    calls: dict[str, dict[str, Any]] = {}
    for record in records:
        if record["event"] == "job_changed":
            calls.clear()
        if (call_id := record.get("call")) is None:
            continue
        call = calls.setdefault(str(call_id), {"call": call_id, "attempts": [], "images": []})
        story = ("at", "event", "call", *_OF_THE_CALL)
        told = {k: v for k, v in record.items() if k not in story}
        if record["event"] == "call_started":
            call["attempts"].append({"began": record.get("at"), **told})
        elif record["event"] == "evidence":
            call.setdefault("evidence", []).extend(record.get("files", []))
        elif record["event"] == "same_fault":
            call.setdefault("same_fault", []).append({"at": record.get("at"), **told})
        elif record["event"] == "call_proven":
            call.setdefault("canary", []).append({"at": record.get("at"), **told})
        elif call["attempts"]:
            ended = {"ended": record.get("at"), "outcome": record["event"].removeprefix("call_")}
            call["attempts"][-1] |= {**ended, **told}
        call |= {key: record[key] for key in _OF_THE_CALL if key in record}
    return list(calls.values())


def _read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the records of a journal; a torn line (a death in the middle of a write) is
    skipped."""
    try:
        lines = disk.read(path).splitlines()
    except FileNotFoundError:
        return []
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("event"), str):
            records.append(record)
    return records


def is_cancelled(folder: Path) -> bool:
    """Return whether a person put `cancel` (or cancel.txt) into a run's folder."""
    try:
        return any(is_cancel(entry.name) for entry in disk.entries(folder))
    except OSError:
        return False  # a share that is gone for the moment


def read_source(folder: Path) -> str:
    """Return where in the inbox a run came from, by its journal; '' if that cannot be read."""
    try:
        records = _read_journal(folder / JOURNAL)
    except OSError:
        return ""
    for record in records:
        if record["event"] == "claimed":
            return str(record.get("source", ""))
    return ""


def read_bounded(path: Path, shown_as: str, inside: Path | None = None) -> bytes:
    """Return a job file's bytes. `inside`: a folder above it, below which no link is followed.
    Raises JobError if it is too large or not a plain file (a link, a pipe), OSError."""
    folder = inside or path.parent
    try:
        with open_plain(folder, path.relative_to(folder).as_posix()) as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(MAX_BYTES + 1)
    except SpoolError as error:
        raise unreadable(shown_as, f"the job file {error}") from error
    if (problem := too_large(max(size, len(data)))) is not None:
        raise JobError(shown_as, [problem])
    return data


def images_beside(job_file: Path) -> frozenset[str] | None:
    """Return the files of a job folder, relative to it; None for a job of one file."""
    folder = job_file.parent
    if not is_job_name(job_file.name) or folder.name != JOB_FOLDER:
        return None
    return folder_files(folder)


def unreadable(shown_as: str, why: str) -> JobError:
    """Return the error for a job file that cannot be read at all."""
    return JobError(shown_as, [Problem(0, 0, why)])
