"""What a failed POST left behind: collected and explained, before anything is restarted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sdwatch.errors import WebUIError, WebUIReplyError, WebUIUnreachableError
from sdwatch.policy.failure.diagnosis import FailureFacts, diagnose, what_failed
from sdwatch.policy.failure.facts import checkpoint_named, names_checkpoint
from sdwatch.policy.failure.matching import printed_once
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.failure.tracebacks import may_follow
from sdwatch.policy.job.catalogue import Catalogue
from sdwatch.policy.lane.effects import CaptureTail
from sdwatch.policy.lane.events import TailCaptured
from sdwatch.signatures import builtin_signatures
from sdwatch.system.failpoints import failpoint
from sdwatch.webui.http.call import CallHandle, Captured
from sdwatch.webui.http.reply_checks import ReplyChecks
from sdwatch.webui.http.roles import CallSettings, SupervisedProcess
from sdwatch.webui.log.log_lines import split_lines, without_probes
from sdwatch.webui.log.tail_capture import first_lines_with
from sdwatch.webui.process.host_snapshot import memory_in_words, memory_low


@dataclass(frozen=True)
class TailSource:
    """Where the evidence of a WebUI comes from. `log`: returns its lines since the POST went out,
    oldest first; `log_paths`: of its output, () where that cannot be read; `node`: returns the node
    of a workflow that it was seen in last, or ''."""

    process: SupervisedProcess
    settings: CallSettings
    reply_checks: ReplyChecks
    log: Callable[[], tuple[str, ...]]
    log_paths: Callable[[], Sequence[Path]]
    node: Callable[[], str]

    def capture(self, effect: CaptureTail, handle: CallHandle) -> TailCaptured:
        """Return what the failed POST left behind, explained."""
        error = effect.error
        if isinstance(error, WebUIReplyError):
            error = self.reply_checks.explain(error)
        facts = self._facts(effect, handle, error)
        # The log of somebody else's generation does not explain a call that is queued behind it.
        explanation = diagnose(facts, () if effect.lost else self._signatures)
        payload = handle.call.payload
        failpoint("TailCaptured", Path(handle.call.stage))
        key = what_failed(explanation, error, checkpoint_named(payload))
        host = self.settings.host_snapshots
        return TailCaptured(
            effect.call,
            error,
            explanation,
            key and handle.shared(key, payload),
            Captured(
                facts,
                self.process.get_tail_logs(),
                host.at_failure() if host is not None else {},
                self._printed(facts.log, effect),
            ),
            unchanged=error.kind == "upscale_unchanged",
        )

    def _facts(self, effect: CaptureTail, handle: CallHandle, error: WebUIError) -> FailureFacts:
        gone, code = self._exit(effect, error)
        host = self.settings.host_snapshots
        before = host.memory_before() if host is not None else None
        facts = FailureFacts(
            error,
            gone,
            code,
            self.log(),
            memory_low(before),
            names_checkpoint=names_checkpoint(handle.call.payload),
            memory=memory_in_words(before),
            kind=(self.settings.catalogue() or Catalogue()).kind,
            node=self.node(),
        )
        wanted = printed_once(facts, self._signatures)
        paths = self.log_paths()
        return (
            replace(facts, printed=first_lines_with(paths, wanted)) if wanted and paths else facts
        )

    def _exit(self, effect: CaptureTail, error: WebUIError) -> tuple[bool, int | None]:
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

    def _printed(self, log: Sequence[str], effect: CaptureTail) -> tuple[str, ...] | None:
        """Return the lines of `log` that belong to this call, without the access lines of probes;
        None where they cannot be separated from the lines of others' calls."""
        if effect.lost or not self.log_paths():
            return None
        lines, _ = without_probes(split_lines("\n".join(log)))
        return tuple(line.text for line in lines)
