"""Who can use a WebUI, by the words that it is started with."""

from __future__ import annotations

import pytest

from sdwatch.cli.init import WEBUIS
from sdwatch.config_file import load_config
from sdwatch.policy.config.exposure import exposure, is_loopback
from sdwatch.system.resources import config_folder
from tests.support.tables import table

HERE, THERE = "127.0.0.1", "192.168.1.20"


def seen(command: str, host: str = HERE, password: bool = False, args: str = "") -> str:
    env = {"COMMANDLINE_ARGS": args} if args else {}
    found = exposure(command.split(), env, host, has_password=password)
    return f"{found.why}: {found.advice}" if found else ""


@table(
    ("command", "said"),
    [
        ("launch.py --api --nowebui", "add --server-name 127.0.0.1"),
        ("launch.py --nowebui --port 7860", "--nowebui without --server-name"),
        ("launch.py --api --listen", "--listen opens it"),
        ("launch.py --api --nowebui --listen", "add --server-name 127.0.0.1"),
        ("launch.py --server-name 0.0.0.0", "--server-name 0.0.0.0"),
        ("launch.py --server-name=0.0.0.0 --nowebui", "--server-name 0.0.0.0"),
        ("launch.py --server-name ::", "--server-name ::"),
        ("launch.py --server-name gpu-box.lan", "gpu-box.lan"),
        ("main.py --listen 0.0.0.0", "--listen opens it"),
        ("main.py --listen --port 8188", "--listen opens it"),
        ("sd-server --listen-ip 0.0.0.0", "--listen-ip 0.0.0.0"),
        ("launch.py --api --share", "from the internet: leave --share out"),
    ],
)
def test_a_command_that_listens_on_the_network_is_reported_if_the_url_is_local(
    command: str, said: str
) -> None:
    assert said in seen(command)
    assert seen(command, "localhost")


@table(
    "command",
    [
        "launch.py --api",
        "launch.py --api --nowebui --server-name 127.0.0.1",
        "launch.py --nowebui --server-name=localhost",
        "launch.py --listen --server-name 127.0.0.1",
        "launch.py --nowebui --server-name ::1",
        "main.py --listen 127.0.0.1",
        "sd-server --listen-ip 127.0.0.1 --listen-port 7860",
        "webui.sh",
        "",
    ],
)
def test_a_command_that_listens_on_this_machine_only_is_accepted(command: str) -> None:
    assert seen(command) == ""


def test_flags_in_the_environment_count_as_those_of_the_command() -> None:
    assert "--listen opens it" in seen("launch.py --api", args="--listen --xformers")
    assert seen("launch.py --nowebui", args="--server-name '127.0.0.1'") == ""
    assert seen("launch.py", args="--listen 'unfinished") != ""


@pytest.mark.parametrize("flag", ["--api-auth me:x", "--auth me:x"])
def test_a_url_of_the_network_wants_a_password_and_nothing_else(flag: str) -> None:
    assert "give it a password" in seen("launch.py --listen", THERE)
    assert seen(f"launch.py --listen {flag}", THERE) == ""
    assert seen("launch.py --listen", THERE, password=True) == ""
    assert seen(f"launch.py --share {flag}", HERE) == ""


def test_only_addresses_and_names_of_this_machine_are_loopback() -> None:
    own = ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost")
    assert all(map(is_loopback, own))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "box", "")))


@table("webui", [webui for webui in WEBUIS if webui != "simulator"])
@table("system", ["linux", "windows"])
def test_no_ready_made_config_listens_for_others(webui: str, system: str) -> None:
    (lane,) = load_config(config_folder() / f"{webui}-{system}.yaml").webuis
    assert lane.command is not None
    assert exposure(lane.command, lane.env, lane.host) is None
