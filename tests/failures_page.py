"""Write docs/failures.md from the truth table and from what sdwatch knows of WebUIs' texts:
`python -m tests.failures_page`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.diagnosis import Diagnosis, advice_for
from sdwatch.policy.failure.exits import exit_in_words
from sdwatch.policy.failure.signatures import Signature, Way
from sdwatch.policy.kinds.unknown import UNKNOWN
from tests.support.truth_table import HOLD_ROWS, KINDS, NAMES, ROWS, Row

_HEAD = """\
# What becomes of each failure

Search this page for what your WebUI said: [each text](#what-the-webui-says) has a cause and
advice. `Connection refused`, `RemoteDisconnected` and `Connection aborted` are not among them:
other programs print them about a WebUI that has already died. Look for the text that came before
them.

## What a job meets

Printed from `tests/support/truth_table.py`. The test suite runs every row through the real monitor
against a simulated WebUI of that kind. Here the job meets the fault each time it is sent, and the
WebUI is otherwise healthy. If a fault strikes only once, the second attempt succeeds and the job
is done.

*POSTs*: how often the job's call was sent. *Restarts*: how often the WebUI was restarted. After
the second failure the WebUI gets a self-test: the canary (64x64, one step, a prompt that is new
each time), then a plain picture of two steps, as large as the last good call. A WebUI that fails
it is restarted and tested again. In all these rows it passed in the end, so the job is at fault.
A freshly started WebUI that fails it goes on hold and costs no job: the call gets one last
attempt once the WebUI has recovered.
"""

_ON_HOLD = """\
The lane goes on hold, and `status` and `HOLD-<lane>.txt` say why. After a crash it is tried again
as the cool-down allows. What only a person can fix is not a crash: a WebUI that answers is left
running and checked again, and one that is not running is started again after 30 s at most. The
job waits in the inbox, or in working/ if it was already sent.
"""

_TEXTS = """\

## What the WebUI says

Printed from `sdwatch/policy/failure/signatures.yaml`: texts from a WebUI's replies and log
(`NAME` stands for any name), what sdwatch takes them for, and what to do. If two fit, the upper
one counts. You can add your own (`signatures:` in the config). The advice in a WHY.txt has only
the flags of the kind of WebUI that failed.
"""


def page() -> str:
    """docs/failures.md."""
    lines = [_HEAD]
    lines += ["| what is seen | on | diagnosis | blame | POSTs | restarts | ends in |"]
    lines += ["|---|---|---|---|---|---|---|"]
    lines += [_line(row) for row in ROWS]
    lines += ["", "## The WebUI does not start, or cannot be used", ""]
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
        f"**{signature.diagnosis}** (proves: {', '.join(_proven_by(signature))}){when}: "
        f"{signature.cause}. "
        f"{UNKNOWN.fitted(signature.advice)}",
        "",
    ]


_PROVES = {
    Diagnosis.POISONED: "poisoned",
    Diagnosis.NOT_USABLE: "hold",
    Diagnosis.STORAGE: "hold",
    Diagnosis.BUSY: "hold",
    Diagnosis.BAD_REQUEST: "job",
}


def _proven_by(signature: Signature) -> list[str]:
    """What follows from a signature, beside its cause and its advice."""
    poisoned = "poisoned" if signature.poisons else None
    facts = dict.fromkeys((_PROVES.get(signature.diagnosis), poisoned))
    return [fact for fact in facts if fact] or ["advice"]


def _numbers_of(signature: Signature) -> Iterator[str]:
    """The statuses and exit codes that say it alone."""
    for way in signature.when:
        if way.by_status:
            yield from (f"HTTP {status}" for status in way.status)
        yield from (_exit(code, way) for code in way.exits)


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
