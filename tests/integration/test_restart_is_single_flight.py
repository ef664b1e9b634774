"""However many want the WebUI restarted, it is restarted once."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from pathlib import Path

import psutil

from sdwatch.lane.lane import Lane
from sdwatch.webui.http.call import Outcome
from sdwatch.webui.http.run_control import RunControl
from tests.support.lanes import lane_of
from tests.support.monitored import Monitored, job, monitored
from tests.support.recorders import recorder_alone

PAYLOAD = {"prompt": "a castle", "width": 64, "height": 64, "steps": 2, "seed": 1}


def lane_on(spool: Monitored) -> AbstractContextManager[Lane]:
    """The lane alone, without a monitor."""
    config = spool.config
    return lane_of(config.webuis[0], spool.state, config.cooldown, wait=False)


def test_eight_runs_at_once_and_a_crash_are_one_restart(tmp_path: Path) -> None:
    plan = "- fault: sigkill-mid-step\n  when: {generation: 1}\n"
    outcomes: list[Outcome] = []
    with monitored(tmp_path, faults=plan) as spool, lane_on(spool) as lane:

        def run() -> None:
            api = lane.api(recorder_alone(), RunControl())
            outcomes.append(api.generate_images_with_recovery("txt2img", PAYLOAD))

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [outcome.ok for outcome in outcomes] == [True] * 8
        assert spool.stats()["starts"] == 2
        assert lane.process.incarnation == 2


def test_a_death_seen_by_a_call_and_by_its_supervisor_is_one_crash(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=["--step-time", "0.1"]) as spool:
        spool.drop("castle.yaml", job(steps=20))
        spool.start()
        spool.wait_posts(1)
        psutil.Process(spool.webui_pid()).kill()
        spool.wait_for(done=1)
        assert len(spool.events("crash")) == 1
        assert spool.stats()["starts"] == 2
