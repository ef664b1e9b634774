"""One job with a failure in it, whose monitor meets its end, or a disk that refuses, at one of
many points; and what must be true once another monitor has gone on.

A point is one effect of the monitor (sdwatch/system/failpoints.py), counted from 1.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from PIL import Image

from sdwatch.errors import SdwatchError
from sdwatch.system.failpoints import Failpoint
from tests.support import warm
from tests.support.death import Death, Points, Unsynced, listening
from tests.support.helpers import KILL, UNHURRIED, ended_by
from tests.support.monitored import Monitored, journal, monitored
from tests.webui.comfy import MODEL, node, txt2img

JOB = """\
stages:
  - txt2img: {prompt: a castle, width: 64, height: 64, steps: 2, seed: 5}
  - img2img: {prompt: a castle at night, width: 64, height: 64, steps: 2, seed: 6}
  - extra-single-image: {upscaling_resize: 2, upscaler_1: Lanczos}
"""
GRID = """\
prompt: a __color__ ${animal}
matrix: {animal: [cat, owl], cfg_scale: [5, 7]}
width: 64
height: 64
"""


_CHECKPOINT = f"override_settings: {{sd_model_checkpoint: {MODEL}}}"
JOB_OF_COMFYUI = f"""\
stages:
  - txt2img: {{prompt: a castle, width: 64, height: 64, steps: 2, seed: 5, {_CHECKPOINT}}}
  - img2img: {{prompt: a castle, width: 64, height: 64, steps: 2, seed: 6, {_CHECKPOINT}}}
  - extra-single-image: {{upscaling_resize: 2, upscaler_1: Lanczos}}
"""


@dataclass(frozen=True)
class Night:
    """A job of a night. `faults`: of the simulator, which is of this `kind`; `calls`: the stage of
    each, as the simulator names it; `outside`: whether it takes lines and defaults from outside,
    which change before it resumes; `beside`: files of its folder."""

    job: str
    faults: str
    calls: Mapping[str, str]
    outside: bool = False
    kind: str = "forge"
    beside: Mapping[str, str] = field(default_factory=dict)


_CRASH = "- {fault: sigkill-mid-step, when: {stage: img2img}, times: once}"
_CALLS = {"1.1": "txt2img", "2.1": "img2img", "3.1": "extra-single-image"}
STAGES = Night(JOB, _CRASH, _CALLS)
OF_COMFYUI = Night(JOB_OF_COMFYUI, _CRASH, _CALLS, kind="comfyui")
"""The same for a WebUI that has no checkpoint of its own, and keeps calls in a queue."""
JOB_OF_WORKFLOWS = """\
stages:
  - workflow: {id: base, file: draw.json, set: {6.text: a castle}, seed: -1}
  - workflow: {file: again.json, input: base}
"""
_AGAIN = {
    **txt2img(steps=2, seed=6),
    "5": node("LoadImage", image="any.png"),
    "10": node("VAEEncode", pixels=["5", 0], vae=["4", 2]),
}
_AGAIN["3"]["inputs"]["latent_image"] = ["10", 0]
WORKFLOWS = Night(
    JOB_OF_WORKFLOWS,
    _CRASH,
    {"1.1": "txt2img", "2.1": "img2img"},
    kind="comfyui",
    beside={"draw.json": json.dumps(txt2img(steps=2)), "again.json": json.dumps(_AGAIN)},
)
MATRIX = Night(
    GRID,
    "- {fault: structured-500, when: {prompt: owl}, times: once}",
    {f"p{point}.1.1": "txt2img" for point in (1, 2, 3, 4)},
    outside=True,
)
NIGHTS = {
    "three stages": STAGES,
    "a matrix": MATRIX,
    "ComfyUI": OF_COMFYUI,
    "workflows": WORKFLOWS,
}
ON_DISK = (
    "append", "create", "link", "make_folder", "remove", "remove_folder", "rename", "sync",
    "sync_folder", "write",
)  # fmt: skip


class How(StrEnum):
    """What happens at the point."""

    KEPT = "death, unsynced kept"
    LOST = "death, unsynced lost"
    KILL = "kill -9"
    ENOSPC = "ENOSPC"
    EIO = "EIO"
    EACCES = "EACCES"
    EBUSY = "EBUSY"


IN_PROCESS = tuple(
    how
    for how in How
    # What a power cut takes is taken back by functions relative to a folder.
    if how is not How.KILL and not (how is How.LOST and sys.platform == "win32")
)


class BrokenPromiseError(AssertionError):
    """What is not as it must be; the text starts with the point."""


def count(root: Path, night: Night = STAGES) -> int:
    """How many points an undisturbed night has, from the monitor's start to its end."""
    with _spool(root, night) as spool, listening(Points(0, _never)) as points:
        _drop(spool, night)
        spool.start(once=True)
        spool.ended()
        _check(spool, night)
        return len(points.seen)


