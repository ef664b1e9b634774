"""The names of outputs, from a pattern: the same on every system, and possible on all. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

from sdwatch.policy.job.files.job_images import folded
from sdwatch.policy.job.outputs.result import USE
from sdwatch.policy.job.stage.confinement import DEVICE
from sdwatch.policy.naming import cut

MOST_OF_A_VALUE = 80
"""Characters of a value within a name: a whole prompt would leave no room for what follows."""

MOST_UNITS = 120
"""UTF-16 units of a folder's or a file's name without its ending, of 259 that a path has."""

MOST_BYTES = 125
"""Bytes of the same in UTF-8: a name may have 143 on an encrypted share of a NAS (eCryptfs), and
a number and an ending come behind."""

_UNSAFE = re.compile(r'[<>:"/\\|?*\x7f]')
_EMPTY = "picture"


def output_name(pattern: str, values: Mapping[str, str]) -> str:
    """Return a name without an ending, relative and with `/`, from a pattern such as
    `{date}/{name}-{seed}`. What a value has that is unsafe in a name is replaced; only the
    pattern's own `/` makes folders. A value that is missing, as the width of a latent, takes its
    separator along."""
    return "/".join(_component(_filled(part, values)) for part in pattern.split("/"))


def _filled(part: str, values: Mapping[str, str]) -> str:
    made, at = "", 0
    for use in USE.finditer(part):
        between, at = part[at : use.start()], use.end()
        value = _safe(values.get(use[1], ""))[:MOST_OF_A_VALUE]
        if not made and use.start() > len(between):  # what was before is missing
            between = _SEPARATOR.sub("", between, count=1)
        made += f"{between}{value}" if value else _SEPARATOR_AT_END.sub("", between)
    rest = part[at:]
    return made + (rest if made or not at else _SEPARATOR.sub("", rest, count=1))


_SEPARATOR = re.compile(r"\A(?:[-_ .,+]+|x\Z)")
_SEPARATOR_AT_END = re.compile(r"(?:[-_ .,+]+|\Ax)\Z")


class FreeNames:
    """Finds names that are free in one folder. `taken`: those that are there."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(map(folded, taken))
        self._numbers: dict[str, int] = {}  # the last one that each name got

    def take(self, name: str, ending: str) -> str:
        """Return `name` with its ending, and with a number if that is taken: `-2`, `-3`, …; it is
        taken from then on."""
        base = folded(f"{name}{ending}")
        number = self._numbers.get(base, 0)
        while True:
            number += 1
            path = f"{name}{ending}" if number == 1 else f"{name}-{number}{ending}"
            if folded(path) not in self._taken:
                self._numbers[base] = number
                self._taken.add(folded(path))
                return path


def is_inside(name: str) -> bool:
    """Return whether a relative name stays below the folder of all outputs. Names come back from
    journals, and whoever may write to the share may have edited one."""
    parts = name.split("/")
    return all(part not in ("", ".", "..") and not _OUTSIDE.search(part) for part in parts)


_OUTSIDE = re.compile(r"[\\:\x00-\x1f]")


def _safe(text: str) -> str:
    """Return a text without what some system does not take in a name, or shows as something else:
    control characters, signs of direction (which would let `gnp.exe` look like `exe.png`), line
    ends, halves of characters, and what separates folders."""
    composed = unicodedata.normalize("NFC", text)
    signs = (_sign(sign) for sign in composed)
    return re.sub(r"\s+", " ", _UNSAFE.sub("-", "".join(signs)))


def _sign(sign: str) -> str:
    category = unicodedata.category(sign)
    if category in ("Cf", "Cs", "Co", "Cn"):
        return ""
    return " " if category in ("Cc", "Zl", "Zp", "Zs") else sign


def _component(text: str) -> str:
    """Return one part of a path: no name of a device, no dot or blank at its ends, not too long."""
    name = _ends(_safe(text))
    name = _ends(cut(name, MOST_UNITS, MOST_BYTES, _is_mark)) or _EMPTY
    return f"_{name[:-1] if len(name) >= MOST_UNITS else name}" if DEVICE.fullmatch(name) else name


def _ends(name: str) -> str:
    """Return it without dots and blanks at its ends: Windows drops those at the end, and a dot in
    front hides a file."""
    while (bare := name.strip(". ").removeprefix("~$")) != name:
        name = bare
    return name


def _is_mark(sign: str) -> bool:
    return unicodedata.category(sign).startswith("M")
