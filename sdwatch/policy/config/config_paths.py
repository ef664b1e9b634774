r"""Check paths in a config for what YAML and the system make of them. Pure.

In "double quotes" YAML reads `\` and the next character as one: "D:\new" contains a line end, and
"\\server\\share" starts with one `\`. Nobody means that, and such a folder could be created.
"""

from __future__ import annotations

import re

from sdwatch.policy.naming import shown

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
        return f'contains {sign}: in "double quotes" a backslash starts an escape; {_QUOTES}'
    if windows and path.startswith("\\") and not path.startswith("\\\\"):
        return (
            f'{shown(path)} starts with one backslash, but a share needs two. In "double quotes" '
            f"YAML turns two into one; {_QUOTES}"
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
