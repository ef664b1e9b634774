"""Installed WebUIs as files, and a home in which a command looks for them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from sdwatch.policy.kinds.table import KINDS

PYTHON = "venv/Scripts/python.exe" if sys.platform == "win32" else "venv/bin/python"


def install(folder: Path, kind: str, python: str = PYTHON) -> Path:
    """A WebUI of this kind, as far as its files show it."""
    for name in ("launch.py", *KINDS[kind].signs.files, *([python] if python else [])):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
        path.chmod(0o755)
    return folder


def home_env(home: Path) -> dict[str, str]:
    """The environment of a command whose user has this home."""
    home.mkdir(exist_ok=True)
    names = ("HOME", "USERPROFILE")
    return {**dict.fromkeys(names, str(home)), "APPDATA": str(home / "AppData/Roaming")}


def stability_matrix(library: Path, *packages: str, named_in: Path | None = None) -> None:
    """The settings of a StabilityMatrix: with the mark that .NET writes in front, and with the
    separators of Windows. `named_in`: the folder of its library.json."""
    library.mkdir(parents=True, exist_ok=True)
    installed = [
        {"PackageName": "x", "LibraryPath": f"Packages\\{name}", "PythonVersion": "3.10.17"}
        for name in packages
    ]
    text = json.dumps({"InstalledPackages": [*installed, {"LibraryPath": None}, 7]})
    (library / "settings.json").write_text(text, encoding="utf-8-sig")
    if named_in is not None:
        named_in.mkdir(parents=True, exist_ok=True)
        named = json.dumps({"LibraryPath": str(library)})
        (named_in / "library.json").write_text(named, encoding="utf-8-sig")
