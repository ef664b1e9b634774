"""With noise in place of every text for people, sdwatch decides as it always does. See noise.py."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from functools import cache
from typing import Any

import pytest

from tests.support.noise import MODES, PACKAGE, Noise


@cache
def decided(mode: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.noise", mode],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("mode", MODES[1:])
def test_no_decision_changes_when_all_texts_for_people_are_noise(mode: str) -> None:
    assert decided(mode) == decided("plain")


def run(source: str, mode: str) -> dict[str, Any]:
    """The names of a module with noise in it."""
    tree = ast.fix_missing_locations(
        Noise(mode, set(), itertools.count(1)).visit(ast.parse(source))
    )
    names: dict[str, Any] = {}
    exec(compile(tree, "module.py", "exec"), names)
    return names


SEARCHED = """
NO_ROOM = "less than min_free"
def holds(megabytes):
    return NO_ROOM in f"{megabytes} MB free on the disk, less than min_free"
decided = holds(5)
"""
COMPARED = """
TROUBLES = {"busy": "it is busy for now", "dead": "it is dead for good"}
decided = TROUBLES["busy"] != TROUBLES["dead"]
"""
BY_VALUE = """
from enum import Enum
class Trouble(Enum):
    BUSY = "it is busy for now"
    DEAD = "it is dead for good"
decided = Trouble.BUSY is not Trouble.DEAD and bool(Trouble.BUSY.value)
"""


@pytest.mark.parametrize(("source", "mode"), [(SEARCHED, "different"), (COMPARED, "same")])
def test_a_text_that_decides_is_found(source: str, mode: str) -> None:
    assert run(source, mode)["decided"] is False
    names: dict[str, Any] = {}
    exec(source, names)
    assert names["decided"] is True


@pytest.mark.parametrize("mode", MODES[1:])
def test_a_value_decides_as_ever(mode: str) -> None:
    assert run(BY_VALUE, mode)["decided"] is True


@pytest.mark.parametrize("mode", MODES[1:])
def test_the_texts_are_noise_indeed_and_keep_what_is_put_into_them(mode: str) -> None:
    source = 'size = 5\nread = f"{size:g} MB are free"\nform = "after {limit:g} s of it\\n"\n'
    names = run(source, mode)
    assert names["read"].startswith("5 zq")
    assert names["form"].format(limit=3).startswith("zq")
    assert " 3 " in names["form"].format(limit=3)
    assert names["form"].endswith("\n")
