"""Every way in which a job comes into the inbox: each is claimed exactly once, complete, and none
is missed; what was still being written when it was claimed is noticed and put right."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from sdwatch import system
from sdwatch.errors import JobUnfitError, Problem
from sdwatch.monitor.intake import Intake
from sdwatch.policy.job.job import parse_job
from sdwatch.spool import job_reader
from sdwatch.spool.folders import Spool
from sdwatch.spool.run import Run
from sdwatch.spool.watch import InboxWatch
from sdwatch.system import failpoints
from sdwatch.system.clock import SystemClock
from sdwatch.system.failpoints import Failpoint
from tests.support.fakes import picture
from tests.support.helpers import PATIENCE, FakeClock, wait_until
from tests.support.monitored import Monitored, job, journal, monitored

SETTLE = 0.4
BURST = 2_000
"""Files at once."""
SKETCH = "stages:\n  - img2img: {init_images: sketch.png, width: 64, height: 64, steps: 2}\n"


@dataclass(frozen=True)
class Drop:
    """A job that came: its source, its job file's text, and how many images it asks for."""

    source: str
    text: str
    images: int = 1


def paced(pieces: list[bytes], write: Callable[[bytes], Any], seconds: float) -> None:
    """Write piece after piece, over so many seconds in all."""
    pace = threading.Event()
    for piece in pieces:
        write(piece)
        pace.wait(seconds / len(pieces))


def unbuffered(path: Path) -> Any:
    return open(path, "wb", buffering=0)


# -- ways of arriving: each gives what is to be found in done/


def rename_in(spool: Monitored) -> list[Drop]:
    text = job("renamed in")
    spool.drop("renamed.yaml", text)
    return [Drop("renamed.yaml", text)]


def a_byte_at_a_time(spool: Monitored) -> list[Drop]:
    text = job("a castle, a byte at a time", batch_size=2)
    with unbuffered(spool.inbox / "bytes.yaml") as file:
        paced([bytes([byte]) for byte in text.encode()], file.write, 3.0)
    return [Drop("bytes.yaml", text, 2)]


def copy_with_its_mtime(spool: Monitored) -> list[Drop]:
    text = job("from last year")
    original = spool.root / "old.yaml"
    original.write_text(text)
    os.utime(original, (1_600_000_000, 1_600_000_000))
    target = spool.inbox / "old.yaml"
    shutil.copyfile(original, target)
    shutil.copystat(original, target)
    return [Drop("old.yaml", text)]


def hard_link(spool: Monitored) -> list[Drop]:
    text = job("linked")
    (spool.root / "mine.yaml").write_text(text)
    for name in ("link.yaml", "second-link.yaml"):
        (spool.inbox / name).hardlink_to(spool.root / "mine.yaml")
    return [Drop("link.yaml", text), Drop("second-link.yaml", text)]


def editors_save(spool: Monitored) -> list[Drop]:
    """Written beside it under a temporary name of the same ending, then renamed over it."""
    text = job("saved", steps=3)
    target, temporary = spool.inbox / "saved.yaml", spool.inbox / ".saved-x1.yaml"
    target.write_text("prompt: sav")
    temporary.write_text(text)
    temporary.replace(target)
    return [Drop("saved.yaml", text)]


def sub_folder_moved_in(spool: Monitored) -> list[Drop]:
    """With sub-folders, and with a job folder among them."""
    folder = spool.root / "ann"
    texts = {name: job(name) for name in ("a.yaml", "night/b.yaml", "night/deep/c.yml")}
    texts["night/sketch/job.yaml"] = SKETCH
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "night/sketch/sketch.png").write_bytes(picture())
    folder.rename(spool.inbox / "ann")
    return [Drop(f"ann/{name}".removesuffix("/job.yaml"), text) for name, text in texts.items()]


def job_folder_renamed_in(spool: Monitored) -> list[Drop]:
    (spool.root / "whole").mkdir()
    (spool.root / "whole" / "job.yaml").write_text(SKETCH)
    (spool.root / "whole" / "sketch.png").write_bytes(picture())
    (spool.root / "whole").rename(spool.inbox / "whole")
    return [Drop("whole", SKETCH)]


