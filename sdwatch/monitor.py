"""The monitor: the composition root and the main thread. Watches the inbox, decides which lane
gets which job, tells the world how it stands, and stops in order."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any

from sdwatch import disk
from sdwatch.clock import Clock, SystemClock, iso
from sdwatch.config import Config
from sdwatch.errors import JobError
from sdwatch.lane import ACTIVE_RUNS, Lane
from sdwatch.spool import archive
from sdwatch.spool.archive import Spool
from sdwatch.spool.heartbeat import INTERVAL, Heartbeat, refuse_second_monitor
from sdwatch.spool.inbox import Arrival, Inbox
from sdwatch.spool.recorder import RunRecorder
from sdwatch.spool.run import Run
from sdwatch.spool.watch import InboxWatch
from sdwatch.stages import Ending, StageRunner, cancelled_envelope, job_envelope
from sdwatch.state import State
from sdwatch.webui.mailbox import Mailbox

log = logging.getLogger("sdwatch.monitor")

_SCAN_SHARE = 5
"""A scan of a large inbox takes its time; only so great a part of it all may be spent scanning."""

_PARKED_FOR = 5.0
"""Seconds until a run that the disk did not let go on is taken up again."""


class Result(StrEnum):
    """Why the monitor ended."""

    STOPPED = "stopped"
    EMPTY = "the inbox is empty"
    HOLD = "on hold"


@dataclass
class ActiveRun:
    """A run with its thread, on a lane."""

    run: Run
    lane: Lane
    mailbox: Mailbox
    runner: StageRunner
    thread: threading.Thread = field(init=False)
    ending: Ending | None = None


class Monitor:
    """Runs the spool of `config` until it is stopped, or with `once` until there is nothing left
    to do. `tell` gets a line for people whenever something happened."""

    def __init__(
        self,
        config: Config,
        *,
        once: bool = False,
        tell: Callable[[str], None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._once = once
        self._tell = tell
        self._clock = clock or SystemClock()
        self._state = State(config.state)
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._scan_wanted = True
        self._next_scan = 0.0
        self._scan_not_before = 0.0
        self._next_beat = 0.0
        self._arrivals: list[Arrival] = []
        self._to_resume: list[Path] = []
        self._parked: list[tuple[float, Path]] = []  # the disk did not take something; when again
        self._active: list[ActiveRun] = []
        self._lanes: list[Lane] = []
        self._holds_told: dict[str, str] = {}
        self._counts = {Ending.DONE: 0, Ending.FAILED: 0, Ending.CANCELLED: 0}

    # -- its life

    def run(self) -> Result:
        """Watch and work. Raises AlreadyRunningError, SpoolError."""
        self._state.hold()
        try:
            self._spool = Spool(self._config.spool, self._state.worker)
            self._spool.prepare()
            refuse_second_monitor(self._spool, self._clock)
            self._open()
            try:
                return self._work()
            finally:
                self._close()
        finally:
            self._state.release()

    def stop(self) -> None:
        """Ask it to stop, from a signal or another thread. A second time: without grace."""
        if self._stop.is_set():
            self._give_up_calls()
        self._stop.set()
        self._wake.set()

    def stop_on_signals(self) -> None:
        """SIGTERM and Ctrl-C (on Windows Ctrl-Break, too) stop it; for the main thread."""
        for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
            if (number := getattr(signal, name, None)) is not None:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        # On a thread of its own: the main thread may be inside the very lock of an event.
        threading.Thread(target=self.stop, name="stop").start()

    def _open(self) -> None:
        self._heartbeat = Heartbeat(self._spool)
        config = self._config
        self._inbox = Inbox(self._spool.inbox, config.settle, config.arrival_timeout, self._clock)
        self._recover()
        self._lanes = [
            Lane(
                webui,
                state_dir=self._state.webui(webui.name),
                cooldown=config.cooldown,
                recovery=config.recovery,
                clock=self._clock,
                may_call=self.why_no_call,
                wake=self._wake.set,
            )
            for webui in config.webuis
        ]
        self._watch = InboxWatch(self._spool.inbox, self._hint, self._inbox.renamed_in)
        if config.watch == "events":
            self._watch.start()
        for lane in self._lanes:
            lane.open()

    def _work(self) -> Result:
        while not self._stop.is_set():
            self._wake.clear()
            self._tick()
            if self._once and (result := self._finished()) is not None:
                return result
            self._wake.wait(self._pause())
        return Result.STOPPED

    def _close(self) -> None:
        """Calls in flight get the grace time; then they are given up. The runs stay in working/
        and go on at the next start."""
        self._watch.stop()
        for lane in self._lanes:
            lane.begin_stop()
        deadline = self._clock.monotonic() + self._config.stop_grace
        for active in self._active:
            active.thread.join(max(0.0, deadline - self._clock.monotonic()))
        self._give_up_calls()
        for active in self._active:
            active.thread.join()
        for lane in self._lanes:
            lane.end_stop()
        self._reap()
        self._heartbeat.end()

    def _give_up_calls(self) -> None:
        for active in self._active:
            active.mailbox.stop()

    # -- one round

    def _tick(self) -> None:
        self._reap()
        self._unpark()
        self._scan()
        self._settle_without_lane()
        self._look_for_cancels()
        for lane in self._lanes:
            self._give_work(lane)
        self._tell_holds()
        self._beat()

    def _pause(self) -> float:
        """Seconds until the next round, if nothing happens before."""
        if self._inbox.waiting:
            return min(INTERVAL, max(0.05, self._config.settle / 4))
        return INTERVAL

    def _finished(self) -> Result | None:
        """With --once: whether there is nothing left to do, or nothing that can be done."""
        if self.why_no_call() or all(lane.hold_reason for lane in self._lanes):
            return Result.HOLD if self._jobs_left() else Result.EMPTY
        return None if self._jobs_left() or self._scan_wanted else Result.EMPTY

    def _jobs_left(self) -> bool:
        return bool(
            self._active or self._arrivals or self._to_resume or self._parked or self._inbox.waiting
        )

    def _scan(self) -> None:
        """Scan on a hint, and every so often without one; never so often that it is all we do."""
        now = self._clock.monotonic()
        wanted = self._scan_wanted or self._inbox.waiting or now >= self._next_scan
        if not wanted or now < self._scan_not_before:
            return
        self._scan_wanted = False
        try:
            self._arrivals = self._inbox.scan()
        except OSError as error:
            self._inbox.waiting["inbox"] = f"cannot be read: {error}"
        took = self._clock.monotonic() - now
        self._next_scan = now + self._config.scan_interval
        self._scan_not_before = now + _SCAN_SHARE * took

    def _hint(self) -> None:
        """From the watch's thread."""
        self._scan_wanted = True
        self._wake.set()

    def why_no_call(self) -> str:
        """The reason why no new call may begin anywhere: a person's hold, or no room on disk."""
        try:
            if (hold := self._spool.hold_file()) is not None:
                return f"somebody put {hold.name} into the spool"
            free = disk.free_bytes(self._spool.root)
        except OSError as error:
            return f"the spool cannot be read: {error}"
        if free < self._config.min_free:
            return f"{free // 10**6} MB free on the spool's disk, less than min_free"
        return ""

    # -- jobs that need no WebUI

    def _settle_without_lane(self) -> None:
        """What cannot be parsed fails at once, even on hold; so does what was cancelled while it
        waited."""
        for arrival in list(self._arrivals):
            if not arrival.cancelled and not isinstance(arrival.job, JobError):
                continue
            self._arrivals.remove(arrival)
            if (run := self._claim(arrival)) is None:
                continue
            if run.looks_like() != run.ledger.claimed["settled"]:
                # Somebody still wrote to it when it was claimed: read again, from working/.
                run.close()
                self._to_resume.append(run.folder)
                continue
            if arrival.cancelled:
                envelope, ending = cancelled_envelope(), Ending.CANCELLED
            else:
                assert isinstance(arrival.job, JobError)
                envelope, ending = job_envelope(arrival.job), Ending.FAILED
            try:
                archive.publish(run, self._spool, str(ending), envelope)
            except OSError as error:
                self._park(run, error)
            else:
                self._count(run.run_id, arrival.source, ending, envelope.message)

    def _claim(self, arrival: Arrival) -> Run | None:
        try:
            return archive.claim(arrival, self._spool, self._clock)
        except OSError as error:
            self._inbox.waiting[arrival.source] = f"cannot be claimed: {error}"
            return None

    # -- jobs for lanes

    def _give_work(self, lane: Lane) -> None:
        while lane.ready and not self.why_no_call() and self._busy(lane) < ACTIVE_RUNS:
            if self._to_resume:
                self._begin(Run(self._to_resume.pop(0), self._clock), lane)
            elif self._arrivals:
                arrival = self._arrivals.pop(0)
                if (run := self._claim(arrival)) is not None:
                    self._begin(run, lane)
            else:
                return

    def _busy(self, lane: Lane) -> int:
        mine = [active for active in self._active if active.lane is lane]
        return sum(not active.runner.publishing for active in mine)

    def _begin(self, run: Run, lane: Lane) -> None:
        mailbox = Mailbox()
        recorder = RunRecorder(run, lane.redactor, self._clock)
        run.webui = lane.identity()
        runner = StageRunner(
            run,
            lane.api(recorder, mailbox),
            recorder,
            clock=self._clock,
            settle=self._config.settle,
            permit=lambda: lane.permit(mailbox),
            mailbox=mailbox,
        )
        active = ActiveRun(run, lane, mailbox, runner)
        active.thread = threading.Thread(
            target=self._run_thread, args=(active,), name=f"run-{run.run_id}"
        )
        self._active.append(active)
        self._tell(f"{run.run_id}: begins")
        active.thread.start()

    def _park(self, run: Run, error: OSError) -> None:
        """The disk did not take something: nothing is lost, it goes on from working/."""
        log.error("%s: waits in working/: %s", run.run_id, error)
        run.close()
        self._parked.append((self._clock.monotonic() + _PARKED_FOR, run.folder))

    def _unpark(self) -> None:
        now = self._clock.monotonic()
        self._to_resume += [folder for until, folder in self._parked if until <= now]
        self._parked = [(until, folder) for until, folder in self._parked if until > now]

    def _run_thread(self, active: ActiveRun) -> None:
        try:
            active.ending = active.runner.run_to_end(self._spool)
        except OSError as error:
            active.ending = Ending.STOPPED
            self._park(active.run, error)
        except Exception:
            # The thread's outer edge: nothing is lost, the run is taken up again at the next start.
            log.exception("%s: the run broke and stays in working/", active.run.run_id)
            active.run.close()
        self._wake.set()

    def _reap(self) -> None:
        for active in [a for a in self._active if not a.thread.is_alive()]:
            active.thread.join()
            self._active.remove(active)
            source = str(active.run.ledger.claimed.get("source", ""))
            if active.ending is None:
                self._tell(f"{active.run.run_id}: sdwatch broke; see {self._state.log_file}")
            else:
                self._count(active.run.run_id, source, active.ending, active.runner.why)

    def _look_for_cancels(self) -> None:
        for active in self._active:
            if active.run.cancel_asked():
                active.mailbox.cancel()

    # -- start

    def _recover(self) -> None:
        """Every in-between state that a death can leave is resolved here."""
        for folder in self._spool.run_folders():
            try:
                self._recover_run(Run(folder, self._clock))
            except OSError as error:
                log.error("%s: cannot be taken up, and is left as it is: %s", folder, error)

    def _recover_run(self, run: Run) -> None:
        if not run.has_job:
            if not archive.sweep(run.folder):
                log.warning("%s: no job in it; left as it is", run.folder)
        elif run.ledger.ended:
            archive.move_out(run.folder, self._spool, run.ledger.ended)
        else:
            self._to_resume.append(run.folder)

    # -- for people

    def _count(self, run_id: str, source: str, ending: Ending, why: str) -> None:
        if ending is Ending.STOPPED:
            self._tell(f"{run_id}: stopped; it goes on at the next start")
            return
        self._counts[ending] += 1
        where = "done" if ending is Ending.DONE else "failed"
        because = f" ({why.splitlines()[0]})" if why else ""
        self._tell(f"{run_id}: {ending}: {source}{because} -> {self._spool.root / where / run_id}")

    def _tell_holds(self) -> None:
        reasons = {lane.name: lane.hold_reason for lane in self._lanes}
        reasons["everything"] = self.why_no_call()
        for name, reason in reasons.items():
            if reason != self._holds_told.get(name, ""):
                self._tell(f"{name}: on hold: {reason}" if reason else f"{name}: goes on")
        self._holds_told = reasons

    def _beat(self) -> None:
        now = self._clock.monotonic()
        if now < self._next_beat:
            return
        self._next_beat = now + INTERVAL
        try:
            self._heartbeat.beat(self.status())
        except OSError as error:
            log.warning("the heartbeat cannot be written: %s", error)

    def status(self) -> dict[str, Any]:
        """How it stands: for the heartbeat, `status` and the live display."""
        return {
            "at": iso(self._clock.wall()),
            "hold": self.why_no_call(),
            "lanes": [lane.status() for lane in self._lanes],
            "runs": [
                {
                    "run_id": active.run.run_id,
                    "lane": active.lane.name,
                    "doing": active.runner.doing,
                    "source": active.run.ledger.claimed.get("source"),
                }
                for active in list(self._active)
            ],
            "queued": len(self._arrivals) + len(self._to_resume),
            "next": [arrival.source for arrival in self._arrivals[:20]],
            "waiting": dict(list(self._inbox.waiting.items())[:50]),
            "counts": {str(ending): count for ending, count in self._counts.items()},
        }
