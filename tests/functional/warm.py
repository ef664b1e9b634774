"""A command as a process of its own that has not to import everything first: it is forked from one
that has. A start takes half a second of the processor, and there are hundreds of them.

What a start does (imports, the first signals, closed streams) is seen by the tests that start
Python: test_signals.py, test_cli_main.py, and each command once in test_every_command.py.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

CAN_FORK = hasattr(os, "fork")

_server: subprocess.Popen[bytes] | None = None


def run(
    cwd: Path, args: Sequence[str], env: Mapping[str, str], limit: float
) -> subprocess.CompletedProcess[str]:
    """Run `sdwatch` with these arguments to its end, as `subprocess.run` does. Raises
    TimeoutExpired after `limit` seconds."""
    server = _running_server(env)
    assert server.stdin is not None
    assert server.stdout is not None
    with TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        asked = [str(cwd), list(args), dict(env), str(out), str(err)]
        server.stdin.write(json.dumps(asked).encode() + b"\n")
        server.stdin.flush()
        if not select.select([server.stdout], [], [], limit)[0]:
            os.killpg(server.pid, signal.SIGKILL)
            raise subprocess.TimeoutExpired(list(args), limit)
        code = int(server.stdout.readline())
        texts = [path.read_text(encoding="utf-8") for path in (out, err)]
    return subprocess.CompletedProcess(list(args), code, *texts)


def _running_server(env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """One for all tests of this process."""
    global _server
    if _server is None or _server.poll() is not None:
        atexit.register(_end_server)
        _server = subprocess.Popen(
            [sys.executable, "-m", "tests.functional.warm"],
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    return _server


def _end_server() -> None:
    if _server is not None:
        _server.communicate()  # it ends with its stdin


def _serve() -> None:
    """Fork for each line of stdin, and say how what was forked ended."""
    cli = importlib.import_module("sdwatch.cli")
    for name in cli.COMMANDS:
        importlib.import_module(f"sdwatch.cli.{name}")
    importlib.import_module("sdwatch.config").builtin_signatures()  # each would read them again
    gc.freeze()  # what is shared stays so
    for line in sys.stdin.buffer:
        if (pid := os.fork()) == 0:
            _become(*json.loads(line))
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(1, f"{code}\n".encode())


def _become(cwd: str, args: list[str], env: dict[str, Any], *streams: str) -> NoReturn:
    """Be `python -m sdwatch` from here on."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for number, path in enumerate([os.devnull, *streams]):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["sdwatch", *args]
    code = _code_of_main()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # Python would take its modules apart besides, for longer than all the rest


def _code_of_main() -> int:
    try:
        runpy.run_module("sdwatch", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:  # noqa: BLE001 - the process's edge
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _serve()
