"""The names of runs, of their images and of the folders for these. Pure.

A run id is `20261123-065243.123-ärger-im-büro-3f2a`: the time in UTC, the job's name as a slug, and
four random digits. An image of it is `20261123-065243-ärger-im-büro-3f2a_1-txt2img_001-01.png`:
outside its folder it must still say when it was made and by which job, run and call, and a folder
of pictures from many runs must sort by time. So it starts like its run's id, without the
milliseconds and with at most SHORT of the name: on Windows a path has 259 characters, and this name
is at the end of one that contains the whole run id.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from sdwatch.policy.naming import cut

IMAGES = "images"
FILES = "files"
"""The folders of a run for what it made."""

LONG = 40
"""UTF-16 units of the slug in a run's id; what Windows counts."""

SHORT = 16
"""UTF-16 units of the slug in an image's name."""

LONGEST_RUN_ID = 25 + LONG
LONGEST_IMAGE = 21 + SHORT + len("_1-txt2img_001-01.png")
"""UTF-16 units of the two names, of an image with few stages and calls."""

NO_NAME = "job"
"""Replaces a name that has no usable character."""

_MOST_BYTES = 100
"""Bytes of UTF-8 of any slug; what Linux counts. A name may have 255, and 143 on an encrypted share
of a NAS (eCryptfs)."""

_MOST_MARKS = 8  # on one letter; no language has as many

# Letters, marks and numbers of every script, and pictures (emoji).
_KEPT = ("L", "M", "N", "So")
_SKIN_TONES = "\U0001f3fb-\U0001f3ff"
# No sign of theirs can be seen, or they stand for what could not be read.
_BLANK = re.compile("[\u115f\u1160\u2800\u3164\uffa0\ufffc\ufffd]")
_SKIN = re.compile(f"[{_SKIN_TONES}]")

# What no slug has in it, as far as ASCII goes: in a text, an id ends there.
_IN_SLUG = r"[^\s!-,./:-@\[-`{-\x7f]"
RUN_ID = re.compile(
    rf"(?<!\d)(\d{{8}}-\d{{6}}(?:\.\d{{3}})?-){_IN_SLUG}+(-[0-9a-f]{{4}})(?![^\W_])"
)
"""A run's id, or the same at the start of an image's name, within a text. Its groups are what
stands before and behind the slug."""

_WHOLE = re.compile(r"([0-9]{8}-[0-9]{6}\.[0-9]{3})-(.+)-([0-9a-f]{4})", re.DOTALL)


def slug_of(name: str, most: int = LONG) -> str:
    """Return a job's name as a part of file names: small letters of every script, in composed form
    (NFC), numbers, emoji, and `-` for all else; at most `most` UTF-16 units and 100 bytes of
    UTF-8. Two names that Windows or macOS take for the same give the same slug."""
    # Nobody sees joiners and signs of direction, and they would keep a letter from its accent.
    visible = "".join(sign for sign in name if unicodedata.category(sign) != "Cf")
    signs = map(_sign, unicodedata.normalize("NFC", visible.lower()))
    slug = re.sub("-+", "-", "".join(_without_loose_marks(signs))).lstrip("-")
    return cut(slug, most, _MOST_BYTES, _is_mark).strip("-") or NO_NAME


def _sign(sign: str) -> str:
    """Return what stands for one character: itself or `-`."""
    kept = unicodedata.category(sign).startswith(_KEPT) or _SKIN.match(sign)
    return sign if kept and not _BLANK.match(sign) else "-"


def _without_loose_marks(signs: Iterable[str]) -> Iterator[str]:
    """Yield the signs without loose marks: a mark needs a letter before it, else it sits on the
    `-`, and is not stacked for fun."""
    left = 0
    for sign in signs:
        is_mark = _is_mark(sign)
        left = left - 1 if is_mark else _MOST_MARKS * (sign != "-")
        if not is_mark or left >= 0:
            yield sign


def _is_mark(sign: str) -> bool:
    return unicodedata.category(sign).startswith("M") or _SKIN.match(sign) is not None


def run_id(stamp: str, name: str, token: str) -> str:
    """Return the id of a run. `stamp`: its time, `20261123-065243.123`; `name`: the job's; `token`:
    four hexadecimal digits."""
    return f"{stamp}-{slug_of(name)}-{token}"


def is_run_id(name: str) -> bool:
    """Return whether a folder's name is one that `run_id` makes, now or in earlier versions, which
    kept letters and digits of ASCII only."""
    found = _WHOLE.fullmatch(name)
    return found is not None and slug_of(found[2]) == found[2]


def image_prefix(run: str) -> str:
    """Return what the names of a run's images begin with. Of a folder that somebody gave another
    name it is made of that name."""
    found = _WHOLE.fullmatch(run)
    if found is None:
        return slug_of(run)
    return f"{found[1].partition('.')[0]}-{slug_of(found[2], SHORT)}-{found[3]}"
