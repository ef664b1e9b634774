"""OneDrive's files that are online only: a scan leaves them alone, since reading downloads them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sdwatch import system
from sdwatch.policy.job.job import Job
from sdwatch.spool import inbox as inboxes
from sdwatch.spool.inbox import Inbox
from sdwatch.spool.job_file import NOT_LOCAL
from sdwatch.system import Entry, EntryKind, links
from sdwatch.system.file_kinds import file_kind
from tests.spool.spools import ARRIVAL_TIMEOUT, folder_job, inbox_of, made_spool, picture, settled
from tests.support.helpers import FakeClock

OFFLINE, RECALL_ON_OPEN, RECALL_ON_DATA_ACCESS = 0x1000, 0x40000, 0x400000
SKETCH = "stages:\n  - img2img: {prompt: a, init_images: Sketch.png}\n"


class Cloud:
    """Names of files that are online only; it notes which of them were opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.online: set[str] = set()
        self.opened: list[str] = []
        listing, still_written = system.listing, system.is_still_written
        to_read, inside = links.open_to_read, links.open_inside

        def listed(path: str, held: int | None) -> list[Entry]:
            return [
                Entry(e.name, EntryKind.PLACEHOLDER if e.name in self.online else e.kind)
                for e in listing(path, held)
            ]

        def noting(path: Path) -> Path:
            if path.name in self.online:
                self.opened.append(path.name)
            return path

        monkeypatch.setattr(system, "listing", listed)
        monkeypatch.setattr(
            system, "is_still_written", lambda n, h: still_written(str(noting(Path(n))), h)
        )
        monkeypatch.setattr(links, "open_to_read", lambda p: to_read(noting(p)))
        monkeypatch.setattr(
            links, "open_inside", lambda f, n: inside(f, noting(Path(n)).as_posix())
        )


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    return Cloud(monkeypatch)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def inbox(tmp_path: Path, clock: FakeClock) -> Inbox:
    return inbox_of(made_spool(tmp_path), clock)


@pytest.mark.parametrize("attribute", [OFFLINE, RECALL_ON_OPEN, RECALL_ON_DATA_ACCESS])
def test_a_file_whose_content_is_elsewhere_is_a_placeholder(attribute: int) -> None:
    assert file_kind(attribute | 0x20) is EntryKind.PLACEHOLDER
    assert file_kind(0x20 | 0x400) is EntryKind.FILE  # archived, a reparse point: here all the same


@pytest.mark.skipif(os.name != "nt", reason="elsewhere a listing has no such attributes")
def test_a_listing_of_windows_says_it() -> None:
    from sdwatch.system import windows_files

    def entry(attributes: int) -> Any:
        status = SimpleNamespace(st_file_attributes=attributes, st_reparse_tag=0)
        return SimpleNamespace(
            stat=lambda **_: status, is_dir=lambda **_: False, is_file=lambda **_: True
        )

    assert windows_files._kind_of(entry(RECALL_ON_DATA_ACCESS)) is EntryKind.PLACEHOLDER
    assert windows_files._kind_of(entry(0x20)) is EntryKind.FILE


def test_a_job_that_is_online_only_waits_and_is_not_opened(
    cloud: Cloud, inbox: Inbox, clock: FakeClock
) -> None:
    (inbox.root / "castle.yaml").write_text("prompt: a castle\n")
    (inbox.root / "notes.txt").write_text("")
    cloud.online |= {"castle.yaml", "notes.txt"}
    assert settled(inbox, clock) == []
    clock.advance(10 * ARRIVAL_TIMEOUT)
    assert inbox.scan() == []
    assert dict(inbox.reasons()) == {"castle.yaml": NOT_LOCAL}
    assert cloud.opened == []
    cloud.online.clear()
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.job, Job)


def test_a_job_folder_waits_for_its_job_file_and_none_of_its_files_is_taken_for_a_job(
    cloud: Cloud, inbox: Inbox, clock: FakeClock, tmp_path: Path
) -> None:
    folder = folder_job(made_spool(tmp_path), "night", SKETCH, "sketch.png")
    (folder / "other.yaml").write_text("prompt: no job of its own\n")
    cloud.online.add("job.yaml")
    assert settled(inbox, clock) == []
    assert dict(inbox.reasons()) == {"night": NOT_LOCAL}
    assert cloud.opened == []
    cloud.online.clear()
    assert [arrival.source for arrival in settled(inbox, clock)] == ["night"]


def test_a_job_folder_waits_for_an_image_that_is_online_only_however_long(
    cloud: Cloud, inbox: Inbox, clock: FakeClock, tmp_path: Path
) -> None:
    folder = folder_job(made_spool(tmp_path), "night", SKETCH, "sketch.png")
    (folder / "not named.png").write_bytes(picture())
    cloud.online |= {"sketch.png", "not named.png"}
    assert settled(inbox, clock) == []
    clock.advance(10 * ARRIVAL_TIMEOUT)
    assert inbox.scan() == []
    assert dict(inbox.reasons()) == {"night": f"Sketch.png {NOT_LOCAL}"}
    cloud.online.remove("sketch.png")
    (arrival,) = settled(inbox, clock)
    assert isinstance(arrival.job, Job)
    assert cloud.opened == []


def test_what_is_online_only_does_not_keep_once_from_ending(
    cloud: Cloud, inbox: Inbox, clock: FakeClock
) -> None:
    (inbox.root / "castle.yaml").write_text("prompt: a castle\n")
    cloud.online.add("castle.yaml")
    settled(inbox, clock)
    assert inbox.for_a_person == {"castle.yaml"}
    assert list(inboxes.candidates(inbox.root)) == []
