"""How long the commands take to start, as multiples of `python -c pass`.

What counts is CPU time, user and system, the least of several rounds: a loaded machine distorts it
less than a clock on the wall. Bytecode is cached, as after an installation. Where valgrind is
installed, `--instructions` counts instructions instead, which no load changes (a minute).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

AIM = 5.0
"""`sdwatch --help` may take so many times as long as Python itself."""

NOTHING = ("-c", "pass")
HELP = ("-m", "sdwatch", "--help")
_ROWS = (
    NOTHING,
    HELP,
    ("-m", "sdwatch", "--version"),
    ("-m", "sdwatch", "hold", "--help"),
    ("-m", "sdwatch", "list", "--help"),
    ("-m", "sdwatch", "status", "--help"),
)


def main() -> int:
    """Return 1 if `--help` takes longer than its aim."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--instructions", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sdwatch-startup-") as folder:
        env = environment(Path(folder))
        cost = _instructions if args.instructions else _seconds_of(args.rounds)
        costs = {row: cost(row, env) for row in _ROWS}
        counts = {row: len(imported(row, env)) for row in _ROWS}
    unit = "M instructions" if args.instructions else "ms"
    scale = 1e-6 if args.instructions else 1e3
    for row in _ROWS:
        times = costs[row] / costs[NOTHING]
        words = f"python {' '.join(row)}"
        print(
            f"{words:<34} {costs[row] * scale:8.1f} {unit}  {times:5.1f} x  {counts[row]} modules"
        )
    ratio = costs[HELP] / costs[NOTHING]
    print(f"`sdwatch --help`: {ratio:.1f} x `python -c pass`; aim: {AIM:.0f} x")
    return 0 if ratio <= AIM else 1


def environment(cache: Path) -> dict[str, str]:
    """Return the environment for these commands: their bytecode is cached in `cache`."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return env | {"PYTHONPYCACHEPREFIX": str(cache), "PYTHONPATH": str(Path(__file__).parents[1])}


def imported(words: tuple[str, ...], env: dict[str, str]) -> set[str]:
    """Return the modules that Python imports for the command."""
    ended = _run((sys.executable, "-X", "importtime", *words), env)
    return set(re.findall(r"(?m)^import time:.*\| +(\S+)$", ended.stderr))


def _run(words: tuple[str, ...], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, env=env, capture_output=True, text=True, check=True)


def _seconds_of(rounds: int) -> Callable[[tuple[str, ...], dict[str, str]], float]:
    def least(words: tuple[str, ...], env: dict[str, str]) -> float:
        _run((sys.executable, *words), env)  # writes the bytecode
        return min(_seconds(words, env) for _ in range(rounds))

    return least


def _seconds(words: tuple[str, ...], env: dict[str, str]) -> float:
    before = _used()
    _run((sys.executable, *words), env)
    return _used() - before


def _used() -> float:
    """Return the CPU seconds of all children so far; on Windows, which does not count them, a
    clock."""
    if sys.platform == "win32":
        return time.perf_counter()
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _instructions(words: tuple[str, ...], env: dict[str, str]) -> float:
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise SystemExit("valgrind is not installed")
    _run((sys.executable, *words), env)
    ended = _run(
        (valgrind, "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, *words),
        env,
    )
    counted = re.search(r"refs: +([\d,]+)", ended.stderr)
    if counted is None:
        raise SystemExit(ended.stderr)
    return float(counted[1].replace(",", ""))


if __name__ == "__main__":
    sys.exit(main())
