"""`python -m sdwatch.simulator --port N`: the flags and the boot."""

from __future__ import annotations

import argparse
import errno
import ipaddress
import sys
import time
from pathlib import Path
from typing import NoReturn

from sdwatch import __version__
from sdwatch.simulator import console
from sdwatch.simulator.a1111 import A1111
from sdwatch.simulator.faults import Counters, Fault, Plan, PlanError, load
from sdwatch.simulator.forge import FORGE
from sdwatch.simulator.forge_neo import FORGE_NEO
from sdwatch.simulator.generation import Speed
from sdwatch.simulator.process import ignore_sigterm
from sdwatch.simulator.sdcpp import SDCPP
from sdwatch.simulator.sdnext import SDNEXT
from sdwatch.simulator.site import Settings
from sdwatch.simulator.start_failures import SERVER_THREAD_DIED, START_FAILURES, fail
from sdwatch.simulator.voice import Voice

KINDS = {kind.name: kind for kind in (FORGE, FORGE_NEO, A1111, SDNEXT, SDCPP)}


_DESCRIPTION = """\
A WebUI that needs no GPU: its pictures are drawn. With --kind it has the API, the faults, the log
and the end of a Forge (the default), an AUTOMATIC1111 v1.10.1, an SD.Next or a
stable-diffusion.cpp server, as each was measured: what a failure answers (SD.Next: 200 without
images), when the model is loaded, what poisons it and what cures that, which routes are missing,
what SIGTERM and a port in use do. The checkpoint simulated-corrupt (not sdcpp) cannot be read.
"""


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the flags. A mistake ends the process with code 2 and a message."""
    p = argparse.ArgumentParser(
        prog="python -m sdwatch.simulator",
        description=_DESCRIPTION,
    )
    p.add_argument("--version", action="version", version=__version__)
    p.add_argument("--kind", choices=KINDS, default="forge", help="whose ways it has")
    p.add_argument("--port", type=_port, required=True)
    p.add_argument("--host", type=_loopback, default="127.0.0.1", help="a loopback address")
    p.add_argument("--step-time", type=_seconds, default=0.02, metavar="S")
    p.add_argument("--boot-time", type=_seconds, default=0.3, metavar="S")
    p.add_argument("--load-time", type=_seconds, default=0.2, metavar="S")
    p.add_argument("--switch-time", type=_seconds, default=0.2, metavar="S")
    p.add_argument("--auth", metavar="USER:PASSWORD", help="ask for it, as --api-auth does")
    p.add_argument("--no-model", action="store_true", help="no checkpoint is there")
    p.add_argument(
        "--model-file",
        type=Path,
        metavar="FILE",
        help="no checkpoint is there until this file is, and the list of checkpoints is refreshed",
    )
    p.add_argument("--no-api", action="store_true", help="as if started without --api")
    p.add_argument("--never-ready", action="store_true", help="the port never opens")
    p.add_argument("--crash-on-start", type=int, metavar="CODE")
    _sdnext_flags(p)
    p.add_argument("--faults", type=Path, metavar="FILE", help="the fault plan (YAML)")
    p.add_argument("--state", type=Path, metavar="FILE", help="counters that outlive a restart")
    args = p.parse_args(argv)
    for flag in KINDS[args.kind].lacks:
        if getattr(args, flag):
            p.error(f"--{flag.replace('_', '-')} makes no sense with --kind {args.kind}")
    try:
        counters = Counters(args.state)
        counters.read()
        args.plan = Plan(load(args.faults) if args.faults else [], counters)
    except PlanError as e:
        p.error(str(e))
    return args


def _sdnext_flags(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--rate-limit",
        type=_units,
        metavar="UNITS",
        help="sdnext: cost units a minute, for each path; off unless given (the real one: 300)",
    )
    p.add_argument(
        "--extras-work",
        action="store_true",
        help="sdnext: extra-single-image answers its picture, as other releases do",
    )


def main() -> NoReturn:
    console.use_utf8()
    args = arguments()
    kind = KINDS[args.kind]
    traits = kind.traits
    process = kind.process(traits.voice)
    process.handle_signals()
    faults = {f.name: f for f in args.plan.start()}
    if "ignore-sigterm" in faults:
        ignore_sigterm()
    boot(args, traits.voice, faults)
    speed = Speed(args.step_time, args.load_time, args.switch_time)
    machine = kind.machine(traits, speed, has_model=not args.no_model)
    machine.wait_for_model(args.model_file)
    dies, late = faults.get("server-thread-dies"), faults.get("late-routes")
    settings = Settings(
        args.port,
        args.auth,
        not args.no_api and dies is None,
        args.rate_limit,
        extras_work=args.extras_work,
        late_answers=int(late.option("answers")) if late else 0,
    )
    machine.remember_options(args.state and args.state.with_suffix(".options.json"))
    site = kind.site(traits, machine, args.plan, settings, process.ignore_sigterm)
    silent = args.never_ready or "never-ready" in faults
    if not silent and (dies is None or dies.option("opened")):
        process.listen((args.host, args.port), site, refused=_refused(faults))
    if dies is not None:
        console.err(SERVER_THREAD_DIED)
    process.live()


def _refused(faults: dict[str, Fault]) -> int:
    """Return the error number of a port that cannot be had; 0 for none."""
    if "port-taken" in faults:
        return errno.EADDRINUSE
    return errno.EACCES if "port-forbidden" in faults else 0


def boot(args: argparse.Namespace, voice: Voice, faults: dict[str, Fault]) -> None:
    """Everything before the port opens; may end the process."""
    voice.boot(args.port)
    delay = faults["slow-start"].option("delay") if "slow-start" in faults else 0.0
    time.sleep(args.boot_time + delay)
    for name in START_FAILURES.keys() & faults.keys():
        fail(START_FAILURES[name])
    code = args.crash_on_start
    if "exit-on-start" in faults:
        code = int(faults["exit-on-start"].option("code"))
    if code is not None:
        voice.broken_start()
        sys.exit(code)
    if "extension-not-loaded" in faults:
        voice.extension_not_loaded()
    voice.booted(args.boot_time + delay)


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError(f"no port: {text}")
    return port


def _units(text: str) -> int:
    units = int(text)
    if units < 1:
        raise argparse.ArgumentTypeError(f"no limit: {text}")
    return units


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
