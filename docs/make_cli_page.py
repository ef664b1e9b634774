"""Write docs/cli.md from the argument parser and the exit codes: `python -m docs.make_cli_page`."""

from __future__ import annotations

import argparse
import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from sdwatch.cli import COMMANDS, parser
from sdwatch.cli.shared import exit_codes
from sdwatch.cli.shared.exit_codes import ExitCode

PAGE = Path(__file__).parent / "cli.md"

_HEAD = """\
# Commands

Printed from the argument parser: `sdwatch COMMAND --help` shows the same.

`sdwatch` here is `.venv/bin/sdwatch`, on Windows `.venv\\Scripts\\sdwatch`, unless the virtual
environment is activated.

**Which config.** All commands that need one take `--config FILE`. Without it they read
`sdwatch.yaml` or `config/sdwatch.yaml` in the current folder, or, inside a *spool* (the folder with
`inbox/`, `working/`, `done/` and `failed/`), the config of that spool: in a failed run's own folder
`sdwatch retry .` is enough. The commands in `WHY.txt` and `HOLD-<lane>.txt` name the config, so you
can paste them anywhere.

**Without the command line.** Files control everything, so a share is enough:

| file | what it does |
|---|---|
| `hold` or `hold.txt` beside the inbox | pauses everything: no call and no WebUI is started |
| `stop` or `stop.txt` beside the inbox | stops the monitor cleanly, unless it was there before |
| `cancel` or `cancel.txt` in a run's folder in `working/` | cancels that run |
| `NAME.yaml.cancel` beside a waiting job | cancels that job |
| `HOLD-<lane>.txt`, if you delete it | that WebUI is tried again now |

**Stop `run`.** Ctrl-C, SIGTERM or a closed terminal stops it cleanly: it waits for the current
call (`stop_grace`) and counts down. A second Ctrl-C stops it at once. Either way the job resumes at
the next start. The config is read only at the start; `status` reports if it has changed since then.
"""

_CODES = """\
## Exit codes

For scripts. Errors go to standard error, with what to do about them.

| code | name | when |
|---|---|---|"""


def page() -> str:
    """docs/cli.md."""
    whole = parser(*COMMANDS)
    (commands,) = (a for a in whole._actions if isinstance(a, argparse._SubParsersAction))
    lines = [_HEAD, "| command | what it does |", "|---|---|"]
    lines += [f"| [`sdwatch {name}`](#{name}) | {what} |" for name, what in COMMANDS.items()]
    lines += ["", _CODES]
    lines += [f"| {code.value} | {code.name} | {what} |" for code, what in codes()]
    for name in COMMANDS:
        lines += ["", f"## {name}", "", *_section(commands.choices[name])]
    return "\n".join(lines).rstrip() + "\n"


def codes() -> Iterator[tuple[ExitCode, str]]:
    """Each exit code with its docstring, on one line."""
    (enum,) = ast.parse(inspect.getsource(exit_codes.ExitCode)).body
    assert isinstance(enum, ast.ClassDef)
    for code, said in zip(enum.body[1::2], enum.body[2::2], strict=True):
        match code, said:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=text)):
                yield ExitCode[name], " ".join(str(text).rstrip(".").split())
            case _:
                raise ValueError("each exit code is an assignment and its docstring")


def _section(command: argparse.ArgumentParser) -> Iterator[str]:
    actions = [a for a in command._actions if not isinstance(a, argparse._HelpAction)]
    yield from (command.description or "", "", "```")
    yield " ".join([command.prog, *map(_in_usage, actions)])
    yield "```"
    described = [(a, a.help % {**vars(a), "prog": command.prog}) for a in actions if a.help]
    if described:
        yield from ("", "| argument | |", "|---|---|")
        yield from (
            f"| {_named(action)} | {' '.join(text.split())} |" for action, text in described
        )
    if command.epilog:
        yield from ("", command.epilog.strip())


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, str):
        return action.metavar
    return "{" + ",".join(action.choices) + "}" if action.choices else action.dest.upper()


def _in_usage(action: argparse.Action) -> str:
    value = _value(action)
    if action.option_strings:
        return f"[{' '.join(filter(None, (action.option_strings[-1], value)))}]"
    return {"?": f"[{value}]", "*": f"[{value} ...]", "+": f"{value} [{value} ...]"}.get(
        str(action.nargs), value
    )


def _named(action: argparse.Action) -> str:
    names = ", ".join(action.option_strings)
    return f"`{' '.join(filter(None, (names, _value(action))))}`".replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
