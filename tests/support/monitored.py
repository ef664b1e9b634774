"""A spool with its config in a test's own folder, and a real monitor on it: in a thread of this
process, or as a process of its own. Its WebUI is the simulator."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import requests
import yaml

from sdwatch import system
from sdwatch.config import Config
from sdwatch.config_file import load_config
from sdwatch.monitor.monitor import Monitor
from sdwatch.monitor.once import MonitorEnd
from sdwatch.spool.heartbeat import HEARTBEAT, read_heartbeat
from sdwatch.system import disk
from sdwatch.webui.process.process_identity import is_living
from tests.support import warm
from tests.support.helpers import (
    PATIENCE,
    UNHURRIED,
    ask_to_stop,
    free_port,
    is_console,
    wait_until,
)

MARK = "SDWATCH_TEST_FOLDER"
"""In the environment of everything that a test's WebUI starts, so that the test finds it again."""

FAST = ("--step-time", "0.005", "--boot-time", "0", "--load-time", "0", "--switch-time", "0")

_DRIVER = """
import sys
from pathlib import Path
from sdwatch.config_file import load_config
from sdwatch.monitor.monitor import Monitor

say = lambda line: print(line, end="", flush=True)  # in one piece: several threads do
monitor = Monitor(load_config(Path(sys.argv[1])), notify=lambda line: say(f"{line}\\n"))
monitor.stop_on_signals()
print(monitor.run(), flush=True)
"""


