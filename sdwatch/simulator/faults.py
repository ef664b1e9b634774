"""The fault plan: which faults a request or a start gets, and the counters that outlive us.

A plan is a YAML list. Each entry names a fault, says when, how many times, and its options:

    - fault: sigkill-mid-step
      when: {generation: 3}      # or {prompt: REGEX}, {stage: img2img}, {start: N}; all must hold
      times: once                # once (default), always, or a number
      at: 0.5

`generation: N` counts the generations received, canaries not: once is exactly the N-th, more is
from the N-th on. `start: N` counts the processes that shared one `--state` file.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdwatch.simulator.patience import patiently

CANARY = "sdwatch canary"
STAGES = ("txt2img", "img2img", "extra-single-image")

TRACEBACK_DELAY = 0.005
"""Seconds after its reply in which the traceback of a 500 is printed. Measured with Forge dfdcbab6
on a quiet machine: whole 0.8 to 11.5 ms after the client had the reply, and there with it once in
12 times."""

_500 = {"at": 0.5, "delay": TRACEBACK_DELAY, "pause": 0}

# Every fault with its options and their defaults. `at` is a share of the steps, or of the reply.
# `delay`: seconds from a 500 to its traceback, where the kind prints it after the reply; `pause`:
# seconds between the first half of the traceback and the second. `opaque`: 1 where the body says
# less than the log. `above`: pixels at once that still fit, `tiled`: times as many with a tiled
# VAE. `fails`: 0 where the picture comes out, and its memory stays taken. `hook`: which of
# voice.HOOKS raises; `stars`: 0 for a log without "*** ", as in controlnet#1368.
GENERATION_FAULTS: dict[str, dict[str, float]] = {
    "opaque-500": _500,
    "opaque-500-text": _500,
    "structured-500": _500,
    "assertion-500": _500,
    "echo-500": {**_500, "way": 0},
    "system-exit-500": {"at": 0.5},
    "exit-after-500": {**_500, "seconds": 0.2},
    "value-error": {"at": 0.5},
    "assertion-error": {"at": 0.5},
    "key-error": _500,
    "vae-decode": {},
    "oom": {**_500, "above": 0, "tiled": 1},
    "memory-stays-taken": {**_500, "opaque": 0, "fails": 1},
    "nan": _500,
    "xpu-oom": _500,
    "xpu-device-lost": _500,
    "wrong-dtype": _500,
    "no-network": _500,
    "disk-full": _500,
    "too-many-files": _500,
    "oom-behind-none": _500,
    "log-flood": {**_500, "lines": 20_000},
    "poisoned": {},
    "device-suspended": {"at": 0.5, "opaque": 0},
    "sigkill-before-reply": {},
    "sigkill-mid-step": {"at": 0.5},
    "sigkill-mid-reply": {"at": 0.5},
    "segv": {"at": 0.5},
    "exit-0": {"at": 0.5},
    "hang": {"at": 0.5},
    "hang-interruptible": {"at": 0.5},
    "hang-spin": {"at": 0.5},
    "hang-repeating": {"at": 0.5, "every": 1.0},
    "freeze": {"at": 0.5},
    "truncated-body": {"at": 0.5},
    "broken-json": {"at": 0.5},
    "empty-images": {},
    "undecodable-image": {},
    "black-image": {},
    "wrong-size": {},
    "wrong-model": {},
    "video": {},
    "orphan-child": {"seconds": 300},
    "ignore-sigterm": {},
    "leak": {"mb": 64},
    "slow-steps": {"factor": 10},
    "extension-raises": {"hook": 0, "stars": 1},
    # Of ComfyUI alone: its queue's thread ends, C code holds the interpreter's lock, an out of
    # memory that it does not know as one, a file half written, all websockets cut, a model file
    # that is listed and gone.
    "worker-dies": {"at": 0.5},
    "holds-gil": {"at": 0.5},
    "abort": {"at": 0.5},
    "oom-text": _500,
    "sigkill-mid-save": {},
    "websocket-closes": {},
    "model-gone": {},
}
"""`way` of echo-500: how it repeats the prompt, a number of ECHOES in echo.py; with their count
added in the kind's own reply, and not as text/plain."""
START_FAULTS: dict[str, dict[str, float]] = {
    "slow-start": {"delay": 5},
    "late-routes": {"answers": 1},
    "never-ready": {},
    "exit-on-start": {"code": 1},
    "port-taken": {},
    "port-forbidden": {},
    "server-thread-dies": {"opened": 0},
    "wrong-folder": {},
    "repository-gone": {},
    "damaged-settings": {},
    "no-gpu": {},
    "sigterm-on-start": {},
    "sigkill-on-start": {},
    "ignore-sigterm": {},
    "extension-not-loaded": {},
}
"""`opened`: 1 where the port opens before the thread dies, and answers 404 for the API's routes."""


