"""One run that is on a box, as the dispatcher sees it: its thread keeps the folder in the shared
spool up to date, and publishes it from there."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdwatch.cluster.broker import Broker, BrokerGoneError, LogMovedError
from sdwatch.cluster.objects import MissingObjectError
from sdwatch.cluster.run_files import store_run, why_not, write_file
from sdwatch.errors import FileProblems, RunCancelledError, RunStoppedError, SdwatchError
from sdwatch.monitor.placement import ANY_BOX
from sdwatch.policy.cluster import dispatching, names
from sdwatch.policy.cluster.dispatching import Wish, dispatcher_step
from sdwatch.policy.cluster.entries import (
    BoxEnd,
    Closed,
    Ended,
    Granted,
    LinesStored,
    StoredFile,
    TakenBack,
    TakenFor,
)
from sdwatch.policy.cluster.lines import lines_in
from sdwatch.policy.cluster.run_log import Phase, RunLog, with_entry
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.policy.queue.run_names import FILES, IMAGES
from sdwatch.spool.archive import publish
from sdwatch.spool.folders import Spool
from sdwatch.spool.patient_disk import PatientDisk
from sdwatch.spool.recorder import Faults, RunRecorder
from sdwatch.spool.run import JOB_FILE, JOURNAL, Run
from sdwatch.stages.reading import JobReading
from sdwatch.stages.run_end import CallFailedError, Place, RunEnd
from sdwatch.stages.runner import StageRunner
from sdwatch.stages.settings import RunSettings
from sdwatch.system import disk
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about
from sdwatch.webui.http.run_control import RunControl

log = logging.getLogger("sdwatch.cluster")

_LOOK = 15.0  # seconds between two looks at the log, if nobody hints
_SOON = 0.2  # seconds, while an entry is expected: a hint comes before it is stored
_EXPECTED_FOR = 1.0  # seconds after a hint
_AGAIN = 1.0  # seconds, while the broker is gone
_LONGEST_REFUSAL = 2000
REFUSAL_STARTS = "no WebUI here can do this job as it is: "
"""How a box's refusal starts, and the message that is made of all refusals."""
_EVIDENCE = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]*")


class NotDecidedError(SdwatchError):
    """A call of the run is neither finished nor failed for good, so nothing can be published."""


@dataclass(frozen=True)
class BoxLane:
    """Where a run is: on a box."""

    name: str

    progress: Mapping[str, Any] = ()  # type: ignore[assignment]

    def about(self) -> dict[str, Any]:
        """Return it for a run's manifest."""
        return {"name": self.name, "box": self.name}


@dataclass(frozen=True)
class Helpers:
    """What all remote runs have in common. `refused`: called with a run's id, the box that cannot
    do it, or ANY_BOX, and why."""

    broker: Broker
    clock: Clock
    settings: RunSettings
    redactor: Redactor
    faults: Faults
    refused: Callable[[str, str, str], None]


