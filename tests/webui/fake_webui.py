"""A WebUI as far as its process goes: listens, answers /ready, and misbehaves as it is told to.

fake_webui.py PORT [never-ready] [ignore-term] [child] [escapee] [hidden-child] [mute] [die=CODE]
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLEEPER = [sys.executable, "-c", "import signal; signal.pause()"]
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: signal.pause()"
)


def handler_for(ready: bool) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/exit":
                os._exit(0)
            self.send_response(200 if ready else 404)
            self.end_headers()

    return Handler


def escape(command: list[str]) -> None:
    """Double fork into a session of its own."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv(command[0], command)
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
        subprocess.Popen(SLEEPER, env={}, start_new_session=True)
    if "mute" in modes:
        threading.Event().wait()
    print("booting", flush=True)
    server = ThreadingHTTPServer(("127.0.0.1", port), handler_for("never-ready" not in modes))
    print("Running on local URL", file=sys.stderr, flush=True)
    server.serve_forever()


main()
