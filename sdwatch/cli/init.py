"""`sdwatch init`: write a config for this system, make the folders, and copy examples."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from sdwatch.cli.checks.find_webuis import (
    INSIDE,
    InstalledWebUI,
    installed_webuis,
    webui_in,
)
from sdwatch.cli.shared.chosen_config import CONFIG
from sdwatch.cli.shared.exit_codes import ExitCode
from sdwatch.errors import SdwatchError, SpoolError
from sdwatch.policy.kinds.table import OFFERED, PLAYED
from sdwatch.policy.privacy.printable import printable
from sdwatch.policy.report.command import quoted, typed
from sdwatch.spool.folders import Spool
from sdwatch.system import resources

SIMULATOR = "simulator"
WEBUIS = (SIMULATOR, *(kind.name for kind in OFFERED))
EXAMPLES = {SIMULATOR: PLAYED.examples, **{kind.name: kind.examples for kind in OFFERED}}
"""Folders of config/examples: each of these jobs runs on that WebUI as it is. Where two have a file
of one name, the later one is taken."""
NEEDING_MORE = "examples-that-need-more"
"""Beside the examples, so that who drops all of these drops none of those by accident: jobs that
need extensions or models which a fresh WebUI lacks."""
MORE_EXAMPLES = {kind.name: kind.more_examples for kind in OFFERED if kind.more_examples}
"""Folders of config/examples with such jobs, by kind."""
SCHEMAS = ("job.schema.json", "defaults.schema.json")
"""For editors; the examples name the first as a file in the folder above them."""
ALL_SETTINGS = "all-settings.yaml"
"""Beside a generated config: the default one, which explains every key."""

_INBOX_README = """\
Drop jobs here: a .yaml file, or a folder with a job.yaml and the images it names.
The smallest job is one line:

    prompt: a castle

There are more in ../examples. `sdwatch check FILE` finds mistakes before you drop a job.
Sub-folders are fine. This file is not a job, and sdwatch leaves it alone.

A job moves to ../working while it runs, and then to ../done with its images, or to ../failed with
a WHY.txt that says what went wrong and what to do.
To cancel a job that still waits, put an empty file NAME.yaml.cancel beside NAME.yaml.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="made if it does not exist")
    parser.add_argument(
        "--webui",
        choices=WEBUIS,
        help=f"default: {SIMULATOR}; one that is installed in a usual place, also by "
        "StabilityMatrix, is found and filled in",
    )
    parser.add_argument(
        "--from",
        dest="installed",
        type=Path,
        metavar="FOLDER",
        help="where your WebUI is installed; its kind and its interpreter are found",
    )
    parser.epilog = (
        "DIR becomes the spool, with the config and the state folder in it. That is fine on your\n"
        "own machine. Before others may write to DIR, move both out: see docs/share.md."
    )


def main(args: argparse.Namespace) -> ExitCode:
    """Write the config and make the folders. Raises SpoolError, OSError."""
    folder: Path = args.folder.absolute()
    found = _search()
    webui = _chosen(args, found)
    name: str = webui.kind.name if webui else args.webui or SIMULATOR
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / CONFIG
    _write_new(config, with_install(config_text(name), webui))
    Spool(folder, "").prepare()
    checkpoint = checkpoint_in(webui)
    _add_files(folder, name, checkpoint)
    print(f"Wrote {config}, and made inbox, working, done, failed and examples beside it.")
    print(f"{ALL_SETTINGS} explains every setting.")
    print(
        f"To share {folder} with others, first move {CONFIG} out of it and set `spool:` and "
        "`state:` in\nit to absolute paths: whoever may change that file decides what sdwatch runs "
        "(docs/share.md)."
    )
    if name == SIMULATOR:
        print("The WebUI of this config is the simulator: its pictures are not real.")
        _offer(found)
    elif webui is not None:
        _print_filled_in(webui)
        if checkpoint:
            print(f"The examples name its checkpoint {printable(checkpoint)}.")
    else:
        print(f"Now edit the lines marked EDIT in {config}: where your WebUI is, and its port.")
    print("Next:")
    print(f"  cd {folder}")
    print("  sdwatch check                          # is the config right?")
    print(f"  sdwatch submit {Path('examples', 'castle.yaml')}    # a first job")
    print("  sdwatch run")
    return ExitCode.OK


