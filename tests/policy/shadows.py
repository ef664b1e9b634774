"""What the tests of the signatures say when they fail: where the row and the signature stand, which
signature decided instead, and what to type."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.facts import FailureFacts
from sdwatch.policy.failure.matching import FailedStart, match, why_not_started
from sdwatch.policy.failure.signatures import Signature

ROOT = Path(__file__).parents[2]
FILE = "sdwatch/policy/failure/signatures.yaml"
BUILTIN = builtin_signatures()
REPRINT = "python -m tests.failures_page"


@cache
def _lines() -> list[str]:
    return (ROOT / FILE).read_text(encoding="utf-8").splitlines()


def place(signature: Signature) -> str:
    """The signature's name, with the file and line to open."""
    plain = {f"- name: {quote}{signature.name}{quote}" for quote in ("", "'", '"')}
    line = next((n for n, text in enumerate(_lines(), 1) if text.rstrip() in plain), 0)
    return f'"{signature.name}" ({FILE}:{line})'


def fits_alone(
    found: FailureFacts | FailedStart, among: Sequence[Signature] = BUILTIN
) -> list[Signature]:
    """The signatures that would explain it if there were no other."""
    return [each for each in among if decider(found, (each,)) is not None]


def decider(
    found: FailureFacts | FailedStart, among: Sequence[Signature] = BUILTIN
) -> Signature | None:
    """The signature that explains it, of all."""
    if isinstance(found, FailureFacts):
        matched = match(found, among)
        return matched[0] if matched else None
    why = why_not_started(found, among)
    if why is None:
        return None
    return next((s for s in among if (s.cause, s.advice) == (why.cause, why.advice)), None)


def shadowed(found: FailureFacts | FailedStart) -> str:
    """Who decided, and whom that one shadows."""
    decided, alone = decider(found), fits_alone(found)
    if decided is None:
        return f"no signature of {FILE} fits it"
    others = [place(each) for each in alone if each is not decided]
    if not others:
        return f"decided by {place(decided)}; no other signature fits it"
    return (
        f"decided by {place(decided)}, which shadows {', '.join(others)}. Of two that fit, the "
        "line that came first decides, then the upper one: make that narrower, or move it down"
    )


def failure(
    file: str, listed: str, row: str, found: FailureFacts | FailedStart, test: str = ""
) -> str:
    """What a failed row says of itself."""
    return (
        f"\n  the row:  {row!r} in the list {listed} of {file}"
        f"\n  taken:    {shadowed(found)}"
        f"\n  alone:    python -m pytest -n 0 {shlex.quote('::'.join(filter(None, (file, test))))}"
        f"\n  after a change of {FILE}: {REPRINT}"
    )


def undecided(signature: Signature, rows: Sequence[tuple[str, FailureFacts | FailedStart]]) -> str:
    """Why no row shows what a signature is for."""
    near = [(name, found) for name, found in rows if decider(found, (signature,)) is not None]
    taken = [
        f"\n    {name!r} is taken by {place(other)}"
        for name, found in near[:5]
        if (other := decider(found)) is not None
    ]
    first = f"\n  {place(signature)} decides no row"
    if taken:
        return f"{first}: in each that it fits, another one shadows it:{''.join(taken)}"
    return (
        f"{first}, and fits none. Add a real text of it to the list ISSUES of "
        "tests/policy/test_signatures.py, or to tests/policy/causes.py"
    )
