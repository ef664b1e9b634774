"""Choose the config of a command: the one that is named, the one in this folder, that of the spool
around this folder, or the built-in one."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from sdwatch import system
from sdwatch.config import Config
from sdwatch.config_file import default_config_text, load_config, parse_config
from sdwatch.policy.kinds.table import OFFERED
from sdwatch.policy.privacy.printable import printable
from sdwatch.spool.folders import Spool

CONFIG = "sdwatch.yaml"
DEFAULT_SPOOL = "sdwatch-spool"
FOR_YOUR_OWN = f"sdwatch init DIR --webui {'|'.join(kind.name for kind in OFFERED)}"
"""The command for people who have seen the simulator."""
_LOOKED_FOR = (Path(CONFIG), Path("config", CONFIG))
_FOLDERS = ("inbox", "working", "failed")


@dataclass(frozen=True)
class ChosenConfig:
    """A config and the file it is from; None for the built-in one."""

    config: Config
    file: Path | None

    @property
    def spool(self) -> Spool:
        """Return the spool as seen from outside: no worker's, so its `working` holds all
        workers."""
        return Spool(self.config.spool, "")


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Add the flag `--config FILE`."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"default: {CONFIG} or config/{CONFIG} in this folder, else in the spool around it, "
        "else the built-in config (simulator)",
    )


def config_file(named: Path | None) -> Path | None:
    """Return the config's file; None if there is none, so that the built-in one is used."""
    if named is not None:
        return named
    around = spool_around(Path.cwd())
    folders = (Path(), around) if around else (Path(),)
    places = (folder / path for folder in folders for path in _LOOKED_FOR)
    return next((path for path in places if path.is_file()), None)


def spool_around(folder: Path) -> Path | None:
    """Return the spool around `folder`; None if there is none. So the commands in a WHY.txt
    also work in the run's own folder."""
    above = (folder, *folder.parents)
    return next((f for f in above if all((f / name).is_dir() for name in _FOLDERS)), None)


def choose_config(named: Path | None) -> ChosenConfig:
    """Read the config; say so on stderr if it is the built-in one. From then on its `umask` applies
    to all that the command writes. Raises ConfigError."""
    if (file := config_file(named)) is not None:
        config = load_config(file)
        if config.umask is not None:
            system.use_umask(config.umask)
        return ChosenConfig(config, file)
    around = spool_around(Path.cwd())
    spool = around if around and around.name == DEFAULT_SPOOL else Path.cwd() / DEFAULT_SPOOL
    words = f"no {CONFIG} here; using the built-in config (simulator), with the spool {spool}"
    print(printable(words), file=sys.stderr)
    # Its paths are `..` and `../state`: they start from a folder within the spool.
    data = default_config_text().encode()
    return ChosenConfig(parse_config(data, "the built-in config", spool / "config"), None)
