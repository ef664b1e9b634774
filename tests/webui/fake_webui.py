"""A WebUI as far as its process goes: listens, answers /ready, and misbehaves as its arguments say.

fake_webui.py PORT [never-ready] [ignore-term] [child] [escapee] [hidden-child] [plain-child]
              [orphan] [silent-orphan] [foreign-orphan] [out-of-reach] [mute] [die=CODE]

A plain child and the orphans have an empty environment and stay in the session. An orphan's parent
has ended; a silent one prints nowhere; a foreign one is another user's (root alone can make it).
What is out of reach is an orphan that has left the session as well.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLEEPER = [sys.executable, "-c", "import threading; threading.Event().wait()"]
# Python does not start without SYSTEMROOT on Windows.
NO_ENVIRONMENT = {name: os.environ[name] for name in ("SYSTEMROOT",) if sys.platform == "win32"}
STUBBORN = (
    "import signal, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "threading.Event().wait()"
)


def handler_for(ready: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/exit":
                os._exit(0)
            self.send_response(200 if ready else 404)
            self.end_headers()

    return Handler


def _left_by_its_parent(env: dict[str, str], flags: int) -> None:
    """A sleeper whose parent has ended."""
    how = f"env={env!r}, creationflags={flags}"
    starts_it = f"import subprocess; subprocess.Popen({SLEEPER!r}, {how})"
    subprocess.run([sys.executable, "-c", starts_it], check=True)


def escape(command: list[str]) -> None:
    """Double fork into a session of its own."""
    if sys.platform == "win32":
        _left_by_its_parent(dict(os.environ), subprocess.DETACHED_PROCESS)
        return
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(command[0], command)
        os._exit(0)
    os.wait()


def orphan(user: int | None = None, leave: bool = False, silent: bool = False) -> None:
    """A grandchild in the same session, whose parent has ended, with an empty environment."""
    if sys.platform == "win32":
        _left_by_its_parent(NO_ENVIRONMENT, 0)
        return
    if os.fork() == 0:
        if leave:
            os.setsid()
        if os.fork() == 0:
            if user is not None:
                os.setuid(user)
            if silent:
                for fd in (1, 2):
                    os.dup2(0, fd)  # /dev/null
            os.execve("/bin/sleep", ["sleep", "600"], {})
        os._exit(0)
    os.wait()


def main() -> None:
    port, modes = int(sys.argv[1]), sys.argv[2:]
    for mode in modes:
        if mode.startswith("die="):
            print("boot failed", file=sys.stderr)
            sys.exit(int(mode[4:]))
    if "ignore-term" in modes:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "child" in modes:
        subprocess.Popen([SLEEPER[0], "-c", STUBBORN])
    if "escapee" in modes:
        escape(SLEEPER)
    if "hidden-child" in modes:
        subprocess.Popen(SLEEPER, env=NO_ENVIRONMENT, start_new_session=True)
    if "plain-child" in modes:
        subprocess.Popen(SLEEPER, env=NO_ENVIRONMENT)
    if "orphan" in modes:
        orphan()
    if "silent-orphan" in modes:
        orphan(silent=True)
    if "foreign-orphan" in modes:
        orphan(user=65534)
    if "out-of-reach" in modes:
        orphan(leave=True)
    if "mute" in modes:
        threading.Event().wait()
    print("booting", flush=True)
    server = ThreadingHTTPServer(("127.0.0.1", port), handler_for("never-ready" not in modes))
    print("Running on local URL", file=sys.stderr, flush=True)
    server.serve_forever()


main()
