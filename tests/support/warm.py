"""Python processes that have not to import everything first: they are forked from one that has. A
start takes half a second of the processor, and there are hundreds of them.

What a start does (imports, the first signals, closed streams) is seen by the tests that start
Python: test_signals.py, test_streams.py, test_cli_main.py, and each command once in
test_every_command.py. Where nothing can be forked, each process here starts Python, too.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, NoReturn, Protocol

from PIL import Image

from tests.support.helpers import TO_BE_ASKED

CAN_FORK = hasattr(os, "fork")
ROOT = Path(__file__).parents[2]
_POLLING = 0.01


class Process(Protocol):
    """What tests need of a subprocess.Popen; see there."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | Any: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


class Server:
    """Has imported everything, and forks. `redirections`: of its streams, as in a shell; nobody
    reads its stdout. `within`: the command that runs another in a place of its own, as in other
    namespaces, and `shared`: a folder that this place has in common with here."""

    def __init__(
        self, redirections: str = "", *, within: Sequence[str] = (), shared: Path | None = None
    ) -> None:
        self._shared = shared
        self._one_at_a_time = threading.Lock()
        reading, asking = os.pipe()
        answered, writing = os.pipe()
        command = f'exec "$0" -m tests.support.warm {reading} {writing} {redirections}'
        self._process = subprocess.Popen(
            [*within, "sh", "-c", command, sys.executable],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(reading, writing),
            start_new_session=True,
        )
        os.close(reading)
        os.close(writing)
        self._asking, self._answered = os.fdopen(asking, "wb"), os.fdopen(answered, "rb")
        atexit.register(self.end)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        """It ends once nobody can ask it any more."""
        self._asking.close()
        self._answered.close()
        self._process.wait()

    def fork(
        self, words: Sequence[str], cwd: Path, env: Mapping[str, str], *streams: Path
    ) -> Forked:
        """Have it be `python *words`, with stdout and stderr in these files; without them, with the
        server's own streams, and with all that Python does at its end."""
        folder = TemporaryDirectory(prefix="sdwatch-warm-", dir=self._shared)
        paths = [str(path.absolute()) for path in streams]
        with self._one_at_a_time:
            line = json.dumps([folder.name, str(cwd), words, dict(env), paths])
            self._asking.write(line.encode() + b"\n")
            self._asking.flush()
            return Forked(self, int(self._answered.readline()), folder, words)

    def run(
        self, *words: str, cwd: Path, env: Mapping[str, str], limit: float
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `python *words` there to its end. Raises TimeoutExpired after `limit` seconds, and
        leaves it alone then: in another namespace its number is another process's."""
        with TemporaryDirectory(dir=self._shared) as folder:
            out, err = Path(folder, "out"), Path(folder, "err")
            code = self.fork(words, cwd, env, out, err).wait(limit)
            return subprocess.CompletedProcess(
                list(words), code, out.read_bytes(), err.read_bytes()
            )


class Forked:
    """A process that a server has forked, in the ways of a subprocess.Popen."""

    def __init__(
        self, server: Server, pid: int, folder: TemporaryDirectory[str], words: Sequence[str]
    ) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server
        self._folder = folder
        self._words = words

    def poll(self) -> int | None:
        if self.returncode is None:
            with suppress(FileNotFoundError):
                self.returncode = int(Path(self._folder.name, "code").read_text())
                self._folder.cleanup()
        if self.returncode is None:
            assert self._server.lives, "its server died"
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = threading.Event()
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(list(self._words), timeout or 0)
            pause.wait(_POLLING)
        return code

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(getattr(signal, "SIGKILL", signal.SIGTERM))


def begin(
    *words: str,
    out: Path,
    err: Path | None = None,
    cwd: Path = ROOT,
    env: Mapping[str, str],
    creationflags: int = TO_BE_ASKED,
) -> Process:
    """Start `python *words` (`-m MODULE` or `-c CODE`, with arguments), which appends to `out` and
    `err` (default: `out`). `creationflags`: for Windows."""
    err = err or out
    if not CAN_FORK:
        return _started(words, out, err, cwd, env, creationflags)
    for path in (out, err):
        path.touch()  # there from the beginning
    return server().fork(words, cwd, env, out, err)


def _started(
    words: Sequence[str], out: Path, err: Path, cwd: Path, env: Mapping[str, str], flags: int
) -> Process:
    with open(out, "ab") as stdout, open(err, "ab") as stderr:
        # Into one file by one handle: on Windows two would write over each other.
        both = subprocess.STDOUT if err == out else stderr
        streams: dict[str, int | IO[bytes]] = {"stdout": stdout, "stderr": both}
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=cwd,
            env=dict(env),
            creationflags=flags,
            **streams,
        )


