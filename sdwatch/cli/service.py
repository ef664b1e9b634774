"""`sdwatch service`: run the monitor in the background, started by the system."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from sdwatch import system
from sdwatch.cli.shared.chosen_config import ChosenConfig, add_config_argument, config_file
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.cli.shared.plain_lines import say
from sdwatch.cli.status import status_text
from sdwatch.config import Config
from sdwatch.config_file import parse_config
from sdwatch.errors import ConfigError, Problem, SdwatchError, ServiceError
from sdwatch.monitor.stop_request import longest_stop
from sdwatch.policy.privacy.printable import printable_text
from sdwatch.policy.report.command import typed
from sdwatch.service.account import owner_of, run_as
from sdwatch.service.choose import manager_for, usual_scope
from sdwatch.service.definition import (
    DEFAULT_NAME,
    Scope,
    ServiceDefinition,
    is_no_cache,
    service_name,
)
from sdwatch.service.manager import ServiceManager, ServiceState, Step, perform
from sdwatch.system import disk

NEEDS_A_PERSON = (ExitCode.USAGE, ExitCode.ALREADY_RUNNING, ExitCode.BAD_CONFIG)
"""Where `run` ends with one of these, the service is not restarted."""

_LOG_LINES = 200
_INSTALL = "install"

_Action: TypeAlias = Callable[[ServiceManager, Scope, argparse.Namespace], ExitCode]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument(
        "action",
        choices=list(_ACTIONS),
        help="`install` makes it start by itself from then on, and `start` starts it now",
    )
    parser.add_argument(
        "--name",
        default=DEFAULT_NAME,
        metavar="NAME",
        help="one of several on this machine; the system knows it as sdwatch-NAME",
    )
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument(
        "--user",
        dest="scope",
        action="store_const",
        const=Scope.USER,
        help="a service of your own account, without root (usual on Linux and macOS)",
    )
    scope.add_argument(
        "--system",
        dest="scope",
        action="store_const",
        const=Scope.SYSTEM,
        help="a service of the machine, from boot on; on Linux it runs as the owner of the config",
    )
    add_config_argument(parser)
    parser.add_argument(
        "--print",
        dest="print_only",
        action="store_true",
        help="print what `install` would write, and do nothing",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be done, and do nothing"
    )
    parser.epilog = (
        "`install` checks the config first, as `sdwatch check` does. docs/services.md explains\n"
        "what happens at a crash, at a stop, at logoff and at shutdown."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Do it. Raises ServiceError, ConfigError."""
    if args.print_only and args.action != _INSTALL:
        print(f"sdwatch service: --print goes with `{_INSTALL}`", file=sys.stderr)
        return ExitCode.USAGE
    scope = args.scope or usual_scope()
    manager = manager_for(service_name(args.name), scope)
    if args.print_only:
        print(manager.document(definition_of(manager.name, scope, args.config)), end="")
        return ExitCode.OK
    return _ACTIONS[args.action](manager, scope, args)


# -- the actions


def _install(manager: ServiceManager, scope: Scope, args: argparse.Namespace) -> ExitCode:
    service = definition_of(manager.name, scope, args.config)
    steps = manager.install(service)
    is_no_cache(Path(sys.prefix))
    check_config(service)
    _perform(steps, dry_run=args.dry_run)
    if not args.dry_run:
        print(f"Installed {manager.name}. To start it now: {_typed('start', scope, args.name)}")
        for line in manager.advice():
            print(line)
    return ExitCode.OK


def _change(manager: ServiceManager, scope: Scope, args: argparse.Namespace) -> ExitCode:
    del scope
    changes = {
        "uninstall": manager.uninstall,
        "start": manager.start,
        "stop": manager.stop,
        "restart": manager.restart,
    }
    _perform(changes[args.action](), dry_run=args.dry_run)
    return ExitCode.OK


