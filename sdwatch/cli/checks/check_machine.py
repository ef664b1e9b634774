"""What `sdwatch doctor` checks of the machine: folders, disks, clock, GPU, service, messages."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from sdwatch.cli.checks.findings import Area, DoctorFinding, Examination, Weight
from sdwatch.cli.shared.chosen_config import ChosenConfig
from sdwatch.errors import ServiceError
from sdwatch.notify import delivery
from sdwatch.notify.send import send
from sdwatch.policy.notify.notify_settings import targets_of
from sdwatch.policy.notify.target import Channel
from sdwatch.policy.privacy.printable import printable
from sdwatch.service.choose import manager_for, usual_scope
from sdwatch.service.definition import DEFAULT_NAME, service_name
from sdwatch.service.manager import ServiceState
from sdwatch.spool.folders import Spool
from sdwatch.spool.heartbeat import UNREADABLE, is_certainly_here, read_heartbeats
from sdwatch.system import disk
from sdwatch.webui.process.host_snapshot import GpuAnswer, gpu_answer

_GPU_LIMIT_S = 8.0
_APPRISE_LIMIT_S = 25.0
_CLOCKS_APART_S = 5.0
_NETWORK_TYPES = ("nfs", "cifs", "smb", "9p", "afs", "ceph", "gluster", "fuse.sshfs", "davfs")
_SERVICES = {
    ServiceState.RUNNING: (Weight.OK, ""),
    ServiceState.STARTING: (Weight.OK, ""),
    ServiceState.FAILED: (Weight.WARNING, "`sdwatch service logs` shows why"),
    ServiceState.NOT_INSTALLED: (
        Weight.NOTE,
        "to run it in the background, also after a restart: `sdwatch service install`",
    ),
}


def examinations_of(chosen: ChosenConfig) -> list[Examination]:
    """Return what is checked of the machine."""
    return [
        Examination(Area.CONFIG, lambda: _config(chosen)),
        Examination(Area.MONITOR, lambda: _monitor(chosen)),
        Examination(Area.FOLDERS, lambda: _folders(chosen.spool, chosen.config.state)),
        Examination(Area.SHARE, lambda: _share(chosen)),
        Examination(Area.CLOCK, lambda: _clock(chosen.spool)),
        Examination(Area.DISK, lambda: _disk(chosen)),
        Examination(Area.GPU, _gpu, _GPU_LIMIT_S + 5),
        Examination(Area.SERVICE, _service, 20.0),
        Examination(Area.NOTIFICATIONS, lambda: _notifications(chosen), _APPRISE_LIMIT_S + 5),
    ]


def _config(chosen: ChosenConfig) -> Iterator[DoctorFinding]:
    if chosen.file is None:
        yield DoctorFinding(
            Weight.NOTE,
            "there is no config here: this is the built-in one, whose WebUI is the simulator",
            "write one with `sdwatch init`",
        )
        return
    file = printable(str(chosen.file))
    yield DoctorFinding(Weight.OK, f"{file} has no mistakes")
    has_secrets = bool(targets_of(chosen.config.notify)) or any(
        webui.password for webui in chosen.config.webuis
    )
    if has_secrets and os.name != "nt" and chosen.file.stat().st_mode & (stat.S_IROTH):
        yield DoctorFinding(
            Weight.WARNING,
            f"everybody on this machine may read the passwords and addresses in {file}",
            f"chmod 600 {file}",
        )


def _monitor(chosen: ChosenConfig) -> Iterator[DoctorFinding]:
    beats = read_heartbeats(chosen.spool.root) if not chosen.spool.is_gone else []
    running = [beat for beat in beats if UNREADABLE not in beat and is_certainly_here(beat)]
    for beat in running:
        yield DoctorFinding(
            Weight.OK,
            printable(f"a monitor is running: process {beat.get('pid')} on {beat.get('host')}"),
        )
    if not running:
        yield DoctorFinding(
            Weight.NOTE,
            "no monitor of this machine is running on this spool",
            "`sdwatch run` starts one",
        )


def _folders(spool: Spool, state: Path) -> Iterator[DoctorFinding]:
    """Write, rename and remove a file in the folders, as sdwatch does. Its name is one that a
    monitor leaves alone."""
    folders = (spool.inbox, spool.root / "working", spool.done, spool.failed)
    needed = (spool.root, state, *folders)
    in_the_way = [path for path in needed if os.path.lexists(path) and not path.is_dir()]
    for path in in_the_way:
        yield DoctorFinding(
            Weight.PROBLEM,
            f"{printable(str(path))} is a file or a broken link where a folder must be",
            "move it away",
        )
    if in_the_way:
        return
    if spool.is_gone:
        yield DoctorFinding(
            Weight.NOTE,
            f"{printable(str(spool.root))} is empty or missing: its share is not mounted, or it "
            "was not made yet",
            "`sdwatch run` makes the folders; if it is on a share, mount it first",
        )
        return
    refused = [*_refusals(folders)]
    yield from refused
    if not refused:
        yield from _renames(spool)


def _refusals(folders: Iterable[Path]) -> Iterator[DoctorFinding]:
    for folder in folders:
        name = printable(str(folder))
        if not folder.is_dir():
            yield DoctorFinding(Weight.NOTE, f"{name} is missing", "`sdwatch run` makes it")
        elif why := _refusal(folder, folder):
            message = f"{name}: no file can be written and removed: {why}"
            yield DoctorFinding(Weight.PROBLEM, message, _PERMISSIONS)


def _renames(spool: Spool) -> Iterator[DoctorFinding]:
    for target in (spool.done, spool.failed, spool.inbox):
        if why := _refusal(spool.root / "working", target):
            yield DoctorFinding(
                Weight.PROBLEM,
                f"nothing can be renamed from working/ to {target.name}/: {why}",
                _ONE_FILE_SYSTEM,
            )
            return
    root = printable(str(spool.root))
    yield DoctorFinding(
        Weight.OK, f"{root}: files can be written, renamed from folder to folder, and removed"
    )
    if spool.too_deep:
        yield DoctorFinding(Weight.WARNING, spool.too_deep)


_PERMISSIONS = "give this user the permission to change the folder; on a share, on its server too"
_ONE_FILE_SYSTEM = "inbox, working, done and failed must be on one file system: make none a mount"


def _refusal(source: Path, target: Path) -> str:
    """Return why no file can be written in `source`, renamed into `target` and removed there; ''
    if it can."""
    name = f".sdwatch-doctor-{os.getpid()}.tmp"
    before, after = source / name, target / f"{name}2.tmp"
    try:
        with open(before, "xb") as file:
            file.write(b"sdwatch doctor\n")
        os.rename(before, after)
        after.unlink()
    except OSError as error:
        return (
            "they are on different file systems"
            if error.errno == errno.EXDEV
            else (disk.in_words(error))
        )
    finally:
        for path in (before, after):
            with suppress(OSError):
                path.unlink()
    return ""


def _share(chosen: ChosenConfig) -> Iterator[DoctorFinding]:
    config = chosen.config
    if kind := network_type(config.state):
        yield DoctorFinding(
            Weight.PROBLEM,
            f"`state` ({printable(str(config.state))}) is on a share ({kind})",
            "set it to a folder on a disk of this machine",
        )
    if not (kind := network_type(config.spool)):
        yield DoctorFinding(Weight.OK, "the spool is on a disk of this machine")
        return
    message = f"the spool is on a share ({kind})"
    if config.watch == "poll":
        yield DoctorFinding(Weight.OK, f"{message}, and `watch: poll` is set")
    else:
        yield DoctorFinding(
            Weight.NOTE, message, "if jobs are noticed late, set `watch: poll` (docs/share.md)"
        )


def network_type(path: Path) -> str:
    """Return the type of the network file system that a folder is on, or ''."""
    whole = os.path.realpath(path)
    if whole.startswith("\\\\") and not whole.startswith("\\\\?\\"):
        return "a network path"
    best = max(
        (part for part in psutil.disk_partitions(all=True) if _is_below(whole, part.mountpoint)),
        key=lambda part: len(part.mountpoint),
        default=None,
    )
    if best is None:
        return ""
    if os.name == "nt":
        return "a network drive" if "remote" in best.opts else ""
    return best.fstype if best.fstype.startswith(_NETWORK_TYPES) else ""


def _is_below(path: str, mount: str) -> bool:
    path, mount = os.path.normcase(path), os.path.normcase(mount)
    return path == mount or path.startswith(mount.rstrip("/\\") + os.sep)


def _clock(spool: Spool) -> Iterator[DoctorFinding]:
    """Compare this machine's clock with the times that the spool's disk gives to files."""
    if spool.is_gone:
        yield DoctorFinding(Weight.NOTE, "not compared with the spool's disk, which is not there")
        return
    probe = spool.root / f".sdwatch-doctor-{os.getpid()}.tmp"
    try:
        before = time.time()
        with open(probe, "xb") as file:
            file.write(b"x")
        at, after = probe.stat().st_mtime, time.time()
    finally:
        with suppress(OSError):
            probe.unlink()
    apart = clock_skew(before, at, after)
    if abs(apart) <= _CLOCKS_APART_S:
        yield DoctorFinding(Weight.OK, "this machine and the spool's disk agree")
        return
    ahead = "ahead of" if apart > 0 else "behind"
    yield DoctorFinding(
        Weight.WARNING,
        f"the spool's disk is {abs(apart):.0f} s {ahead} this machine",
        "sdwatch does not compare clocks, but times in logs and the order of jobs from several "
        "machines will mislead you: set both by a time server",
    )


def clock_skew(before: float, at: float, after: float) -> float:
    """Return the seconds by which a disk's clock is ahead of ours, if a file that was written
    between `before` and `after` has the time `at`; disks round to two seconds at most."""
    return at - after if at > after else min(0.0, at + 2.0 - before)


def _disk(chosen: ChosenConfig) -> Iterator[DoctorFinding]:
    config = chosen.config
    for name, folder in (("spool", config.spool), ("state", config.state)):
        free = disk.free_bytes(_nearest(folder))
        words = f"{free / 1e9:.1f} GB are free on the disk of `{name}`"
        if free < config.min_free and name == "spool":
            yield DoctorFinding(
                Weight.PROBLEM,
                f"{words}, less than `min_free` ({config.min_free / 1e9:g} GB)",
                "free some space: no call starts before that",
            )
        elif free < max(2 * config.min_free, 2_000_000_000):
            yield DoctorFinding(
                Weight.WARNING, words, "a night of pictures takes several GB: free some space"
            )
        else:
            yield DoctorFinding(Weight.OK, words)


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest above it that exists."""
    return next((one for one in (folder, *folder.parents) if one.is_dir()), folder)


