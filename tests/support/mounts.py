"""File systems of a test's own: a share over sshfs from a server on this machine, a small tmpfs, an
ext4 that breaks, a btrfs with a quota.

They need Linux, the right to mount, for the share sshfs and an sshd, and for the quota the tools of
btrfs (Debian: `apt-get install sshfs openssh-server btrfs-progs`). Without them the tests are
skipped, unless SDWATCH_REQUIRE_MOUNTS is set, as .ci/run does: then they run, and fail.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.support.helpers import free_port, kill_family, wait_until

_required = bool(os.environ.get("SDWATCH_REQUIRE_MOUNTS"))
_root = hasattr(os, "geteuid") and os.geteuid() == 0
_sshd = shutil.which("sshd") or "/usr/sbin/sshd"

needs_share = pytest.mark.skipif(
    not _required
    and not (Path("/dev/fuse").exists() and shutil.which("sshfs") and Path(_sshd).exists()),
    reason="needs sshfs and openssh-server",
)
needs_root = pytest.mark.skipif(not _required and not _root, reason="only root may mount a tmpfs")
needs_quota = pytest.mark.skipif(
    not _required and not (_root and shutil.which("mkfs.btrfs")),
    reason="only root may mount a btrfs, and its tools are needed",
)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=400)


class Share:
    """The folder `served`, offered by an sshd, and `folder`, where it is mounted."""

    def __init__(self, root: Path) -> None:
        self.served, self.folder = root / "served", root / "share"
        self._keys = root / "keys"
        self._port = free_port()
        self._server: subprocess.Popen[bytes] | None = None
        for folder in (self.served, self.folder, self._keys):
            folder.mkdir()
        for name in ("host", "user"):
            _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._keys / name))
        if _root:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it
        config = {
            "ListenAddress": "127.0.0.1",
            "Port": self._port,
            "HostKey": self._keys / "host",
            "AuthorizedKeysFile": self._keys / "user.pub",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PermitRootLogin": "yes",
            "Subsystem": "sftp internal-sftp",
        }
        lines = "".join(f"{name} {value}\n" for name, value in config.items())
        (root / "sshd_config").write_text(lines)
        self._command = [_sshd, "-D", "-e", "-f", str(root / "sshd_config")]
        self._log = root / "sshd.log"

    def serve(self) -> None:
        """Begin to serve, or again."""
        with open(self._log, "ab") as log:
            self._server = subprocess.Popen(self._command, stdout=log, stderr=log)
        wait_until(self._listens, 20, "sshd listens")

    def _listens(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, self._log.read_text()
        connections = psutil.Process(self._server.pid).net_connections("tcp")
        return any(c.status == psutil.CONN_LISTEN for c in connections)

    def mount(self) -> None:
        options = {
            "Port": self._port,
            "IdentityFile": self._keys / "user",
            "UserKnownHostsFile": self._keys / "known",
            "StrictHostKeyChecking": "no",
            "ServerAliveInterval": 1,
            "ServerAliveCountMax": 2,
        }
        words = ",".join(["reconnect", *(f"{name}={value}" for name, value in options.items())])
        source = f"{getpass.getuser()}@127.0.0.1:{self.served}"
        _run("sshfs", "-o", words, source, str(self.folder))

    def freeze(self) -> None:
        """Let nothing on it answer, until `thaw`: as a server whose disk hangs."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it answer again."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        mounted = [p for p in psutil.process_iter(["cmdline"]) if self._mounts(p.info["cmdline"])]
        assert mounted, "no sshfs serves it"
        for process in mounted:
            process.send_signal(number)

    def _mounts(self, command: list[str] | None) -> bool:
        return bool(command) and command[0] == "sshfs" and command[-1] == str(self.folder)

    def unmount(self) -> None:
        """As if it had never been mounted; what is in use is released later."""
        _run("fusermount", "-u", "-z", str(self.folder))

    def die(self) -> None:
        """The server is gone, with all its connections."""
        if self._server is None:
            return
        kill_family(self._server)
        self._server = None


@contextmanager
def share(root: Path) -> Iterator[Share]:
    """Served and mounted."""
    made = Share(root)
    try:
        made.serve()
        made.mount()
        yield made
    finally:
        with suppress(subprocess.SubprocessError):
            made.unmount()
        made.die()


def remount(folder: Path, how: str) -> None:
    """Make the file system on `folder` read-only (`ro`) or writable again (`rw`)."""

    def done() -> bool:
        words = ("mount", "-o", f"remount,{how}", str(folder))
        return subprocess.run(words, capture_output=True, timeout=400, check=False).returncode == 0

    wait_until(done, 30, "nothing is open for writing at that moment")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """`folder` is a file system of its own, with so much room (`4m`)."""
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield
    finally:
        _run("umount", "-l", str(folder))


class BreakingDisk:
    """An ext4 in a file, mounted on `folder`."""

    def __init__(self, image: Path, folder: Path) -> None:
        self._image, self._folder = image, folder
        _make_image(image, 64 << 20)
        _run("mkfs.ext4", "-q", str(image))
        self._mount()

    def _mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self._folder))

    def fail(self) -> None:
        """Do what the kernel does after an error of the disk: make it read-only, though files are
        open to be written to (ext4(5), `abort`)."""
        _run("mount", "-o", "remount,abort", str(self._folder))

    def repair(self) -> None:
        """As a person does: unmount it, once nothing holds it, check it, mount it again."""

        def unmounted() -> bool:
            words = ("umount", str(self._folder))
            ended = subprocess.run(words, capture_output=True, timeout=400, check=False)
            return ended.returncode == 0

        wait_until(unmounted, 60, "nothing is open on it any more")
        fixed = subprocess.run(
            ("e2fsck", "-fy", str(self._image)), capture_output=True, timeout=60, check=False
        )
        assert fixed.returncode in (0, 1), fixed.stdout  # 1: errors were corrected
        self._mount()


@contextmanager
def breaking_disk(root: Path, folder: Path) -> Iterator[BreakingDisk]:
    """`folder` is a file system that may fail, kept in a file below `root`."""
    folder.mkdir(parents=True, exist_ok=True)
    made = BreakingDisk(root / "ext4.img", folder)
    try:
        yield made
    finally:
        _run("umount", "-l", str(folder))


@contextmanager
def with_quota(root: Path, folder: Path, limit: str) -> Iterator[None]:
    """`folder` is a file system with much room, but a quota allows only `limit` (`4M`)."""
    folder.mkdir(parents=True, exist_ok=True)
    image = root / "btrfs.img"
    _make_image(image, 200 << 20)
    _run("mkfs.btrfs", "-q", "-M", str(image))
    _run("mount", "-o", "loop", str(image), str(folder))
    try:
        _run("btrfs", "quota", "enable", str(folder))
        _run("btrfs", "qgroup", "limit", limit, str(folder))
        yield
    finally:
        _run("umount", "-l", str(folder))


def _make_image(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        file.truncate(size)
