"""Find what prompts of a stage mean to AUTOMATIC1111, and are plain words to ComfyUI. Pure.

The picture comes out all the same, so these are warnings: a word in capitals may be meant.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from sdwatch.policy.job.calls.name_checks import EMBEDDING, CheckReport
from sdwatch.policy.job.stage.stage_kinds import PROMPTS
from sdwatch.policy.naming import quoted

_SIGNS = (
    (
        re.compile(r"\[[^\[\]\n]*:\s*[0-9.]+\s*\]"),
        "[from:to:when] changes no prompt between steps",
    ),
    (re.compile(r"\[[^\[\]|\n]+\|[^\[\]\n]+\]"), "[a|b] takes no turns"),
    (re.compile(r"\sAND\s"), "AND joins no prompts (a workflow does, with ConditioningCombine)"),
    (re.compile(r"\bBREAK\b"), "BREAK starts no part (a workflow does, with ConditioningConcat)"),
)


def warn_of_prompts(report: CheckReport) -> None:
    """Warn of each such thing in the prompts of a stage of a ComfyUI."""
    for name in PROMPTS:
        text = report.stage.fields.get(name)
        if not isinstance(text, str):
            continue
        for sign, why in _SIGNS:
            if sign.search(text):
                report.warn((name,), f"{report.webui}: {why}: it is plain words in a prompt")
        for embedding in _bare(text, report):
            use = f'write "embedding:{embedding}" to use the embedding of that name'
            report.warn((name,), f"{report.webui}: {quoted(embedding)} is a plain word; {use}")


def _bare(text: str, report: CheckReport) -> Iterator[str]:
    """Yield embeddings of the WebUI that a prompt names without `embedding:`."""
    names = report.catalogue.lists.get("embeddings")
    if names is None or not names.shown:
        return
    words: Collection[str] = {
        word.lower() for word in re.findall(r"[\w.-]*\w", EMBEDDING.sub("", text))
    }
    yield from (name for name in names.shown if name.lower() in words)
