"""Record a crash-aware call: its ledger in the run's journal, its evidence beside it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sdwatch.errors import RunStoppedError, WebUIError
from sdwatch.policy.failure.diagnosis import Explanation
from sdwatch.policy.failure.error_lines import lines_that_matter
from sdwatch.policy.failure.facts import FailureKey
from sdwatch.policy.failure.ledger import CallLedger
from sdwatch.policy.failure.prompts_sent import SentPrompt, unseen_prompts
from sdwatch.policy.failure.recovery import Decision, counts
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
from sdwatch.spool.patient_disk import PatientDisk
from sdwatch.spool.run import Run
from sdwatch.system import disk
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about, bind

log = logging.getLogger("sdwatch.spool")

_LONGEST_MESSAGE = 2000

EVIDENCE_WAIT = 20.0
"""Seconds for which evidence is written again while the disk refuses it: a share that is restarted
costs none. Shorter than the time after which a record is overdue, which holds the lane."""


class Witness:
    """Who must know of a POST before it goes out, besides the journal: the machine that a run came
    from, where that may outlive this one. For this machine's own runs the journal is enough, and
    this does nothing. `may_start` and `started` are called by the run's thread, `pause` by the main
    thread."""

    def may_start(self, run: Run, sent: int) -> None:
        """Return if a call may be sent that was sent `sent` times before. Raises RunStoppedError if
        it may not, for now."""

    def started(self, run: Run, sent: int) -> None:
        """Return once it is known elsewhere that the POST goes out whose start was just recorded;
        the call was sent `sent` times before. Raises RunStoppedError: then it must not go out."""

    def pause(self, run_id: str) -> float:
        """Return in how many seconds a run that was stopped may resume."""
        del run_id
        return 0.0


LASTS = 3600.0
"""Seconds after which the same fault is a new one."""


@dataclass(frozen=True)
class FaultRecord:
    """How often a fault was met, and the run whose folder has its evidence."""

    times: int
    run: str


class Faults:
    """The fault that one lane met last, so that the evidence of a lasting one is written once, not
    for each run that meets it. Safe between threads.

    A WebUI that is busy, or unusable as it is set up, costs no job: its lane goes on hold, runs are
    suspended, and each may meet the same fault when the lane is checked again, for hours. The first
    run that meets it has the evidence. A later run with the same diagnosis and message on the same
    lane writes one journal line that counts it and names the run with the evidence. A failure that
    ends a run, or costs a restart, always has its own evidence: each failed folder explains itself.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._fault = ""
        self._met = FaultRecord(0, "")
        self._last = 0.0

    def meet(self, fault: str, run: str) -> FaultRecord:
        """Count that `run` met the fault now. If `times` is 1, this run writes the evidence."""
        with self._lock:
            now = self._clock.monotonic()
            lasts = fault == self._fault and now - self._last < LASTS
            met = self._met
            self._met = FaultRecord(met.times + 1, met.run) if lasts else FaultRecord(1, run)
            self._fault, self._last = fault, now
            return self._met

    def not_written(self) -> None:
        """Note that the disk refused the evidence: the next run that meets the fault writes it."""
        with self._lock:
            self._fault = ""


