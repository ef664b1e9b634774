"""Kills at random: what is promised holds, whatever dies when.

`python benchmarks/chaos.py --seed S --jobs N --kills K` drops N jobs while it kills, K times, the
monitor, the WebUI or both (kill -9), or freezes one of them for a while or, the WebUI, for good.
The seed determines the plan (`--plan` prints it): the jobs, and each kill's kind and moment, so
many POSTs and so many milliseconds after the one before. What comes of it differs from time to
time, as threads take turns; what is promised must hold each time. At the end it is checked from the
folders, the crash history, and what the WebUI itself wrote down of each request. Exit 1 and a
report when a promise is broken; the folder is kept then.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import psutil
from PIL import Image

KINDS = {
    "kill monitor": 6,
    "kill WebUI": 6,
    "kill both": 3,
    "freeze monitor": 2,
    "freeze WebUI": 2,
    "freeze WebUI for good": 1,
}
"""How often each is drawn, of 20."""

COOLDOWN = [0.1, 0.2, 0.4, 0.8]
STALL = 3.0
CALLS_OF_A_JOB = 2.5
AHEAD = 12  # jobs in the inbox at a time
PATIENCE = 4.0 if sys.platform == "win32" else 1.0  # Python starts slowly under wine or a scanner
QUIET = 5.0 * PATIENCE  # without a POST for so long, a kill does not wait for one
LIMIT = 120.0 * PATIENCE  # after the last kill, for what is left
MARK = "SDWATCH_CHAOS_FOLDER"


@dataclass(frozen=True)
class Kill:
    """`posts` POSTs and `delay` seconds after the one before; `frozen`: seconds."""

    kind: str
    posts: int
    delay: float
    frozen: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The jobs' texts by name, and the kills in order."""

    jobs: dict[str, str]
    kills: tuple[Kill, ...]


def draw(seed: int, jobs: int, kills: int) -> Plan:
    """Return the same for the same seed."""
    chance = random.Random(seed)
    texts = {f"job-{number:04d}": _job(chance, number) for number in range(jobs)}
    between = max(1, round(1.4 * jobs * CALLS_OF_A_JOB / max(1, kills)))
    kinds = chance.choices(list(KINDS), list(KINDS.values()), k=kills)
    return Plan(
        texts,
        tuple(
            Kill(kind, chance.randrange(between), chance.random() * 0.25, 0.1 + chance.random())
            for kind in kinds
        ),
    )


def _job(chance: random.Random, number: int) -> str:
    """Return one to three stages of small pictures, each prompt unlike all others."""
    first = {
        "prompt": f"chaos {number:04d}.1",
        "width": 64,
        "height": 64,
        "steps": chance.randrange(2, 8),
        "seed": chance.randrange(2**31),
    }
    stages: list[dict[str, Any]] = [{"txt2img": first}]
    if chance.random() < 0.6:
        stages.append({"img2img": {**first, "prompt": f"chaos {number:04d}.2"}})
    if chance.random() < 0.6:
        stages.append({"extra-single-image": {"upscaling_resize": 2, "upscaler_1": "Lanczos"}})
    return json.dumps({"stages": stages})


# -- the night


