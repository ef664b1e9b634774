"""Whether the promises of a cluster were kept: read from the folders, once all is quiet."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from cluster_hosts import ClusterHosts

from sdwatch.policy.failure.recovery import CUT_OFFS, SENT_AT_MOST
from sdwatch.spool.journal import journal_records


class Verdict:
    """What came of the jobs, by name; `prompts`: of each job's calls. `broken`: promises."""

    def __init__(self, hosts: ClusterHosts, prompts: dict[str, str]) -> None:
        self.broken: list[str] = []
        self.done = self.failed = self.calls = self.sent = self.in_vain = 0
        self.events: Counter[str] = Counter()
        self._hosts = hosts
        self._prompts = prompts
        self._posted = _posted(hosts)

    def look(self) -> None:
        """Read everything."""
        spool = self._hosts.spool
        runs: dict[str, list[Path]] = {name: [] for name in self._prompts}
        for parent in ("done", "failed"):
            for run in sorted((spool / parent).iterdir()) if (spool / parent).is_dir() else ():
                records = list(journal_records(run / "journal.jsonl"))
                name = Path(str(records[0].get("source", ""))).stem
                if name not in runs:
                    self.broken.append(f"a run of no job: {run}")
                    continue
                runs[name].append(run)
                self._look_at(name, run, records)
        for name, found in runs.items():
            if len(found) != 1:
                what = "lost" if not found else f"published {len(found)} times"
                self.broken.append(f"{name}: {what}")
        for box in self._hosts.boxes:
            left = [str(p) for p in _copies(box.spool)]
            if left:
                self.broken.append(f"{box.name}: copies are left: {left}")

    def _look_at(self, name: str, run: Path, records: list[dict[str, Any]]) -> None:
        self.events.update(str(record["event"]) for record in records)
        started: Counter[str] = Counter()
        finished: dict[str, dict[str, Any]] = {}
        for record in records:
            call = str(record.get("call"))
            if record["event"] == "call_started":
                started[call] += 1
                if call in finished:
                    self.broken.append(f"{run.name}: {call} was finished, and drawn again")
            elif record["event"] == "call_finished":
                if call in finished:
                    self.broken.append(f"{run.name}: {call} is finished twice")
                finished[call] = record
        given_up = sum(record["event"] == "call_given_up" for record in records)
        for call, times in started.items():
            if times > SENT_AT_MOST + given_up:
                self.broken.append(f"{run.name}: {call} was sent {times} times")
        self.calls += len(finished)
        self.sent += sum(started.values())
        posted = self._posted[hashlib.sha256(self._prompts[name].encode()).hexdigest()]
        self.in_vain += max(0, posted - len(finished))
        if run.parent.name == "failed":
            self._failed(run, finished, started)
            return
        self.done += 1
        for record in finished.values():
            for image in record["images"]:
                data = (run / "images" / image["name"]).read_bytes()
                if hashlib.sha256(data).hexdigest() != image["sha256"]:
                    self.broken.append(f"{run.name}: {image['name']} is another image")
        if (
            len(finished)
            != json.loads((run / "job.yaml").read_text())["stages"][0]["txt2img"]["n_iter"]
        ):
            self.broken.append(f"{run.name}: {len(finished)} calls are finished")

    def _failed(self, run: Path, finished: dict[str, Any], started: Counter[str]) -> None:
        """A job fails where its call was cut off too often, as promised."""
        self.failed += 1
        worst = max((n for call, n in started.items() if call not in finished), default=0)
        if worst <= CUT_OFFS:
            why = (
                (run / "WHY.txt").read_text()[:400] if (run / "WHY.txt").exists() else "no WHY.txt"
            )
            self.broken.append(f"{run.name}: failed after {worst} attempts: {why}")


def _posted(hosts: ClusterHosts) -> Counter[str]:
    """Return how often each prompt was POSTed, at all boxes together."""
    posted: Counter[str] = Counter()
    for box in hosts.boxes:
        lines = box.posts.read_text().splitlines() if box.posts.exists() else []
        posted.update(line.split()[4] for line in lines if line.startswith("call "))
    return posted


def _copies(spool: Path) -> list[Path]:
    found = []
    for pattern in ("working/*/*/journal.jsonl", "done/*/journal.jsonl", "failed/*/journal.jsonl"):
        found += [path.parent for path in spool.glob(pattern)]
    return found


def is_quiet(hosts: ClusterHosts, jobs: int) -> bool:
    """Return whether all jobs are published, and no box has a copy of one."""
    spool = hosts.spool
    ended = sum(
        not entry.name.startswith(".")
        for parent in ("done", "failed")
        if (spool / parent).is_dir()
        for entry in (spool / parent).iterdir()
    )
    return ended >= jobs and not any(_copies(box.spool) for box in hosts.boxes)
