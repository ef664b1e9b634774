"""A short night of kills at random; `python benchmarks/chaos.py` is the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.helpers import UNHURRIED

CHAOS = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


def chaos(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CHAOS), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=110 * UNHURRIED)


def test_whatever_is_killed_when_no_promise_is_broken() -> None:
    ended = chaos("--seed", "4", "--jobs", "7", "--kills", "9")
    assert "9 kills" in ended.stdout, ended.stderr
    assert "no promise was broken" in ended.stdout
    assert ended.returncode == 0


def test_no_promise_is_broken_over_a_comfyui() -> None:
    """Its prompts outlive the monitor: none is lost, none made twice."""
    ended = chaos("--kind", "comfyui", "--seed", "2", "--jobs", "4", "--kills", "5")
    assert "5 kills" in ended.stdout, ended.stderr
    assert "no promise was broken" in ended.stdout
    assert ended.returncode == 0


def test_the_same_seed_gives_the_same_plan_and_another_seed_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    printed = chaos("--seed", "7", "--plan").stdout
    assert printed.count("\n") == 500
    monkeypatch.syspath_prepend(CHAOS.parent)
    from chaos_night import draw

    plans = [draw(seed, 20, 10) for seed in (7, 7, 8)]
    assert plans[0] == plans[1] != plans[2]
