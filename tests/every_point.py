"""One job of three stages with a crash in it, whose monitor meets its end, or a disk that refuses,
at one point of many; and what must be true once another monitor has gone on.

A point is one effect of the monitor (sdwatch/system/failpoints.py), counted from 1.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path

from sdwatch.errors import SdwatchError
from sdwatch.system.failpoints import Failpoint
from tests.death import Death, Points, Unsynced, listening
from tests.helpers import KILL, PATIENCE, ended_by
from tests.monitored import Monitored, journal, monitored

JOB = """\
stages:
  - txt2img: {prompt: a castle, width: 64, height: 64, steps: 2, seed: 5}
  - img2img: {prompt: a castle at night, width: 64, height: 64, steps: 2, seed: 6}
  - extra-single-image: {upscaling_resize: 2, upscaler_1: Lanczos}
"""
CRASH = "- {fault: sigkill-mid-step, when: {stage: img2img}, times: once}"
STAGES = ("txt2img", "img2img", "extra-single-image")
ON_DISK = (
    "append", "create", "make_folder", "remove", "remove_folder", "rename", "sync", "sync_folder",
    "write",
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
    """What is not as it must be; the text begins with the point."""


def count(root: Path) -> int:
    """How many points an undisturbed night has, from the monitor's start to its end."""
    with _spool(root) as spool, listening(Points(0, _never)) as points:
        spool.drop("castle.yaml", JOB)
        spool.start(once=True)
        spool.ended()
        _check(spool)
        return len(points.seen)


def disturb(root: Path, number: int, how: How) -> str:
    """Let `how` happen at the point `number`, and another monitor go on; what the point was, or ''
    where it was never reached, or the disk has no part in it. Raises BrokenPromiseError."""
    with _spool(root) as spool:
        spool.drop("castle.yaml", JOB)
        try:
            disturbed = _kill if how is How.KILL else _in_process
            reached = disturbed(spool, number, how)
            _check_one_holder(spool)
            if not spool.done():
                spool.start(once=True)
                spool.ended()
            _check(spool, deaths=0 if how.isupper() else 1)
        except (AssertionError, OSError, ValueError) as error:  # or there is no run.json to read
            raise BrokenPromiseError(f"point {number}, {how}: {error!r}") from error
        return reached


def _spool(root: Path) -> AbstractContextManager[Monitored]:
    root.mkdir(parents=True, exist_ok=True)
    return monitored(
        root, faults=CRASH, settings={"settle": 0, "cooldown": [0.05]}, webui={"stop_grace": 5}
    )


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
from sdwatch.config import load_config
from sdwatch.monitor.monitor import Monitor
from tests.death import Points
from tests.helpers import KILL

def kill(effect):
    print(effect.label, effect.path.name, flush=True)
    os.kill(os.getpid(), KILL)

effects.before = Points(int(sys.argv[2]), kill)
Monitor(load_config(Path(sys.argv[1])), once=True).run()
"""


def _kill(spool: Monitored, number: int, how: How) -> str:
    del how
    command = [sys.executable, "-c", _DRIVER, str(spool.config_file), str(number)]
    limit = 60 * PATIENCE
    folder = Path(__file__).parent.parent
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit)
    assert ended.returncode in (0, ended_by(KILL)), ended.stderr
    return ended.stdout.strip()


def _holders(spool: Monitored) -> list[Path]:
    """Every file under the spool that is the job, byte for byte."""
    places = (spool.inbox, spool.spool / "working", spool.spool / "done", spool.spool / "failed")
    files = [path for place in places for path in place.rglob("*") if path.is_file()]
    return [path for path in files if path.read_text(errors="replace") == JOB]


def _check_one_holder(spool: Monitored) -> None:
    held_by = _holders(spool)
    assert len(held_by) == 1, f"the job is in {held_by}"


def _check(spool: Monitored, deaths: int = 0) -> None:
    """All that was promised, once the night is over."""
    _check_one_holder(spool)
    assert len(spool.done()) == 1, f"not done: {spool.failed()} {spool.working()} {spool.told}"
    assert not spool.failed(), "failed"
    assert not spool.working(), f"left in working: {spool.working()}"
    run = spool.done()[0]
    _check_images(run)
    _check_story(run, spool.stats()["by_stage"], deaths)


def _check_images(run: Path) -> None:
    manifest = json.loads((run / "run.json").read_text())
    recorded = [image for call in manifest["calls"] for image in call["images"]]
    assert len(recorded) == len(STAGES), f"recorded images: {recorded}"
    there = {path.name for path in (run / "images").iterdir()}
    assert there == {image["name"] for image in recorded}, f"in images/: {there}"
    assert not [path.name for path in run.iterdir() if path.name.endswith(".tmp")]
    for image in recorded:
        data = (run / "images" / image["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == image["sha256"], image["name"]


def _check_story(run: Path, posts: dict[str, int], deaths: int) -> None:
    """The journal begins and ends as it should, and no finished call was sent again."""
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
    assert finished == {"1.1", "2.1", "3.1"}, names
    cut_off = sum(begun.values()) - names.count("call_finished") - names.count("call_failed")
    assert cut_off - names.count("call_given_up") <= deaths, names
    for number, stage in enumerate(STAGES, 1):
        sent, noted = posts.get(stage, 0), begun[f"{number}.1"]
        assert 0 < sent <= noted, f"{stage}: {sent} POSTs, {noted} in the journal: {names}"
