"""List the versions of the software here, for evidence and bug reports."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from sdwatch import __version__

_PACKAGES = (
    "psutil",
    "urllib3",
    "pillow",
    "pydantic",
    "PyYAML",
    "watchdog",
    "filelock",
    "regex",
)


def versions() -> dict[str, str]:
    """Return the versions by name, without the name of the host."""
    found = {
        "sdwatch": __version__,
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
