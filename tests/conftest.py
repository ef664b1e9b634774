"""What holds for all tests."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

_FOR_BYTECODE = "SDWATCH_TESTS_BYTECODE"


def pytest_configure() -> None:
    """Let the hundreds of processes that tests start share what Python compiles, where it was told
    to keep nothing in the source tree: each would compile all of sdwatch again, which takes longer
    than most of them run."""
    if sys.dont_write_bytecode and _FOR_BYTECODE not in os.environ:
        folder = tempfile.mkdtemp(prefix="sdwatch-bytecode-")
        os.environ[_FOR_BYTECODE] = os.environ["PYTHONPYCACHEPREFIX"] = folder
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """The process that made the folder removes it: workers only use it."""
    if not hasattr(config, "workerinput") and (folder := os.environ.pop(_FOR_BYTECODE, "")):
        shutil.rmtree(Path(folder), ignore_errors=True)
