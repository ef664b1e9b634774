"""Whether the Python with this sdwatch is there to stay, so that a service finds it again."""

from __future__ import annotations

from pathlib import Path

from sdwatch.errors import ServiceError

_TAG = "CACHEDIR.TAG"
"""In each folder that may be removed at any time: the Cache Directory Tagging Specification."""


def is_no_cache(environment: Path) -> None:
    """Check that Python's environment (sys.prefix) is in no cache, as those of `uvx` and `pipx run`
    are. Raises ServiceError. (uv and virtualenv tag each environment itself, which means that a
    backup may leave it out.)"""
    cache = next((above for above in environment.parents if (above / _TAG).exists()), None)
    if cache is not None:
        raise ServiceError(
            f"this sdwatch is in {cache}, a cache that may be cleaned at any time; a service needs "
            "one that stays: install it by pipx, `uv tool install`, or into a virtual environment"
        )
