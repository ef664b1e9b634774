"""Why a WebUI did not become ready, from its log, its exit code and the memory that was left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from sdwatch.policy.failure.advice import fitted
from sdwatch.policy.failure.exits import exit_in_words
from sdwatch.policy.failure.facts import Blamed
from sdwatch.policy.failure.hold_reason import HoldReason, no_start
from sdwatch.policy.failure.matching import FailedStart, why_not_started
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.failure.tracebacks import last_words
from sdwatch.policy.job.catalogue import Kind
from sdwatch.webui.log.log_lines import split_lines
from sdwatch.webui.process.host_snapshot import Snapshot, memory_in_words, memory_low
from sdwatch.webui.process.readiness import NotReady, ProbeResult


def explain_start_failure(
    failed: NotReady,
    *,
    probe: ProbeResult | None,
    given_up: bool,
    tails: Mapping[str, str],
    ended: bool,
    exit_code: int | None,
    memory: Snapshot | None,
    signatures: tuple[Signature, ...],
) -> tuple[str, HoldReason]:
    """Return the reason for the log, and the reason for the lane's hold.

    `probe`: the last one. `tails`: the last lines of each output. `ended`: the process has ended,
    with `exit_code` where that was seen. `memory`: what was left just before.
    """
    lack = probe.lacks if probe else None  # then the WebUI itself has said why
    known = None
    if not (lack or given_up):
        known = _signature_of(tails, exit_code, memory, signatures)
    how = f"{failed.text}: {exit_in_words(exit_code)}" if ended else failed.text
    why = f": {known.cause}. {fitted(known.advice, Kind.UNKNOWN)}" if known else ""
    if failed.advice:
        why = f". {failed.advice}"
    # What was raised may quote a prompt: a hold reason is redacted before it is shown, the log
    # is not.
    raised = how if lack or given_up else how + _last_error(tails)
    return how + why, no_start(raised, known, failed.failure, lack, failed.advice)


def not_writable(state_dir: Path, error: OSError) -> tuple[str, HoldReason]:
    """Return the reason for the log and for the hold: the state folder cannot be written."""
    reason = f"{state_dir} cannot be written: {error}. Nothing was started."
    advice = "Free space there, or let sdwatch write to it."
    return reason, HoldReason(reason, advice, Blamed.MACHINE)


def cannot_kill(pids: Iterable[int]) -> tuple[str, HoldReason]:
    """Return the reason for the log and for the hold: these processes survive SIGKILL."""
    named = ", ".join(map(str, pids))
    reason = f"pid {named} cannot be killed: it hangs in the kernel or a driver"
    return reason, HoldReason(reason, "Restart the machine.", Blamed.MACHINE)


def _signature_of(
    tails: Mapping[str, str],
    exit_code: int | None,
    memory: Snapshot | None,
    signatures: tuple[Signature, ...],
) -> Signature | None:
    outputs = tuple(text.splitlines() for text in tails.values())
    known = why_not_started(FailedStart(outputs, exit_code, memory_low(memory)), signatures)
    if known is not None and known.asks_for_memory:
        return replace(known, cause=f"{known.cause} ({memory_in_words(memory)})")
    return known


def _last_error(tails: Mapping[str, str]) -> str:
    outputs = [split_lines(text) for text in tails.values()]
    raised = last_words([line.text for line in lines] for lines in outputs)
    return f"; its log: {raised}" if raised else ""
