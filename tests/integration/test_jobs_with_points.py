"""Jobs with several points, through a real monitor: each fails and resumes by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.monitor.once import MonitorEnd
from tests.functional.cli import sdwatch
from tests.support.fakes import picture
from tests.support.helpers import wait_until
from tests.support.monitored import journal, monitored

GRID = 'prompt: "a ${animal}"\nsteps: 2\nmatrix:\n  animal: [cat, owl]\n  cfg_scale: [5, 7]\n'
CURSED = "- {fault: structured-500, when: {prompt: owl}, times: always}\n"
QUICK = {"cooldown": [0.05]}


def manifest(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return found


def images(run: Path) -> list[str]:
    return sorted(path.name.partition("_")[2] for path in (run / "images").iterdir())


def test_a_matrix_of_two_by_two_gives_four_named_pictures(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        spool.drop("grid.yaml", GRID)
        spool.start()
        spool.wait_for(done=1)
        (run,) = spool.done()
    assert images(run) == [f"p000{n}_1-txt2img_001-01.png" for n in (1, 2, 3, 4)]
    calls = manifest(run)["calls"]
    assert [call["values"] for call in calls] == [
        {"animal": animal, "cfg_scale": scale} for animal in ("cat", "owl") for scale in "57"
    ]
    seeds = {tuple(call["used"]["seeds"]) for call in calls}
    assert len(seeds) == 1, "the points of a matrix are compared with the same seed"


def test_points_that_fail_are_listed_and_made_again_alone_with_the_same_seed(
    tmp_path: Path,
) -> None:
    with monitored(tmp_path, faults=CURSED, settings=QUICK) as spool:
        spool.drop("grid.yaml", GRID)
        spool.start(once=True)
        assert spool.ended(120) is MonitorEnd.EMPTY
        (failed,) = spool.failed()
        assert images(failed) == [f"p000{n}_1-txt2img_001-01.png" for n in (1, 2)]
        why = (failed / "WHY.txt").read_text(encoding="utf-8")
        assert why.startswith("2 of 4 points failed; the first: ")
        assert '  point 3 (animal = a text of 3 characters, cfg_scale = "5"): server error: ' in why
        assert '  point 4 (animal = a text of 3 characters, cfg_scale = "7"): server error: ' in why
        made = json.loads((failed / "run.json").read_text(encoding="utf-8"))["calls"]
        assert {"animal": "owl", "cfg_scale": "7"} in [call["values"] for call in made]
        assert "Where:     point 3, stage 1 (txt2img), call 1" in why
        assert f"retry {failed.name} --failed" in why
        assert len(journal(failed, "call_started")) == 2 + 2 * 2

        (tmp_path / "faults.yaml").write_text("[]\n", encoding="utf-8")
        again = sdwatch(
            spool.spool, "retry", failed.name, "--failed", "--config", spool.config_file
        )
        assert again.returncode == ExitCode.OK, again.stderr
        assert "2 points queued again" in again.stdout
        spool.start(once=True)
        assert spool.ended(120) is MonitorEnd.EMPTY
        (done,) = spool.done()
    assert images(done) == [f"p000{n}_1-txt2img_001-01.png" for n in (3, 4)]
    assert manifest(done)["job"]["random_seed"] == manifest(failed)["job"]["random_seed"]


def test_with_on_failure_stop_the_points_after_the_first_that_fails_are_not_made(
    tmp_path: Path,
) -> None:
    with monitored(tmp_path, faults=CURSED, settings=QUICK) as spool:
        spool.drop("grid.yaml", GRID.replace("[cat, owl]", "[owl, cat]") + "on_failure: stop\n")
        spool.start(once=True)
        assert spool.ended(120) is MonitorEnd.EMPTY
        (failed,) = spool.failed()
        assert not list(failed.glob("images/*"))
        assert len(journal(failed, "call_started")) == 2


def test_a_run_that_is_stopped_resumes_at_its_first_unfinished_point(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=("--step-time", "0.1")) as spool:
        spool.drop("grid.yaml", GRID.replace("steps: 2", "steps: 20"))
        spool.start()
        wait_until(lambda: any(journal(r, "call_finished") for r in spool.working()), 60, "one")
        spool.stop()
        (run,) = spool.working()
        finished = {record["call"] for record in journal(run, "call_finished")}
        assert 0 < len(finished) < 4
        spool.start(once=True)
        assert spool.ended(120) is MonitorEnd.EMPTY
        (done,) = spool.done()
    calls = [record["call"] for record in journal(done, "call_finished")]
    assert calls == ["p1.1.1", "p2.1.1", "p3.1.1", "p4.1.1"]
    assert len({tuple(call["used"]["seeds"]) for call in manifest(done)["calls"]}) == 1


def test_a_folder_of_images_makes_a_point_for_each(tmp_path: Path) -> None:
    job = "for_each: 'in/*.png'\nstages:\n- img2img: {prompt: 'like ${image.stem}', steps: 2}\n"
    with monitored(tmp_path) as spool:
        folder = tmp_path / "poses"
        (folder / "in").mkdir(parents=True)
        for number in (1, 2, 10):
            (folder / "in" / f"{number}.png").write_bytes(picture(number))
        (folder / "job.yaml").write_text(job, encoding="utf-8")
        folder.rename(spool.spool / "inbox" / "poses")
        spool.start(once=True)
        assert spool.ended(120) is MonitorEnd.EMPTY
        (done,) = spool.done()
    values = [call["values"] for call in manifest(done)["calls"]]
    assert [each["image"] for each in values] == ["in/1.png", "in/2.png", "in/10.png"]
    assert len({call["used"]["seeds"][0] for call in manifest(done)["calls"]}) == 3


ANIMALS = ("cat", "owl", "fox", "hen", "elk")
PICKED = 'prompt: "a __animal__ by __painter__"\nrepeat: 12\n'


def prompts(run: Path) -> dict[str, str]:
    """Return the prompt in each picture, by the number of its point."""
    found = {}
    for path in (run / "images").iterdir():
        with Image.open(path) as made:
            found[path.name.partition("_")[2][1:5]] = made.info["parameters"].splitlines()[0]
    return found


def with_lists(tmp_path: Path) -> Path:
    """Make a folder of wildcards for the config."""
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "animal.txt").write_text("\n".join(ANIMALS), encoding="utf-8")
    return folder


def changed(folder: Path, inbox: Path) -> None:
    """Change all that a job takes from outside."""
    (folder / "animal.txt").write_text("dog\n", encoding="utf-8")
    (folder / "painter.txt").write_text("nobody\n", encoding="utf-8")
    (inbox / "_defaults.yaml").write_text("steps: 3\nseed: 1\n", encoding="utf-8")


def test_a_run_that_was_killed_picks_the_same_whatever_changed_outside(tmp_path: Path) -> None:
    folder = with_lists(tmp_path)
    settings = {"wildcards": str(folder)}
    with monitored(tmp_path, flags=("--step-time", "0.05"), settings=settings) as spool:
        (spool.inbox / "_defaults.yaml").write_text("steps: 8\nwidth: 64\nheight: 64\n")
        spool.drop("animals.yaml", PICKED)
        spool.start_process()
        wait_until(lambda: any(journal(r, "call_finished") for r in spool.working()), 60, "one")
        spool.kill()
        (run,) = spool.working()
        before = prompts(run)
        changed(folder, spool.inbox)
        spool.start(once=True)
        assert spool.ended(180) is MonitorEnd.EMPTY
        (done,) = spool.done()
        assert spool.waiting() == ["_defaults.yaml"]
    made = prompts(done)
    assert before.items() <= made.items()
    assert len(made) == 12
    names = {prompt.removeprefix("a ").removesuffix(" by __painter__") for prompt in made.values()}
    assert len(names) > 1
    assert names <= set(ANIMALS)
    assert {call["used"]["steps"] for call in manifest(done)["calls"]} == {8}
    assert len({seed for call in manifest(done)["calls"] for seed in call["used"]["seeds"]}) == 12


def test_points_that_are_retried_pick_the_same_whatever_changed_outside(tmp_path: Path) -> None:
    folder = with_lists(tmp_path)
    faults = "- {fault: structured-500, when: {prompt: owl}, times: always}\n"
    settings = {**QUICK, "wildcards": str(folder)}
    with monitored(tmp_path, faults=faults, settings=settings) as spool:
        (spool.inbox / "_defaults.yaml").write_text("steps: 2\nwidth: 64\nheight: 64\n")
        spool.drop("animals.yaml", PICKED + "random_seed: 4\n")
        spool.start(once=True)
        assert spool.ended(180) is MonitorEnd.EMPTY
        (failed,) = spool.failed()
        missing = {f"{n:04d}" for n in range(1, 13)} - prompts(failed).keys()
        assert 0 < len(missing) < 12

        (tmp_path / "faults.yaml").write_text("[]\n", encoding="utf-8")
        changed(folder, spool.inbox)
        again = sdwatch(
            spool.spool, "retry", failed.name, "--failed", "--config", spool.config_file
        )
        assert again.returncode == ExitCode.OK, again.stderr
        assert spool.waiting() == ["_defaults.yaml", "animals"]
        spool.start(once=True)
        assert spool.ended(180) is MonitorEnd.EMPTY
        (done,) = spool.done()
    assert prompts(done) == dict.fromkeys(missing, "a owl by __painter__")
    assert {call["used"]["steps"] for call in manifest(done)["calls"]} == {2}
