"""Jobs made of texts, for tests of the job language."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sdwatch.errors import JobError
from sdwatch.policy.job.files.job_files import NOTHING, Outside
from sdwatch.policy.job.files.wildcards import LineFile
from sdwatch.policy.job.job import Job, parse_job
from sdwatch.policy.job.stage.confinement import JobRules


def job_of(
    text: str,
    files: Mapping[str, bytes] | None = None,
    most: int = 10_000,
    outside: Outside = NOTHING,
) -> Job:
    """Return the job in a text. `files`: what is beside it in its folder."""
    names = None if files is None else frozenset(files)

    def read(name: str) -> bytes:
        assert files is not None
        return files[name]

    rules = JobRules(max_points=most)
    return parse_job(
        text.encode(), "job.yaml", names, "castle", rules=rules, read=read, outside=outside
    )


def problems_of(
    text: str,
    files: Mapping[str, bytes] | None = None,
    most: int = 10_000,
    outside: Outside = NOTHING,
) -> str:
    """Return what is wrong with a text, a line each."""
    with pytest.raises(JobError) as caught:
        job_of(text, files, most, outside)
    return str(caught.value)


def fields_of(job: Job, name: str) -> list[object]:
    """Return a field of the first stage of each point."""
    return [job.stages_of(point, 0)[0].fields.get(name) for point in job.points]


def from_outside(*defaults: str, wildcards: Mapping[str, bytes] | None = None) -> Outside:
    """Return what a job takes from outside. `defaults`: texts, the nearest folder's first."""
    levels = range(len(defaults), 0, -1)
    files = [
        LineFile("/".join([*"ab"[: level - 1], "_defaults.yaml"]), text.encode, is_outside=True)
        for level, text in zip(levels, defaults, strict=True)
    ]
    known = wildcards or {}

    def wildcard(name: str) -> LineFile | None:
        if name not in known:
            return None
        return LineFile(f"/lists/{name}.txt", lambda: known[name], is_outside=True)

    return Outside(files, wildcard)
