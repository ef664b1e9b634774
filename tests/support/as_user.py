"""A monitor as a process of another user than root, for tests that root runs."""

from __future__ import annotations

import os

from tests.support import warm
from tests.support.monitored import Monitored

# What is imported later could not be read any more by the other user, in a private home.
_DRIVER = """
import codecs, importlib.readers, os, pkgutil, sys
from contextlib import suppress
from pathlib import Path
from PIL import Image
Image.init()
for name in ("ascii", "idna", "latin-1", "utf-8"):
    codecs.lookup(name)
import sdwatch
for module in pkgutil.walk_packages(sdwatch.__path__, "sdwatch."):
    with suppress(ImportError, AssertionError):  # what only another system has
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
from sdwatch import system
from sdwatch.config_file import load_config
from sdwatch.monitor.monitor import Monitor

config = load_config(Path(sys.argv[1]))
if config.umask is not None:
    system.use_umask(config.umask)
say = lambda line: print(line, end="", flush=True)  # in one piece: several threads do
monitor = Monitor(config, notify=lambda line: say(f"{line}\\n"))
monitor.stop_on_signals()
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
print(monitor.run(), flush=True)
"""


def start_as(spool: Monitored, user: int) -> None:
    """Begin its monitor's process as this user, with the group of the same number; as this process'
    own user where that is not root. Its folders must belong to the user."""
    words = ("-c", _DRIVER, str(spool.config_file), str(user))
    spool.process = warm.begin(*words, out=spool.root / "monitor.log", env=os.environ)
