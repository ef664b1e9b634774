"""Somebody else's process has the WebUI's port: named, never a victim."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.helpers import wait_until
from tests.support.monitored import job, monitored, token_free_environment

_LISTEN = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    print("listens", flush=True)
    while True:
        server.accept()[0].close()
"""


@contextmanager
def foreign_owner(port: int) -> Iterator[subprocess.Popen[str]]:
    """A process of somebody else that listens on the port."""
    with subprocess.Popen(
        [sys.executable, "-c", _LISTEN, str(port)],
        stdout=subprocess.PIPE,
        text=True,
        env=token_free_environment(),
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "listens\n"
            yield process
        finally:
            process.kill()


def test_the_owner_is_named_and_left_alone_and_jobs_resume_when_it_ends(tmp_path: Path) -> None:
    with monitored(tmp_path) as spool, foreign_owner(spool.port) as foreign:
        spool.drop("castle.yaml", job())
        spool.start()
        wait_until(lambda: len(spool.events("start")) >= 3, 30, "three refused starts")
        wait_until(lambda: spool.lane().get("hold"), 30, "status says why")
        hold = spool.lane()["hold"]
        assert f"port {spool.port} is taken by pid {foreign.pid}" in hold
        assert "leaves alone" in hold
        assert foreign.poll() is None
        assert spool.waiting() == ["castle.yaml"]
        assert not spool.processes()

        foreign.kill()
        foreign.wait()
        spool.wait_for(done=1)
        assert spool.stats()["starts"] == 1
        assert spool.events("crash") == []
