"""`python -m sdwatch.simulator --port N`: flags, boot, signals, exit codes.

Measured with Forge dfdcbab6 (--nowebui): SIGTERM kills at once, SIGINT is exit 0 at once, an
unknown flag is exit 2, a port in use is a log line and a process that lives on for ever.
"""

from __future__ import annotations

import argparse
import errno
import ipaddress
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from sdwatch import __version__
from sdwatch.simulator import console, forge
from sdwatch.simulator.faults import Counters, Fault, Plan, PlanError, load
from sdwatch.simulator.generation import Machine, Speed
from sdwatch.simulator.server import Server, Site


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The flags. A mistake ends the process with code 2 and a message."""
    p = argparse.ArgumentParser(
        prog="python -m sdwatch.simulator",
        description="A WebUI (Forge's API) that needs no GPU: its pictures are drawn.",
    )
    p.add_argument("--version", action="version", version=__version__)
    p.add_argument("--port", type=_port, required=True)
    p.add_argument("--host", type=_loopback, default="127.0.0.1", help="a loopback address")
    p.add_argument("--step-time", type=_seconds, default=0.02, metavar="S")
    p.add_argument("--boot-time", type=_seconds, default=0.3, metavar="S")
    p.add_argument("--load-time", type=_seconds, default=0.2, metavar="S")
    p.add_argument("--switch-time", type=_seconds, default=0.2, metavar="S")
    p.add_argument("--auth", metavar="USER:PASSWORD", help="ask for it, as --api-auth does")
    p.add_argument("--no-model", action="store_true", help="no checkpoint is there")
    p.add_argument("--no-api", action="store_true", help="as if started without --api")
    p.add_argument("--never-ready", action="store_true", help="the port never opens")
    p.add_argument("--crash-on-start", type=int, metavar="CODE")
    p.add_argument("--faults", type=Path, metavar="FILE", help="the fault plan (YAML)")
    p.add_argument("--state", type=Path, metavar="FILE", help="counters that outlive a restart")
    args = p.parse_args(argv)
    try:
        counters = Counters(args.state)
        counters.read()
        args.plan = Plan(load(args.faults) if args.faults else [], counters)
    except PlanError as e:
        p.error(str(e))
    return args


def main() -> NoReturn:
    console.use_utf8()
    args = arguments()
    handle_signals()
    faults = {f.name: f for f in args.plan.start()}
    if "ignore-sigterm" in faults:
        ignore_sigterm()
    boot(args, faults)
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    site = Site(
        Machine(Speed(args.step_time, args.load_time, args.switch_time), not args.no_model),
        args.plan,
        port=args.port,
        auth=args.auth,
        has_api=not args.no_api,
        ignore_sigterm=lambda: calls.put(ignore_sigterm),
    )
    if not args.never_ready and "never-ready" not in faults:
        listen(args, site, taken="port-taken" in faults)
    serve_main_thread(calls)


def boot(args: argparse.Namespace, faults: dict[str, Fault]) -> None:
    """Everything before the port opens; may end the process."""
    for line in forge.boot_lines(args.port):
        console.out(line)
    delay = faults["slow-start"].option("delay") if "slow-start" in faults else 0.0
    time.sleep(args.boot_time + delay)
    code = args.crash_on_start
    if "exit-on-start" in faults:
        code = int(faults["exit-on-start"].option("code"))
    if code is not None:
        console.err(
            'Traceback (most recent call last):\n  File "<webui>/launch.py", line 54, in <module>\n'
            "    main()\nRuntimeError: injected failure while starting"
        )
        sys.exit(code)
    seconds = args.boot_time + delay
    console.out(f"Startup time: {seconds:.1f}s (launcher: {seconds:.1f}s).")


def listen(args: argparse.Namespace, site: Site, *, taken: bool) -> None:
    """Open the port and serve on threads. Where that fails, say so and live on, as Forge does."""
    console.err(f"INFO:     Started server process [{os.getpid()}]")
    console.err("INFO:     Waiting for application startup.")
    console.err("INFO:     Application startup complete.")
    try:
        if taken:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        server = Server((args.host, args.port), site)
    except OSError as e:
        reason = (e.strerror or str(e)).lower()
        console.err(
            f"ERROR:    [Errno {e.errno}] error while attempting to bind on address "
            f"('{args.host}', {args.port}): {reason}"
        )
        return
    console.err(
        f"INFO:     Uvicorn running on http://{args.host}:{args.port} (Press CTRL+C to quit)"
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()


def serve_main_thread(calls: queue.SimpleQueue[Callable[[], None]]) -> NoReturn:
    """Live on. Signal handlers can be set on this thread only, so others send it the wish."""
    while True:
        try:
            calls.get(timeout=0.5)()
        except queue.Empty:
            continue


def handle_signals() -> None:
    """SIGTERM kills, SIGINT is exit 0, whatever we inherited."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))


def ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError(f"no port: {text}")
    return port


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 86_400:
        raise argparse.ArgumentTypeError(f"no number of seconds: {text}")
    return seconds


def _loopback(text: str) -> str:
    host = "127.0.0.1" if text == "localhost" else text
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if address is None or address.version != 4 or not address.is_loopback:
        raise argparse.ArgumentTypeError(f"only an IPv4 loopback address, not {text}")
    return host


if __name__ == "__main__":
    main()
