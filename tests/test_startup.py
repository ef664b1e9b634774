"""Commands start quickly, and the monitor stays small: what is imported is little, on every
machine."""

from __future__ import annotations

import fnmatch
import importlib
from itertools import chain
from pathlib import Path

import pytest

import sdwatch
from tests.support.monitored import job, monitored

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

SLOW = {"dataclasses", "logging", "pydantic", "psutil", "requests", "rich", "subprocess", "typing"}
"""Each of these takes as long as a quarter of Python's own start, or much longer."""


def test_help_and_version_import_nothing_that_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count instead of a time: no load of the machine changes it. benchmarks/startup.py has the
    times; their ratio to `python -c pass` was 3 with 71 modules."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    startup = importlib.import_module("startup")
    env = startup.environment(tmp_path)
    for option in ("--help", "--version"):
        modules = startup.imported(("-m", "sdwatch", option), env)
        assert "sdwatch.cli" in modules
        assert not modules & SLOW
        assert len(modules) < 100


OPTIONAL = {
    "what only ComfyUI has": (
        "policy.job.calls.workflow_checks",
        "policy.job.workflow_*", "policy.translation.*", "policy.workflow.*",
        "webui.http.comfyui_*", "webui.http.prompt_*",
    ),
    "the cluster": ("cluster*", "cli.cluster", "policy.cluster*"),
    "other commands": ("cli.checks*", "cli.init", "cli.replay", "spool.bundle", "web", "web.*"),
    "outputs": ("policy.job.outputs.converted", "spool.outputs", "system.new_files"),
    "lists of prompts": ("policy.job.text.csv_table", "policy.job.text.prompt_lines"),
    "contact sheets": ("policy.job.points.contact_sheet", "spool.contact_sheets"),
    "messages": ("monitor.message_thread", "notify*"),
    "a WebUI that was left behind": ("lane.orphan",),
}  # fmt: skip
"""What the monitor of one AUTOMATIC1111 loads only where it is used: patterns of names below
sdwatch."""


def test_a_run_loads_only_what_its_webui_and_its_jobs_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    startup = importlib.import_module("startup")
    with monitored(tmp_path / "night", flags=("--kind", "a1111")) as spool:
        (spool.inbox / "castle.yaml").write_text(job())
        command = ("-m", "sdwatch", "run", "--once", "--config", str(spool.config_file))
        modules = startup.imported(command, startup.environment(tmp_path))
        assert len(spool.done()) == 1
    assert "sdwatch.stages.runner" in modules
    assert "requests" not in modules, "only messages need it, in a process of their own"
    for part, patterns in OPTIONAL.items():
        loaded = [fnmatch.filter(modules, f"sdwatch.{pattern}") for pattern in patterns]
        assert not any(loaded), part


def test_the_parts_that_are_not_loaded_are_there() -> None:
    package = Path(sdwatch.__file__).parent
    files = [path.relative_to(package).with_suffix("").as_posix() for path in package.rglob("*.py")]
    names = [file.replace("/", ".") for file in files]
    for pattern in chain.from_iterable(OPTIONAL.values()):
        assert fnmatch.filter(names, pattern) or fnmatch.filter(names, f"{pattern}.*"), pattern


def test_the_state_of_the_spool_is_shown_without_what_reads_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    startup = importlib.import_module("startup")
    modules = startup.imported(("-m", "sdwatch", "status", "--help"), startup.environment(tmp_path))
    assert "sdwatch.spool.folders" in modules
    assert not modules & {"sdwatch.policy.job.job", "sdwatch.policy.failure.ledger"}