def images_after_their_job(spool: Monitored) -> list[Drop]:
    """They come when the monitor already waits for them, and slowly."""
    (spool.inbox / "late").mkdir()
    (spool.inbox / "late" / "job.yaml").write_text(SKETCH)
    wait_until(lambda: waiting(spool).get("late") == "waits for sketch.png", 30, "waits for it")
    data = picture(size=(512, 512))
    pieces = [data[start : start + 100] for start in range(0, len(data), 100)]
    with unbuffered(spool.inbox / "late" / "sketch.png") as file:
        paced(pieces, file.write, 2 * SETTLE)
    return [Drop("late", SKETCH)]


def name_first(spool: Monitored) -> list[Drop]:
    """As Finder and some sync tools write (rtorrent#1757, paperless-ngx#12511)."""
    text = job("its name came first")
    return in_two_parts(spool, "finder.yaml", b"", b"", text)


def room_first(spool: Monitored) -> list[Drop]:
    """As Explorer copies: zero bytes, until the content comes."""
    text = job("its room came first")
    return in_two_parts(spool, "room.yaml", b"", bytes(len(text)), text)


def first_half_first(spool: Monitored) -> list[Drop]:
    text = job('in two "halves"', steps=3)
    return in_two_parts(spool, "halves.yaml", text[: text.index("halves")].encode(), b"", text)


def in_two_parts(spool: Monitored, name: str, first: bytes, room: bytes, text: str) -> list[Drop]:
    """The rest only once the monitor has seen what there is, and has waited. The file is closed
    meanwhile, which is also how one looks that another machine keeps open."""
    with unbuffered(spool.inbox / name) as file:
        file.write(first + room)
    wait_until(lambda: "looks unfinished" in waiting(spool).get(name, ""), 30, "waits for it")
    with open(spool.inbox / name, "r+b", buffering=0) as file:
        file.seek(len(first))
        file.write(text[len(first) :].encode())
    return [Drop(name, text)]


