"""Very many points cost no more memory than a few: in a run, in its journal, in run.json and when
it resumes."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from sdwatch.spool import contact_sheets
from sdwatch.spool.run import JOURNAL, Run
from sdwatch.stages.run_end import RunEnd
from sdwatch.webui.http.client import Reply
from tests.support.fakes import Workplace, journal, picture
from tests.support.helpers import FakeClock

JOB = "prompt: a castle ${repeat}\nrepeat: %d\nwidth: 64\nheight: 64\n"
MOST_OF_A_CALL = 2_300
"""Bytes that are kept of a finished call: its id, and the name, the size, the sha256 and the seed
of its picture."""


def peak_of(act: Callable[[], object]) -> int:
    """Return the most memory that this takes, in bytes."""
    gc.collect()
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class Forgetful:
    """A client that keeps nothing."""

    def generate_images(self, stage: str, payload: Mapping[str, Any]) -> Reply:
        """Return one picture."""
        del stage, payload
        return Reply((picture(1),), 0)


@pytest.mark.slow
def test_a_run_keeps_little_of_each_finished_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A page of the contact sheet is bounded by itself.
    monkeypatch.setattr(contact_sheets, "make_sheets", lambda *_: None)

    def run_of(points: int) -> int:
        place = Workplace(tmp_path / str(points))
        runner = place.runner(place.claimed(JOB % points), Forgetful())
        peak = peak_of(lambda: runner.run_to_end(place.spool))
        assert len(list((place.done() / "images").iterdir())) == points
        return peak

    run_of(3)  # what is loaded and cached once
    few, many = run_of(20), run_of(320)
    assert (many - few) / 300 < MOST_OF_A_CALL


def with_calls(place: Workplace, points: int, of: int = 10_000) -> Path:
    """Make a run in working/ with so many finished calls, as its journal would have them."""
    run = place.claimed(JOB % of)
    run.read_job()
    run.plan()
    run.close()
    with open(run.folder / JOURNAL, "a", encoding="utf-8") as file:
        for point in range(1, points + 1):
            file.writelines(json.dumps(record) + "\n" for record in _records(point))
    return run.folder


def _records(point: int) -> list[dict[str, Any]]:
    call = f"p{point}.1.1"
    name = f"run_p{point:04d}_1-txt2img_001-01.png"
    image = {"name": name, "sha256": "0" * 64, "size": 9, "width": 64, "height": 64, "grid": False}
    used = {"model": "m" * 40, "seeds": [point], "sampler": "Euler", "steps": 20}
    return [
        {"at": "t", "event": "call_started", "call": call, "attempt": 1, "incarnation": 1},
        {"at": "t", "event": "call_finished", "call": call, "images": [image], "used": used}
        | {"seconds": 1.5, "values": {"repeat": str(point)}},
    ]


@pytest.mark.slow
def test_a_manifest_of_thousands_of_calls_is_written_call_by_call(tmp_path: Path) -> None:
    sizes = {}
    for points in (100, 3_000):
        place = Workplace(tmp_path / str(points), FakeClock())
        folder = with_calls(place, points)
        run = Run(folder, place.clock)
        run.read_job()
        peak = peak_of(lambda run=run: run.write_manifest("done"))
        manifest = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        calls = manifest["calls"]
        assert [call["call"] for call in calls] == [f"p{n}.1.1" for n in range(1, points + 1)]
        assert calls[7]["attempts"][0]["outcome"] == "finished"
        assert calls[7]["values"] == {"repeat": "8"}
        sizes[points] = ((folder / "run.json").stat().st_size, peak)
    (small, _), (large, peak) = sizes.values()
    assert large < 1.1 * 30 * small, "run.json grows with the number of its calls, not faster"
    assert peak < large / 3, "and is never in memory as a whole"


@pytest.mark.slow
def test_a_run_of_thousands_of_calls_resumes_within_bounds(tmp_path: Path) -> None:
    place = Workplace(tmp_path, FakeClock())
    folder = with_calls(place, 2_999, 3_000)
    opened: list[Run] = []
    peak = peak_of(lambda: opened.append(Run(folder, place.clock)))
    assert peak < 3_000 * MOST_OF_A_CALL
    (run,) = opened
    (folder / "images").mkdir()
    for point in range(1, 3_000):
        name = f"run_p{point:04d}_1-txt2img_001-01.png"
        (folder / "images" / name).write_bytes(b"123456789")
    assert place.runner(run, Forgetful()).run_to_end(place.spool) is RunEnd.DONE
    assert len([r for r in journal(place.done()) if r["event"] == "call_started"]) == 3_000
