"""The machines of a cluster, each a host with its own network, spool and state: a broker, a
dispatcher and one more for its place, and boxes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
from cluster_network import Host, Link, Network, mount_disk
from common import wait_until

from sdwatch.cluster.server import token_in

HERE = Path(__file__).resolve().parent
_PORT = 7860  # of each box's WebUI, in a network of its own
_SKEWS = (0.0, 7 * 3600.0, -31 * 3600.0, 400 * 86400.0)  # seconds: clocks that differ


class Disk:
    """A disk of its own, of so many MB."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        mount_disk(folder, megabytes)

    def lose(self) -> None:
        """Lose all that is on it; nobody uses it."""
        for entry in self.folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def fill(self) -> None:
        """Leave no byte free."""
        with open(self.folder / "filler", "ab", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(65536))

    def free(self) -> None:
        (self.folder / "filler").unlink(missing_ok=True)


class Machine:
    """A machine that can die, freeze, lose its network and fill its disk."""

    def __init__(self, host: Host, root: Path, disk_size: int) -> None:
        self.host = host
        self.name = host.name
        self.root = root
        self.disk = Disk(root / "disk", disk_size)
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def command(self) -> list[str]:
        """Return what runs on it."""
        raise NotImplementedError

    def start(self) -> None:
        self.starts += 1
        with open(self.root / "out.txt", "ab") as out:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=self.host.enter,
                start_new_session=True,
            )

    def family(self) -> list[psutil.Process]:
        """Return all its processes."""
        if self.process is None or self.process.poll() is not None:
            return []
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)]
        return []

    def kill(self) -> None:
        """End all its processes at once, as a power cut does."""
        family = self.family()
        for send in (signal.SIGSTOP, signal.SIGKILL):
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(send)
        if self.process is not None:
            self.process.wait(30)

    def freeze(self) -> None:
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        for process in self.family():
            with suppress(psutil.NoSuchProcess):
                process.resume()


class BrokerMachine(Machine):
    """The broker. Its store is on its disk, its token is not."""

    def __init__(self, host: Host, root: Path) -> None:
        super().__init__(host, root, 96)
        folder = root / "state" / "nats"
        self.url = f"nats://{token_in(folder)}@{host.address}:4222"
        (folder / "store").symlink_to(self.disk.folder / "store")

    def command(self) -> list[str]:
        (self.disk.folder / "store").mkdir(exist_ok=True)
        config = self.root / "sdwatch.yaml"
        given = {name: str(self.root / name) for name in ("spool", "state")}
        config.write_text(json.dumps({**given, "webuis": {"none": {"url": "http://127.0.0.1:9"}}}))
        config.chmod(0o600)
        words = [sys.executable, "-m", "sdwatch", "cluster", "up", "--config", str(config)]
        return [*words, "--host", self.host.address]


class MonitorMachine(Machine):
    """A machine with a monitor. `spool`: on its own disk, or shared; `webui`: what its config
    says of it."""

    def __init__(
        self, host: Host, root: Path, role: str, url: str, spool: Path | None = None
    ) -> None:
        super().__init__(host, root, 192)
        self.role, self.url = role, url
        self.skew = 0.0
        self.takes_over = ""
        self.spool = spool or self.disk.folder / "spool"
        self.webui: dict[str, object] = {"url": f"http://127.0.0.1:{_PORT}"}
        self.settings: dict[str, object] = {}

    @property
    def posts(self) -> Path:
        """Return the file in which its WebUI writes each POST."""
        return self.root / "posts.txt"

    def command(self) -> list[str]:
        config = self.root / "sdwatch.yaml"
        given = {
            "spool": str(self.spool),
            "state": str(self.disk.folder / "state"),
            "settle": 0.1,
            "scan_interval": 1,
            "min_free": "1 MB",
            "stop_grace": 5,
            "cooldown": [0.1, 0.2],
            **self.settings,
            "webuis": {"sim": self.webui},
        }
        config.write_text(json.dumps(given))
        config.chmod(0o600)
        words = [sys.executable, str(HERE / "cluster_driver.py"), str(config), self.role]
        return [*words, self.url, str(self.skew), self.takes_over]

    def has_webui(self, step_time: float) -> None:
        """Give it a simulator, whose images take 20 steps."""
        command = [sys.executable, str(HERE / "recording_simulator.py"), str(self.posts)]
        command += ["--port", str(_PORT), "--boot-time", "0", "--load-time", "0"]
        command += ["--switch-time", "0", "--step-time", f"{step_time:g}"]
        self.webui |= {
            "command": command,
            "stop_grace": 1,
            "start_limit": 120,
            "health": {"interval": 2, "timeout": 10, "failures": 3},
        }


