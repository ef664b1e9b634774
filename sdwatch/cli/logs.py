"""Set up the log: sdwatch.log in the state folder, bounded; warnings are passed on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import cast

from sdwatch.policy.privacy.printable import printable_text
from sdwatch.policy.report.notice import Notice, Topic
from sdwatch.system import disk, patience
from sdwatch.system.clock import iso

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Lines(logging.Formatter):
    """`2026-11-23T06:52:43.123Z WARNING sdwatch.webui: message key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        head, newline, traceback = line.partition("\n")
        extras = {k: v for k, v in vars(record).items() if k not in _STANDARD}
        told = (f" {k}={v}" for k, v in extras.items() if f" {k}=" not in head)
        return printable_text(head + "".join(told) + newline + traceback)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        del datefmt
        return iso(record.created)


class _Teller(logging.Handler):
    """Pass each warning on to `tell`, as one line."""

    def __init__(self, tell: Callable[[Notice], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        if not hasattr(record, "event"):  # those are for programs; what follows is for people
            with suppress(OSError):  # a full disk behind stderr; the file has it, or nothing has
                which = f"{record.name}:{record.lineno}:{record.args}"
                text = printable_text(record.getMessage())
                self._tell(Notice(text, Topic.WARNING, which))


class _LogFile(RotatingFileHandler):
    """The log and its one predecessor; where another program holds them, for however long, no line
    is lost: it goes to the old file, and the next line tries again to start a new one."""

    def doRollover(self) -> None:  # noqa: N802
        with suppress(OSError):
            super().doRollover()

    def _open(self) -> TextIOWrapper:
        return patience.patiently(self._open_now)

    def _open_now(self) -> TextIOWrapper:
        file = open(  # noqa: SIM115 - the handler closes it
            self.baseFilename,
            self.mode,
            encoding=self.encoding,
            errors=self.errors,
            opener=disk.opener,
        )
        return cast(TextIOWrapper, file)


def set_up_logging(file: Path, cap: int, warn: Callable[[Notice], None]) -> None:
    """Log to `file`, which with its one predecessor takes at most `cap` bytes. `warn` gets each
    warning, on any thread."""
    disk.ensure_folder(file.parent)
    # Opened with the first line only: a second monitor that is turned away leaves no trace.
    to_file = _LogFile(
        file, maxBytes=cap // 2, backupCount=1, encoding="utf-8", errors="replace", delay=True
    )
    to_file.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log = logging.getLogger("sdwatch")
    log.setLevel(logging.INFO)
    log.addHandler(to_file)
    log.addHandler(_Teller(warn))
