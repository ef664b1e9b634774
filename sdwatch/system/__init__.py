"""What differs between operating systems, and nothing else: one set of functions for all of them.

Linux and macOS are in posix.py, Windows in windows.py.
"""

from __future__ import annotations

import sys

import psutil

from sdwatch.system.held import Entry, Kind
from sdwatch.system.listening import listeners

if sys.platform == "win32":
    from sdwatch.system.windows import (
        WRITERS_BLOCK_CLAIMS,
        ask_to_end,
        boot_id,
        boot_time,
        code_pages,
        holding,
        io_bytes,
        is_held,
        is_link,
        is_same_round,
        is_still_written,
        kill,
        listing,
        numbering,
        open_inside,
        open_new,
        open_to_append,
        open_to_read,
        prints_to,
        remove_tree,
        session_members,
        session_of,
        somebody_listens,
        spawn,
        start_mark,
        sync_folder,
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
        holding,
        io_bytes,
        is_held,
        is_link,
        is_same_round,
        is_still_written,
        kill,
        listing,
        numbering,
        open_inside,
        open_new,
        open_to_append,
        open_to_read,
        prints_to,
        remove_tree,
        session_members,
        session_of,
        somebody_listens,
        spawn,
        start_mark,
        sync_folder,
        use_umask,
        wait_gone,
    )

__all__ = [
    "WRITERS_BLOCK_CLAIMS",
    "Entry",
    "Kind",
    "ask_to_end",
    "boot_id",
    "boot_time",
    "code_pages",
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
    "numbering",
    "open_inside",
    "open_new",
    "open_to_append",
    "open_to_read",
    "prints_to",
    "remove_tree",
    "session_members",
    "session_of",
    "somebody_listens",
    "spawn",
    "start_mark",
    "sync_folder",
    "use_umask",
    "wait_gone",
]


def environ_has(pid: int, name: str, value: str) -> bool:
    """Whether the process was started with `name=value`. False where that cannot be seen."""
    try:
        return psutil.Process(pid).environ().get(name) == value
    except (psutil.Error, OSError):
        return False
