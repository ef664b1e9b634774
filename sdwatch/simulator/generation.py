"""The one generation at a time: queue, state, steps, checkpoint, the reply's body.

Measured with Forge dfdcbab6: jobs queue first come first served; a client that went away cancels
nothing; the checkpoint is loaded inside the first job; a failed extra-single-image leaves the
state busy until the next job.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from sdwatch.simulator import checks, console, failures, forge, pictures
from sdwatch.simulator.damage import Damage
from sdwatch.simulator.failures import CrashedError
from sdwatch.simulator.job import Job, spoiled, timestamp
from sdwatch.simulator.upscale import upscale_info, upscaled

_PREVIEW_FROM_STEP = 10
_TILES = 4  # the steps of an upscaler that works in tiles
_PLAIN_UPSCALERS = ("None", "Lanczos", "Nearest")


class Queue:
    """A lock that is given on in the order of asking."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn, and hold it for the block."""
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: self._waiting[0] is ticket)
        try:
            yield
        finally:
            with self._changed:
                self._waiting.popleft()
                self._changed.notify_all()


@dataclass
class State:
    """What /progress shows; names and habits are Forge's."""

    skipped: bool = False
    interrupted: bool = False
    stopping_generation: bool = False
    job: str = ""
    job_count: int = 0
    job_timestamp: str = "0"
    job_no: int = 0
    sampling_step: int = 0
    sampling_steps: int = 0
    began: float = field(default=0.0, repr=False)
    seed: int = field(default=0, repr=False)

    def begin(self, job: str, job_count: int = -1) -> None:
        self.skipped = self.interrupted = self.stopping_generation = False
        self.job, self.job_count, self.job_no = job, job_count, 0
        self.job_timestamp = timestamp()
        self.sampling_step = self.sampling_steps = 0
        self.began = time.monotonic()

    def end(self) -> None:
        self.job, self.job_count = "", 0

    def progress(self, with_image: bool) -> dict[str, Any]:
        """The body of GET /progress. `progress` is from 0 to 1, `eta_relative` in seconds."""
        share = self._share()
        elapsed = time.monotonic() - self.began
        step, steps = self.sampling_step, self.sampling_steps
        image = None
        if with_image and self.job and step >= _PREVIEW_FROM_STEP:
            image = pictures.preview(self.seed, step / max(steps, 1))
        return {
            "progress": share,
            "eta_relative": elapsed / share - elapsed if share else 0.0,
            "state": {
                "skipped": self.skipped,
                "interrupted": self.interrupted,
                "stopping_generation": self.stopping_generation,
                "job": self.job,
                "job_count": self.job_count,
                "job_timestamp": self.job_timestamp,
                "job_no": self.job_no,
                "sampling_step": step,
                "sampling_steps": steps,
            },
            "current_image": image,
            "textinfo": None,
        }

    def _share(self) -> float:
        count = self.job_count
        if count == 0:
            return 0.0
        share = 0.01
        if count > 0:
            share += self.job_no / count
            if self.sampling_steps > 0:
                share += self.sampling_step / self.sampling_steps / count
        return min(share, 1.0)


@dataclass(frozen=True)
class Speed:
    """Seconds for a step, for the first load of a checkpoint, for a switch."""

    step_time: float = 0.02
    load_time: float = 0.2
    switch_time: float = 0.2


