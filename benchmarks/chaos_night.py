"""A night of chaos: the jobs, the kills, and the monitor that works through them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import psutil

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
COMFYUI = "comfyui"


@dataclass(frozen=True)
class Kill:
    """`posts` POSTs and `delay` seconds after the one before; `frozen`: seconds."""

    kind: str
    posts: int
    delay: float
    frozen: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The jobs' texts by name, the kills in order, and the kind of the WebUI."""

    jobs: dict[str, str]
    kills: tuple[Kill, ...]
    kind: str = "forge"


def draw(seed: int, jobs: int, kills: int, kind: str = "forge") -> Plan:
    """Return the same for the same seed. `kind`: of the WebUI that the jobs are for."""
    chance = random.Random(seed)
    more = {"override_settings": {"sd_model_checkpoint": "simulated-a"}} if kind == COMFYUI else {}
    texts = {f"job-{number:04d}": _job(chance, number, more) for number in range(jobs)}
    between = max(1, round(1.4 * jobs * CALLS_OF_A_JOB / max(1, kills)))
    kinds = chance.choices(list(KINDS), list(KINDS.values()), k=kills)
    return Plan(
        texts,
        tuple(
            Kill(how, chance.randrange(between), chance.random() * 0.25, 0.1 + chance.random())
            for how in kinds
        ),
        kind,
    )


def _job(chance: random.Random, number: int, more: dict[str, Any]) -> str:
    """Return one to three stages of small pictures, each prompt unlike all others. `more`: fields
    of each that has a prompt."""
    first = {
        "prompt": f"chaos {number:04d}.1",
        "width": 64,
        "height": 64,
        "steps": chance.randrange(2, 8),
        "seed": chance.randrange(2**31),
        **more,
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
        command += ["--kind", self.plan.kind]
        if self.plan.kind == COMFYUI:
            (self.root / COMFYUI / "custom_nodes").mkdir(parents=True)
            command += ["--base-directory", str(self.root / COMFYUI)]
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
        return sum(1 for name in ("done", "failed") for _ in self.runs_in(name))

    def runs_in(self, name: str) -> Iterator[Path]:
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
            for run in set(self.runs_in(name)) - self._seen:
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