def run(
    *words: str, cwd: Path = ROOT, env: Mapping[str, str], limit: float
) -> subprocess.CompletedProcess[bytes]:
    """Run `python *words` to its end, as `subprocess.run` does. Raises TimeoutExpired after `limit`
    seconds."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = begin(*words, out=out, err=err, cwd=cwd, env=env)
        try:
            code = process.wait(limit)
        finally:
            process.kill()
        return subprocess.CompletedProcess(list(words), code, out.read_bytes(), err.read_bytes())


@functools.cache
def server() -> Server:
    """The one for all tests of this process."""
    return Server()


# -- the server


def _serve(asked: int, answers: int) -> None:
    """Fork for each line that is asked and answer the pid; write down how what was forked ended."""
    gc.disable()
    _import_everything()
    gc.freeze()  # what is shared stays so
    gc.enable()
    woken, waking = map(_above_the_streams, os.pipe())
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    folders: dict[int, Path] = {}
    lines = os.fdopen(asked, "rb")
    while True:
        ready, _, _ = select.select([lines, woken], [], [])
        if lines in ready:
            if not (line := lines.readline()):
                return
            folder, *process = json.loads(line)
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                lines.close()
                for ours in (answers, woken, waking):
                    os.close(ours)
                _become(*process)
            folders[pid] = Path(folder)
            os.write(answers, f"{pid}\n".encode())
        if woken in ready:
            os.read(woken, 4096)
            _reap(folders)


def _above_the_streams(number: int) -> int:
    """A descriptor instead of this one that is no standard stream's, even where those are
    closed."""
    import fcntl

    above = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(number)
    return above


def _reap(folders: dict[int, Path]) -> None:
    """Write down the exit codes of all that have ended."""
    while folders:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        folder = folders.pop(pid)
        with suppress(FileNotFoundError):  # nobody asks any more
            (folder / "code.tmp").write_text(str(os.waitstatus_to_exitcode(status)))
            (folder / "code.tmp").rename(folder / "code")


def _import_everything() -> None:
    cli = importlib.import_module("sdwatch.cli")
    for name in cli.COMMANDS:
        importlib.import_module(f"sdwatch.cli.{name}")
    with suppress(ImportError):  # without a client of NATS
        importlib.import_module("sdwatch.cluster.box")
        importlib.import_module("sdwatch.cluster.dispatcher")
    signatures = importlib.import_module("sdwatch.known_signatures")
    signatures.builtin_signatures()  # each would read them again
    simulator = importlib.import_module("sdwatch.simulator")
    for module in pkgutil.iter_modules(simulator.__path__, "sdwatch.simulator."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    Image.init()


def _become(cwd: str, words: list[str], env: dict[str, str], streams: list[str]) -> NoReturn:
    """Be `python *words` from here on."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if not streams:
        sys.exit(_code_of(words))
    code = 1
    try:
        for number, path in enumerate([os.devnull, *streams]):
            opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(opened, number)
            os.close(opened)
        _use_encoding(env.get("PYTHONIOENCODING", "utf-8"))
        code = _code_of(words)
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    finally:  # Python would take its modules apart besides, for longer than all the rest
        os._exit(code)


def _use_encoding(text: str) -> None:
    """As Python does at its start."""
    encoding, _, errors = text.partition(":")
    for stream, how in ((sys.stdout, errors or "strict"), (sys.stderr, "backslashreplace")):
        stream.reconfigure(encoding=encoding, errors=how)  # type: ignore[attr-defined]


def _code_of(words: list[str]) -> int:
    how, what, *arguments = words
    try:
        if how == "-m":
            sys.argv = [what, *arguments]
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            sys.argv = ["-c", *arguments]
            exec(compile(what, "<string>", "exec", dont_inherit=True), {"__name__": "__main__"})
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:  # noqa: BLE001 - the process's edge
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _serve(*map(int, sys.argv[1:]))
