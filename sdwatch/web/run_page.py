"""Read one run's folder for its page."""

from __future__ import annotations

from sdwatch.policy.page.buttons import Forms
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.spool.diagnostics import ENVELOPE, WHY
from sdwatch.spool.failed_points import envelope_of, failed_points_in
from sdwatch.spool.folders import Spool
from sdwatch.spool.run import read_source
from sdwatch.system import EntryKind, disk
from sdwatch.web import pages

_LEVELS, _MOST, _LONGEST_WHY = 3, 5000, 100_000


def run_page(spool: Spool, name: str, token: str) -> str | None:
    """Return the page of the run whose folder is `name`, relative to the spool; None if that is not
    a run's folder. `token`: for its buttons, '' for none. Raises OSError."""
    parts = name.split("/")
    if len(parts) != (3 if parts[0] == "working" else 2):
        return None
    folder = spool.root / name
    if not disk.is_folder(folder):
        return None
    found = sorted(
        path for path, kind in disk.entries_below(folder, _LEVELS) if _is_shown(path, kind)
    )
    files = [(path, _size_of(spool, name, path)) for path in found[:_MOST]]
    why = ""
    if WHY in found:
        why = printable_text(disk.read(folder / WHY)[:_LONGEST_WHY].decode("utf-8", "replace"))
    failed = len(failed_points_in(envelope_of(folder))) if ENVELOPE in found else 0
    source = read_source(folder)
    buttons = pages.buttons_of(name, source, failed, Forms(bool(token), token))
    return pages.run(name, source, files, why, buttons)


def _is_shown(path: str, kind: EntryKind) -> bool:
    return kind is EntryKind.FILE and not path.rpartition("/")[2].startswith(".")


def _size_of(spool: Spool, name: str, path: str) -> int:
    try:
        return disk.look_at(spool.root / name / path).st_size
    except OSError:
        return 0
