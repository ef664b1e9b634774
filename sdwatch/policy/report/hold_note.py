"""HOLD-<lane>.txt: a WebUI on hold, told as story.py tells a failed run. Pure."""

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
    Blamed.PERSON: "neither the WebUI nor a job: it waits for somebody",
    Blamed.SDWATCH: "sdwatch itself; no job is to blame",
    Blamed.JOB: "a job",
    Blamed.UNKNOWN: "not known: these jobs, or the WebUI",
}


def config_edited(file: str) -> str:
    """For people: this config file is another than the one that is worked with."""
    return f"{file} has changed since sdwatch started: restart sdwatch to use it"


def hold_text(
    lane: str, held: Held, option: str = "", *, ended: bool = False, edited: str = ""
) -> str:
    """The whole note. `option`: what its commands need, to be typed in any folder (see command.py);
    `ended`: sdwatch has ended on this hold (`run --once`); `edited`: the config file, where it has
    changed since sdwatch started."""
    hold_reason = held.hold_reason
    return joined(
        [printable(hold_reason.cause)],
        [
            f"Fault of:  {_BLAMED[hold_reason.blame]}",
            f"WebUI:     {lane}, on hold since {held.since} (UTC)",
        ],
        _tried(held),
        log_part(hold_reason.lines, f"more in the state folder, webui-{lane}/"),
        [
            "What to do:",
            f"  {hold_reason.advice}",
            *_read_again(edited),
            *_goes_on(held, option, ended),
        ],
    )


def _tried(held: Held) -> list[str]:
    more = f"; {held.before} more before these" if held.before else ""
    told = [f"  {at}  {printable(what)}" for at, what in held.tried]
    return [f"What was tried, and what came of it (times are UTC{more}):", *told] if told else []


def _read_again(edited: str) -> list[str]:
    return ["", f"  {printable(config_edited(edited))}."] if edited else []


def _goes_on(held: Held, option: str, ended: bool) -> Iterator[str]:
    """What becomes of the jobs, and what to type."""
    spent = held.hold_reason.spent
    jobs = "No other job" if spent else "No job is lost, and none"
    wait = f"  {jobs} is spent on it: they wait in inbox/ and in working/"
    yield ""
    if ended:
        yield f"{wait}."
        yield "  sdwatch has ended on this hold (--once). When that is mended:"
        yield f"    {typed('run', option)}"
    else:
        yield f"{wait},"
        yield "  and go on by themselves when it is well again; sdwatch looks for that by and by."
    if held.tried and not ended:
        yield ""
        yield "  Have it tried now, or delete this file (a cool-down runs on all the same):"
        yield f"    {typed('resume', option)}"
    if spent:
        yield ""
        yield "  Put the jobs back that were spent on it:"
        yield f"    {typed('retry ' + ' '.join(spent), option)}"
