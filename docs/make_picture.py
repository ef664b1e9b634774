"""Record what the README shows: `python -m docs.make_picture`, a minute, no GPU.

It runs the real `sdwatch demo` and writes docs/demo.json (the recording: times, folders, what was
printed) and docs/demo.svg (drawn from that alone). Then a job that never fits into the GPU's memory
runs on the simulator, and its WHY.txt becomes docs/WHY.txt. Folders of this machine are renamed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from sdwatch.cli.demo import free_port

DOCS = Path(__file__).parent
RECORDING, PICTURE, WHY = DOCS / "demo.json", DOCS / "demo.svg", DOCS / "WHY.txt"
SHOWN_AS = "/srv/sd"
"""The folder that docs/WHY.txt names in place of a temporary one."""

SPEED, PAUSE = 2.0, 5.0
"""The picture runs so many times as fast as the demo did, then rests so many seconds."""

LEAD = 2.0
"""Seconds of the demo shown before anything happens; Python's own start is left out."""

_DATE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ")
_RUN = re.compile(r"\d{8}-\d{6}\.\d{3}-(\w+)-[0-9a-f]{4}")
_WHERE_TO = re.compile(r" -> \S+$")

# A machine whose memory is always too small for the castle's size.
_OOM_PLAN = """\
- fault: oom
  when: {prompt: ".*"}
  times: always
  above: 1048576
"""
_OOM_CONFIG = """\
spool: .
state: state
settle: 0.2
min_free: 50 MB
cooldown: [1, 2]
webuis:
  forge:
    url: http://127.0.0.1:%d
    command: ["{python}", -m, sdwatch.simulator, --port, "{port}", --kind, forge,
              --faults, faults.yaml, --state, state/simulator.json]
    cwd: .
"""
_OOM_JOB = "prompt: a castle on a cliff\nwidth: 2048\nheight: 2048\nsteps: 24\n"


@dataclass(frozen=True)
class Job:
    """Seconds since the demo's start; `outcome` is the folder that it ended in."""

    name: str
    claimed: float
    ended: float
    outcome: str


@dataclass(frozen=True)
class Recording:
    """One run of the demo. Times are seconds since its start; `working` is when the WebUI got its
    first call, `crash` and `again` when a call met its death and when it was sent once more."""

    seconds: float
    working: float
    crash: float
    again: float
    jobs: list[Job]
    lines: list[tuple[float, str]]

    @staticmethod
    def load(path: Path) -> Recording:
        """What `save` wrote. Raises OSError, ValueError."""
        data = json.loads(path.read_text(encoding="utf-8"))
        data["jobs"] = [Job(**job) for job in data["jobs"]]
        data["lines"] = [(at, line) for at, line in data["lines"]]
        return Recording(**data)

    def save(self, path: Path) -> None:
        """As JSON, a line for each thing that people compare."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8", newline="\n")


def record() -> Recording:
    """Run the demo in a temporary folder. Raises CalledProcessError where it fails."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "demo"
        began, printed = time.time(), []
        command = [sys.executable, "-m", "sdwatch", "demo", str(folder)]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        ) as demo:
            assert demo.stdout is not None
            printed = [(time.time() - began, line.rstrip()) for line in demo.stdout]
        if demo.returncode:
            raise subprocess.CalledProcessError(demo.returncode, command)
        manifests = [json.loads(p.read_bytes()) for p in sorted(folder.glob("*/*/run.json"))]
    return _recording(began, printed, manifests)


def _recording(
    began: float, printed: list[tuple[float, str]], manifests: list[dict[str, Any]]
) -> Recording:
    def since(stamp: str) -> float:
        return round(max(0.0, datetime.fromisoformat(stamp).timestamp() - began), 2)

    jobs = [
        Job(Path(m["source"]).stem, since(m["claimed"]), since(m["ended"]), m["outcome"])
        for m in manifests
    ]
    attempts = [call["attempts"] for m in manifests for call in m["calls"]]
    (met,) = (tried for tried in attempts if len(tried) == 2)
    lines = [(round(at, 2), _short(line)) for at, line in printed if _DATE.match(line)]
    return Recording(
        seconds=round(max(at for at, _ in printed), 2),
        working=min(since(tried[0]["began"]) for tried in attempts),
        crash=since(met[0]["ended"]),
        again=since(met[1]["began"]),
        jobs=sorted(jobs, key=lambda job: job.name),
        lines=lines,
    )


