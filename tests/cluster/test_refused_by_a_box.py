"""What only a box can find (a script of an extension, a node of ComfyUI) is refused there, and
drawn where it can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sdwatch.cluster.remote_run import REFUSAL_STARTS
from sdwatch.errors import JobUnfitError, Problem
from sdwatch.policy.report.envelope import job_envelope
from tests.cluster.machines import Cluster, Machine, cluster, shown
from tests.cluster.test_boxes_as_lanes import beat, box_of, boxes, drop, order, takes_jobs
from tests.cluster.test_cluster import check_once, first_image
from tests.support.helpers import wait_until
from tests.support.monitored import job

__all__ = ["cluster"]

SLOW = ("--step-time", "0.3")
SCRIPT = {"alwayson_scripts": {"Wildcards": {"args": []}}}


def with_script(folder: Path, *flags: str) -> dict[str, Any]:
    """Of a box whose WebUI has the script that the others lack."""
    (folder / "has.yaml").write_text("scripts: [wildcards]\n")
    return {"flags": (*flags, "--has", str(folder / "has.yaml"))}


def refused(dispatcher: Machine, box: Machine) -> bool:
    log = (dispatcher.site.state / "sdwatch.log").read_text()
    return f"taken back from {box.name}: refused" in log


def test_a_job_that_one_box_refuses_is_drawn_by_another_one(
    cluster: Cluster, tmp_path: Path
) -> None:
    with shown(cluster):
        dispatcher = cluster.machine("dispatcher", "dispatcher")
        plain = cluster.machine("plain", "box")
        able = cluster.machine("able", "box", **with_script(tmp_path))
        wait_until(lambda: takes_jobs(dispatcher, plain, able), 60)
        order(dispatcher, "drain", able.name)
        wait_until(lambda: boxes(dispatcher)[able.name]["drained"], 30)
        drop(dispatcher, "castle", job("a castle", **SCRIPT))
        wait_until(lambda: refused(dispatcher, plain), 60)
        wait_until(lambda: "Wildcards" in str(beat(dispatcher)["waiting"]), 30, "it says why")
        order(dispatcher, "resume", able.name)
        assert box_of(dispatcher, "castle") == able.name


def test_a_job_that_all_boxes_refuse_fails_with_what_each_of_them_lacks(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = cluster.machine("dispatcher", "dispatcher")
        both = [cluster.machine(name, "box") for name in ("a", "b")]
        wait_until(lambda: takes_jobs(dispatcher, *both), 60)
        drop(dispatcher, "castle", job("a castle", **SCRIPT))
        failed = wait_until(lambda: dispatcher.runs("failed"), 60)[0]
        why = (failed / "WHY.txt").read_text()
        said = json.loads((failed / "error.json").read_text())["message"]
        for box in both:
            assert box.name in why
            assert said.count(box.name) == 1, said
        assert "Wildcards" in why
        assert said.count("no WebUI here can do this job") == 1, said


def test_a_refusal_starts_as_the_message_that_is_made_of_all() -> None:
    refusal = job_envelope(JobUnfitError("castle.yaml", [Problem(0, 0, "no script")]))
    assert refusal.message.startswith(REFUSAL_STARTS)


def test_a_run_whose_first_calls_are_finished_is_refused_as_well(
    cluster: Cluster, tmp_path: Path
) -> None:
    with shown(cluster):
        dispatcher = cluster.machine("dispatcher", "dispatcher")
        plain = cluster.machine("plain", "box")
        able = cluster.machine("able", "box", **with_script(tmp_path, *SLOW))
        wait_until(lambda: takes_jobs(dispatcher, plain, able), 60)
        order(dispatcher, "drain", plain.name)
        wait_until(lambda: boxes(dispatcher)[plain.name]["drained"], 30)
        drop(dispatcher, "castle", job("a castle", n_iter=5, **SCRIPT))
        first_image(dispatcher)
        able.kill()
        order(dispatcher, "resume", plain.name)
        wait_until(lambda: refused(dispatcher, plain), 60)
        able.start()
        run = check_once(dispatcher)
        assert json.loads((run / "run.json").read_text())["webui"]["box"] == able.name
        assert not dispatcher.runs("failed")
        assert plain.site.stats()["posts"] == 0


def test_a_box_that_got_what_it_lacked_is_asked_again(cluster: Cluster, tmp_path: Path) -> None:
    with shown(cluster):
        dispatcher = cluster.machine("dispatcher", "dispatcher")
        plain, off = (cluster.machine(name, "box") for name in ("plain", "off"))
        wait_until(lambda: takes_jobs(dispatcher, plain, off), 60)
        order(dispatcher, "drain", off.name)
        wait_until(lambda: boxes(dispatcher)[off.name]["drained"], 30)
        drop(dispatcher, "castle", job("a castle", **SCRIPT))
        wait_until(lambda: refused(dispatcher, plain), 60)
        plain.kill()
        plain.site.flags = with_script(tmp_path)["flags"]
        plain.site.write_config()
        plain.start()
        assert box_of(dispatcher, "castle") == plain.name
