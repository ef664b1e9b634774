"""A pytest plugin: one line of JSON for each test that starts and each that ends, as it happens,
and one without a test at the end of them all.

It is what is left of a file whose process was ended: on Windows pytest-timeout ends the process.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

VARIABLE = "SDWATCH_TEST_OUTCOMES"
"""Names the file, in the environment."""


def pytest_runtest_logstart(nodeid: str) -> None:
    _write({"test": nodeid, "outcome": "started"})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Failures and skips of each phase; a pass only of the call itself."""
    if report.when != "call" and report.passed:
        return
    why = ""
    if report.skipped and isinstance(report.longrepr, tuple):
        why = str(report.longrepr[-1]).removeprefix("Skipped: ")
    elif report.failed:
        why = _first_error(report.longreprtext.splitlines())
    _write({"test": report.nodeid, "outcome": report.outcome, "why": why})


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _write({"test": report.nodeid, "outcome": "failed", "why": "cannot be collected"})
    elif report.skipped and isinstance(report.longrepr, tuple):
        _write({"test": report.nodeid, "outcome": "skipped", "why": str(report.longrepr[-1])})


def pytest_sessionfinish() -> None:
    _write({"test": None, "outcome": "finished"})


def _first_error(lines: list[str]) -> str:
    """The line that says what was raised; further ones have the details."""
    return next((line for line in lines if line.startswith("E ")), lines[-1] if lines else "")


def _write(line: dict[str, Any]) -> None:
    with open(os.environ[VARIABLE], "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
