"""The files outside of a job that it is read with: the `_defaults.yaml` of the inbox and its
folders, and the config's wildcards. A run keeps a copy of those it uses, so that nothing that
changes meanwhile changes a run."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from sdwatch.errors import JobError, Problem, SpoolError
from sdwatch.policy.job.files.job_files import USED_INBOX, USED_WILDCARDS, Outside
from sdwatch.policy.job.files.near_miss import DEFAULTS
from sdwatch.policy.job.files.wildcards import MOST_BYTES, LineFile
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.job.text.document import MAX_BYTES
from sdwatch.spool.inside import open_plain
from sdwatch.system import disk

FOLDER = "used"
"""Of a run's folder."""


class OutsideFiles:
    """The files outside of the job `source` (relative to the inbox). `used`: what was read of them,
    by name in `used/`. `by_path`: people get whole paths, and not those within the inbox."""

    def __init__(self, rules: JobRules, source: str, *, by_path: bool = False) -> None:
        self.used: dict[str, bytes] = {}
        self._rules = rules
        self._folders = [str(folder) for folder in PurePosixPath(source.replace("\\", "/")).parents]
        self._by_path = by_path

    def outside(self) -> Outside:
        """Return them for the parser."""
        return Outside(self._defaults(), self._wildcard)

    def _defaults(self) -> list[LineFile]:
        inbox = self._rules.inbox
        if inbox is None:
            return []
        files = []
        for folder in self._folders:
            name = DEFAULTS if folder == "." else f"{folder}/{DEFAULTS}"
            shown = str(inbox / name) if self._by_path else name
            read = partial(self._read, inbox, name, f"{USED_INBOX}/{name}", MAX_BYTES)
            files.append(LineFile(shown, read, is_outside=True))
        return files

    def _wildcard(self, name: str) -> LineFile | None:
        folder = self._rules.wildcards
        if folder is None:
            return None
        file = f"{name}.txt"
        shown, used = str(folder / file), f"{USED_WILDCARDS}/{file}"
        read = partial(self._read, folder, file, used, MOST_BYTES)
        try:
            data = read()
        except FileNotFoundError:
            return None
        except SpoolError:
            return LineFile(shown, read, is_outside=True)
        return LineFile(shown, lambda: data, is_outside=True)

    def _read(self, folder: Path, name: str, used: str, most: int) -> bytes:
        """Return the bytes of a file, once read always the same. No link below `folder` is
        followed. Raises SpoolError, OSError."""
        if used not in self.used:
            self.used[used] = read_bounded_text(folder, name, most)
        return self.used[used]


class UsedFiles:
    """The files outside that a run used when it was planned, in its own `folder`. `digests`: by
    name in `used/`. Raises JobError if one is no longer what it was."""

    def __init__(self, folder: Path, digests: Mapping[str, str], source: str) -> None:
        self._files: dict[str, LineFile] = {}
        for name, digest in digests.items():
            try:
                data = read_bounded_text(folder / FOLDER, name, MOST_BYTES)
            except (FileNotFoundError, SpoolError):
                data = b""
            if digest_of(data) != digest:
                message = f"{FOLDER}/{name} in the run's folder was changed, or is gone"
                raise JobError(source, [Problem(0, 0, message)])
            self._files[name] = LineFile(f"{FOLDER}/{name}", partial(bytes, data))

    def outside(self) -> Outside:
        """Return them for the parser."""
        nearest_first = sorted(self._files, key=lambda name: -name.count("/"))
        return Outside(
            [self._files[name] for name in nearest_first if name.endswith(f"/{DEFAULTS}")],
            lambda name: self._files.get(f"{USED_WILDCARDS}/{name}.txt"),
        )


def keep_used(folder: Path, used: Mapping[str, bytes]) -> dict[str, str]:
    """Copy the files that a run uses into its folder, and return their digests. Raises OSError."""
    folders: dict[Path, None] = {folder: None}
    for name, data in used.items():
        path = folder / FOLDER / name
        for parent in reversed(path.relative_to(folder).parents[:-1]):
            if not disk.is_folder(folder / parent):
                disk.make_folder(folder / parent)
            folders[folder / parent] = None
        disk.write(path, data)
    for changed in folders:  # each holds the name of the next
        disk.sync_folder(changed)
    return {name: digest_of(data) for name, data in used.items()}


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of a file in hex."""
    return hashlib.sha256(data).hexdigest()


def read_bounded_text(folder: Path, name: str, most: int) -> bytes:
    """Return the bytes of a file below `folder`. Raises SpoolError if it is too large or not a
    plain file, or where a link is in the way; OSError."""
    with open_plain(folder, name) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise SpoolError(f"has more than {most // 10**6} MB")
    return data
