"""Check whether one WebUI can do a job, before anything is sent to it. Pure.

Names are looked up in the lists of this WebUI, fields in its own schema: a real WebUI silently
ignores most unknown names and generates something else (measured). A list that the WebUI does not
have is skipped, and noted. Words of textual inversions cannot be told from other words, so only
`embedding:NAME` is checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sdwatch.errors import Problem
from sdwatch.policy.job.calls.catalogue import (
    CHANGING,
    JSON_TYPES,
    NODE_CLASSES,
    Catalogue,
    FieldRule,
)
from sdwatch.policy.job.calls.name_checks import (
    EMBEDDING,
    CheckReport,
    check_names,
    check_needed,
)
from sdwatch.policy.job.calls.payload import own_images, taken_from
from sdwatch.policy.job.calls.size_checks import check_size
from sdwatch.policy.job.files.job_images import Size
from sdwatch.policy.job.job import Job, Stage
from sdwatch.policy.job.stage.confinement import MAX_GENERATION, JobRules
from sdwatch.policy.job.stage.stage_kinds import PROMPTS, STAGES
from sdwatch.policy.kinds.kind import Dialect
from sdwatch.policy.naming import did_you_mean, quoted


@dataclass(frozen=True)
class Checked:
    """The result of a preflight. `problems`: why this WebUI cannot do the job. `warnings`: what it
    does otherwise than the job may mean. `notes`: what was not checked, and why. `stale`: lists
    that lacked a name and may have changed since they were read."""

    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    stale: frozenset[str] = frozenset()


def check_against(
    job: Job,
    catalogue: Catalogue,
    max_generation: int = MAX_GENERATION,
    rules: JobRules = JobRules(),  # noqa: B008 - it is frozen
) -> Checked:
    """Return what of `job` the WebUI with this catalogue cannot do.

    `max_generation`: the most pixels of one call, which are those of one picture, after hires or
    upscaling, times the batch. A setting that `rules` allow is accepted, though the WebUI does not
    list it.
    """
    report = CheckReport(catalogue, rules, max_generation)
    for stages in job.samples():
        made: list[Size | None] = [None]  # what each stage makes, where that is known
        for number, stage in enumerate(stages, 1):
            size = None
            if _check_stage(report, stage):
                check_names(report)
                own = own_images(stage)  # of several the first gives the size
                source = made[taken_from(number, stage)]
                size = check_size(report, job.sizes.get(own[0]) if own else source)
            made.append(size)
    check_needed(report, job.needs)
    notes = [f"{name}: not checked: {why}" for name, why in report.skipped.items()]
    if catalogue.kind.has_rate_limit and catalogue.rate_limit != 0:
        notes.append(_limited(catalogue.kind.title, catalogue.rate_limit))
    return Checked(
        tuple(job.sources.all_located(report.problems)),
        tuple(job.sources.all_located(report.warnings)),
        tuple(notes),
        frozenset(report.refusing & CHANGING),
    )


def _check_stage(report: CheckReport, stage: Stage) -> bool:
    """Check that the WebUI has the stage and knows its fields; return whether it can do it at
    all."""
    report.stage = stage
    stages = report.catalogue.stages
    if STAGES[stage.kind].runs_workflow and report.kind.dialect is not Dialect.PROMPTS:
        report.fail((), f"{report.webui} runs no workflows; ComfyUI does")
        return False
    if stages is not None and stage.kind not in stages:
        report.fail((), f"{report.webui} has no {stage.kind}")
        return False
    if why := report.catalogue.cannot.get(stage.kind):
        report.fail((), f"{report.webui} cannot do {stage.kind}: {why}")
        return False
    if stages is None:
        report.skipped["fields"] = f"{report.webui} gave no /openapi.json"
    if stage.workflow is not None:
        from sdwatch.policy.job.calls.workflow_checks import check_workflow  # ComfyUI alone runs it

        check_workflow(report)
        return True
    if report.kind.dialect is Dialect.PROMPTS:
        _check_without_sdapi(report)
    refuses = report.catalogue.refuses
    for name, why in refuses(stage.kind, stage.fields) if refuses else ():
        # As for workflows: its nodes may be others by now, and a person edits templates.
        report.refusing.add(NODE_CLASSES)
        report.fail((name,) if name else (), f"{report.webui} cannot do this: {why}")
    if (rules := (stages or {}).get(stage.kind)) is not None:
        _check_fields(report, rules)
    return True


def _check_fields(report: CheckReport, rules: Mapping[str, FieldRule]) -> None:
    """Check the fields of a stage against the WebUI's schema."""
    payload = report.stage.links.payload
    for name, value in report.stage.texts.items():
        if name in rules:
            if why := _misfit(value, rules[name]):
                report.fail((name,), f"{report.webui} takes {name} only if it {why}")
        elif name in payload:
            report.skipped[f"payload.{name}"] = f"{report.webui} does not list this field"
        else:
            near = did_you_mean(name, rules)
            report.fail((name,), f"{report.webui} knows no field {name}{near}")


