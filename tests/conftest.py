"""What holds for all tests: how many at a time, bytecode, and the marker `posix_only`."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

_FOR_BYTECODE = "SDWATCH_TESTS_BYTECODE"
_POLICY = Path(__file__).parent.resolve() / "policy"
_MOST_WORKERS = 16


def pytest_configure() -> None:
    """Let the hundreds of processes that tests start share what Python compiles, where it was told
    to keep nothing in the source tree: each would compile all of sdwatch again, which takes longer
    than most of them run."""
    if sys.dont_write_bytecode and _FOR_BYTECODE not in os.environ:
        folder = tempfile.mkdtemp(prefix="sdwatch-bytecode-")
        os.environ[_FOR_BYTECODE] = os.environ["PYTHONPYCACHEPREFIX"] = folder
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_finish() -> None:
    """Spare the garbage collector the thousands of tests, which all stay until the end."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)  # where xdist is not installed, there are no workers
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Most tests wait for processes, so six at a time are work for two cores. Those of policy only
    compute, and thousands of them take longer to hand out than to run: they need no worker."""
    paths = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    only_compute = all(path.is_relative_to(_POLICY) for path in paths)
    return 0 if only_compute else min(3 * (os.cpu_count() or 1), _MOST_WORKERS)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """The process that made the folder removes it: workers only use it."""
    if not hasattr(config, "workerinput") and (folder := os.environ.pop(_FOR_BYTECODE, "")):
        shutil.rmtree(Path(folder), ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip on Windows what is marked `posix_only("why")`."""
    for item in items:
        for marker in item.iter_markers("posix_only"):
            reason = "".join(marker.args) if len(marker.args) == 1 else ""
            if not reason.strip() or marker.kwargs:
                raise pytest.UsageError(f"{item.nodeid}: posix_only needs one text that says why")
            if sys.platform == "win32":
                item.add_marker(pytest.mark.skip(reason=f"POSIX only: {reason}"))
