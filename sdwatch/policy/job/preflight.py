"""Check whether one WebUI can do a job, before anything is sent to it. Pure.

Names are looked up in the lists of this WebUI, fields in its own schema: a real WebUI silently
ignores most unknown names and generates something else (measured). A list that the WebUI does not
have is skipped, and noted. Words of textual inversions cannot be told from other words, so only
`embedding:NAME` is checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdwatch.errors import Problem
from sdwatch.policy.job.catalogue import CHANGING, JSON_TYPES, Catalogue, FieldRule, Kind
from sdwatch.policy.job.check_report import CheckReport, did_you_mean
from sdwatch.policy.job.confinement import JobRules
from sdwatch.policy.job.job import Job, Stage
from sdwatch.policy.job.job_images import Size
from sdwatch.policy.job.name_checks import NameChecks
from sdwatch.policy.job.payload import own_images
from sdwatch.policy.job.size_checks import SizeChecks

MAX_GENERATION = 100_000_000
"""Default for the most pixels of one call: as many as an image that a job brings may have. Larger
ones end in failed allocations, or in the kernel's out-of-memory killer."""


@dataclass(frozen=True)
class Checked:
    """The result. `problems`: why this WebUI cannot do the job. `notes`: what was not checked, and
    why. `stale`: lists that lacked a name and may have changed since they were read."""

    problems: tuple[Problem, ...] = ()
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
    check = _StageCheck(report, NameChecks(report, rules), SizeChecks(report, max_generation))
    size: Size | None = None
    for stage in job.stages:
        size = check.stage(stage, job.sizes, size)
    notes = [f"{name}: not checked: {why}" for name, why in report.skipped.items()]
    if catalogue.kind is Kind.SDNEXT and catalogue.rate_limit != 0:
        notes.append(_limited(catalogue.rate_limit))
    return Checked(
        tuple(report.problems),
        tuple(notes),
        frozenset(report.refusing & CHANGING),
    )


class _StageCheck:
    """Checks one stage after the other."""

    def __init__(self, report: CheckReport, names: NameChecks, sizes: SizeChecks) -> None:
        self._report = report
        self._names = names
        self._sizes = sizes

    def stage(self, stage: Stage, given: Mapping[str, Size], before: Size | None) -> Size | None:
        """Check one stage and return the size of what it makes, where that is known.

        `given`: the sizes of the job's images. `before`: the size of what the stage before made.
        """
        report = self._report
        report.stage = stage
        stages = report.catalogue.stages
        if stages is not None and stage.kind not in stages:
            report.fail((), f"{report.webui} has no {stage.kind}")
            return None
        if why := report.catalogue.cannot.get(stage.kind):
            report.fail((), f"{report.webui} cannot do {stage.kind}: {why}")
            return None
        self._check_fields((stages or {}).get(stage.kind))
        self._names.check_names()
        own = own_images(stage)  # of several the first gives the size
        return self._sizes.check_size(given.get(own[0]) if own else before)

    def _check_fields(self, rules: Mapping[str, FieldRule] | None) -> None:
        if rules is None:
            if self._report.catalogue.stages is None:
                self._report.skipped["fields"] = f"{self._report.webui} gave no /openapi.json"
            return
        for name, value in self._report.stage.fields.items():
            if name not in rules:
                self._report.fail(
                    (name,),
                    f"{self._report.webui} knows no field {name}{did_you_mean(name, rules)}",
                )
            elif why := _misfit(value, rules[name]):
                self._report.fail((name,), f"{self._report.webui} takes {name} only if it {why}")


_COST = 5
_USUAL_LIMIT = 300


def _limited(limit: int | None) -> str:
    """Return a note about SD.Next's rate limit, which is on by default and answers 429 only after
    the work. `limit` is None if the WebUI does not report it (measured with 058a7f0c)."""
    pictures = (limit if limit is not None else _USUAL_LIMIT) // _COST
    known = "" if limit is not None else " unless its settings say otherwise"
    return (
        f"SD.Next answers 429 to more than {pictures} calls a minute{known}, after generating the "
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