class Night:
    """A monitor that is killed and started again, in `root`."""

    def __init__(self, root: Path, plan: Plan) -> None:
        self.root = root
        self.plan = plan
        self.spool, self.state = root / "spool", root / "state"
        self.inbox = self.spool / "inbox"
        self.notes = root / "notes"
        self.port = common.free_port()
        self.monitor: subprocess.Popen[bytes] | None = None
        self.starts = 0
        self.done: Counter[str] = Counter()  # kills, by kind
        self.half_published: list[str] = []
        self.broke: list[str] = []  # ends of the monitor that nobody planned
        self._left = list(plan.jobs.items())
        self._seen: set[Path] = set()
        self.inbox.mkdir(parents=True)
        self.notes.touch()
        self._write_config()

    def _write_config(self) -> None:
        recording = Path(__file__).resolve().parent / "recording_simulator.py"
        command = [sys.executable, str(recording), str(self.notes), "--port", str(self.port)]
        command += ["--step-time", "0.01", "--boot-time", "0.05", "--load-time", "0.05"]
        webui = {
            "url": f"http://127.0.0.1:{self.port}",
            "command": command,
            "env": {MARK: str(self.root)},
            "stall": STALL,
            "stop_grace": 1,
            "health": {"interval": 1, "timeout": 1 * PATIENCE, "failures": 2},
        }
        config = {
            "spool": str(self.spool),
            "state": str(self.state),
            "settle": 0.05,
            "scan_interval": 0.5,
            "min_free": "1 MB",
            "cooldown": COOLDOWN,
            "webuis": {"chaos": webui},
        }
        path = self.root / "sdwatch.yaml"
        path.write_text(json.dumps(config), encoding="utf-8")
        path.chmod(0o600)

    def start_monitor(self) -> None:
        """Begin a monitor, if none runs."""
        if self.monitor is not None:
            if self.monitor.poll() is None:
                return
            self.broke.append(f"the monitor ended by itself, with {self.monitor.returncode}")
        self.starts += 1
        command = [sys.executable, "-m", "sdwatch", "run", "--config", "sdwatch.yaml"]
        with open(self.root / "monitor.log", "ab") as log:
            self.monitor = subprocess.Popen(
                command,
                cwd=self.root,
                stdout=log,
                stderr=log,
                start_new_session=True,
                creationflags=common.TO_BE_ASKED,
            )

    def live_through(self) -> None:
        """All kills, then until every job has ended; then stop the monitor in order."""
        self.start_monitor()
        for kill in self.plan.kills:
            self._wait_for(kill)
            self._carry_out(kill)
            self.start_monitor()
        deadline = time.monotonic() + LIMIT + len(self.plan.jobs)
        while self._left or self.ended() < len(self.plan.jobs):
            self._look()
            self.start_monitor()
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)

    def stop(self) -> int:
        """Stop the monitor in order; its exit code."""
        assert self.monitor is not None
        common.wait_until(lambda: self._beats(self.monitor), "the monitor's heartbeat")
        common.ask_to_stop(self.monitor)
        return self.monitor.wait(60 * PATIENCE)

    def _beats(self, monitor: subprocess.Popen[bytes] | None) -> bool:
        """Return whether this monitor is up: it obeys signals from before its first heartbeat
        on."""
        beats = []
        for path in self.spool.glob("working/*/heartbeat.json"):
            with suppress(OSError):  # it is being replaced
                beats.append(json.loads(path.read_bytes()))
        return monitor is not None and any(beat["pid"] == monitor.pid for beat in beats)

    def ended(self) -> int:
        return sum(1 for name in ("done", "failed") for _ in self._runs(name))

    def _runs(self, name: str) -> Iterator[Path]:
        with suppress(FileNotFoundError):
            yield from (self.spool / name).iterdir()

    def _posts(self) -> int:
        return self.notes.read_bytes().count(b"\npost ")

    def _look(self) -> None:
        """Drop what is missing in the inbox, and look at what was published meanwhile."""
        waiting = sum(1 for path in self.inbox.iterdir() if path.suffix == ".yaml")
        for name, text in self._left[: max(0, AHEAD - waiting)]:
            temporary = self.inbox / f".{name}.tmp"
            temporary.write_text(text, encoding="utf-8")
            temporary.rename(self.inbox / f"{name}.yaml")
            self._left.pop(0)
        for name in ("done", "failed"):
            for run in set(self._runs(name)) - self._seen:
                self._seen.add(run)
                if not is_whole(run):
                    self.half_published.append(f"{run} was seen before it was whole")

    def _wait_for(self, kill: Kill) -> None:
        """Its moment: so many POSTs from now or, where none come, QUIET seconds."""
        before, since = self._posts(), time.monotonic()
        while self._posts() < before + kill.posts and time.monotonic() < since + QUIET:
            self._look()
            self.start_monitor()
            time.sleep(0.002)
        time.sleep(kill.delay)

    def _carry_out(self, kill: Kill) -> None:
        victims = self._victims(kill.kind)
        kills = kill.kind.startswith("kill")
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill() if kills else victim.suspend()
        if not kills and not kill.kind.endswith("for good"):
            time.sleep(kill.frozen)
            for victim in victims:
                with suppress(psutil.NoSuchProcess):
                    victim.resume()
        if self.monitor is not None and kills and "WebUI" not in kill.kind:
            self.monitor.wait(30)
            self.monitor = None
        self.done[kill.kind] += 1

    def _victims(self, kind: str) -> list[psutil.Process]:
        victims = [] if kind.startswith(("kill WebUI", "freeze WebUI")) else [self._monitor()]
        if "monitor" not in kind:
            victims += common.wait_until(self._webui, f"a WebUI to {kind}", 60 * PATIENCE)
        return victims

    def _monitor(self) -> psutil.Process:
        assert self.monitor is not None
        return psutil.Process(self.monitor.pid)

    def _webui(self) -> list[psutil.Process]:
        self.start_monitor()
        return ours(self.root)

    def end_everything(self) -> None:
        """Whatever is left of ours."""
        if self.monitor is not None and self.monitor.poll() is None:
            self.monitor.kill()
            self.monitor.wait()
        for process in ours(self.root):
            with suppress(psutil.NoSuchProcess):
                process.kill()


