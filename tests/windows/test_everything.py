"""The one command that runs everything under wine: interrupted, resumed, and with an environment
that vanishes. wine is a script here that runs this machine's Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.helpers import wait_until

HERE = Path(__file__).parent
AT_A_TIME = 3  # of everything.py
pytestmark = [pytest.mark.posix_only("it starts wine"), pytest.mark.slow]

_WINE = """#!{python}
import os, sys
for name, value in os.environ.items():
    if value.startswith("Z:"):
        os.environ[name] = value[2:].replace("\\\\", "/")
os.execv("{python}", ["{python}", *sys.argv[2:]])
"""
_WINESERVER = """#!{python}
import os, psutil
for process in psutil.process_iter():
    try:
        if process.environ().get("WINEPREFIX") == os.environ["WINEPREFIX"]:
            process.pid == os.getpid() or process.kill()
    except psutil.Error:
        pass
"""
_VANISHES = """
import os, shutil
from pathlib import Path

def test_that_takes_the_folder_of_the_second_worker_away():
    folder = Path(os.environ["WINEPREFIX"]).parent
    if folder.name == "1":
        shutil.rmtree(folder)
"""
_WAITS = """
import os, subprocess, sys, time
from pathlib import Path

def test_that_waits():
    folder = Path(__file__).parent
    slow = [sys.executable, "-c", "import time; time.sleep(600)"]
    with_session = subprocess.Popen(slow, start_new_session=True)
    Path(f"{__file__}.{os.getpid()}.begun").touch()
    while not (folder / "go").exists():
        time.sleep(0.02)
    with_session.kill()
    with_session.wait()
"""
_ENDS_IT = """
import os

def test_first(): pass
def test_that_ends_the_process(): os._exit(1)
def test_last(): pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that looks whole."""
    monkeypatch.syspath_prepend(HERE)
    import make_environment

    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("wine", _WINE), ("wineserver", _WINESERVER)):
        (programs / name).write_text(text.replace("{python}", sys.executable))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    # Most of a start of pytest is the import of plugins that no file here needs.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p xdist.plugin -p pytest_timeout")
    folder = tmp_path / "win"
    drive = folder / "prefix" / "drive_c"
    (drive / "users" / "root").mkdir(parents=True)
    (drive / "py" / "Lib" / "site-packages").mkdir(parents=True)
    (drive / "py" / "python.exe").touch()
    made_of = "\n".join(make_environment._requirements())
    (folder / make_environment.MADE_OF).write_text(made_of, encoding="utf-8")
    return folder


def command(*args: object) -> list[str]:
    return [sys.executable, str(HERE / "everything.py"), *map(str, args)]


def ended(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*args), capture_output=True, text=True, timeout=400, check=False)


def outcomes(folder: Path) -> dict[str, dict[str, str]]:
    """By file and by the test's own name."""
    stored = json.loads((folder / "outcomes.json").read_text())
    return {
        Path(file).name: {test.rpartition("::")[-1]: was for test, (was, _) in tests.items()}
        for file, tests in stored.items()
    }


def test_what_a_worker_had_whose_folder_vanishes_is_run_by_another(
    folder: Path, tmp_path: Path
) -> None:
    files = [tmp_path / f"test_{number}.py" for number in range(4)]
    for file in files:
        file.write_text(_VANISHES)
    result = ended(folder, *files)
    assert result.returncode == 0, result.stdout + result.stderr
    found = outcomes(folder)
    assert found.keys() == {file.name for file in files}
    assert {was for tests in found.values() for was in tests.values()} == {"passed"}


def test_where_all_vanish_what_is_left_is_a_failure(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(_VANISHES.replace('folder.name == "1"', "True"))
    (tmp_path / "kept").mkdir()
    result = ended(folder, file)
    assert result.returncode == 1, result.stdout + result.stderr


def test_an_interrupted_run_leaves_nothing_behind_and_is_resumed_where_it_was(
    folder: Path, tmp_path: Path
) -> None:
    first = tmp_path / "test_first.py"
    first.write_text("def test_it(): pass")
    assert ended(folder, first).returncode == 0
    first.write_text("def test_it(): raise AssertionError('it was run again')")
    others = [tmp_path / f"test_{number}.py" for number in range(4)]
    for file in others:
        file.write_text(_WAITS)
    running = subprocess.Popen(command("--resume", folder, first, *others), start_new_session=True)
    wait_until(lambda: len(list(tmp_path.glob("*.begun"))) == AT_A_TIME, 60)
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 128 + signal.SIGTERM
    gone = lambda: not [each for each in psutil.process_iter() if _works_in(each, tmp_path)]  # noqa: E731
    wait_until(gone, 20, "what ran has ended")
    assert len(list(tmp_path.glob("*.begun"))) == AT_A_TIME
    assert outcomes(folder) == {"test_first.py": {"test_it": "passed"}}
    (tmp_path / "go").touch()
    assert ended("--resume", folder, first, *others).returncode == 0
    assert outcomes(folder).keys() == {file.name for file in [first, *others]}


def _works_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return str(folder) in process.environ().get("WINEPREFIX", "")
    except psutil.Error:
        return False


def test_what_was_not_run_because_the_time_was_over_is_run_when_resumed(
    folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "test_it.py"
    file.write_text("def test_it(): pass")
    late = {str(file): {str(file): ["not run", "the time was over"]}}
    (folder / "outcomes.json").write_text(json.dumps(late))
    assert ended("--resume", folder, file).returncode == 0
    assert outcomes(folder) == {"test_it.py": {"test_it": "passed"}}


def test_a_test_that_ends_the_process_fails_and_the_rest_of_its_file_is_run(
    folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(_ENDS_IT)
    result = ended(folder, file)
    assert result.returncode == 1
    assert outcomes(folder)["test_it.py"] == {
        "test_first": "passed",
        "test_that_ends_the_process": "failed",
        "test_last": "passed",
    }


def test_what_failed_is_run_once_more_alone_unless_it_is_much(folder: Path, tmp_path: Path) -> None:
    flaky = tmp_path / "test_flaky.py"
    flaky.write_text(
        "from pathlib import Path\ndef test_it(): assert Path(__file__ + '.go').exists()"
    )
    passed = tmp_path / "test_passed.py"
    passed.write_text("def test_it(): pass")
    assert ended(folder, flaky, passed).returncode == 1
    passed.write_text("def test_it(): raise AssertionError('it was run again')")
    assert ended("--failed", folder).returncode == 1
    Path(f"{flaky}.go").touch()
    result = ended("--failed", folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert {was for tests in outcomes(folder).values() for was in tests.values()} == {"passed"}

    much = tmp_path / "test_much.py"
    much.write_text(
        "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test_it(n): assert 0"
    )
    assert ended(folder, much).returncode == 1
    much.write_text("def test_it(): pass")
    assert ended("--failed", folder).returncode == 1
