"""One run: a folder with the job as it was dropped, its journal, its manifest, its images.

The journal is append-only and synced line by line: what happened, in order, and what a resume
reads. The ledger is what the journal says.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from sdwatch.errors import JournalError
from sdwatch.policy.failure.ledger import Image, Ledger, read_ledger
from sdwatch.policy.job.calls.payload import MAX_SEED, Call, Seeds, counted_on, draw_seeds, point_of
from sdwatch.policy.job.files.job_images import on_disk
from sdwatch.policy.job.job import Job, Stage, parse_job
from sdwatch.policy.job.outputs.picture import MOST_PIXELS, PictureData
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.queue import run_names
from sdwatch.policy.queue.control import is_cancel
from sdwatch.policy.queue.run_names import FILES, IMAGES
from sdwatch.spool import made_files
from sdwatch.spool.fingerprint import digest, fingerprint_of, folder_files
from sdwatch.spool.inside import read_picture, size_of_picture
from sdwatch.spool.job_file import job_file_in, read_beside, read_bounded, unreadable
from sdwatch.spool.journal import each_call, journal_records
from sdwatch.spool.made_files import SavedData
from sdwatch.spool.manifest import outputs_of, read_about, write_manifest
from sdwatch.spool.outside import OutsideFiles, UsedFiles, keep_used
from sdwatch.spool.thumbnails import sweep_thumbnails
from sdwatch.system import disk
from sdwatch.system.clock import Clock, iso

JOURNAL = "journal.jsonl"
JOB_FILE = "job.yaml"
JOB_FOLDER = "job"
NO_WEBUI: Mapping[str, Any] = {}


def new_run_id(name: str, wall: float) -> str:
    """Return a new run's id, see policy/queue/run_names.py. `name`: the job's; `wall`: seconds
    since 1970."""
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
        self._outside: OutsideFiles | UsedFiles | None = None  # what it was read with
        self.seeds: list[Seeds | None] = []
        self._most_pixels = JobRules().max_image
        self._clock = clock
        self.broken: JournalError | None = None
        self.ledger = Ledger()
        self._failures: dict[str, list[Mapping[str, Any]]] = {}  # by call
        try:
            self.ledger = read_ledger(self._noted(journal_records(folder / JOURNAL)))
        except JournalError as error:
            self.broken = error
            claimed = (record for record in self.records if record["event"] == "claimed")
            self.ledger.claimed = dict(next(claimed, {}))
        self._journal_fd: int | None = None
        self._sent_at = 0.0  # the last attempt, on the monotonic clock

    # -- journal

    @property
    def records(self) -> Sequence[Mapping[str, Any]]:
        """Return the journal so far, from the disk: it may be long. Raises OSError."""
        return list(journal_records(self.folder / JOURNAL))

    def failures_of(self, call_id: str) -> Sequence[Mapping[str, Any]]:
        """Return the records of the failed attempts of a call, oldest first."""
        return self._failures.get(call_id, ())

    def _noted(self, records: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Yield records, and keep the failed attempts among them."""
        for record in records:
            if record["event"] == "job_changed":  # those of another job do not count
                self._failures.clear()
            elif record["event"] == "call_failed":
                self._failures.setdefault(str(record.get("call")), []).append(record)
            yield record

    def now(self) -> str:
        """Return the time in the form of the journal."""
        return iso(self._clock.wall())

    def record(self, event: str, /, **data: Any) -> None:
        """Append one line to the journal, synced. Raises OSError."""
        line = {"at": self.now(), "event": event, **data}
        path = self.folder / JOURNAL
        text = json.dumps(line, ensure_ascii=False)
        try:
            if self._journal_fd is None:
                self._journal_fd = disk.open_lines(path)
            disk.append_line(self._journal_fd, disk.encoded(text), path)
        except OSError:
            self.close()  # a file that was open on a share stays broken when the share returns
            raise
        for noted in self._noted([line]):
            self.ledger.apply(noted)
        if event == "call_started":
            self._sent_at = self._clock.monotonic()

    @property
    def seconds(self) -> float:
        """Return the seconds since the last attempt was recorded, and so sent."""
        return round(self._clock.monotonic() - self._sent_at, 3)

    def give_up_calls(self, why: str) -> None:
        """Record that the call under way, if there is one, was given up: else it would count as cut
        short by the monitor's own death. Raises OSError."""
        for call_id, call in self.ledger.calls.items():
            if call.open:
                self.record("call_given_up", call=call_id, why=why, seconds=self.seconds)

    def close(self) -> None:
        """Close the journal; the folder can be renamed then, on Windows too."""
        fd, self._journal_fd = self._journal_fd, None
        if fd is not None:
            with suppress(OSError):  # of a share that went away; every line was synced before
                os.close(fd)

    # -- the job

    @property
    def job_path(self) -> Path | None:
        """Return the job's YAML file in this folder; None where there is none."""
        file = self.folder / JOB_FILE
        return file if disk.is_file(file) else job_file_in(self.folder / JOB_FOLDER)

    @property
    def has_job(self) -> bool:
        """Return whether the claim's rename happened."""
        return disk.exists(self.folder / JOB_FILE) or disk.exists(self.folder / JOB_FOLDER)

    @property
    def source(self) -> str:
        """Return where in the inbox it came from."""
        return str(self.ledger.claimed.get("source", ""))

    @property
    def is_as_claimed(self) -> bool:
        """Return whether the job is still what had settled in the inbox. Raises OSError."""
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
        in_folder = path.parent.name == JOB_FOLDER
        stem = Path(source).name if in_folder else Path(source).stem
        self.job_id = f"{stem}-{hashlib.sha256(data).hexdigest()[:8]}"
        self._most_pixels = rules.max_image
        files = self._files_outside(rules)
        self.job = parse_job(
            data,
            source,
            folder_files(path.parent) if in_folder else None,
            stem,
            rules=rules,
            look=lambda name: size_of_picture(self.folder, f"{JOB_FOLDER}/{name}", rules.max_image),
            read=lambda name: read_beside(self.folder / JOB_FOLDER, name),
            folder=f"{source}/",
            outside=files.outside(),
        )
        self._outside = files
        return self.job

    def _files_outside(self, rules: JobRules) -> OutsideFiles | UsedFiles:
        """Return the files outside of the job that it is read with: those of the first time, once
        the run is planned."""
        if self.ledger.seeds is None:
            return OutsideFiles(rules, self.source)
        return UsedFiles(self.folder, self.ledger.used, self.source)

    def plan(self) -> None:
        """Pick what the job left to chance, once; a resume finds it in the journal: its seeds, or
        of a job with several points the number from which all is picked."""
        job = self.job
        assert job is not None
        if self.ledger.seeds is None:
            random_seed = (
                random.randint(0, MAX_SEED) if job.random_seed is None else job.random_seed
            )
            stages = () if job.points.are_several else job.stages
            drawn = [draw_seeds(s, lambda: random.randint(0, MAX_SEED)) for s in stages]
            seeds = [asdict(s) if s else None for s in drawn]
            more: dict[str, Any] = {} if job.make is None else {"random_seed": random_seed}
            if isinstance(self._outside, OutsideFiles) and self._outside.used:
                more["used"] = keep_used(self.folder, self._outside.used)
            self.record("planned", job_id=self.job_id, seeds=seeds, **more)
        assert self.ledger.seeds is not None
        try:
            self.seeds = [Seeds(**s) if s else None for s in self.ledger.seeds]
            if not job.points.are_several:
                self.seeds[len(job.stages) - 1]
        except (TypeError, IndexError) as error:
            raise JournalError(f"the seeds in the journal cannot be read: {error}") from error

    @property
    def random_seed(self) -> int:
        """Return the random seed for all that is left to chance."""
        return self.ledger.random_seed or 0

    def seeds_of(self, point: int, number: int, stage: Stage) -> Seeds | None:
        """Return the seeds of the stage with this number, at a point."""
        assert self.job is not None
        points = self.job.points
        if not points.are_several:
            return self.seeds[number - 1]
        draw = random.Random(f"{self.random_seed}/{points.chance(point)}/{number}")
        seeds = draw_seeds(stage, lambda: draw.randint(0, MAX_SEED))
        steps = points.seed_steps(point)
        if seeds and stage.workflow and not seeds.drawn:  # nearly each of its files gives one
            steps += points.repetition(point)
        return counted_on(seeds, stage, steps)

    def values_of(self, point: int) -> dict[str, str]:
        """Return the values of a point, as texts."""
        assert self.job is not None
        return {name: value.text for name, value in self.job.points.values(point).items()}

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
        """Return whether somebody removed this folder, while the one above it is there. A share
        that is gone for the moment, or a link in the place of the folder above, is not that."""
        try:
            return disk.is_missing(self.folder)
        except OSError:
            return False

    def lacks_of(self, call_id: str) -> str:
        """Return the name of a file of a finished call that is not there with its recorded size;
        '' where all are."""
        call = self.ledger.call(call_id)
        for folder, made in ((IMAGES, call.pictures), (FILES, call.files)):
            for each in made:
                try:
                    size = disk.look_at(self.folder / folder / each.name).st_size
                except FileNotFoundError:
                    return each.name
                if size != each.size:
                    return each.name
        return ""

    def read_image(self, name: str, own: bool) -> bytes:
        """Return an image that a call needs: the job's own (`own`), or one of the stage before.
        Raises SpoolError if it is not one or leads outside this folder, OSError."""
        folder, most = (JOB_FOLDER, self._most_pixels) if own else (IMAGES, MOST_PIXELS)
        if own and not disk.is_file(self.folder / JOB_FOLDER / name):
            # A script has it as the job wrote it.
            name = on_disk(name, folder_files(self.folder / JOB_FOLDER))
        return read_picture(self.folder, str(PurePosixPath(folder, name)), most)

    def finish_call(
        self,
        call: Call,
        images: Sequence[PictureData],
        grids: int,
        files: Sequence[SavedData] = (),
        **facts: Any,
    ) -> tuple[Image, ...]:
        """Save what a call made as it came, and record the call as finished. Raises OSError."""
        made_files.prepare(self.folder, files=bool(files))
        recorded, others = made_files.save_all(self.folder, call, images, grids, files)
        made = [image.recorded for image in recorded]
        if others:
            facts["other_files"] = [file.recorded for file in others]
        self.record("call_finished", call=call.id, stage=call.kind, images=made, **facts)
        return recorded

    def was_dropped(self, name: str) -> bool:
        """Return whether this image was needed on the way only, and is not kept."""
        calls = self.ledger.calls.values()
        return any(i.name == name and not i.kept for call in calls for i in call.images or ())

    def drop(self, names: Sequence[str]) -> None:
        """Remove images that are not part of the result, once no call needs them any more; first it
        is recorded, so that nobody misses them. Raises OSError; calling it again resumes."""
        calls = self.ledger.calls.values()
        kept = {image.name for call in calls for image in call.pictures}
        if new := [name for name in names if name in kept]:
            self.record("images_dropped", images=new)
        for name in names:
            if disk.exists(self.folder / IMAGES / name):
                disk.remove(self.folder / IMAGES / name)
        disk.sync_folder(self.folder / IMAGES)

    def sweep(self) -> None:
        """Remove files that a death or a full disk left half written, and move images aside that
        are not recorded. Raises OSError."""
        disk.sweep_temporaries(self.folder)
        for name in (IMAGES, FILES):
            disk.sweep_temporaries(self.folder / name)
        sweep_thumbnails(self.folder)
        if not self.broken:  # without a readable journal nothing is known to be left over
            calls = self.ledger.calls.values()
            ours = (f"{self.run_id}_", f"{run_names.image_prefix(self.run_id)}_")
            images = {image.name for call in calls for image in call.images or ()}
            made_files.move_aside(self.folder / IMAGES, ours, images)
            files = {file.name for call in calls for file in call.files}
            made_files.move_aside(self.folder / FILES, ours, files)

    # -- manifest

    def write_manifest(self, outcome: str, webui: Mapping[str, Any] = NO_WEBUI) -> None:
        """Write run.json: what was asked for, what was filled in, and what came out. `webui`: which
        WebUI made it."""
        job = self.job
        several = job is not None and job.make is not None
        about = {
            "run_id": self.run_id,
            "job_id": self.job_id,
            "source": self.ledger.claimed.get("source"),
            "claimed": self.ledger.claimed.get("at"),
            "ended": iso(self._clock.wall()),
            "outcome": outcome,
            "webui": dict(webui),
            "job": job
            and {
                "name": job.name,
                "priority": job.priority,
                "stages": [
                    {stage.kind: stage.texts | (seeds.as_fields() if seeds else {})}
                    for stage, seeds in zip(job.stages, self.seeds or [None] * 100, strict=False)
                ],
                **({"points": len(job.points), "random_seed": self.random_seed} if several else {}),
                **({"used": self.ledger.used} if self.ledger.used else {}),
            },
            "warnings": [p.located(JOB_FILE) for p in job.warnings] if job else [],
            **outputs_of(self.ledger),
        }
        write_manifest(self.folder, about, self._calls())

    def _calls(self) -> Iterator[dict[str, Any]]:
        """Yield what run.json has of each call: what the journal says, with all values of its
        point."""
        path = self.folder / JOURNAL
        for call in () if self.broken else each_call(lambda: journal_records(path)):
            if self.job is not None and (point := point_of(str(call["call"]))):
                call["values"] = self.values_of(point)
            yield call

    def update_manifest(self) -> None:
        """Write into run.json which outputs are made by now. Raises OSError."""
        about = read_about(self.folder)
        if not about:
            return  # somebody edited it
        about.pop("calls", None)  # of a manifest that was written in another form
        write_manifest(self.folder, about | outputs_of(self.ledger), self._calls())


def is_cancelled(folder: Path) -> bool:
    """Return whether a person put `cancel` (or cancel.txt) into a run's folder."""
    try:
        return any(is_cancel(entry.name) for entry in disk.entries(folder))
    except OSError:
        return False  # a share that is gone for the moment


def read_claimed(folder: Path) -> Mapping[str, Any]:
    """Return what a run's journal says of its claim; nothing if that cannot be read."""
    with suppress(OSError):
        records = journal_records(folder / JOURNAL)
        return next((record for record in records if record["event"] == "claimed"), {})
    return {}


def read_source(folder: Path) -> str:
    """Return where in the inbox a run came from, by its journal; '' if that cannot be read."""
    return str(read_claimed(folder).get("source", ""))
