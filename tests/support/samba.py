"""A Samba server of a test's own, with the shares of docs/share.md, and clients of it.

It needs Linux, root, smbd with its passdb tools, smbclient, nss_wrapper (Debian: `apt-get install
samba smbclient libnss-wrapper`) and the package smbprotocol. Without them the tests are skipped,
unless SDWATCH_REQUIRE_MOUNTS is set, as .ci/run does: then they run, and fail.

The users exist for this server and for processes that are started as them, nowhere else.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.helpers import free_port, kill_family, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "share.md"
SPOOL = "/srv/sdwatch/spool"
"""Where the page has the spool."""

PASSWORD = "only-of-this-test-1"
USERS = {"sdwatch": 21000, "ann": 21001, "ben": 21002, "olga": 21003, "eve": 21004}
"""The monitor's, two artists, an operator, and somebody who is neither."""
GROUPS = {
    "sdwatch": (21000, ""),
    "artists": (21010, "ann,ben"),
    "operators": (21011, "olga"),
    "users": (21012, "eve"),
}

_required = bool(os.environ.get("SDWATCH_REQUIRE_MOUNTS"))
_smbd = shutil.which("smbd") or "/usr/sbin/smbd"
_root = hasattr(os, "geteuid") and os.geteuid() == 0


def _wrapper() -> str:
    found = sorted(Path("/usr/lib").glob("*/libnss_wrapper.so"))
    return str(found[0]) if found else ""


needs_samba = pytest.mark.skipif(
    not _required
    and not (
        _root
        and Path(_smbd).exists()
        and shutil.which("smbclient")
        and _wrapper()
        and importlib.util.find_spec("smbprotocol")
    ),
    reason="needs root, samba, smbclient, libnss-wrapper and smbprotocol",
)


