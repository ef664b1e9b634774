"""Hosts with a network of their own on this machine: a namespace each, joined by one switch.

Each host has one TAP device, and this process is the wire: it forwards their frames, and cuts,
delays or loses them as asked. So no kernel module is needed: many have no `tc netem`.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import selectors
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_NEW_NETWORK = 0x40000000
_TUNSETIFF = 0x400454CA
_TAP_WITHOUT_INFO = 0x1002
_ISOLATED = "SDWATCH_BENCHMARK_ISOLATED"

_libc = ctypes.CDLL(None, use_errno=True)


def isolate() -> None:
    """Run this command again in namespaces of its own: what it starts, mounts and joins is gone
    with it. Without root's rights, in a user namespace. Returns in the second life only; exits with
    77 where this machine does not permit it."""
    if os.environ.get(_ISOLATED):
        return
    words = ["unshare", *(() if os.geteuid() == 0 else ("--user", "--map-root-user"))]
    words += ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if why := _why_not(words):
        print(f"network namespaces are not permitted here: {why}", file=sys.stderr)
        sys.exit(77)
    command = [*words, sys.executable, *sys.argv]
    os.execvpe(command[0], command, {**os.environ, _ISOLATED: "1"})


def _why_not(words: list[str]) -> str:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import cluster_network as n; n.try_it()"
    try:
        tried = subprocess.run(
            [*words, sys.executable, "-c", code, str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except OSError as error:
        return str(error)
    return "" if tried.returncode == 0 else tried.stderr.strip().rpartition("\n")[2]


def try_it() -> None:
    """Make a network with one host, and a disk of its own. Raises OSError."""
    network = Network()
    network.host("try", 1)
    mount_disk(Path("/mnt"), 1)


def mount_disk(folder: Path, megabytes: int) -> None:
    """Mount a disk of so many MB in memory, which is gone with this process. Raises OSError."""
    options = f"size={megabytes}m".encode()
    if _libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, options) != 0:
        raise OSError(ctypes.get_errno(), f"mount {folder}")


@dataclass
class Link:
    """What the wire does to frames from and to one host: nothing passes where `cut`; `delay` and
    `jitter` in seconds, `loss` from 0 to 1."""

    cut: bool = False
    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0


class Host:
    """A host: `address` in the network, and its `link` to the switch."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.address = f"10.77.0.{number}"
        self.link = Link()
        self.mac = bytes((2, 0, 0, 0, 0, number))
        self.tap = -1
        self._namespace = -1
        self._in_thread(self._make)

    def enter(self) -> None:
        """Move the calling thread into this host, or a child before it executes. Raises OSError."""
        _checked(_libc.setns(self._namespace, _NEW_NETWORK))

    def run(self, function: Callable[[], None]) -> threading.Thread:
        """Run a function in a thread on this host."""

        def there() -> None:
            self.enter()
            function()

        thread = threading.Thread(target=there, daemon=True)
        thread.start()
        return thread

    def _make(self) -> None:
        _checked(_libc.unshare(_NEW_NETWORK))
        self._namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self.tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self.tap, _TUNSETIFF, struct.pack("16sH22x", b"eth0", _TAP_WITHOUT_INFO))
        mac = ":".join(f"{byte:02x}" for byte in self.mac)
        for words in (
            ("link", "set", "lo", "up"),
            ("link", "set", "eth0", "address", mac, "mtu", "9000", "up"),
            ("addr", "add", f"{self.address}/24", "dev", "eth0"),
        ):
            subprocess.run(["ip", *words], check=True, preexec_fn=self.enter)

    def _in_thread(self, function: Callable[[], None]) -> None:
        failed: list[OSError | subprocess.SubprocessError] = []

        def work() -> None:
            try:
                function()
            except (OSError, subprocess.SubprocessError) as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]


class Network:
    """The switch, and the hosts that it joins. Made and run in this process."""

    def __init__(self, seed: int = 1) -> None:
        self.hosts: dict[str, Host] = {}
        self.frames = self.lost = 0
        self._by_mac: dict[bytes, Host] = {}
        self._selector = selectors.DefaultSelector()
        self._later: list[tuple[float, int, Host, bytes]] = []
        self._random = random.Random(seed)
        self._thread = threading.Thread(target=self._forward, daemon=True)

    def host(self, name: str, number: int) -> Host:
        """Add a host. Raises OSError."""
        made = Host(name, number)
        self.hosts[name] = made
        self._by_mac[made.mac] = made
        self._selector.register(made.tap, selectors.EVENT_READ, made)
        return made

    def open(self) -> None:
        """Start to forward. All hosts were added before."""
        self._thread.start()

    def _forward(self) -> None:
        while True:
            now = time.monotonic()
            wait = self._later[0][0] - now if self._later else 1.0
            for key, _ in self._selector.select(max(0.0, wait)):
                self._read(key.data)
            now = time.monotonic()
            while self._later and self._later[0][0] <= now:
                _, _, to, frame = heapq.heappop(self._later)
                _write(to, frame)

    def _read(self, sender: Host) -> None:
        for _ in range(64):
            try:
                frame = os.read(sender.tap, 16384)
            except BlockingIOError:
                return
            to = self._by_mac.get(frame[:6])
            for receiver in [to] if to else list(self.hosts.values()):
                if receiver is not sender:
                    self._pass_on(sender, receiver, frame)

    def _pass_on(self, sender: Host, receiver: Host, frame: bytes) -> None:
        self.frames += 1
        delay = 0.0
        for link in (sender.link, receiver.link):
            if link.cut or (link.loss and self._random.random() < link.loss):
                self.lost += 1
                return
            if link.delay:
                delay += max(0.0, link.delay + self._random.uniform(-link.jitter, link.jitter))
        if delay:
            heapq.heappush(self._later, (time.monotonic() + delay, self.frames, receiver, frame))
        else:
            _write(receiver, frame)


def _write(to: Host, frame: bytes) -> None:
    try:
        os.write(to.tap, frame)
    except OSError:
        return  # its queue is full, as a wire's may be


def _checked(code: int) -> None:
    if code != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
