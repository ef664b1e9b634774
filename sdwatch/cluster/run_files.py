"""The files of a run's folder: to the broker, and back."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from sdwatch import system
from sdwatch.cluster.broker import Broker
from sdwatch.cluster.objects import MOST_BYTES
from sdwatch.policy.cluster.entries import StoredFile, files_of, files_to_bytes, is_plain_path
from sdwatch.policy.privacy.printable import printable
from sdwatch.policy.queue.control import is_cancel
from sdwatch.policy.queue.run_names import FILES, IMAGES
from sdwatch.spool.fingerprint import folder_files
from sdwatch.spool.run import JOB_FILE, JOB_FOLDER, JOURNAL, Run
from sdwatch.system import EntryKind, disk
from sdwatch.system.reading import read_at_most

_LIMIT = f"what has more than {MOST_BYTES >> 20} MB cannot be handed over to another machine"
_ON_ALL_SYSTEMS = (
    "what has a name that some system does not take cannot be handed over to another machine"
)
_NOT_EVIDENCE = frozenset({JOB_FILE, JOURNAL, "run.json"})


def store_files(broker: Broker, run: str, folder: Path, names: Iterable[str]) -> list[StoredFile]:
    """Store files of a run's folder; those that are gone are left out. Raises OSError,
    BrokerGoneError."""
    stored = []
    for name in names:
        path = folder / name
        try:
            mtime = disk.look_at(path).st_mtime_ns if name.startswith("job") else 0
            data = _read(path)
        except FileNotFoundError:
            continue
        stored.append(StoredFile(name, broker.objects.store(run, data), len(data), mtime))
    return stored


def store_run(broker: Broker, run: Run) -> str:
    """Store all that a box needs of a run, and return the sha256 of the list. Raises OSError,
    BrokerGoneError."""
    stored = store_files(broker, run.run_id, run.folder, _names_of(run))
    return broker.objects.store(run.run_id, files_to_bytes(stored))


def why_not(run: Run) -> str:
    """Return why a run cannot be handed over because of a file's size or name; '' if it can.
    Raises OSError."""
    for name in _names_of(run):
        if not is_plain_path(name):
            return f"{printable(name)}: {_ON_ALL_SYSTEMS}"
        try:
            size = disk.look_at(run.folder / name).st_size
        except FileNotFoundError:
            continue
        if size > MOST_BYTES:
            return f"{name} has {size >> 20} MB; {_LIMIT}"
    return ""


def _read(path: Path) -> bytes:
    with disk.open_file(path) as file:
        data = read_at_most(file, MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise OSError(errno.EFBIG, _LIMIT, str(path))
    return data


def _names_of(run: Run) -> list[str]:
    """Return the files that a box needs of a run. Raises OSError."""
    folder = run.folder
    names = [JOB_FILE] if disk.is_file(folder / JOB_FILE) else []
    names += [f"{JOB_FOLDER}/{name}" for name in _below(folder / JOB_FOLDER)]
    names += [f"used/{name}" for name in _below(folder / "used")]
    for call in run.ledger.calls.values():
        names += [f"{IMAGES}/{image.name}" for image in call.pictures]
        names += [f"{FILES}/{file.name}" for file in call.files]
    return [*names, *run.ledger.evidence, JOURNAL]


def _below(folder: Path) -> Sequence[str]:
    return sorted(folder_files(folder)) if disk.is_folder(folder) else ()


def fetch_run(broker: Broker, run: str, manifest: str, folder: Path) -> None:
    """Write all stored files of a run into `folder`, which is new. Raises OSError, ValueError,
    MissingObjectError, BrokerGoneError."""
    files = files_of(broker.objects.read(run, manifest))
    disk.ensure_folder(folder)
    for file in files:
        write_file(broker, run, file, folder)
    for name in {file.name.rpartition("/")[0] for file in files}:
        disk.sync_folder(folder / name)


def write_file(broker: Broker, run: str, file: StoredFile, folder: Path) -> None:
    """Write one stored file to its place below `folder`, unless it is there. Raises OSError,
    MissingObjectError, BrokerGoneError."""
    path = folder / file.name
    if file.name.startswith((f"{IMAGES}/", f"{FILES}/")) and _has(path, file):
        return
    disk.ensure_folder(path.parent)
    disk.write(path, broker.objects.read(run, file.sha256))
    if file.mtime_ns:
        os.utime(system.long_path(path), ns=(file.mtime_ns, file.mtime_ns))


def _has(path: Path, file: StoredFile) -> bool:
    """Return whether it is there already. Another box may have made the same call before, whose
    image has the same name, and may have the same size."""
    try:
        if disk.look_at(path).st_size != file.size:
            return False
        return hashlib.sha256(_read(path)).hexdigest() == file.sha256
    except FileNotFoundError:
        return False


def evidence_in(folder: Path) -> list[str]:
    """Return the files that explain how a run went: what lies in its folder itself, but for the
    job, the journal and the manifest. Raises OSError."""
    return [
        entry.name
        for entry in disk.entries(folder)
        if entry.kind is EntryKind.FILE
        and entry.name not in _NOT_EVIDENCE
        and not entry.name.startswith(".")
        and is_plain_path(entry.name)
        and not is_cancel(entry.name)
        and disk.look_at(folder / entry.name).st_size <= MOST_BYTES
    ]