class Machine:
    """The WebUI behind the routes: its options, its loaded checkpoint, its one job."""

    def __init__(self, speed: Speed, has_model: bool) -> None:
        self.speed = speed
        self.has_model = has_model
        self.options: dict[str, Any] = dict(forge.LISTS["options"])
        self.state = State()
        self.loaded: forge.Checkpoint | None = None
        self._poisoned = False
        self._queue = Queue()

    def set_options(self, changes: dict[str, Any]) -> None:
        """POST /options. Raises CrashedError for an unknown key or checkpoint."""
        checks.check_option_names(changes, self.options)
        name = changes.get("sd_model_checkpoint")
        if name is not None and forge.find_checkpoint(str(name)) is None:
            raise CrashedError("RuntimeError", f"model {name!r} not found")
        self.options.update(changes)

    def run(self, stage: str, fields: dict[str, Any], damage: Damage) -> bytes:
        """Wait for our turn and answer one generation: the reply's body.

        Raises RefusedError and CrashedError, as the WebUI would answer.
        """
        self._poisoned = self._poisoned or damage.has("poisoned")
        if stage == "extra-single-image":
            image = pictures.decode(fields["image"])
            with self._queue.turn():
                damage.announce()
                return self._upscale(image, fields, damage)
        with self._queue.turn():
            damage.announce()
            self.state.begin(forge.JOB_NAMES[stage])
            try:
                return self._generate(stage, fields, damage)
            finally:
                self.state.end()

    def _generate(self, stage: str, fields: dict[str, Any], damage: Damage) -> bytes:
        if self._poisoned:
            raise failures.poisoned()
        if not self.has_model:
            raise failures.no_model()
        settings = {**self.options, **(fields["override_settings"] or {})}
        checks.check_option_names(settings, self.options)
        checks.check_numbers(fields)
        checks.check_names(fields)
        inputs = checks.init_images(fields) if stage == "img2img" else []
        checkpoint = self._load(str(settings["sd_model_checkpoint"]), damage)
        if fields["override_settings_restore_afterwards"] is False:
            self.options = settings
        job = Job(stage, fields, checkpoint, inputs, str(settings["samples_format"]))
        self._sample(job, damage)
        return damage.reply(job.body(damage))

    def _load(self, wanted: str, damage: Damage) -> forge.Checkpoint:
        """The checkpoint that will be used; an unknown name is passed over in silence."""
        current = self.loaded or forge.CHECKPOINTS[0]
        checkpoint = forge.find_checkpoint(wanted) or current
        if damage.has("wrong-model"):
            checkpoint = next(c for c in forge.CHECKPOINTS if c is not checkpoint)
        if checkpoint is not self.loaded:
            seconds = self.speed.switch_time if self.loaded else self.speed.load_time
            console.out(f"Loading Model: {checkpoint.selected()}")
            time.sleep(seconds)
            console.out(f"Model loaded in {seconds:.1f}s (forge model load: {seconds:.1f}s).")
            self.loaded = checkpoint
        return checkpoint

    def _sample(self, job: Job, damage: Damage) -> None:
        """All steps of all rounds; interrupt ends the job, skip ends the round."""
        state = self.state
        state.seed, state.job_count = job.seed, job.rounds * len(job.passes)
        total, done = job.rounds * sum(job.passes), 0
        for _ in range(job.rounds):
            state.skipped = False
            for steps in job.passes:
                state.sampling_step, state.sampling_steps = 0, steps
                self._steps(steps, done, total, damage)
                done += steps
                job.steps_done = state.sampling_step
                state.job_no += 1
                if state.interrupted or state.skipped:
                    break
            job.rounds_done += 1
            if state.interrupted:
                return

    def _steps(self, steps: int, done: int, total: int, damage: Damage) -> None:
        state, bar = self.state, console.Bar(steps)
        begin, pause = time.monotonic(), self.speed.step_time * damage.slowness
        for step in range(steps):
            damage.before_step(done + step, total)
            wait_until(begin + (step + 1) * pause)
            state.sampling_step = step + 1
            bar.show(step + 1)
            if state.interrupted or state.skipped:
                break
        bar.close()

    def _upscale(self, image: Image.Image, fields: dict[str, Any], damage: Damage) -> bytes:
        """extra-single-image. A failure leaves the state as it is, as Forge does."""
        self.state.begin(forge.JOB_NAMES["extra-single-image"], job_count=1)
        upscaler = fields["upscaler_1"]
        for name in (upscaler, fields["upscaler_2"]):
            checks.check_upscaler(name, "AssertionError")
        scaled = upscaled(image, fields)
        plain = upscaler in _PLAIN_UPSCALERS
        tiles = 1 if plain else _TILES
        bar = None if plain else console.Bar(tiles, "tiled upscale: ")
        begin = time.monotonic()
        for tile in range(tiles):
            damage.before_step(tile, tiles)
            wait_until(begin + (tile + 1) * self.speed.step_time * damage.slowness)
            if bar:
                bar.show(tile + 1)
        if bar:
            bar.close()
        body = {
            "html_info": upscale_info(fields),
            "image": pictures.encode(
                spoiled(scaled, damage),
                str(self.options["samples_format"]),
                pictures.infotext_of(image),
            ),
        }
        self.state.end()
        return damage.reply(body)


def wait_until(deadline: float) -> None:
    """Sleep until that moment of the monotonic clock; not at all if it has passed."""
    left = deadline - time.monotonic()
    if left > 0:
        time.sleep(left)
