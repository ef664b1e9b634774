"""A proxy that gives calls up after a fixed time while the WebUI behind it continues to generate
(A1111#9722, #10301): two attempts show it, and shorter jobs continue."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sdwatch.webui.http.client import SDWebUIClient
from tests.support.helpers import free_port, wait_until
from tests.support.monitored import EXTERNAL, Monitored, has, job, journal, monitored
from tests.support.proxy import TIMEOUT_PAGE, LimitingProxy, limiting
from tests.webui.sim import Simulator, running

LIMIT = 1.0
LONG = {"steps": 60}  # 3 s at 0.05 s a step
QUICK = {**EXTERNAL, "health": {"interval": 0.2, "timeout": 5, "failures": 100}}


@contextmanager
def behind_a_proxy(
    root: Path, status: int = 504, plan: str = "", page: bytes = TIMEOUT_PAGE
) -> Iterator[tuple[Monitored, LimitingProxy, Simulator]]:
    """A spool whose WebUI is the simulator behind such a proxy."""
    with monitored(root, webui=QUICK, settings={"cooldown": [0.1]}) as spool:
        port = free_port()
        counted = ("--state", str(root / "simulator.json"), "--step-time", "0.05")
        with (
            running(root, *counted, port=port, plan=plan) as sim,
            limiting(spool.port, port, LIMIT, status, page) as proxy,
        ):
            yield spool, proxy, sim
            spool.stop()


def error(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((run / "error.json").read_text(encoding="utf-8"))
    return value


@pytest.mark.parametrize("status", [504, 502, 503, 524])
def test_the_run_fails_after_its_second_attempt_and_names_the_limit(
    tmp_path: Path, status: int
) -> None:
    with behind_a_proxy(tmp_path, status) as (spool, proxy, sim):
        spool.drop("long.yaml", job("a long castle", priority=5, **LONG))
        spool.drop("short.yaml", job("a short castle"))
        spool.start()
        spool.wait_for(done=1, failed=1)
        (run,) = spool.failed()
        told = error(run)
        assert told["diagnosis"] == "busy"
        assert told["blame"] == "machine"
        assert re.search(r"aborts calls after 1(\.\d)? s", told["message"])
        assert "proxy_read_timeout" in told["advice"]
        assert [attempt["status"] for attempt in told["attempts"]] == [status, status]
        why = (run / "WHY.txt").read_text(encoding="utf-8")
        assert re.search(r"after 1(\.\d)? s", why.splitlines()[0])
        generated = [p for p in proxy.given_up if "txt2img" in p]
        assert len(generated) == 2, "no more than two pictures are made for nobody"
        assert spool.stats()["posts"] == 2 + 1
        assert spool.stats()["canaries"] == 0, "a self-test is too short to show it"
        assert not spool.events("crash")
        del sim


OUT_OF_MEMORY = (
    b'{"error": "OutOfMemoryError", "errors": "CUDA out of memory. Tried to allocate 2 GiB"}'
)


def test_a_late_503_that_names_a_crash_starts_the_cool_down_and_no_hold(tmp_path: Path) -> None:
    """The status alone says that somebody gave up waiting, the body says that the WebUI failed."""
    with behind_a_proxy(tmp_path, 503, page=OUT_OF_MEMORY) as (spool, proxy, _):
        spool.drop("long.yaml", job("a long castle", **LONG))
        spool.start()
        spool.wait_for(failed=1)
        (run,) = spool.failed()
        found = error(run)
        assert found["diagnosis"] == "out of memory"
        assert [attempt["status"] for attempt in found["attempts"]] == [503, 503]
        assert "internal error" not in (run / "WHY.txt").read_text(encoding="utf-8")
        assert len([p for p in proxy.given_up if "txt2img" in p]) >= 2


def test_nothing_is_sent_while_the_webui_still_generates_what_the_proxy_gave_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy: list[bool] = []
    generate = SDWebUIClient.generate_images

    with behind_a_proxy(tmp_path) as (spool, _, sim):

        def noting(client: SDWebUIClient, *given: Any, **more: Any) -> Any:
            busy.append(bool(sim.state()["job"]))
            return generate(client, *given, **more)

        monkeypatch.setattr(SDWebUIClient, "generate_images", noting)
        spool.drop("long.yaml", job("a long castle", priority=5, **LONG))
        spool.drop("short.yaml", job("a short castle"))
        spool.start()
        spool.wait_for(done=1, failed=1)
        assert busy == [False] * 3
        assert not sim.state()["interrupted"], "it may be somebody's picture"


def test_a_second_job_of_that_length_has_its_two_attempts_too(tmp_path: Path) -> None:
    with behind_a_proxy(tmp_path) as (spool, proxy, _):
        for name in "ab":
            spool.drop(f"{name}.yaml", job(f"a long castle {name}", **LONG))
        spool.start()
        spool.wait_for(failed=2)
        assert [len(journal(run, "call_started")) for run in spool.failed()] == [2, 2]
        assert len([p for p in proxy.given_up if "txt2img" in p]) == 4


def test_a_call_that_is_short_enough_at_its_second_attempt_is_done(tmp_path: Path) -> None:
    plan = "- {fault: slow-steps, when: {prompt: castle}, times: once, factor: 30}\n"
    with behind_a_proxy(tmp_path, plan=plan) as (spool, _, _sim):
        spool.drop("castle.yaml", job("a castle"))
        spool.start()
        spool.wait_for(done=1)
        (failure,) = journal(spool.done()[0], "call_failed")
        assert (failure["diagnosis"], failure["counted"]) == ("busy", False)


def test_a_monitor_that_is_killed_after_the_first_attempt_remembers_how_long_it_took(
    tmp_path: Path,
) -> None:
    with behind_a_proxy(tmp_path) as (spool, proxy, _):
        spool.drop("long.yaml", job("a long castle", **LONG))
        process = spool.start_process()
        wait_until(has(spool.working, "call_failed"), 30, "the proxy gave it up")
        process.kill()
        assert spool.process is not None
        spool.process.wait()
        spool.process = None
        spool.start()
        spool.wait_for(failed=1)
        assert "after 1 s" in error(spool.failed()[0])["message"]
        assert len([p for p in proxy.given_up if "txt2img" in p]) == 2


def test_a_generation_that_never_advances_does_not_hold_the_lane_forever(tmp_path: Path) -> None:
    """A failed upscale leaves /progress set (measured with Forge dfdcbab6)."""
    plan = "- {fault: hang, when: {prompt: long}, times: once, at: 0.5}\n"
    with behind_a_proxy(tmp_path, plan=plan) as (spool, proxy, _):
        spool.write_webui(stall=2)
        spool.drop("long.yaml", job("a long castle", **LONG))
        spool.start()
        wait_until(lambda: len(proxy.given_up) >= 2, 30, "it was sent once more")
