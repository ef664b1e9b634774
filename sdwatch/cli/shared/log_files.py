"""Set up the monitor's log, bounded: lines for people in sdwatch.log in the state folder, the same
as JSON in sdwatch.jsonl beside it; warnings are passed on."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import cast

from sdwatch.policy.failure.lasting import LastingStates, key_of
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.policy.report.notice import Notice, Topic
from sdwatch.system import disk, patience
from sdwatch.system.clock import SystemClock, iso
from sdwatch.system.log_events import FACTS, FOR_PROGRAMS, LogEvent, bound_facts
from sdwatch.system.state_folder import json_log

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_FOR_PROGRAMS_ONLY = {"event", *FACTS}
"""Left out of the lines for people, whose text names what they are about."""


class _Lines(logging.Formatter):
    """Formats a record as `2026-11-23T06:52:43.123Z WARNING sdwatch.webui: message key=value`."""

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        head, newline, traceback = line.partition("\n")
        extras = {k: v for k, v in _extras(record).items() if k not in _FOR_PROGRAMS_ONLY}
        pairs = (f" {k}={v}" for k, v in extras.items() if f" {k}=" not in head)
        return printable_text(head + "".join(pairs) + newline + traceback)

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        del datefmt
        return iso(record.created)


class _JsonLines(logging.Formatter):
    """Formats a record as one JSON object: `at` (UTC), `level`, `event` (a LogEvent), what it is
    about (see FACTS) as far as that applies, names and numbers of its own, `message`, and the
    `traceback` of an internal error."""

    def format(self, record: logging.LogRecord) -> str:
        facts = bound_facts() | _extras(record)
        line: dict[str, object] = {"at": iso(record.created), "level": record.levelname.lower()}
        line["event"] = str(facts.pop("event", LogEvent.REPORT))
        line |= {name: facts.pop(name) for name in FACTS if name in facts}
        line |= facts
        line["message"] = printable_text(record.getMessage())
        if record.exc_info:
            line["traceback"] = printable_text(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class _WarningHandler(logging.Handler):
    """Passes each warning on to `tell`, as one line."""

    def __init__(self, notify: Callable[[Notice], None]) -> None:
        super().__init__(logging.WARNING)
        self._notify = notify

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "event", None) not in FOR_PROGRAMS:
            with suppress(OSError):  # a full disk behind stderr; the file has it, or nothing has
                which = f"{record.name}:{record.lineno}:{record.args}"
                text = printable_text(record.getMessage())
                self._notify(Notice(text, Topic.WARNING, which))


class _LogFile(RotatingFileHandler):
    """The log and its one predecessor; where another program holds them, for however long, no line
    is lost: it goes to the old file, and the next line tries again to start a new one. Where the
    disk refuses a line, `notify` gets the reason: once, then at growing intervals."""

    def __init__(self, file: Path, cap: int, notify: Callable[[Notice], None]) -> None:
        # Opened with the first line only: a second monitor that is turned away leaves no trace.
        super().__init__(
            file, maxBytes=cap // 2, backupCount=1, encoding="utf-8", errors="replace", delay=True
        )
        self._notify = notify
        self._refusals = LastingStates()

    def doRollover(self) -> None:  # noqa: N802
        with suppress(OSError):
            super().doRollover()

    def flush(self) -> None:
        super().flush()  # the last step of each line
        self._refusals.is_over("", SystemClock().monotonic())

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        why, now = disk.in_words(error), SystemClock().monotonic()
        if line := self._refusals.persists("", key_of(error), why, now):
            text = f"the log {self.baseFilename} cannot be written: {line}"
            with suppress(OSError):  # stderr's disk may be full too
                self._notify(Notice(printable_text(text), Topic.WARNING, self.baseFilename))

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
    """Log to `file`, and as JSON to the file beside it (see `json_log`); each of the two, with its
    one predecessor, takes at most `cap` bytes. `warn` gets each warning, on any thread, and why the
    disk refuses the log."""
    disk.ensure_folder(file.parent)
    to_file = _LogFile(file, cap, warn)
    to_file.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    # What the disk refuses of the second file it refuses of the first, which says so.
    as_json = _LogFile(json_log(file), cap, lambda _: None)
    as_json.setFormatter(_JsonLines())
    log = logging.getLogger("sdwatch")
    log.setLevel(logging.INFO)
    for handler in (to_file, as_json, _WarningHandler(warn)):
        log.addHandler(handler)
