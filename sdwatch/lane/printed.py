"""What a WebUI prints: of the call in flight, whose progress it shows; and for people, beside a
hold reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sdwatch.errors import WebUIError
from sdwatch.lane.context import LaneContext
from sdwatch.policy.failure.error_lines import lines_that_matter
from sdwatch.policy.failure.expression import Expression
from sdwatch.policy.failure.hold_reason import HoldReason
from sdwatch.policy.failure.progress import Limits
from sdwatch.policy.privacy.printable import shortened
from sdwatch.policy.privacy.redaction import MOST_AT_ONCE
from sdwatch.webui.http.call_watch import CallWatch
from sdwatch.webui.http.external import LaneProcess
from sdwatch.webui.log.call_log import CallLog
from sdwatch.webui.log.tail_capture import first_lines_with
from sdwatch.webui.process import process_tree


class PrintedLines:
    """Of the WebUI of `context`. A log is kept after the end of its call: the next call
    must not take its late traceback for its own."""

    def __init__(self, context: LaneContext, process: LaneProcess) -> None:
        self._context = context
        self._process = process
        self._last: CallLog | None = None  # of a run's last POST
        self._newest: tuple[int, CallLog] | None = None  # and its incarnation; self-tests too

    def watch_job(self, stage: str) -> CallWatch:
        """Return a watch for a job's POST that goes out now."""
        watch = self.watch(stage)
        self._last = watch.log
        return watch

    def watch(self, stage: str) -> CallWatch:
        """Return a watch for a POST that goes out now."""
        context, config = self._context, self._context.config
        return CallWatch(
            context.client,
            context.clock,
            Limits(config.stall, config.load_limit, config.call_limit, config.health.timeout),
            stage=stage,
            work=lambda: process_tree.cpu_and_io(self._process.family()),
            log=self.new_log(),
        )

    def lines(self) -> tuple[str, ...]:
        """Return the WebUI's lines since a job's last POST went out, oldest first."""
        return self._last.lines() if self._last is not None else ()

    def wait_for_traceback(self, error: WebUIError, is_over: Callable[[float], bool]) -> None:
        """Wait for what the WebUI prints of a failed POST after its reply."""
        if self._last is not None:
            self._last.wait_for_traceback(error, is_over)

    @property
    def is_known(self) -> bool:
        """Return whether the WebUI's output can be read."""
        return bool(self._process.log_paths())

    def first_lines_with(self, patterns: Sequence[Expression]) -> tuple[str, ...]:
        """Return the first line that matches each pattern, of all that the WebUI has printed."""
        paths = self._process.log_paths()
        return self._context.log_reader.read(lambda: first_lines_with(paths, patterns), ())

    def sizes(self) -> tuple[int, ...]:
        """Return the bytes in each output file of a WebUI that sdwatch starts: they are local. ()
        of another one, since its log may be on a share that hangs."""
        return tuple(map(_size_of, self._process.log_paths())) if self._context.managed else ()

    def new_log(self, offsets: tuple[int, ...] = ()) -> CallLog:
        """Return a log that starts now, or at these offsets. Tracebacks that earlier calls still
        owe are not part of it; a process that ended owes none."""
        incarnation = self._process.incarnation
        before = self._newest
        same = before[1] if before is not None and before[0] == incarnation else None
        ends = self._context.remembered.kind.worker_ends
        reader = self._context.log_reader
        log = CallLog(self._process.log_paths(), self._context.clock, same, ends, offsets, reader)
        self._newest = incarnation, log
        return log


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def with_printed_lines(
    hold_reason: HoldReason, tails: Mapping[str, str], redact: Callable[[str], str]
) -> HoldReason:
    """Return the reason with the lines that the WebUI printed last, free of prompts."""
    text = redact(shortened("\n".join(tails.values()), MOST_AT_ONCE))
    lines = tuple(lines_that_matter(text))
    return replace(hold_reason, cause=redact(hold_reason.cause), lines=lines)
