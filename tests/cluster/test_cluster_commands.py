"""`sdwatch cluster` and the options of `run`, as a person types them; and without a cluster none of
it is imported."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sdwatch.cli.cluster import url_of
from sdwatch.errors import SdwatchError
from sdwatch.webui.process.process_identity import is_living
from tests.cluster.machines import needs_nats
from tests.functional.cli import sdwatch
from tests.support.helpers import ask_to_stop, free_port, wait_until
from tests.support.monitored import EXTERNAL, Monitored, job

ROOT = Path(__file__).parents[2]


def test_one_machine_imports_nothing_of_a_cluster() -> None:
    code = (
        "import sys, sdwatch.cli.run, sdwatch.cli.status, sdwatch.monitor.monitor\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'nats' "
        "or name.startswith('sdwatch.cluster')])"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout.strip() == "[]", ended.stderr


@pytest.mark.parametrize(
    "given",
    [
        "http://x", "nats://a b:1", "no such file", "nats://", "nats://t@", "nats://t@a:99999",
        "nats://t@a:x", "nats://t@a:1,nats://", "nats://t@[::1",
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_broker_is_refused(given: str) -> None:
    with pytest.raises(SdwatchError):
        url_of(given)


def test_a_url_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("nats://token@box:4222\n")
    assert url_of(str(tmp_path / "url")) == "nats://token@box:4222"


def test_box_and_dispatcher_at_once_are_refused(tmp_path: Path) -> None:
    ended = sdwatch(tmp_path, "run", "--cluster", "nats://a:1", "--dispatch", "nats://a:1")
    assert ended.returncode == 1
    assert "give one" in ended.stderr


def test_without_a_webui_only_a_dispatcher_runs(tmp_path: Path) -> None:
    (tmp_path / "sdwatch.yaml").write_text("spool: spool\nstate: state\nwebuis: {}\n")
    ended = sdwatch(tmp_path, "run", "--config", "sdwatch.yaml")
    assert ended.returncode == 5
    assert "only `sdwatch run --dispatch` works without" in ended.stderr


def started(site: Monitored, *args: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sdwatch", *map(str, args)]
    with open(site.root / "out.txt", "ab") as out:
        return subprocess.Popen(
            command,
            cwd=site.root,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )


def ended(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in reversed(processes):
        ask_to_stop(process)
    for process in processes:
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


@pytest.mark.parametrize("role", ["--cluster", "--dispatch"])
def test_a_broker_that_refuses_the_token_is_named(tmp_path: Path, role: str) -> None:
    needs_nats()
    (tmp_path / "a").mkdir()
    site, port = Monitored(tmp_path / "a"), free_port()
    config = ("--config", site.config_file)
    processes = [started(site, "cluster", "up", "--port", port, *config)]
    try:
        wait_until((site.state / "nats" / "url").exists, 30)
        processes.append(started(site, "run", role, f"nats://WRONG@127.0.0.1:{port}", *config))
        text = site.root / "out.txt"
        why = "does not answer: nats: 'Authorization Violation'"
        wait_until(lambda: why in text.read_text(), 60)
        assert "WRONG" not in text.read_text()
    finally:
        ended(processes)


def test_a_broker_that_cannot_listen_says_so_and_ends(tmp_path: Path) -> None:
    needs_nats()
    site = Monitored(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for args, why in (
            (("--port", port), "cannot listen on 127.0.0.1"),
            (("--port", 70000), "cannot listen"),
            (("--host", "192.0.2.1", "--port", free_port()), "cannot listen on 192.0.2.1"),
        ):
            up = sdwatch(tmp_path, "cluster", "up", *args, "--config", site.config_file)
            assert up.returncode == 1
            assert why in up.stderr
    assert not (site.state / "nats" / "url").exists()


def test_a_server_that_a_killed_one_left_behind_is_ended(tmp_path: Path) -> None:
    needs_nats()
    site, port = Monitored(tmp_path), free_port()
    command = ("cluster", "up", "--port", port, "--config", site.config_file)
    first = started(site, *command)
    try:
        # `cluster up` itself listens for a moment, to see whether the port is free.
        (left,) = wait_until(lambda: psutil.Process(first.pid).children(), 60)
        wait_until(lambda: listens(port), 60)
        refused = sdwatch(tmp_path, *command)
        assert "already runs" in refused.stderr, "two at once"
        first.kill()
        first.wait(10)
        assert left.is_running()
        second = started(site, *command)
        try:
            wait_until(lambda: not is_living(left), 60)
            wait_until(lambda: listens(port), 60)
        finally:
            ended([second])
    finally:
        first.kill()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_four_commands_lead_to_a_picture_on_the_other_machine(tmp_path: Path) -> None:
    needs_nats()
    sites = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        sites.append(Monitored(tmp_path / name, webui=EXTERNAL if name == "a" else None))
    a, b = sites
    config = ("--config", a.root / "sdwatch.yaml")
    processes = [started(a, "cluster", "up", "--port", free_port(), *config)]
    url = a.state / "nats" / "url"
    try:
        wait_until(url.exists, 30)
        processes.append(started(a, "run", "--dispatch", *config))
        processes.append(
            started(b, "run", "--cluster", url.read_text(), "--config", b.root / "sdwatch.yaml")
        )
        (a.root / "castle.yaml").write_text(job("a castle"))
        assert sdwatch(a.root, "submit", "castle.yaml", *config).returncode == 0
        done = a.spool / "done"
        wait_until(lambda: list(done.glob("*/run.json")), 60, (a.root / "out.txt").read_text())
        assert len(list(done.glob("*/images/*.png"))) == 1
        shown = sdwatch(a.root, "cluster", "status", "--json", *config)
        (box,) = json.loads(shown.stdout)["boxes"]
        assert sdwatch(a.root, "drain", box, *config).returncode == 0
        assert "drained" in sdwatch(a.root, "cluster", "status", *config).stdout
        assert sdwatch(a.root, "drain", "nobody", *config).returncode == 7
    finally:
        ended(processes)
    text = (a.root / "out.txt").read_text()
    assert "    sdwatch run --dispatch\n" in text
    token = (a.state / "nats" / "token").read_text()
    assert token not in text, "the token is shown to a terminal only"
