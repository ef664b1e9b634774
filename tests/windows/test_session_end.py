"""A console window that closes, a logoff and a shutdown end a monitor cleanly and quickly."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import LIMIT, _env, drop, heartbeat, make_spool
from tests.support.helpers import wait_until

# What the system does: it calls on a thread of its own, and ends the process 5 s later, or as soon
# as the call returns. Here it does so once the file `close` is there.
_IMITATED = """
import os, sys, threading, time
from pathlib import Path
from sdwatch import system

def when_session_ends(end):
    def wait():
        while not Path("close").exists():
            time.sleep(0.02)
        threading.Timer(5.0, os._exit, [99]).start()
        end()
        os._exit(98)
    threading.Thread(target=wait, daemon=True).start()

system.when_session_ends = when_session_ends
"""

# The same by Windows' own ways: its thread runs the routine that was given to it; its message.
_BY_CONSOLE = """
import ctypes, threading, time
from pathlib import Path
from sdwatch.system import session_end

def close():
    while not Path("close").exists():
        time.sleep(0.02)
    ctypes.windll.kernel32.CreateThread(None, 0, session_end._routines[0], 2, 0, None)

threading.Thread(target=close, daemon=True).start()
"""
_BY_MESSAGE = """
import threading, time
from pathlib import Path
import win32con, win32gui
from sdwatch.system import session_end

def close():
    while not Path("close").exists():
        time.sleep(0.02)
    window = win32gui.FindWindow(session_end.WINDOW_CLASS, None)
    assert win32gui.SendMessage(window, win32con.WM_QUERYENDSESSION, 0, 0)
    win32gui.SendMessage(window, win32con.WM_ENDSESSION, 1, 0)

threading.Thread(target=close, daemon=True).start()
"""
_RUN = """
import sys
sys.argv[1:] = ["run"]
from sdwatch.__main__ import main
sys.exit(main())
"""

ON_WINDOWS = pytest.mark.skipif(sys.platform != "win32", reason="Windows' own API")


def _has_no_windows() -> bool:
    if sys.platform != "win32":
        return True
    is_wine = hasattr(ctypes.windll.ntdll, "wine_get_version")
    return is_wine and not os.environ.get("DISPLAY")


WITH_WINDOWS = pytest.mark.skipif(_has_no_windows(), reason="wine has windows only with a display")
WAYS = [
    pytest.param(_IMITATED, id="imitated"),
    pytest.param(_BY_CONSOLE, id="console", marks=ON_WINDOWS),
    pytest.param(_BY_MESSAGE, id="message", marks=WITH_WINDOWS),
]


def webui_of(root: Path) -> psutil.Process | None:
    path = next(iter(root.glob("state/webui-*/identity.json")))
    try:
        return psutil.Process(json.loads(path.read_text())["pid"])
    except psutil.NoSuchProcess:
        return None


@pytest.mark.parametrize("leave_running", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_session_that_ends_suspends_the_run_and_stops_the_webui_unless_that_may_continue(
    tmp_path: Path, way: str, leave_running: bool
) -> None:
    make_spool(tmp_path, "--step-time", "5")
    config = json.loads((tmp_path / "sdwatch.yaml").read_text())
    config["webuis"]["simulator"]["leave_running"] = "on" if leave_running else "off"
    (tmp_path / "sdwatch.yaml").write_text(json.dumps(config))
    drop(tmp_path, "castle.yaml", "prompt: a castle\nsteps: 50\n")
    monitor = subprocess.Popen(
        [sys.executable, "-c", way + _RUN], cwd=tmp_path, env=_env(), stdout=subprocess.PIPE
    )
    left = None
    try:
        is_calling = lambda: any(r["calling"] for r in heartbeat(tmp_path).get("runs", []))  # noqa: E731
        wait_until(is_calling, LIMIT, "a call is under way")
        webui = webui_of(tmp_path)
        assert webui is not None
        (tmp_path / "close").touch()
        assert monitor.wait(LIMIT) == ExitCode.OK
        left = webui if webui.is_running() else None
        assert (left is not None) == leave_running
    finally:
        monitor.kill()
        if left is not None:
            left.kill()
            left.wait(20)
    assert not list(tmp_path.glob("working/*/heartbeat.json"))
    (journal,) = tmp_path.glob("working/*/*/journal.jsonl")
    events = [json.loads(line)["event"] for line in journal.read_text().splitlines()]
    assert "call_failed" not in events