class PlanError(Exception):
    """The plan cannot be used; the text says which entry and why."""


@dataclass(frozen=True)
class Fault:
    """One entry of the plan. `limit` is None for always."""

    name: str
    options: dict[str, float]
    limit: int | None = 1
    stage: str | None = None
    prompt: re.Pattern[str] | None = None
    generation: int | None = None
    start: int | None = None

    def option(self, name: str) -> float:
        return self.options[name]

    def _reached(self, wanted: int, count: int) -> bool:
        return count == wanted if self.limit == 1 else count >= wanted

    def meets(self, stage: str, prompt: str, generation: int | None) -> bool:
        """Return whether a request is meant. `generation` is None for a canary."""
        if self.start is not None or self.stage not in (None, stage):
            return False
        if self.prompt is not None and not self.prompt.search(prompt):
            return False
        if self.generation is None:
            # A canary is hit only where the plan speaks of its prompt.
            return generation is not None or self.prompt is not None
        return generation is not None and self._reached(self.generation, generation)

    def meets_start(self, start: int) -> bool:
        return self.start is not None and self._reached(self.start, start)


def load(path: Path) -> list[Fault]:
    """Read a plan. Raises PlanError."""
    entries = _written(path)
    if not isinstance(entries, list):
        raise PlanError(f"{path}: a plan is a list of faults, as in `- fault: oom`")
    faults = []
    for number, entry in enumerate(entries, 1):
        try:
            faults.append(_fault(entry))
        except PlanError as e:
            raise PlanError(f"{path}: entry {number}: {e}") from e
    return faults


def _written(path: Path) -> Any:
    """Return what the file says. One in JSON, which is YAML too, is read without the YAML package:
    its import takes as long as half of all others."""
    try:
        data = patiently(path.read_bytes)
    except OSError as e:
        raise PlanError(f"{path}: cannot be read: {e}") from e
    try:
        return json.loads(data)
    except ValueError:
        import yaml
    try:
        return yaml.safe_load(data)
    except (UnicodeDecodeError, yaml.YAMLError) as e:
        raise PlanError(f"{path}: cannot be read: {e}") from e


def _fault(entry: Any) -> Fault:
    if not isinstance(entry, dict) or "fault" not in entry:
        raise PlanError("needs `fault: NAME`")
    rest = dict(entry)
    name, when, times = rest.pop("fault"), rest.pop("when", None), rest.pop("times", "once")
    if not isinstance(when, dict) or not when:
        raise PlanError("needs `when:` with prompt, generation, stage or start")
    known = START_FAULTS if "start" in when else GENERATION_FAULTS
    if name not in known:
        kind = "at a start" if "start" in when else "in a generation"
        raise PlanError(f"no fault {name!r} {kind}; there are {', '.join(known)}")
    limit = _limit(times)
    return Fault(name, _options(rest, known[name]), limit, **_when(when))


def _options(given: dict[str, Any], defaults: dict[str, float]) -> dict[str, float]:
    for key, value in given.items():
        if key not in defaults:
            allowed = ", ".join(defaults) or "none"
            raise PlanError(f"unknown option {key!r}; this fault has: {allowed}")
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise PlanError(f"{key}: must be a number, 0 or more, not {value!r}")
        if key == "at" and value > 1:
            raise PlanError("at: is a share from 0 to 1")
    return {**defaults, **given}