_SEARCH_LIMIT_S = 10.0


def _search() -> list[InstalledWebUI]:
    """Return the WebUIs that are installed. A folder that hangs, as on a share that is gone, costs
    what is found, and not the command."""
    found: list[InstalledWebUI] = []
    search = threading.Thread(target=lambda: found.extend(installed_webuis()), daemon=True)
    search.start()
    search.join(_SEARCH_LIMIT_S)
    if search.is_alive():
        print(f"the search for WebUIs was given up after {_SEARCH_LIMIT_S:g} s; a disk is slow")
        return []
    return found


def _chosen(args: argparse.Namespace, found: Sequence[InstalledWebUI]) -> InstalledWebUI | None:
    """Return the install to fill in: the one that is named, or the only one of the kind. Raises
    SdwatchError if it is not there, or if there are several."""
    if args.installed is not None:
        return _named(args.installed, args.webui, found)
    fitting = [one for one in found if one.kind.name == args.webui]
    if len(fitting) > 1:
        lines = "".join(f"\n  {_command_for(one)}" for one in fitting)
        raise SdwatchError(f"there are several installs of {args.webui}; name one of them:{lines}")
    return fitting[0] if fitting else None


def _named(folder: Path, kind: str | None, found: Sequence[InstalledWebUI]) -> InstalledWebUI:
    """Return the WebUI in this folder, or inside it if it is a package."""
    try:
        base = folder.expanduser().absolute()
    except RuntimeError:
        raise SdwatchError(f"{folder}: there is no such user here") from None
    webui = next(filter(None, (webui_in(base / name) for name in INSIDE)), None)
    if webui is None or webui.kind.name not in WEBUIS:
        raise SdwatchError(
            f"{base}: there is no WebUI that sdwatch recognises (a launch.py or main.py, and the "
            f"files of {', '.join(WEBUIS[1:])}); write the config with --webui, and edit it"
        )
    if kind not in (None, webui.kind.name):
        raise SdwatchError(f"{base} has a {webui.kind.title}: leave out --webui {kind}")
    # Found by the search, it has the git that StabilityMatrix brings, too.
    return next((one for one in found if one.folder == webui.folder), webui)


def _command_for(webui: InstalledWebUI) -> str:
    return printable(typed(f"init DIR --from {quoted(str(webui.folder), os.name == 'nt')}"))


def _offer(found: Sequence[InstalledWebUI]) -> None:
    """Name the WebUIs that are installed here."""
    if found:
        print("These are installed here; to use one:")
    for webui in found:
        print(f"  {_command_for(webui)}    # {webui.kind.title}")


def _print_filled_in(webui: InstalledWebUI) -> None:
    print(f"Found {webui.kind.title} in {printable(str(webui.folder))}, and filled it in.")
    if not webui.python:
        print(f"It has no venv yet: {webui.kind.makes_venv}.")


def with_install(text: str, webui: InstalledWebUI | None) -> str:
    """Return a ready-made config with the folder and the interpreter of this install."""
    if webui is None:
        return text
    line = f"    cwd: {_quoted(str(webui.folder))}    # found by `sdwatch init`"
    text = re.sub(r"(?m)^    cwd:.*$", lambda _: line, text, count=1)
    if webui.python:
        command = f"    command: [{_quoted(webui.python)},"
        text = re.sub(r"(?m)^    command: \[[^,]+,", lambda _: command, text, count=1)
    return text if webui.git is None else _with_git(text, webui.git)


