"""Read durations, sizes and counts as people write them in the config. Pure.

Each function raises ValueError where the text is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

_MEASURE = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-z]*)")
_DURATIONS = {"": 1, "s": 1, "sec": 1, "min": 60, "h": 3600}
_AGES = {"min": 60, "h": 3600, "day": 86400, "days": 86400, "d": 86400}
_PIXELS = {"": 1, "MP": 10**6}
_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_MOST = 10**15


def seconds(text: str) -> float:
    """Return the seconds of a duration such as `90`, `1.5`, `2 min` or `1 h`."""
    return _measure(text.lower(), _DURATIONS)


def or_off(read: Callable[[str], Value]) -> Callable[[str], Value | None]:
    """Return what reads the same, and `off` as None."""
    return lambda text: None if text.lower() == "off" else read(text)


def size(text: str) -> int:
    """Return the bytes of a size such as `500 MB`."""
    return int(_measure(text.upper(), _SIZES))


def pixels(text: str) -> int:
    """Return the pixels of an area such as `100 MP`."""
    return int(_measure(text.upper(), _PIXELS))


def age(text: str) -> float | None:
    """Return the seconds of an age such as `30 days`; None for `off`."""
    return None if text.lower() == "off" else _measure(text.lower(), _AGES)


def _measure(text: str, units: dict[str, int]) -> float:
    found = _MEASURE.fullmatch(text.strip())
    if found is None or found.group(2) not in units:
        raise ValueError(text)
    value = float(found.group(1)) * units[found.group(2)]
    if value > _MOST:
        raise ValueError(text)
    return value
