"""A spool, its inbox and its clock for tests of the folders; no monitor, no WebUI."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from sdwatch.policy.job.calls.payload import Call
from sdwatch.spool.arrival import Arrival
from sdwatch.spool.folders import Spool
from sdwatch.spool.inbox import Inbox
from sdwatch.system import failpoints
from sdwatch.system.failpoints import Failpoint
from tests.support.helpers import FakeClock

SETTLE = 2.0
ARRIVAL_TIMEOUT = 60.0
UNFINISHED_TIMEOUT = 30.0
JOB = "prompt: a castle\n"


def made_spool(root: Path, worker: str = "box-1") -> Spool:
    spool = Spool(root / "spool", worker)
    spool.prepare()
    return spool


def inbox_of(spool: Spool, clock: FakeClock) -> Inbox:
    return Inbox(spool.inbox, SETTLE, ARRIVAL_TIMEOUT, clock, UNFINISHED_TIMEOUT)


def settled(inbox: Inbox, clock: FakeClock) -> list[Arrival]:
    """Two scans with the settle time between them."""
    inbox.scan()
    clock.advance(SETTLE)
    return inbox.scan()


def arrival_of(spool: Spool, clock: FakeClock, name: str = "castle.yaml") -> Arrival:
    """A small job that has settled in the inbox."""
    path = spool.inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(JOB)
    return next(a for a in settled(inbox_of(spool, clock), clock) if a.path == path)


def folder_job(spool: Spool, name: str, text: str, *images: str) -> Path:
    """A job folder in the inbox, with small files in place of its images."""
    folder = spool.inbox / name
    folder.mkdir(parents=True)
    (folder / "job.yaml").write_text(text, encoding="utf-8")
    for image in images:
        (folder / image).write_bytes(picture())
    return folder


def picture(kind: str = "PNG", colour: int = 0) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 16), (colour, 0, 0)).save(data, kind)
    return data.getvalue()


def call(number: int = 1, stage: int = 1, kind: str = "txt2img") -> Call:
    return Call(f"{stage}.{number}", stage, number, kind, {}, ())


def homes_of_the_job(spool: Spool) -> list[str]:
    """Each folder of the spool that holds a job file, as `inbox`, `working`, `done`, `failed`."""
    found = []
    for base, _, names in os.walk(spool.root):
        if "job.yaml" in names or "castle.yaml" in names:
            found.append(Path(base).relative_to(spool.root).parts[0])
    return found


class DiedError(BaseException):
    """In place of a kill -9: nothing in the package catches it."""


@contextmanager
def at_effect(number: int, then: Callable[[], BaseException]) -> Iterator[list[str]]:
    """Raise what `then` makes in place of the n-th effect on disk (from 1); gives the labels of
    those that came before, this one included."""
    seen: list[str] = []

    def before(effect: Failpoint) -> None:
        seen.append(f"{effect.label} {effect.path.name}")
        if len(seen) == number:
            raise then()

    original = failpoints.before
    failpoints.before = before
    try:
        yield seen
    finally:
        failpoints.before = original
