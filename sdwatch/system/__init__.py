"""The differences between operating systems, and nothing else: one set of functions for all of
them.

Linux and macOS are in posix*.py, Windows in windows*.py: the machine, files, processes. Each of
them is imported when something in it is first used, since `sdwatch --help` needs none.
"""

from __future__ import annotations

import importlib
import sys

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from sdwatch.system.file_kinds import Entry, EntryKind
    from sdwatch.system.interpreter import python_of_console
    from sdwatch.system.listening import listen_alone, listeners

    if sys.platform == "win32":
        from sdwatch.system.session_end import when_session_ends
        from sdwatch.system.windows import (
            LONGEST_WAIT,
            awake_time,
            boot_id,
            boot_time,
            code_pages,
            cut,
            open_on_desktop,
            somebody_listens,
        )
        from sdwatch.system.windows_files import (
            WRITERS_BLOCK_CLAIMS,
            holding,
            is_held,
            is_link,
            is_still_written,
            listing,
            long_path,
            open_inside,
            open_new,
            open_to_append,
            open_to_read,
            remove_file,
            remove_tree,
            replace,
            sync_folder,
            too_long_for_programs,
        )
        from sdwatch.system.windows_processes import (
            ask_to_end,
            environ_has,
            io_bytes,
            is_same_round,
            kill,
            numbering,
            prints_to,
            session_members,
            session_of,
            spawn,
            start_mark,
            use_umask,
            wait_gone,
        )
    else:
        from sdwatch.system.posix import (
            LONGEST_WAIT,
            awake_time,
            boot_id,
            boot_time,
            code_pages,
            cut,
            open_on_desktop,
            somebody_listens,
            when_session_ends,
        )
        from sdwatch.system.posix_files import (
            WRITERS_BLOCK_CLAIMS,
            holding,
            is_held,
            is_link,
            is_still_written,
            listing,
            long_path,
            open_inside,
            open_new,
            open_to_append,
            open_to_read,
            remove_file,
            remove_tree,
            replace,
            sync_folder,
            too_long_for_programs,
        )
        from sdwatch.system.posix_processes import (
            ask_to_end,
            environ_has,
            io_bytes,
            is_same_round,
            kill,
            numbering,
            prints_to,
            session_members,
            session_of,
            spawn,
            start_mark,
            use_umask,
            wait_gone,
        )

__all__ = [
    "LONGEST_WAIT",
    "WRITERS_BLOCK_CLAIMS",
    "Entry",
    "EntryKind",
    "ask_to_end",
    "awake_time",
    "boot_id",
    "boot_time",
    "code_pages",
    "cut",
    "environ_has",
    "holding",
    "io_bytes",
    "is_held",
    "is_link",
    "is_same_round",
    "is_still_written",
    "kill",
    "listen_alone",
    "listeners",
    "listing",
    "long_path",
    "numbering",
    "open_inside",
    "open_new",
    "open_on_desktop",
    "open_to_append",
    "open_to_read",
    "prints_to",
    "python_of_console",
    "remove_file",
    "remove_tree",
    "replace",
    "session_members",
    "session_of",
    "somebody_listens",
    "spawn",
    "start_mark",
    "sync_folder",
    "too_long_for_programs",
    "use_umask",
    "wait_gone",
    "when_session_ends",
]

_SYSTEM = "windows" if sys.platform == "win32" else "posix"
_HOMES = (
    _SYSTEM,
    f"{_SYSTEM}_files",
    f"{_SYSTEM}_processes",
    "file_kinds",
    "interpreter",
    "listening",
    "session_end",
)


def __getattr__(name: str) -> object:
    """Return what one of the modules has under this name, and remember it."""
    for home in _HOMES if name in __all__ else ():
        module = importlib.import_module(f"{__name__}.{home}")
        if hasattr(module, name):
            found: object = getattr(module, name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
