"""What differs between operating systems, and nothing else: one set of functions for all of them.

Linux and macOS are in posix*.py, Windows in windows*.py: the machine, files, processes.
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
        boot_id,
        boot_time,
        code_pages,
        cut,
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
        boot_id,
        boot_time,
        code_pages,
        cut,
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
    """Return whether the process was started with `name=value`. False where that cannot be seen."""
    try:
        return psutil.Process(pid).environ().get(name) == value
    except (psutil.Error, OSError):
        return False