def disturb(root: Path, number: int, how: How, night: Night = STAGES) -> str:
    """Let `how` happen at the point `number`, and another monitor resume; what the point was, or ''
    where it was never reached, or the disk has no part in it. Raises BrokenPromiseError."""
    with _spool(root, night) as spool:
        _drop(spool, night)
        try:
            disturbed = _kill if how is How.KILL else _in_process
            reached = disturbed(spool, number, how)
            _check_one_holder(spool, night)
            if not spool.done():
                if night.outside:
                    _write_outside(root, "green\n", "steps: 3\n")
                spool.start(once=True)
                spool.ended()
            _check(spool, night, deaths=0 if how.isupper() else 1)
        except (AssertionError, OSError, ValueError) as error:  # or there is no run.json to read
            raise BrokenPromiseError(f"point {number}, {how}: {error!r}") from error
        return reached


def _drop(spool: Monitored, night: Night) -> None:
    if not night.beside:
        spool.drop("castle.yaml", night.job)
        return
    folder = spool.root / "castle"
    folder.mkdir()
    for name, text in {**night.beside, "job.yaml": night.job}.items():
        (folder / name).write_text(text, encoding="utf-8")
    folder.rename(spool.inbox / folder.name)


def die_at(root: Path, points: Points, night: Night = STAGES) -> None:
    """Let the monitor die where `points` says so, and another monitor resume. Raises AssertionError
    for what is not as it must be."""
    with _spool(root, night) as spool:
        _drop(spool, night)
        with listening(points):
            spool.run_until(lambda: points.dead)
        gc.collect()
        assert points.dead, "the monitor ended before it died"
        _check_one_holder(spool, night)
        spool.start(once=True)
        spool.ended()
        _check(spool, night, deaths=1)


@contextmanager
def _spool(root: Path, night: Night) -> Iterator[Monitored]:
    root.mkdir(parents=True, exist_ok=True)
    settings = {"settle": 0, "cooldown": [0.05], "wildcards": str(root / "lists")}
    flags: tuple[str, ...] = ("--kind", night.kind)
    if night.kind == "comfyui":
        base = root / "comfyui"
        (base / "custom_nodes").mkdir(parents=True, exist_ok=True)
        flags += ("--base-directory", str(base))
    grace = {"stop_grace": 5}
    with monitored(root, faults=night.faults, settings=settings, webui=grace, flags=flags) as spool:
        if night.outside:
            _write_outside(root, "red\nblue\n", "steps: 2\n")
        yield spool


def _write_outside(root: Path, colors: str, defaults: str) -> None:
    (root / "lists").mkdir(exist_ok=True)
    (root / "lists/color.txt").write_text(colors, encoding="utf-8")
    (root / "spool/inbox/_defaults.yaml").write_text(defaults, encoding="utf-8")


def _never(effect: Failpoint) -> None:
    raise AssertionError(effect)


def _die(effect: Failpoint) -> None:
    raise Death(effect)


def _refuse(how: How) -> Callable[[Failpoint], None]:
    number = getattr(errno, how.name)

    def then(effect: Failpoint) -> None:
        if effect.label in (*ON_DISK, "spawn"):
            raise OSError(number, os.strerror(number), str(effect.path))

    return then


def _in_process(spool: Monitored, number: int, how: How) -> str:
    dies = how in (How.KEPT, How.LOST)
    unsynced = Unsynced() if how is How.LOST else None
    with listening(Points(number, _die if dies else _refuse(how), unsynced)) as points:
        spool.run_until(lambda: points.dead)
    gc.collect()  # what died keeps no file open
    if unsynced is not None:
        unsynced.lose()
        unsynced.close()
    if not dies and spool.broke is not None and not isinstance(spool.broke, SdwatchError):
        raise AssertionError(f"the monitor broke: {spool.broke!r}")
    refused = dies or points.reached.partition(" ")[0] in (*ON_DISK, "spawn")
    return points.reached if refused else ""


