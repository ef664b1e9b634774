"""What holds for all tests: how many at a time, bytecode, which failed, and the marker
`posix_only`."""

from __future__ import annotations

import gc
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# The machine may be busy with anything, so how long a generated case takes says nothing. And the
# same tree gives the same result.
settings.register_profile(
    "sdwatch",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("sdwatch")

gc.disable()  # until the tests are collected: all of that stays

_FOR_BYTECODE = "SDWATCH_TESTS_BYTECODE"
_FOR_FAILED = "SDWATCH_FAILED_TESTS"
_TESTS = Path(__file__).parent.resolve()
_POLICY = _TESTS / "policy"
_MOST_WORKERS = 16
_BY_THE_TEST = (
    "test_signals.py",
    "test_stop_and_resume.py",
    "test_every_point.py",
    "test_canary.py",
    "test_truth_table.py",
)
"""Files that take long, each of whose tests brings along all that it needs."""
_made: list[Path] = []
"""A folder for bytecode that does not stay, in the process that made it."""


@pytest.fixture(autouse=True)
def _nothing_is_bound_for_the_next_test() -> Iterator[None]:
    from sdwatch.system.log_events import bound

    with bound():
        yield


def pytest_configure() -> None:
    """Keep what Python compiles in the folder for temporary files, where it was told to keep
    nothing in the source tree: each of the hundreds of processes that tests start, and each run of
    the tests, would compile all of sdwatch again, which takes longer than most of them run."""
    if sys.dont_write_bytecode and _FOR_BYTECODE not in os.environ:
        folder = _folder_for_bytecode()
        os.environ[_FOR_BYTECODE] = os.environ["PYTHONPYCACHEPREFIX"] = folder
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        sys.pycache_prefix, sys.dont_write_bytecode = folder, False


def _folder_for_bytecode() -> str:
    """Return this user's own folder: nobody else may put code there. It stays for the next run;
    where the name is taken by somebody else, it is another one, until this run ends."""
    whose = "mine" if sys.platform == "win32" else os.getuid()  # there each user has such a folder
    folder = Path(tempfile.gettempdir(), f"sdwatch-bytecode-{whose}")
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if sys.platform == "win32" or (
            stat.S_ISDIR(found.st_mode)
            and found.st_uid == os.getuid()
            and not stat.S_IMODE(found.st_mode) & 0o077
        ):
            return str(folder)
    _made.append(Path(tempfile.mkdtemp(prefix="sdwatch-bytecode-")))
    return str(_made[0])


def pytest_collection_finish() -> None:
    """Spare the garbage collector the thousands of tests, which all stay until the end."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)  # where xdist is not installed, there are no workers
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Most tests wait for processes, so sixteen at a time are work for two cores. Those of policy
    only compute, and thousands of them take longer to hand out than to run: they need no
    worker."""
    paths = (Path(argument.partition("::")[0]).resolve() for argument in config.args)
    only_compute = all(path.is_relative_to(_POLICY) for path in paths)
    return 0 if only_compute else min(8 * (os.cpu_count() or 1), _MOST_WORKERS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """Hand out whole files, as `--dist loadfile` does, but these test by test, as the last ones:
    one worker would be alone with a long file at the end."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return nodeid if file.rpartition("/")[2] in _BY_THE_TEST else file

    return Scheduling(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config) -> None:
    """Let one process compile the tests, with all that they import, before the workers start, where
    nothing is compiled yet: all would do that at the same moment, and none would find what another
    has compiled."""
    if not Path(cache_from_source(str(_TESTS / "support" / "helpers.py"))).exists():
        words = ("--collect-only", "-qq", "-n", "0")
        command = [sys.executable, "-m", "pytest", *words, *config.args]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """Leave the ids of the tests that failed in the file that SDWATCH_FAILED_TESTS names, one a
    line, for whoever wants to try them once more."""
    named = os.environ.get(_FOR_FAILED)
    if named and exitstatus == pytest.ExitCode.TESTS_FAILED:
        stats = terminalreporter.stats
        ids = {report.nodeid for kind in ("failed", "error") for report in stats.get(kind, [])}
        Path(named).write_text("".join(f"{id}\n" for id in sorted(ids)), encoding="utf-8")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """The process that made a folder that does not stay removes it: workers, and what tests start,
    only use it."""
    while _made:
        del os.environ[_FOR_BYTECODE]
        shutil.rmtree(_made.pop(), ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put those last that are handed out test by test. Skip on Windows what is marked
    `posix_only("why")`."""
    items.sort(key=lambda item: _turn(item.path.name))
    for item in items:
        for marker in item.iter_markers("posix_only"):
            reason = "".join(marker.args) if len(marker.args) == 1 else ""
            if not reason.strip() or marker.kwargs:
                raise pytest.UsageError(f"{item.nodeid}: posix_only needs one text that says why")
            if sys.platform == "win32":
                item.add_marker(pytest.mark.skip(reason=f"POSIX only: {reason}"))


def _turn(file: str) -> int:
    return _BY_THE_TEST.index(file) if file in _BY_THE_TEST else -1
