"""Find the WebUIs that are installed here: in the usual places, and those of StabilityMatrix.

Nothing is started, and only names and the settings of StabilityMatrix are read. It keeps (source,
commit c255230f, SettingsManager.cs and InstalledPackage.cs) its library where library.json in
%APPDATA%/StabilityMatrix (elsewhere ~/.config/StabilityMatrix) says, or in the folder Data with a
.sm-portable beside the program. The library has settings.json with InstalledPackages, each with its
LibraryPath, usually Packages/NAME; a package has its venv in its own folder. On Windows a
PortableGit is in the library, and GIT names it.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from sdwatch.policy.config import config_paths
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.table import KINDS, kind_by_files
from sdwatch.system import disk

_WINDOWS = os.name == "nt"

PYTHONS = (
    *("venv/bin/python", ".venv/bin/python", "venv/Scripts/python.exe", ".venv/Scripts/python.exe"),
    "../system/python/python.exe",  # of Forge's one-click package
    "../python_embeded/python.exe",  # of ComfyUI's portable build
)
"""Where a WebUI has its interpreter, seen from its folder."""

INSIDE = ("", *sorted({kind.package for kind in KINDS.values() if kind.package}))
"""Where the WebUI is in a folder that may be a package."""
_IN_HOME = (
    *("Desktop", "Documents", "Downloads", "Programs", "Projects", "projects", "apps", "Apps"),
    *("AI", "ai", "git", "src", "sd", "SD", "StabilityMatrix/Packages"),
)
_ON_A_DRIVE = ("", "AI", "SD", "Program Files", "StabilityMatrix/Packages")
_MOST_IN_A_FOLDER = 1000
_MOST_BYTES = 20_000_000  # of StabilityMatrix's settings


@dataclass(frozen=True)
class InstalledWebUI:
    """A WebUI on this disk. `python`: its interpreter, relative to `folder`; '' if it has none yet.
    `git`: the git that StabilityMatrix brings for it, or None."""

    folder: Path
    kind: Kind
    python: str = ""
    git: Path | None = None


def webui_in(folder: Path, git: Path | None = None) -> InstalledWebUI | None:
    """Return the WebUI in a folder; None if there is none, or of a kind that cannot be recognised,
    or if its path cannot be written in a config."""
    with suppress(OSError, ValueError):
        if not _can_be_written(folder):
            return None
        kind = kind_by_files(lambda name: (folder / name).is_file())
        if not kind.is_known or not (folder / kind.script).is_file():
            return None
        fitting = (name for name in PYTHONS if name.endswith(".exe") == _WINDOWS)
        python = next((name for name in fitting if (folder / name).is_file()), "")
        return InstalledWebUI(folder, kind, python, git)
    return None


def installed_webuis() -> list[InstalledWebUI]:
    """Return all that are found, each once, whatever links lead to it. On a network drive this may
    take long."""
    found: dict[Path, InstalledWebUI] = {}
    candidates = [*_of_stability_matrix(), *((folder, None) for folder in _usual_folders())]
    for folder, git in candidates:
        if (webui := webui_in(folder, git)) is not None:
            with suppress(OSError, RuntimeError):
                found.setdefault(webui.folder.resolve(strict=True), webui)
    return sorted(found.values(), key=lambda webui: (webui.kind.name, str(webui.folder)))


def _can_be_written(folder: Path) -> bool:
    """Return whether a config can name this path: all of it must be text."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        return False
    return not config_paths.refusal(str(folder), _WINDOWS)


# -- the usual places


def _usual_folders() -> Iterator[Path]:
    for base in _bases():
        for child in _folders_in(base):
            yield from (child / inside for inside in INSIDE)


def _bases() -> Iterator[Path]:
    with suppress(RuntimeError):  # a user without a home
        home = Path.home()
        yield from (home, *(home / name for name in _IN_HOME))
    if _WINDOWS:
        for drive in _fixed_drives():
            yield from (drive / name for name in _ON_A_DRIVE)
    else:
        yield from (Path("/opt"), Path("/srv"))


def _fixed_drives() -> list[Path]:
    """Return the disks of this machine: a network drive may be gone, and hang."""
    with suppress(OSError, psutil.Error):
        parts = psutil.disk_partitions()
        return [Path(part.mountpoint) for part in parts if "fixed" in part.opts]
    return []


def _folders_in(folder: Path) -> list[Path]:
    """Return folders and links to folders, except those that anybody may write to: what somebody
    put there is not to be started."""
    with suppress(OSError):
        if not _WINDOWS and folder.stat().st_mode & stat.S_IWOTH:
            return []
        with os.scandir(folder) as entries:
            return sorted(Path(e.path) for e in islice(entries, _MOST_IN_A_FOLDER) if _is_folder(e))
    return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or what this user may not see
        return False


# -- StabilityMatrix


def _of_stability_matrix() -> Iterator[tuple[Path, Path | None]]:
    for library in dict.fromkeys(_libraries()):
        git = library / "PortableGit" / "bin" / "git.exe"
        portable = git if _WINDOWS and git.is_file() else None
        for folder in (*_packages_of(library), *_folders_in(library / "Packages")):
            yield folder, portable


def _libraries() -> Iterator[Path]:
    for settings in _settings_folders():
        named = _json_in(settings / "library.json").get("LibraryPath")
        if isinstance(named, str) and named:
            yield Path(named)
        yield settings  # on Windows the default
    for base in _bases():
        for child in (base, *_folders_in(base)):
            if (child / "Data" / ".sm-portable").is_file():
                yield child / "Data"


def _settings_folders() -> Iterator[Path]:
    with suppress(RuntimeError):
        home = Path.home()
        if _WINDOWS:
            yield Path(os.environ.get("APPDATA") or home / "AppData/Roaming") / "StabilityMatrix"
        else:
            config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
            yield from (config / "StabilityMatrix", home / "StabilityMatrix")


def _packages_of(library: Path) -> Iterator[Path]:
    installed = _json_in(library / "settings.json").get("InstalledPackages")
    for package in islice(installed if isinstance(installed, list) else (), _MOST_IN_A_FOLDER):
        named = package.get("LibraryPath") if isinstance(package, dict) else None
        if isinstance(named, str) and named and "\0" not in named:
            yield library / (named if _WINDOWS else named.replace("\\", "/"))


def _json_in(path: Path) -> dict[str, Any]:
    """Return what a file of StabilityMatrix has; {} if it has nothing that can be read."""
    try:
        with disk.open_file(path) as file:
            value = json.loads(file.read(_MOST_BYTES).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
