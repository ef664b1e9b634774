"""How much more four boxes make than one, at 100 ms an image."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import psutil
from cluster_hosts import ClusterHosts, drop, listen
from common import wait_until

from sdwatch.policy.cluster.entries import LinesStored, entry_of

_IMAGE = 0.1  # seconds
_STEPS = 20
_IMAGES = 10  # of each job
_ENOUGH = 3.8


def measure(root: Path) -> int:
    """Print images a second of one box and of four, and return 1 if the ratio is below 3.8."""
    os.environ["LEASE"] = "60"
    print(f"load at the start: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    rates = {}
    for count in (1, 4):
        rates[count] = _rate(root / str(count), count)
    ratio = rates[4] / rates[1]
    print(f"four boxes make {ratio:.2f} times as many as one; load: {os.getloadavg()[0]:.1f}")
    return 0 if ratio >= _ENOUGH else 1


def _rate(root: Path, count: int) -> float:
    root.mkdir()
    jobs = 12 * count
    hosts = ClusterHosts(root, count, _IMAGE / _STEPS)
    for dispatcher in hosts.dispatchers:
        dispatcher.webui = {"url": "http://127.0.0.1:9"}
    hosts.start()
    first: list[float] = []

    def hear(_: str, data: bytes) -> None:
        if not first and isinstance(entry_of(data), LinesStored):
            first.append(time.monotonic())

    def ended() -> int:
        return sum(not e.name.startswith(".") for e in (hosts.spool / "done").iterdir())

    try:
        listen(hosts, hear)
        status = hosts.active.disk.folder / "state" / "status.json"
        wait_until(lambda: _places(status) >= 2 * count, "all boxes are ready", 120, every=0.2)
        before = _cpu(hosts)
        for number in range(jobs):
            fields = {"prompt": f"castle {number}", "steps": _STEPS, "n_iter": _IMAGES, "seed": 1}
            text = json.dumps({"stages": [{"txt2img": {**fields, "width": 64, "height": 64}}]})
            drop(hosts.spool, f"job-{number:03}", text)
        wait_until(lambda: ended() >= jobs, "all jobs end", 600, every=0.05)
        seconds = time.monotonic() - first[0]
        after = _cpu(hosts)
    finally:
        hosts.close()
    rate = jobs * _IMAGES / seconds
    used = ", ".join(
        f"{name} {(after[name] - before[name]) * 1000 / (jobs * _IMAGES):.0f}" for name in after
    )
    print(f"{count}: {rate:.1f} images a second ({rate / count:.2f} a box), {seconds:.1f} s")
    print(f"   ms of CPU an image: {used}")
    return rate


def _places(status: Path) -> int:
    try:
        boxes = json.loads(status.read_text())["cluster"]["boxes"]
        return sum(box["places"] for box in boxes.values() if box["answers"])
    except (OSError, ValueError, KeyError):
        return 0


def _cpu(hosts: ClusterHosts) -> dict[str, float]:
    """Return the seconds of CPU that each kind of machine has used."""
    used: dict[str, float] = {}
    for machine in hosts.machines():
        kind = machine.name.partition("-")[0]
        for process in machine.family():
            times = process.cpu_times()
            used[kind] = used.get(kind, 0.0) + times.user + times.system
    own = psutil.Process().cpu_times()
    return {**used, "wire": own.user + own.system}