def _limit(times: Any) -> int | None:
    if times == "always":
        return None
    if times == "once":
        return 1
    if isinstance(times, int) and not isinstance(times, bool) and times > 0:
        return times
    raise PlanError(f"times: once, always or a number above 0, not {times!r}")


def _when(when: dict[str, Any]) -> dict[str, Any]:
    unknown = set(when) - {"prompt", "generation", "stage", "start"}
    if unknown:
        raise PlanError(f"when: knows prompt, generation, stage and start, not {min(unknown)!r}")
    if "start" in when and len(when) > 1:
        raise PlanError("when: start stands alone")
    parsed = dict(when)
    for key in ("generation", "start"):
        value = parsed.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise PlanError(f"when: {key}: counts from 1, not {value!r}")
    if parsed.get("stage", STAGES[0]) not in STAGES:
        raise PlanError(f"when: stage: is one of {', '.join(STAGES)}")
    if "prompt" in parsed:
        try:
            parsed["prompt"] = re.compile(str(parsed["prompt"]))
        except re.error as e:
            raise PlanError(f"when: prompt: not a regular expression: {e}") from e
    return parsed


@dataclass
class Counters:
    """What has been counted, in a file where one is given, so that it outlives a restart."""

    path: Path | None = None
    starts: int = 0
    posts: int = 0
    canaries: int = 0
    generations: int = 0
    by_stage: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)

    def read(self) -> None:
        """Take over what an earlier process counted. Raises PlanError for a broken file."""
        if self.path is None or not self.path.exists():
            return
        try:
            data = json.loads(patiently(self.path.read_bytes))
            self.starts, self.posts = int(data["starts"]), int(data["posts"])
            self.generations, self.canaries = int(data["generations"]), int(data["canaries"])
            self.by_stage, self.fired = Counter(data["by_stage"]), Counter(data["fired"])
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise PlanError(f"{self.path}: no state file of the simulator: {e!r}") from e

    def write(self) -> None:
        """Replace the file in one step, so that a kill leaves the old or the new one."""
        if self.path is None:
            return
        fresh = self.path.with_name(self.path.name + ".new")
        text, path = json.dumps(self.as_dict()), self.path
        patiently(lambda: fresh.write_text(text, encoding="utf-8"))
        patiently(lambda: fresh.replace(path))

    def as_dict(self) -> dict[str, Any]:
        return {
            "starts": self.starts,
            "posts": self.posts,
            "canaries": self.canaries,
            "generations": self.generations,
            "by_stage": dict(self.by_stage),
            "fired": dict(self.fired),
        }


class Plan:
    """The faults and their counters; called from the threads of all requests."""

    def __init__(self, faults: list[Fault], counters: Counters) -> None:
        self._faults = faults
        self._counters = counters
        self._lock = threading.Lock()

    def start(self) -> list[Fault]:
        """Count this start, and give the faults that it gets."""
        with self._lock:
            self._counters.starts += 1
            chosen = [f for f in self._faults if f.meets_start(self._counters.starts)]
            return self._fire(chosen)

    def request(self, stage: str, prompt: str, canary: bool = False) -> list[Fault]:
        """Count a generation that was received, and give the faults that it gets. A canary is one
        by its prompt, or because the request says so."""
        with self._lock:
            counters = self._counters
            number = None
            if canary or CANARY in prompt:
                counters.canaries += 1
            else:
                counters.posts += 1
                counters.generations += 1
                counters.by_stage[stage] += 1
                number = counters.generations
            return self._fire([f for f in self._faults if f.meets(stage, prompt, number)])

    def stats(self) -> dict[str, Any]:
        with self._lock:
            return self._counters.as_dict()

    def _fire(self, chosen: list[Fault]) -> list[Fault]:
        left = [
            f for f in chosen if f.limit is None or self._counters.fired[self._key(f)] < f.limit
        ]
        self._counters.fired.update(self._key(f) for f in left)
        self._counters.write()
        return left

    def _key(self, fault: Fault) -> str:
        return f"{self._faults.index(fault) + 1} {fault.name}"
