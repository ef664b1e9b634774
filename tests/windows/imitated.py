"""A child process on this system that meets what Windows does: see inside/imitations.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.windows.inside import imitations

INSIDE = Path(imitations.__file__).parent
ROOT = INSIDE.parents[2]


def imitating(*names: str) -> dict[str, str]:
    """The environment of a child, and of all Python that it starts, with these imitations."""
    path = os.pathsep.join([str(INSIDE), str(ROOT)])
    return {"PYTHONPATH": path, imitations.VARIABLE: ",".join(names)}


def python(*arguments: object) -> list[str]:
    """The command for this Python."""
    return [sys.executable, *map(str, arguments)]
