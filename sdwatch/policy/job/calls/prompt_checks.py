"""Find what prompts of a stage mean to AUTOMATIC1111, and are plain words to ComfyUI. Pure.

The picture comes out all the same, so these are warnings: a word in capitals may be meant.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from sdwatch.policy.job.calls.name_checks import EMBEDDING, CheckReport
from sdwatch.policy.job.stage.stage_kinds import PROMPTS
from sdwatch.policy.naming import quoted

_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_NUMBER = re.compile(r"[0-9.]+")
_AND = re.compile(r"\sAND\s")
_BREAK = re.compile(r"\bBREAK\b")


def warn_of_prompts(report: CheckReport) -> None:
    """Warn of each such thing in the prompts of a stage of a ComfyUI."""
    for name in PROMPTS:
        text = report.stage.fields.get(name)
        if not isinstance(text, str):
            continue
        for why in _signs(text):
            report.warn((name,), f"{report.webui}: {why}: it is plain words in a prompt")
        for embedding in _bare(text, report):
            use = f'write "embedding:{embedding}" to use the embedding of that name'
            report.warn((name,), f"{report.webui}: {quoted(embedding)} is a plain word; {use}")


def _signs(text: str) -> Iterator[str]:
    inner = _BRACKETS.findall(text)
    if any(_NUMBER.fullmatch(each.rpartition(":")[2].strip()) for each in inner if ":" in each):
        yield "[from:to:when] changes no prompt between steps"
    if any("|" in each for each in inner):
        yield "[a|b] takes no turns"
    if _AND.search(text):
        yield "AND joins no prompts (a workflow does, with ConditioningCombine)"
    if _BREAK.search(text):
        yield "BREAK starts no part (a workflow does, with ConditioningConcat)"


def _bare(text: str, report: CheckReport) -> Iterator[str]:
    """Yield embeddings of the WebUI that a prompt names without `embedding:`."""
    names = report.catalogue.lists.get("embeddings")
    if names is None or not names.shown:
        return
    words: Collection[str] = {
        word.lower() for word in re.findall(r"[\w.-]*\w", EMBEDDING.sub("", text))
    }
    yield from (name for name in names.shown if name.lower() in words)
