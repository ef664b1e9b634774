"""The process of one WebUI: start, adopt, watch, restart, and stop it with all its children. Only
ever our own.

One life of the process is an incarnation. It ends when its listener ends or, before there is one,
when the command itself ends: webui.sh lives on after its python was killed (measured with Forge
dfdcbab6), so a wrapper's life shows nothing.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import psutil

from sdwatch import system
from sdwatch.errors import PortTakenError, ProcessError
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.hold_reason import HoldReason, StartFailure, not_started
from sdwatch.policy.failure.lasting import LastingStates
from sdwatch.policy.failure.matching import ends_start
from sdwatch.system import disk
from sdwatch.system.clock import Clock
from sdwatch.system.log_events import LogEvent, about
from sdwatch.webui.log.tail_capture import cap_file, capture_tail
from sdwatch.webui.process import process_identity as identities
from sdwatch.webui.process import process_tree
from sdwatch.webui.process.incarnation import (
    Incarnation,
    ProcessSettings,
    SpawnError,
    WebUIExit,
    root_of,
    spawn,
    wait_gone,
)
from sdwatch.webui.process.process_identity import ProcessIdentity
from sdwatch.webui.process.readiness import (
    FREE_THE_PORT,
    NotReady,
    ProbeResult,
    Readiness,
    SignsOfLife,
    cannot_kill,
    explain_start_failure,
    not_writable,
    operation_hangs,
    port_taken,
)

log = logging.getLogger("sdwatch.webui")

_KEPT_INCARNATIONS = 20
_EXIT_LIMIT = 5.0
_ADOPTION_LIMIT = 10.0
_OPERATION_LIMIT = 10.0  # seconds for which a stop waits for another operation, beside its grace


class WebUIProcessManager:
    """One WebUI's process. All methods may be called from any thread.

    `probe`: asks the API once. `on_exit`: called once for each incarnation, on a thread of its own,
    as soon as it has ended; returns whether it takes over the leftovers, the processes that
    outlived it. If not, they are killed here at once.
    """

    def __init__(
        self,
        settings: ProcessSettings,
        *,
        clock: Clock,
        probe: Callable[[], ProbeResult],
        on_exit: Callable[[WebUIExit], bool | None] = lambda _: None,
    ) -> None:
        self.name = settings.name
        self.last_failure = ""
        self.last_hold_reason = HoldReason("")  # the same, for people
        self.last_probe: ProbeResult | None = None
        self._settings = settings
        self._state_dir = state_dir = settings.state_dir
        self._clock = clock
        self._probe = probe
        self._on_exit = on_exit
        known = settings.signatures
        self._signatures = builtin_signatures() if known is None else known
        self._host_snapshots = settings.host_snapshots
        self._lock = threading.Lock()  # of the fields below; never held while waiting
        self._operations = threading.RLock()  # one adopt, start or stop at a time
        self._current: Incarnation | None = None
        self._restart_under_way: Future[bool] | None = None
        self._not_ready = LastingStates()
        disk.ensure_folder(state_dir)
        self._identity = identities.load(state_dir)
        self._nothing_left = False  # it was stopped, and nothing was started since

    @property
    def incarnation(self) -> int:
        """Return its number, counted over the whole life of the state folder; 0 before the
        first."""
        return self._identity.incarnation if self._identity else 0

    def is_process_alive(self) -> bool:
        """Return whether the listener exists or, before there is one, the root. A zombie does not
        count."""
        current = self._current
        if current is None or current.ended.is_set():
            return False
        watched = current.identity.listener_pid or current.identity.pid
        return any(process.pid == watched for process in identities.recorded(current.identity))

    @property
    def answers_unusable(self) -> bool:
        """Return whether it lives, and answered the last probe that it is unusable. A restart does
        not fix that; a person may, while it runs, for example by adding a model."""
        probe = self.last_probe
        return probe is not None and probe.unusable and self.is_process_alive()

    @property
    def last_exit(self) -> WebUIExit | None:
        """Return how this incarnation ended; None while it lives, or where that was not seen."""
        current = self._current
        return current.exit if current is not None else None

    def processes(self) -> list[psutil.Process]:
        """Return all our living processes, including those that are no longer descendants."""
        return identities.processes(self._identity, self.log_paths()) if self._identity else []

    def family(self) -> list[psutil.Process]:
        """Return the processes that are still descendants of the root: cheap to ask for."""
        return identities.family(self._identity) if self._identity else []

    def log_paths(self) -> tuple[Path, Path]:
        """Return where this incarnation's stdout and stderr go."""
        return identities.log_paths(self._state_dir, self.incarnation)

    def get_tail_logs(self, max_lines: int = 200) -> dict[str, str]:
        """Return the last lines of this incarnation: `{"stdout": ..., "stderr": ...}`. Never
        raises."""
        return capture_tail(self.log_paths(), max_lines)

    def cap_logs(self) -> None:
        """Truncate in place the logs that have grown past the cap."""
        for path in self.log_paths():
            cap_file(path, self._settings.log_cap)

    def adopt(self, timeout_s: float | None = None, give_up: threading.Event | None = None) -> bool:
        """Take over a process of ours that an earlier monitor left. Return whether it is ready.

        A process that is not ready within `timeout_s` is stopped with its children, unless it
        `answers_unusable`. Without `timeout_s`, one that was ready before gets 10 s, and one that
        was still starting gets the start limit. If `give_up` is set, it is left as it is.
        """
        with self._operations:
            found = self.processes()
            if self._identity is None or not found:
                return False
            root = root_of(self._identity, found, self._settings.port)
            self._follow(identities.rooted(self._identity, root.pid), None)
            if timeout_s is None and self._identity.listener_pid:
                timeout_s = _ADOPTION_LIMIT
            if self.wait_ready(timeout_s, give_up):
                adopted = (self.name, self.incarnation, root.pid)
                event = about(LogEvent.WEBUI_ADOPTED)
                log.info("%s: adopted incarnation %d, pid %d", *adopted, extra=event)
                return True
            if give_up is None or not give_up.is_set():
                self._stop_after_failure()
            return False

    def start(self) -> None:
        """Start a new incarnation, after what is left of the last one was stopped and reaped.

        Raises PortTakenError, which names the owner, and ProcessError: the command cannot be run,
        the state folder cannot be written, or the last incarnation cannot be stopped.
        """
        with self._operations:
            self.last_probe = None
            if not (self._nothing_left or self.stop()):
                raise ProcessError(self.last_failure)
            owner = process_tree.owner_of(self._settings.host, self._settings.port)
            if owner:
                why = port_taken(self._settings.port, owner), FREE_THE_PORT
                raise PortTakenError(self._not_started(*why, StartFailure.PORT_TAKEN))
            try:
                intent = identities.intend(
                    self._state_dir, self._clock.boot_id(), self._settings.command[0]
                )
                identities.remove_old_logs(self._state_dir, intent.incarnation, _KEPT_INCARNATIONS)
            except OSError as error:
                raise ProcessError(self._failed(*not_writable(self._state_dir, error))) from error
            self._identity, self._nothing_left = intent, False
            popen = self._spawn(intent)
            self._follow(identities.rooted(intent, popen.pid), popen)
            started = (self.name, self.incarnation, popen.pid)
            event = about(LogEvent.WEBUI_STARTED)
            log.info("%s: started incarnation %d, pid %d", *started, extra=event)

    def wait_ready(
        self, timeout_s: float | None = None, give_up: threading.Event | None = None
    ) -> bool:
        """Wait until the API answers and the listener is in our process tree. Return False if that
        fails: `last_failure` has the reason, and the process is left as it is. Never waits longer
        than the start limit."""
        current = self._current
        if current is None:
            self._not_started("it was not started")
            return False
        limit = self._settings.start_limit
        readiness = Readiness(
            clock=self._clock,
            host=self._settings.host,
            port=self._settings.port,
            probe=self._probe,
            is_ours=lambda: self._note_listener(current),
            ended=current.ended,
            signs=SignsOfLife(
                self._clock,
                self.log_paths(),
                self._work,
                lambda line: ends_start(line, self._signatures),
            ),
            limit=limit if timeout_s is None else min(timeout_s, limit),
            stall=self._settings.start_stall,
        )
        failed = readiness.wait(give_up or threading.Event())
        self.last_probe = readiness.last_probe
        if failed is not None:
            given_up = give_up is not None and give_up.is_set()
            self._failed(*self._start_failure(current, failed, given_up=given_up))
        else:
            self._not_ready.is_over("", self._clock.monotonic())
        return failed is None

    def stop(self, grace: float | None = None, hurry: threading.Event | None = None) -> bool:
        """Stop the whole process tree: ask it to end, wait `grace` seconds or until `hurry` is set,
        then kill, until nothing is left and the root is reaped. Return whether nothing is left."""
        grace = self._settings.stop_grace if grace is None else grace
        if not self._operations.acquire(timeout=grace + _OPERATION_LIMIT):
            self._failed(*operation_hangs())
            return False
        try:
            return self._stop(grace, hurry)
        finally:
            self._operations.release()

    def _stop(self, grace: float, hurry: threading.Event | None) -> bool:
        identity, current = self._identity, self._current
        if identity is None:
            return True
        if current:
            current.expected = True
        left = process_tree.stop_whole(
            self.processes,
            group=identity.pid or None,
            job_name=identity.job_name,
            grace=grace,
            clock=self._clock,
            hurry=hurry,
        )
        if left:
            self._failed(*cannot_kill(process.pid for process in left))
            return False
        with self._lock:  # from now on, processes in a session of this number are strangers
            self._identity = replace(identity, session=0)
        self._nothing_left = True
        if current:
            current.root_ended.wait(_EXIT_LIMIT)
            current.ended.wait(_EXIT_LIMIT)
        return True

    def restart_and_wait_ready(
        self, timeout_s: float | None = None, give_up: threading.Event | None = None
    ) -> bool:
        """Stop, start, and wait until ready. If that fails, return False with the reason logged and
        in `last_failure`; nothing of ours is left running, unless it `answers_unusable`. Concurrent
        callers share one restart and its result."""
        with self._lock:
            under_way = self._restart_under_way
            mine: Future[bool] = Future()
            if under_way is None:
                self._restart_under_way = mine
        if under_way is not None:
            return under_way.result()
        ready = False
        try:
            ready = self._restart(timeout_s, give_up)
        finally:
            with self._lock:
                self._restart_under_way = None
            mine.set_result(ready)
        return ready

    def close(self) -> None:
        """Forget the process without stopping it, so that the next monitor can adopt it."""
        with self._lock:
            self._current = None

    def _restart(self, timeout_s: float | None, give_up: threading.Event | None) -> bool:
        with self._operations:
            try:
                self.start()
            except ProcessError:
                return False  # logged where it was raised
            if self.wait_ready(timeout_s, give_up):
                return True
            self._stop_after_failure()
            return False

    def _stop_after_failure(self) -> None:
        if self.answers_unusable:
            return
        reason, hold_reason = self.last_failure, self.last_hold_reason
        if self.stop():
            self.last_failure, self.last_hold_reason = reason, hold_reason

    def _follow(self, identity: ProcessIdentity, popen: subprocess.Popen[bytes] | None) -> None:
        current = Incarnation(identity)
        with self._lock:
            self._current = current
        self._record(current, identity)
        self._watch(self._wait_for_root, current, popen)
        if identity.listener_pid not in (0, identity.pid):
            self._watch(self._wait_for_listener, current)

    def _record(self, current: Incarnation, identity: ProcessIdentity) -> None:
        current.identity = self._identity = identity
        identities.save_or_warn(self._state_dir, identity, self.name)

    def _watch(self, wait: Callable[..., None], *args: object) -> None:
        # One for each incarnation: the system announces an exit only to a thread that waits for it.
        name = f"exit of {self.name} {self.incarnation}"
        threading.Thread(target=wait, args=args, name=name, daemon=True).start()

    def _wait_for_root(self, current: Incarnation, popen: subprocess.Popen[bytes] | None) -> None:
        # Without a timeout: with one, Popen.wait() polls.
        code = (
            popen.wait() if popen else wait_gone(current.identity.pid, current.identity.start_mark)
        )
        current.root_ended.set()
        with self._lock:
            # Its number was its own until now, which is how its leftovers are found.
            ended = system.numbering()
            current.identity = replace(current.identity, numbering=ended)
            if self._identity and self._identity.incarnation == current.identity.incarnation:
                self._identity = replace(self._identity, numbering=ended)
            is_wrapper = current.identity.listener_pid not in (0, current.identity.pid)
        if not is_wrapper:
            self._finish(current, code)

    def _wait_for_listener(self, current: Incarnation) -> None:
        self._finish(
            current, wait_gone(current.identity.listener_pid, current.identity.listener_mark)
        )

    def _finish(self, current: Incarnation, code: int | None) -> None:
        """Report the end of an incarnation once. What it left behind is stopped at once, unless
        `on_exit` takes that over."""
        with self._lock:
            if current.ended.is_set():
                return
            ended = WebUIExit(current.identity.incarnation, code, current.expected)
            current.exit = ended
            current.ended.set()
            is_forgotten = self._current is not current
        if is_forgotten:
            return
        takes_over_leftovers = False
        try:
            takes_over_leftovers = bool(self._on_exit(ended))
        finally:
            with self._operations:
                if not (ended.expected or takes_over_leftovers) and self._current is current:
                    self.stop()

    def _note_listener(self, current: Incarnation) -> bool:
        """Return whether the port's listener is in our process tree; if so, it is recorded and
        watched."""
        identity = current.identity
        found = process_tree.listener_of(identity, self.log_paths(), self._settings.port)
        if found is None:
            return False
        if found.pid == identity.listener_pid:
            return True
        mark = system.start_mark(found.pid) or ""
        with self._lock:
            if current.ended.is_set() or self._current is not current:
                return False
            current.identity = replace(identity, listener_pid=found.pid, listener_mark=mark)
        self._record(current, current.identity)
        if found.pid != identity.pid:
            self._watch(self._wait_for_listener, current)
        return True

    def _work(self) -> tuple[float, int]:
        """Return the work of the process tree so far, and sample the host: during a start nobody
        else does."""
        if self._host_snapshots is not None:
            self._host_snapshots.sample()
        return process_tree.cpu_and_io(self.family())

    def _spawn(self, identity: ProcessIdentity) -> subprocess.Popen[bytes]:
        try:
            return spawn(identity, self._state_dir, self._settings)
        except SpawnError as error:
            raise ProcessError(self._not_started(str(error), error.advice)) from error

    def _start_failure(
        self, current: Incarnation, failed: NotReady, *, given_up: bool
    ) -> tuple[str, HoldReason]:
        ended = current.exit
        return explain_start_failure(
            failed,
            probe=self.last_probe,
            given_up=given_up,
            tails=self.get_tail_logs(),
            ended=ended is not None,
            exit_code=ended.code if ended else None,
            memory=self._host_snapshots.memory_before() if self._host_snapshots else None,
            signatures=self._signatures,
            kind=self._settings.kind(),
        )

    def _not_started(self, why: str, advice: str = "", failure: StartFailure | None = None) -> str:
        # The lane goes on hold for this reason, and reports it.
        reason = f"{why}. {advice}" if advice else why
        return self._failed(reason, not_started(why, advice, failure), level=logging.INFO)

    def _failed(self, reason: str, hold_reason: HoldReason, *, level: int = logging.WARNING) -> str:
        self.last_failure = f"{self.name}: {reason}"
        self.last_hold_reason = hold_reason
        now = self._clock.monotonic()
        if line := self._not_ready.persists("", hold_reason.key, self.last_failure, now):
            log.log(level, "%s", line, extra=about(LogEvent.WEBUI_NOT_READY))
        return self.last_failure
