"""A dispatcher and two boxes at a real broker on loopback, each a process with a simulator."""

from __future__ import annotations

import json
from pathlib import Path

import psutil

from sdwatch.policy.failure.recovery import CUT_OFFS
from tests.cluster.machines import Cluster, Machine, cluster, shown
from tests.helpers import wait_until
from tests.monitored import EXTERNAL, job

__all__ = ["cluster"]

SLOW = ("--step-time", "0.3")
CURSED = "- {fault: structured-500, when: {prompt: cursed}, times: always}\n"
FIVE = job("a castle", n_iter=5)


def calls_in(run: Path) -> list[str]:
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return [line["call"] for line in lines if line["event"] == "call_finished"]


def events_in(run: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (run / "journal.jsonl").read_text().splitlines()]


def dispatcher_of(cluster: Cluster) -> Machine:
    """A dispatcher whose own WebUI never comes up."""
    return cluster.machine("dispatcher", "dispatcher", webui=EXTERNAL)


def test_a_jobs_picture_is_drawn_on_the_other_box(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = dispatcher_of(cluster)
        box = cluster.machine("a", "box")
        (dispatcher.site.inbox / "castle.yaml").write_text(job("a castle"))
        run = wait_until(lambda: dispatcher.runs("done"), 60)[0]
        manifest = json.loads((run / "run.json").read_text())
        assert len(dispatcher.images("done")) == 1
        assert manifest["webui"]["box"]
        assert (run / "job.yaml").read_text() == job("a castle")
        assert events_in(run).count("call_finished") == 1
        wait_until(lambda: not box.runs("done"), 30, "the box keeps no copy")
        worker = box.runs("working")[0]
        assert not [path for path in worker.iterdir() if path.is_dir()]


def first_image(dispatcher: Machine) -> Path:
    """Wait until the first call of a run is stored in the shared spool; return the run's folder."""
    return wait_until(lambda: _with_image(dispatcher), 60)


def _with_image(dispatcher: Machine) -> Path | None:
    working = dispatcher.site.spool / "working"
    found = list(working.glob("*/*/images/*.png"))
    return found[0].parent.parent if found else None


def holder(cluster: Cluster, name: str) -> tuple[Machine, Machine]:
    """Return the box that has the run, and the other one."""
    one, two = cluster.machines[1:]
    has = list((one.site.spool / "working").glob(f"*/{name}"))
    return (one, two) if has else (two, one)


def check_once(dispatcher: Machine, count: int = 5) -> Path:
    """Check that one run was published, with each call once in its journal."""
    run = wait_until(lambda: dispatcher.runs("done"), 90, "the run is not published")[0]
    assert not dispatcher.runs("failed")
    assert len(dispatcher.runs("done")) == 1
    assert calls_in(run) == [f"1.{n}" for n in range(1, count + 1)]
    assert len(dispatcher.images("done")) == count
    return run


def test_another_box_resumes_the_run_of_a_box_that_was_killed(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = dispatcher_of(cluster)
        for name in ("a", "b"):
            cluster.machine(name, "box", flags=SLOW)
        (dispatcher.site.inbox / "castle.yaml").write_text(FIVE)
        run = first_image(dispatcher)
        before = calls_in(run)
        victim, other = holder(cluster, run.name)
        victim.kill()
        published = check_once(dispatcher)
        assert "taken_back" in events_in(published)
        log = (other.site.state / "sdwatch.log").read_text()
        for call in before:
            assert f"{run.name}: {call}: sent" not in log, "a finished call was drawn again"


def test_a_box_that_was_frozen_for_longer_than_its_lease_publishes_nothing(
    cluster: Cluster,
) -> None:
    with shown(cluster):
        dispatcher = dispatcher_of(cluster)
        for name in ("a", "b"):
            cluster.machine(name, "box", flags=SLOW)
        (dispatcher.site.inbox / "castle.yaml").write_text(FIVE)
        run = first_image(dispatcher)
        victim, _ = holder(cluster, run.name)
        assert victim.process is not None
        frozen = psutil.Process(victim.process.pid)
        frozen.suspend()
        wait_until(lambda: "taken_back" in events_in(run) if run.exists() else True, 60)
        frozen.resume()
        check_once(dispatcher)
        folders = [victim.site.spool / name for name in ("working", "done", "failed")]
        wait_until(
            lambda: not any(list(f.glob(f"**/{run.name}")) for f in folders),
            30,
            "the box that lost its lease removes its copy",
        )


def test_a_broker_that_is_killed_and_started_again_costs_nothing(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = dispatcher_of(cluster)
        box = cluster.machine("a", "box", flags=SLOW)
        (dispatcher.site.inbox / "castle.yaml").write_text(FIVE)
        run = first_image(dispatcher)
        cluster.stop_broker()
        wait_until(lambda: box.runs("done"), 60, "the box finishes what it has")
        assert not dispatcher.runs("done")
        cluster.start_broker()
        published = check_once(dispatcher)
        assert "taken_back" not in events_in(published)
        assert published.name == run.name


def test_a_dispatcher_that_is_killed_finds_its_runs_again(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = dispatcher_of(cluster)
        box = cluster.machine("a", "box", flags=SLOW)
        (dispatcher.site.inbox / "castle.yaml").write_text(FIVE)
        first_image(dispatcher)
        dispatcher.kill()
        wait_until(lambda: box.runs("done"), 60, "the box goes on")
        dispatcher.start()
        published = check_once(dispatcher)
        assert "taken_back" not in events_in(published)


def test_a_run_that_is_cancelled_here_is_interrupted_there(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = dispatcher_of(cluster)
        box = cluster.machine("a", "box", flags=SLOW)
        (dispatcher.site.inbox / "castle.yaml").write_text(FIVE)
        run = first_image(dispatcher)
        (run / "cancel").touch()
        failed = wait_until(lambda: dispatcher.runs("failed"), 60)[0]
        assert (failed / "WHY.txt").exists()
        assert not dispatcher.runs("done")
        folders = [box.site.spool / name for name in ("working", "done", "failed")]
        wait_until(lambda: not any(list(f.glob(f"**/{run.name}")) for f in folders), 30)


def test_a_job_that_fails_there_is_explained_here(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = dispatcher_of(cluster)
        cluster.machine("a", "box", faults=CURSED)
        (dispatcher.site.inbox / "castle.yaml").write_text(job("a cursed castle"))
        failed = wait_until(lambda: dispatcher.runs("failed"), 90)[0]
        assert (failed / "WHY.txt").exists()
        assert (failed / "stage_failure_payload.json").exists()
        assert json.loads((failed / "error.json").read_text())["attempts"]


def test_a_call_that_kills_each_box_that_gets_it_is_sent_as_often_as_promised(
    cluster: Cluster, tmp_path: Path
) -> None:
    posts = tmp_path / "posts.txt"
    with shown(cluster):
        dispatcher = dispatcher_of(cluster)
        for name in "abcd":
            cluster.machine(name, "box", dies_in_posts=posts, webui=cluster.simulator())
        (dispatcher.site.inbox / "castle.yaml").write_text(FIVE)
        failed = wait_until(lambda: dispatcher.runs("failed"), 90, "the run fails")[0]
        sent = len(posts.read_text().splitlines())
        assert sent == CUT_OFFS + 1, "each of them was cut off, and known to the next box"
        assert calls_in(failed) == []
        assert f"{CUT_OFFS + 1} times" in (failed / "WHY.txt").read_text()


def test_a_call_that_was_sent_before_waits_for_a_broker_that_is_gone(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = dispatcher_of(cluster)
        once = CURSED.replace("always", "1")
        box = cluster.machine("a", "box", flags=SLOW, faults=once)
        (dispatcher.site.inbox / "castle.yaml").write_text(job("a cursed castle"))
        box.site.wait_posts(1)
        cluster.stop_broker()
        copy = wait_until(lambda: list((box.site.spool / "working").glob("*/*/journal.jsonl")), 30)
        wait_until(lambda: "call_failed" in events_in(copy[0].parent), 60)
        box.site.wait_ready(2)
        box.site.two_more_beats()
        assert box.site.stats()["posts"] == 1
        events = events_in(copy[0].parent)
        assert events.count("call_started") - events.count("call_given_up") == 1
        cluster.start_broker()
        check_once(dispatcher, 1)
        assert box.site.stats()["posts"] == 2
