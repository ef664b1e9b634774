"""How long a failing call waits for its evidence: the tail of a log of 1 GB, redacted, written.

The log is written for real, in a folder that is removed at the end, and ends in 4 MB of what a
WebUI at its worst prints: a flood of short lines, of errors, bars, access lines of probes. The
redactor has learned the prompts of a night. Beside it stands what a script would do at best: `tail
-n 200` of the same file.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import common

from sdwatch.policy.privacy.redaction import Redactor
from sdwatch.spool.diagnostics import write_evidence
from sdwatch.system.clock import SystemClock
from sdwatch.webui.log.tail_capture import WINDOW_BYTES, tail_text
from sdwatch.webui.process.host_snapshot import HostSnapshots

CHUNK = 16 << 20
ROOM = 2  # times the log's size must be free
NIGHT = 500  # prompts that were sent so far
TRACEBACK = (
    "*** Error completing request\n    Traceback (most recent call last):\n"
    '      File "modules/processing.py", line 847, in process_images\n'
    "        res = process_images_inner(p)\n    RuntimeError: boom\n---\n"
)
PROBE = 'INFO:     127.0.0.1:54878 - "GET /sdapi/v1/progress HTTP/1.1" 200 OK\n'
BAR = "\rTotal progress:  {0}%|██▌       | {0}/99 [00:00<00:02,  2.02it/s]\x1b[A"
USUAL = f"{PROBE}Startup time: 9.4s\n\r 12%|█▎  | 1/8 [00:02<00:20,  2.92s/it]{PROBE}\n"

ENDS: dict[str, Callable[[int], str]] = {
    "usual output": lambda _: USUAL,
    "short lines": lambda n: f"flood {n % 97}\n",
    "usual lines": lambda n: (
        f"2026-01-01 INFO modules.x: step {n} of what is printed again and again\n"
    ),
    "errors": lambda n: f"ERROR {n} failed\n",
    "tracebacks": lambda n: TRACEBACK.replace("boom", f"boom {n}"),
    "bars": lambda n: BAR.format(n % 100),
    "drawn lines": lambda n: f"Downloading {n} of 9 MB\r",
    "probes": lambda _: PROBE,
}


def main() -> int:
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="sdwatch-evidence-", dir=args.folder) as name:
        log, size = Path(name, "webui.log"), args.megabytes << 20
        if shutil.disk_usage(name).free < ROOM * size:
            print(f"less than {ROOM * args.megabytes} MB are free in {name}: nothing was measured")
            return 1
        write_log(log, size)
        redactor, payload = a_night()
        rows = []
        for what, line in ENDS.items():
            end_with(log, size, line)
            rows.append(row(what, log, redactor, payload, args.times))
    head = (f"{args.megabytes} MB, ends in", "tail -n 200", "tail", "ratio", "evidence", "its CPU")
    common.print_table(head, rows)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="where the log is written; default: temporary")
    return parser.parse_args()


def row(
    what: str, log: Path, redactor: Redactor, payload: dict[str, object], times: int
) -> tuple[str, ...]:
    bare = seconds(lambda: bare_tail(log), times)
    tail = seconds(lambda: tail_text(log), times)
    whole = seconds(lambda: evidence(log, redactor, payload), times)
    cpu = time.process_time()
    seconds(lambda: evidence(log, redactor, payload), times)
    cpu = (time.process_time() - cpu) / times
    ratio = f"{median(tail) / median(bare):.1f}"
    return (what, ms(median(bare)), ms(median(tail)), ratio, ms(median(whole)), ms(cpu))


def seconds(act: Callable[[], object], times: int) -> list[float]:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return taken


def ms(value: float) -> str:
    return f"{1000 * value:.1f} ms"


def bare_tail(log: Path) -> bytes:
    """Return the last 200 lines, with whatever they are."""
    return subprocess.run(["tail", "-n", "200", log], capture_output=True, check=True).stdout


def evidence(log: Path, redactor: Redactor, payload: dict[str, object]) -> None:
    """All that is written at a failure, in an empty folder: two streams, payload, machine."""
    with tempfile.TemporaryDirectory(dir=log.parent) as folder:
        tail = {"stdout": tail_text(log), "stderr": tail_text(log)}
        redactor.learn(payload)
        host_snapshot = HostSnapshots(SystemClock(), {"state": log.parent}).at_failure()
        write_evidence(Path(folder), payload, tail, redactor, host_snapshot)


def a_night() -> tuple[Redactor, dict[str, object]]:
    """Return a redactor that knows so many prompts, and the payload that fails."""
    chance, redactor = random.Random(1), Redactor()
    words = [f"{stem}{n}" for stem in ("castle", "river", "dragon", "marble") for n in range(300)]
    for _ in range(NIGHT):
        phrases = (" ".join(chance.choices(words, k=3)) for _ in range(15))
        payload: dict[str, object] = {"prompt": ", ".join(phrases), "steps": 20, "width": 512}
        redactor.learn(payload)
    return redactor, payload


def write_log(log: Path, size: int) -> None:
    """Usual output up to `size`, with one traceback before its end."""
    chunk = (USUAL * (CHUNK // len(USUAL.encode()))).encode()
    with open(log, "wb") as file:
        while file.tell() < size:
            file.write(chunk)
        file.write(TRACEBACK.encode())


def end_with(log: Path, size: int, line: Callable[[int], str]) -> None:
    """Put one window full of such lines at its end."""
    with open(log, "r+b") as file:
        file.truncate(size)
        file.seek(size)
        file.write(b"".join(lines(line)))


def lines(line: Callable[[int], str]) -> Iterator[bytes]:
    size = number = 0
    while size < WINDOW_BYTES:
        data = line(number).encode()
        yield data
        size, number = size + len(data), number + 1


if __name__ == "__main__":
    sys.exit(main())
