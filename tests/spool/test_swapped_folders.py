"""A folder of the spool is replaced by a link while the monitor, or a command, works in it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from sdwatch.config import RetentionConfig
from sdwatch.errors import SdwatchError
from sdwatch.monitor.retention import Retention
from sdwatch.policy.report.envelope import cancelled_envelope
from sdwatch.spool import after_death, archive, back_to_inbox, commands, takeover
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import Heartbeat
from sdwatch.spool.run import Run
from sdwatch.system import failpoints
from sdwatch.system.failpoints import Failpoint
from sdwatch.system.state_folder import StateFolder
from tests.spool.spools import JOB, arrival_of, call, inbox_of, made_spool, picture, settled
from tests.spool.swaps import AtEffect, Swap
from tests.support.helpers import FakeClock

pytestmark = pytest.mark.posix_only("swaps with symbolic links, which need a privilege on Windows")


@dataclass
class Scene:
    """What an operation works on; `run_id`: of a run that is there already."""

    root: Path
    spool: Spool
    clock: FakeClock
    run_id: str = ""


Operation = Callable[[Scene], Callable[[], object]]
"""Sets the scene; what is returned is done while folders are swapped."""


def claim_a_file(scene: Scene) -> Callable[[], object]:
    arrival = arrival_of(scene.spool, scene.clock, "ann/castle.yaml")
    (scene.spool.inbox / "ann" / "castle.yaml.cancel").touch()
    return lambda: _closed(archive.claim(arrival, scene.spool, scene.clock))


def claim_a_folder(scene: Scene) -> Callable[[], object]:
    folder = scene.spool.inbox / "ann" / "Documents"
    folder.mkdir(parents=True)
    (folder / "job.yaml").write_text(JOB)
    (arrival,) = settled(inbox_of(scene.spool, scene.clock), scene.clock)
    return lambda: _closed(archive.claim(arrival, scene.spool, scene.clock))


def publish(scene: Scene) -> Callable[[], object]:
    run = _claimed(scene)
    run.read_job()
    run.plan()

    def work() -> None:
        try:
            run.finish_call(call(), [picture()], 0)
            archive.publish(run, scene.spool, "failed", cancelled_envelope())
        finally:
            run.close()

    return work


def publish_at_the_start(scene: Scene) -> Callable[[], object]:
    run = _claimed(scene)
    run.record("ended", outcome="done")
    run.close()
    return lambda: after_death.recover(scene.spool, scene.clock)


def sweep(scene: Scene) -> Callable[[], object]:
    folder = scene.spool.working / "20260101-000000.000-castle-0001"
    folder.mkdir()
    run = Run(folder, scene.clock)
    run.record("claimed", source="castle.yaml")
    run.close()
    (scene.spool.inbox / "castle.yaml").write_text(JOB)
    return lambda: after_death.recover(scene.spool, scene.clock)


def retry(scene: Scene) -> Callable[[], object]:
    folder = _published(scene, "job")
    (scene.spool.inbox / "ann").mkdir(exist_ok=True)
    return lambda: back_to_inbox.retry(folder, scene.spool.inbox)


def submit(scene: Scene) -> Callable[[], object]:
    job = scene.root / "sketch"
    (job / "more").mkdir(parents=True)
    (job / "job.yaml").write_text(JOB)
    (job / "more" / "a.png").write_bytes(picture())
    return lambda: commands.submit(job, scene.spool.inbox)


def cancel_a_run(scene: Scene) -> Callable[[], object]:
    run = _claimed(scene)
    run.close()
    return lambda: commands.cancel(run.folder, scene.spool)


def cancel_a_job(scene: Scene) -> Callable[[], object]:
    job = scene.spool.inbox / "ann" / "castle.yaml"
    job.parent.mkdir()
    job.write_text(JOB)
    return lambda: commands.cancel(job, scene.spool)


def retention(scene: Scene) -> Callable[[], object]:
    _published(scene, "job")
    Heartbeat(scene.spool).beat({})
    config = RetentionConfig.model_validate({"failed": {"age": 1}})
    state = StateFolder(scene.root / "state")
    stopping = threading.Event()
    rounds = Retention(
        config, scene.spool, state, clock=scene.clock, report=print, stopping=stopping
    )
    for folder in scene.spool.failed.iterdir():
        os.utime(folder, (1, 1))
    return rounds.round


def take_over(scene: Scene) -> Callable[[], object]:
    other = Spool(scene.spool.root, "box-2")
    other.prepare()
    run = archive.claim(arrival_of(other, scene.clock, "castle.yaml"), other, scene.clock)
    assert run is not None
    run.close()
    (other.working / "heartbeat.json").write_text("{}")

    def work() -> None:
        takeover.take_over("box-2", scene.spool, scene.clock)
        takeover.finish(scene.spool)

    return work


OPERATIONS = (
    claim_a_file, claim_a_folder, publish, publish_at_the_start, sweep, retry, submit, cancel_a_run,
    cancel_a_job, retention, take_over,
)  # fmt: skip


def _closed(run: Run | None) -> None:
    if run is not None:
        run.close()


def _claimed(scene: Scene) -> Run:
    arrival = arrival_of(scene.spool, scene.clock, "castle.yaml")
    run = archive.claim(arrival, scene.spool, scene.clock)
    assert run is not None
    return run


def _published(scene: Scene, name: str) -> Path:
    folder = scene.spool.inbox / "ann" / name
    (folder / "more").mkdir(parents=True)
    (folder / "job.yaml").write_text(JOB)
    (folder / "more" / "a.png").write_bytes(picture())
    (arrival,) = settled(inbox_of(scene.spool, scene.clock), scene.clock)
    run = archive.claim(arrival, scene.spool, scene.clock)
    assert run is not None
    return archive.publish(run, scene.spool, "failed", cancelled_envelope())


@contextmanager
def heard(by: Callable[[Failpoint], None]) -> Iterator[None]:
    original, failpoints.before = failpoints.before, by
    try:
        yield
    finally:
        failpoints.before = original


def scene_in(root: Path, operation: Operation) -> tuple[Scene, Callable[[], object]]:
    root.mkdir()
    scene = Scene(root, made_spool(root), FakeClock())
    return scene, operation(scene)


def folders_at_each_effect(root: Path, operation: Operation) -> list[list[Path]]:
    """Which folders there are at each effect of an operation that nobody disturbs."""
    scene, work = scene_in(root, operation)
    seen: list[list[Path]] = []
    with heard(lambda _: seen.append(folders_of(scene.spool))):
        work()
    return seen


def folders_of(spool: Spool) -> list[Path]:
    """All folders of a spool but its root, by their paths in it."""
    found = [Path(base, name) for base, names, _ in os.walk(spool.root) for name in names]
    return sorted(path.relative_to(spool.root) for path in found)


def jobs_in(spool: Spool) -> list[str]:
    """Whoever holds the job, byte for byte, under whatever names."""
    return sorted(
        str(path.relative_to(spool.root))
        for path in spool.root.rglob("*")
        if path.is_file() and not path.is_symlink() and path.read_bytes() == JOB.encode()
    )


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.__name__)
def test_a_folder_that_becomes_a_link_at_any_effect_is_not_followed(
    tmp_path: Path, operation: Operation
) -> None:
    effects = folders_at_each_effect(tmp_path / "count", operation)
    assert effects
    tried = 0
    for number, seen in enumerate(effects, 1):
        for at, pattern in enumerate(dict.fromkeys(map(_without_time, seen))):
            swapped_at(tmp_path / f"{number}-{at}", operation, number, pattern)
            tried += 1
        for path in tmp_path.glob(f"{number}-*"):
            shutil.rmtree(path)
    assert tried >= len(effects)


def _without_time(path: Path) -> tuple[str, ...]:
    """The parts of a path; a run's own name, which has the time in it, is `RUN`."""
    return tuple("RUN" if archive_name(part) else part for part in path.parts)


def archive_name(part: str) -> bool:
    return (
        (part.startswith("20") and "-castle-" in part) or "-job-" in part or "-documents-" in part
    )


def swapped_at(root: Path, operation: Operation, number: int, pattern: tuple[str, ...]) -> None:
    """One folder becomes a link at the n-th effect."""
    scene, work = scene_in(root, operation)
    outside = root / "outside"
    outside.mkdir()
    swap: Swap | None = None

    def hear(effect: Failpoint) -> None:
        nonlocal swap
        points(effect)
        if len(points.labels) == number:
            fits = (p for p in folders_of(scene.spool) if _without_time(p) == pattern)
            if (found := next(fits, None)) is not None:
                swap = Swap(scene.spool.root / found, outside)
                swap.make()

    points = AtEffect(0)
    before = len(jobs_in(scene.spool))
    with heard(hear), suppress(OSError, SdwatchError):
        work()
    where = f"{operation.__name__}, effect {number} ({points.labels[number - 1]}), {pattern}"
    if swap is not None:
        try:
            swap.check()
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}") from error
        swap.undo()
    assert len(jobs_in(scene.spool)) >= before or operation is retention, f"{where}: lost"
