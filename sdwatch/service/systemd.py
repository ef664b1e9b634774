"""Linux: a service of systemd, for one user or for the machine.

What each setting does is in systemd.service(5), systemd.exec(5), systemd.kill(5) and
systemd.unit(5) of systemd 252; why it is set so is beside it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from sdwatch.errors import NoServiceError, ServiceError
from sdwatch.service.account import user_id
from sdwatch.service.definition import WATCHDOG_S, Scope, ServiceDefinition
from sdwatch.service.manager import (
    ServiceManager,
    ServiceState,
    ServiceStatus,
    Step,
    output_of,
    ran,
    removed,
    written,
)

BOOTED = Path("/run/systemd/system")
"""There while systemd manages this machine: sd_booted(3)."""

_MARK = "# Written by `sdwatch service install`; `sdwatch service uninstall` removes it."
_SECTION = "[X-Sdwatch]"  # sections with X- are left to programs: systemd.unit(5)
_CONFIG = re.compile(rf"^{re.escape(_SECTION)}\nConfig=(.+)$", re.MULTILINE)

_RESTART_AFTER_S = 10
_START_LIMIT_S = 900
"""What an earlier monitor left is recovered before the service is ready: for thousands of runs on
a slow disk that takes minutes."""

_GPU_DEVICES = "nvidia-modprobe"
"""On a machine without a display, the first CUDA program makes /dev/nvidia-uvm by this setuid
program, which has no effect with NoNewPrivileges (fah-client-bastet#315)."""

_HARDENING = """\
NoNewPrivileges=yes
ProtectSystem=full
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
"""
"""What neither a WebUI nor its GPU needs. Left out on purpose: PrivateDevices, DeviceAllow and
ProtectClock (each closes /dev/nvidia* and /dev/dri: tailscale#1063), MemoryDenyWriteExecute
(PyTorch compiles at run time), PrivateTmp (removed at a restart, under the WebUI that is adopted),
ProtectHome (the WebUI is there), ProtectProc (whose is the port?), ProtectHostname (the heartbeat
names the host)."""

_STATES = {
    "active": ServiceState.RUNNING,
    "activating": ServiceState.STARTING,
    "deactivating": ServiceState.STOPPING,
    "reloading": ServiceState.RUNNING,
    "failed": ServiceState.FAILED,
    "inactive": ServiceState.STOPPED,
}
_AT_BOOT = ("enabled", "enabled-runtime")
_SHOWN = (
    "LoadState", "ActiveState", "SubState", "Result", "ExecMainStatus", "NRestarts", "MainPID",
    "StatusText", "UnitFileState", "FragmentPath",
)  # fmt: skip

_NOTHING_IN_THE_JOURNAL = (
    "the journal shows you nothing of it: it never ran, or only root and the group systemd-journal "
    "may read that (`sudo usermod -aG systemd-journal $USER`, then log in again). The monitor's "
    "own log is sdwatch.log in the state folder"
)

_SLASH = ord("/")
_PLAIN = frozenset(b":_." + b"".join(bytes([c]) for c in range(128) if chr(c).isalnum()))
"""What stays as it is in the name of a unit that is made of a path."""


class Systemd(ServiceManager):
    """The service `name` of systemd. `folder`: of its units, instead of the usual one."""

    def __init__(self, name: str, scope: Scope, folder: Path | None = None) -> None:
        self.name = name
        self._scope = scope
        self._unit = f"{name}.service"
        self._path = (folder or _unit_folder(scope)) / self._unit
        self._systemctl = ("systemctl", "--user") if scope is Scope.USER else ("systemctl",)

    def document(self, service: ServiceDefinition) -> str:
        return unit_text(service, shutil.which(_GPU_DEVICES))

    def install(self, service: ServiceDefinition) -> Sequence[Step]:
        self._is_allowed("install")
        if (path := self._fragment()) is not None:
            raise ServiceError(
                f"the name {self.name} is taken by {path}: remove that with `sdwatch service "
                "uninstall` if it is an earlier installation, or choose another --name"
            )
        reload = (*self._systemctl, "daemon-reload")
        text = self.document(service).encode()
        return (
            written(self._path, text, and_then=lambda: output_of(*reload)),
            ran(*reload, undo=(*self._systemctl, "disable", self._unit)),
            ran(*self._systemctl, "enable", self._unit),
        )

    def uninstall(self) -> Sequence[Step]:
        self._may_change("uninstall")
        is_there = self._path.exists()  # if a person removed it, systemd has no unit to disable
        return (
            ran(*self._systemctl, "stop", self._unit),
            ran(*self._systemctl, "disable", self._unit, may_fail=not is_there),
            # What a stop leaves (`leave_running`, or a monitor that was killed) is in its cgroup.
            ran(*self._systemctl, "kill", "--signal=SIGKILL", self._unit, may_fail=True),
            removed(self._path),
            ran(*self._systemctl, "daemon-reload"),
            ran(*self._systemctl, "reset-failed", self._unit, may_fail=True),
        )

    def start(self) -> Sequence[Step]:
        return self._changed("start")

    def stop(self) -> Sequence[Step]:
        return self._changed("stop")

    def restart(self) -> Sequence[Step]:
        return self._changed("restart")

    def _changed(self, verb: str) -> Sequence[Step]:
        self._may_change(verb)
        return (ran(*self._systemctl, verb, self._unit),)

    def status(self) -> ServiceStatus:
        self._is_there()
        shown = self._shown()
        if shown["LoadState"] == "not-found":
            return ServiceStatus(ServiceState.NOT_INSTALLED, details=self._elsewhere())
        state = _STATES.get(shown["ActiveState"], ServiceState.FAILED)
        if shown["SubState"] == "auto-restart":
            state = ServiceState.WAITS_TO_RESTART
        return ServiceStatus(
            state,
            pid=int(shown["MainPID"] or 0),
            starts_itself=shown["UnitFileState"] in _AT_BOOT,
            details=tuple(_details(shown)),
        )

    def config(self) -> Path | None:
        try:
            found = _CONFIG.search(self._path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            return None
        return Path(found[1]) if found else None

    def logs(self, lines: int) -> str:
        self._is_there()
        self._is_ours()
        chosen = "--user-unit" if self._scope is Scope.USER else "--unit"
        words = ("journalctl", "--quiet", "--no-pager", f"--lines={lines}", chosen, self._unit)
        try:
            said = output_of(*words)
        except ServiceError as error:
            raise ServiceError(f"{_NOTHING_IN_THE_JOURNAL} ({error})") from error
        if not said and user_id() != 0:
            raise ServiceError(_NOTHING_IN_THE_JOURNAL)
        return said

    def advice(self) -> Sequence[str]:
        """Return what to do so that it also runs while its user is logged off."""
        if self._scope is Scope.SYSTEM or _lingers():
            return ()
        return (
            "It runs while you are logged in. To start it at boot and keep it after you log off: "
            "loginctl enable-linger",
        )

    # -- what may be done

    def _is_there(self) -> None:
        if not BOOTED.is_dir() or shutil.which("systemctl") is None:
            raise ServiceError(
                "systemd does not manage this machine (a container, WSL without systemd, another "
                "init): run `sdwatch run` under whatever does; docs/services.md has examples"
            )
        if self._scope is Scope.USER:
            try:
                output_of(*self._systemctl, "show-environment")
            except ServiceError as error:
                raise ServiceError(
                    f"your own service manager cannot be reached ({error}): log in as that user "
                    "(not by su or sudo), or install with --system as root"
                ) from error

    def _is_allowed(self, verb: str) -> None:
        """Check that systemd is there and that this user may `verb`. Raises ServiceError."""
        is_root = user_id() == 0
        if self._scope is Scope.SYSTEM and not is_root:
            raise ServiceError(
                f"a --system service needs root to {verb} it: type the same with sudo before it, "
                "and the full path of sdwatch; or use --user"
            )
        if self._scope is Scope.USER and is_root and os.environ.get("SUDO_USER"):
            raise ServiceError("a --user service is yours: type the same without sudo")
        self._is_there()

    def _may_change(self, verb: str) -> None:
        self._is_allowed(verb)
        self._is_ours()

    def _is_ours(self) -> None:
        """Check that it is a service that sdwatch installed. Raises NoServiceError."""
        path = self._fragment()
        if path is None:
            more = self._elsewhere() or ("`sdwatch service install` makes it",)
            raise NoServiceError(f"there is no {self._scope} service {self.name}: {more[0]}")
        try:
            ours = path == self._path and path.read_text(encoding="utf-8").startswith(_MARK)
        except FileNotFoundError:
            ours = True  # a person removed the file, and systemd still has the unit
        except (OSError, UnicodeDecodeError):
            ours = False
        if not ours:
            raise NoServiceError(f"{path} was not written by sdwatch, and is left alone")

    def _elsewhere(self) -> tuple[str, ...]:
        """Return where the service is which a user does not find among his own."""
        if self._scope is Scope.USER and (_unit_folder(Scope.SYSTEM) / self._unit).exists():
            return ("there is a system service of that name: add --system",)
        return ()

    def _fragment(self) -> Path | None:
        """Return the unit's file; None if there is no unit of that name."""
        if self._path.exists():
            return self._path
        return Path(path) if (path := self._shown()["FragmentPath"]) else None

    def _shown(self) -> dict[str, str]:
        wanted = ",".join(_SHOWN)
        said = output_of(*self._systemctl, "show", f"--property={wanted}", self._unit)
        pairs = (line.partition("=") for line in said.splitlines())
        return dict.fromkeys(_SHOWN, "") | {name: value for name, _, value in pairs}


def _details(shown: dict[str, str]) -> Iterator[str]:
    yield f"systemd: {shown['ActiveState']} ({shown['SubState']}), {shown['UnitFileState']}"
    if shown["Result"] not in ("", "success"):
        code = shown["ExecMainStatus"]
        yield f"its last result: {shown['Result']}, exit code {code}; its log says why"
    if shown["NRestarts"] not in ("", "0"):
        yield f"restarted by systemd so far: {shown['NRestarts']}"
    if shown["StatusText"] and shown["MainPID"] not in ("", "0"):  # else of one that has ended
        yield shown["StatusText"]


def _unit_folder(scope: Scope) -> Path:
    if scope is Scope.SYSTEM:
        return Path("/etc/systemd/system")
    home = os.environ.get("XDG_CONFIG_HOME") or str(Path("~/.config").expanduser())
    return Path(home, "systemd", "user")


def _lingers() -> bool:
    try:
        said = output_of("loginctl", "show-user", str(user_id()), "--property=Linger")
    except ServiceError:
        return False
    return said.strip() == "Linger=yes"


# -- the unit


def unit_text(service: ServiceDefinition, gpu_devices: str | None = None) -> str:
    """Return the unit of a service. `gpu_devices`: the program that makes the devices of an NVIDIA
    card, if there is one."""
    is_system = service.scope is Scope.SYSTEM
    unit = [
        f"Description=sdwatch on {_plain(str(service.spool))}",
        "StartLimitIntervalSec=0",
        *(_mounts(service) if is_system else ()),
    ]
    run = [
        "Type=notify",
        *([f"User={service.user}"] if is_system and service.user else ()),
        f"WorkingDirectory={_plain(str(service.folder))}",
        *([f"ExecStartPre=-+{_quoted(gpu_devices)} -c 0 -u"] if is_system and gpu_devices else ()),
        f"ExecStart=:{' '.join(map(_quoted, service.command))}",
        "Restart=on-failure",
        f"RestartSec={_RESTART_AFTER_S}",
        f"RestartPreventExitStatus={' '.join(map(str, service.not_restarted))}",
        f"TimeoutStartSec={_START_LIMIT_S}",
        f"TimeoutStopSec={service.stop_limit:.0f}",
        f"WatchdogSec={WATCHDOG_S}",
        # The WebUI outlives a monitor that dies, and is adopted by the next one. A clean stop ends
        # it through the monitor.
        "KillMode=process",
        # A WebUI that the kernel kills for its memory is restarted by the monitor, not with it.
        "OOMPolicy=continue",
        *(_hardening(service) if is_system else ()),
    ]
    target = "multi-user.target" if is_system else "default.target"
    sections = (
        (_MARK, "# Your own changes belong into `systemctl edit`, which this leaves alone."),
        ("[Unit]", *unit),
        ("[Service]", *run),
        ("[Install]", f"WantedBy={target}"),
        (_SECTION, f"Config={service.config}"),
    )
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _hardening(service: ServiceDefinition) -> Iterator[str]:
    yield from _HARDENING.splitlines()
    if service.user != "root":
        yield "CapabilityBoundingSet="


def _mounts(service: ServiceDefinition) -> Iterator[str]:
    """Yield what is mounted before. Without its own folders it cannot work. A share that is not
    there is no failure: the monitor waits for it, where a service that requires it would neither
    start nor be started again."""
    needed = dict.fromkeys((service.folder, service.state, *service.webui_folders))
    yield f"RequiresMountsFor={' '.join(_quoted(str(path)) for path in needed)}"
    if (share := _mount_of(service.spool)) is not None:
        unit = mount_unit(share)
        yield f"Wants={unit}"
        yield f"After={unit}"


def _mount_of(path: Path) -> Path | None:
    """Return where the file system of `path` is mounted; None for the root, or where that is not
    known. (os.path.ismount does not see a bind mount.)"""
    mounts = {Path(found.mountpoint) for found in psutil.disk_partitions(all=True)}
    above = (path, *path.parents)
    return next((place for place in above if place in mounts and place.parent != place), None)


def mount_unit(path: Path) -> str:
    """Return the name of the unit of a mount point, as `systemd-escape --path` does."""
    name = os.fsencode(path).strip(b"/")
    escaped = "".join(
        "-" if byte == _SLASH else chr(byte) if byte in _PLAIN else f"\\x{byte:02x}"
        for byte in name
    )
    if escaped.startswith("."):
        escaped = f"\\x2e{escaped[1:]}"
    return f"{escaped or '-'}.mount"


def _quoted(word: str) -> str:
    """Return a word of a command or a list: in quotes where it needs them, and with no
    specifier."""
    if re.fullmatch(r"[\w@%+=:,./-]+", word, re.ASCII):
        return _plain(word)
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_plain(escaped)}"'


def _plain(text: str) -> str:
    """Return a value that is taken to the end of its line: only a percent sign is special."""
    return text.replace("%", "%%")