class RemoteRun:
    """The run on the box `box`. It has what the monitor asks of any runner."""

    disk_refuses = ""
    unreadable = ""
    pausing = True  # a stop of the monitor need not wait for it: the box continues
    points_failed = 0
    place: Place | None = None

    def __init__(self, run: Run, box: str, control: RunControl, helpers: Helpers) -> None:
        self.doing = f"is handed over to {box}"
        self.why = ""
        self.publishing = False
        self.hint = threading.Event()
        self.box = box
        self._run = run
        self._control = control
        self._with = helpers
        self._broker = helpers.broker
        self._run_log = RunLog()
        self._store = ""
        self._wanted_back: TakenFor | None = None
        self._offered = 0  # the epoch
        self._webui: Mapping[str, Any] = {}
        self._refused_with: tuple[StoredFile, ...] = ()
        self._reads_lines = True  # until some of them could not be read

    @property
    def run_log(self) -> RunLog:
        """Return the run's log, as it was read last."""
        return self._run_log

    def want_back(self, because: TakenFor) -> None:
        """Ask from any thread that the run comes back: its own thread sees to it."""
        self._wanted_back = self._wanted_back or because
        self.hint.set()

    @property
    def is_offered(self) -> bool:
        """Return whether the box has not taken it yet."""
        return self._run_log.phase is Phase.GRANTED

    def run_to_end(self, spool: Spool) -> RunEnd:
        """Follow the run until it has ended on the box, and publish it; STOPPED where it was taken
        back, or this monitor stops. Raises OSError where the disk refuses."""
        if not self._run.ledger.handed_over.is_out:
            if not self._plan():
                return self._finish(spool, None)
            if why := why_not(self._run):
                log.warning("%s: %s", self._run.run_id, why, extra=about(LogEvent.RUN_NOT_RESUMED))
                self._with.refused(self._run.run_id, ANY_BOX, why)
                return RunEnd.STOPPED
        with self._control.while_calling(self.hint.set):
            return self._follow(spool)

    def _follow(self, spool: Spool) -> RunEnd:
        clock, expected_until = self._with.clock, 0.0
        while True:
            seq, pause = self._run_log.seq, _LOOK
            if self.hint.is_set():
                expected_until = clock.monotonic() + _EXPECTED_FOR
            self.hint.clear()
            try:
                self._control.raise_if_given_up()
            except RunStoppedError:
                return RunEnd.STOPPED
            except RunCancelledError:
                self._wanted_back = TakenFor.CANCELLED
            try:
                self._read_log()
                if (ending := self._step(spool)) is not None:
                    return ending
            except BrokerGoneError:
                self.doing = f"is on {self.box}; the broker is gone, and sdwatch keeps trying"
                pause = _AGAIN
            except LogMovedError:
                continue
            except (MissingObjectError, ValueError) as error:
                log.warning("%s: %s", self._run.run_id, error, extra=about(LogEvent.RUN_TAKEN_BACK))
                self._reads_lines, self._wanted_back = False, TakenFor.LOG_LOST
            if self._run_log.seq != seq:
                expected_until = 0.0
            clock.wait(self.hint, _SOON if clock.monotonic() < expected_until else pause)

    def _plan(self) -> bool:
        """Read the job and choose its seeds; return False where the job is at fault."""
        settings = self._with.settings
        reading = JobReading(self._run, self._control, self._with.clock, settings)
        try:
            reading.settled_job()
        except (FileProblems, CallFailedError, RunStoppedError, RunCancelledError):
            return False
        self._run.forget_another_job()
        self._run.plan()
        return True

    # -- what comes from the box

    def _read_log(self) -> None:
        if self._store != self._broker.store:
            self._store, self._run_log = self._broker.store, RunLog()
        for seq, entry in self._broker.entries_after(self._run.run_id, self._run_log.seq):
            after, counts = with_entry(self._run_log, seq, entry)
            if counts and isinstance(entry, LinesStored) and self._reads_lines:
                self._apply(entry)
            self._run_log = after

    def _apply(self, entry: LinesStored) -> None:
        """Append lines to the journal, after their files. Those that are here are left out."""
        known = self._run.ledger.handed_over
        if not known.is_out or known.epoch != entry.epoch:
            return
        text = entry.inline.encode() or self._broker.objects.read(self._run.run_id, entry.text)
        lines = lines_in(text)
        if len(lines) != entry.count:
            raise ValueError(f"{len(lines)} lines where {entry.count} were announced")
        self._fetch(entry.files)
        for line in lines[max(0, known.lines - entry.first) :]:
            self._run.record(line["event"], **line)
        finished = sum(call.images is not None for call in self._run.ledger.calls.values())
        self.doing = f"is on {self.box}: {finished} calls finished"

    def _fetch(self, files: tuple[StoredFile, ...]) -> None:
        folder = self._run.folder
        for file in files:
            if _may_be_written(file.name):
                write_file(self._broker, self._run.run_id, file, folder)
        for name in (IMAGES, FILES):
            if disk.is_folder(folder / name):
                disk.sync_folder(folder / name)
        disk.sync_folder(folder)

    # -- what is next

    def _step(self, spool: Spool) -> RunEnd | None:
        journal = self._run.ledger.handed_over
        wish = Wish(self.box, self._wanted_back)
        action = dispatcher_step(self._run_log, journal, wish)
        run_id, broker, seq = self._run.run_id, self._broker, self._run_log.seq
        if isinstance(action, dispatching.NoteHandedOver):
            self._run.record("handed_over", epoch=action.epoch, box=action.box)
            self.hint.set()
        elif isinstance(action, dispatching.Grant):
            manifest = store_run(broker, self._run)
            broker.append(run_id, Granted(action.epoch, action.box, manifest), seq)
            self.hint.set()
        elif isinstance(action, dispatching.Offer):
            self._offer(action)
        elif isinstance(action, TakenBack):
            if self._run_log.ended is not None:
                self._refused_with = self._run_log.ended.files
            broker.append(run_id, action, seq)
            broker.say(names.look_subject(self.box))
            self.hint.set()
        elif isinstance(action, dispatching.NoteTakenBack):
            return self._note_taken_back(spool, action)
        elif isinstance(action, dispatching.Finish):
            self._fetch(action.ended.files)
            ending = self._finish(spool, action.ended)
            if ending not in (RunEnd.STOPPED, RunEnd.GONE):
                self._close_log()
            return ending
        elif self._wanted_back is not None and not journal.is_out:
            return self._stop_or_publish(spool)
        return None

    def _offer(self, action: dispatching.Offer) -> None:
        """Send the message, once: what becomes of it is the reconciler's."""
        if self._offered == action.epoch:
            return
        run_id = self._run.run_id
        self._broker.offer(action.box, run_id, action.epoch)
        self._offered = action.epoch
        self.doing = f"waits for {action.box} to take it"
        event = about(LogEvent.RUN_HANDED_OVER, run=run_id, epoch=action.epoch)
        log.info("%s: handed over to %s, epoch %d", run_id, action.box, action.epoch, extra=event)

    def _note_taken_back(self, spool: Spool, action: dispatching.NoteTakenBack) -> RunEnd:
        run_id = self._run.run_id
        self._broker.withdraw_offer(self.box, run_id)
        self._run.record("taken_back", epoch=action.epoch, why=str(action.because))
        event = about(LogEvent.RUN_TAKEN_BACK, run=run_id, epoch=action.epoch)
        log.warning("%s: taken back from %s: %s", run_id, self.box, action.because, extra=event)
        if action.because is TakenFor.REFUSED:
            self._with.refused(run_id, self.box, self._refusal())
        return self._stop_or_publish(spool)

    def _refusal(self) -> str:
        """Return why the box refuses the job, as it says itself."""
        files = {file.name: file.sha256 for file in self._refused_with}
        with suppress(KeyError, ValueError, TypeError, MissingObjectError):
            said = json.loads(self._broker.objects.read(self._run.run_id, files["error.json"]))
            what = str(said["message"]).removeprefix(REFUSAL_STARTS)
            return printable_text(f"{self.box}: {what}")[:_LONGEST_REFUSAL]
        return f"{self.box} refuses it"

    def _stop_or_publish(self, spool: Spool) -> RunEnd:
        """Leave a run that came back to whoever has room for it; publish one that was cancelled."""
        if self._wanted_back is TakenFor.CANCELLED:
            return self._finish(spool, None)
        return RunEnd.STOPPED

    # -- the end

    def about(self) -> dict[str, Any]:
        """Return on which WebUI it was made."""
        return {**BoxLane(self.box).about(), **self._webui}

    @property
    def catalogue(self) -> None:
        """Return None: the box has checked the job."""

    def generate_images_with_recovery(
        self, stage: str, payload: Mapping[str, Any], run_dir: Path | None, job_id: str | None
    ) -> Any:
        """Raise NotDecidedError: no call is sent from here."""
        del payload, run_dir, job_id
        self._control.raise_if_given_up()
        raise NotDecidedError(f"a call of {stage} is not decided")

    def _finish(self, spool: Spool, ended: Ended | None) -> RunEnd:
        """Resume the run here, which makes no call: all are decided."""
        self.publishing, self.doing = True, "is being published"
        self._webui = ended.webui or {} if ended else {}
        if ended is not None and ended.outcome is BoxEnd.CANCELLED:
            self._control.cancel()
        clock, helpers = self._with.clock, self._with
        patient = PatientDisk(self._run, clock, self._control)
        runner = StageRunner(
            self._run,
            self,
            RunRecorder(self._run, helpers.redactor, clock, patient, helpers.faults),
            clock=clock,
            settings=self._with.settings,
            control=self._control,
        )
        try:
            ending = runner.run_to_end(spool)
            self.why = runner.why
            return ending
        except NotDecidedError as error:
            return self._end_undecided(spool, ended, error)

    def _close_log(self) -> None:
        """Say that the run is published: then its place on the box is free. Where that fails, the
        dispatcher's own thread does it, which also removes what the broker has."""
        closed = Closed(self._run_log.epoch)
        with suppress(BrokerGoneError, LogMovedError):
            seq = self._broker.append(self._run.run_id, closed, self._run_log.seq)
            self._run_log, _ = with_entry(self._run_log, seq, closed)
            self._broker.say(names.look_subject(self.box))

    def _end_undecided(self, spool: Spool, ended: Ended | None, why: NotDecidedError) -> RunEnd:
        """End a run that failed on the box for a reason of its own, such as the job's `timeout`:
        with what the box says. One that the box calls done goes back."""
        if ended is None or ended.outcome is not BoxEnd.FAILED:
            epoch = self._run.ledger.handed_over.epoch
            log.error("%s: %s", self._run.run_id, why, extra=about(LogEvent.RUN_TAKEN_BACK))
            if self._run_log.phase is Phase.ENDED:
                taken = TakenBack(epoch, TakenFor.LOG_LOST)
                self._broker.append(self._run.run_id, taken, self._run_log.seq)
            self._run.record("taken_back", epoch=epoch, why=str(TakenFor.LOG_LOST))
            return RunEnd.STOPPED
        self.why = f"it failed on {self.box}, see WHY.txt"
        publish(self._run, spool, RunEnd.FAILED, None, self.about())
        return RunEnd.FAILED


def _may_be_written(name: str) -> bool:
    """Return whether a box may write this file: what a call made, or evidence. Some disks take
    `Journal.jsonl` and `JOURNA~1.JSO` for the journal."""
    parts = name.split("/")
    if len(parts) == 2:
        return parts[0] in (IMAGES, FILES)
    reserved = (JOB_FILE, JOURNAL, "job", "used", IMAGES, FILES, "run.json")
    return _EVIDENCE.fullmatch(name) is not None and name.casefold() not in reserved