def half_an_image_first(spool: Monitored) -> list[Drop]:
    """A copy that pauses in the middle of an image (paperless-ng#1286)."""
    data = picture(size=(512, 512))
    folder = spool.inbox / "half"
    folder.mkdir()
    (folder / "job.yaml").write_text(SKETCH)
    with unbuffered(folder / "sketch.png") as file:
        file.write(data[: len(data) // 2])
    wait_until(lambda: "looks unfinished" in waiting(spool).get("half", ""), 30, "waits for it")
    with open(folder / "sketch.png", "ab", buffering=0) as file:
        file.write(data[len(data) // 2 :])
    return [Drop("half", SKETCH)]


def ten_times_the_same_name(spool: Monitored) -> list[Drop]:
    """Each as soon as the one before is claimed; every second one the same to the byte. Without
    events each takes a second: three must do."""
    times = 10 if spool.config.watch == "events" else 3
    drops = [Drop("again.yaml", job("again", seed=number % 2)) for number in range(times)]
    for drop in drops:
        spool.drop(drop.source, drop.text)
        wait_until(lambda: "again.yaml" not in spool.waiting(), 30, "it is claimed")
    return drops


def waiting(spool: Monitored) -> dict[str, str]:
    found: dict[str, str] = spool.status().get("waiting", {})
    return found


WAYS: dict[str, Callable[[Monitored], list[Drop]]] = {
    "rename-in": rename_in,
    "a byte at a time": a_byte_at_a_time,
    "mtime set back": copy_with_its_mtime,
    "hard link": hard_link,
    "editor's save": editors_save,
    "sub-folder moved in": sub_folder_moved_in,
    "job folder renamed in": job_folder_renamed_in,
    "images after their job": images_after_their_job,
    "its name first": name_first,
    "its room first": room_first,
    "its first half first": first_half_first,
    "half an image first": half_an_image_first,
    "ten times the same name": ten_times_the_same_name,
}


@dataclass(frozen=True)
class Night:
    """What came, by its way, and the monitor that has dealt with all of it."""

    spool: Monitored
    came: dict[str, list[Drop]]


@pytest.fixture(scope="module", params=["events", "poll"])
def night(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Night]:
    """All ways at once. Where each scan is slow, what looks unfinished is to be seen as that."""
    settings = {"watch": request.param, "settle": SETTLE, "scan_interval": 0.1}
    settings["unfinished_timeout"] = 30 * PATIENCE
    with monitored(tmp_path_factory.mktemp("night"), settings=settings) as spool:
        spool.start()
        spool.wait_ready()
        with ThreadPoolExecutor(len(WAYS)) as writers:
            coming = {name: writers.submit(way, spool) for name, way in WAYS.items()}
            came = {name: arrived.result() for name, arrived in coming.items()}
        spool.wait_for(done=sum(map(len, came.values())))
        spool.two_more_beats()
        yield Night(spool, came)


def manifest(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text())
    return found


def as_dropped(run: Path) -> Drop:
    """What a run in done/ makes of it: the job's file as it lies there, the images that are."""
    job_file = next(f for f in (run / "job.yaml", run / "job" / "job.yaml") if f.exists())
    images = [image for call in manifest(run)["calls"] for image in call["images"]]
    assert all((run / "images" / image["name"]).stat().st_size for image in images)
    return Drop(str(manifest(run)["source"]), job_file.read_text(), len(images))


def went_right(spool: Monitored, expected: list[Drop]) -> bool:
    """Those and no others are in done/, and nothing is left anywhere else."""
    assert Counter(map(as_dropped, spool.done())) == Counter(expected)
    assert not spool.failed() + spool.working()
    return not any(path.is_file() for path in spool.inbox.rglob("*"))


@pytest.mark.parametrize("way", WAYS)
def test_each_is_claimed_once_and_complete(night: Night, way: str) -> None:
    expected = Counter(night.came[way])
    runs = Counter(map(as_dropped, night.spool.done()))
    assert {drop: runs[drop] for drop in expected} == dict(expected)


def test_nothing_else_was_run_failed_or_left_behind(night: Night) -> None:
    drops = [drop for drops in night.came.values() for drop in drops]
    assert went_right(night.spool, drops)
    assert night.spool.stats()["posts"] == len(drops)


# -- still being written when it was claimed


class Writer:
    """Writes the first half of a file in the inbox, and continues through the same descriptor when
    the failpoint hook `after_claim` runs: the claim has just moved the file."""

    def __init__(self, path: Path, first: str, rest: str) -> None:
        self.path, self.drop = path, Drop(path.name, first + rest)
        self._file = unbuffered(path)
        self._file.write(first.encode())
        self._rest = [bytes([byte]) for byte in rest.encode()]
        self._moved = False
        self._thread = threading.Thread(target=self._write_on, args=(self._rest[1:],))

    def after_claim(self, effect: Failpoint) -> None:
        if effect.source == self.path:  # it is about to be moved
            self._moved = True
        elif self._moved and self._rest:
            self._moved = False
            self._file.write(self._rest[0])
            self._thread.start()

    def _write_on(self, pieces: list[bytes]) -> None:
        with self._file:
            paced(pieces, self._file.write, 2 * SETTLE)

    def end(self) -> None:
        with suppress(RuntimeError):  # never begun
            self._thread.join()


def nobody_knows_who_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the writer is on another machine, or another user than the monitor."""
    monkeypatch.setattr(system, "is_still_written", lambda *_: False)


HALVES = {
    "a whole job by itself": ("whole.yaml", job("a castle"), "seed: 3\nsampler_name: Euler\n"),
    "no job by itself": ("half.yaml", job("a castle").removesuffix(": 2\n"), ": 3\nseed: 3\n"),
    "nothing": ("empty.yaml", "", job("a tower")),
}


@pytest.mark.posix_only("an open file can be renamed; on Windows it is claimed once closed")
def test_a_write_after_a_pause_longer_than_the_settle_time_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody_knows_who_writes(monkeypatch)
    settings = {"settle": SETTLE, "unfinished_timeout": SETTLE}
    with monitored(tmp_path, settings=settings) as spool:
        writers = [Writer(spool.inbox / name, first, rest) for name, first, rest in HALVES.values()]

        def before(effect: Failpoint) -> None:
            for writer in writers:
                writer.after_claim(effect)

        monkeypatch.setattr(failpoints, "before", before)
        spool.start()
        spool.wait_for(done=len(writers))
        for writer in writers:
            writer.end()
        assert went_right(spool, [writer.drop for writer in writers])
        seeds = {run["source"]: run["job"]["stages"] for run in map(manifest, spool.done())}
        assert seeds["whole.yaml"][0]["txt2img"]["sampler_name"] == "Euler"
        assert seeds["half.yaml"][0]["txt2img"]["steps"] == 3
        assert not any(Run(run, SystemClock()).is_as_claimed for run in spool.done())
        assert spool.stats()["posts"] == len(writers), "none was run before it was whole"


@pytest.mark.posix_only("an open file can be renamed; on Windows it is claimed once closed")
def test_a_write_to_the_job_during_its_run_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody_knows_who_writes(monkeypatch)
    with monitored(tmp_path, flags=["--step-time", "0.1"], settings={"settle": SETTLE}) as spool:
        drop = Drop("castle.yaml", job("a castle", steps=8) + "seed: 3\nbatch_size: 2\n", 2)
        first, rest = drop.text[:-14], drop.text[-14:]
        with unbuffered(spool.inbox / drop.source) as file:
            file.write(first.encode())
            spool.start()
            spool.wait_posts(1)
            paced([bytes([byte]) for byte in rest.encode()], file.write, SETTLE)
        spool.wait_for(done=1)
        assert went_right(spool, [drop])
        assert journal(spool.done()[0], "job_changed")
        assert manifest(spool.done()[0])["job"]["stages"][0]["txt2img"]["seed"] == 3


def test_a_file_that_a_program_has_open_is_claimed_once_it_is_closed(tmp_path: Path) -> None:
    with monitored(tmp_path, settings={"settle": SETTLE}) as spool:
        drop = Drop("open.yaml", job("a castle") + "seed: 3\n")
        with unbuffered(spool.inbox / drop.source) as file:
            file.write(drop.text[:-8].encode())
            spool.start()
            wait_until(
                lambda: "still writing" in waiting(spool).get("open.yaml", ""), 30, "it waits"
            )
            file.write(drop.text[-8:].encode())
        spool.wait_for(done=1)
        assert went_right(spool, [drop])
        assert not journal(spool.done()[0], "job_changed")


# -- many at once


def test_a_burst_of_150_is_done(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=["--step-time", "0"]) as spool:
        spool.start()
        spool.wait_ready()
        drops = [Drop(f"castle-{number:03}.yaml", job(seed=number)) for number in range(150)]
        for drop in drops:
            (spool.inbox / drop.source).write_text(drop.text)
        spool.wait_for(done=len(drops))
        assert went_right(spool, drops)


def in_memory() -> Path | None:
    """A file system in memory, where there is one with room for a burst: on a disk that others use
    too, to make 60,000 files and to remove them takes minutes."""
    memory = Path("/dev/shm")
    return (
        memory
        if os.name == "posix" and memory.is_dir() and shutil.disk_usage(memory).free > 10**9
        else None
    )


@pytest.fixture
def box() -> Iterator[Monitored]:
    """Only for its config and its folders."""
    with TemporaryDirectory(dir=in_memory()) as root, monitored(Path(root) / "box") as spool:
        yield spool


def losing_events(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All but one event in a hundred are lost, as in a burst that is too much for the system. What
    came."""
    heard: list[Any] = []
    real = InboxWatch.dispatch

    def dispatch(watch: InboxWatch, event: Any) -> None:
        heard.append(event)
        if len(heard) % 100 == 1:
            real(watch, event)

    monkeypatch.setattr(InboxWatch, "dispatch", dispatch)
    return heard


def made_beside(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("prompt: a\n")
    return folder


@pytest.mark.timeout(600)
def test_thousands_at_once_are_claimed_once_each_though_events_are_lost(
    box: Monitored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without generation; and without syncing and parsing each, to save time."""
    heard = losing_events(monkeypatch)
    parsed = parse_job(b"prompt: a\n", "a.yaml")
    monkeypatch.setattr(job_reader, "parse_job", lambda *_, **__: parsed)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    names = [f"{number:04}.yaml" for number in range(BURST)]
    made = made_beside(box.root / "made", names)
    clock = FakeClock()  # stands still while the inbox is scanned: nothing is put off for pace
    spool = Spool(box.spool, "worker")
    spool.prepare()
    intake = Intake(spool, box.config, clock=clock, wake=lambda: None, report=print)
    intake.open()
    with ThreadPoolExecutor(1) as pool:
        burst = pool.submit(lambda: [os.rename(made / name, box.inbox / name) for name in names])
        sources: list[str] = []
        while not burst.done() or any(box.inbox.iterdir()):
            clock.advance(1.0)
            intake.scan()
            while (first := intake.first(lambda _: True)) is not None:
                if (run := intake.claim(first)) is not None:
                    run.close()
                    sources.append(run.source)
    intake.close()
    assert burst.exception() is None
    assert sorted(sources) == names
    assert len(spool.run_folders()) == BURST
    assert heard, "there were events to lose"


@pytest.mark.parametrize(
    ("ready", "took", "next_after"),
    [
        (True, 0.1, 0.5),
        (True, 1.0, 5.0),
        (True, 6.0, 12.0),
        (True, 20.0, 40.0),
        (False, 20.0, 20.0),
    ],
)
def test_a_slow_scan_puts_the_next_one_off_but_never_for_much_longer_than_it_took(
    box: Monitored, monkeypatch: pytest.MonkeyPatch, ready: bool, took: float, next_after: float
) -> None:
    """And not at all while no job is ready: then no lane waits for it."""
    clock, began = FakeClock(), list[float]()

    spool = Spool(box.spool, "worker")
    spool.prepare()
    intake = Intake(spool, box.config, clock=clock, wake=lambda: None, report=print)

    def scan() -> list[Any]:
        monkeypatch.setattr(intake._inbox, "ready", ["castle.yaml"] if ready else [])
        began.append(clock.monotonic())
        clock.advance(took)
        return []

    monkeypatch.setattr(intake._inbox, "scan", scan)
    intake.scan()
    while len(began) < 2:
        intake._scan_wanted = True
        intake.scan()
        clock.advance(0.05)
    assert began[1] - began[0] == pytest.approx(next_after, abs=0.1)


@pytest.mark.parametrize(("took", "scans"), [(0.01, True), (1.9, False)])
def test_no_scan_is_under_way_when_a_job_settles(
    box: Monitored, monkeypatch: pytest.MonkeyPatch, took: float, scans: bool
) -> None:
    """A scan of a large inbox takes long, and the lanes would wait for its end."""
    clock, began = FakeClock(), list[float]()
    spool = Spool(box.spool, "worker")
    spool.prepare()
    box.drop("castle.yaml", job())
    config = box.config.model_copy(update={"settle": 2.0})
    intake = Intake(spool, config, clock=clock, wake=lambda: None, report=print)
    really_scan = intake._inbox.scan

    def scan() -> list[Any]:
        began.append(clock.monotonic())
        found = really_scan()
        clock.advance(took)
        return found

    monkeypatch.setattr(intake._inbox, "scan", scan)
    intake.scan()
    settles_at = began[0] + config.settle
    while clock.monotonic() < settles_at:
        clock.advance(min(intake.pause(), settles_at - clock.monotonic()))
        intake.scan()
    assert (len(began) > 1) is scans
    assert clock.monotonic() <= settles_at + 0.02
    assert intake.first(lambda _: True) is not None


@pytest.mark.posix_only("a link needs no privilege")
def test_a_folder_that_becomes_a_link_again_and_again_is_reported_once(box: Monitored) -> None:
    clock, told = FakeClock(), list[str]()
    spool = Spool(box.spool, "worker")
    spool.prepare()
    folder, link, zz = box.spool / "folder", box.spool / "link", box.inbox / "zz"
    folder.mkdir()
    link.symlink_to(box.spool)
    config = box.config.model_copy(update={"watch": "poll"})
    intake = Intake(spool, config, clock=clock, wake=lambda: None, report=told.append)

    def scan_with(there: Path) -> None:
        there.rename(zz)
        clock.advance(config.scan_interval)
        intake.scan()
        zz.rename(there)

    for _ in range(50):
        scan_with(link)
        scan_with(folder)
    assert told == ["zz: a link is never followed; put the file or folder itself here"]
    for _ in range(int(60 / config.scan_interval) + 1):  # it stays a folder
        scan_with(folder)
    scan_with(link)
    assert len(told) == 2


@pytest.mark.posix_only("Windows keeps the name of a folder that is watched")
def test_an_inbox_that_is_gone_is_logged_once_and_that_it_is_back(
    box: Monitored, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sdwatch.monitor")
    clock = FakeClock()
    spool = Spool(box.spool, "worker")
    spool.prepare()
    intake = Intake(spool, box.config, clock=clock, wake=lambda: None, report=print)
    spool.inbox.rename(spool.root / "old")
    for _ in range(3):
        intake.is_empty_now()
        clock.advance(5)
    (spool.root / "old").rename(spool.inbox)
    intake.is_empty_now()
    gone = f"the inbox cannot be read: No such file or directory: {spool.inbox}"
    assert caplog.messages == [gone, "the inbox can be read again, after 15 s"]


def test_a_job_that_cannot_be_read_is_reported_once_also_where_no_scan_found_that(
    box: Monitored, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shut(path: Path, _: str) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    clock, told = FakeClock(), list[str]()
    spool = Spool(box.spool, "worker")
    spool.prepare()
    box.drop("castle.yaml", job())
    intake = Intake(spool, box.config, clock=clock, wake=lambda: None, report=told.append)
    intake.scan()
    monkeypatch.setattr(job_reader, "read_bounded", shut)
    clock.advance(box.config.settle)
    intake._inbox.take_settled()
    intake.claim_without_lane(lambda _: None, again=False)
    assert told == ["castle.yaml: cannot be read yet: Permission denied"]
    for _ in range(20):
        clock.advance(0.5)
        intake.scan()
        intake.claim_without_lane(lambda _: None, again=False)
    assert len(told) == 1


def test_a_job_that_no_webui_can_do_is_asked_about_again_after_a_refused_claim(
    box: Monitored, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    spool = Spool(box.spool, "worker")
    spool.prepare()
    box.drop("castle.yaml", job())
    intake = Intake(spool, box.config, clock=clock, wake=lambda: None, report=print)
    unfit = JobUnfitError("castle.yaml", [Problem(1, 1, "no such sampler")])

    def ended() -> int:
        intake._scan_wanted = True
        intake.scan()
        claimed = intake.claim_without_lane(lambda _: unfit, again=False)
        for run, _ in claimed:
            run.close()
        return len(claimed)

    def refuses(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("sdwatch.monitor.intake.archive.claim", refuses)
        for _ in range(4):
            assert ended() == 0
            clock.advance(0.5)
    counts = []
    for _ in range(40):
        intake._unasked += intake._inbox.ready  # twice, as where a scan lists it again
        counts.append(ended())
        clock.advance(0.5)
    assert sum(counts) == 1


def test_a_job_that_is_gone_before_it_was_asked_about_is_not_claimed(box: Monitored) -> None:
    clock = FakeClock()
    spool = Spool(box.spool, "worker")
    spool.prepare()
    path = box.drop("castle.yaml", job())
    intake = Intake(spool, box.config, clock=clock, wake=lambda: None, report=print)
    unfit = JobUnfitError("castle.yaml", [Problem(1, 1, "no such sampler")])
    for _ in range(3):
        intake._scan_wanted = True
        intake.scan()
        clock.advance(0.5)
    assert intake._inbox.ready, "it was read, and nobody asked yet"
    path.unlink()
    intake._scan_wanted = True
    intake.scan()
    assert intake.claim_without_lane(lambda _: unfit, again=False) == []


def test_a_near_miss_is_named_once_in_the_log_and_left_where_it_is(tmp_path: Path) -> None:
    with monitored(tmp_path, settings={"settle": SETTLE}) as spool:
        spool.start()
        (spool.inbox / "castle.yaml.txt").write_text(job("a castle"))
        wait_until(lambda: any("castle.yaml.txt" in line for line in spool.told), 30, "named")
        drops = [Drop(f"{number}.yaml", job(f"tower {number}")) for number in range(3)]
        for drop in drops:
            spool.drop(drop.source, drop.text)
        spool.wait_for(done=len(drops))
        assert sum("castle.yaml.txt" in line for line in spool.told) == 1
        assert (spool.inbox / "castle.yaml.txt").read_text() == job("a castle")
        assert not spool.failed()
