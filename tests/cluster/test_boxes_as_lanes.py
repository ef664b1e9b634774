"""Boxes get jobs as lanes do: by their tags, lists and loaded checkpoints; drained and held ones
get none, and a box whose WebUI fails costs no job."""

from __future__ import annotations

import json
from typing import Any

from tests.cluster.machines import Cluster, Machine, cluster, shown
from tests.cluster.test_cluster import check_once, events_in, first_image
from tests.functional.cli import sdwatch
from tests.support.helpers import wait_until
from tests.support.monitored import job

__all__ = ["cluster"]

NO_PICTURES = "- {fault: structured-500, when: {prompt: a}, times: always}\n"


def beat(dispatcher: Machine) -> dict[str, Any]:
    return dispatcher.site.status()


def boxes(dispatcher: Machine) -> dict[str, Any]:
    found: dict[str, Any] = beat(dispatcher).get("cluster", {}).get("boxes", {})
    return found


def takes_jobs(dispatcher: Machine, *machines: Machine) -> bool:
    known = boxes(dispatcher)
    return all(known.get(m.name, {}).get("answers") and known[m.name]["places"] for m in machines)


def drop(dispatcher: Machine, name: str, text: str) -> None:
    (dispatcher.site.inbox / f"{name}.yaml").write_text(text)


def box_of(dispatcher: Machine, name: str) -> str:
    """Wait until a job is done; return the box that made its picture."""

    def published() -> str | None:
        for run in dispatcher.runs("done"):
            if name in run.name:
                return str(json.loads((run / "run.json").read_text())["webui"]["box"])
        assert not dispatcher.runs("failed")
        return None

    return wait_until(published, 60)


