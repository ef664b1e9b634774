"""Outputs: the pictures and other files of a run once more, in one folder for all jobs, under names
for people.

They are made before the run is published, and the run's journal says which: first the names of a
few are recorded, then the files are made, then that they are made. A death between any two of these
steps leaves what the next try finds: a file under a recorded name with the same content is ours,
and what was made is not made again, even if somebody has moved it since. Nothing is overwritten.

The folder is the owner's, by the config; a job chooses names below it. If it refuses, the run is
published all the same, and a file beside the runs in working/ says that its outputs are still to be
made: from the published run, at the next start or some minutes later.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from sdwatch.errors import SpoolError
from sdwatch.policy.failure.ledger import Image
from sdwatch.policy.job.outputs.converted import converted
from sdwatch.policy.job.outputs.output_names import FreeNames, is_inside, output_name
from sdwatch.policy.job.outputs.picture import NoPictureError
from sdwatch.policy.job.outputs.result import Format
from sdwatch.policy.queue.run_names import FILES, IMAGES
from sdwatch.spool.folders import Spool
from sdwatch.spool.inside import MAX_PICTURE_BYTES, open_plain
from sdwatch.spool.outputs_to_make import WAITING, OutputsRefusedError, ResultPicture
from sdwatch.spool.run import Run
from sdwatch.system import disk, links, new_files
from sdwatch.system.clock import Clock
from sdwatch.system.reading import pieces_of, read_at_most

_AT_ONCE = 8  # pictures whose names are recorded together; they are in memory if converted


@dataclass(frozen=True)
class WantedOutput:
    """An output to make. `image`: the picture's name in images/, or a name in files/; `name`: of
    the output, relative, without its ending and before it is known whether that is free."""

    image: str
    name: str


def wanted_outputs(
    run: Run, pattern: str, pictures: Sequence[ResultPicture], zone: Any = None
) -> list[WantedOutput]:
    """Return the outputs of a run's result, named by a pattern. `zone`: of the date in a name; None
    for this machine's. The same after every restart: its date is that of the claim."""
    claimed = _time_of(str(run.ledger.claimed.get("at", ""))).astimezone(zone)
    name = run.job.name if run.job else ""
    same = {
        "date": f"{claimed:%Y-%m-%d}", "time": f"{claimed:%H-%M-%S}", "name": name,
        "run": run.run_id,
    }  # fmt: skip
    return [
        WantedOutput(
            picture.image.name,
            output_name(pattern, same | _of_picture(run, number, picture)),
        )
        for number, picture in enumerate(pictures, 1)
    ]


