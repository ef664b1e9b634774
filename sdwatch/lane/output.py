"""What a WebUI printed, for people: beside a hold reason, and as warnings of its start."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from sdwatch.policy.failure.error_lines import lines_that_matter
from sdwatch.policy.failure.hold_reason import HoldReason
from sdwatch.policy.failure.reply_checks import Finding, failed_extensions
from sdwatch.policy.privacy.cuts import shortened
from sdwatch.policy.privacy.redaction import MOST_AT_ONCE
from sdwatch.webui.http.external import ExternalWebUI
from sdwatch.webui.log.tail_capture import first_lines
from sdwatch.webui.process.process import WebUIProcessManager


def with_output(
    hold_reason: HoldReason,
    process: WebUIProcessManager | ExternalWebUI,
    redact: Callable[[str], str],
) -> HoldReason:
    """Return the reason with the lines that the WebUI printed, free of prompts."""
    tails = "\n".join(process.get_tail_logs().values())
    lines = tuple(lines_that_matter(redact(shortened(tails, MOST_AT_ONCE))))
    return replace(hold_reason, cause=redact(hold_reason.cause), lines=lines)


def findings_of_start(paths: Iterable[Path]) -> tuple[Finding, ...]:
    """Return the extensions that the WebUI with these logs did not load at its start."""
    lines = [line for path in paths for line in first_lines(path)]
    return tuple(each for each in failed_extensions(lines, {}) if each.of_start)
