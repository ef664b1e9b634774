"""Record a crash-aware call: its ledger in the run's journal, its evidence beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sdwatch.errors import WebUIError
from sdwatch.policy.failure.diagnosis import Explanation
from sdwatch.policy.failure.error_lines import lines_that_matter
from sdwatch.policy.failure.failure_key import FailureKey
from sdwatch.policy.failure.recovery import Decision, counts
from sdwatch.policy.failure.reply_checks import Finding
from sdwatch.policy.privacy.cuts import shortened
from sdwatch.policy.privacy.redaction import MOST_AT_ONCE, Redactor
from sdwatch.policy.report.envelope import FailedAttempt, attempt_from
from sdwatch.spool.diagnostics import write_evidence
from sdwatch.spool.faults import Faults
from sdwatch.spool.run import Run
from sdwatch.system.clock import Clock

log = logging.getLogger("sdwatch.spool")

_LONGEST_MESSAGE = 2000


class EvidenceRecorder:
    """Write evidence, and keep the ledger of one call in memory: for calls without a run."""

    def __init__(self, redactor: Redactor | None = None) -> None:
        self._redactor = redactor or Redactor()
        self._attempts: list[FailedAttempt] = []
        self._files: list[str] = []
        self._excused = 0
        self._incarnation = 0  # to which the last POST went

    @property
    def counted(self) -> int:
        """Failed attempts that count."""
        return sum(attempt.counted for attempt in self._attempts) - self.excused

    @property
    def sent(self) -> int:
        """How often the call was sent, without attempts that a clean stop gave up."""
        return len(self._attempts) + 1

    @property
    def excused(self) -> int:
        """Attempts that the self-test blamed on the WebUI."""
        return self._excused

    @property
    def attempts(self) -> tuple[FailedAttempt, ...]:
        """The failed attempts so far, oldest first."""
        return tuple(self._attempts)

    def call_started(self, incarnation: int) -> None:
        """Record that a POST goes out, to this incarnation of the WebUI."""
        self._incarnation = incarnation

    def call_failed(
        self,
        explanation: Explanation,
        error: WebUIError,
        decision: Decision,
        exit_code: int | None,
        *,
        crashed: bool = False,
        printed: Sequence[str] | None = None,
        first_call: bool = False,
    ) -> None:
        """Record a failure and what the gate returned. `crashed`: the WebUI must be restarted;
        `printed`: its lines during the call, where they are known; `first_call`: of its
        incarnation."""
        record = self._failure(
            explanation, error, decision, exit_code, crashed, printed, first_call
        )
        self._attempts.append(attempt_from(record))

    def shared(self, failure: FailureKey, payload: Mapping[str, Any]) -> FailureKey:
        """Return what identifies a failure, without the texts of the job."""
        self._redactor.learn(payload)
        return failure.shared(self._said)

    def proven(self, self_test_failure: str, decision: Decision) -> None:
        """Record a self-test: why it failed, or "" if it passed, and what the gate returned."""
        del self_test_failure  # for a recorder with a journal
        self._excused += decision.excuses

    def call_given_up(self, why: str) -> None:
        """Record that the call was given up."""

    def warnings(self, found: Sequence[Finding]) -> list[dict[str, Any]]:
        """Return the warnings about a successful call, in the form of the journal."""
        return [
            {
                "kind": finding.kind,
                "words": self._said(finding.words),
                **_printed(self._said(finding.line)),
            }
            for finding in found
        ]

    def evidence(
        self,
        run_dir: Path | None,
        payload: Mapping[str, Any],
        tail: Mapping[str, str],
        *,
        machine: Mapping[str, Any] | None = None,
        fault: str = "",
    ) -> tuple[str, ...]:
        """Write the evidence of the last failure, and return all evidence files so far. A full disk
        must not keep the WebUI from being restarted, so it is only logged."""
        del fault  # for a recorder that knows other runs
        self._redactor.learn(payload)
        if run_dir is None:
            return ()
        try:
            names = write_evidence(run_dir, payload, tail, self._redactor, machine)
        except OSError as error:
            log.error("%s: the evidence could not be written: %s", run_dir, error)
        else:
            self._files += [name for name in names if name not in self._files]
        return tuple(self._files)

    def _said(self, text: str, most: int = _LONGEST_MESSAGE) -> str:
        """Return what a WebUI said, first redacted and then cut."""
        return shortened(self._redactor.redact(text), most)

    def _decided(self, decision: Decision) -> dict[str, Any]:
        """Return a decision of the gate, in codes and as text. The text may echo a WebUI, since it
        says why a self-test failed."""
        return {
            "action": decision.action,
            "ground": decision.ground,
            "why": self._said(decision.why),
            "decision": self._said(decision.words),
        }

    def _failure(
        self,
        explanation: Explanation,
        error: WebUIError,
        decision: Decision,
        exit_code: int | None,
        crashed: bool,
        printed: Sequence[str] | None,
        first_call: bool,
    ) -> dict[str, Any]:
        """Return a failed attempt in the form of the journal. A WebUI's texts may echo a prompt."""
        said = None
        if printed is not None:
            said = self._redactor.redact(shortened("\n".join(printed), MOST_AT_ONCE))
        return {
            "diagnosis": str(explanation.diagnosis),
            "error": type(error).__name__,
            "status": error.status,
            "message": self._said(explanation.cause),
            "exit_code": exit_code,
            "counted": counts(explanation.diagnosis),
            "crashed": crashed,
            "first_call": first_call,
            "incarnation": self._incarnation,
            "after": None if error.after is None else round(error.after, 3),
            "evidence": self._said(explanation.evidence),
            "repeats": explanation.repeats,
            "failure": explanation.key.shared(self._said).digest,
            **self._decided(decision),
            "lines": None if said is None else lines_that_matter(said),
            "probes": asdict(error.probes) if error.probes else None,
        }


