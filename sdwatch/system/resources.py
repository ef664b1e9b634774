"""Files that travel with sdwatch: the default config, ready-made ones, examples, the schema, and
what failures look like."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def config_folder() -> Path:
    """Return the `config` folder: inside the package when installed, beside it in a checkout."""
    installed = _PACKAGE / "_config"
    return installed if installed.is_dir() else _PACKAGE.parent / "config"


def signatures_file() -> Path:
    """Return what failures look like, and what they mean."""
    return _PACKAGE / "policy" / "failure" / "signatures.yaml"
