"""A night of one job with very many points: some fail for good, some only once."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.monitor.once import MonitorEnd
from tests.functional.cli import sdwatch
from tests.support.monitored import Monitored, journal, monitored

ROWS = 20
"""Values of the first list of the matrix."""

_FOR_GOOD = ("structured-500", "opaque-500", "vae-decode", "nan", "empty-images")
_ONCE = ("structured-500", "sigkill-mid-step", "truncated-body", "segv", "poisoned", "oom")


@dataclass(frozen=True)
class Night:
    """`points`: how many; `bad`: the numbers of those that fail for good; `once`: of those whose
    first attempt fails."""

    points: int
    bad: frozenset[int]
    once: frozenset[int]

    @property
    def job(self) -> str:
        """Return a matrix with so many points."""
        columns = self.points // ROWS
        lists = {
            "animal": [f"animal{n:03d}" for n in range(ROWS)],
            "place": [f"place{n:03d}" for n in range(columns)],
        }
        matrix = json.dumps(lists)
        return (
            "prompt: a ${animal} in ${place}\nwidth: 64\nheight: 64\nsteps: 2\n"
            f"matrix: {matrix}\n"
        )

    def values(self, point: int) -> tuple[str, str]:
        """Return the values of a point."""
        row, column = divmod(point - 1, self.points // ROWS)
        return f"animal{row:03d}", f"place{column:03d}"

    def faults(self) -> list[dict[str, Any]]:
        """Return the plan of the simulator."""
        rng = random.Random(self.points)
        kinds = [(point, _FOR_GOOD, "always") for point in sorted(self.bad)]
        kinds += [(point, _ONCE, "once") for point in sorted(self.once)]
        return [
            {
                "fault": rng.choice(faults),
                "when": {"prompt": " in ".join(self.values(point)) + "$"},
                "times": times,
            }
            for point, faults, times in kinds
        ]


def night_of(points: int, share: float) -> Night:
    """Return a night. `share`: of the points that a fault meets, half of them only once."""
    rng = random.Random(points)
    met = rng.sample(range(1, points + 1), max(2, round(points * share)))
    half = len(met) // 2
    return Night(points, frozenset(met[half:]), frozenset(met[:half]))


def live_through(night: Night, root: Path) -> tuple[Path, Path]:
    """Let a monitor live through a night, and retry what failed; return the run in failed/ and the
    one in done/. Raises AssertionError where a picture is missing that was possible, or a point
    that failed is not listed by its values."""
    plan = json.dumps(night.faults())
    limit = 60 + 10 * len(night.bad | night.once) + night.points
    with monitored(root, faults=plan, settings={"cooldown": [0.05]}) as spool:
        spool.drop("night.yaml", night.job)
        spool.start(once=True)
        assert spool.ended(limit) is MonitorEnd.EMPTY
        (failed,) = spool.failed()
        _check_first(night, failed, spool)
        (root / "faults.yaml").write_text("[]\n", encoding="utf-8")
        again = sdwatch(
            spool.spool, "retry", failed.name, "--failed", "--config", spool.config_file
        )
        assert again.returncode == ExitCode.OK, again.stderr
        spool.start(once=True)
        assert spool.ended(limit) is MonitorEnd.EMPTY
        (done,) = spool.done()
        assert points_of(done) == sorted(night.bad)
        kept = Path(tempfile.mkdtemp(prefix="night-", dir=root))
        return (
            shutil.copytree(failed, kept / "failed"),
            shutil.copytree(done, kept / "done"),
        )


def _check_first(night: Night, failed: Path, spool: Monitored) -> None:
    wanted = sorted(set(range(1, night.points + 1)) - night.bad)
    assert points_of(failed) == wanted, "a picture that was possible is missing, or made twice"
    envelope = json.loads((failed / "error.json").read_text(encoding="utf-8"))
    listed = {each["number"]: each["values"] for each in envelope["failed_points"]}
    assert sorted(listed) == sorted(night.bad)
    why = (failed / "WHY.txt").read_text(encoding="utf-8")
    for point in night.bad:
        animal, place = night.values(point)
        assert listed[point] == ", ".join(
            f"{name} = a text of {len(value)} characters"
            for name, value in (("animal", animal), ("place", place))
        )
    assert f"{len(night.bad)} of {night.points} points failed" in why
    attempts = [record["call"] for record in journal(failed, "call_started")]
    assert max(map(attempts.count, set(attempts))) <= 3, "two that count, and one after a self-test"
    finished = [record["call"] for record in journal(failed, "call_finished")]
    assert len(finished) == len(set(finished)) == len(wanted)
    assert not spool.working()


def points_of(run: Path) -> Sequence[int]:
    """Return the points of a run's pictures, by their names."""
    names = [path.name for path in (run / "images").iterdir()]
    return sorted(int(name.partition("_p")[2][:4]) for name in names)
