"""One call of a job, each POST of it, and how it ended."""

from __future__ import annotations

import itertools
import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdwatch.errors import WebUIError
from sdwatch.policy.failure.facts import FailureKey, checkpoint_named
from sdwatch.policy.failure.prompts_sent import PromptToSend
from sdwatch.policy.failure.reply_checks import Finding, made_size
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.lane.effects import ToRun
from sdwatch.policy.lane.knowledge import PLAIN_SIDE, Plain, Size, Wanted
from sdwatch.policy.report.envelope import ErrorEnvelope
from sdwatch.system.failpoints import failpoint
from sdwatch.system.log_events import bound_facts
from sdwatch.webui.http.reply import Reply


def result_of(generate: Callable[[], Reply], name: str) -> Reply | WebUIError:
    """Return the reply, or the error with the seconds after which it came. Never raises: this is a
    thread's outer edge, and its result must reach whoever waits. `name`: what is generated, for the
    error and for failpoints."""
    began = time.monotonic()
    try:
        failpoint("post starts", Path(name))
        result: Reply | WebUIError = generate()
    except WebUIError as error:
        result = error
    except Exception as error:  # noqa: BLE001
        result = WebUIError(f"internal error of the request: {error!r}", stage=name)
    if isinstance(result, WebUIError) and result.after is None:
        result.after = time.monotonic() - began
    failpoint("post ends", Path(name))
    return result


_IDS = itertools.count(1)


@dataclass(frozen=True)
class PreparedCall:
    """The arguments of generate_images_with_recovery. `payload`: including the fields that were
    `added` because this kind of WebUI needs them (see policy/job/calls/payload.py)."""

    stage: str
    payload: Mapping[str, Any]
    run_dir: Path | None
    job_id: str | None
    added: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What the log calls it: the run, as everywhere in the log, or the job where none is."""
        return self.run_dir.name if self.run_dir else self.job_id or "a call"


def wanted_of(stage: str, payload: Mapping[str, Any]) -> Wanted:
    """Return the sizes of the pictures that a call makes, as far as its payload says; of one with a
    workflow of its own, that itself."""
    if STAGES[stage].runs_workflow:
        return Wanted(plain=Plain(workflow=payload))
    if not STAGES[stage].has_steps:
        return Wanted()
    width, height = made_size(payload)
    made = Size(width, height, max(1, int(payload.get("batch_size") or 1)))
    sides = (int(payload.get(side) or PLAIN_SIDE) for side in ("width", "height"))
    return Wanted(made, Plain(Size(*sides), checkpoint_named(payload)))


@dataclass(eq=False)
class CallHandle:
    """A call that a run waits for, as its lane knows it. `shared`: returns what identifies a
    failure, without the texts of the job. The messages to its run are in `inbox`; `facts`: what
    lines of the log about its next POST are about; `prompt`: what that sends, where it goes into a
    queue. `is_requested`: its loop has taken the request."""

    call: PreparedCall
    shared: Callable[[FailureKey, Mapping[str, Any]], FailureKey]
    id: int = field(default_factory=lambda: next(_IDS))
    inbox: queue.SimpleQueue[ToRun] = field(default_factory=queue.SimpleQueue)
    sent: Sent | None = None
    facts: dict[str, object] = field(default_factory=bound_facts)
    prompt: PromptToSend | None = None
    is_requested: bool = False


@dataclass(eq=False)
class Sent:
    """One POST. Compared by identity. `given_up`: nobody waits for its reply. `interrupted`: by
    sdwatch, so that its reply is not a picture for a job. `is_under_way`: its thread may hang."""

    number: int
    given_up: bool = False
    interrupted: bool = False
    is_under_way: bool = False


@dataclass(frozen=True)
class Outcome:
    """The outcome of one call: `reply` if it succeeded, else `envelope`.

    `later`: the failure is not final; the same call may be made again with the same ledger once the
    WebUI is ready. `warnings`: about a success, and about the settings that the call left behind.
    `added`: fields that the job left out and this kind of WebUI needs.
    """

    reply: Reply | None = None
    envelope: ErrorEnvelope | None = None
    later: bool = False
    warnings: tuple[Finding, ...] = ()
    added: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Return whether there are images."""
        return self.reply is not None
