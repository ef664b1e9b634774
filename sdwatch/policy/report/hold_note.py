"""Write HOLD-<lane>.txt, which explains why a WebUI is on hold, in the form of WHY.txt. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sdwatch.policy.failure.facts import Blamed
from sdwatch.policy.failure.hold_reason import Held
from sdwatch.policy.privacy.printable import printable
from sdwatch.policy.report.command import typed
from sdwatch.policy.report.why import joined, log_part

_BLAMED = {
    Blamed.WEBUI: "the WebUI; no job is to blame",
    Blamed.MACHINE: "the machine; no job is to blame",
    Blamed.PERSON: "neither the WebUI nor a job; somebody has to act",
    Blamed.SDWATCH: "sdwatch itself; no job is to blame",
    Blamed.JOB: "a job",
    Blamed.UNKNOWN: "unknown: these jobs or the WebUI",
}


def config_edited(file: str) -> str:
    """Return the notice that the config file no longer is what sdwatch works with."""
    return f"{file} has changed since sdwatch started: restart sdwatch to use it"


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
            *_read_again(edited),
            *_next_steps(held, option, ended),
        ],
    )


def _tried(held: Held) -> list[str]:
    more = f"; {held.before} earlier attempts are left out" if held.before else ""
    lines = [f"  {at}  {printable(what)}" for at, what in held.tried]
    return [f"What was tried, with the result (times are UTC{more}):", *lines] if lines else []


def _read_again(edited: str) -> list[str]:
    return ["", f"  {printable(config_edited(edited))}."] if edited else []


def _next_steps(held: Held, option: str, ended: bool) -> Iterator[str]:
    """Return what happens to the jobs, and what to type."""
    failed = held.hold_reason.failed_runs
    jobs = "No other job" if failed else "No job is lost, and none"
    wait = f"  {jobs} fails because of this: they wait in inbox/ and in working/"
    yield ""
    if ended:
        yield f"{wait}."
        yield "  sdwatch has stopped because of this hold (--once). When it is fixed, type:"
        yield f"    {typed('run', option)}"
    else:
        yield f"{wait},"
        yield "  and resume automatically once it recovers; sdwatch keeps checking."
    if held.tried and not ended:
        yield ""
        yield "  Try it now, or delete this file (a cool-down still runs to its end):"
        yield f"    {typed('resume', option)}"
    if failed:
        yield ""
        yield "  Run the jobs again that failed because of it:"
        yield f"    {typed('retry ' + ' '.join(failed), option)}"