EXTERNAL: dict[str, Any] = {"command": None, "env": None}
"""Laid over the WebUI `sim`: it is not ours, the test starts its simulator."""


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that are None."""
    return {name: value for name, value in fields.items() if value is not None}


def job(prompt: str = "a castle", **fields: Any) -> str:
    """A small job of one file."""
    given = {"prompt": prompt, "width": 64, "height": 64, "steps": 2, **fields}
    return "".join(f"{name}: {json.dumps(value)}\n" for name, value in given.items())


class Monitored:
    """The spool `root/spool`, the state `root/state`, the config `root/sdwatch.yaml`.

    `flags`: of the simulator; `faults`: the text of its plan; `settings` and `webui`: laid over
    the config's top and over its WebUI `sim`; `others`: more WebUIs. See EXTERNAL, too.
    """

    def __init__(
        self,
        root: Path,
        *,
        flags: Sequence[str] = (),
        faults: str = "",
        settings: Mapping[str, Any] | None = None,
        webui: Mapping[str, Any] | None = None,
        others: Mapping[str, Any] | None = None,
    ) -> None:
        self.root = root
        self.spool, self.state = root / "spool", root / "state"
        self.inbox = self.spool / "inbox"
        self.port = free_port()
        self.told: list[str] = []
        self.monitor: Monitor | None = None
        self.result: MonitorEnd | None = None
        self.broke: BaseException | None = None
        self.process: warm.Process | None = None
        self._thread: threading.Thread | None = None
        self._beat_file = (0, 0)
        self._beat: dict[str, Any] = {}
        self.flags, self._faults = flags, faults
        self._settings, self._webui = dict(settings or {}), dict(webui or {})
        self._others = dict(others or {})
        self.inbox.mkdir(parents=True)
        self.write_config()

    # -- its config

    def write_config(self, **settings: Any) -> None:
        """Write the config again, with changes at its top that stay from now on."""
        self._settings |= settings
        command = [sys.executable, "-m", "sdwatch.simulator", "--port", str(self.port), *FAST]
        command += ["--state", str(self.root / "simulator.json"), *self.flags]
        if self._faults:
            plan = self.root / "faults.yaml"
            # As JSON: each start of the simulator would import the YAML package for it.
            plan.write_text(json.dumps(yaml.safe_load(self._faults)), encoding="utf-8")
            command += ["--faults", str(plan)]
        one = {
            "url": f"http://127.0.0.1:{self.port}",
            "command": command,
            "env": {MARK: str(self.root)},
            "stop_grace": 1,
            "start_limit": 60,
            "health": {"interval": 1, "timeout": 5, "failures": 2},
        }
        config = {
            "spool": str(self.spool),
            "state": str(self.state),
            "settle": 0.1,
            "scan_interval": 0.5,
            "min_free": "1 MB",
            "stop_grace": 10 * PATIENCE,
            "cooldown": [0.1, 0.2],
            **self._settings,
            "webuis": {"sim": given(one | self._webui), **self._others},
        }
        self.config_file.write_text(json.dumps(config, indent=1), encoding="utf-8")
        self.config_file.chmod(0o600)

    def write_webui(self, **webui: Any) -> None:
        """Write the config again, with changes of its WebUI that stay from now on."""
        self._webui |= webui
        self.write_config()

    @property
    def config_file(self) -> Path:
        return self.root / "sdwatch.yaml"

    @property
    def config(self) -> Config:
        return load_config(self.config_file)

    # -- a monitor in a thread

    def start(self, *, once: bool = False, **given: Any) -> None:
        """Begin a monitor in a thread of this process. `given`: its clock, and the like."""
        self.monitor = Monitor(
            self.config,
            config_file=self.config_file,
            once=once,
            notify=lambda notice: self.told.append(str(notice)),
            **given,
        )
        self.result = self.broke = None
        self._thread = threading.Thread(target=self._run, args=(self.monitor,), name="monitor")
        self._thread.start()

    def _run(self, monitor: Monitor) -> None:
        try:
            self.result = monitor.run()
        except BaseException as error:
            self.broke = error
            raise

    def run_until(self, is_dead: Callable[[], bool]) -> None:
        """A monitor in a thread, until it ends, by itself or because `is_dead`."""
        self.start(once=True)
        assert self._thread is not None
        assert self.monitor is not None
        deadline = time.monotonic() + 60 * UNHURRIED
        while self._thread.is_alive() and time.monotonic() < deadline:
            if is_dead():
                self.monitor.stop()
            self._thread.join(0.01)
        assert not self._thread.is_alive(), f"the monitor did not end: {self.told}"

    def ended(self, timeout: float = 60.0) -> MonitorEnd:
        """Wait until the monitor in the thread ends by itself; why it did."""
        assert self._thread is not None
        self._thread.join(timeout * UNHURRIED)
        assert not self._thread.is_alive(), f"the monitor did not end: {self.told}"
        assert self.result is not None, "the monitor broke"
        return self.result

    def stop(self) -> None:
        """Stop the monitor in the thread, if there is one."""
        if self._thread is not None and self._thread.is_alive():
            assert self.monitor is not None
            self.monitor.stop()
            self._thread.join(60 * UNHURRIED)
            assert not self._thread.is_alive(), "the monitor does not stop"

    # -- a monitor as a process

    def start_process(self) -> psutil.Process:
        """Begin a monitor as a process of its own."""
        words = ("-c", _DRIVER, str(self.config_file))
        self.process = warm.begin(*words, out=self.root / "monitor.log", env=os.environ)
        return psutil.Process(self.process.pid)

    def signal(self, number: int = signal.SIGTERM) -> int:
        """Ask the monitor's process to stop by a signal, on Windows by the one there is; the exit
        code it ends with."""
        assert self.process is not None
        if sys.platform == "win32":
            ask_to_stop(self.process)
        else:
            self.process.send_signal(number)
        return self.process.wait(60 * UNHURRIED)

    def kill(self) -> None:
        """Kill the monitor's process: kill -9, on Windows TerminateProcess."""
        assert self.process is not None
        assert self.process.poll() is None, self.monitor_log
        self.process.kill()
        self.process.wait(60)

    def _assert_process_runs(self) -> None:
        """A monitor that ended by itself is no reason to wait on."""
        assert self.process is None or self.process.poll() is None, self.monitor_log

    @property
    def monitor_log(self) -> str:
        return (self.root / "monitor.log").read_text(encoding="utf-8")

    # -- jobs

    def drop(self, name: str, content: str | bytes) -> Path:
        """Rename a whole file into the inbox; its path there."""
        data = content.encode() if isinstance(content, str) else content
        temporary = self.spool / f"drop-{name}"
        temporary.write_bytes(data)
        return temporary.rename(self.inbox / name)

    def waiting(self) -> list[str]:
        return sorted(path.name for path in self.inbox.iterdir())

    def working(self) -> list[Path]:
        return sorted(path for path in self.spool.glob("working/*/*") if path.is_dir())

    def done(self) -> list[Path]:
        return _entries(self.spool / "done")

    def failed(self) -> list[Path]:
        return _entries(self.spool / "failed")

    def wait_for(self, *, done: int = 0, failed: int = 0, timeout: float = 60.0) -> None:
        """Wait until so many runs have ended so."""

        def ended() -> bool:
            self._assert_process_runs()
            return len(self.done()) >= done and len(self.failed()) >= failed

        wait_until(ended, timeout, f"{done} done and {failed} failed")
        assert (len(self.done()), len(self.failed())) == (done, failed), self.told

    # -- what is written down

    def crashes(self) -> list[dict[str, Any]]:
        """The crash history, with the starts."""
        path = self.state / "webui-sim" / "crashes.jsonl"
        return lines_of(path) if path.exists() else []

    def events(self, name: str) -> list[dict[str, Any]]:
        """The crash history's records of one kind."""
        return [record for record in self.crashes() if record["event"] == name]

    def status(self) -> dict[str, Any]:
        """What the monitor's heartbeat says; {} before the first."""
        for folder in _entries(self.spool / "working"):
            with suppress(OSError):  # it has ended, or not yet begun
                beat = folder / HEARTBEAT
                found = beat.stat()
                if (file := (found.st_ino, found.st_mtime_ns)) != self._beat_file:
                    (self._beat,) = read_heartbeat(beat) or [{}]
                    self._beat_file = file
                return self._beat
        return {}

    def lane(self) -> dict[str, Any]:
        """Its WebUI, as the heartbeat has it; {} before the first."""
        return next(iter(self.status().get("lanes", [])), {})

    def wait_ready(self, incarnation: int = 1) -> None:
        wait_until(
            lambda: (
                self.lane().get("state") == "ready" and self.lane()["incarnation"] == incarnation
            ),
            60,
            f"incarnation {incarnation} is ready",
        )

    def two_more_beats(self) -> None:
        """The monitor had two rounds more, with all the time to do what it should not."""
        for _ in range(2):  # `at` is of the main thread; the count also moves while that is busy
            at = self.status()["at"]
            wait_until(lambda at=at: self.status().get("at", at) != at, 60, "a round more")

    # -- the WebUI

    def stats(self) -> dict[str, Any]:
        """What the simulator has counted, over all its lives."""
        path = self.root / "simulator.json"
        if not path.exists():
            return {"starts": 0, "posts": 0}
        value: dict[str, Any] = json.loads(disk.patiently(path.read_text))
        return value

    def wait_posts(self, number: int) -> None:
        """Wait until the simulator has received so many generations."""

        def arrived() -> bool:
            self._assert_process_runs()
            return bool(self.stats()["posts"] == number)

        wait_until(arrived, 30, f"POST number {number}")

    def interrupted(self) -> bool:
        """Whether the simulator was told to interrupt its generation."""
        state = requests.get(f"http://127.0.0.1:{self.port}/sdapi/v1/progress", timeout=10).json()
        return bool(state["state"]["interrupted"])

    def webui_pid(self) -> int:
        identity = json.loads((self.state / "webui-sim" / "identity.json").read_text())
        pid: int = identity["pid"]
        return pid

    def processes(self) -> list[psutil.Process]:
        """All that lives of what this test's WebUI ever started."""
        found = []
        for pid in psutil.pids():
            if system.environ_has(pid, MARK, str(self.root)):
                with _gone_is_fine():
                    found.append(psutil.Process(pid))
        return [each for each in found if is_living(each) and not is_console(each)]

    # -- the end

    def clean_up(self) -> None:
        """End everything that this test began."""
        if self._thread is not None and self._thread.is_alive() and self.monitor is not None:
            self.monitor.stop()
            self.monitor.stop()
            self._thread.join(60)
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        for process in self.processes():
            with _gone_is_fine():
                process.kill()
        assert self._thread is None or not self._thread.is_alive(), "the monitor did not stop"


