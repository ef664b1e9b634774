"""One call of a job, each POST of it, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdwatch.policy.failure.reply_checks import Finding
from sdwatch.policy.report.envelope import ErrorEnvelope
from sdwatch.webui.http.reply import Reply


@dataclass(frozen=True)
class PreparedCall:
    """The arguments of generate_images_with_recovery. `payload`: including the fields that were
    `added` because this kind of WebUI needs them (see policy/job/completion.py)."""

    stage: str
    payload: Mapping[str, Any]
    run_dir: Path | None
    job_id: str | None
    added: Mapping[str, Any]


@dataclass(eq=False)
class Sent:
    """One POST, and the incarnation that it went to. Compared by identity. `first`: it was the
    first call of that incarnation. `lost`: it was abandoned, and an external WebUI may still
    generate it."""

    incarnation: int
    first: bool = False
    given_up: bool = False
    lost: bool = False


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