def _with_git(text: str, git: Path) -> str:
    """Name the git that StabilityMatrix brings: launch.py needs one, and the PATH may have none."""
    entry = f"GIT: {_quoted(str(git))}"
    if "\n    env: {" in text:
        return text.replace("\n    env: {", f"\n    env: {{{entry}, ", 1)
    line = f"    env: {{{entry}}}\n    command:"
    return re.sub(r"(?m)^    command:", lambda _: line, text, count=1)


def _quoted(text: str) -> str:
    """Return text as YAML has it in quotes, whatever signs are in it."""
    return json.dumps(text)


def config_text(webui: str) -> str:
    """Return the ready-made config of a WebUI for this system, with the spool in its folder."""
    system = "windows" if sys.platform == "win32" else "linux"
    name = CONFIG if webui == SIMULATOR else f"{webui}-{system}.yaml"
    text = (resources.config_folder() / name).read_text(encoding="utf-8")
    text = text.replace(f"explained in {CONFIG}", f"explained in {ALL_SETTINGS}")
    text = _with_path(text, "spool", ".", "inbox/, working/, done/, failed/: beside this file")
    return _with_path(text, "state", "state", "this machine's own data: never on a share")


def _with_path(text: str, key: str, path: str, comment: str) -> str:
    line = f"{key}: {path}".ljust(20) + f" # {comment}"
    return re.sub(rf"(?m)^{key}:.*$", line, text, count=1)


def _write_new(path: Path, text: str) -> None:
    """Write the config so that only its owner may write it, whatever the umask: it names a command
    to run."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise SpoolError(
            f"{path} exists already and was left as it is; "
            "move it away first, or name another folder"
        ) from None
    with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def add_examples(target: Path, folders: Sequence[str], checkpoint: str = "") -> None:
    """Copy the jobs of these folders of config/examples into the folder `target`, made if need be.
    `checkpoint`: the one that they name if they name one, '' to leave that to a person."""
    for name in folders:
        shutil.copytree(resources.config_folder() / "examples" / name, target, dirs_exist_ok=True)
    for job in target.rglob("*.yaml") if checkpoint else ():
        text = job.read_text(encoding="utf-8")
        job.write_text(_with_checkpoint(text, checkpoint), encoding="utf-8", newline="\n")


_SETTING = re.compile(r"(?m)^( *)# (override_settings:\n *)# (  sd_model_checkpoint: ).*$")
_SHORT_NAME = re.compile(r"(?m)^( *)# (checkpoint: ).*$")


def _with_checkpoint(job: str, checkpoint: str) -> str:
    """Return an example that names this checkpoint in the lines which leave that open."""
    name = _quoted(checkpoint)
    text = _SETTING.sub(lambda line: f"{line[1]}{line[2]}{line[3]}{name}", job)
    return _SHORT_NAME.sub(lambda line: f"{line[1]}{line[2]}{name}", text)


def checkpoint_in(webui: InstalledWebUI | None) -> str:
    """Return the first checkpoint of an install whose jobs must name one; '' where it has none."""
    if webui is None or not webui.kind.checkpoints:
        return ""
    try:
        names = sorted(path.name for path in (webui.folder / webui.kind.checkpoints).iterdir())
    except OSError:
        return ""
    return next((name for name in names if name.endswith((".safetensors", ".ckpt"))), "")


def _add_files(folder: Path, webui: str, checkpoint: str) -> None:
    readme, examples = folder / "inbox" / "README.md", folder / "examples"
    if not readme.exists():
        readme.write_text(_INBOX_README, encoding="utf-8")
    if not examples.exists():
        add_examples(examples, EXAMPLES[webui], checkpoint)
    if webui in MORE_EXAMPLES and not (more := folder / NEEDING_MORE).exists():
        add_examples(more, MORE_EXAMPLES[webui])
    if not (explained := folder / ALL_SETTINGS).exists():
        shutil.copyfile(resources.config_folder() / CONFIG, explained)
    for name in SCHEMAS:
        if not (schema := folder / name).exists():
            shutil.copyfile(resources.config_folder() / name, schema)
