"""Run Windows' Python with arguments in an environment that make_environment.py has made.

    python tests/windows/run.py [--as-wine-is] [--imitate NAME]... [--pythonw] FOLDER ARGUMENT...

    python tests/windows/run.py /tmp/win -m sdwatch demo C:\\demo
    python tests/windows/run.py --imitate scanner /tmp/win -m pytest -n 0 tests/test_state.py

A refused connection takes two seconds, as on Windows, unless `--as-wine-is` is given. The other
imitations (see inside/imitations.py) are asked for by name. The exit code is the command's.

One command at a time: whatever else runs in the environment is ended before and after it. As root,
each command has a network of its own: no port of the machine is taken there, and no connection of
others is in its table.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE / "inside"))

from imitations import IMITATIONS, VARIABLE  # noqa: E402
from make_environment import wine_environment  # noqa: E402

PYTHON = r"C:\py\python.exe"
# Detached from the console and without handles to inherit, so that sys.stdout is None in it.
WITHOUT_STREAMS = (
    "import subprocess, sys;"
    r"command = [r'C:\py\pythonw.exe', *sys.argv[1:]];"
    "sys.exit(subprocess.call(command, creationflags=subprocess.DETACHED_PROCESS))"
)
ALWAYS = "slow_refusal"

_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--as-wine-is", action="store_true", help="refuse a connection at once")
    parser.add_argument("--imitate", action="append", default=[], choices=sorted(IMITATIONS))
    parser.add_argument("--pythonw", action="store_true", help="without any standard stream")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    names = [*args.imitate, *([] if args.as_wine_is else [ALWAYS])]
    program = [PYTHON, "-c", WITHOUT_STREAMS] if args.pythonw else [PYTHON]
    return run(args.folder.absolute(), [*program, *args.arguments], names)


def run(folder: Path, command: list[str], imitate: list[str]) -> int:
    """Run a Windows program with imitations; its exit code. Its output goes to ours."""
    env = {**wine_environment(folder), VARIABLE: ",".join(imitate)}
    env.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    end_all(folder)
    _take_own_network()
    # wine refuses a file or /dev/null as a standard stream of Python: each is a pipe.
    process = subprocess.Popen(
        ["wine", *command],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    process.stdin.close()
    copies = [
        threading.Thread(target=_copy, args=(process.stdout, sys.stdout.fileno()), daemon=True),
        threading.Thread(target=_copy, args=(process.stderr, sys.stderr.fileno()), daemon=True),
    ]
    for each in copies:
        each.start()
    code = process.wait()
    end_all(folder)  # a WebUI that lives on would hold the pipes
    for each in copies:
        each.join()
    return code


def end_all(folder: Path) -> None:
    """End whatever runs in the environment in `folder`."""
    env = wine_environment(folder)
    subprocess.run(["wineserver", "-k"], env=env, check=False, stderr=subprocess.DEVNULL)


def _take_own_network() -> None:
    """From now on this process and its children see a loopback and nothing else."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):
        print("run.py: not root, so the machine's own network is used", file=sys.stderr)
        return
    import fcntl

    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _copy(source: IO[bytes], target: int) -> None:
    while data := os.read(source.fileno(), 65536):
        os.write(target, data)


if __name__ == "__main__":
    sys.exit(main())
