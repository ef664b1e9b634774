r"""Paths that are longer than Windows takes by default, written as it takes them. Pure, on all
systems.

With LongPathsEnabled=0, the default, what has more than 259 characters is not found, and no folder
with more than 247 can be made ("Maximum Path Length Limitation", Microsoft). Behind `\\?\` a path
may have 32,767; it is taken as it stands then, so it must be absolute, with `\` and without `..`.
"""

from __future__ import annotations

import ntpath

LONGEST_PATH, LONGEST_FOLDER = 259, 247
"""The longest path, in UTF-16 units, that Windows accepts by default."""

_EXTENDED, _EXTENDED_SHARE, _DEVICE = "\\\\?\\", "\\\\?\\UNC\\", "\\\\.\\"


def units(path: str) -> int:
    """Return the length as Windows counts it: an emoji is two."""
    return len(path) + sum(sign > "\uffff" for sign in path)


def extended(path: str) -> str:
    r"""Return an absolute path of Windows in the form that may be longer than 259:
    `\\?\D:\spool`, `\\?\UNC\server\share`. What has a form of its own already stays as it is."""
    if path.startswith((_EXTENDED, _DEVICE)):
        return path
    plain = ntpath.normpath(path)
    if plain.startswith("\\\\"):
        return _EXTENDED_SHARE + plain[2:]
    return _EXTENDED + plain


def plain(path: str) -> str:
    r"""Return a path as people write it: without what `extended` puts before it."""
    if path.startswith(_EXTENDED_SHARE):
        return "\\\\" + path.removeprefix(_EXTENDED_SHARE)
    without = path.removeprefix(_EXTENDED)
    return without if ntpath.splitdrive(without)[0] else path


def too_long(path: str) -> str:
    """Return what is wrong with a path that a program without long paths is to use; '' where it
    has at most LONGEST_FOLDER units."""
    length = units(path)
    if length <= LONGEST_FOLDER:
        return ""
    most = f"Windows takes {LONGEST_FOLDER} by default (LongPathsEnabled=0)"
    return f"has {length} characters, and {most}"