def _check_without_sdapi(report: CheckReport) -> None:
    """Check what means something to other WebUIs only."""
    for name in report.stage.links.payload:
        why = f"{report.webui} has no field {name}: what `payload` has is sent by /sdapi"
        report.fail(("payload", name), why)
    for name in PROMPTS:
        if isinstance(text := report.stage.fields.get(name), str):
            for why in (*_signs(text), *_bare_embeddings(text, report)):
                report.warn((name,), f"{report.webui}: {why}")


_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_NUMBER = re.compile(r"[0-9.]+")


def _signs(text: str) -> Iterator[str]:
    """Yield what means something in a prompt to AUTOMATIC1111, and is plain words to ComfyUI. The
    picture comes out all the same, so these are warnings: a word in capitals may be meant."""
    plain = "it is plain words in a prompt"
    inner = _BRACKETS.findall(text)
    if any(_NUMBER.fullmatch(each.rpartition(":")[2].strip()) for each in inner if ":" in each):
        yield f"[from:to:when] changes no prompt between steps: {plain}"
    if any("|" in each for each in inner):
        yield f"[a|b] takes no turns: {plain}"
    if re.search(r"\sAND\s", text):
        yield f"AND joins no prompts (a workflow does, with ConditioningCombine): {plain}"
    if re.search(r"\bBREAK\b", text):
        yield f"BREAK starts no part (a workflow does, with ConditioningConcat): {plain}"


def _bare_embeddings(text: str, report: CheckReport) -> Iterator[str]:
    """Yield the embeddings that a prompt names without `embedding:`."""
    names = report.catalogue.lists.get("embeddings")
    if names is not None and names.shown:
        words = {word.lower() for word in re.findall(r"[\w.-]*\w", EMBEDDING.sub("", text))}
        for name in names.shown:
            if name.lower() in words:
                use = f'write "embedding:{name}" to use the embedding of that name'
                yield f"{quoted(name)} is a plain word; {use}"


_COST = 5
_USUAL_LIMIT = 300


def _limited(title: str, limit: int | None) -> str:
    """Return a note about a rate limit, which is on by default and answers 429 only after the work.
    `limit` is None if the WebUI does not report it (measured with SD.Next 058a7f0c)."""
    pictures = (limit if limit is not None else _USUAL_LIMIT) // _COST
    known = "" if limit is not None else " unless its settings say otherwise"
    return (
        f"{title} answers 429 to more than {pictures} calls a minute{known}, after generating the "
        "picture: set its option server_rate_limit to 0"
    )


def _misfit(value: Any, rule: FieldRule) -> str:
    """Return what the schema requires of a value that it rejects, or ''."""
    if rule.types and not any(_is_a(value, kind) for kind in rule.types):
        return "is of type " + " or ".join(sorted(rule.types - {"null"}))
    if rule.choices and value not in rule.choices:
        return "is one of " + ", ".join(map(str, rule.choices))
    if isinstance(value, int | float):
        if rule.minimum is not None and value < rule.minimum:
            return f"is at least {rule.minimum:g}, not {value:g}"
        if rule.maximum is not None and value > rule.maximum:
            return f"is at most {rule.maximum:g}, not {value:g}"
        if rule.above is not None and value <= rule.above:
            return f"is more than {rule.above:g}, not {value:g}"
    return ""


def _is_a(value: Any, kind: str) -> bool:
    return kind == "boolean" if isinstance(value, bool) else isinstance(value, JSON_TYPES[kind])
