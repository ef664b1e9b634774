"""Record a crash-aware call: its ledger in the run's journal, its evidence beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sdwatch.errors import RunStoppedError, WebUIError
from sdwatch.policy.failure.diagnosis import Explanation
from sdwatch.policy.failure.error_lines import lines_that_matter
from sdwatch.policy.failure.facts import FailureKey
from sdwatch.policy.failure.prompts_sent import SentPrompt, unseen_prompts
from sdwatch.policy.failure.recovery import SENT_AT_MOST, Action, Decision, counts
from sdwatch.policy.failure.reply_checks import Finding
from sdwatch.policy.privacy.printable import shortened
from sdwatch.policy.privacy.redaction import MOST_AT_ONCE, Redactor
from sdwatch.policy.report.envelope import (
    ErrorEnvelope,
    FailedAttempt,
    attempt_from,
    envelope_of,
)
from sdwatch.spool.diagnostics import write_evidence
from sdwatch.spool.lasting_faults import Faults
from sdwatch.spool.patient_disk import PatientDisk
from sdwatch.spool.run import Run
from sdwatch.spool.witness import NoWitness, Witness
from sdwatch.system import disk
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about, bind

log = logging.getLogger("sdwatch.spool")

_LONGEST_MESSAGE = 2000

EVIDENCE_WAIT = 20.0
"""Seconds for which evidence is written again while the disk refuses it: a share that is restarted
costs none. Shorter than the time after which a record is overdue, which holds the lane."""


class EvidenceRecorder:
    """Writes evidence, and keeps the ledger of one call in memory: for calls without a run."""

    def __init__(self, redactor: Redactor | None = None) -> None:
        self._redactor = redactor or Redactor()
        self._attempts: list[FailedAttempt] = []
        self._files: list[str] = []
        self._excused = 0
        self._crash_count = 0
        self._sent = 0
        self._incarnation = 0  # to which the last POST went
        self._lane = ""  # of that

    @property
    def counted(self) -> int:
        """Return failed attempts that count."""
        return sum(attempt.counted for attempt in self._attempts) - self.excused

    @property
    def sent(self) -> int:
        """Return how often the call was sent, without attempts that a clean stop gave up."""
        return self._sent

    @property
    def excused(self) -> int:
        """Return attempts that the self-test blamed on the WebUI."""
        return self._excused

    @property
    def crash_count(self) -> int:
        """Return how often this call crashed the WebUI, without what the self-test excused."""
        return self._crash_count

    @property
    def attempts(self) -> tuple[FailedAttempt, ...]:
        """Return the failed attempts so far, oldest first."""
        return tuple(self._attempts)

    @property
    def may_send(self) -> bool:
        """Return whether the call may be sent once more (promise 3)."""
        return self.sent < SENT_AT_MOST

    def unseen_prompts(self) -> tuple[SentPrompt, ...]:
        """Return the prompts of earlier attempts whose result nobody has seen, newest first."""
        return ()

    def place_of(self, lane: str) -> str:
        """Return what the `lane` of a failed attempt is where it was made by this lane here."""
        return lane

    def call_started(
        self,
        incarnation: int,
        prompt_id: str = "",
        *,
        lane: str = "",
        log_offset: tuple[int, ...] = (),
        unseen: bool = False,
    ) -> None:
        """Record that a POST goes out, to this incarnation of the WebUI of `lane`. `prompt_id`: of
        what it queues, '' for nothing. `log_offset`: see BeforePost. `unseen`: earlier prompts may
        have a result."""
        del prompt_id, log_offset, unseen  # for a recorder with a journal
        self._incarnation, self._lane = incarnation, lane
        self._sent += 1

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
        self._attempts.append(attempt_from(self._recorded(record)))
        self._crash_count += crashed

    def _recorded(self, failure: dict[str, Any]) -> Mapping[str, Any]:
        return failure

    def shared(self, failure: FailureKey, payload: Mapping[str, Any]) -> FailureKey:
        """Return what identifies a failure, without the texts of the job."""
        self._redactor.learn(payload)
        return failure.shared(self._said)

    def self_tested(self, self_test_failure: str, decision: Decision) -> None:
        """Record a self-test: why it failed, or "" if it passed, and what the gate returned."""
        del self_test_failure  # for a recorder with a journal
        self._excused += decision.excuses
        again = decision.action is Action.TEST_AGAIN
        self._crash_count = 0 if decision.excuses else self._crash_count + again

    def call_not_sent(self, why: str) -> None:
        """Record that the POST whose start was recorded does not go out."""

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
        host_snapshot: Mapping[str, Any] | None = None,
        fault: str = "",
    ) -> tuple[str, ...]:
        """Write the evidence of the last failure, and return all evidence files so far. Evidence
        that the disk refuses for EVIDENCE_WAIT is only logged. Only what the journal must have is
        insisted on: that some was written, and the failure."""
        del fault  # for a recorder that knows other runs
        self._write_evidence(run_dir, payload, tail, host_snapshot)
        return tuple(self._files)

    def _write_evidence(
        self,
        run_dir: Path | None,
        payload: Mapping[str, Any],
        tail: Mapping[str, str],
        host_snapshot: Mapping[str, Any] | None,
    ) -> list[str]:
        """Write a set of evidence, and return the names of its files."""
        self._redactor.learn(payload)
        if run_dir is None:
            return []
        try:
            names = self._retry_for_a_while(
                lambda: write_evidence(run_dir, payload, tail, self._redactor, host_snapshot)
            )
        except OSError as error:
            log.error(
                "%s: the evidence could not be written: %s",
                run_dir,
                disk.in_words(error),
                extra=about(LogEvent.DISK_REFUSES, run=run_dir.name),
            )
            return []
        self._files += [name for name in names if name not in self._files]
        return list(names)

    def _retry_for_a_while(self, write: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
        return write()

    def _said(self, text: str) -> str:
        """Return what a WebUI said, first redacted and then cut."""
        return shortened(self._redactor.redact(text), _LONGEST_MESSAGE)

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
            "raised": self._said(error.kind),
            "signature": explanation.key.signature,
            "status": error.status,
            "message": self._said(explanation.cause),
            "exit_code": exit_code,
            "counted": counts(explanation.diagnosis),
            "crashed": crashed,
            "first_call": first_call,
            "incarnation": self._incarnation,
            "lane": self.place_of(self._lane),
            "after": None if error.after is None else round(error.after, 3),
            "evidence": self._said(explanation.evidence),
            "repeats": explanation.repeats,
            "failure": explanation.key.shared(self._said).digest,
            "blame": explanation.blames,
            "advice": self._said(explanation.advice),
            **self._decided(decision),
            "lines": None if said is None else lines_that_matter(said),
            "probes": asdict(error.probes) if error.probes else None,
        }


class RunRecorder(EvidenceRecorder):
    """Does the same for a run: its ledger is the run's journal. `select_call` says which call is
    meant. `disk`: that of the run; what must not be missing there is written however long it
    refuses. `faults`: what the other runs of its lane met.
    """

    def __init__(
        self,
        run: Run,
        redactor: Redactor,
        clock: Clock,
        disk: PatientDisk | None = None,
        faults: Faults | None = None,
    ) -> None:
        super().__init__(redactor)
        self.disk = disk or PatientDisk(run, clock)
        self._faults = faults or Faults(clock)
        self.before_start: Callable[[], None] = _nothing
        """Called before a start is recorded; what it raises keeps the POST from going out."""
        self.witness: Witness = NoWitness()
        self._run = run
        self._call = ""

    def select_call(self, call_id: str, payload: Mapping[str, Any]) -> None:
        """Select the call whose ledger is meant from now on; `payload`: what it will send."""
        self._call = call_id
        bind(call=call_id, attempt=None, incarnation=None)
        self._redactor.learn(payload)
        self._files = list(self._run.ledger.evidence)
        self._attempts = [attempt_from(record) for record in self._run.failures_of(call_id)]

    @property
    def sent(self) -> int:
        call = self._run.ledger.call(self._call)
        return call.sent - call.given_up

    @property
    def may_send(self) -> bool:
        return self._run.ledger.call(self._call).may_be_sent

    def unseen_prompts(self) -> tuple[SentPrompt, ...]:
        if not self._run.ledger.call(self._call).sent:
            return ()  # and the journal, which may be long, need not be read
        return unseen_prompts(self._run.records, self._call)

    def place_of(self, lane: str) -> str:
        handed = self._run.ledger.handed_over
        return f"{lane} of hand-over {handed.epoch}" if handed.received else lane

    def call_started(
        self,
        incarnation: int,
        prompt_id: str = "",
        *,
        lane: str = "",
        log_offset: tuple[int, ...] = (),
        unseen: bool = False,
    ) -> None:
        self.before_start()
        before = self.sent
        self.witness.may_start(self._run, before)
        self._incarnation, self._lane = incarnation, lane
        sent = self._run.ledger.call(self._call).sent + 1
        more: dict[str, Any] = {"prompt_id": prompt_id} if prompt_id else {}
        if log_offset:
            more |= {"lane": lane, "log_offset": list(log_offset)}
        self._run.record(
            "call_started", call=self._call, attempt=sent, incarnation=incarnation, **more
        )
        bind(attempt=sent, incarnation=incarnation)
        try:
            self.witness.started(self._run, before)
        except RunStoppedError as error:
            self.call_given_up(str(error))
            raise
        began = "asks for the result of an earlier attempt" if unseen else "sent"
        event = about(LogEvent.CALL_STARTED)
        log.info("%s: %s: %s", self._run.run_id, self._call, began, extra=event)

    @property
    def counted(self) -> int:
        return self._run.ledger.call(self._call).counted

    @property
    def excused(self) -> int:
        return self._run.ledger.call(self._call).excused

    @property
    def crash_count(self) -> int:
        return self._run.ledger.call(self._call).crash_count

    def _recorded(self, failure: dict[str, Any]) -> Mapping[str, Any]:
        failure["seconds"] = self.seconds
        self.disk.insist(lambda: self._run.record("call_failed", call=self._call, **failure))
        return self._run.failures_of(self._call)[-1]

    def self_tested(self, self_test_failure: str, decision: Decision) -> None:
        record = {
            "self_test_passed": not self_test_failure,
            "unhealthy": self._said(self_test_failure),
            "excused": decision.excuses,
            "blame": decision.blame,
            **self._decided(decision),
        }
        self.disk.insist(lambda: self._run.record("call_self_tested", call=self._call, **record))

    def failed_before(self, stage: str) -> ErrorEnvelope | None:
        """Return why this call has failed for good, or None. The journal says so where a monitor
        died between that decision and the end of the run."""
        over = self._run.ledger.call(self._call).over
        if over is None:
            return None
        last = self._run.failures_of(self._call)[-1]
        return envelope_of(last, over, stage, self.attempts, tuple(self._files))

    def call_not_sent(self, why: str) -> None:
        self.disk.insist(lambda: self._run.give_up_calls(why))

    def call_given_up(self, why: str) -> None:
        self.disk.give_up(why)

    def evidence(
        self,
        run_dir: Path | None,
        payload: Mapping[str, Any],
        tail: Mapping[str, str],
        *,
        host_snapshot: Mapping[str, Any] | None = None,
        fault: str = "",
    ) -> tuple[str, ...]:
        if fault and (met := self._faults.meet(fault, self._run.run_id)).times > 1:
            again = {"call": self._call, "times": met.times, "evidence_in": met.run}
            self.disk.insist(lambda: self._run.record("same_fault", **again))
            return tuple(self._files)
        names = self._write_evidence(run_dir, payload, tail, host_snapshot)
        if names:
            self.disk.insist(lambda: self._run.record("evidence", call=self._call, files=names))
        elif fault:
            self._faults.not_written()
        return tuple(self._files)

    def _retry_for_a_while(self, write: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
        return self.disk.retry(write, EVIDENCE_WAIT)

    @property
    def is_under_way(self) -> bool:
        """Return whether a POST was sent whose end is not recorded."""
        return self._run.ledger.call(self._call).open

    @property
    def under_way(self) -> float:
        """Return the seconds since the POST went out; 0 where none is under way."""
        return self.seconds if self.is_under_way else 0.0

    @property
    def seconds(self) -> float:
        """Return the seconds since the POST went out."""
        return self._run.seconds


def _nothing() -> None:
    """Nothing keeps it from starting."""


def _printed(text: str) -> dict[str, Any]:
    """Return what the WebUI wrote of it: a line, or several."""
    lines = text.splitlines()
    if len(lines) > 1:
        return {"lines": lines}
    return {"line": text} if text else {}
