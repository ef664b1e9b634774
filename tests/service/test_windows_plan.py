"""What a service of Windows runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sdwatch.service.windows_plan import (
    HostSettings,
    command_line,
    host_command,
    in_words,
    is_of_the_store,
)

SETTINGS = HostSettings(
    program=r"C:\Python311\python.exe",
    command=(r"C:\venv\Scripts\python.exe", "-m", "sdwatch", "run"),
    config=r"D:\Meine Bilder\sdwatch.yaml",
    state=r"D:\Meine Bilder\state",
    folder=r"D:\Meine Bilder",
    log=r"D:\Meine Bilder\state\service.log",
    watchdog=600.0,
    stop_limit=70.0,
    not_restarted=(2, 4, 5),
)


def test_settings_are_read_as_they_were_written() -> None:
    assert HostSettings.from_json(SETTINGS.to_json()) == SETTINGS


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"command": 1}', "[" * 100_000])
def test_what_sdwatch_did_not_write_is_no_settings(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        HostSettings.from_json(text)


def test_a_program_with_a_space_in_its_path_is_in_quotes() -> None:
    line = command_line(
        host_command(r"C:\Program Files\Python311\python.exe", [r"C:\a b"], "sdwatch")
    )
    assert line.startswith(r'"C:\Program Files\Python311\python.exe" -I -S -c "import os, site')
    assert line.endswith(r'"C:\a b" sdwatch')


def test_the_host_finds_packages_only_where_they_are(tmp_path: Path) -> None:
    """The packages of a virtual environment, here made up, are not those of its base; and pywin32
    may be in another place than sdwatch."""
    package = tmp_path / "own" / "sdwatch" / "service"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "windows_host.py").write_text("import more\ndef main(words): print(words, more)\n")
    (tmp_path / "added.pth").write_text("elsewhere\n")  # as pywin32 has one
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "more.py").touch()
    words = host_command(sys.executable, [str(tmp_path / "own"), str(tmp_path)], "sdwatch-night")
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("['sdwatch-night'] <module 'more'")


@pytest.mark.parametrize(
    ("program", "is_so"),
    [
        (r"C:\Program Files\WindowsApps\PythonSoftwareFoundation.Python.3.11\python.exe", True),
        (r"C:\Users\me\AppData\Local\Microsoft\WindowsApps\python.exe", True),
        (r"C:\Users\me\AppData\Local\Programs\Python\Python311\python.exe", False),
        (r"D:\NotWindowsApps\python.exe", False),
    ],
)
def test_a_python_of_the_microsoft_store_is_known(program: str, is_so: bool) -> None:
    assert is_of_the_store(program) is is_so


@pytest.mark.parametrize(
    ("code", "words"),
    [(5, "exit code 5"), (0xC0000005, "exit code 0xC0000005"), (130, "exit code 130")],
)
def test_an_exit_code_is_written_as_people_look_it_up(code: int, words: str) -> None:
    assert in_words(code) == words
