"""Check whether one WebUI can do a job, before anything is sent to it. Pure.

Names are looked up in the lists of this WebUI, fields in its own schema: a real WebUI silently
ignores most unknown names and generates something else (measured). A list that the WebUI does not
have is skipped, and noted. Words of textual inversions cannot be told from other words, so only
`embedding:NAME` is checked.
"""

from __future__ import annotations

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
from sdwatch.policy.job.calls.name_checks import CheckReport, NameChecks
from sdwatch.policy.job.calls.payload import own_images, taken_from
from sdwatch.policy.job.calls.size_checks import SizeChecks
from sdwatch.policy.job.files.job_images import Size
from sdwatch.policy.job.job import Job, Stage
from sdwatch.policy.job.stage.confinement import MAX_GENERATION, JobRules
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.kinds.kind import Dialect
from sdwatch.policy.naming import did_you_mean


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
    report = CheckReport(catalogue)
    names, sizes = NameChecks(report, rules), SizeChecks(report, max_generation)
    for stages in job.samples():
        made: list[Size | None] = [None]  # what each stage makes, where that is known
        for number, stage in enumerate(stages, 1):
            size = None
            if _check_stage(report, stage, rules):
                names.check_names()
                own = own_images(stage)  # of several the first gives the size
                source = made[taken_from(number, stage)]
                size = sizes.check_size(job.sizes.get(own[0]) if own else source)
            made.append(size)
    names.needed(job.needs)
    notes = [f"{name}: not checked: {why}" for name, why in report.skipped.items()]
    if catalogue.kind.has_rate_limit and catalogue.rate_limit != 0:
        notes.append(_limited(catalogue.kind.title, catalogue.rate_limit))
    return Checked(
        tuple(job.sources.all_located(report.problems)),
        tuple(job.sources.all_located(report.warnings)),
        tuple(notes),
        frozenset(report.refusing & CHANGING),
    )


def _check_stage(report: CheckReport, stage: Stage, rules_of_jobs: JobRules) -> bool:
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

        check_workflow(report, rules_of_jobs)
        return True
    if report.kind.dialect is Dialect.PROMPTS:
        _check_without_sdapi(report)
    refuses = report.catalogue.refuses
    for name, why in refuses(stage.kind, stage.fields) if refuses else ():
        # As for workflows: its nodes may be others by now, and a person edits templates.
        report.refusing.add(NODE_CLASSES)
        report.fail((name,) if name else (), f"{report.webui} cannot do this: {why}")
    rules = (stages or {}).get(stage.kind)
    for name in stage.links.payload:
        if rules is not None and name not in rules:
            report.skipped[f"payload.{name}"] = f"{report.webui} does not list this field"
    for name, value in stage.texts.items():
        if rules is None:
            break
        if name not in rules and name in stage.links.payload:
            continue
        if name not in rules:
            near = did_you_mean(name, rules)
            report.fail((name,), f"{report.webui} knows no field {name}{near}")
        elif why := _misfit(value, rules[name]):
            report.fail((name,), f"{report.webui} takes {name} only if it {why}")
    return True


def _check_without_sdapi(report: CheckReport) -> None:
    """Check what means something to other WebUIs only."""
    from sdwatch.policy.job.calls.prompt_checks import warn_of_prompts

    for name in report.stage.links.payload:
        why = f"{report.webui} has no field {name}: what `payload` has is sent by /sdapi"
        report.fail(("payload", name), why)
    warn_of_prompts(report)


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
    if not isinstance(value, int | float):
        return ""
    if rule.minimum is not None and value < rule.minimum:
        return f"is at least {rule.minimum:g}, not {value:g}"
    if rule.maximum is not None and value > rule.maximum:
        return f"is at most {rule.maximum:g}, not {value:g}"
    if rule.above is not None and value <= rule.above:
        return f"is more than {rule.above:g}, not {value:g}"
    return ""


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, JSON_TYPES[kind])