_DRIVER = """
import os, sys
from pathlib import Path
from sdwatch.system import failpoints as effects
from sdwatch.config_file import load_config
from sdwatch.monitor.monitor import Monitor
from tests.support.death import Points
from tests.support.helpers import KILL

def kill(effect):
    print(effect.label, effect.path.name, flush=True)
    os.kill(os.getpid(), KILL)

effects.before = Points(int(sys.argv[2]), kill)
Monitor(load_config(Path(sys.argv[1])), once=True).run()
"""


def _kill(spool: Monitored, number: int, how: How) -> str:
    del how
    words = ("-c", _DRIVER, str(spool.config_file), str(number))
    ended = warm.run(*words, env=os.environ, limit=60 * UNHURRIED)
    assert ended.returncode in (0, ended_by(KILL)), ended.stderr
    return ended.stdout.decode().strip()


def _holders(spool: Monitored, night: Night) -> list[Path]:
    """Every file under the spool that is the job, byte for byte."""
    places = (spool.inbox, spool.spool / "working", spool.spool / "done", spool.spool / "failed")
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    return [path for path in files if path.read_text(errors="replace") == night.job]


def _check_one_holder(spool: Monitored, night: Night) -> None:
    held_by = _holders(spool, night)
    assert len(held_by) == 1, f"the job is in {held_by}"


def _check(spool: Monitored, night: Night, deaths: int = 0) -> None:
    """All that was promised, once the night is over."""
    _check_one_holder(spool, night)
    assert len(spool.done()) == 1, f"not done: {spool.failed()} {spool.working()} {spool.told}"
    assert not spool.failed(), "failed"
    assert not spool.working(), f"left in working: {spool.working()}"
    run = spool.done()[0]
    _check_images(run, night)
    _check_story(run, night, spool.stats()["by_stage"], deaths)
    if night.outside:
        _check_choices(run)


def _check_choices(run: Path) -> None:
    """All points of a matrix have the same line, seed and defaults, also those made later."""
    made = []
    for path in (run / "images").iterdir():
        with Image.open(path) as picture:
            made.append(picture.info["parameters"])
    prompts = {text.splitlines()[0] for text in made}
    assert sorted(prompt.split()[2] for prompt in prompts) == ["cat", "owl"], prompts
    for choice in (r"^a (\w+) ", r"Seed: (\d+)", r"Steps: (\d+)"):
        assert len({re.search(choice, text)[1] for text in made}) == 1, (choice, made)  # type: ignore[index]


def _check_images(run: Path, night: Night) -> None:
    manifest = json.loads((run / "run.json").read_text())
    recorded = [image for call in manifest["calls"] for image in call["images"]]
    assert len(recorded) == len(night.calls), f"recorded images: {recorded}"
    there = {path.name for path in (run / "images").iterdir()}
    assert there == {image["name"] for image in recorded}, f"in images/: {there}"
    assert not [path.name for path in run.iterdir() if path.name.endswith(".tmp")]
    for image in recorded:
        data = (run / "images" / image["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == image["sha256"], image["name"]


def _check_story(run: Path, night: Night, posts: dict[str, int], deaths: int) -> None:
    """The journal starts and ends as it should, and no finished call was sent again."""
    records = journal(run)
    names = [record["event"] for record in records]
    assert names[0] == "claimed", names
    assert names[-1] == "ended", names
    begun: Counter[str] = Counter()
    open_calls: set[str] = set()
    finished: set[str] = set()
    for record in records:
        event, call = record["event"], record.get("call", "")
        if event == "call_started":
            assert call not in finished, f"{call} was begun again after it had finished: {names}"
            begun[call] += 1
            open_calls.add(call)
        elif event in ("call_failed", "call_given_up", "call_finished"):
            assert call in open_calls, f"{event} of {call}, which was not begun: {names}"
            open_calls.discard(call)
        if event == "call_finished":
            finished.add(call)
    assert finished == night.calls.keys(), names
    cut_off = sum(begun.values()) - names.count("call_finished") - names.count("call_failed")
    assert cut_off - names.count("call_given_up") <= deaths, names
    for stage in set(night.calls.values()):
        noted = sum(begun[call] for call, kind in night.calls.items() if kind == stage)
        sent = posts.get(stage, 0)
        assert 0 < sent <= noted, f"{stage}: {sent} POSTs, {noted} in the journal: {names}"