class RunRecorder(EvidenceRecorder):
    """The same for a run: its ledger is the run's journal. `take_up` says which call is meant.
    `faults`: what the other runs of its lane met.

    `insist` writes what must not be missing there, however long the disk refuses it: a failure that
    is not written down would read as the monitor's own death.
    """

    def __init__(
        self, run: Run, redactor: Redactor, clock: Clock, faults: Faults | None = None
    ) -> None:
        super().__init__(redactor)
        self._faults = faults or Faults(clock)
        self.insist: Callable[[Callable[[], None]], object] = lambda effect: effect()
        self._run = run
        self._clock = clock
        self._call = ""
        self._began = 0.0

    def take_up(self, call_id: str, payload: Mapping[str, Any]) -> None:
        """The call whose ledger is meant from now on, and what it will send."""
        self._call = call_id
        self._redactor.learn(payload)
        self._files = list(self._run.ledger.evidence)
        self._attempts = [
            attempt_from(record)
            for record in self._run.records
            if record["event"] == "call_failed" and record["call"] == call_id
        ]

    @property
    def sent(self) -> int:
        call = self._run.ledger.call(self._call)
        return call.sent - call.given_up

    def call_started(self, incarnation: int) -> None:
        self._incarnation = incarnation
        self._began = self._clock.monotonic()
        sent = self._run.ledger.call(self._call).sent + 1
        self._run.record("call_started", call=self._call, attempt=sent, incarnation=incarnation)

    @property
    def excused(self) -> int:
        return self._run.ledger.call(self._call).excused

    def call_failed(
        self,
        explanation: Explanation,
        error: WebUIError,
        decision: Decision,
        exit_code: int | None,
        *,
        crashed: bool = False,
        printed: Sequence[str] | None = None,
        first_call: bool = False,
    ) -> None:
        record = self._failure(
            explanation, error, decision, exit_code, crashed, printed, first_call
        )
        record["seconds"] = self.seconds
        self.insist(lambda: self._run.record("call_failed", call=self._call, **record))
        self._attempts.append(attempt_from(self._run.records[-1]))

    def proven(self, self_test_failure: str, decision: Decision) -> None:
        record = {
            "well": not self_test_failure,
            "unwell": self._said(self_test_failure),
            "excused": decision.excuses,
            **self._decided(decision),
        }
        self.insist(lambda: self._run.record("call_proven", call=self._call, **record))

    def call_given_up(self, why: str) -> None:
        if self._run.ledger.call(self._call).open:
            self._run.record("call_given_up", call=self._call, why=why)

    def evidence(
        self,
        run_dir: Path | None,
        payload: Mapping[str, Any],
        tail: Mapping[str, str],
        *,
        machine: Mapping[str, Any] | None = None,
        fault: str = "",
    ) -> tuple[str, ...]:
        if fault and (met := self._faults.meet(fault, self._run.run_id)).times > 1:
            again = {"call": self._call, "times": met.times, "evidence_in": met.run}
            self.insist(lambda: self._run.record("same_fault", **again))
            return tuple(self._files)
        before = len(self._files)
        files = super().evidence(run_dir, payload, tail, machine=machine)
        if len(files) > before:
            new = list(files[before:])
            self.insist(lambda: self._run.record("evidence", call=self._call, files=new))
        elif fault:
            self._faults.not_written()
        return files

    @property
    def seconds(self) -> float:
        """Since the POST went out."""
        return round(self._clock.monotonic() - self._began, 3)


def _printed(text: str) -> dict[str, Any]:
    """Return what the WebUI wrote of it: a line, or several."""
    lines = text.splitlines()
    if len(lines) > 1:
        return {"lines": lines}
    return {"line": text} if text else {}
