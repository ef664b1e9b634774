"""`sdwatch service`, as far as it goes without a service manager."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.service import systemd
from tests.functional.cli import make_spool, sdwatch

not_booted = pytest.mark.skipif(systemd.BOOTED.exists(), reason="systemd manages this machine")


@pytest.mark.posix_only("systemd")
@pytest.mark.parametrize("scope", ["--user", "--system"])
def test_print_shows_the_unit_and_writes_nothing(tmp_path: Path, scope: str) -> None:
    make_spool(tmp_path, stop_grace=100)
    shown = sdwatch(tmp_path, "service", "install", "--print", scope, "--name", "night")
    assert shown.returncode == ExitCode.OK, shown.stderr
    assert f"WorkingDirectory={tmp_path}\n" in shown.stdout
    assert f"--config {tmp_path / 'sdwatch.yaml'}\n" in shown.stdout
    assert "TimeoutStopSec=200\n" in shown.stdout  # for the calls, what hangs, the WebUI, and 30 s
    assert ("User=" in shown.stdout) is (scope == "--system")


@pytest.mark.posix_only("systemd")
def test_without_a_config_there_is_nothing_to_serve(tmp_path: Path) -> None:
    refused = sdwatch(tmp_path, "service", "install", "--print")
    assert refused.returncode == ExitCode.ERROR
    assert "a service needs a config" in refused.stderr


@pytest.mark.posix_only("systemd")
def test_a_config_that_cannot_be_read_is_a_mistake_in_the_config(tmp_path: Path) -> None:
    refused = sdwatch(tmp_path, "service", "install", "--print", "--config", "missing.yaml")
    assert refused.returncode == ExitCode.BAD_CONFIG
    (tmp_path / "bad.yaml").write_text("nonsense: 1\n")
    refused = sdwatch(tmp_path, "service", "install", "--print", "--config", "bad.yaml")
    assert refused.returncode == ExitCode.BAD_CONFIG
    assert "bad.yaml:1:1" in refused.stderr


@pytest.mark.posix_only("systemd")
@not_booted
@pytest.mark.parametrize(
    "action", ["install", "uninstall", "start", "stop", "restart", "status", "logs"]
)
def test_where_systemd_does_not_run_each_action_says_so(tmp_path: Path, action: str) -> None:
    make_spool(tmp_path)
    refused = sdwatch(tmp_path, "service", action, "--system")
    assert refused.returncode == ExitCode.ERROR
    assert "systemd does not manage this machine" in refused.stderr


def test_an_unknown_action_is_a_wrong_command_line(tmp_path: Path) -> None:
    assert sdwatch(tmp_path, "service", "enable").returncode == ExitCode.USAGE
    assert sdwatch(tmp_path, "service").returncode == ExitCode.USAGE
    both = sdwatch(tmp_path, "service", "status", "--user", "--system")
    assert both.returncode == ExitCode.USAGE
