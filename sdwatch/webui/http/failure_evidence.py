"""What a failed POST left behind: collected and explained, before anything is restarted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from sdwatch.errors import WebUIError, WebUIReplyError, WebUIUnreachableError
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.diagnosis import FailureFacts, diagnose, key_to_trace
from sdwatch.policy.failure.expression import Expression
from sdwatch.policy.failure.facts import checkpoint_named, names_checkpoint
from sdwatch.policy.failure.matching import printed_once
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.failure.tail_marks import no_output
from sdwatch.policy.failure.tracebacks import may_follow
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.lane.effects import ExplainFailure
from sdwatch.policy.lane.events import FailureExplained
from sdwatch.system.failpoints import failpoint
from sdwatch.webui.http.call import CallHandle
from sdwatch.webui.http.checked_reply import ReplyChecks
from sdwatch.webui.http.roles import CallSettings, SupervisedProcess
from sdwatch.webui.log.log_lines import split_lines, without_probes
from sdwatch.webui.process.host_snapshot import memory_in_words, memory_low

_TOOK_TOO_LONG = no_output("reading it took too long; does its disk or share hang?")


class PrintedSource(Protocol):
    """What a WebUI prints. See PrintedLines of the lane."""

    @property
    def is_known(self) -> bool: ...
    def lines(self) -> tuple[str, ...]: ...
    def first_lines_with(self, patterns: Sequence[Expression]) -> tuple[str, ...]: ...


class NothingPrinted:
    """Of a WebUI that nobody follows."""

    is_known = False

    def lines(self) -> tuple[str, ...]:
        """Return nothing."""
        return ()

    def first_lines_with(self, _: Sequence[Expression]) -> tuple[str, ...]:
        """Return nothing."""
        return ()


@dataclass(frozen=True)
class FailureEvidence:
    """What a failed POST left behind. `tails`: the WebUI's last lines; `own_lines`: those of the
    call alone, None where they cannot be separated; `host_snapshot`: as in machine.json."""

    facts: FailureFacts
    tails: Mapping[str, str]
    host_snapshot: Mapping[str, Any]
    own_lines: tuple[str, ...] | None


@dataclass(frozen=True)
class EvidenceSource:
    """Where the evidence of a WebUI comes from. `node`: returns the node of a workflow that it was
    seen in last, or ''."""

    process: SupervisedProcess
    settings: CallSettings
    reply_checks: ReplyChecks
    printed: PrintedSource
    node: Callable[[], str]

    def explain(self, effect: ExplainFailure, handle: CallHandle) -> FailureExplained:
        """Return what the failed POST left behind, explained."""
        error = effect.error
        if isinstance(error, WebUIReplyError):
            error = self.reply_checks.explain(error)
        facts = self._facts(effect, handle, error)
        # The log of somebody else's generation does not explain a call that is queued behind it.
        explanation = diagnose(facts, () if effect.lost else self._signatures)
        payload = handle.call.payload
        failpoint("FailureExplained", Path(handle.call.stage))
        key = key_to_trace(explanation, error, checkpoint_named(payload))
        return FailureExplained(
            effect.call,
            error,
            explanation,
            key and handle.shared(key, payload),
            self._evidence(facts, effect),
            unchanged=error.kind == "upscale_unchanged",
        )

    def _evidence(self, facts: FailureFacts, effect: ExplainFailure) -> FailureEvidence:
        if effect.without_log:
            return FailureEvidence(facts, {"output": _TOOK_TOO_LONG}, {}, None)
        host = self.settings.host_snapshots
        return FailureEvidence(
            facts,
            self.process.get_tail_logs(),
            host.at_failure() if host is not None else {},
            self._own_lines(facts.log, effect),
        )

    def _facts(self, effect: ExplainFailure, handle: CallHandle, error: WebUIError) -> FailureFacts:
        gone, code = self._exit(effect, error)
        host = self.settings.host_snapshots
        before = host.memory_before() if host is not None else None
        facts = FailureFacts(
            error,
            gone,
            code,
            () if effect.without_log else self.printed.lines(),
            memory_low(before),
            names_checkpoint=names_checkpoint(handle.call.payload),
            memory=memory_in_words(before),
            kind=(self.settings.catalogue() or Catalogue()).kind,
            node=self.node(),
        )
        wanted = () if effect.without_log else printed_once(facts, self._signatures)
        return replace(facts, once_lines=self.printed.first_lines_with(wanted)) if wanted else facts

    def _exit(self, effect: ExplainFailure, error: WebUIError) -> tuple[bool, int | None]:
        """Return whether the process of this POST ended, and its exit code."""
        if effect.exited and (may_follow(error) or isinstance(error, WebUIUnreachableError)):
            return True, effect.code
        if not isinstance(error, WebUIUnreachableError):
            return False, None
        return not self.process.is_process_alive(), None

    @property
    def _signatures(self) -> tuple[Signature, ...]:
        known = self.settings.signatures
        return builtin_signatures() if known is None else known

    def _own_lines(self, log: Sequence[str], effect: ExplainFailure) -> tuple[str, ...] | None:
        """Return the lines of `log` that belong to this call, without the access lines of probes;
        None where they cannot be separated from the lines of others' calls."""
        if effect.lost or not self.printed.is_known:
            return None
        lines, _ = without_probes(split_lines("\n".join(log)))
        return tuple(line.text for line in lines)
