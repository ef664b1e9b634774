"""A 200 with a broken extension: the picture was made without it, and only the log says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.helpers import wait_until
from tests.support.monitored import job, journal, monitored

EXTENSION = "sd-webui-injected"


def plan(hook: int = 0, stars: int = 1, when: str = "{prompt: cursed}") -> str:
    return (
        f"- fault: extension-raises\n  when: {when}\n  times: always\n"
        f"  hook: {hook}\n  stars: {stars}\n"
    )


def warnings_of(run: Path) -> list[dict[str, Any]]:
    (call,) = json.loads((run / "run.json").read_text(encoding="utf-8"))["calls"]
    found: list[dict[str, Any]] = call.get("warnings", [])
    return found


@pytest.mark.parametrize(
    ("kind", "hook", "stars"),
    [
        ("forge", 0, 1),
        ("forge", 1, 1),
        ("forge", 2, 1),
        ("forge-neo", 0, 1),
        ("a1111", 0, 0),
        ("a1111", 1, 1),
        ("sdnext", 0, 1),
        ("sdnext", 1, 1),
        ("sdnext", 2, 1),
    ],
)
def test_an_extension_that_raised_is_a_warning_with_its_name_and_its_lines(
    tmp_path: Path, kind: str, hook: int, stars: int
) -> None:
    with monitored(tmp_path, flags=("--kind", kind), faults=plan(hook, stars)) as spool:
        spool.drop("castle.yaml", job("a cursed castle"))
        spool.start()
        spool.wait_for(done=1)
        (run,) = spool.done()
        (warning,) = warnings_of(run)
        assert warning["kind"] == "extension"
        assert f'"{EXTENSION}"' in warning["words"]
        assert "ValueError" in warning["words"]
        assert warning["lines"][-1] == "ValueError: injected: no input image is given"
        assert any("injected.py" in line for line in warning["lines"])
        assert journal(run, "call_failed") == []
        wait_until(lambda: EXTENSION in str(spool.lane().get("last_warning")), 20, "status has it")
        assert spool.events("crash") == []


def test_with_checks_extension_fail_it_fails_the_call(tmp_path: Path) -> None:
    settings = {"checks": {"extension": "fail"}}
    with monitored(tmp_path, faults=plan(), settings=settings) as spool:
        spool.drop("castle.yaml", job("a cursed castle"))
        spool.drop("good.yaml", job())
        spool.start()
        spool.wait_for(done=1, failed=1)
        error = json.loads((spool.failed()[0] / "error.json").read_text(encoding="utf-8"))
        assert EXTENSION in error["message"]
        assert "checks: {extension: warn}" in error["advice"]


def test_with_checks_extension_off_nothing_is_reported(tmp_path: Path) -> None:
    settings = {"checks": {"extension": "off"}}
    faults = plan() + "- fault: extension-not-loaded\n  when: {start: 1}\n"
    with monitored(tmp_path, faults=faults, settings=settings) as spool:
        spool.drop("castle.yaml", job("a cursed castle"))
        spool.start()
        spool.wait_for(done=1)
        assert warnings_of(spool.done()[0]) == []
        assert not any(EXTENSION in line for line in spool.told)


@pytest.mark.parametrize("kind", ["forge", "a1111", "sdnext"])
def test_an_extension_that_was_not_loaded_is_reported_once_per_incarnation_and_is_no_jobs_warning(
    tmp_path: Path, kind: str
) -> None:
    faults = "- fault: extension-not-loaded\n  when: {start: 1}\n  times: always\n"
    settings = {"checks": {"extension": "fail"}}
    with monitored(tmp_path, flags=("--kind", kind), faults=faults, settings=settings) as spool:
        for name in ("one", "two"):
            spool.drop(f"{name}.yaml", job())
        spool.start()
        spool.wait_for(done=2)
        assert [warnings_of(run) for run in spool.done()] == [[], []]
        told = [line for line in spool.told if "injected" in line]
        assert len(told) == 1
        assert "ModuleNotFoundError" in told[0]
        wait_until(lambda: "injected" in str(spool.lane().get("last_warning")), 20, "status has it")


def test_a_prompt_that_quotes_such_a_line_is_no_failure(tmp_path: Path) -> None:
    quoted = "*** Error running process: /srv/extensions/x/scripts/y.py"
    with monitored(tmp_path) as spool:
        spool.drop("castle.yaml", job(f"a castle\n{quoted}\n"))
        spool.start()
        spool.wait_for(done=1)
        assert warnings_of(spool.done()[0]) == []