def _time_of(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _of_picture(run: Run, number: int, picture: ResultPicture) -> dict[str, str]:
    image = picture.image
    sides = (image.width, image.height) if isinstance(image, Image) else ("", "")
    values = run.values_of(picture.point) if picture.point else {}
    return {
        "point": f"{picture.point or 1:04d}",
        "stage": picture.stage_name,
        "number": f"{number:04d}",
        "seed": "" if picture.seed is None else str(picture.seed),
        "width": str(sides[0]),
        "height": str(sides[1]),
        **values,
    }


class Outputs:
    """The folder of all outputs. `root`: that of the spool, below which no link is followed."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._is_ours = folder.is_relative_to(root)
        if not self._is_ours:
            links.follow_none_below(folder)

    def make(
        self,
        run: Run,
        wanted: Sequence[WantedOutput],
        format: Format | None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Make those outputs that are not made yet. `check`: called between them, may raise. Raises
        OutputsRefusedError, and OSError where the run's own folder refuses."""
        left = iter([each for each in wanted if each.image not in run.ledger.made])
        with _refusals(self._folder):
            self._check_folder()
        taken = _Taken(self._folder)
        while some := list(islice(left, _AT_ONCE)):
            check()
            with _ONE_AT_A_TIME:
                self._make_some(run, some, format, taken)

    def _check_folder(self) -> None:
        """Make the folder, if it is in the spool. Another one must be there: what lies in the place
        of a share that is not mounted is an empty folder of this machine."""
        if self._is_ours:
            disk.ensure_folder(self._folder)
        elif not disk.is_folder(self._folder):
            message = f"there is no such folder; make it, or mount its disk: {self._folder}"
            raise OutputsRefusedError(message)

    def _make_some(
        self, run: Run, some: Sequence[WantedOutput], format: Format | None, taken: _Taken
    ) -> None:
        files = {each.image: file for each in some if (file := _file_of(run, each.image, format))}
        known = {k: name for k, name in run.ledger.outputs.items() if is_inside(name)}
        new = [each for each in some if each.image not in known and each.image in files]
        with _refusals(self._folder):
            names = {w.image: taken.free(w.name, files[w.image].ending) for w in new}
        if names:
            run.record("outputs_planned", outputs=names)
        folders = set()
        for each in (each for each in some if each.image in files):
            self._make(run, each, files[each.image], taken, is_new=each.image in names)
            folders.add((self._folder / run.ledger.outputs[each.image]).parent)
        for folder in folders:
            with _refusals(self._folder):
                disk.sync_folder(folder)
        run.record("outputs_made", images=[each.image for each in some])

    def _make(
        self, run: Run, each: WantedOutput, file: _File, taken: _Taken, *, is_new: bool
    ) -> None:
        """Make one output under its recorded name; under another one if that is taken by now."""
        while True:
            path = self._folder / run.ledger.outputs[each.image]
            with _refusals(self._folder):
                disk.ensure_folder(path.parent)
                if not is_new:
                    new_files.forget_part(path)
                try:
                    return file.put(path)
                except FileExistsError:
                    if not is_new and file.is_at(path):
                        return
                taken.forget()
                name = taken.free(each.name, file.ending)
            is_new = True
            run.record("outputs_planned", outputs={each.image: name})


_ONE_AT_A_TIME = threading.Lock()
"""Two runs of one monitor choose names in the same folder."""


class _Taken:
    """The names that are taken below the folder of all outputs, each folder read once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: dict[str, FreeNames] = {}

    def forget(self) -> None:
        self._names.clear()

    def free(self, name: str, ending: str) -> str:
        """Return a name that is free, and take it. Raises OSError."""
        above = str(PurePosixPath(name).parent)
        if above not in self._names:
            disk.ensure_folder(self._folder / above)
            there = (entry.name for entry in disk.entries(self._folder / above))
            self._names[above] = FreeNames(there)
        found = self._names[above].take(PurePosixPath(name).name, ending)
        return str(PurePosixPath(above, found))


@dataclass(frozen=True)
class _File:
    """What an output is made of. `source`: the picture in images/; `data`: None where a second name
    for it is enough, or a copy."""

    source: Path
    ending: str
    data: bytes | None

    def put(self, path: Path) -> None:
        """Put it under a name that is free. Raises FileExistsError, OSError."""
        if self.data is not None:
            new_files.write_new(path, self.data)
            return
        try:
            new_files.link(self.source, path)
        except FileExistsError:
            raise
        except OSError:  # another disk, or one without hard links
            new_files.write_new(path, _parts(self.source))

    def is_at(self, path: Path) -> bool:
        """Return whether this is what lies there. Raises OSError."""
        size = disk.look_at(self.source).st_size if self.data is None else len(self.data)
        if not disk.is_file(path) or disk.look_at(path).st_size != size:
            return False
        own = _parts(self.source) if self.data is None else [self.data]
        return _digest(_parts(path)) == _digest(own)


def _parts(path: Path) -> Iterator[bytes]:
    with disk.open_file(path) as file:
        yield from pieces_of(file)


def _digest(parts: Iterable[bytes]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _file_of(run: Run, image: str, format: Format | None) -> _File | None:
    """Return what the output of an image is made of; None if somebody removed it, or it is none.
    Raises OSError."""
    if "/" in image or not is_inside(image):
        return None
    ending = PurePosixPath(image).suffix
    if disk.is_file(run.folder / FILES / image):
        return _File(run.folder / FILES / image, ending, None)
    path = run.folder / IMAGES / image
    if format is None or ending == _ENDINGS[format]:
        return _File(path, ending, None) if disk.is_file(path) else None
    try:
        with open_plain(run.folder, f"{IMAGES}/{image}") as file:
            data = read_at_most(file, MAX_PICTURE_BYTES + 1)
        made, ending = converted(data, format)
    except (FileNotFoundError, SpoolError):
        return None
    except NoPictureError:
        return _File(path, ending, None)
    return _File(path, ending, None if made is data else made)


_ENDINGS = {Format.PNG: ".png", Format.JPEG: ".jpg", Format.WEBP: ".webp"}


@contextmanager
def _refusals(folder: Path) -> Iterator[None]:
    """Turn a refusal of the outputs' folder into OutputsRefusedError."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        why = "a link or a file is in the place of a folder that the names need, below"
        raise OutputsRefusedError(f"{why} {folder}") from error
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise OutputsRefusedError(f"{why}: {folder}") from error


# -- those that are made later


def note_refusal(
    run: Run, spool: Spool, why: str, wanted: Sequence[WantedOutput], format: Format | None
) -> None:
    """Record that outputs are still to be made, so that it can be done once the run is published.
    Raises OSError."""
    rest = {each.image: each.name for each in wanted if each.image not in run.ledger.made}
    disk.touch(spool.working / f"{run.run_id}{WAITING}")
    disk.sync_folder(spool.working)
    run.record("outputs_refused", why=why, rest=rest, format=format)


def make_late(spool: Spool, run_id: str, outputs: Outputs, clock: Clock) -> bool:
    """Make the outputs of a published run that were refused. Return whether nothing is left to do;
    False for a run that is not published yet. Raises OutputsRefusedError, OSError."""
    if disk.is_folder(spool.working / run_id):
        return False
    for folder in (spool.done / run_id, spool.failed / run_id):
        if disk.is_folder(folder):
            run = Run(folder, clock)
            try:
                _make_rest(run, outputs)
            finally:
                run.close()
    disk.remove(spool.working / f"{run_id}{WAITING}")
    return True


def _make_rest(run: Run, outputs: Outputs) -> None:
    refused = [record for record in run.records if record["event"] == "outputs_refused"]
    for record in refused[-1:]:
        rest = record.get("rest")
        rest = rest if isinstance(rest, dict) else {}
        wanted = [WantedOutput(str(k), str(v)) for k, v in rest.items() if is_inside(str(v))]
        known = next((each for each in Format if each == record.get("format")), None)
        outputs.make(run, wanted, known)
        run.update_manifest()
