"""Write docs/failures.md from the truth table and from what sdwatch knows of WebUIs' texts:
`python -m tests.failures_page`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sdwatch.config import builtin_signatures
from sdwatch.policy.failure.advice import fitted
from sdwatch.policy.failure.diagnosis import Diagnosis, advice_for
from sdwatch.policy.failure.exits import exit_in_words
from sdwatch.policy.failure.signatures import Signature, Way
from sdwatch.policy.job.catalogue import Kind
from tests.truth_table import HOLD_ROWS, KINDS, NAMES, ROWS, Row

_HEAD = """\
# What becomes of each failure

Search here for what your WebUI said: [its texts](#what-the-webui-says) have a cause and an advice.
`Connection refused`, `RemoteDisconnected` and `Connection aborted` are none of them: they are what
others see of a WebUI that had died before, so look for the text that came first.

## What a job meets

Printed from `tests/truth_table.py`, whose every row the test suite runs through the real monitor
against a simulated WebUI of that kind: a job meets the fault each time it is sent, on a WebUI that
is well otherwise. With a fault that strikes once, the second attempt succeeds and the job is done.

*POSTs*: how often the WebUI was sent something; *restarts*: of it.
After the second failure the WebUI makes a self-test: the canary (64x64, one step, a prompt that is
new each time), then a plain picture of two steps, as large as the last good call. One that fails it
is restarted and tested again. It passed in the end in all these, so the job is to blame. A fresh
WebUI that fails it is put on hold, and costs no job: the call gets one last attempt afterwards.
"""

_ON_HOLD = """\
The lane goes on hold, with the reason in `status` and in `HOLD-<lane>.txt`. After a crash it is
tried again as the cool-down allows. What only a person can cure is no crash: a WebUI that answers
is left running and asked again, and one that does not run is started again, after 30 s at most.
The job waits in the inbox, or in working/ where it was sent before.
"""

_TEXTS = """\

## What the WebUI says

Printed from `sdwatch/policy/failure/signatures.yaml`: texts of a WebUI's replies and of its log, in
which `NAME` stands for any name, what sdwatch takes them for, and what to do. Of two that fit, the
upper one is taken. Yours can be added (`signatures:` in the config). In WHY.txt the advice has only
the flags of the kind of WebUI that failed.
"""


def page() -> str:
    """docs/failures.md."""
    lines = [_HEAD]
    lines += ["| what is seen | on | diagnosis | blame | POSTs | restarts | ends in |"]
    lines += ["|---|---|---|---|---|---|---|"]
    lines += [_line(row) for row in ROWS]
    lines += ["", "## It does not start, or is of no use as it is", ""]
    lines += [_ON_HOLD]
    lines += ["| what is seen | tried on | POSTs | a crash |", "|---|---|---|---|"]
    for row in HOLD_ROWS:
        crash = "yes" if row.crash else "no"
        lines.append(f"| {row.seen} | {_kinds(row.on)} | {row.posts} | {crash} |")
    lines += ["", "## What to do", ""]
    for diagnosis in Diagnosis:
        lines.append(f"- **{diagnosis}**: {advice_for(diagnosis)}")
    lines.append(_TEXTS)
    for signature in builtin_signatures():
        lines += _texts_of(signature)
    return "\n".join(lines).rstrip() + "\n"


def _line(row: Row) -> str:
    folder = "failed/" if row.fails else "done/"
    cells = (row.seen, _kinds(row.on), row.diagnosis, row.blame if row.fails else "", row.posts,
             row.restarts, folder)  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def _kinds(on: tuple[str, ...]) -> str:
    return "each" if on == KINDS else ", ".join(NAMES[kind] for kind in on)


def _texts_of(signature: Signature) -> list[str]:
    when = " (while it starts)" if signature.during == "start" else ""
    shown = [*signature.says, *dict.fromkeys(_numbers_of(signature))]
    return [
        f"### {signature.name}",
        *("", "```", *shown, "```", ""),
        f"**{signature.diagnosis}** (proves: {', '.join(signature.proves)}){when}: "
        f"{signature.cause}. "
        f"{fitted(signature.advice, Kind.UNKNOWN)}",
        "",
    ]


def _numbers_of(signature: Signature) -> Iterator[str]:
    """The statuses and exit codes that say it alone."""
    for way in signature.ways:
        if way.by_status:
            yield from (f"HTTP {status}" for status in way.status)
        yield from (_exit(code, way) for code in way.exit)


_MEMORY = {
    True: ", with next to no memory left just before",
    False: ", and memory was not low just before",
    None: "",
}


def _exit(code: int, way: Way) -> str:
    return exit_in_words(code) + _MEMORY[way.memory_low]


if __name__ == "__main__":
    (Path(__file__).parents[1] / "docs" / "failures.md").write_text(
        page(), encoding="utf-8", newline="\n"
    )
