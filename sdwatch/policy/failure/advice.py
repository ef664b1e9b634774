"""Remedies for failures, in the flags and settings of each kind of WebUI. Pure.

Advice names a remedy in braces, as in `try a smaller size, or {less_memory}`; `fitted` puts in what
this kind of WebUI has for it, see policy/kinds.
"""

from __future__ import annotations

import re

from sdwatch.policy.kinds.kind import Kind, Remedy

_IN_BRACES = re.compile(r"(?P<starts>(?:^|[.!?] ))?\{(?P<name>" + "|".join(Remedy) + r")\}")


def fitted(advice: str, kind: Kind) -> str:
    """Return the advice with each remedy as this kind of WebUI has it; other braces stay."""

    def words(found: re.Match[str]) -> str:
        text, before = kind.remedies[Remedy(found["name"])], found["starts"]
        return text if before is None else f"{before}{text[:1].upper()}{text[1:]}"

    return _IN_BRACES.sub(words, advice)
