"""What runs have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sdwatch.policy.failure.check_levels import LEVELS, Level
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.spool.outputs_to_make import OutputSettings


@dataclass(frozen=True)
class RunSettings:
    """What runs have in common.

    `rules`: what jobs may do. `settle`: seconds without a change before a job is read that was
    still written to when it was claimed. `patience`: seconds for which an unreadable file of the
    job is retried. `checks`: the level of each finding in the reply of a plain client; `outputs`:
    where the pictures are once more, None for nowhere.
    """

    rules: JobRules = JobRules()  # noqa: RUF009 - it is frozen
    settle: float = 0.0
    patience: float = 0.0
    checks: Mapping[str, Level] = field(default_factory=lambda: LEVELS)
    outputs: OutputSettings | None = None
