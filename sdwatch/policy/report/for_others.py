"""Take from a run what strangers may see, by allow-list: a field is kept only if it is named here,
and only as a number, a time, or a code that sdwatch itself writes. Pure.

Prompts, names and secrets can be written in more ways than anybody can list; the fields that a bug
report needs can be listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from sdwatch.policy.failure.earlier_records import EARLIER_DIAGNOSES
from sdwatch.policy.failure.facts import Blamed, Diagnosis
from sdwatch.policy.failure.ledger import EVENTS
from sdwatch.policy.failure.recovery import Action, Ground
from sdwatch.policy.failure.tracebacks import Frame, frames, tracebacks
from sdwatch.policy.job.calls.payload import CALL_ID
from sdwatch.policy.job.conduct import OomStep
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.kinds.table import KINDS
from sdwatch.policy.report.envelope import Unsent

OWN_SIGNATURE = "(one of the user's own)"
ELSEWHERE = "(elsewhere)"
"""A frame of code that is in no package that is known."""

MOST_TRACEBACKS, MOST_FRAMES = 20, 60
"""In each text; of more the last."""

_Check = Callable[[Any], Any]
"""Returns the value if it may be seen, else None."""


def _number(value: Any) -> Any:
    is_one = isinstance(value, int | float) and abs(value) < 2**63  # neither NaN
    return value if is_one else None


def _text(pattern: str) -> _Check:
    fits = re.compile(pattern, re.ASCII)
    return lambda value: value if isinstance(value, str) and fits.fullmatch(value) else None


def _one_of(*codes: Iterable[Any]) -> _Check:
    known = frozenset(str(code) for group in codes for code in group)
    return lambda value: value if isinstance(value, str) and value in known else None


_NUMBERS = (
    *("attempt", "incarnation", "generation", "status", "exit_code", "seconds", "after", "times"),
    *("counted", "crashed", "first_call", "excused", "repeats", "self_test_passed"),
)
_VERSION = _text(r"[A-Za-z]{0,3}\d[\w.+-]{0,60}")
_EXCEPTION = _text(
    r"(?:[A-Za-z_]\w{0,40}\.){0,8}[A-Za-z_]\w{0,60}(?:Error|Exception|Interrupt|Exit|Warning)"
)
_FIELDS: dict[str, _Check] = {
    **dict.fromkeys(_NUMBERS, _number),
    "at": _text(r"\d{4}-\d\d-\d\dT[\d:.]{5,16}Z"),
    "event": _one_of(EVENTS, ("same_fault",)),
    "call": _text(CALL_ID),
    "step": _one_of(OomStep),
    "diagnosis": _one_of(Diagnosis, Unsent, EARLIER_DIAGNOSES),
    "action": _one_of(Action),
    "ground": _one_of(Ground),
    "blame": _one_of(Blamed),
    "stage": _one_of(STAGES),
    "outcome": _one_of(("done", "failed", "cancelled")),
    "error": _text(r"[A-Z][A-Za-z]{2,40}"),  # a class of sdwatch's own errors
    "failure": _text(r"[0-9a-f]{16}"),
    "raised": _EXCEPTION,
    "webui_version": _VERSION,
}


def fields_of(record: object, signatures: Collection[str]) -> dict[str, Any]:
    """Return what may be seen of a record of the journal, or of error.json. `signatures`: the names
    of those that come with sdwatch."""
    if not isinstance(record, Mapping):
        return {}
    found = {name: check(record.get(name)) for name, check in _FIELDS.items()}
    if signature := record.get("signature"):
        found["signature"] = signature if signature in signatures else OWN_SIGNATURE
    return {name: value for name, value in found.items() if value is not None}


def webui_of(about: object) -> dict[str, Any]:
    """Return the kind and version of the WebUI that a manifest names."""
    known = about if isinstance(about, Mapping) else {}
    found = {"kind": _one_of(KINDS)(known.get("kind")), "version": _VERSION(known.get("version"))}
    return {name: value for name, value in found.items() if value is not None}


def keys_of(settings: BaseModel, words: Collection[str]) -> dict[str, Any]:
    """Return the keys of a config that somebody set: with its value each that is a number, a switch
    or one of `words`, all others as "set"."""
    return {
        name: _shown(value, words)
        for name, value in settings
        if name in settings.model_fields_set and value is not None
    }


def _shown(value: object, words: Collection[str]) -> Any:
    if isinstance(value, BaseModel):
        return keys_of(value, words)
    if isinstance(value, tuple) and all(isinstance(v, int | float | BaseModel) for v in value):
        return [_shown(each, words) for each in value]
    if isinstance(value, str) and value in words:
        return value
    return "set" if _number(value) is None else value


# -- tracebacks

_ROOTS = (
    re.compile(r".*/(?:site|dist)-packages/"),
    re.compile(r".*/(?:lib/python3\.\d{1,2}|python(?:3\d{0,3})?/lib)/", re.I),
    re.compile(r".*/(?=sdwatch/[\w/]+\.py$)"),
    re.compile(
        r".*?/(?=(?:modules(?:_forge)?|backend|ldm_patched|comfy|repositories|packages_3rdparty"
        r"|extensions(?:-builtin)?)/)"
    ),
    re.compile(r".*/(?=(?:launch|webui)\.py$)"),
)
"""What stands before a path within a package: installed, of Python, of sdwatch, of a WebUI."""

_PATH = _text(r"(?!.*\.\.)[\w.-]{1,80}(?:/[\w.-]{1,80}){0,12}")
_FUNCTION = _text(r"[A-Za-z_<][\w<>.]{0,80}")


def tracebacks_of(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the tracebacks in a log, each as the class of the exception and its frames, the
    innermost last."""
    for found in tracebacks(lines)[-MOST_TRACEBACKS:]:
        named = found.exception.partition(":")[0].strip()
        raised = frames(lines[found.start : found.end])[-MOST_FRAMES:]
        yield {"exception": _EXCEPTION(named), "frames": [*map(_frame, raised)]}


def _frame(frame: Frame) -> str:
    """Return `modules/processing.py:847 process`."""
    path = re.sub(r"[\\/]+", "/", frame.file)
    found = next((match for root in _ROOTS if (match := root.match(path))), None)
    within = _PATH(path[found.end() :]) if found else None
    if within is None:
        return f"{ELSEWHERE}:{frame.line}"
    return f"{within}:{frame.line} {_FUNCTION(frame.function) or ''}".rstrip()
