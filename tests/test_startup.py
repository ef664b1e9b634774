"""`sdwatch --help` starts quickly: what it imports is little, on every machine."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

SLOW = {"dataclasses", "logging", "pydantic", "psutil", "requests", "rich", "subprocess", "typing"}
"""Each of these takes as long as a quarter of Python's own start, or much longer."""


def test_help_and_version_import_nothing_that_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count instead of a time: no load of the machine changes it. benchmarks/startup.py has the
    times; their ratio to `python -c pass` was 3 with 71 modules."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    startup = importlib.import_module("startup")
    env = startup.environment(tmp_path)
    for option in ("--help", "--version"):
        modules = startup.imported(("-m", "sdwatch", option), env)
        assert "sdwatch.cli" in modules
        assert not modules & SLOW
        assert len(modules) < 100
