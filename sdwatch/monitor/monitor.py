"""The monitor: the composition root and the main thread. Watches the inbox, decides which lane
gets which job, tells the world how it stands, and stops in order."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any

from sdwatch import system
from sdwatch.config import Config, ConfigEdits, load_signatures
from sdwatch.errors import AlreadyRunningError, FileProblems, RunStoppedError
from sdwatch.lane.lane import ACTIVE_RUNS, Lane
from sdwatch.lane.suspended import REFUSED_FOR, SuspendedRun, SuspendedRuns
from sdwatch.monitor.holds import Holds
from sdwatch.monitor.intake import Intake
from sdwatch.monitor.placement import Placement
from sdwatch.monitor.retention import Retention
from sdwatch.monitor.runs import ActiveRun, ActiveRuns, in_words
from sdwatch.policy.failure.hold_reason import HoldCode, HoldKey, NoCall
from sdwatch.policy.failure.lasting import Lasting, key_of
from sdwatch.policy.privacy.printable import printable, printable_text
from sdwatch.policy.report.envelope import (
    CANCELLED,
    ErrorEnvelope,
    cancelled_envelope,
    held_envelope,
    job_envelope,
)
from sdwatch.policy.report.hold_note import config_edited
from sdwatch.policy.report.notice import Notice, Topic
from sdwatch.spool import archive, takeover
from sdwatch.spool.archive import Spool
from sdwatch.spool.earlier_texts import learn_earlier_texts
from sdwatch.spool.heartbeat import (
    BEGINS,
    INTERVAL,
    WATCHED_FOR,
    Heartbeat,
    give_way,
    refuse_second_monitor,
)
from sdwatch.spool.run import Run, is_cancelled, read_source
from sdwatch.stages import Ending
from sdwatch.system import disk, signals
from sdwatch.system.clock import Clock, SystemClock, iso
from sdwatch.system.state_folder import StateFolder
from sdwatch.webui.http.call_watch import how_far

log = logging.getLogger("sdwatch.monitor")

_SAID_EVERY = 10.0  # seconds between two lines about a stop that waits
_SAID_AFTER = 0.5  # seconds: most stops wait for nothing
_AT_MOST = 3.0  # seconds that a stop takes once it was asked for a second time


class Result(StrEnum):
    """Why the monitor ended."""

    STOPPED = "stopped"
    EMPTY = "the inbox is empty"
    HOLD = "on hold"


class Monitor:
    """Runs the spool of `config` until it is stopped, or with `once` until there is nothing left
    to do. `config_file`: where the config is from, for the commands that people are told to type;
    None for the built-in one. `take_over`: another worker, whose runs go on here. `tell` gets a
    notice for people whenever something happened, from any thread."""

    def __init__(
        self,
        config: Config,
        *,
        config_file: Path | None = None,
        once: bool = False,
        take_over: str = "",
        tell: Callable[[Notice], None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._config_file = config_file
        self._edits = ConfigEdits(config_file)
        self._edited = ""  # the config file, once it is another than it was
        self._once = once
        self._take_over = take_over
        self._tell = tell
        self._clock = clock or SystemClock()
        self._state = StateFolder(config.state)
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._stopping: float | None = None  # seconds left for the calls under way
        self._say_at = 0.0  # at so many seconds left the next line about that
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._next_beat = 0.0
        self._lanes: list[Lane] = []
        self._lanes_open = False
        self._no_call: NoCall | None = None
        self._refused_runs = Lasting()  # by the disk, by run_id
        self._refused_beats = Lasting()
        self._counts = {Ending.DONE: 0, Ending.FAILED: 0, Ending.CANCELLED: 0}

    # -- its life

    def run(self) -> Result:
        """Watch and work. Raises AlreadyRunningError, also where another monitor has begun on this
        spool while this one was frozen, and SpoolError."""
        self._state.hold()
        try:
            self._spool = Spool(self._config.spool, self._state.worker, self._config_file)
            names = [webui.name for webui in self._config.webuis]
            self._holds = Holds(self._spool, names, clock=self._clock, say=self._notify)
            self._heartbeat = Heartbeat(self._spool, self._state.status_file)
            if not self._spool_comes():
                return Result.HOLD if self._once else Result.STOPPED
            try:
                self._begin_on_spool()
            except RunStoppedError:
                return Result.STOPPED
            try:
                self._open()
                try:
                    return self._work()
                finally:
                    self._close()
            finally:
                self._heartbeat.end()
        finally:
            self._state.release()

    def _begin_on_spool(self) -> None:
        """See that nobody else works on it, also nobody who begins in this very moment."""
        still = takeover.begin_on(self._spool, self._take_over, self._clock, self._stop)
        try:
            self._say_in_heartbeat({**self.status(), BEGINS: True})
            self._heartbeat.open()
            give_way(self._spool, self._clock, still, self._stop)
            self._say_in_heartbeat(self.status())
            self._next_beat = self._clock.boot_time()  # frozen from here on is noticed
        except BaseException:
            self._heartbeat.end()
            raise

    def _say_in_heartbeat(self, status: dict[str, Any]) -> None:
        try:
            self._heartbeat.beat(status)
        except OSError as error:
            log.warning("the heartbeat cannot be written: %s", error)

    def _spool_comes(self) -> bool:
        """Wait for a share that is not mounted yet, as after a boot; not with --once. Whether the
        spool is there, or is to be made for the first time."""
        while self._state.knows(self._spool.root) and self._spool.is_gone:
            self._no_call = self._share_gone()
            self._holds.tell([], self._no_call)
            self._heartbeat.beat_here(self.status())
            if self._once or self._clock.wait(self._stop, INTERVAL):
                self._heartbeat.end()
                return False
        return True

    def _share_gone(self) -> NoCall:
        text = (
            f"share gone: there is nothing in {self._spool.root}; it goes on when it is back "
            "(make a folder `inbox` there to begin anew)"
        )
        return NoCall(text, HoldKey(HoldCode.SHARE_GONE))

    def stop(self) -> None:
        """Ask it to stop, from any thread. A second time: without grace for calls in flight, nor
        for the WebUI."""
        if self._stop.is_set():
            self._hurry.set()
            if self._lanes:
                self._runs.give_up()
        self._stop.set()
        self._wake.set()

    def stop_on_signals(self) -> None:
        """Signals stop it; a second one ends the process within seconds, whatever it waits for.
        For the main thread."""
        threading.Thread(target=self._obey_signals, name="signals", daemon=True).start()
        signals.catch(self._on_signal)
        system.when_session_ends(self._end_with_session)

    def _end_with_session(self) -> None:
        """The console window was closed, or the user logs off, or Windows shuts down: it ends this
        process within a few seconds, or at once when this returns. So it stops as at a second
        Ctrl-C: runs are suspended, and the WebUI is stopped unless `leave_running` is on."""
        self.stop()
        self.stop()
        threading.Event().wait(_AT_MOST)
        self._end_now()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signals.put(number)

    def _obey_signals(self) -> None:
        """On a thread of its own: a handler may interrupt the main thread inside any lock, and
        only this queue's `put` is made for that."""
        is_again = signals.Again()
        while True:
            number = self._signals.get()
            again = is_again(number)
            if again or not self._stop.is_set():
                self.stop()
            if again:
                end = threading.Timer(_AT_MOST, self._end_now)
                end.daemon = True
                end.start()

    def _end_now(self) -> None:
        """What is not finished is in the journals, and a WebUI that is left is adopted."""
        signals.end(
            signals.INTERRUPTED,
            "ended without a clean stop; what was under way resumes at the next start",
        )

    def _open(self) -> None:
        config, clock = self._config, self._clock
        self._intake = Intake(self._spool, config, clock=clock, wake=self._wake.set, say=self._say)
        self._suspended = SuspendedRuns(clock, config.rules)
        self._runs = ActiveRuns(
            self._spool,
            self._suspended,
            clock=clock,
            rules=config.rules,
            settle=config.settle,
            patience=config.arrival_timeout,
            wake=self._wake.set,
        )
        for folder in archive.recover(self._spool, clock):
            self._suspended.add(folder)
        for name, count in archive.runs_of_others(self._spool).items():
            self._say(
                f"working/{name} has {count} runs of another worker; they are left alone "
                f"(`sdwatch run --take-over {name}` goes on with them)"
            )
        if warning := self._spool.too_deep:
            self._say(warning)
        self._holds.clear()
        signatures = load_signatures(config.signatures)
        self._lanes = [
            Lane(
                webui,
                state_dir=self._state.webui(webui.name),
                cooldown=config.cooldown,
                recovery=config.recovery,
                clock=clock,
                may_call=self._look_why_no_call,
                wake=self._wake.set,
                tell=self._say,
                signatures=signatures,
                checks=config.checks.levels,
                paused=self._look_whether_paused,
            )
            for webui in config.webuis
        ]
        learn_earlier_texts(self._spool, self._have_lanes_learn)
        self._placement = Placement(self._lanes, config.max_generation, config.rules)
        self._retention = Retention(
            config.retention, self._spool, self._state, clock=clock, say=self._say
        )
        self._retention.open()
        self._intake.open()

    def _have_lanes_learn(self, payload: Mapping[str, Any]) -> None:
        for lane in self._lanes:
            lane.redactor.learn(payload)

    def _open_lanes(self) -> None:
        """Once; with --once only for a job that could begin."""
        needed = (self._intake.ready or self._suspended) and not self.why_no_call()
        if self._lanes_open or (self._once and not needed):
            return
        self._lanes_open = True
        for lane in self._lanes:
            lane.open()

    def _work(self) -> Result:
        while not self._stop.is_set():
            self._wake.clear()
            self._tick()
            if self._once and (result := self._finished()) is not None:
                return result
            self._wake.wait(self._intake.pause())
        return Result.STOPPED

    def _close(self) -> None:
        """The runs stay in working/ and go on at the next start."""
        self._intake.close()
        for lane in self._lanes:
            lane.begin_stop()
        self._retention.close()
        self._say_at = self._config.stop_grace - _SAID_AFTER
        self._runs.join(self._config.stop_grace, self._say_what_it_waits_for)
        self._stopping = None
        for lane in self._lanes:
            lane.end_stop(self._hurry)
        self._holds.end(self._lanes, keep=self._once and not self._stop.is_set())
        self._reap()

    def _say_what_it_waits_for(self, left: float) -> None:
        """A stop waits for calls under way, `left` seconds at most."""
        before, self._stopping = self._stopping or 0.0, left
        if int(left) != int(before):
            self._heartbeat.say(self.status())
        if left > self._say_at or self._hurry.is_set():
            return
        self._say_at = left - _SAID_EVERY
        self._say(
            f"stopping: waiting at most {left:.0f} s for the call under way "
            "(a second Ctrl-C ends it now; the job resumes at the next start)"
        )

    # -- one round

    def _tick(self) -> None:
        self._no_call = self._look_why_no_call()
        self._look_for_edits()
        self._reap()
        self._intake.scan()
        self._settle_without_lane()
        self._open_lanes()
        for lane in self._lanes:
            if lane.hold_reason:
                self._runs.leave(lane)
            self._give_work(lane)
        self._end_what_is_held_too_long()
        self._holds.tell(self._lanes, self.why_no_call(), self._edited)
        self._beat()

    def _finished(self) -> Result | None:
        """With --once: whether there is nothing left to do, or nothing that can be done."""
        if self._intake.settling:
            return None  # it may be wrong, or cancelled, and end without a WebUI
        if self._intake.ready or self._runs or self._suspended:
            return Result.HOLD if self.why_no_call() or not self._has_work() else None
        # What was dropped since the last scan is not left behind, whoever missed its event.
        return Result.EMPTY if self._intake.is_empty_now() else None

    def _has_work(self) -> bool:
        """Whether a lane has, or will take, something to do. One on hold will where its hold may
        end by itself."""
        lanes = [lane for lane in self._lanes if lane.is_waited_for]
        if self._runs or not lanes:
            return bool(lanes)
        if any(
            self._goes_on_on(lane, suspended) for suspended in self._suspended for lane in lanes
        ):
            return True
        waits = self._intake.first(lambda a: not self._placement.is_refused_by(lanes, a))
        return waits is not None

    def why_no_call(self) -> NoCall | None:
        """The reason why no new call may begin anywhere, as of this round; None if there is
        none."""
        return self._no_call

    def _look_why_no_call(self) -> NoCall | None:
        """A person's hold, or a disk that is full or gone. On a share it may take a while; each
        call looks for itself, just before it begins."""
        if self._spool.is_gone:
            return self._share_gone()
        try:
            if (hold := self._spool.hold_file()) is not None:
                return _held_by(hold)
            free = disk.free_bytes(self._spool.root)
        except OSError as error:
            key = HoldKey(HoldCode.SPOOL_UNREADABLE, (error.errno,))
            return NoCall(f"the spool cannot be read: {error}", key)
        if free < self._config.min_free:
            least = self._config.min_free // 10**6
            where = f"the spool's disk ({self._spool.root})"
            text = f"{free // 10**6} MB free on {where}, less than min_free ({least} MB)"
            return NoCall(text, HoldKey(HoldCode.NO_ROOM))
        if not (refused := self._runs.disk_refuses()):
            return None
        text = f"the disk does not take images: {refused}"
        return NoCall(text, HoldKey(HoldCode.DISK_REFUSES))

    def _look_for_edits(self) -> None:
        """The config is read at the start only, which somebody who edits it may not know."""
        edited = str(self._config_file) if self._edits.found() else ""
        if edited and not self._edited:
            self._say(config_edited(edited))
        self._edited = edited

    def _look_whether_paused(self) -> NoCall | None:
        """Why only health checks are to be made: a person's hold."""
        try:
            hold = self._spool.hold_file()
        except OSError:
            return None  # a share that is gone says nothing of it
        return _held_by(hold) if hold is not None else None

    def _settle_without_lane(self) -> None:
        """What cannot be parsed, or done by any WebUI, fails at once, even on hold; so does what
        was cancelled while it waited in the inbox, or in working/."""
        refusal = None
        if self._placement.has_news(self._intake.sources):
            self._placement.keep_only(self._intake.sources | self._suspended.sources)
            refusal = self._placement.refusal
        for run, error in self._intake.claim_without_lane(refusal):
            self._end(run, self._refused(error) if error else cancelled_envelope())
        self._runs.cancel_where_asked()
        for suspended in self._suspended.due():
            if is_cancelled(suspended.folder) and (waiting := self._take_up(suspended)) is not None:
                self._end(waiting, cancelled_envelope())

    def _end(self, run: Run, envelope: ErrorEnvelope, *, of_its_file: bool = True) -> None:
        """Publish a run that needs no lane to end. `of_its_file`: it failed by what its job file
        says."""
        ending = Ending.CANCELLED if envelope.diagnosis == CANCELLED else Ending.FAILED
        try:
            if of_its_file and ending is Ending.FAILED and _was_changed(run):
                run.close()  # somebody still wrote to it: it is read again, from working/
                self._suspended.add(run.folder)
                return
            archive.publish(run, self._spool, str(ending), envelope)
        except OSError as error:
            # The disk did not take something: nothing is lost, it goes on from working/.
            run.close()
            self._suspend_refused(run.folder, error)
        except Exception as error:
            # Whatever lies in one run's folder, the others go on.
            log.exception("%s: sdwatch broke on this run; it waits in working/", run.run_id)
            run.close()
            self._suspended.add(run.folder, REFUSED_FOR, f"waits: sdwatch itself broke: {error!r}")
        else:
            self._count(run, ending, envelope.message)

    def _give_work(self, lane: Lane) -> None:
        """What was under way before goes first, then the inbox in its order."""
        while lane.ready and self._runs.busy(lane) < ACTIVE_RUNS and not self.why_no_call():
            run: Run | None
            if (
                suspended := self._suspended.first(lambda p: self._goes_on_on(lane, p))
            ) is not None:
                run = self._take_up(suspended)
                if run is not None and not run.ledger.calls:
                    run = self._unless_refused(run, suspended)
            elif (arrival := self._intake.first(lambda a: self._placement.can_do(lane, a))) is None:
                return
            else:
                run = self._intake.claim(arrival)
            if run is not None:
                self._say_taken_up(run, resumed=suspended is not None)
                self._runs.begin(run, lane)

    def _say_taken_up(self, run: Run, *, resumed: bool) -> None:
        """What the disk refuses is tried again every few seconds, which is no news."""
        if not resumed:
            self._say(f"{run.run_id}: starts")
        elif not self._refused_runs.is_on(run.run_id):
            finished = sum(call.images is not None for call in run.ledger.calls.values())
            calls = "1 call is" if finished == 1 else f"{finished or 'no'} calls are"
            self._say(f"{run.run_id}: resumes; {calls} finished")

    def _unless_refused(self, run: Run, suspended: SuspendedRun) -> Run | None:
        """One that has made no call yet is as if it came from the inbox; but for one that somebody
        still wrote to, which whoever makes its calls reads when it has settled."""
        try:
            changed = _was_changed(run)
        except OSError as error:
            self._suspend_refused(run.folder, error)
            return None
        if changed or (refusal := self._placement.refusal(suspended)) is None:
            return run
        self._end(run, self._refused(refusal))
        return None

    def _refused(self, error: FileProblems) -> ErrorEnvelope:
        return job_envelope(error, self._config.webuis[0].url)

    def _goes_on_on(self, lane: Lane, suspended: SuspendedRun) -> bool:
        """On one that can do it; where no other may be able to, this one will say why it cannot."""
        others = [other for other in self._lanes if other is not lane]
        if not others or suspended.job is None or self._placement.can_do(lane, suspended):
            return True
        return self._placement.is_refused_by(others, suspended)

    def _take_up(self, suspended: SuspendedRun) -> Run | None:
        """None: it cannot be read now, or had ended, and nothing but the rename was left to do."""
        folder = suspended.folder
        self._suspended.remove(folder)
        try:
            run = Run(folder, self._clock)
            if run.ledger.ended:
                archive.move_out(folder, self._spool, run.ledger.ended)
                self._count(run, Ending(run.ledger.ended), "")
                return None
            return run
        except OSError as error:
            self._suspend_refused(folder, error)
            return None

    def _suspend_refused(self, folder: Path, error: OSError) -> None:
        """The disk refused something of a run: it is tried again in a while."""
        self._say_suspended(folder.name, error)
        self._suspended.add(folder, REFUSED_FOR, f"waits: {error}")

    def _say_suspended(self, run_id: str, error: Exception | None) -> None:
        """`error`: what refused it, None for a stop or a hold."""
        if error is None:
            self._say(f"{run_id}: suspended in working/; will resume")
            return
        why, now = in_words(error), self._clock.monotonic()
        if line := self._refused_runs.goes_on(run_id, key_of(error), why, now):
            self._say(f"{run_id}: suspended in working/; will resume ({line})")

    def _reap(self) -> None:
        for active in self._runs.reap():
            if active.ending is Ending.GONE:
                self._say(f"{active.run.run_id}: its folder was taken away")
            elif active.ending is Ending.STOPPED:
                self._say_suspended(active.run.run_id, active.refused)
            else:
                self._count(active.run, active.ending, active.runner.why)

    # -- for people

    def _say(self, line: str) -> None:
        """Something happened that people want to know, now and in the log. From any thread."""
        self._notify(Notice(line))

    def _notify(self, notice: Notice) -> None:
        """The same, with what it is about."""
        notice = replace(notice, text=printable_text(notice.text))
        log.info("%s", notice)
        with suppress(OSError):  # a terminal that is gone, a full disk behind it: the log has it
            self._tell(notice)

    def _count(self, run: Run, ending: Ending, why: str) -> None:
        self._counts[ending] += 1
        if lasted := self._refused_runs.is_over(run.run_id, self._clock.monotonic()):
            log.info("%s: the disk takes it again, after %s", run.run_id, lasted)
        where = self._spool.done if ending is Ending.DONE else self._spool.failed
        because = f" ({why.splitlines()[0]})" if why else ""
        source = printable(run.source)
        text = f"{run.run_id}: {ending}: {source}{because}"
        place = printable(str(where / run.run_id))
        self._notify(Notice(text, _TOPICS[ending], run.run_id, place))

    def _end_what_is_held_too_long(self) -> None:
        """With `hold_max`: a run whose call has failed, while every lane is on hold for longer."""
        most, now = self._config.hold_max, self._clock.wall()
        if most is None or not all(0 < lane.held_since < now - most for lane in self._lanes):
            return
        if (held := self._lanes[0].held) is None:
            return
        all_of_them = "; ".join(f"{lane.name}: {lane.hold_reason}" for lane in self._lanes)
        hold_reason = held.hold_reason
        if len(self._lanes) > 1:
            hold_reason = replace(hold_reason, cause=all_of_them)
        for suspended in self._suspended.due():
            if (run := self._take_up(suspended)) is None:
                continue
            if any(call.counted or call.excused for call in run.ledger.calls.values()):
                self._end(run, held_envelope(hold_reason, run.ledger.evidence), of_its_file=False)
            else:
                run.close()
                self._suspended.add(suspended.folder)

    def _beat(self) -> None:
        now = self._clock.boot_time()
        if now < self._next_beat:
            return
        if 0 < self._next_beat < now - WATCHED_FOR / 2:  # frozen meanwhile, or the machine slept
            refuse_second_monitor(self._spool, self._clock, works=True)
        self._next_beat = now + INTERVAL
        self._heartbeat.say(self.status())
        if (error := self._heartbeat.refused) is not None:
            if why := takeover.taken_by(self._spool):
                raise AlreadyRunningError(f"{self._spool.working}: {why}") from error
            now = self._clock.monotonic()
            line = self._refused_beats.goes_on("", key_of(error), str(error), now)
            if line:
                log.warning("the heartbeat cannot be written: %s", line)
            self._spool.repair()
        elif lasted := self._refused_beats.is_over("", self._clock.monotonic()):
            log.info("the heartbeat is written again, after %s", lasted)

    def status(self) -> dict[str, Any]:
        """How it stands: for the heartbeat, `status` and the live display."""
        status: dict[str, Any] = {
            "at": iso(self._clock.wall()),
            "hold": str(self.why_no_call() or ""),
            "stopping": None if self._stopping is None else round(self._stopping, 1),
            "config_edited": self._edited,
            "counts": {str(ending): count for ending, count in self._counts.items()},
        }
        if not self._lanes:  # it waits for its share
            return {
                **status,
                "lanes": [],
                "runs": [],
                "queued": 0,
                "next": [],
                "waiting": {},
            }
        under_way, suspended = self._runs.under_way(), list(self._suspended)
        return {
            **status,
            "lanes": [lane.status() for lane in self._lanes],
            "runs": [*map(_status, under_way), *map(_suspended_status, suspended)],
            **self._intake.status(len(suspended), self._placement.waiting()),
        }


_TOPICS = {
    Ending.DONE: Topic.DONE,
    Ending.FAILED: Topic.FAILED,
    Ending.CANCELLED: Topic.CANCELLED,
}


def _held_by(hold: Path) -> NoCall:
    return NoCall(f"somebody put {hold.name} into the spool", HoldKey(HoldCode.PERSON))


def _was_changed(run: Run) -> bool:
    """Whether the job is another than what had settled in the inbox. Raises OSError."""
    return run.job_path is not None and not run.is_as_claimed


def _status(active: ActiveRun) -> dict[str, Any]:
    runner = active.runner
    return {
        "run_id": active.run.run_id,
        "lane": active.lane.name,
        "doing": runner.doing,
        "source": active.run.source,
        "calling": runner.calling,
        "place": asdict(runner.place) if runner.place else {},
        "progress": how_far(active.lane.progress) if runner.calling else {},
    }


def _suspended_status(suspended: SuspendedRun) -> dict[str, Any]:
    folder = suspended.folder
    return {
        "run_id": folder.name,
        "lane": "",
        "doing": suspended.why,
        "source": read_source(folder),
        "calling": False,
        "place": {},
        "progress": {},
    }
