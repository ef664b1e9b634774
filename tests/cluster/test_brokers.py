"""The broker as docs/cluster.md sets it up: three servers, when one dies; and TLS."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdwatch.cluster.broker import Broker, BrokerGoneError
from sdwatch.cluster.server import ServerSettings, config_of, program
from sdwatch.policy.cluster.entries import Accepted, Granted
from sdwatch.policy.cluster.names import FILES, RUNS, WORK, Times
from tests.cluster.machines import needs_nats
from tests.support.helpers import free_port, wait_until

DOCS = Path(__file__).parents[2] / "docs/cluster.md"
SHA = "0" * 64
RUN = "20260101-000000.000-castle-0000"


class Servers:
    """NATS servers of a test, each a process."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, folder: Path, config: str) -> None:
        folder.mkdir()
        (folder / "nats.conf").write_text(config)
        command = [program(), "-c", str(folder / "nats.conf")]
        with open(folder / "log", "wb") as log:
            self.processes.append(
                subprocess.Popen(
                    command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            )

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(10)


@pytest.fixture
def servers() -> Iterator[Servers]:
    needs_nats()
    made = Servers()
    try:
        yield made
    finally:
        made.close()


def documented() -> str:
    """The config of one of three servers, as the docs have it."""
    (block,) = re.findall(r"```\n(server_name.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    return str(block)


def test_three_servers_lose_nothing_when_the_leader_is_killed(
    servers: Servers, tmp_path: Path
) -> None:
    ports = [(free_port(), free_port()) for _ in range(3)]
    routes = ", ".join(f"nats://127.0.0.1:{route}" for _, route in ports)
    for number, (port, route) in enumerate(ports):
        config = documented().replace("render1", f"s{number}")
        config = config.replace("0.0.0.0:4222", f"127.0.0.1:{port}")
        config = config.replace("0.0.0.0:6222", f"127.0.0.1:{route}")
        config = re.sub(r"routes: \[.*?\]", f"routes: [{routes}]", config, flags=re.S)
        servers.start(tmp_path / f"s{number}", config)
    url = ",".join(f"nats://TOKEN@127.0.0.1:{port}" for port, _ in ports)
    broker = Broker(url, "test", Times())
    broker.open()
    try:
        wait_until(lambda: broker.is_up, 30, broker.why_down)
        for stream in (RUNS, WORK, FILES, "KV_sdwatch_boxes"):
            info = broker.ask(lambda js, stream=stream: js.stream_info(stream))  # type: ignore[misc]
            assert info.config.num_replicas == 3, stream
        broker.append(RUN, Granted(1, "box", SHA), 0)
        stored = broker.objects.store(RUN, b"a picture")
        leader = broker.ask(lambda js: js.stream_info(RUNS)).cluster.leader
        servers.processes[int(leader.removeprefix("s"))].kill()

        def appended() -> bool:
            try:
                entries = broker.entries_after(RUN, 0)
                if len(entries) == 1:
                    broker.append(RUN, Accepted(1), entries[0][0])
                return len(broker.entries_after(RUN, 0)) == 2
            except BrokerGoneError:
                return False

        wait_until(appended, 30, "the other two go on")
        assert [entry for _, entry in broker.entries_after(RUN, 0)] == [
            Granted(1, "box", SHA),
            Accepted(1),
        ]
        assert broker.objects.read(RUN, stored) == b"a picture"
    finally:
        broker.close()


def test_tls_is_spoken_with_those_who_trust_the_certificate(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("needs openssl, which makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    about = ["-days", "2", "-subj", "/CN=render1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([openssl, *made, *about], check=True, capture_output=True)
    port = free_port()
    settings = ServerSettings(tmp_path / "tls", "127.0.0.1", port, certificate, key)
    servers.start(tmp_path / "tls", config_of(settings, "TOKEN", free_port()))
    stranger = Broker(f"tls://TOKEN@127.0.0.1:{port}", "stranger", Times())
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    friend = Broker(f"tls://TOKEN@127.0.0.1:{port}", "friend", Times())
    try:
        friend.open()
        wait_until(lambda: friend.is_up, 30, friend.why_down)
        friend.append(RUN, Granted(1, "box", SHA), 0)
        monkeypatch.delenv("SSL_CERT_FILE")
        stranger.open()
        wait_until(lambda: "certificate" in stranger.why_down.lower(), 30)
        assert not stranger.is_up
    finally:
        friend.close()
        stranger.close()