class RunRecorder:
    """Records the calls of `run`, one after the other: their ledger is its journal. `select_call`
    says which call is meant. `disk`: that of the run; what must not be missing there is written
    however long it refuses. `faults`: what the other runs of its lane met."""

    def __init__(
        self,
        run: Run,
        redactor: Redactor,
        clock: Clock,
        disk: PatientDisk | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.disk = disk or PatientDisk(run, clock)
        self._faults = faults or Faults(clock)
        self.before_start: Callable[[], None] = _nothing
        """Called before a start is recorded; what it raises keeps the POST from going out."""
        self.witness = Witness()
        self._run = run
        self._redactor = redactor
        self._call = ""
        self._files: list[str] = []
        self._attempts: list[FailedAttempt] = []
        self._incarnation = 0  # to which the last POST went
        self._lane = ""  # of that

    def select_call(self, call_id: str, payload: Mapping[str, Any]) -> None:
        """Select the call whose ledger is meant from now on; `payload`: what it will send."""
        self._call = call_id
        bind(call=call_id, attempt=None, incarnation=None)
        self._redactor.learn(payload)
        self._files = list(self._run.ledger.evidence)
        self._attempts = [attempt_from(record) for record in self._run.failures_of(call_id)]

    @property
    def _ledger(self) -> CallLedger:
        return self._run.ledger.call(self._call)

    @property
    def counted(self) -> int:
        """Return failed attempts that count."""
        return self._ledger.counted

    @property
    def sent(self) -> int:
        """Return how often the call was sent, without attempts that a clean stop gave up."""
        return self._ledger.sent - self._ledger.given_up

    @property
    def excused(self) -> int:
        """Return attempts that the self-test blamed on the WebUI."""
        return self._ledger.excused

    @property
    def crash_count(self) -> int:
        """Return how often this call crashed the WebUI, without what the self-test excused."""
        return self._ledger.crash_count

    @property
    def attempts(self) -> tuple[FailedAttempt, ...]:
        """Return the failed attempts so far, oldest first."""
        return tuple(self._attempts)

    @property
    def may_send(self) -> bool:
        """Return whether the call may be sent once more (promise 3)."""
        return self._ledger.may_be_sent

    def unseen_prompts(self) -> tuple[SentPrompt, ...]:
        """Return the prompts of earlier attempts whose result nobody has seen, newest first."""
        if not self._ledger.sent:
            return ()  # and the journal, which may be long, need not be read
        return unseen_prompts(self._run.records, self._call)

    def place_of(self, lane: str) -> str:
        """Return what the `lane` of a failed attempt is where it was made by this lane here."""
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
        """Record that a POST goes out, to this incarnation of the WebUI of `lane`. `prompt_id`: of
        what it queues, '' for nothing. `log_offset`: see BeforePost. `unseen`: earlier prompts may
        have a result."""
        self.before_start()
        before = self.sent
        self.witness.may_start(self._run, before)
        self._incarnation, self._lane = incarnation, lane
        sent = self._ledger.sent + 1
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
        said = None
        if printed is not None:
            said = self._redactor.redact(shortened("\n".join(printed), MOST_AT_ONCE))
        record = {  # a WebUI's texts may echo a prompt
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
            "seconds": self.seconds,
        }
        self.disk.insist(lambda: self._run.record("call_failed", call=self._call, **record))
        self._attempts.append(attempt_from(self._run.failures_of(self._call)[-1]))

    def shared(self, failure: FailureKey, payload: Mapping[str, Any]) -> FailureKey:
        """Return what identifies a failure, without the texts of the job."""
        self._redactor.learn(payload)
        return failure.shared(self._said)

    def self_tested(self, self_test_failure: str, decision: Decision) -> None:
        """Record a self-test: why it failed, or "" if it passed, and what the gate returned."""
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
        over = self._ledger.over
        if over is None:
            return None
        last = self._run.failures_of(self._call)[-1]
        return envelope_of(last, over, stage, self.attempts, tuple(self._files))

    def call_not_sent(self, why: str) -> None:
        """Record that the POST whose start was recorded does not go out."""
        self.disk.insist(lambda: self._run.give_up_calls(why))

    def call_given_up(self, why: str) -> None:
        """Record that the call was given up."""
        self.disk.give_up(why)

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
        if fault and (met := self._faults.meet(fault, self._run.run_id)).times > 1:
            again = {"call": self._call, "times": met.times, "evidence_in": met.run}
            self.disk.insist(lambda: self._run.record("same_fault", **again))
            return tuple(self._files)
        names = self._write_evidence(run_dir, payload, tail, host_snapshot)
        if names:
            self._files += [name for name in names if name not in self._files]
            self.disk.insist(lambda: self._run.record("evidence", call=self._call, files=names))
        elif fault:
            self._faults.not_written()
        return tuple(self._files)

    def _write_evidence(
        self,
        run_dir: Path | None,
        payload: Mapping[str, Any],
        tail: Mapping[str, str],
        host_snapshot: Mapping[str, Any] | None,
    ) -> tuple[str, ...]:
        """Write a set of evidence, and return the names of its files."""
        self._redactor.learn(payload)
        if run_dir is None:
            return ()
        try:
            return self.disk.retry(
                lambda: write_evidence(run_dir, payload, tail, self._redactor, host_snapshot),
                EVIDENCE_WAIT,
            )
        except OSError as error:
            log.error(
                "%s: the evidence could not be written: %s",
                run_dir,
                disk.in_words(error),
                extra=about(LogEvent.DISK_REFUSES, run=run_dir.name),
            )
            return ()

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

    @property
    def is_under_way(self) -> bool:
        """Return whether a POST was sent whose end is not recorded."""
        return self._ledger.open

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
