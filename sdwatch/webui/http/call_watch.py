"""Watch whether a call makes progress on the WebUI, by its /progress, its output and its work
together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sdwatch.errors import Probes, WebUIError, WebUINotUsableError
from sdwatch.policy.failure.progress import Limits, ProgressWatch, Sample
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.privacy.sanitise import digest
from sdwatch.system.clock import Clock
from sdwatch.webui.http.health import Progress
from sdwatch.webui.log.call_log import CallLog
from sdwatch.webui.process.readiness import PROBE_INTERVAL_S

_SHARE_OF_STALL = 0.05
_SHORTEST_TIMEOUT = 0.5
_SHORTEST_PAUSE = 0.1

_NUMBERS = ("progress", "eta_relative")
_NUMBERS_OF_STATE = ("job_no", "job_count", "sampling_step", "sampling_steps")
_LONGEST_JOB = 100
_A_NAME = re.compile(r"[A-Za-z0-9_().:-]*+|Batch \d+ out of \d+")
_LARGEST = 2**63  # no counter is; JSON has numbers of any length


class CallWatch:
    """Follows one call of `stage`. Call `sample` at `next_sample`, on the monotonic clock: every
    PROBE_INTERVAL_S seconds, and at the moment from which the call is stuck if nothing has moved.

    `work`: returns the processor seconds and I/O bytes of the process tree so far. `log`: the
    WebUI's output. Also keeps `progress`, what is known of the last reply
    (see `known`), for the display.
    """

    def __init__(
        self,
        client: Progress,
        clock: Clock,
        limits: Limits,
        *,
        stage: str,
        work: Callable[[], tuple[float, int]],
        log: CallLog,
    ) -> None:
        self._client = client
        self._clock = clock
        # A longer wait for an answer would delay the notice of a stall by as much.
        self._timeout = min(limits.answer, max(_SHORTEST_TIMEOUT, limits.stall * _SHARE_OF_STALL))
        self._work = work
        self.log = log
        self._has_steps = STAGES[stage].has_steps
        self._watch = ProgressWatch(clock.monotonic(), limits)
        self._stepless = False
        self.wait_for_next()
        self.progress: dict[str, Any] = {}

    def wait_for_next(self) -> None:
        """Make the next sample due after the usual pause; the one that is taken now may shorten
        it."""
        self.next_sample = self._clock.monotonic() + PROBE_INTERVAL_S

    @property
    def is_due(self) -> bool:
        """Return whether the next sample is due."""
        return self._clock.monotonic() >= self.next_sample

    def sample(self) -> str:
        """Take a sample, and return why the call is stuck, or ''. Blocks for the probe's timeout at
        most."""
        reason = self._sample()
        now = self._clock.monotonic()
        self.next_sample = max(now + _SHORTEST_PAUSE, min(now + PROBE_INTERVAL_S, self._watch.due))
        return "; ".join(filter(None, (reason, str(self.probes) if reason else "")))

    @property
    def probes(self) -> Probes:
        """Return whether the WebUI has answered since the call last made progress."""
        return self._watch.probes

    @property
    def job(self) -> str:
        """Return what the WebUI named as running when it last answered; '' for nothing."""
        state = self.progress.get("state")
        job = state.get("job") if isinstance(state, Mapping) else None
        return job if isinstance(job, str) else ""

    @property
    def generates(self) -> bool:
        """Return whether the WebUI can generate at all, as far as its log says."""
        return not self.log.says_that_worker_ended()

    def _sample(self) -> str:
        unanswered = ""
        try:
            self.progress = known(self._client.progress(self._timeout))
            position, stepless = _position(self.progress)
        except WebUINotUsableError:  # a server without this route: only its work can be seen
            position, stepless = None, True
        except WebUIError as error:  # no answer does not show the phase
            position, stepless = None, self._stepless
            unanswered = "" if error.status else str(error)
        self._stepless = stepless
        cpu, io = self._work()
        self.log.poll()
        if not self.generates:
            return "the thread that generates has ended, and only a restart brings it back"
        return self._watch.add(
            Sample(
                at=self._clock.monotonic(),
                position=position,
                stepless=stepless or not self._has_steps,
                log_activity=self.log.activity(),
                cpu=cpu,
                io=io,
                unanswered=unanswered,
            )
        )


def known(reply: Mapping[str, object]) -> dict[str, Any]:
    """Return what sdwatch knows of a /progress reply, and nothing else: it is written into the
    heartbeat each second, and a reply may hold preview images, or anything. A job name of more than
    one word may be a prompt, so it becomes a digest."""
    state = reply.get("state")
    given = state if isinstance(state, Mapping) else {}
    job = given.get("job")
    kept: dict[str, object] = {"job": _name(job)} if isinstance(job, str) else {}
    return {**_numbers(reply, _NUMBERS), "state": kept | _numbers(given, _NUMBERS_OF_STATE)}


def _name(job: str) -> str:
    return job[:_LONGEST_JOB] if _A_NAME.fullmatch(job) else digest(job)[:16]


def progress_shown(progress: Mapping[str, Any]) -> dict[str, float]:
    """Return what people want to see of a call's progress, as far as the WebUI gives it: `step` of
    `steps`, `percent` (0 to 100), `eta` in seconds."""
    state = progress.get("state")
    given = _numbers(state, _NUMBERS_OF_STATE) if isinstance(state, Mapping) else {}
    top = _numbers(progress, _NUMBERS)
    far: dict[str, float] = {}
    share = top.get("progress")
    if (steps := int(given.get("sampling_steps", 0))) > 0:
        step = max(0, min(int(given.get("sampling_step", 0)), steps))
        far |= {"step": step, "steps": steps}
        share = share or step / steps
    if share is not None:
        far["percent"] = round(100 * max(0.0, min(share, 1.0)))
    if (eta := top.get("eta_relative", 0.0)) > 0:
        far["eta"] = round(eta, 1)
    return far


def _numbers(given: Mapping[str, object], names: tuple[str, ...]) -> dict[str, float]:
    """Return the finite ones: NaN is not JSON, and differs from itself, as if something had
    moved."""
    found = {name: given.get(name) for name in names}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST
    }


def _position(progress: Mapping[str, Any]) -> tuple[tuple[object, ...], bool]:
    """Return what changes while the generation advances, and whether no steps are expected now
    (job_count is -1 while Forge and AUTOMATIC1111 load a checkpoint; sampling_steps is 0 before
    sampling)."""
    state = progress["state"]
    position = (
        state.get("job"),
        state.get("job_no"),
        state.get("sampling_step"),
        progress.get("progress"),
    )
    return position, state.get("job_count") == -1 or not state.get("sampling_steps")
