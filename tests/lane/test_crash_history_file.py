"""Same crash history, same cool-down: whoever reads it, whenever, whatever the clock says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sdwatch.lane.crash_history_file import CrashHistoryFile
from sdwatch.policy.lane.crash_history import STABLE_AFTER, CrashHistory, HistoryRecord, IdleFailure
from sdwatch.policy.lane.instant import Instant
from tests.support.helpers import FakeClock

LIST = (5.0, 10.0, 20.0, 40.0)


class Life:
    """A history in its file, and what happens to it, as a lane changes and saves it."""

    def __init__(self, path: Path, clock: FakeClock) -> None:
        self._file = CrashHistoryFile(path, LIST, clock)
        self._clock = clock
        self.value = self._file.value

    @property
    def now(self) -> Instant:
        return Instant(self._clock.wall(), self._clock.boot_time(), self._clock.boot_id())

    def change(self, changed: tuple[CrashHistory, HistoryRecord | None]) -> None:
        self.value, record = changed
        if record is not None:
            self._file.save(record)

    def crashed(self, kind: str) -> float:
        self.change(self.value.crashed(kind, self.now))
        return self.value.entry(self.value.in_a_row)

    def remaining(self) -> float:
        return self.value.remaining(self.now)

    @property
    def crashed_by(self) -> tuple[str, ...]:
        return self.value.crashed_by(self.now)

    def crash_by(self, *runs: str) -> None:
        kind = IdleFailure.CRASHED_REPEATEDLY
        self.change(self.value.crashed(kind, self.now, runs=runs))


Step = Callable[[Life], object]


def crash(history: Life) -> float:
    return history.crashed("crash")


def success(history: Life) -> None:
    history.change(history.value.passed_self_test(history.now))
    history.change(history.value.succeeded(history.now))


def start(history: Life) -> None:
    history.change((history.value, HistoryRecord("start", history.now, {"incarnation": 1})))


def recycle(history: Life) -> None:
    fields = {"incarnation": 1, "reason": "it made 500 calls"}
    history.change((history.value, HistoryRecord("recycled", history.now, fields)))


STABLE = [success] * STABLE_AFTER
# A life, and the cool-down after it.
LIVES: dict[str, tuple[list[Step], float]] = {
    "nothing": ([], 0),
    "one crash": ([crash], 5),
    "three in a row": ([crash, start, crash, start, crash], 20),
    "the last entry repeats": ([crash] * 9, 40),
    "a success in between is not enough": ([crash, success, crash], 10),
    "two successes are not enough": ([crash, success, success, crash], 10),
    "successes that a crash parts are not in a row": (
        [crash, success, success, crash, success, crash], 20,
    ),
    "three successes in a row": ([crash, crash, *STABLE], 0),
    "stable, then a crash": ([crash, crash, *STABLE, crash], 5),
    "recycling is no crash": ([crash, recycle, start, crash], 10),
    "stable twice": ([crash, *STABLE, crash, *STABLE], 0),
}  # fmt: skip


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "crashes.jsonl"


def opened(path: Path, clock: FakeClock) -> Life:
    return Life(path, clock)


def lived(history: Life, steps: list[Step], clock: FakeClock) -> None:
    for step in steps:
        clock.advance(100.0)
        step(history)


@pytest.mark.parametrize(("steps", "cooldown"), LIVES.values(), ids=LIVES.keys())
def test_the_cool_down_after_a_life(
    path: Path, clock: FakeClock, steps: list[Step], cooldown: float
) -> None:
    history = opened(path, clock)
    lived(history, steps, clock)
    assert history.remaining() == cooldown


@pytest.mark.parametrize(("steps", "cooldown"), LIVES.values(), ids=LIVES.keys())
def test_the_same_life_has_the_same_cool_down_after_a_restart_of_the_monitor(
    path: Path, clock: FakeClock, steps: list[Step], cooldown: float
) -> None:
    history = opened(path, clock)
    lived(history, steps, clock)
    again = opened(path, clock)
    assert again.remaining() == history.remaining() == cooldown
    assert again.value.in_a_row == history.value.in_a_row
    assert again.crashed("crash") == history.crashed("crash")


def test_a_restart_of_the_monitor_between_any_two_crashes_changes_nothing(
    path: Path, clock: FakeClock, tmp_path: Path
) -> None:
    steady = opened(tmp_path / "steady.jsonl", clock)
    for _ in range(6):
        clock.advance(3.0)
        restarted = opened(path, clock)
        assert restarted.crashed("crash") == steady.crashed("crash")
        assert restarted.remaining() == steady.remaining()


def test_the_cooldown_runs_down_while_the_monitor_is_away(path: Path, clock: FakeClock) -> None:
    lived(opened(path, clock), [crash, crash], clock)
    clock.advance(4.0)
    assert opened(path, clock).remaining() == 6.0
    clock.advance(60.0)
    assert opened(path, clock).remaining() == 0.0


def test_setting_the_clock_within_one_boot_changes_nothing(path: Path, clock: FakeClock) -> None:
    history = opened(path, clock)
    lived(history, [crash, crash], clock)
    clock.advance(4.0)
    for wall in (0.0, clock.wall_now + 1e9):
        clock.wall_now = wall
        assert history.remaining() == opened(path, clock).remaining() == 6.0


@pytest.mark.parametrize(
    ("set_wrong_by", "left"),
    [(4.0, 6.0), (-1e9, 10.0), (-1.0, 10.0), (1e9, 0.0)],
    ids=["right", "years behind", "a second behind", "years ahead"],
)
def test_across_a_reboot_with_the_clock_set_wrong_it_stays_within_the_entry(
    path: Path, clock: FakeClock, set_wrong_by: float, left: float
) -> None:
    lived(opened(path, clock), [crash, crash], clock)
    clock.reboot(wall=clock.wall_now + set_wrong_by)
    after = opened(path, clock)
    assert after.value.in_a_row == 2
    assert after.remaining() == left
    assert after.crashed("crash") == 20.0
    clock.advance(5.0)
    assert after.remaining() == 15.0


def test_the_history_on_disk_names_each_deadline(path: Path, clock: FakeClock) -> None:
    history = opened(path, clock)
    lived(history, [start, crash, start, crash], clock)
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [record["event"] for record in records] == ["start", "crash", "start", "crash"]
    crashes = [record for record in records if record["event"] == "crash"]
    assert [record["cooldown"] for record in crashes] == [5.0, 10.0]
    assert [record["in_a_row"] for record in crashes] == [1, 2]
    assert all(record["deadline"].endswith("Z") for record in crashes)


def test_a_crash_is_on_disk_before_anything_waits(path: Path, clock: FakeClock) -> None:
    opened(path, clock).crashed("stuck")
    assert json.loads(path.read_text(encoding="utf-8"))["kind"] == "stuck"


@pytest.mark.parametrize(
    "line",
    [
        b'{"event": "crash", "kind": "cra',
        b"\xff\xfe\n",
        b"[1, 2]\n",
        b'{"event": "crash"}\n',
        b"\n",
    ],
    ids=["torn", "not UTF-8", "a list", "without its fields", "empty"],
)
def test_a_line_that_cannot_be_read_is_skipped(
    path: Path, clock: FakeClock, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    lived(opened(path, clock), [crash, crash], clock)
    with open(path, "ab") as file:
        file.write(line)
    history = opened(path, clock)
    assert history.value.in_a_row == 2
    assert "skipped a line that cannot be read" in caplog.text


def test_a_crash_after_a_torn_line_is_not_lost(path: Path, clock: FakeClock) -> None:
    lived(opened(path, clock), [crash], clock)
    with open(path, "ab") as file:
        file.write(b'{"event": "cra')
    lived(opened(path, clock), [crash], clock)
    assert opened(path, clock).value.in_a_row == 2


def test_there_is_no_history_before_the_first_crash(path: Path, clock: FakeClock) -> None:
    history = opened(path, clock)
    assert (history.value.in_a_row, history.remaining()) == (0, 0.0)
    for _ in range(STABLE_AFTER):
        success(history)
    assert not path.exists()


def test_a_history_that_has_grown_for_years_is_shortened_and_means_the_same(
    path: Path, clock: FakeClock
) -> None:
    history = opened(path, clock)
    crash(history)
    crash(history)
    line = path.read_bytes().splitlines()[-1]
    path.write_bytes((line + b"\n") * (2_000_000 // len(line)))
    before = path.stat().st_size
    assert opened(path, clock).remaining() == LIST[-1]
    assert path.stat().st_size < before / 2
    assert opened(path, clock).remaining() == LIST[-1]
    assert path.read_bytes().splitlines()[-1] == line


def test_jobs_that_crashed_it_in_a_row_cost_the_longest_cool_down_whoever_reads_it(
    path: Path, clock: FakeClock
) -> None:
    history = opened(path, clock)
    history.crash_by("run-a", "run-b", "run-c")
    for reader in (history, opened(path, clock)):
        assert reader.crashed_by == ("run-a", "run-b", "run-c")
        assert reader.remaining() == 40
        assert reader.value.needs_self_test
        assert reader.value.in_a_row == 1
    clock.advance(39.0)
    assert opened(path, clock).crashed_by
    clock.advance(1.0)
    for reader in (history, opened(path, clock)):
        assert reader.crashed_by == ()
        assert reader.remaining() == 0


def test_the_longest_cool_down_after_jobs_survives_a_reboot(path: Path, clock: FakeClock) -> None:
    opened(path, clock).crash_by("run-a", "run-b", "run-c")
    clock.reboot(clock.wall_now + 30)
    history = opened(path, clock)
    assert history.remaining() == 10
    assert history.crashed_by == ("run-a", "run-b", "run-c")


def test_a_person_ends_it(path: Path, clock: FakeClock) -> None:
    history = opened(path, clock)
    history.crash_by("run-a")
    history.change(history.value.released(history.now))
    for reader in (history, opened(path, clock)):
        assert reader.crashed_by == ()
        assert reader.remaining() == 0


def test_a_person_ends_no_other_cool_down(path: Path, clock: FakeClock) -> None:
    history = opened(path, clock)
    crash(history)
    history.change(history.value.released(history.now))
    assert history.remaining() > 0


def test_jobs_that_an_earlier_version_noted_are_read(path: Path, clock: FakeClock) -> None:
    at = Instant(clock.wall(), clock.boot_time(), clock.boot_id())
    record = {"event": "suspects", "runs": ["run-a"], "wall": at.wall, "boot": at.boot}
    path.write_text(json.dumps({**record, "boot_id": at.boot_id}) + "\n")
    history = opened(path, clock)
    assert (history.crashed_by, history.remaining()) == (("run-a",), 40)


def test_a_failed_canary_is_doubted_until_one_passes_whatever_came_between(
    path: Path, clock: FakeClock
) -> None:
    history = opened(path, clock)
    history.crashed("failed canary")
    history.crashed("failed start")
    assert opened(path, clock).value.needs_self_test
    history.change(history.value.passed_self_test(history.now))
    assert not opened(path, clock).value.needs_self_test