def ours(root: Path) -> list[psutil.Process]:
    """Return what lives of all that this night's WebUI ever started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) != str(root):
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file of JSON lines; one that a death left torn is passed over."""
    found = []
    for line in path.read_bytes().splitlines():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def is_whole(run: Path) -> bool:
    """Return whether a published run has all that belongs to it."""
    needed = ["run.json", "journal.jsonl", "job.yaml"]
    if run.parent.name == "failed":
        needed += ["WHY.txt", "error.json"]
    if not all((run / name).is_file() for name in needed):
        return False
    return bool(lines_of(run / "journal.jsonl")[-1]["event"] == "ended")


# -- the promises


class Verdict:
    """What was found at the end: `broken` promises, and figures for people."""

    def __init__(self, night: Night) -> None:
        self.night = night
        self.broken = [*night.half_published, *night.broke]
        self.failed: Counter[str] = Counter()
        self.images = self.cut_offs = 0
        self.calls = _calls_noted(night.notes)
        self.runs = [run for name in ("done", "failed") for run in night._runs(name)]

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
            self.failed["its call failed twice, and the WebUI was well"] += 1
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
        yield f"its journal is no story: {names}"
    finished: set[str] = set()
    begun: set[str] = set()
    for record in records:
        call = str(record.get("call", ""))
        if record["event"] == "call_started":
            begun.add(call)
            if call in finished:
                yield f"2: {call} was begun again after it had finished"
        elif record["event"] in _ENDS:
            if call not in begun:
                yield f"{record['event']} of {call}, which was not begun"
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
                said = str(picture.info.get("parameters", ""))
            if "chaos" in said and f"chaos {job}." not in said:
                yield f"2: {path} is of another job: {said.splitlines()[0]}"


# -- the command


def main() -> int:
    args = arguments()
    plan = draw(args.seed, args.jobs, args.kills)
    if args.plan:
        print_plan(plan)
        return 0
    root = Path(tempfile.mkdtemp(prefix="sdwatch-chaos-"))
    began = time.monotonic()
    night = Night(root, plan)
    with bystander(root) as stranger:
        try:
            night.live_through()
            code = night.stop()
            left = [process.pid for process in ours(root)]
        finally:
            night.end_everything()
        lives = stranger.poll() is None
    verdict = Verdict(night)
    verdict.look()
    if code != 0:
        verdict.broken.append(f"the monitor ended with {code}")
    if left or common.answers(night.port):
        verdict.broken.append(f"7: left behind: {left}")
    if not lives:
        verdict.broken.append("7: a WebUI that is not ours was ended")
    report(verdict, args.seed, time.monotonic() - began)
    if not verdict.broken:
        shutil.rmtree(root)
    return 1 if verdict.broken else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--plan", action="store_true", help="print the plan, and do nothing")
    return parser.parse_args()


@contextmanager
def bystander(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A WebUI that looks like ours: the same program, in the same folder, on another port."""
    recording = Path(__file__).resolve().parent / "recording_simulator.py"
    command = [sys.executable, str(recording), os.devnull, "--port", str(common.free_port())]
    with open(root / "bystander.log", "wb") as log:
        process = subprocess.Popen(command, cwd=root, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def print_plan(plan: Plan) -> None:
    for name, text in plan.jobs.items():
        print(f"{name}: {text}")
    for number, kill in enumerate(plan.kills, 1):
        print(f"{number}: {kill.kind}, {kill.posts} POSTs and {kill.delay * 1000:.0f} ms later")


def report(verdict: Verdict, seed: int, seconds: float) -> None:
    night = verdict.night
    kinds = ", ".join(f"{night.done[kind]} × {kind}" for kind in KINDS)
    posts = sum(len(times) for times in verdict.calls.values())
    starts = night.notes.read_text(encoding="ascii").count("start ")
    done = sum(run.parent.name == "done" for run in verdict.runs)
    print(f"seed {seed}: {night.done.total()} kills ({kinds}) in {seconds:.0f} s")
    print(f"{len(night.plan.jobs)} jobs: {done} done, {verdict.failed.total()} failed, as promised")
    for why, times in verdict.failed.items():
        print(f"  {times} because {why}")
    print(
        f"{verdict.images} images from {posts} POSTs to {len(verdict.calls)} calls; {night.starts} "
        f"starts of the monitor, which cut {verdict.cut_offs} calls off; {starts} of the WebUI"
    )
    print(f"{len(verdict.broken)} broken promises" if verdict.broken else "no promise was broken")
    for line in verdict.broken:
        print(f"  {line}")
    if verdict.broken:
        print(f"kept: {night.root}; again: --seed {seed} with the same --jobs and --kills")


if __name__ == "__main__":
    sys.exit(main())
