"""A job that permits it is made in another way after it ran out of memory: never silently, each
changed call with its own id and its own retry, over deaths of the monitor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sdwatch.errors import SpoolError
from sdwatch.policy.job.calls.payload import Call
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.spool.recorder import RunRecorder
from sdwatch.spool.run import Run
from sdwatch.stages.runner import StageRunner
from sdwatch.system.clock import SystemClock
from sdwatch.webui.http.reply import Reply
from tests.support.helpers import wait_until
from tests.support.monitored import has, job, journal, monitored

FITS = 64 * 64
OOM = f"- {{fault: oom, when: {{prompt: large}}, times: always, above: {FITS}, tiled: 4}}"


def manifest(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_bytes())
    return found


def of_job(name: str, runs: list[Path]) -> Path:
    """Its run; the random digits at the end of another one's id may begin with the same letter."""
    (run,) = [each for each in runs if f"-{name}-" in each.name]
    return run


def started(run: Path) -> list[str]:
    return [record["call"] for record in journal(run, "call_started")]


def rebuilt(run: Path, call_id: str) -> tuple[Call, dict[str, Any]]:
    """A call as `sdwatch replay` sends it again."""
    opened = Run(run, SystemClock())
    recorder = RunRecorder(opened, Redactor(), SystemClock())
    return StageRunner(opened, NoClient(), recorder, clock=SystemClock()).rebuild(call_id)


class NoClient:
    def generate_images(self, stage: str, payload: Any) -> Reply:
        raise AssertionError(f"{stage} is not sent: {len(payload)}")


def test_smaller_batches_make_all_pictures_with_their_names_and_seeds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with monitored(tmp_path, faults=OOM) as spool:
        spool.drop("a.yaml", job("large", batch_size=2, seed=5, oom=["batch"]))
        spool.drop("b.yaml", job("small"))
        spool.start()
        spool.wait_for(done=2)
        run = of_job("a", spool.done())
        assert started(run) == ["1.1", "1.1", "1.1-batch1-1", "1.1-batch1-2"]
        names = sorted(each.name for each in (run / "images").iterdir())
        assert [name.rsplit("_", 1)[1] for name in names] == ["001-01.png", "001-02.png"]
        calls = {each["call"]: each for each in manifest(run)["calls"]}
        assert [step["name"] for step in calls["1.1"]["oom"]] == ["batch1"]
        second = calls["1.1-batch1-2"]
        with Image.open(run / "images" / names[1]) as picture:
            assert "Seed: 6," in picture.info["parameters"]
        assert second["changed"] == {
            "of": "1.1", "step": "batch", "how": "one picture at a time",
        }  # fmt: skip
        assert "1.1 ran out of memory" in second["warnings"][0]["words"]
        assert "1.1 ran out of memory: now one picture at a time" in caplog.text
        assert spool.lane()["hold"] == ""
        call, payload = rebuilt(run, "1.1-batch1-2")
        assert (call.id, payload["batch_size"], payload["seed"]) == ("1.1-batch1-2", 1, 6)
        with pytest.raises(SpoolError, match="all its calls are finished"):
            rebuilt(run, "")


def test_the_next_step_comes_where_one_is_not_enough_and_what_cannot_be_is_said(
    tmp_path: Path,
) -> None:
    """AUTOMATIC1111 without the extension: smaller pictures, in the end of points too."""
    fits = f"- {{fault: oom, when: {{prompt: large}}, times: always, above: {400 * 400}}}"
    with monitored(tmp_path, faults=fits, flags=["--kind", "a1111"]) as spool:
        text = job("${x}", width=512, height=512, oom=["tiled_vae", "size"], steps=1)
        spool.drop("a.yaml", text + "matrix: {x: [large, small]}\n")
        spool.start()
        spool.wait_for(done=1)
        (run,) = spool.done()
        assert started(run) == ["p1.1.1", "p1.1.1", "p1.1.1-384x384-1", "p2.1.1"]
        sizes = {each.name[-24:]: Image.open(each).size for each in (run / "images").iterdir()}
        assert sorted(sizes.values()) == [(384, 384), (512, 512)]
        first = manifest(run)["calls"][0]
        assert first["oom"][0]["skipped"] == "this AUTOMATIC1111 has no script tiled vae"
        smaller = manifest(run)["calls"][1]
        assert smaller["changed"]["how"] == "generated at 384x384 instead of 512x512"


@pytest.mark.parametrize("kind", ["forge", "sdnext"])
def test_a_tiled_vae_is_asked_for_by_the_kinds_that_can(tmp_path: Path, kind: str) -> None:
    with monitored(tmp_path, faults=OOM, flags=["--kind", kind]) as spool:
        spool.drop("a.yaml", job("large", width=128, height=128, steps=2, oom="tiled_vae"))
        spool.start()
        spool.wait_for(done=1)
        (run,) = spool.done()
        assert started(run) == ["1.1", "1.1", "1.1-tiled-1"]


def test_the_end_of_the_ladder_says_what_was_tried_and_blames_the_job(tmp_path: Path) -> None:
    always = "- {fault: oom, when: {prompt: large}, times: always}"
    with monitored(tmp_path, faults=always) as spool:
        spool.drop("a.yaml", job("large", batch_size=2, oom=["batch", "size"]))
        spool.drop("b.yaml", job("large"))
        spool.drop("c.yaml", job("small"))
        spool.start()
        spool.wait_for(done=1, failed=2)
        run = of_job("a", spool.failed())
        assert started(run) == ["1.1", "1.1", "1.1-batch1-1", "1.1-batch1-1"]
        error = json.loads((run / "error.json").read_bytes())
        assert (error["diagnosis"], error["blame"], error["call"]) == (
            "out of memory", "job", "1.1-batch1-1",
        )  # fmt: skip
        assert "also one picture at a time" in (run / "WHY.txt").read_text()
        plain = of_job("b", spool.failed())
        assert started(plain) == ["1.1", "1.1"]  # never without being asked
        assert journal(plain, "oom_step") == []


def test_a_kill_on_the_ladder_repeats_nothing_that_was_finished(tmp_path: Path) -> None:
    with monitored(tmp_path, faults=OOM, flags=["--step-time", "0.2"]) as spool:
        spool.drop("a.yaml", job("large", batch_size=4, steps=2, oom=["batch"]))
        spool.start_process()
        wait_until(has(spool.working, "call_finished", call="1.1-batch1-1"), 120, "one is made")
        spool.kill()
        spool.start_process()
        spool.wait_for(done=1)
        (run,) = spool.done()
        made = [record["call"] for record in journal(run, "call_finished")]
        assert made == [f"1.1-batch1-{number}" for number in (1, 2, 3, 4)]
        assert len(list((run / "images").iterdir())) == 4
        assert started(run).count("1.1-batch1-1") == 1
        assert [record["name"] for record in journal(run, "oom_step")] == ["batch2", "batch1"]
