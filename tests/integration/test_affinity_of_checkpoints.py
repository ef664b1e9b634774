"""Jobs that need the loaded checkpoint go first, and `status` says why; off is the plain order."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from sdwatch.cli.shared.chosen_config import ChosenConfig
from sdwatch.cli.status import status_text
from tests.support.helpers import wait_until
from tests.support.monitored import Monitored, job, journal, monitored


def needs(name: str) -> str:
    return job(override_settings={"sd_model_checkpoint": f"simulated-{name}"})


def order(spool: Monitored) -> list[str]:
    started = sorted((journal(run, "call_started")[0]["at"], run.name) for run in spool.done())
    return [name.split("-")[2] for _, name in started]


def loads(spool: Monitored) -> int:
    stats = requests.get(f"http://127.0.0.1:{spool.port}/simulator/gpu", timeout=10)
    return int(stats.json()["loads"])


@pytest.mark.parametrize(
    ("limit", "expected", "times"), [("10 min", "135246", 2), ("off", "123456", 6)]
)
def test_what_is_loaded_goes_first(tmp_path: Path, limit: str, expected: str, times: int) -> None:
    with monitored(tmp_path, settings={"affinity_max_wait": limit}) as spool:
        hold = spool.spool / "hold"
        hold.touch()
        for number, name in enumerate("ababab", 1):
            spool.drop(f"{number}.yaml", needs(name))
        spool.start()
        wait_until(lambda: len(spool.status().get("next", [])) == 6, 30, "all wait")
        hold.unlink()
        spool.wait_for(done=6)
        assert "".join(order(spool)) == expected
        assert loads(spool) == times


def test_status_says_why_a_job_is_next(tmp_path: Path) -> None:
    with monitored(tmp_path, flags=["--step-time", "0.5"]) as spool:
        spool.drop("1.yaml", needs("a"))
        spool.start()
        spool.wait_posts(1)
        for number, name in enumerate("aba", 2):
            spool.drop(f"{number}.yaml", needs(name))
        why = "its checkpoint is loaded; 1 older job waits for it"
        wait_until(lambda: why in str(spool.status().get("next_because")), 30, "status says it")
        text = status_text(ChosenConfig(spool.config, spool.config_file))
        assert f"next on sim: 4.yaml, because {why}" in text


def test_the_calls_of_two_jobs_do_not_alternate_between_their_checkpoints(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool:
        hold = spool.spool / "hold"
        hold.touch()
        for name in "ab":
            checkpoint = {"sd_model_checkpoint": f"simulated-{name}"}
            spool.drop(f"{name}.yaml", job(n_iter=4, override_settings=checkpoint))
        spool.start()
        wait_until(lambda: len(spool.status().get("next", [])) == 2, 30, "both wait")
        hold.unlink()
        spool.wait_for(done=2)
        assert loads(spool) == 2