def _status(manager: ServiceManager, scope: Scope, args: argparse.Namespace) -> ExitCode:
    status = manager.status()
    if status.state is ServiceState.NOT_INSTALLED:
        print(": ".join((f"there is no {scope} service {manager.name}", *status.details)))
        return ExitCode.NOT_FOUND
    process = f", process {status.pid}" if status.pid else ""
    starts = "starts by itself" if status.starts_itself else "does not start by itself"
    print(f"{scope} service {manager.name}: {status.state}{process}; it {starts}")
    for line in status.details:
        print(printable_text(f"  {line}"))
    if (config := args.config or manager.config()) is not None:
        print()
        try:
            print(status_text(ChosenConfig(_as_the_service_reads(config, scope)[0], config)))
        except (SdwatchError, OSError) as error:
            print(printable_text(f"the spool cannot be shown: {disk.in_words(error)}"))
    return ExitCode.OK


def _logs(manager: ServiceManager, scope: Scope, args: argparse.Namespace) -> ExitCode:
    del scope, args
    print(printable_text(manager.logs(_LOG_LINES) or "it has printed nothing yet\n"), end="")
    return ExitCode.OK


_ACTIONS: dict[str, _Action] = {
    _INSTALL: _install,
    "uninstall": _change,
    "start": _change,
    "stop": _change,
    "restart": _change,
    "status": _status,
    "logs": _logs,
}


# -- the parts


def definition_of(name: str, scope: Scope, named: Path | None) -> ServiceDefinition:
    """Return the service `name` for the config `named`, or for that of this folder. Raises
    ServiceError, ConfigError."""
    if (file := config_file(named)) is None:
        raise ServiceError(
            "a service needs a config: `sdwatch init` writes one, and `--config` names it"
        )
    file = file.absolute()
    config, user = _as_the_service_reads(file, scope)
    return ServiceDefinition(
        name=name,
        scope=scope,
        python=system.python_of_console(),
        config=file,
        user=user,
        spool=config.spool,
        state=config.state,
        webui_folders=tuple(webui.cwd for webui in config.webuis if webui.cwd),
        stop_limit=longest_stop(config),
        not_restarted=tuple(int(code) for code in NEEDS_A_PERSON),
    )


def _as_the_service_reads(file: Path, scope: Scope) -> tuple[Config, str]:
    """Return a config as its service reads it, and the user that it runs as; '' for this one. Who
    may write the config is checked by `check_config`, as that user; here nothing of it is run.
    Raises ConfigError, ServiceError."""
    try:
        data = disk.read(file)
    except OSError as error:
        problem = Problem(0, 0, f"the config cannot be read: {disk.in_words(error)}")
        raise ConfigError(str(file), [problem]) from error
    account = owner_of(file) if scope is Scope.SYSTEM else None
    if account is not None:
        os.environ["HOME"] = account.home  # a `~` in its config means the owner's
    config = parse_config(data, str(file), file.resolve().parent)
    return config, account.name if account else ""


def check_config(service: ServiceDefinition) -> None:
    """Check the config as the service will read it: by `sdwatch check`, with the same Python, as
    the same user. What it finds is printed. Raises ConfigError, ServiceError."""
    words = (service.python, "-P", "-m", "sdwatch", "check", "--config", str(service.config))
    who = f"the user {service.user}" if service.user else "this user"
    try:
        code = run_as(service.user, words, service.folder)
    except OSError as error:
        raise ServiceError(
            f"{who} cannot run {service.python} in {service.folder} ({disk.in_words(error)}): "
            "install sdwatch where that user can use it, or give the config to another user"
        ) from error
    if code == ExitCode.BAD_CONFIG:
        raise ConfigError(str(service.config), [Problem(0, 0, "no service was installed")])
    if code != ExitCode.OK:
        raise ServiceError(f"{who} cannot check the config: `sdwatch check` ended with {code}")


def _perform(steps: Sequence[Step], *, dry_run: bool) -> None:
    if dry_run:
        for step in steps:
            say(f"would: {step.about}")
    else:
        perform(steps, lambda about: say(f"done: {about}"))


def _typed(action: str, scope: Scope, name: str) -> str:
    """Return the command for this service, as a person types it."""
    option = f" --{scope}" if scope is not usual_scope() else ""
    named = f" --name {name}" if name != DEFAULT_NAME else ""
    command = typed(f"service {action}{option}{named}")
    if "SUDO_USER" in os.environ:  # whose PATH mostly lacks that of pipx and uv
        return f'sudo "$(command -v sdwatch)"{command.removeprefix("sdwatch")}'
    return command