def block(language: str) -> str:
    """The one block of docs/share.md in this language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


def group_of(user: str) -> int:
    """The first group of a user."""
    return next(gid for name, (gid, has) in GROUPS.items() if user in (name, *has.split(",")))


class Samba:
    """smbd on a port of the loopback, for the spool at `spool`. `changes`: of lines of the page's
    settings, `name = value` by name; None leaves the line out."""

    def __init__(self, root: Path, spool: Path, **changes: str | None) -> None:
        self.root, self.spool = root, spool
        self.port = free_port()
        self._server: subprocess.Popen[bytes] | None = None
        root.mkdir()
        passwd = [f"{name}:x:{uid}:{group_of(name)}::/:/bin/false" for name, uid in USERS.items()]
        passwd += ["root:x:0:0::/root:/bin/sh", "nobody:x:65534:65534::/:/bin/false"]
        groups = [f"{name}:x:{gid}:{has}" for name, (gid, has) in GROUPS.items()]
        groups += ["root:x:0:", "nogroup:x:65534:"]
        (root / "passwd").write_text("\n".join(passwd) + "\n")
        (root / "group").write_text("\n".join(groups) + "\n")
        self._environment = {
            **os.environ,
            "LD_PRELOAD": _wrapper(),
            "NSS_WRAPPER_PASSWD": str(root / "passwd"),
            "NSS_WRAPPER_GROUP": str(root / "group"),
        }
        self.conf = root / "smb.conf"
        self.conf.write_text(self._settings(changes), encoding="utf-8")

    def _settings(self, changes: dict[str, str | None]) -> str:
        text = block("ini").replace(SPOOL, str(self.spool))
        for name, value in changes.items():
            key = name.replace("_", " ")
            line = "" if value is None else f"    {key} = {value}\n"
            text, number = re.subn(rf"^ +{key} = .*\n", line, text, flags=re.MULTILINE)
            assert number, f"the page has no `{key}`"
        own: dict[str, Any] = {
            "smb ports": self.port,
            "interfaces": "127.0.0.1",
            "bind interfaces only": "yes",
            "disable netbios": "yes",
            "load printers": "no",
            "printing": "bsd",
            "printcap name": "/dev/null",
            "disable spoolss": "yes",
            "log file": self.root / "smbd.log",
            "passdb backend": f"tdbsam:{self.root}/passdb.tdb",
            "pid directory": self.root / "run",
            "lock directory": self.root / "lock",
            "state directory": self.root / "state",
            "cache directory": self.root / "cache",
            "private dir": self.root / "private",
            "ncalrpc dir": self.root / "ncalrpc",
        }
        for name, value in own.items():
            if name.endswith(("directory", "dir")):
                Path(value).mkdir()
        lines = "".join(f"    {name} = {value}\n" for name, value in own.items())
        assert text.startswith("[global]\n")
        return text.replace("[global]\n", f"[global]\n{lines}", 1)

    def serve(self) -> None:
        """Start it, with a password for each user, and wait until it listens."""
        for user in USERS:
            self._run("smbpasswd", "-c", str(self.conf), "-s", "-a", user)
        command = [_smbd, "--foreground", "--no-process-group", f"--configfile={self.conf}"]
        with open(self.root / "smbd.out", "ab") as out:
            self._server = subprocess.Popen(
                command, env=self._environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        wait_until(self._listens, 30, "smbd listens")

    def _run(self, *words: str) -> None:
        done = subprocess.run(
            words,
            env=self._environment,
            input=f"{PASSWORD}\n{PASSWORD}\n",
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _listens(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, (self.root / "smbd.out").read_text()
        connections = psutil.Process(self._server.pid).net_connections("tcp")
        return any(c.status == psutil.CONN_LISTEN for c in connections)

    def end(self) -> None:
        """With all its connections."""
        if self._server is None:
            return
        kill_family(self._server)
        self._server = None

    def smbclient(self, user: str, share: str, commands: str, folder: Path | None = None) -> str:
        """Run commands of Samba's own client, as `put castle.yaml`; what it says."""
        words = ["smbclient", f"//127.0.0.1/{share}", "-p", str(self.port)]
        words += ["-s", str(self.conf), "-U", f"{user}%{PASSWORD}", "-c", commands]
        done = subprocess.run(
            words,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.stdout + done.stderr

    @contextmanager
    def client(self, user: str) -> Iterator[Client]:
        """A connection of its own, for one user."""
        with ExitStack() as stack:
            yield Client(self.port, user, stack)


class Client:
    """What a Windows program does with files of a share, by their names in it."""

    def __init__(self, port: int, user: str, stack: ExitStack) -> None:
        import smbclient

        self._smb: Any = smbclient
        self._cache: dict[str, Any] = {}
        self._more = {
            "username": user,
            "password": PASSWORD,
            "port": port,
            "connection_cache": self._cache,
        }
        stack.callback(smbclient.reset_connection_cache, connection_cache=self._cache)

    @staticmethod
    def _unc(share: str, name: str) -> str:
        path = name.replace("/", "\\")
        return rf"\\127.0.0.1\{share}" + (f"\\{path}" if path else "")

    def open(self, name: str, mode: str, share: str = "inbox", access: str = "r") -> Any:
        """A handle; `access`: what others may do meanwhile, of the letters r, w and d."""
        return self._smb.open_file(
            self._unc(share, name), mode=mode, buffering=0, share_access=access, **self._more
        )

    def write(self, name: str, data: str | bytes, share: str = "inbox") -> None:
        """As Explorer copies: opened, written, closed."""
        with self.open(name, "wb", share) as file:
            rest = memoryview(data.encode() if isinstance(data, str) else data)
            while rest:
                rest = rest[file.write(rest) :]

    def read(self, name: str, share: str = "sdwatch") -> bytes:
        with self.open(name, "rb", share, "rwd") as file:
            return bytes(file.read())

    def names(self, folder: str = "", share: str = "sdwatch") -> list[str]:
        return sorted(self._smb.listdir(self._unc(share, folder), **self._more))

    def make_folder(self, name: str, share: str = "inbox") -> None:
        self._smb.mkdir(self._unc(share, name), **self._more)

    def rename(self, old: str, new: str, share: str = "inbox") -> None:
        self._smb.rename(self._unc(share, old), self._unc(share, new), **self._more)

    def remove(self, name: str, share: str = "inbox") -> None:
        self._smb.remove(self._unc(share, name), **self._more)


@contextmanager
def samba(root: Path, spool: Path, **changes: str | None) -> Iterator[Samba]:
    """Served."""
    made = Samba(root, spool, **changes)
    try:
        made.serve()
        yield made
    finally:
        made.end()


@contextmanager
def open_folder() -> Iterator[Path]:
    """A new folder that all users can reach, which those of pytest are not; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="sdwatch-samba-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
