"""Find the program of this Python, to start others with it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

_OF_CONSOLE = re.compile(r"python[\d.]*(_d)?\.exe", re.IGNORECASE)


def python_of_console() -> str:
    """Return the path of this Python, with the packages that it has and a console.

    On Windows `sys.executable` may be another program: pythonservice.exe in a service of pywin32,
    which starts no script, pythonw.exe, which has no console for a Ctrl-Break to go to, or any
    program that Python is embedded in.
    """
    if os.name != "nt":
        return sys.executable
    folders = (Path(sys.prefix, "Scripts"), Path(sys.prefix), Path(sys.base_prefix))
    return found_for(sys.executable, folders)


def found_for(executable: str, folders: Iterable[Path]) -> str:
    """Return `executable` where it is Python with a console, else the first python.exe beside it
    or in `folders`; if there is none, `executable` itself."""
    if _OF_CONSOLE.fullmatch(Path(executable).name):
        return executable
    beside = [Path(executable).parent] if executable else []
    candidates = (folder / "python.exe" for folder in (*beside, *folders))
    return next((str(path) for path in candidates if path.is_file()), executable)


def base_python() -> str:
    """Return the path of the Python that this one is in the end: on Windows the python.exe of a
    virtual environment starts it as another process."""
    base = getattr(sys, "_base_executable", "") or sys.executable
    return found_for(base, (Path(sys.base_prefix),)) if os.name == "nt" else base