@contextmanager
def monitored(root: Path, **more: Any) -> Iterator[Monitored]:
    """See Monitored; all that it began is ended at the end."""
    made = Monitored(root, **more)
    try:
        yield made
    finally:
        made.clean_up()


def _entries(folder: Path) -> list[Path]:
    """Not by glob(), which looks at each folder on the way: tests ask again and again."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _gone_is_fine() -> suppress:
    return suppress(psutil.NoSuchProcess)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON lines file; a line that is being written is left out."""
    found = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        found.append(json.loads(line))
    return found


def journal(run: Path, event: str = "") -> list[dict[str, Any]]:
    """The records of a run's journal, all or those of one kind."""
    records = lines_of(run / "journal.jsonl") if (run / "journal.jsonl").exists() else []
    return [record for record in records if event in ("", record["event"])]


def has(run: Callable[[], list[Path]], event: str, **data: Any) -> Callable[[], bool]:
    """Whether the one run that `run` finds has such a record, as a condition to wait for."""

    def look() -> bool:
        try:
            records = journal(run()[0], event)
        except (IndexError, OSError):
            return False
        return any(data.items() <= record.items() for record in records)

    return look


def token_free_environment() -> dict[str, str]:
    """For a foreign process: nothing in it says that it is ours."""
    return {k: v for k, v in os.environ.items() if k not in (MARK, "SDWATCH_TOKEN")}
