"""The WebUI's process: started, adopted, watched, stopped whole, restarted. Only ever our own.

One life of the process is a generation. It ends when its listener ends or, as long as it has none,
when the command itself ends: webui.sh lives on after its python was killed (measured with Forge
dfdcbab6), so a wrapper proves nothing.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from sdwatch import system
from sdwatch.config import builtin_signatures
from sdwatch.errors import PortTakenError, ProcessError
from sdwatch.policy.failure.advice import fitted
from sdwatch.policy.failure.exits import exit_in_words
from sdwatch.policy.failure.facts import Blamed
from sdwatch.policy.failure.hold_reason import HoldReason, no_start, not_begun
from sdwatch.policy.failure.matching import FailedStart, ends_start, why_not_started
from sdwatch.policy.failure.signatures import Signature
from sdwatch.policy.failure.tracebacks import last_words
from sdwatch.policy.job.catalogue import Kind
from sdwatch.system import disk
from sdwatch.system.clock import Clock
from sdwatch.system.failpoints import failpoint
from sdwatch.webui.log.log_lines import split_lines
from sdwatch.webui.log.tail_capture import cap_file, tail_text
from sdwatch.webui.process import process_identity as identities
from sdwatch.webui.process import process_tree
from sdwatch.webui.process.host_snapshot import Machine, memory_in_words, memory_low
from sdwatch.webui.process.process_identity import ProcessIdentity
from sdwatch.webui.process.readiness import (
    FREE_THE_PORT,
    ProbeResult,
    Readiness,
    SignsOfLife,
    port_taken,
)

__all__ = ["ProbeResult", "WebUIExit", "WebUIProcessManager"]

log = logging.getLogger("sdwatch.webui")

_KEPT_INCARNATIONS = 20
_REAP_LIMIT = 5.0
_ADOPTION_LIMIT = 10.0

_OUTPUT = {
    # Without it the boot lines sit in a buffer (measured with Forge dfdcbab6).
    "PYTHONUNBUFFERED": "1",
    # Into a file Python writes cp1252 on Windows, where a prompt in Chinese raises
    # UnicodeEncodeError inside the WebUI (A1111#1005), and ASCII where there is no locale.
    "PYTHONIOENCODING": "utf-8:backslashreplace",
}
"""How a WebUI is to print, unless the config's `env` has other wishes."""


@dataclass(frozen=True)
class WebUIExit:
    """The end of a generation. `code` is None where only the parent could see it (adopted, or
    behind a wrapper), negative for a signal; `expected`: it was we who stopped it."""

    incarnation: int
    code: int | None
    at_wall: float
    expected: bool


@dataclass
class _Life:
    """A generation as this monitor sees it."""

    identity: ProcessIdentity
    ended: threading.Event = field(default_factory=threading.Event)
    reaped: threading.Event = field(default_factory=threading.Event)  # its root, at least
    expected: bool = False