def _short(line: str) -> str:
    """What the demo printed, with a job's name for its run's id, and no date or path."""
    return _WHERE_TO.sub("", _RUN.sub(r"\1", _DATE.sub("", line)))


def why() -> str:
    """The WHY.txt of a job that never fits into the GPU's memory, from a real run on the simulator.
    Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made).resolve()
        files = {
            "sdwatch.yaml": _OOM_CONFIG % free_port(),
            "faults.yaml": _OOM_PLAN,
            "inbox/castle.yaml": _OOM_JOB,
        }
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            path.chmod(0o644)
        command = [sys.executable, "-m", "sdwatch", "run", "--once", "--config"]
        subprocess.run([*command, str(folder / "sdwatch.yaml")], check=True, stdout=sys.stderr)
        (found,) = folder.glob("failed/*/WHY.txt")
        return found.read_text(encoding="utf-8").replace(str(folder), SHOWN_AS)


# How it looks. Its own dark card, so that it can be read on a light page and on a dark one.
WIDTH, CHARACTERS, LINE = 720, 80, 19
FOLDERS = ("inbox", "working", "done", "failed")
LEFT, STEP, BOX = 20, 172, 164
TOP, CHIP = 62, 28
COLOURS = {"castle": "#58a6ff", "lighthouse": "#e3b341", "mistake": "#f778ba"}
LAMPS = {"starting": "#e3b341", "generating": "#3fb950", "killed": "#f85149", "idle": "#8b949e"}
WORDS = {"killed": "killed: cool-down, restart"}
FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"


def picture(recording: Recording) -> str:
    """The recording as an animated SVG, which shows the end where nothing may move."""
    first = max(0.0, min(job.claimed for job in recording.jobs) - LEAD)
    length = (recording.seconds - first) / SPEED + PAUSE

    def share(at: float) -> float:
        return 100 * max(0.0, at - first) / SPEED / length

    drawn = [*_folders(), *_jobs(recording), *_lamps(recording)]
    lines, bottom = _log(recording)
    drawn += lines
    moves = [
        *(_moves(job, share) for job in recording.jobs),
        *_lamp_moves(recording, share),
        *(_appears(number, share(at)) for number, (at, _) in enumerate(recording.lines)),
    ]
    height = bottom + 44
    note = f"recorded from `sdwatch demo`, {SPEED:g} times as fast; the pictures are simulated"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" role="img" aria-labelledby="t d">',
            '<title id="t">sdwatch demo</title>',
            f'<desc id="d">{escape(_transcript(recording))}</desc>',
            "<style>",
            f"text{{font:14px {FONT};fill:#c9d1d9}}.dim{{fill:#8b949e}}.small{{font-size:12px}}",
            ".chip text{fill:#0d1117;font-weight:600}.chip,.log,.lamp{animation-iteration-count:"
            f"infinite;animation-duration:{length:.2f}s;animation-timing-function:linear}}",
            ".lamp{opacity:0}.lamp.last{opacity:1}",
            *moves,
            "@media (prefers-reduced-motion:reduce){.chip,.log,.lamp{animation:none!important}}",
            "</style>",
            f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="10" '
            'fill="#0d1117" stroke="#30363d"/>',
            *drawn,
            f'<text class="dim small" x="{LEFT}" y="{height - 14}">{escape(note)}</text>',
            "</svg>",
            "",
        ]
    )


def _transcript(recording: Recording) -> str:
    ends = ", ".join(f"{job.name} ends in {job.outcome}/" for job in recording.jobs)
    cost = recording.again - recording.crash
    return f"Three jobs move from inbox/ to working/ while the WebUI is killed once: {ends}. The " \
        f"call that met the crash is sent again {cost:.1f} s later."  # fmt: skip


def _folders() -> Iterator[str]:
    for place, name in enumerate(FOLDERS):
        x = LEFT + STEP * place
        yield (
            f'<rect x="{x}" y="{TOP - 16}" width="{BOX}" height="{3 * (CHIP + 6) + 18}" rx="6" '
            f'fill="#161b22" stroke="#30363d"/><text class="dim" x="{x + 2}" y="{TOP - 24}">'
            f"{name}/</text>"
        )


def _jobs(recording: Recording) -> Iterator[str]:
    for row, job in enumerate(recording.jobs):
        x = LEFT + STEP * FOLDERS.index(job.outcome) + 10
        y = TOP - 4 + row * (CHIP + 6)
        yield (
            f'<g class="chip" style="animation-name:{job.name}"><rect x="{x}" y="{y}" width='
            f'"{BOX - 20}" height="{CHIP}" rx="5" fill="{COLOURS.get(job.name, "#8b949e")}"/>'
            f'<text x="{x + 10}" y="{y + 19}">{escape(job.name)}</text></g>'
        )


def _moves(job: Job, share: Any) -> str:
    end = FOLDERS.index(job.outcome)
    first, second = share(job.claimed), share(job.ended)
    second = max(second, first + 3)  # the mistake is in working/ for a moment only

    def at(place: int) -> str:
        return f"{{transform:translateX({(place - end) * STEP}px)}}"

    return (
        f"@keyframes {job.name}{{0%,{first:.1f}%{at(0)}{first + 1.5:.1f}%,{second:.1f}%{at(1)}"
        f"{second + 1.5:.1f}%,100%{at(end)}}}"
    )


def _lamps(recording: Recording) -> Iterator[str]:
    y = TOP + 3 * (CHIP + 6) + 28
    yield f'<text class="dim" x="{LEFT}" y="{y}">WebUI</text>'
    spans = _lamp_spans(recording)
    for number, (state, _, _) in enumerate(spans):
        last = " last" if number == len(spans) - 1 else ""
        yield (
            f'<g class="lamp{last}" style="animation-name:w{number}"><circle cx="{LEFT + 64}" '
            f'cy="{y - 5}" r="6" fill="{LAMPS[state]}"/><text x="{LEFT + 78}" y="{y}">'
            f"{WORDS.get(state, state)}</text></g>"
        )


def _lamp_spans(recording: Recording) -> list[tuple[str, float, float]]:
    at = [0.0, recording.working, recording.crash, recording.again]
    at.append(max(job.ended for job in recording.jobs))
    states = ["starting", "generating", "killed", "generating", "idle"]
    return list(zip(states, at, [*at[1:], float("inf")], strict=True))


def _lamp_moves(recording: Recording, share: Any) -> Iterator[str]:
    for number, (_, first, last) in enumerate(_lamp_spans(recording)):
        start, end = share(first), min(share(last), 100.0)
        before = f"0%,{start:.2f}%{{opacity:0}}" if start else ""
        after = f"{end + 0.01:.2f}%,100%{{opacity:0}}" if end < 100 else ""
        yield (
            f"@keyframes w{number}{{{before}{start + 0.01:.2f}%,{end:.2f}%{{opacity:1}}{after}}}"
        )


def _log(recording: Recording) -> tuple[list[str], int]:
    """The printed lines, wrapped, and where they end."""
    y, drawn = TOP + 3 * (CHIP + 6) + 62, []
    for number, (_, line) in enumerate(recording.lines):
        wrapped = textwrap.wrap(line, CHARACTERS, subsequent_indent="  ")
        spans = "".join(
            f'<tspan x="{LEFT}" y="{y + LINE * row}" xml:space="preserve">{escape(part)}</tspan>'
            for row, part in enumerate(wrapped)
        )
        drawn.append(f'<text class="log" style="animation-name:l{number}">{spans}</text>')
        y += LINE * len(wrapped)
    return drawn, y - LINE


def _appears(number: int, share: float) -> str:
    return (
        f"@keyframes l{number}{{0%,{share:.2f}%{{opacity:0}}{share + 0.5:.2f}%,100%{{opacity:1}}}}"
    )


def main() -> None:
    """Write all three files."""
    recording = record()
    recording.save(RECORDING)
    PICTURE.write_text(picture(recording), encoding="utf-8", newline="\n")
    WHY.write_text(why(), encoding="utf-8", newline="\n")
    print(f"written: {RECORDING}, {PICTURE}, {WHY}")


if __name__ == "__main__":
    main()
