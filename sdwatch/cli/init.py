"""`sdwatch init`: write a config for this system, make the folders, and copy examples."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

from sdwatch.cli.chosen_config import CONFIG
from sdwatch.cli.exit_codes import ExitCode
from sdwatch.errors import SpoolError
from sdwatch.spool.archive import Spool
from sdwatch.system import resources

WEBUIS = ("simulator", "forge", "forge-neo", "a1111", "sdnext")
FOR_YOUR_OWN = f"sdwatch init DIR --webui {'|'.join(WEBUIS[1:])}"
"""The command for people who have seen the simulator."""
EXAMPLES = {
    "simulator": ("any", "a1111"),
    "forge": ("any", "a1111"),
    "forge-neo": ("any", "a1111", "forge-neo"),
    "a1111": ("any", "a1111"),
    "sdnext": ("any", "sdnext"),
}
"""Folders of config/examples: each of these jobs runs on that WebUI as it is. Where two have a file
of one name, the later one is taken."""
FOR_EXTENSIONS = "examples-for-extensions"
"""Beside the examples, so that who drops all of these drops none of those by accident: jobs that
need extensions which a fresh WebUI lacks."""
HAS_EXTENSIONS = ("forge", "forge-neo", "a1111")
ALL_SETTINGS = "all-settings.yaml"
"""Beside a generated config: the default one, which explains every key."""

_INBOX_README = """\
Drop jobs here: a .yaml file, or a folder with a job.yaml and the images that it names.
The smallest job is one line:

    prompt: a castle

More of them: ../examples. `sdwatch check FILE` finds mistakes before you drop a job.
Sub-folders are fine. This file is not a job and is left alone.

A job moves to ../working while it runs, and then to ../done with its images, or to ../failed with
a WHY.txt that says what went wrong and what to do.
To cancel a job that still waits, put an empty file NAME.yaml.cancel beside NAME.yaml.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="made if it is not there")
    parser.add_argument("--webui", choices=WEBUIS, default=WEBUIS[0], help="default: %(default)s")


def main(args: argparse.Namespace) -> ExitCode:
    """Write the config and make the folders. Raises SpoolError, OSError."""
    folder: Path = args.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / CONFIG
    _write_new(config, config_text(args.webui))
    Spool(folder, "").prepare()
    _add_files(folder, args.webui)
    print(f"Wrote {config}, and made inbox, working, done, failed and examples beside it.")
    print(f"{ALL_SETTINGS} explains every setting.")
    if args.webui == "simulator":
        print("Its WebUI is the simulator; its pictures are not real.")
    else:
        print(f"Now edit the lines marked EDIT in {config}: where your WebUI is, and its port.")
    print("Next:")
    print(f"  cd {folder}")
    print("  sdwatch check                          is the config right?")
    print(f"  sdwatch submit {Path('examples', 'castle.yaml')}    a first job")
    print("  sdwatch run")
    return ExitCode.OK


def config_text(webui: str) -> str:
    """Return the ready-made config of a WebUI for this system, with the spool in its folder."""
    system = "windows" if sys.platform == "win32" else "linux"
    name = CONFIG if webui == "simulator" else f"{webui}-{system}.yaml"
    text = (resources.config_folder() / name).read_text(encoding="utf-8")
    text = text.replace(f"explained in {CONFIG}", f"explained in {ALL_SETTINGS}")
    text = _with_path(text, "spool", ".", "inbox/, working/, done/, failed/: beside this file")
    return _with_path(text, "state", "state", "this machine's own: never on a share")


def _with_path(text: str, key: str, path: str, comment: str) -> str:
    line = f"{key}: {path}".ljust(20) + f" # {comment}"
    return re.sub(rf"(?m)^{key}:.*$", line, text, count=1)


def _write_new(path: Path, text: str) -> None:
    """The config names a command to run: only its owner may write it, whatever the umask."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise SpoolError(
            f"{path} is there already and was left as it is; "
            "move it away first, or name another folder"
        ) from None
    with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


def add_examples(target: Path, webui: str) -> None:
    """Copy the example jobs that run on this WebUI into the folder `target`, made if need be."""
    for name in EXAMPLES[webui]:
        shutil.copytree(resources.config_folder() / "examples" / name, target, dirs_exist_ok=True)


def _add_files(folder: Path, webui: str) -> None:
    readme, examples = folder / "inbox" / "README.md", folder / "examples"
    if not readme.exists():
        readme.write_text(_INBOX_README, encoding="utf-8")
    if not examples.exists():
        add_examples(examples, webui)
    if webui in HAS_EXTENSIONS and not (extensions := folder / FOR_EXTENSIONS).exists():
        shutil.copytree(resources.config_folder() / "examples" / "extensions", extensions)
    if not (explained := folder / ALL_SETTINGS).exists():
        shutil.copyfile(resources.config_folder() / CONFIG, explained)
    # The examples name it for editors, as a file in the folder above them.
    if not (schema := folder / "job.schema.json").exists():
        shutil.copyfile(resources.config_folder() / schema.name, schema)
