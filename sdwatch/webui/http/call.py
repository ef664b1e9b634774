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
class Call:
    """What generate_images_with_recovery was asked for. `payload`: with what was `added` to it, as
    this kind of WebUI needs it (see policy/completion.py)."""

    stage: str
    payload: Mapping[str, Any]
    run_dir: Path | None
    job_id: str | None
    added: Mapping[str, Any]


@dataclass(eq=False)
class Sent:
    """One POST of it, and to which life of the WebUI it went; `first`: as its first call. Told
    apart by identity. `lost`: it was abandoned, and a WebUI that is not ours may draw it yet."""

    incarnation: int
    first: bool = False
    given_up: bool = False
    lost: bool = False


@dataclass(frozen=True)
class Outcome:
    """Of one call. `reply` where it succeeded, else `envelope`. `later`: not failed for good; the
    same call may be made again with the same ledger once the WebUI is ready. `warnings`: what is
    to be known of a success, and of the settings that the call left behind. `added`: fields that
    the job left out and this kind of WebUI needs."""

    reply: Reply | None = None
    envelope: ErrorEnvelope | None = None
    later: bool = False
    warnings: tuple[Finding, ...] = ()
    added: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there are images."""
        return self.reply is not None
