"""Whether a text says that something failed, or only mentions it: a prompt that quotes an error, a
tip, an error that is tried again, the name of a download, a line of source code. Pure.
"""

from __future__ import annotations

import re
from itertools import islice

_MOST = 200
"""So many mentions are looked at: each costs some 10 us, and a flood could have a million."""

_PROMPT = re.compile(r"(?i)\b(?:negative[_ ])?prompts?['\"]?\s{0,3}[:=]\s{0,3}[\[(]?")
_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")

_BEFORE = re.compile(
    # a tip, a condition, a possibility
    r"(?i)(?:^|\W)(?:tip|hint|note)s?\s?[:\-]|\bif (?:you|there|this|it)\b|\bin case\b"
    r"|\bto (?:avoid|fix|prevent|reduce|solve)\b|\bwhen(?:ever)? (?:you|there)\b"
    r"|\b(?:may|might|can|could|will) (?:cause|lead|result|run|get|give|raise|fail|be caused)\b"
    r"|\bhelps? (?:with|against)\b|\b(?:no|without|any)\s$"
    # a warning of Python's
    r"|\b[A-Z]\w{2,20}Warning: "
)
_AFTER = re.compile(
    r"(?i)(?:\s(?:errors?|exceptions?|issues?))?\s(?:can|may|might|could|usually|happens?)\b"
    r"|\s(?:errors|exceptions|issues|problems)\b"
)
_SURVIVED = re.compile(
    r"(?i)\bretry(?:ing)?\b|\btrying again\b|\bfall(?:ing|s)? ?back\b|\bthrown while requesting\b"
    r"|\bswitched to\b|^\W*ignoring\b"
)
_BAR = re.compile(r"\d%\|")
_CODE = re.compile(r"[\s│❱>\d]{4,120}(?:raise\b|except\b|#)")


def first_said(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Return the first place of `text` (lines) that fits and does not only mention it."""
    for found in islice(pattern.finditer(text), _MOST):
        start = text.rfind("\n", 0, found.start()) + 1
        end = text.find("\n", found.end())
        after = text[found.end() : len(text) if end < 0 else end]
        if not is_only_mentioned(text[start : found.start()], after):
            return found
    return None


def is_only_mentioned(before: str, after: str) -> bool:
    """Whether what stands between these two parts of a line did not happen there and then."""
    return (
        _BEFORE.search(before) is not None
        or _AFTER.match(after) is not None
        or _SURVIVED.search(after) is not None
        or _SURVIVED.search(before) is not None
        or _BAR.search(after) is not None
        or _CODE.match(before) is not None
        or _is_in_a_prompt(before, after)
    )


def _is_in_a_prompt(before: str, after: str) -> bool:
    """What is not in quotes is a prompt to the end of its line."""
    named = _PROMPT.search(before)
    if named is None:
        return False
    rest, at = before[named.end() :] + after, len(before) - named.end()
    if rest[:1] not in ("'", '"'):
        return True
    return any(found.start() < at < found.end() for found in _LITERAL.finditer(rest))
