"""What differs between operating systems, and nothing else: one set of functions for all of them.

Linux and macOS are in posix.py, Windows in windows.py.
"""

from __future__ import annotations

import sys

import psutil

from sdwatch.system.held import Entry, EntryKind
from sdwatch.system.interpreter import python_of_console
from sdwatch.system.listening import listeners

if sys.platform == "win32":
    from sdwatch.system.session_end import when_session_ends
    from sdwatch.system.windows import (
        WRITERS_BLOCK_CLAIMS,
        ask_to_end,
        boot_id,
        boot_time,
        code_pages,
        cut,
        holding,
        io_bytes,
        is_held,
        is_link,
        is_same_round,
        is_still_written,
        kill,
        listing,
        long_path,
        numbering,
        open_inside,
        open_new,
        open_to_append,
        open_to_read,
        prints_to,
        remove_file,
        remove_tree,
        replace,
        session_members,
        session_of,
        somebody_listens,
        spawn,
        start_mark,
        sync_folder,
        too_long_for_programs,
        use_umask,
        wait_gone,
    )
else:
    from sdwatch.system.posix import (
        WRITERS_BLOCK_CLAIMS,
        ask_to_end,
        boot_id,
        boot_time,
        code_pages,
        cut,
        holding,
        io_bytes,
        is_held,
        is_link,
        is_same_round,
        is_still_written,
        kill,
        listing,
        long_path,
        numbering,
        open_inside,
        open_new,
        open_to_append,
        open_to_read,
        prints_to,
        remove_file,
        remove_tree,
        replace,
        session_members,
        session_of,
        somebody_listens,
        spawn,
        start_mark,
        sync_folder,
        too_long_for_programs,
        use_umask,
        wait_gone,
        when_session_ends,
    )

__all__ = [
    "WRITERS_BLOCK_CLAIMS",
    "Entry",
    "EntryKind",
    "ask_to_end",
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
    "listeners",
    "listing",
    "long_path",
    "numbering",
    "open_inside",
    "open_new",
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


def environ_has(pid: int, name: str, value: str) -> bool:
    """Whether the process was started with `name=value`. False where that cannot be seen."""
    try:
        return psutil.Process(pid).environ().get(name) == value
    except (psutil.Error, OSError):
        return False
