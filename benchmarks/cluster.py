"""A cluster whose machines fail: what is promised of one machine holds for all of them.

`python benchmarks/cluster.py --jobs N --faults F --seed S` makes a broker, a dispatcher, a machine
that can take its place, and three boxes, each a host with a network, a disk and a wall clock of its
own. It drops N jobs while it kills, freezes, cuts off, delays, loses and fills F times, each kind
just after each step of a hand-over. Then it checks from the folders, the journals and what the
WebUIs wrote down: no job is lost, none is published twice, and no finished call is drawn again. It
prints how often what happened when. Exit 1 and a report when a promise is broken; the folder is
kept then. Exit 77 where namespaces are not permitted. Leases last `--lease` seconds instead of 120.

`--throughput` measures one box, then four, at 100 ms an image, and prints the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import sys
import tempfile
import time
from pathlib import Path

import cluster_network
from cluster_faults import Fault, Faults, Moment, draw, in_cells
from cluster_hosts import ClusterHosts, MonitorMachine, drop, listen
from cluster_verdict import Verdict, is_quiet
from common import print_table, wait_until

from sdwatch.policy.cluster.entries import Accepted, Closed, Ended, Granted, LinesStored, entry_of

_STEPS = 20
_MOMENT_COMES = 20.0  # seconds
_NOBODY: dict[str, object] = {"url": "http://127.0.0.1:9"}


def main() -> int:
    args = arguments()
    cluster_network.isolate()
    root = Path("/mnt")  # seen by this command alone, and gone with it
    cluster_network.mount_disk(root, 4000)
    if args.throughput:
        from cluster_throughput import measure

        return measure(root)
    os.environ["LEASE"] = str(args.lease)
    began = time.monotonic()
    trial = Trial(root, args)
    try:
        trial.live_through()
    except BaseException:
        keep(root, args)
        raise
    finally:
        trial.hosts.close()
    verdict = Verdict(trial.hosts, trial.prompts)
    verdict.look()
    verdict.broken += trial.broken
    report(trial, verdict, args, time.monotonic() - began)
    if verdict.broken:
        keep(root, args)
    return 1 if verdict.broken else 0


def keep(root: Path, args: argparse.Namespace) -> None:
    """Copy what there is to look at, out of these namespaces."""
    kept = Path(tempfile.gettempdir()) / f"sdwatch-cluster-{args.seed}-{time.time():.0f}"
    shutil.copytree(root, kept, symlinks=True, dirs_exist_ok=True)
    print(f"kept: {kept}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--boxes", type=int, default=3)
    parser.add_argument("--lease", type=float, default=6.0, help="seconds")
    parser.add_argument("--only", default="", help="a word in the kinds of faults that happen")
    parser.add_argument("--throughput", action="store_true", help="measure, without faults")
    return parser.parse_args()


class Trial:
    """Jobs, and the faults that happen meanwhile."""

    def __init__(self, root: Path, args: argparse.Namespace) -> None:
        self._root = root
        self.faults = draw(args.seed, args.faults)
        if args.only:
            many = draw(args.seed, args.faults * 40)
            self.faults = [f for f in many if args.only in f.kind][: args.faults]
        self.struck: list[tuple[Fault, str]] = []
        self.broken: list[str] = []
        self.prompts: dict[str, str] = {}
        self._calls = [1 + (args.seed + n) % 4 for n in range(args.jobs)]
        # The jobs take about as long as the faults.
        image = args.faults * args.lease * 0.8 * args.boxes / max(1, sum(self._calls))
        self.hosts = ClusterHosts(
            root, args.boxes, min(2.0, max(0.1, image)) / _STEPS, seed=args.seed
        )
        for dispatcher in self.hosts.dispatchers:
            dispatcher.webui = _NOBODY
        self._entries: queue.SimpleQueue[tuple[Moment, str]] = queue.SimpleQueue()
        self._boxes: dict[str, str] = {}  # which box has a run, by subject
        self._doer = Faults(self.hosts, args.lease)

    def live_through(self) -> None:
        """Drop all jobs, have all faults happen, heal, and wait until all is quiet."""
        self.hosts.start()
        listen(self.hosts, self._hear)
        jobs, faults = len(self._calls), len(self.faults)
        for number, fault in enumerate(self.faults):
            self._drop_until(min(jobs, 4 + jobs * (number + 1) // faults))
            if not self._strike(fault):
                self.broken.append(f"no moment {fault.moment} for {fault.kind}")
            time.sleep(fault.pause)
            if number % 10 == 9:
                print(f"{number + 1} faults", file=sys.stderr, flush=True)
        self._drop_until(jobs)
        self._doer.finish()
        self.hosts.heal()
        limit = 60 + jobs
        try:
            wait_until(lambda: is_quiet(self.hosts, jobs), "all jobs end", limit, every=0.5)
        except TimeoutError as error:
            self.broken.append(str(error))

    def _drop_until(self, count: int) -> None:
        while len(self.prompts) < count:
            number = len(self.prompts)
            name, calls = f"job-{number:04}", self._calls[number]
            self.prompts[name] = f"castle {number}"
            fields = {"prompt": self.prompts[name], "steps": _STEPS, "n_iter": calls, "seed": 1}
            drop(
                self.hosts.spool,
                name,
                json.dumps({"stages": [{"txt2img": {**fields, "width": 64, "height": 64}}]}),
            )

    # -- the moments

    def _hear(self, subject: str, data: bytes) -> None:
        entry = entry_of(data)
        if isinstance(entry, Granted):
            self._boxes[subject] = entry.box
            self._entries.put((Moment.GRANTED, subject))
        elif isinstance(entry, Accepted):
            self._entries.put((Moment.ACCEPTED, subject))
        elif isinstance(entry, LinesStored):
            stored = bool(entry.files)
            self._entries.put((Moment.STORED if stored else Moment.STARTED, subject))
        elif isinstance(entry, Ended):
            self._entries.put((Moment.ENDED, subject))
        elif isinstance(entry, Closed):
            self._entries.put((Moment.CLOSED, subject))

    def _strike(self, fault: Fault) -> bool:
        """Wait for the moment of a fault, and have it happen to a machine that has none; after a
        while at any time, and to any."""
        while not self._entries.empty():
            self._entries.get()
        deadline = time.monotonic() + _MOMENT_COMES
        while (left := deadline - time.monotonic()) > 0:
            try:
                moment, subject = self._entries.get(timeout=left)
            except queue.Empty:
                break
            if moment is not fault.moment:
                continue
            if machine := self._doer.strike(fault, self._box(self._boxes.get(subject, ""))):
                self.struck.append((fault, machine))
                self._tell(f"{machine}: {fault} of {subject}")
                return True
        for box in self.hosts.boxes:
            if machine := self._doer.strike(fault, box):
                self.struck.append((fault, machine + " (late)"))
                self._tell(f"{machine}: {fault}, late")
                return True
        return False

    def _tell(self, line: str) -> None:
        with open(self._root / "faults.txt", "a") as file:
            file.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {line}\n")

    def _box(self, worker: str) -> MonitorMachine | None:
        for box in self.hosts.boxes:
            file = box.disk.folder / "state" / "worker"
            if file.exists() and file.read_text().strip() == worker:
                return box
        return None


def report(trial: Trial, verdict: Verdict, args: argparse.Namespace, seconds: float) -> None:
    late = sum(machine.endswith("(late)") for _, machine in trial.struck)
    print_table(["", *(m.value for m in Moment), "all"], in_cells(trial.struck))
    print(
        f"\nseed {args.seed}: {len(trial.struck)} faults in {seconds:.0f} s, leases of "
        f"{args.lease:g} s; {late} of them later than at their moment"
    )
    print(f"{len(trial.prompts)} jobs: {verdict.done} done, {verdict.failed} failed as promised")
    events = verdict.events
    print(
        f"{verdict.calls} calls finished, {verdict.sent} sent as far as the journals know; "
        f"{verdict.in_vain} POSTs more than calls; {events['handed_over']} hand-overs, "
        f"{events['taken_back']} taken back"
    )
    network = trial.hosts.network
    print(f"{network.frames} frames, {network.lost} of them lost")
    print(f"{len(verdict.broken)} broken promises" if verdict.broken else "no promise was broken")
    for line in verdict.broken:
        print(f"  {line}")


if __name__ == "__main__":
    sys.exit(main())