def _gpu() -> Iterator[DoctorFinding]:
    answer, lines = gpu_answer(_GPU_LIMIT_S)
    text = printable(" ".join(lines[-1:]) if answer is GpuAnswer.ANSWERED else " ".join(lines))
    if answer is GpuAnswer.ANSWERED:
        yield DoctorFinding(Weight.OK, text)
    elif answer is GpuAnswer.NOT_INSTALLED:
        yield DoctorFinding(
            Weight.NOTE,
            text,
            "evidence of failures will not have the GPU's memory; the driver brings the tool",
        )
    else:
        yield DoctorFinding(
            Weight.WARNING, text, "restart the machine, or install the driver again"
        )


def _service() -> Iterator[DoctorFinding]:
    try:
        status = manager_for(service_name(DEFAULT_NAME), usual_scope()).status()
    except ServiceError as error:
        yield DoctorFinding(
            Weight.NOTE,
            f"this machine's services cannot be asked: {disk.in_words(error)}".splitlines()[0],
        )
        return
    weight, advice = _SERVICES.get(status.state, (Weight.NOTE, "`sdwatch service start` starts it"))
    yield DoctorFinding(weight, f"the service is {status.state}", advice)


def _notifications(chosen: ChosenConfig) -> Iterator[DoctorFinding]:
    targets = targets_of(chosen.config.notify)
    if not targets:
        yield DoctorFinding(
            Weight.NOTE,
            "nobody gets a message when a WebUI is on hold or the queue is empty",
            "to get one, add `notify:` to the config (docs/notifications.md)",
        )
    for target in targets:
        understood = target.channel is Channel.WEBHOOK or None
        answer = None if understood else send(target, None, limit=_APPRISE_LIMIT_S)
        if answer is not None and not answer.arrived:
            words = delivery.in_words(answer)
            yield DoctorFinding(Weight.WARNING, f"{target.name}: {words}")
        else:
            message = f"{target.name} is set up"  # nothing is sent, so nobody knows more
            yield DoctorFinding(
                Weight.OK, message, "`sdwatch notify test` shows whether messages arrive"
            )
