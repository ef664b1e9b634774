"""A command as it is pasted into a shell."""

from __future__ import annotations

import shlex

import pytest

from sdwatch.policy.report.command import config_option, typed

PATHS = ["/srv/sd/sdwatch.yaml", "/home/anna b/it's.yaml", "/a/$HOME;rm.yaml"]


@pytest.mark.parametrize("path", PATHS)
def test_a_posix_shell_reads_it_as_it_was_meant(path: str) -> None:
    line = typed("retry RUN --edit", config_option(path, windows=False))
    assert shlex.split(line) == ["sdwatch", "retry", "RUN", "--edit", "--config", path]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (r"C:\sd\sdwatch.yaml", r"C:\sd\sdwatch.yaml"),
        (r"C:\Users\Anna B\sdwatch.yaml", r'"C:\Users\Anna B\sdwatch.yaml"'),
        (r"\\share\sd (1)\sdwatch.yaml", r'"\\share\sd (1)\sdwatch.yaml"'),
    ],
)
def test_on_windows_it_is_quoted_as_both_shells_take_it(path: str, shown: str) -> None:
    assert config_option(path, windows=True) == f" --config {shown}"


def test_the_built_in_config_needs_no_option() -> None:
    assert typed("resume", config_option("", windows=True)) == "sdwatch resume"
