"""A broker, a dispatcher and boxes on loopback, each a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from sdwatch.cluster.server import Server, ServerSettings, program, token_in
from sdwatch.errors import SdwatchError
from sdwatch.system.clock import SystemClock
from tests.support import warm
from tests.support.helpers import KILL, free_port, wait_until
from tests.support.monitored import EXTERNAL, FAST, MARK, Monitored

DRIVER = """
import os
import signal
import sys
from pathlib import Path
from sdwatch.config_file import load_config
from sdwatch.monitor.monitor import Monitor
from sdwatch.policy.cluster.names import Times
from sdwatch.cluster.box import Box
from sdwatch.cluster.dispatcher import Dispatcher
from sdwatch.cli.shared.log_files import set_up_logging
from sdwatch.system import failpoints
from sdwatch.system.state_folder import StateFolder

times = Times(lease=4.0, renew=1.0, beat=0.5, silent=2.0, stuck=4.0)
config = load_config(Path(sys.argv[1]))
role, url, posts = sys.argv[2:]

def die(effect):
    if effect.label == "post starts":
        with open(posts, "a") as file:
            file.write(f"{role}\\n")
        os.kill(os.getpid(), signal.SIGKILL)

if posts:
    failpoints.before = die
set_up_logging(StateFolder(config.state).log_file, config.log_cap, lambda _: None)
partner = {"box": Box, "dispatcher": Dispatcher}[role](url, times)
say = lambda line: print(line, end="", flush=True)  # in one piece: several threads do
monitor = Monitor(config, notify=lambda line: say(f"{line}\\n"))
monitor.partner = partner
monitor.stop_on_signals()
print(monitor.run(), flush=True)
"""


class Machine:
    """One machine: its spool and its simulator, as box or dispatcher. `dies_in_posts`: at each POST
    it writes a line to this file, and dies."""

    def __init__(
        self, root: Path, role: str, url: str, dies_in_posts: Path | None = None, **config: Any
    ) -> None:
        root.mkdir()
        self._dies_in_posts = str(dies_in_posts or "")
        self.role, self.url = role, url
        self.site = Monitored(root, **config)
        if role == "dispatcher":
            self.have_no_webui()
        self.process: warm.Process | None = None

    def have_no_webui(self) -> None:
        file = self.site.config_file
        file.write_text(json.dumps({**json.loads(file.read_text()), "webuis": {}}))

    @property
    def name(self) -> str:
        """As a box of the cluster; '' before its first start."""
        file = self.site.state / "worker"
        return file.read_text().strip() if file.exists() else ""

    def start(self) -> None:
        words = (str(self.site.config_file), self.role, self.url, self._dies_in_posts)
        env = {**os.environ, MARK: str(self.site.root)}
        self.process = warm.begin("-c", DRIVER, *words, out=self.site.root / "out.txt", env=env)

    def kill(self) -> None:
        """End the monitor and its WebUI at once, as a power cut does."""
        assert self.process is not None
        family = psutil.Process(self.process.pid).children(recursive=True)
        os.kill(self.process.pid, KILL)
        self.process.wait(10)
        for child in family:
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                self.kill()

    def images(self, folder: str) -> list[str]:
        return sorted(p.name for p in (self.site.spool / folder).glob("*/images/*.png"))

    def runs(self, folder: str) -> list[Path]:
        parent = self.site.spool / folder
        return sorted(p for p in parent.iterdir() if p.is_dir()) if parent.is_dir() else []


class Cluster:
    """A broker with its machines."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = ServerSettings(root / "nats", port=free_port())
        self.url = f"nats://{token_in(self.settings.folder)}@127.0.0.1:{self.settings.port}"
        self.machines: list[Machine] = []
        self._simulator: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self.start_broker()

    def start_broker(self) -> None:
        self._stop = threading.Event()
        self.server = Server(self.settings, SystemClock(), self._stop, lambda _: None)
        self._thread = threading.Thread(target=self.server.run, daemon=True)
        self._thread.start()

    def stop_broker(self) -> None:
        """Kill it, and keep it down."""
        self._stop.set()
        if self.server.child is not None:
            self.server.child.kill()
        self._thread.join(20)

    def machine(self, name: str, role: str, **config: Any) -> Machine:
        made = Machine(self.root / name, role, self.url, **config)
        self.machines.append(made)
        made.start()
        return made

    def simulator(self) -> dict[str, Any]:
        """Start one simulator, and return it as the WebUI that several boxes share."""
        if self._simulator is None:
            self._port = free_port()
            command = [sys.executable, "-m", "sdwatch.simulator", "--port", str(self._port), *FAST]
            self._simulator = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        return {**EXTERNAL, "url": f"http://127.0.0.1:{self._port}"}

    def close(self) -> None:
        for machine in self.machines:
            machine.stop()
        if self._simulator is not None:
            self._simulator.kill()
            self._simulator.wait()
        self.stop_broker()


def needs_nats() -> None:
    """Skip a test where client or server is not installed, unless SDWATCH_REQUIRE_NATS is 1."""
    if os.environ.get("SDWATCH_REQUIRE_NATS") == "1":
        return
    pytest.importorskip("nats", reason="needs nats-py")
    try:
        program()
    except SdwatchError as error:
        pytest.skip(str(error))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    needs_nats()
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def shown(cluster: Cluster) -> Iterator[None]:
    """Print what the machines wrote where the test fails."""
    try:
        yield
    except BaseException:
        for machine in cluster.machines:
            for file in ("out.txt", "state/sdwatch.log"):
                path = machine.site.root / file
                if path.exists():
                    print(f"--- {machine.site.root.name} {file}\n{path.read_text()[-6000:]}")
        raise


__all__ = ["Cluster", "Machine", "cluster", "needs_nats", "shown", "wait_until"]
