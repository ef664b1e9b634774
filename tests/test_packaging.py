"""What packaging/ has for a container. No Docker runs here: its files are read, and the commands
in them are run (check_install.sh installs the wheel, as the image does)."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from sdwatch.config_file import parse_config
from sdwatch.monitor.stop_request import longest_stop
from tests.functional.cli import sdwatch
from tests.support.helpers import wait_until
from tests.support.monitored import EXTERNAL, monitored
from tests.test_structure import ROOT

pytestmark = pytest.mark.posix_only("the image is of Linux")
DOCKER = ROOT / "packaging" / "docker"
INSTRUCTIONS = {
    "FROM", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT",
    "CMD",
}  # fmt: skip


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile, on one line."""
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pairs = (line.partition(" ") for line in lines)
    return [(name, " ".join(value.split())) for name, _, value in pairs]


def the_last(name: str) -> str:
    return [value for found, value in instructions() if found == name][-1]


def compose() -> dict[str, object]:
    value: dict[str, object] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
    services = value["services"]
    assert isinstance(services, dict)
    service: dict[str, object] = services["sdwatch"]
    return service


def test_the_image_runs_the_monitor_on_the_config_that_compose_mounts() -> None:
    assert {name for name, _ in instructions()} <= INSTRUCTIONS
    command = json.loads(the_last("ENTRYPOINT")) + json.loads(the_last("CMD"))
    assert command == ["sdwatch", "run", "--config", "/config/sdwatch.yaml"]
    user, _, group = the_last("USER").partition(":")
    assert int(user) > 0 < int(group), "by numbers, so that a host which knows no names sees it"
    assert any(f"useradd --uid {user} " in value for name, value in instructions() if name == "RUN")
    volumes = compose()["volumes"]
    assert isinstance(volumes, list)
    assert "./sdwatch.yaml:/config/sdwatch.yaml:ro" in volumes
    config = parse_config((DOCKER / "sdwatch.yaml").read_bytes(), "it", Path("/config"))
    mounted = {volume.split(":")[1] for volume in volumes}
    assert {str(config.spool), str(config.state)} <= mounted
    assert set(json.loads(the_last("VOLUME"))) <= mounted


def test_the_image_is_made_of_all_that_the_wheel_is_made_of() -> None:
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert "*" in ignored
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    needed = {"pyproject.toml", "sdwatch", "config", "README.md"}
    assert 'readme = "README.md"' in project
    assert '"config" = "sdwatch/_config"' in project
    assert needed <= {name.removeprefix("!") for name in ignored if name.startswith("!")}


def test_docker_waits_as_long_as_a_clean_stop_may_take() -> None:
    config = parse_config((DOCKER / "sdwatch.yaml").read_bytes(), "it", Path("/config"))
    given = re.fullmatch(r"(\d+)s", str(compose()["stop_grace_period"]))
    assert given is not None
    assert int(given[1]) >= longest_stop(config)
    told = " ".join((ROOT / "docs" / "services.md").read_text(encoding="utf-8").split())
    assert f"waits at least {longest_stop(config):g} s with the defaults" in told
    assert f"must be {longest_stop(config) - config.stop_grace:g} s longer" in told
    assert the_last("STOPSIGNAL") == "SIGTERM"


def test_the_health_check_sees_whether_a_monitor_runs(tmp_path: Path) -> None:
    *shell, command = json.loads(the_last("HEALTHCHECK").partition(" CMD ")[2])
    assert shell == ["sh", "-c"]
    with monitored(tmp_path, webui=EXTERNAL) as spool:

        def is_healthy() -> bool:
            shown = command.partition(" | ")
            option = ("--config", spool.config_file)
            status = sdwatch(tmp_path, *shown[0].split()[1:-2], *option)
            reader = ["sh", "-c", shown[2]]
            return subprocess.run(reader, input=status.stdout, text=True).returncode == 0

        assert not is_healthy()
        spool.start()
        wait_until(lambda: spool.lane(), 30, "it runs")
        assert is_healthy()
        spool.stop()
        assert not is_healthy()
