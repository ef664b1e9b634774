"""Write HOLD-<lane>.txt, which explains why a WebUI is on hold, in the form of WHY.txt. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sdwatch.policy.failure.facts import Blamed
from sdwatch.policy.failure.hold_reason import Cure, Held, HoldCode
from sdwatch.policy.failure.recovery import SENT_AT_MOST
from sdwatch.policy.privacy.printable import counted, printable
from sdwatch.policy.report.command import typed
from sdwatch.policy.report.notice import config_edited
from sdwatch.policy.report.why import joined, log_part

_BLAMED = {
    Blamed.WEBUI: "the WebUI; no job is to blame",
    Blamed.MACHINE: "the machine; no job is to blame",
    Blamed.PERSON: "the setup, which a person has to fix; no job is to blame",
    Blamed.SDWATCH: "sdwatch itself; no job is to blame",
    Blamed.JOB: "a job",
    Blamed.UNKNOWN: "unknown: these jobs or the WebUI",
}

_NONE_FAILS = "No job is lost, and none fails because of this"


def hold_text(
    lane: str, held: Held, option: str = "", *, ended: bool = False, edited: str = ""
) -> str:
    """Return the whole note.

    `option`: what the commands need so that they work in any folder (see command.py); `ended`:
    sdwatch stopped because of this hold (`run --once`); `edited`: the config file, if it has
    changed since sdwatch started.
    """
    hold_reason = held.hold_reason
    return joined(
        [printable(hold_reason.cause)],
        [
            f"Fault:     {_BLAMED[hold_reason.blame]}",
            f"WebUI:     {lane}, on hold since {held.since} (UTC)",
        ],
        _tried(held),
        log_part(hold_reason.lines, f"more in the state folder, webui-{lane}/"),
        [
            "What to do:",
            f"  {hold_reason.advice}",
            *_about_config(held, ended, edited),
            *_next_steps(held, option, ended),
        ],
    )


def _tried(held: Held) -> list[str]:
    more = f"; {counted(held.before, 'earlier attempt')} left out" if held.before else ""
    lines = [f"  {at}  {printable(what)}" for at, what in held.tried]
    return [f"What was tried, with the result (times are UTC{more}):", *lines] if lines else []


def _about_config(held: Held, ended: bool, edited: str) -> Iterator[str]:
    """Return when a change of the config counts: it is read only at the start."""
    if edited:
        yield ""
        yield f"  {printable(config_edited(edited))}."
    elif held.hold_reason.cure is Cure.PERSON and not ended:
        yield ""
        yield "  A change in the config counts from the next start of sdwatch, so restart it then."


def _next_steps(held: Held, option: str, ended: bool) -> Iterator[str]:
    """Return what happens to the jobs, and what to type."""
    failed = held.hold_reason.failed_runs
    yield ""
    wait = f"  {_jobs(held)}: they wait in inbox/ and in working/"
    if ended:
        yield f"{wait}."
        yield "  sdwatch has stopped because of this hold (--once). When it is fixed, type:"
        yield f"    {typed('run', option)}"
    else:
        yield f"{wait},"
        yield "  and resume automatically once it recovers; sdwatch keeps checking."
    if _is_seen_by_calls(held):
        yield (
            f"  Only a call shows whether it has, and one that was sent {SENT_AT_MOST} times "
            "fails its job."
        )
    if held.tried and not ended:
        yield ""
        yield (
            "  To have it tried again now, type this, or delete this file (a cool-down still has "
            "to end):"
        )
        yield f"    {typed('resume', option)}"
    if failed:
        yield ""
        yield "  To run the jobs again that failed because of it, type:"
        yield f"    {typed('retry ' + ' '.join(failed), option)}"


def _is_seen_by_calls(held: Held) -> bool:
    return held.hold_reason.key.code is HoldCode.FOUND_BY_CALL


def _jobs(held: Held) -> str:
    """Return what the hold does to the jobs that it does not fail."""
    if held.hold_reason.failed_runs:
        return "No other job fails because of this"
    return "No job is lost" if _is_seen_by_calls(held) else _NONE_FAILS
