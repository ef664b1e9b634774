"""`sdwatch completion`: print the script that lets a shell complete commands and names of runs.

The script asks sdwatch itself at each TAB (argcomplete): what a command accepts is written once, in
its `arguments`, and the names of runs are read from the folders, nothing else of them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from pathlib import Path

import argcomplete
from argcomplete.completers import FilesCompleter
from argcomplete.shell_integration import shellcode

from sdwatch.cli.shared.exit_codes import ExitCode

SHELLS = ("bash", "zsh", "fish", "powershell")

_MOST = 200


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("shell", choices=SHELLS)
    parser.epilog = (
        "bash:        sdwatch completion bash >> ~/.bashrc\n"
        "zsh:         sdwatch completion zsh > ~/.zfunc/_sdwatch, with `fpath+=~/.zfunc` before\n"
        "             `compinit` in ~/.zshrc\n"
        "fish:        sdwatch completion fish > ~/.config/fish/completions/sdwatch.fish\n"
        "PowerShell:  sdwatch completion powershell >> $PROFILE"
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Print it."""
    print(shellcode(["sdwatch"], shell=args.shell))
    return ExitCode.OK


def complete() -> None:
    """Answer a shell, which describes the line in the environment, and end the process."""
    from sdwatch.cli import COMMANDS, parser

    line = os.environ.get("COMP_LINE", "")
    named = [word for word in line.split()[1:2] if word in COMMANDS]
    whole = parser(*named)
    _add_completers(whole)
    with contextlib.redirect_stderr(io.StringIO()):  # such as which config is used
        argcomplete.autocomplete(whole, always_complete_options=False)


Completer = Callable[..., Iterable[str]]
"""One that returns a mapping gives each name with a word for it, which zsh and fish show."""


def _add_completers(parser: argparse.ArgumentParser) -> None:
    """Give each argument the names that its metavar stands for."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _add_completers(command)
        elif (completer := _COMPLETERS.get(str(action.metavar))) is not None:
            action.completer = completer  # type: ignore[attr-defined]


def _logs(prefix: str, parsed_args: argparse.Namespace, **_: object) -> dict[str, str]:
    from sdwatch.cli.shared.chosen_config import choose_config

    webuis = choose_config(getattr(parsed_args, "config", None)).config.webuis
    lanes = {webui.name: "WebUI" for webui in webuis}
    return {"monitor": "sdwatch itself", **lanes, **_names(prefix, parsed_args)}


def _names(
    prefix: str, parsed_args: argparse.Namespace, *, jobs: bool = False, **_: object
) -> dict[str, str]:
    """Return run ids that start like this, newest first, each with its folder of the spool, then
    with `jobs` those of the inbox; if none does, those whose job is called so, without the time
    before it."""
    from sdwatch.cli.shared.chosen_config import choose_config
    from sdwatch.cli.shared.run_by_name import all_runs, waiting_jobs

    named: Path | None = getattr(parsed_args, "config", None)
    spool = choose_config(named).spool
    runs = all_runs(spool)
    found = {run: runs[run].relative_to(spool.root).parts[0] for run in sorted(runs, reverse=True)}
    found |= dict.fromkeys(waiting_jobs(spool), "inbox") if jobs else {}
    fitting = [name for name in found if name.startswith(prefix)]
    if not fitting:  # nobody types the time of a run; what is behind it is a name of it, too
        found = {run.split("-", 2)[-1]: folder for run, folder in found.items()}
        fitting = [name for name in found if name.startswith(prefix)]
    return {name: found[name] for name in islice(fitting, _MOST)}


_COMPLETERS: dict[str, Completer] = {
    "RUN": _names,
    "RUN|JOB": partial(_names, jobs=True),
    "monitor|LANE|RUN": _logs,
    "FILE": FilesCompleter(),
    "DIR": FilesCompleter(),
}