class ClusterHosts:
    """A network with a broker, a dispatcher, a machine that can take its place, and `count` boxes,
    whose clocks differ. An image takes `step_time` * 20 seconds."""

    def __init__(self, root: Path, count: int, step_time: float, seed: int = 1) -> None:
        self.network = Network(seed)
        self.share = Disk(root / "share", 512)
        self.spool = shared = self.share.folder
        self.broker = BrokerMachine(self.network.host("broker", 1), root / "broker")
        self.boxes = []
        self.dispatchers = []
        for number, name in enumerate(("dispatcher", "spare"), 2):
            host = self.network.host(name, number)
            made = MonitorMachine(host, root / name, "dispatcher", self.broker.url, shared)
            self.dispatchers.append(made)
        for number in range(count):
            host = self.network.host(f"box-{number + 1}", number + 11)
            box = MonitorMachine(host, root / host.name, "box", self.broker.url)
            box.skew = _SKEWS[(number + 1) % len(_SKEWS)]
            box.has_webui(step_time)
            self.boxes.append(box)
        (shared / "inbox").mkdir()
        self.active = self.dispatchers[0]
        self.network.open()

    def start(self) -> None:
        for machine in (self.broker, self.active, *self.boxes):
            machine.start()

    def take_over(self) -> None:
        """Have the other dispatcher's machine take the shared spool over. The one so far is
        dead."""
        before = self.active
        self.active = next(each for each in self.dispatchers if each is not before)
        worker = (before.disk.folder / "state" / "worker").read_text().strip()
        self.active.takes_over = worker
        self.active.start()
        self.active.takes_over = ""

    def machines(self) -> list[Machine]:
        return [self.broker, *self.dispatchers, *self.boxes]

    def heal(self) -> None:
        """Have all machines work again."""
        for machine in self.machines():
            machine.host.link = Link()
            machine.thaw()
            machine.disk.free()
        self.share.free()
        for machine in (self.broker, self.active, *self.boxes):
            if machine.process is None or machine.process.poll() is not None:
                machine.start()

    def close(self) -> None:
        for machine in self.machines():
            machine.thaw()
            machine.kill()


def drop(spool: Path, name: str, text: str) -> None:
    """Put a job into the inbox, whole; a full disk is waited for."""
    temporary = spool / "inbox" / f".{name}.tmp"

    def write() -> bool:
        with suppress(OSError):
            temporary.write_text(text)
            os.rename(temporary, spool / "inbox" / f"{name}.yaml")
            return True
        return False

    wait_until(write, "the shared spool takes a job", every=0.2)


def listen(hosts: ClusterHosts, hear: Callable[[str, bytes], None]) -> None:
    """Have `hear` get each entry of the runs' logs, with its run's subject, from the broker's own
    host, whatever is cut. Returns once it is connected."""
    connected = threading.Event()

    def live() -> None:
        import asyncio

        import nats

        async def subscribe() -> None:
            async def hear_message(message: object) -> None:
                hear(message.subject, message.data)  # type: ignore[attr-defined]

            async def nothing(_: object) -> None:
                return

            url = hosts.broker.url
            client = await nats.connect(
                url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, error_cb=nothing
            )
            await client.subscribe("sdwatch.run.>", cb=hear_message)
            await client.flush()
            connected.set()
            await asyncio.Event().wait()

        while True:
            with suppress(Exception):
                asyncio.run(subscribe())
            time.sleep(0.2)

    hosts.broker.host.run(live)
    if not connected.wait(30):
        raise TimeoutError("the broker does not start")