class WebUIProcessManager:
    """One WebUI's process. All methods may be called from any thread.

    `state_dir` is local and made if need be; `probe` asks the API once; `on_exit` is called once
    for each generation, on a thread of its own, as soon as it has ended. Seconds: `start_limit`
    (no start takes longer), `start_stall` (none is without any sign of life for longer),
    `stop_grace` (between asking and killing). `log_cap` is in bytes, for each file. `signatures`
    tell why a start failed; None for those that sdwatch knows by itself. `machine` remembers how
    much memory was left.
    """

    def __init__(
        self,
        *,
        name: str,
        command: Sequence[str],
        port: int,
        state_dir: Path,
        clock: Clock,
        probe: Callable[[], ProbeResult],
        on_exit: Callable[[WebUIExit], None] = lambda _: None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        host: str = "127.0.0.1",
        start_limit: float = 3600.0,
        start_stall: float = 300.0,
        stop_grace: float = 10.0,
        log_cap: int = 50_000_000,
        signatures: tuple[Signature, ...] | None = None,
        machine: Machine | None = None,
    ) -> None:
        self.name = name
        self.last_failure = ""
        self.last_hold_reason = HoldReason("")  # the same, as people are told
        self.last_probe: ProbeResult | None = None
        self.last_exit: WebUIExit | None = None
        self._command = list(command)
        self._host, self._port = host, port
        self._state_dir = state_dir
        self._clock = clock
        self._probe = probe
        self._on_exit = on_exit
        self._cwd = cwd
        self._env = dict(env or {})
        self._start_limit, self._start_stall = start_limit, start_stall
        self._stop_grace = stop_grace
        self._log_cap = log_cap
        self._signatures = builtin_signatures() if signatures is None else signatures
        self._machine = machine
        self._lock = threading.Lock()  # of the fields below; never held while waiting
        self._operations = threading.RLock()  # one adopt, start or stop at a time
        self._life: _Life | None = None
        self._exits: dict[int, WebUIExit] = {}
        self._restart_under_way: Future[bool] | None = None
        disk.ensure_folder(state_dir)
        self._identity = identities.load(state_dir)

    # --- what it is -------------------------------------------------------------------------

    @property
    def incarnation(self) -> int:
        """Counted over the whole life of the state folder; 0 before the first."""
        return self._identity.incarnation if self._identity else 0

    def is_process_alive(self) -> bool:
        """Whether the listener exists or, before there is one, the root. A zombie does not."""
        life = self._life
        if life is None or life.ended.is_set():
            return False
        watched = life.identity.listener_pid or life.identity.pid
        return any(process.pid == watched for process in identities.recorded(life.identity))

    @property
    def answers_unusable(self) -> bool:
        """Whether it lives, and answered when it was last waited for that it cannot be used as it
        is. A restart is no cure for that; a person may be one while it runs, with a model."""
        probe = self.last_probe
        return probe is not None and probe.unusable and self.is_process_alive()

    def exit_of(self, incarnation: int) -> WebUIExit | None:
        """How that generation ended; None while it lives, or where that was not seen."""
        with self._lock:
            return self._exits.get(incarnation)

    def processes(self) -> list[psutil.Process]:
        """All of ours that live, those included that have left the family."""
        return identities.processes(self._identity, self.log_paths()) if self._identity else []

    def cpu_and_io(self) -> tuple[float, int]:
        """Processor seconds and I/O bytes of the tree so far: evidence of work."""
        return process_tree.cpu_and_io(self._family())

    def family(self) -> list[psutil.Process]:
        """Its processes, as far as they are each other's children: cheap to ask for."""
        return self._family()

    def rss(self) -> int:
        """Bytes of memory that the tree holds."""
        return process_tree.rss(self._family())

    def log_paths(self) -> tuple[Path, Path]:
        """Where this generation's stdout and stderr go."""
        return identities.log_paths(self._state_dir, self.incarnation)

    def get_tail_logs(self, max_lines: int = 200) -> dict[str, str]:
        """The last lines of this generation: `{"stdout": ..., "stderr": ...}`. Never raises."""
        stdout, stderr = self.log_paths()
        return {"stdout": tail_text(stdout, max_lines), "stderr": tail_text(stderr, max_lines)}

    def cap_logs(self) -> None:
        """Truncate in place what has grown past the cap."""
        for path in self.log_paths():
            cap_file(path, self._log_cap)

    # --- what it does -----------------------------------------------------------------------

    def adopt(self, timeout_s: float | None = None, give_up: threading.Event | None = None) -> bool:
        """Take over a process of ours that an earlier monitor left; whether it is ready.

        One that is not ready within `timeout_s` is sick, and stopped whole, unless it
        `answers_unusable`. Without a time, one that was ready before gets 10 s, and one that was
        still starting all that a start gets.
        When `give_up` is set, it is left as it is.
        """
        with self._operations:
            found = self.processes()
            if self._identity is None or not found:
                return False
            root = self._root_of(self._identity, found)
            mark = system.start_mark(root.pid) or ""
            self._begin(identities.rooted(self._identity, root.pid, mark), None)
            if timeout_s is None and self._identity.listener_pid:
                timeout_s = _ADOPTION_LIMIT
            if self.wait_ready(timeout_s, give_up):
                log.info("%s: adopted generation %d, pid %d", self.name, self.incarnation, root.pid)
                return True
            if give_up is None or not give_up.is_set():
                self._stop_after_failure()
            return False

    def start(self) -> None:
        """Begin a new generation; what is left of the last one is stopped and reaped before.

        Raises PortTakenError, naming the owner, and ProcessError: the command cannot be run, the
        state folder cannot be written, or the last generation cannot be stopped.
        """
        with self._operations:
            self.last_probe = None
            if not self.stop():
                raise ProcessError(self.last_failure)
            owner = process_tree.owner_of(self._host, self._port)
            if owner:
                raise PortTakenError(self._not_begun(port_taken(self._port, owner), FREE_THE_PORT))
            try:
                intent = identities.intend(self._state_dir, self._clock.boot_id(), self._command[0])
                identities.remove_old_logs(self._state_dir, intent.incarnation, _KEPT_INCARNATIONS)
            except OSError as error:
                reason = f"{self._state_dir} cannot be written: {error}. Nothing was started."
                hold_reason = HoldReason(
                    reason, "Make room there, or let sdwatch write to it.", Blamed.MACHINE
                )
                raise ProcessError(self._failed(reason, hold_reason)) from error
            self._identity = intent
            popen = self._spawn(intent)
            mark = system.start_mark(popen.pid) or ""
            self._begin(identities.rooted(intent, popen.pid, mark), popen)
            log.info("%s: started generation %d, pid %d", self.name, self.incarnation, popen.pid)

    def wait_ready(
        self, timeout_s: float | None = None, give_up: threading.Event | None = None
    ) -> bool:
        """Wait until the API answers and the listener is in our tree; if not, `last_failure` has
        the reason, and the process is left as it is. Never longer than the start limit."""
        life = self._life
        if life is None:
            self._not_begun("nothing was started")
            return False
        readiness = Readiness(
            clock=self._clock,
            host=self._host,
            port=self._port,
            probe=self._probe,
            is_ours=lambda: self._note_listener(life),
            ended=life.ended,
            signs=SignsOfLife(
                self._clock,
                self.log_paths(),
                self._work,
                lambda line: ends_start(line, self._signatures),
            ),
            limit=self._start_limit if timeout_s is None else min(timeout_s, self._start_limit),
            stall=self._start_stall,
        )
        failed = readiness.wait(give_up or threading.Event())
        self.last_probe = readiness.last_probe
        if failed is not None:
            lack = self.last_probe.lacks if self.last_probe else None  # the WebUI itself says so
            given_up = give_up is not None and give_up.is_set()
            known = None if lack or given_up else self._why_not_started(life)
            why = f": {known.cause}. {fitted(known.advice, Kind.UNKNOWN)}" if known else ""
            how = failed.text + self._how_it_ended(life)
            if failed.advice:
                why = f". {failed.advice}"
            # What was raised may quote a prompt: whoever shows a trouble redacts it, the log not.
            named = how if lack or given_up else how + self._what_it_raised()
            self._failed(how + why, no_start(named, known, failed.failure, lack, failed.advice))
        return failed is None

    def stop(self, grace: float | None = None, hurry: threading.Event | None = None) -> bool:
        """End the whole tree: ask, wait `grace` seconds or until `hurry` is set, kill, until
        nothing is left and the root is reaped. Whether nothing is left."""
        with self._operations:
            identity, life = self._identity, self._life
            if identity is None:
                return True
            if life:
                life.expected = True
            left = process_tree.stop_whole(
                self.processes,
                group=identity.pid or None,
                job_name=identity.job_name,
                grace=self._stop_grace if grace is None else grace,
                clock=self._clock,
                hurry=hurry,
            )
            if left:
                pids = ", ".join(str(process.pid) for process in left)
                reason = f"pid {pids} cannot be killed: it hangs in the kernel or a driver"
                self._failed(
                    reason, HoldReason(reason, "Only a restart of the machine.", Blamed.MACHINE)
                )
                return False
            with self._lock:  # whatever is in a session of this number from now on is a stranger
                self._identity = replace(identity, session=0)
            if life:
                life.reaped.wait(_REAP_LIMIT)
                life.ended.wait(_REAP_LIMIT)
            return True

    def restart_and_wait_ready(
        self, timeout_s: float | None = None, give_up: threading.Event | None = None
    ) -> bool:
        """Stop, start, wait until ready. False with the reason logged and in `last_failure`, and
        nothing of ours left running, unless it `answers_unusable`. Who asks while a restart is
        under way shares its result."""
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
        """Forget the process without stopping it: the next monitor can adopt it."""
        with self._lock:
            self._life = None

    # --- the parts --------------------------------------------------------------------------

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

    def _spawn(self, identity: ProcessIdentity) -> subprocess.Popen[bytes]:
        stdout, stderr = identities.log_paths(self._state_dir, identity.incarnation)
        ours = {identities.TOKEN_NAME: identity.token}
        env = {**os.environ, **_OUTPUT, **self._env, **ours}
        try:
            failpoint("spawn", Path(self._command[0]))
            return system.spawn(
                self._command,
                cwd=self._cwd,
                env=env,
                stdout=stdout,
                stderr=stderr,
                job_name=identity.job_name,
            )
        except (OSError, ValueError) as error:
            why, advice = f"{self._command[0]!r} could not be started: {error}", "Check `command`."
            if self._cwd and (long := system.too_long_for_programs(self._cwd)):
                why, advice = f"the working folder's path {long}: {self._cwd}", "Move the WebUI."
            elif self._cwd and not self._cwd.is_dir():
                why, advice = f"working folder not found: {self._cwd}", ""
            elif isinstance(error, FileNotFoundError):
                why = f"command not found: {why}"
            raise ProcessError(self._not_begun(why, advice)) from error

    def _begin(self, identity: ProcessIdentity, popen: subprocess.Popen[bytes] | None) -> None:
        life = _Life(identity)
        with self._lock:
            self._life = life
        self._record(life, identity)
        self._watch(self._wait_for_root, life, popen)
        if identity.listener_pid not in (0, identity.pid):
            self._watch(self._wait_for_listener, life)

    def _record(self, life: _Life, identity: ProcessIdentity) -> None:
        life.identity = self._identity = identity
        try:
            identities.save(self._state_dir, identity)
        except OSError as error:  # the intent is on disk: the token still finds the process
            log.warning("%s: pid %d is not written down: %s", self.name, identity.pid, error)

    def _watch(self, wait: Callable[..., None], *args: object) -> None:
        name = f"exit of {self.name} {self.incarnation}"
        threading.Thread(target=wait, args=args, name=name, daemon=True).start()

    def _wait_for_root(self, life: _Life, popen: subprocess.Popen[bytes] | None) -> None:
        # Without a timeout: with one, Popen.wait() polls.
        code = popen.wait() if popen else _wait_gone(life.identity.pid, life.identity.start_mark)
        life.reaped.set()
        with self._lock:
            # It had its number until this moment. What it leaves behind is found by that.
            ended = system.numbering()
            life.identity = replace(life.identity, numbering=ended)
            if self._identity and self._identity.incarnation == life.identity.incarnation:
                self._identity = replace(self._identity, numbering=ended)
            is_wrapper = life.identity.listener_pid not in (0, life.identity.pid)
        if not is_wrapper:
            self._end(life, code)

    def _wait_for_listener(self, life: _Life) -> None:
        self._end(life, _wait_gone(life.identity.listener_pid, life.identity.listener_mark))

    def _end(self, life: _Life, code: int | None) -> None:
        """The generation has ended: tell once, then stop what it left behind."""
        with self._lock:
            if life.ended.is_set():
                return
            incarnation = life.identity.incarnation
            ended = WebUIExit(incarnation, code, self._clock.wall(), life.expected)
            self._exits[incarnation] = self.last_exit = ended
            self._exits.pop(incarnation - _KEPT_INCARNATIONS, None)
            life.ended.set()
            is_forgotten = self._life is not life
        if is_forgotten:
            return
        try:
            self._on_exit(ended)
        finally:
            with self._operations:
                if not ended.expected and self._life is life:
                    self.stop()

    def _note_listener(self, life: _Life) -> bool:
        """Whether the port's listener is in our tree; if so, it is written down and watched."""
        identity = life.identity
        found = process_tree.listener(
            identities.family(identity), self._port
        ) or process_tree.listener(identities.processes(identity, self.log_paths()), self._port)
        if found is None:
            return False
        if found.pid == identity.listener_pid:
            return True
        mark = system.start_mark(found.pid) or ""
        with self._lock:
            if life.ended.is_set() or self._life is not life:
                return False
            life.identity = replace(identity, listener_pid=found.pid, listener_mark=mark)
        self._record(life, life.identity)
        if found.pid != identity.pid:
            self._watch(self._wait_for_listener, life)
        return True

    def _root_of(self, identity: ProcessIdentity, found: list[psutil.Process]) -> psutil.Process:
        """The recorded root; else the listener; else the oldest, which began the others."""
        for process in identities.recorded(identity):
            if process.pid == identity.pid:
                return process
        return process_tree.listener(found, self._port) or min(
            found, key=lambda process: (process.create_time(), process.pid)
        )

    def _family(self) -> list[psutil.Process]:
        return identities.family(self._identity) if self._identity else []

    def _how_it_ended(self, life: _Life) -> str:
        ended = self.exit_of(life.identity.incarnation)
        return f": {exit_in_words(ended.code)}" if ended else ""

    def _what_it_raised(self) -> str:
        outputs = [split_lines(text) for text in self.get_tail_logs().values()]
        raised = last_words([line.text for line in lines] for lines in outputs)
        return f"; its log: {raised}" if raised else ""

    def _why_not_started(self, life: _Life) -> Signature | None:
        """What the log, the exit code and the memory tell of it, where they are known."""
        ended = self.exit_of(life.identity.incarnation)
        outputs = tuple(text.splitlines() for text in self.get_tail_logs().values())
        before = self._machine.memory_before() if self._machine else None
        start = FailedStart(outputs, ended.code if ended else None, memory_low(before))
        known = why_not_started(start, self._signatures)
        if known is not None and known.asks_for_memory:
            known = replace(known, cause=f"{known.cause} ({memory_in_words(before)})")
        return known

    def _work(self) -> tuple[float, int]:
        """The same as `cpu_and_io`, for a start: nobody else looks at the machine meanwhile."""
        if self._machine is not None:
            self._machine.look()
        return self.cpu_and_io()

    def _not_begun(self, why: str, advice: str = "") -> str:
        return self._failed(f"{why}. {advice}" if advice else why, not_begun(why, advice))

    def _failed(self, reason: str, hold_reason: HoldReason) -> str:
        self.last_failure = f"WebUI {self.name}: {reason}"
        self.last_hold_reason = hold_reason
        log.warning("%s", self.last_failure)
        return self.last_failure


def _wait_gone(pid: int, mark: str) -> int | None:
    """Block until the process with this pid and start mark is dead; its exit code, if seen."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
    # A mark that may not be read is "", here and in the record: such a process is waited for.
    return system.wait_gone(process) if (system.start_mark(pid) or "") == mark else None