def order(dispatcher: Machine, *args: str) -> str:
    config = dispatcher.site.config_file
    ended = sdwatch(dispatcher.site.root, *args, "--cluster", dispatcher.url, "--config", config)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_jobs_go_where_they_may_be_done(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = cluster.machine("dispatcher", "dispatcher")
        plain = cluster.machine("plain", "box")
        big = cluster.machine("big", "box", settings={"tags": ["24gb"]}, webui={"tags": "flux"})
        wait_until(lambda: takes_jobs(dispatcher, plain, big), 60)
        # Tags.
        drop(dispatcher, "large", job("a castle", needs={"tags": ["24gb", "flux"]}))
        assert box_of(dispatcher, "large") == big.name
        # A tag that nobody has: the job waits, and the queue behind it does not.
        drop(dispatcher, "huge", job("a castle", needs={"tags": "48gb"}, priority=9))
        drop(dispatcher, "small", job("a castle"))
        box_of(dispatcher, "small")
        why = 'a machine with the tag "48gb"'
        wait_until(lambda: why in beat(dispatcher)["waiting"].get("huge.yaml", ""), 30)
        # What no box has fails, with its place, before any box is asked.
        drop(dispatcher, "typo", job("a castle", sampler_name="Eulerr"))
        failed = wait_until(lambda: dispatcher.runs("failed"), 60)[0]
        assert 'no sampler "Eulerr"; did you mean "Euler"?' in (failed / "WHY.txt").read_text()
        # Drained.
        assert "gets no more runs" in order(dispatcher, "drain", plain.name)
        wait_until(lambda: boxes(dispatcher)[plain.name]["drained"], 30)
        drop(dispatcher, "other", job("a tower"))
        wait_until(lambda: len(dispatcher.runs("done")) == 3, 60)
        assert box_of_done(dispatcher, "other") == big.name
        # Held: it says so itself.
        order(dispatcher, "hold", big.name)
        wait_until(lambda: "sdwatch hold" in boxes(dispatcher)[big.name]["paused"], 30)
        order(dispatcher, "resume", plain.name)
        wait_until(lambda: takes_jobs(dispatcher, plain), 30)
        drop(dispatcher, "last", job("a bridge"))
        wait_until(lambda: len(dispatcher.runs("done")) == 4, 60)
        assert box_of_done(dispatcher, "last") == plain.name
        status = order(dispatcher, "cluster", "status")
        assert f"{big.name}: held" in status
        assert "tags: 24gb, flux" in status


def box_of_done(dispatcher: Machine, name: str) -> str:
    (run,) = [run for run in dispatcher.runs("done") if name in run.name]
    return str(json.loads((run / "run.json").read_text())["webui"]["box"])


def test_a_job_goes_to_the_box_that_has_its_checkpoint_loaded(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = cluster.machine("dispatcher", "dispatcher")
        machines = [cluster.machine(name, "box") for name in ("a", "b")]
        wait_until(lambda: takes_jobs(dispatcher, *machines), 60)
        early, late = sorted(machines, key=lambda machine: machine.name)  # as they are asked
        order(dispatcher, "drain", early.name)
        wait_until(lambda: boxes(dispatcher)[early.name]["drained"], 30)
        lists = boxes(dispatcher)[late.name]["lanes"][0]["checkpoints"]
        wanted = {"sd_model_checkpoint": lists[1]}
        drop(dispatcher, "first", job("a castle", override_settings=wanted))
        assert box_of(dispatcher, "first") == late.name
        wait_until(lambda: boxes(dispatcher)[late.name]["lanes"][0]["loaded"] == lists[1], 30)
        order(dispatcher, "resume", early.name)
        wait_until(lambda: not boxes(dispatcher)[early.name]["drained"], 30)
        drop(dispatcher, "again", job("a castle", override_settings=wanted))
        assert box_of(dispatcher, "again") == late.name
        # After a restart only the box knows.
        dispatcher.kill()
        dispatcher.start()
        wait_until(lambda: beat(dispatcher).get("queued") == 0, 30)
        wait_until(lambda: takes_jobs(dispatcher, *machines), 60)
        drop(dispatcher, "later", job("a castle", override_settings=wanted))
        assert box_of(dispatcher, "later") == late.name


def test_a_box_that_fails_its_self_test_costs_no_job(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = cluster.machine("dispatcher", "dispatcher")
        broken = cluster.machine("broken", "box", faults=NO_PICTURES)
        wait_until(lambda: takes_jobs(dispatcher, broken), 60)
        for name in ("one", "two", "three"):
            drop(dispatcher, name, job(f"a castle {name}"))
        lane = wait_until(lambda: held_lane(dispatcher, broken), 90)
        assert not lane["ready"]
        good = cluster.machine("good", "box")
        for name in ("one", "two", "three"):
            assert box_of(dispatcher, name) == good.name
        assert not dispatcher.runs("failed")
        runs = broken.site.spool / "working"
        wait_until(lambda: not list(runs.glob("*/*/journal.jsonl")), 30, "it keeps no copy")


def held_lane(dispatcher: Machine, box: Machine) -> dict[str, Any] | None:
    (lane,) = boxes(dispatcher)[box.name]["lanes"]
    return lane if lane["hold"] else None


def test_a_box_that_is_started_while_the_broker_is_gone_remembers_its_hold(
    cluster: Cluster,
) -> None:
    with shown(cluster):
        dispatcher = cluster.machine("dispatcher", "dispatcher")
        box = cluster.machine("a", "box")
        wait_until(lambda: takes_jobs(dispatcher, box), 60)
        order(dispatcher, "hold", box.name)
        wait_until(lambda: "sdwatch hold" in str(beat(box).get("hold")), 30)
        cluster.stop_broker()
        box.kill()
        (box.site.inbox / "own.yaml").write_text(job("a castle"))
        box.start()
        wait_until(lambda: beat(box).get("pid") == box.process.pid, 60)
        box.site.two_more_beats()
        assert "sdwatch hold" in str(beat(box)["hold"])
        assert box.site.stats()["posts"] == 0
        cluster.start_broker()
        wait_until(lambda: boxes(dispatcher)[box.name]["held"], 60)
        order(dispatcher, "resume", box.name)
        wait_until(lambda: box.runs("done"), 60, "the order is the broker's")


def test_a_box_that_is_held_while_it_works_keeps_its_run(cluster: Cluster) -> None:
    with shown(cluster):
        dispatcher = cluster.machine("dispatcher", "dispatcher")
        box = cluster.machine("a", "box", flags=("--step-time", "0.3"))
        wait_until(lambda: takes_jobs(dispatcher, box), 60)
        drop(dispatcher, "castle", job("a castle", n_iter=5))
        run = first_image(dispatcher)
        order(dispatcher, "hold", box.name)
        wait_until(lambda: "sdwatch hold" in boxes(dispatcher)[box.name]["paused"], 30)
        wait_until(lambda: not box.site.lane().get("busy"), 30, "it finishes its call")
        sent = box.site.stats()["posts"]
        box.site.two_more_beats()
        assert box.site.stats()["posts"] == sent < 5
        assert boxes(dispatcher)[box.name]["runs"] == [run.name]
        cluster.machine("b", "box")  # who holds a box knows what is on it
        order(dispatcher, "resume", box.name)
        order(dispatcher, "drain", box.name)
        published = check_once(dispatcher)
        assert json.loads((published / "run.json").read_text())["webui"]["box"] == box.name
        assert "taken_back" not in events_in(published)
