"""Check after a night of chaos whether any promise was broken."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chaos_night import COOLDOWN, Night, is_whole, lines_of
from PIL import Image


class Verdict:
    """What was found at the end: `broken` promises, and figures for people."""

    def __init__(self, night: Night) -> None:
        self.night = night
        self.broken = [*night.half_published, *night.broke]
        self.failed: Counter[str] = Counter()
        self.images = self.cut_offs = 0
        self.calls = _calls_noted(night.notes)
        self.runs = [run for name in ("done", "failed") for run in night.runs_in(name)]

    def look(self) -> None:
        self._each_job_once()
        for run in self.runs:
            self._a_run(run)
        self._cool_downs()

    def _each_job_once(self) -> None:
        """1: every job is in exactly one of done/ and failed/."""
        spool = self.night.spool
        sources = Counter(lines_of(run / "journal.jsonl")[0]["source"] for run in self.runs)
        for name in self.night.plan.jobs:
            if sources[f"{name}.yaml"] != 1:
                self.broken.append(f"1: {name} has {sources[f'{name}.yaml']} runs")
        left = [p for name in ("inbox", "working") for p in (spool / name).rglob("*.yaml")]
        self.broken += [f"1: {path} is left" for path in left]

    def _a_run(self, run: Path) -> None:
        records = lines_of(run / "journal.jsonl")
        manifest = json.loads((run / "run.json").read_text(encoding="utf-8"))
        if not is_whole(run):
            self.broken.append(f"1: {run} is not whole")
        for problem in [*_story(records), *_pictures(run, manifest)]:
            self.broken.append(f"{run}: {problem}")
        self.images += sum(len(call["images"]) for call in manifest["calls"])
        previous = ""
        for stage, (kind, fields) in enumerate(_stages(manifest), 1):
            call = f"{stage}.1"
            which = previous if kind == "extra-single-image" else _sha(fields["prompt"].encode())
            self._a_call(run, records, call, self.calls.get((kind, which), []))
            images = [r["images"] for r in records if _is(r, "call_finished", call)]
            previous = images[0][0]["sha256"] if images else ""
        if run.parent.name == "failed":
            self._why_failed(run, records)

    def _a_call(
        self, run: Path, records: list[dict[str, Any]], call: str, posts: list[float]
    ) -> None:
        """2 and 3: what the WebUI received of it, beside what the journal says."""
        started = sum(_is(record, "call_started", call) for record in records)
        counted = sum(_is(r, "call_failed", call) and r["counted"] for r in records)
        ended = sum(_is(r, e, call) for r in records for e in _ENDS)
        finished = {r["call"] for r in records if r["event"] == "call_finished"}
        self.cut_offs += started - ended
        if started and not posts and call in finished:
            self.broken.append(f"2: {run} {call}: the WebUI knows of no POST")
        if len(posts) > started:  # sent again after it had finished, or never written down
            self.broken.append(f"2: {run} {call}: {len(posts)} POSTs, {started} in the journal")
        if len(posts) > 5 or counted > 2:
            self.broken.append(f"3: {run} {call}: {len(posts)} POSTs, {counted} counted")

    def _why_failed(self, run: Path, records: list[dict[str, Any]]) -> None:
        """All jobs are good: one may fail only where a call was tried as often as promised."""
        envelope = json.loads((run / "error.json").read_text(encoding="utf-8"))
        call = envelope["call"]
        counted = sum(_is(r, "call_failed", call) and r["counted"] for r in records)
        started = sum(_is(record, "call_started", call) for record in records)
        ended = sum(_is(r, e, call) for r in records for e in _ENDS)
        if counted == 2:
            self.failed["its call failed twice, and the WebUI was healthy"] += 1
        elif started - ended == 3:
            self.failed["the monitor died three times in its call"] += 1
        else:
            self.broken.append(f"5: {run} failed: {envelope['message']}")

    def _cool_downs(self) -> None:
        """4 and 6: each cool-down is what the history says, and nothing came before it was over."""
        row: list[dict[str, Any]] = []
        held: list[dict[str, Any]] = []  # crashes whose cool-down was to be waited out
        for record in lines_of(self.night.state / "webui-chaos" / "crashes.jsonl"):
            if record["event"] == "stable":
                row.clear()
            elif record["event"] == "forgiven":  # a job's own: from then on as if it had not been
                for crash in row[len(row) - record["crashes"] :]:
                    held.remove(crash)
                    row.remove(crash)
            elif record["event"] == "crash":
                row.append(record)
                held.append(record)
                entry = COOLDOWN[min(len(row), len(COOLDOWN)) - 1]
                if (record["in_a_row"], record["cooldown"]) != (len(row), entry):
                    self.broken.append(f"6: crash {len(row)} in a row has {record}")
        posts = [at for times in self.calls.values() for at in times]
        for crash in held:
            until = crash["boot"] + crash["cooldown"]
            early = [at for at in posts if crash["boot"] < at < until]
            self.broken += [f"4: a POST {until - at:.3f} s too early" for at in early]


_ENDS = ("call_failed", "call_given_up", "call_finished")


def _is(record: dict[str, Any], event: str, call: str) -> bool:
    return bool(record["event"] == event and record.get("call") == call)


def _stages(manifest: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [next(iter(stage.items())) for stage in (manifest["job"] or {"stages": []})["stages"]]


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _calls_noted(notes: Path) -> dict[tuple[str, str], list[float]]:
    """When each call came in, by stage and what names it; the monotonic clock is the boot clock on
    a machine that does not sleep meanwhile."""
    calls: dict[tuple[str, str], list[float]] = {}
    for line in notes.read_text(encoding="ascii").splitlines():
        if line.startswith("call "):
            _, _, at, stage, which = line.split(" ")
            calls.setdefault((stage, which), []).append(float(at))
    return calls


def _story(records: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with the journal as a story."""
    names = [record["event"] for record in records]
    if names[0] != "claimed" or names.count("ended") != 1 or names[-1] != "ended":
        yield f"its journal is not in order: {names}"
    finished: set[str] = set()
    begun: set[str] = set()
    for record in records:
        call = str(record.get("call", ""))
        if record["event"] == "call_started":
            begun.add(call)
            if call in finished:
                yield f"2: {call} was started again after it had finished"
        elif record["event"] in _ENDS:
            if call not in begun:
                yield f"{record['event']} of {call}, which was not started"
            begun.discard(call)
        if record["event"] == "call_finished":
            finished.add(call)


def _pictures(run: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """2: whether each recorded image is there as it was recorded, and is of this job."""
    job = Path(manifest["source"]).stem.removeprefix("job-")
    for call in manifest["calls"]:
        for image in call["images"]:
            path = run / "images" / image["name"]
            if not path.is_file() or _sha(path.read_bytes()) != image["sha256"]:
                yield f"2: {path} is not as it was recorded"
                continue
            with Image.open(path) as picture:
                picture.load()
                # ComfyUI writes the whole workflow, as JSON.
                said = str(picture.info.get("parameters") or picture.info.get("prompt", ""))
            if "chaos" in said and f"chaos {job}." not in said:
                yield f"2: {path} is of another job: {said.splitlines()[0][:200]}"
