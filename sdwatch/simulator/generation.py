"""The one generation at a time: checkpoint, steps, the reply's body.

Measured with Forge dfdcbab6: jobs queue first come first served; a client that went away cancels
nothing; the checkpoint is loaded inside the first job; a failed extra-single-image leaves the
state busy until the next job. NaNs are black pictures and nothing else. A checkpoint that cannot be
read poisons it: every job fails until another good one is loaded.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sdwatch.simulator import checkpoints, console, failures
from sdwatch.simulator.checkpoints import Checkpoint
from sdwatch.simulator.damage import Damage
from sdwatch.simulator.failures import DeviceLostError, MemoryStaysTakenError
from sdwatch.simulator.job import Job, spoiled
from sdwatch.simulator.state import Queue, State
from sdwatch.simulator.traits import Traits
from sdwatch.simulator.upscale import upscale_info, upscaled
from sdwatch.simulator.voice import HOOKS

if TYPE_CHECKING:
    from PIL import Image

EXTRAS = "extra-single-image"
_TINY = 64 * 64
"""Pixels that fit whatever memory stays taken."""

_TILES = 4  # the steps of an upscaler that works in tiles


@dataclass(frozen=True)
class Speed:
    """Seconds for a step, for the first load of a checkpoint, for a switch."""

    step_time: float = 0.02
    load_time: float = 0.2
    switch_time: float = 0.2


class Machine:
    """The WebUI behind the routes: its options, its loaded checkpoint, its one job; Forge's.

    `poisoned` is what the fault of that name does, and what a load that failed does in some kinds.
    """

    checkpoints: tuple[Checkpoint, ...] = (*checkpoints.CHECKPOINTS, checkpoints.UNREADABLE)
    state_class: type[State] = State
    job_class: type[Job] = Job
    samples_format = "png"

    def __init__(self, traits: Traits, speed: Speed, *, has_model: bool) -> None:
        self.traits = traits
        self.checks = traits.checks
        self.voice = traits.voice
        self.speed = speed
        self.has_model = has_model
        self._model_file: Path | None = None
        self.options: dict[str, Any] = dict(traits.lists["options"])
        self.state = self.state_class()
        self.loaded: Checkpoint | None = None
        self.poisoned = False
        self._lost: DeviceLostError | None = None
        self._taken: MemoryStaysTakenError | None = None
        self._corrupted: set[Checkpoint] = set()  # .corrupted stands behind their files' names
        self._gone: set[Checkpoint] = set()
        self._stored: set[str] = set()  # the keys that config.json would have
        self._has_cast_nan = False
        self.queue = Queue()
        self.loads = 0  # of checkpoints, by this process

    def wait_for_model(self, file: Path | None) -> None:
        """Have no checkpoint until this file is there and `refresh` was asked for."""
        self._model_file = file
        if file is not None:
            self.has_model = file.exists()

    # -- at the start

    def take_flags(self, flags: argparse.Namespace) -> None:
        """Use the flags that only this kind has; may end the process. There are none here."""

    def remember_options(self, file: Path | None) -> None:
        """What POST /options saves outlives the process, where there is a file for it. Here it
        does not: of Forge and AUTOMATIC1111 no fault of ours depends on it."""

    def before_listening(self) -> None:
        """What is begun before the port opens: nothing, the first job loads the checkpoint."""

    def after_listening(self) -> None:
        """What is begun when the port is open."""

    def before_exit(self) -> None:
        """What an exit that nobody asked for waits for."""

    # -- what the routes ask

    def models(self) -> list[dict[str, Any]]:
        """Return /sdapi/v1/sd-models."""
        return [self.item(c) for c in self._listed()] if self.has_model else []

    def item(self, checkpoint: Checkpoint) -> dict[str, Any]:
        return checkpoint.item()

    def find(self, name: Any) -> Checkpoint | None:
        return checkpoints.find(name, self._listed())

    def _listed(self) -> list[Checkpoint]:
        return [c for c in self.checkpoints if c not in self._gone]

    def set_options(self, changes: dict[str, Any]) -> Any:
        """POST /options: its reply. Raises CrashedError for an unknown key. A checkpoint that is
        not there is taken without a word, and poisons."""
        self.checks.option_names(changes, self.options)
        self._stored |= set(changes)
        name = changes.get("sd_model_checkpoint")
        if name is not None and self.find(name) is None:
            self.poison()
            return
        self.options.update(changes)

    @property
    def on_gpu(self) -> str:
        """Return the name of the checkpoint whose weights are on the GPU, or ''."""
        return self.loaded.name if self.loaded else ""

    def unload(self) -> None:
        """Unload the checkpoint, which cures nothing."""
        if not self.poisoned:
            self.loaded = None

    def reload(self) -> None:
        """Nothing: the next job loads what it needs, from a file or from the machine's memory."""

    def refresh(self) -> None:
        """Only now is a file that was renamed not listed any more."""
        self._gone |= self._corrupted
        self.wait_for_model(self._model_file)

    # -- a generation

    def run(self, stage: str, fields: dict[str, Any], damage: Damage) -> bytes:
        """Wait for our turn and answer one generation: the reply's body.

        Raises RefusedError and CrashedError, as the WebUI would answer.
        """
        if damage.has("poisoned"):
            self.poison()
        if stage == EXTRAS:
            from sdwatch.simulator import pictures

            image = pictures.decode(fields["image"])
            with self.queue.turn():
                damage.announce()
                return damage.reply(self.upscale(image, fields, damage))
        with self.queue.turn():
            damage.announce()
            self.before_job()
            self.state.begin(self.traits.job_names[stage])
            try:
                return damage.reply(self.with_extensions(stage, fields, damage))
            finally:
                self.state.end()

    def with_extensions(self, stage: str, fields: dict[str, Any], damage: Damage) -> dict[str, Any]:
        """Generate between the hooks of extensions; an exception in a hook is ignored."""
        self.run_hooks(damage, *HOOKS[:1])
        body = self.generate(stage, fields, damage)
        self.run_hooks(damage, *HOOKS[1:])
        return body

    def run_hooks(self, damage: Damage, *hooks: str) -> None:
        """Where always-on scripts run: one that raises is skipped, and only the log has it."""
        if raised := damage.of_extension(hooks):
            hook, stars = raised
            self.voice.extension_raised(hook, stars=stars)

    def poison(self) -> None:
        """As a checkpoint does that cannot be read: the old one seems to be loaded still."""
        self.poisoned = True
        self.loaded = self.loaded or self.find(self.options["sd_model_checkpoint"])

    def before_job(self) -> None:
        """What a job waits for before /progress shows it."""

    def generate(self, stage: str, fields: dict[str, Any], damage: Damage) -> dict[str, Any]:
        """Run one txt2img or img2img: the reply."""
        if not self.has_model:
            raise failures.no_model()
        given = fields["override_settings"] or {}
        settings = {**self.options, **given}
        self.checks.option_names(given, self.options)
        self.checks.numbers(fields)
        self.checks.names(fields, self._listed())
        inputs = self.checks.init_images(fields) if stage == "img2img" else []
        checkpoint = self.load(settings["sd_model_checkpoint"], damage)
        if fields["override_settings_restore_afterwards"] is False:
            self.options = settings
        self._keep(given)
        fields = self.checks.batch(fields, len(inputs))
        job = self.job_class(self.traits, stage, fields, settings, checkpoint, inputs)
        job.blackened = damage.take("nan")
        self.sample(job, damage)
        if job.blackened and not self._has_cast_nan:
            self._has_cast_nan = True
            self.voice.cast_warning()
        return job.body(damage)

    def _keep(self, given: dict[str, Any]) -> None:
        """Only what config.json has is put back after a job (measured with the CLIP skip); the
        checkpoint always is."""
        kept = set(given) - self._stored - {"sd_model_checkpoint"}
        self.options = {**self.options, **{key: given[key] for key in kept}}
        self._stored |= set(given)

    def wanted(self, name: Any, damage: Damage) -> Checkpoint:
        """Return the checkpoint that a job uses; an unknown name is passed over in silence."""
        checkpoint = self.find(name) or self.loaded or checkpoints.CHECKPOINTS[0]
        if damage.has("wrong-model"):
            checkpoint = next(c for c in checkpoints.CHECKPOINTS if c is not checkpoint)
        return checkpoint

    def load(self, name: Any, damage: Damage) -> Checkpoint:
        """Return the checkpoint that a job uses, loaded. One that is not loaded yet cures, if it
        is a good one; the same again does not."""
        checkpoint = self.wanted(name, damage)
        if not checkpoint.readable:
            self._corrupted.add(checkpoint)
            self.poison()
            raise failures.not_recognised()
        if checkpoint is not self.loaded:
            self.switch_to(checkpoint)
            self.poisoned = False
        if self.poisoned:
            raise failures.poisoned()
        return checkpoint

    def switch_to(self, checkpoint: Checkpoint) -> None:
        """Load it, and say so."""
        before = self.loaded
        seconds = self.speed.switch_time if before else self.speed.load_time
        self.voice.loading(checkpoint, before)
        time.sleep(seconds)
        self.loads += 1
        self.voice.loaded(seconds, before)
        self.loaded = checkpoint

    def sample(self, job: Job, damage: Damage) -> None:
        """All steps of all rounds; interrupt ends the job, skip ends the round."""
        state = self.state
        damage.tiled = job.tiled
        state.seed, state.job_count = job.seed, job.rounds * len(job.passes)
        total, done = job.rounds * sum(job.passes), 0
        for _ in range(job.rounds):
            state.skipped = False
            for number, steps in enumerate(job.passes):
                if number:
                    self.checks.second_pass(job.fields)
                self.steps(steps, done, total, damage, job.pixels())
                done += steps
                job.steps_done = state.sampling_step
                state.job_no += 1
                if state.interrupted or state.skipped:
                    break
            damage.before_decode()
            job.rounds_done += 1
            if state.interrupted:
                return

    def steps(self, steps: int, done: int, total: int, damage: Damage, pixels: int) -> None:
        """One pass of so many steps, after `done` of the `total`; of so many pixels
        at once."""
        state = self.state
        state.begin_pass(steps)
        bar = self.voice.bar(steps)
        begin, pause = time.monotonic(), self.speed.step_time * damage.slowness
        for step in range(steps):
            self._use_device(done + step, total, damage, pixels)
            wait_until(begin + (step + 1) * pause)
            state.stepped(step + 1, steps)
            bar.show(step + 1)
            if state.interrupted or state.skipped:
                break
        bar.close()

    def _use_device(self, step: int, total: int, damage: Damage, pixels: int) -> None:
        """What a step does with the GPU. Once that is lost, all fails until a restart; while its
        memory stays taken, all but tiny pictures do."""
        if self._lost is not None:
            raise self._lost
        if self._taken is not None and pixels > _TINY:
            self._run_out(self._taken)
        try:
            damage.before_step(step, total, pixels)
        except MemoryStaysTakenError as e:
            self._taken = e
            if e.fails:
                self._run_out(e)
        except DeviceLostError as e:
            self._lost = e
            raise

    def _run_out(self, error: MemoryStaysTakenError) -> NoReturn:
        if error.says_before:
            console.err(error.says_before)
        raise error

    # -- an upscale

    def upscale(self, image: Image.Image, fields: dict[str, Any], damage: Damage) -> dict[str, Any]:
        """extra-single-image: the reply. A failure leaves the state as it is, as Forge does."""
        self.state.begin(self.traits.job_names[EXTRAS], job_count=1)
        for name in (fields["upscaler_1"], fields["upscaler_2"]):
            self.checks.upscaler(name, "AssertionError")
        body = self.enlarged(image, fields, damage)
        self.state.end()
        return body

    def enlarged(
        self, image: Image.Image, fields: dict[str, Any], damage: Damage
    ) -> dict[str, Any]:
        """Return the work of an upscale, and its reply."""
        from sdwatch.simulator import pictures

        scaled = upscaled(image, fields)
        tiles = self._tiles(fields["upscaler_1"])
        bar = None if tiles == 1 else self.voice.bar(tiles, "tiled upscale: ")
        begin = time.monotonic()
        for tile in range(tiles):
            self._use_device(tile, tiles, damage, scaled.width * scaled.height)
            wait_until(begin + (tile + 1) * self.speed.step_time * damage.slowness)
            if bar:
                bar.show(tile + 1)
        if bar:
            bar.close()
        return {
            "html_info": upscale_info(fields),
            "image": pictures.encode(
                spoiled(scaled, damage),
                str(self.options.get("samples_format", self.samples_format)),
                pictures.infotext_of(image),
            ),
        }

    def _tiles(self, name: str) -> int:
        """Return how many steps this upscaler needs. Without its weights it is plain, and only
        the log says so: a file that lies on the web is not here."""
        path = (self.checks.find_upscaler(name) or {}).get("model_path")
        if path is None:
            return 1
        if path.startswith("https://"):
            self.voice.missing_weights(path)
            return 1
        return _TILES


def wait_until(deadline: float) -> None:
    """Sleep until that moment of the monotonic clock; not at all if it has passed."""
    left = deadline - time.monotonic()
    if left > 0:
        time.sleep(left)
