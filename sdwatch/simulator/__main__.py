"""`python -m sdwatch.simulator --port N`: the flags and the boot."""

from __future__ import annotations

import argparse
import errno
import importlib
import ipaddress
import sys
import time
from pathlib import Path
from typing import NoReturn

from sdwatch import __version__
from sdwatch.simulator import console, installed
from sdwatch.simulator.faults import Counters, Fault, Plan, PlanError, load
from sdwatch.simulator.generation import Speed
from sdwatch.simulator.kind import Kind
from sdwatch.simulator.process import ignore_sigterm
from sdwatch.simulator.site import MEBIBYTE, Settings
from sdwatch.simulator.start_failures import SERVER_THREAD_DIED, START_FAILURES, fail

KINDS = ("forge", "forge-neo", "a1111", "sdnext", "sdcpp", "comfyui")


def kind_named(name: str) -> Kind:
    """Return one of KINDS: `FORGE_NEO` of the module `forge_neo`, for instance. A start imports
    only its own kind, because the others' interfaces take as long as everything else."""
    module = name.replace("-", "_")
    kind: Kind = getattr(importlib.import_module(f"sdwatch.simulator.{module}"), module.upper())
    return kind


_DESCRIPTION = """\
A WebUI that needs no GPU: its pictures are drawn. With --kind it has the API, the faults, the log
and the end of a Forge (the default), an AUTOMATIC1111 v1.10.1, an SD.Next, a stable-diffusion.cpp
server or a ComfyUI, as each was measured: what a failure answers (SD.Next: 200 without images),
when the model is loaded, what poisons it and what cures that, which routes are missing, what
SIGTERM and a port in use do. The checkpoint simulated-corrupt (not sdcpp) cannot be read.
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
    p.add_argument(
        "--has", type=Path, metavar="FILE", help="checkpoints, modules and scripts beside its own"
    )
    p.add_argument("--no-api", action="store_true", help="as if started without --api")
    p.add_argument("--never-ready", action="store_true", help="the port never opens")
    p.add_argument("--crash-on-start", type=int, metavar="CODE")
    _sdnext_flags(p)
    _comfyui_flags(p)
    p.add_argument("--faults", type=Path, metavar="FILE", help="the fault plan (YAML)")
    p.add_argument("--state", type=Path, metavar="FILE", help="counters that outlive a restart")
    args = p.parse_args(argv)
    kind = kind_named(args.kind)
    for flag, value in vars(args).items():
        if value and not kind.takes(flag):
            p.error(f"--{flag.replace('_', '-')} makes no sense with --kind {args.kind}")
    try:
        counters = Counters(args.state)
        counters.read()
        args.plan = Plan(load(args.faults) if args.faults else [], counters)
        args.more = installed.load(args.has) if args.has else installed.Installed()
    except (PlanError, installed.InstalledError) as e:
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


def _comfyui_flags(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--base-directory",
        type=Path,
        metavar="DIR",
        help="comfyui: the folder of custom_nodes/ (must be there), models/, input/, output/, "
        "temp/; one for each port below the system's folder for temporary files unless given",
    )
    p.add_argument(
        "--user-directory",
        type=Path,
        metavar="DIR",
        help="comfyui: the folder of its database; user/ in its base directory unless given",
    )
    p.add_argument("--cache-none", action="store_true", help="comfyui: every node runs again")
    p.add_argument(
        "--disable-metadata", action="store_true", help="comfyui: no workflow in the pictures"
    )
    p.add_argument(
        "--max-upload-size", type=_units, metavar="MIB", help="comfyui: of a body; 100 unless given"
    )


def main() -> NoReturn:
    console.use_utf8()
    args = arguments()
    kind = kind_named(args.kind)
    traits = kind.traits
    installed.add(args.more, traits.lists)
    process = kind.process(traits.voice)
    process.handle_signals()
    faults = {f.name: f for f in args.plan.start()}
    if "ignore-sigterm" in faults:
        ignore_sigterm()
    boot(args, kind, faults)
    speed = Speed(args.step_time, args.load_time, args.switch_time)
    machine = kind.machine(traits, speed, has_model=not args.no_model)
    machine.checkpoints += args.more.checkpoints
    machine.wait_for_model(args.model_file)
    machine.take_flags(args)
    dies, late = faults.get("server-thread-dies"), faults.get("late-routes")
    settings = Settings(
        args.port,
        args.auth,
        not args.no_api and dies is None,
        args.rate_limit,
        extras_work=args.extras_work,
        late_answers=int(late.option("answers")) if late else 0,
        max_upload=(args.max_upload_size or 100) * MEBIBYTE,
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


def boot(args: argparse.Namespace, kind: Kind, faults: dict[str, Fault]) -> None:
    """Do everything before the port opens; may end the process."""
    voice, failures = kind.traits.voice, {**START_FAILURES, **kind.start_failures}
    voice.boot(args.port)
    delay = faults["slow-start"].option("delay") if "slow-start" in faults else 0.0
    time.sleep(args.boot_time + delay)
    for name in failures.keys() & faults.keys():
        fail(failures[name])
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
