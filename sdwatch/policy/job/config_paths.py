r"""Paths as people write them into a config, and what YAML and the system make of them. Pure.

In "double quotes" YAML reads `\` and the sign behind it as one: "D:\new" has a line end in it, and
"\\server\\share" begins with one `\`. Nobody means that, and a folder of that name could be made.
"""

from __future__ import annotations

import re

from sdwatch.policy.job.document import shown

# What YAML's escapes make (\n, \t, \b …, \N, \P, \L), and no name of a folder has; \_ only behind
# a drive, since a name may have such a space.
_ESCAPED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]|^[A-Za-z]:\xa0")
_OF_WINDOWS = re.compile(r"\\|[A-Za-z]:[\\/]")

_SERVER_ALONE = re.compile(r"[\\/]{2}(\?\\UNC\\)?[^\\/?.][^\\/?]*[\\/]?")

_QUOTES = "use 'single quotes', or / in place of each backslash"


def refusal(path: str, windows: bool) -> str:
    r"""Return why this cannot be the path that is meant, or ''. `windows`: whether this system is
    Windows. `\\server\share\spool`, `//server/share/spool` and `\\?\UNC\server\share\spool` are
    good there."""
    if _ESCAPED.search(path):
        sign = "a zero byte" if "\0" in path else f"a control character ({shown(path)})"
        return f'has {sign} in it: in "double quotes" a backslash begins an escape; {_QUOTES}'
    if windows and path.startswith("\\") and not path.startswith("\\\\"):
        return (
            f'{shown(path)} begins with one backslash, and a share with two. In "double quotes" '
            f"YAML makes one of two; {_QUOTES}"
        )
    if windows and _SERVER_ALONE.fullmatch(path):
        return f"{shown(path)} names a server without a share; \\\\server\\share\\folder has one"
    return ""


def refusal_to_make(path: str, windows: bool) -> str:
    """Return why no folder of this path is to be made, or '': elsewhere one of Windows would be a
    folder beside the config, with a backslash or a colon in its name."""
    if windows or not _OF_WINDOWS.match(path):
        return ""
    return (
        f"{shown(path)} is a path of Windows, and this system is not; name the folder by its path "
        "here, of a share by where it is mounted"
    )
