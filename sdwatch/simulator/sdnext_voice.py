"""SD.Next's log: rich lines wrapped at 80 columns, bars in colour, tracebacks of its own form.

Words that were not recorded with SD.Next 058a7f0c are from its source, where that could be read.
"""

from __future__ import annotations

import sys
import textwrap
import threading
import time
from collections import Counter
from datetime import datetime
from urllib.parse import urlsplit

from sdwatch.simulator import console
from sdwatch.simulator.checkpoints import Checkpoint
from sdwatch.simulator.failures import CrashedError
from sdwatch.simulator.voice import NO_DRIVER, SIMULATED, Voice

_WIDTH, _INDENT = 80, 25
_SILENT = ("/sdapi/v1/memory", "/sdapi/v1/version", "/sdapi/v1/checkpoint")
_ONCE_A_MINUTE = ("/sdapi/v1/progress", "/sdapi/v1/status")
_LINES_A_MINUTE = 60
_MEMORY = f"{{'ram': {{'total': 23.54}}, 'gpu': {{'error': '{NO_DRIVER}', 'swap': 0}}}}"
"""As it stands in lines of a start and of each call where there is no GPU, and nothing is wrong
(recorded with SD.Next 058a7f0c)."""


def say(level: str, text: str) -> None:
    """Print one message, on as many lines as it needs."""
    console.out(message(level, text))


def message(level: str, text: str) -> str:
    """Return the same, without the last line's end."""
    stamp = f"{datetime.now():%H:%M:%S-%f}"
    parts = textwrap.wrap(text, _WIDTH - _INDENT, break_on_hyphens=False) or [""]
    first = f"{stamp} {level:<8} {parts[0]}".ljust(_WIDTH)
    rest = [(" " * _INDENT + part).ljust(_WIDTH) for part in parts[1:]]
    return "\n".join([first, *rest])


def traceback(last_line: str) -> None:
    """Print one as `drawn`."""
    console.out(drawn(last_line))


def drawn(last_line: str) -> str:
    """Frames are marked with ❱; there is no "Traceback (most recent call last)"."""
    return (
        "<webui>/modules/processing_diffusers.py:99 in simulated\n\n"
        "    98 │ try:\n"
        "  ❱ 99 │     output = shared.sd_model(**args)\n"
        "   100 │ except Exception as e:\n"
        f"{last_line}"
    )


class NextBar(console.Bar):
    """`\\rProgress  1.63s/it ... 5% 1/20 00:01 00:30 Base`, never ended by a newline."""

    def frame(self, done: int, elapsed: float) -> str:
        share = done / self.total if self.total else 1.0
        bar = ("█" * int(share * 9)).ljust(9)
        coloured = f"\x1b[38;2;50;127;186m{bar}\x1b[0m {share:4.0%} {done}/{self.total}"
        speed, left = "?it/s", "?"
        if done and elapsed:
            speed = console.rate(done, elapsed)
            left = console.minutes(elapsed / done * (self.total - done))
        times = f"{console.minutes(elapsed)} {left}"
        return f"\rProgress {speed} {coloured} {times} \x1b[38;5;71mBase\x1b[0m"

    def close(self) -> None:
        """The next line is glued on."""
        console.write(sys.stderr, "")


class NextVoice(Voice):
    version = "unknown"  # as it was recorded: its folder was not a clone

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._minute = 0.0
        self._lines: Counter[str] = Counter()

    # -- at the start

    def boot(self, port: int) -> None:
        say("INFO", "Starting SD.Next")
        say("INFO", SIMULATED)
        say("INFO", f"Command line args: ['--server-name', '127.0.0.1', '--port', '{port}']")
        say("INFO", "Engine: backend=Backend.DIFFUSERS compute=simulated device=simulated")
        say("DEBUG", "Server start sequence...")

    def broken_start(self) -> None:
        traceback("RuntimeError: injected failure while starting")

    def booted(self, seconds: float) -> None:
        """Print nothing: the start-up time is printed when the checkpoint is loaded."""

    def starting(self) -> None:
        """Print nothing."""

    def listening(self, host: str, port: int) -> None:
        say("INFO", f"Local URL: http://{host}:{port}/")
        say("INFO", f"API docs: http://{host}:{port}/docs")
        say("DEBUG", "API initialize")

    def started(self, seconds: float) -> None:
        """The checkpoint is loaded, or could not be."""
        say("INFO", f"Startup time: total={seconds:.2f} checkpoint={seconds:.2f}")

    def bind_failed(self, _host: str, port: int, _error: OSError) -> None:
        traceback(f"OSError: Cannot find empty port in range: {port}-{port}")

    # -- requests

    def access(
        self, client: tuple[str, int], method: str, path: str, status: int, _seconds: float
    ) -> None:
        path = urlsplit(path).path
        if self._is_printed(path) and status not in (429, 500):
            took = round(_seconds, 4)
            say("INFO", f"API user=None code={status} http/1.1 {method} {path} {client[0]} {took}")

    def _is_printed(self, path: str) -> bool:
        """Count an access line; whether it is one of those that are printed."""
        if path in _SILENT:
            return False
        with self._lock:
            now = time.monotonic()
            if now - self._minute >= 60:
                self._minute, self._lines = now, Counter()
            self._lines[path] += _LINES_A_MINUTE if path in _ONCE_A_MINUTE else 1
            return self._lines[path] <= _LINES_A_MINUTE

    prints_before_reply = True

    def crash(self, method: str, url: str, error: CrashedError) -> str:
        what = f"API error: {method}: {urlsplit(url).path} {error.error}: {error.message}"
        said = (message("ERROR", what), message("ERROR", f"HTTP API: {error.error}"))
        return "\n".join([*said, drawn(error.last_line()), ""])

    def limited(self, client: str, path: str) -> None:
        say("WARNING", f"API: client={client} api={path} rate limit exceeded")

    # -- jobs

    def loading(self, checkpoint: Checkpoint, _before: Checkpoint | None) -> None:
        say("INFO", f'Load model: select="{checkpoint.short_title}"')

    def loaded(self, seconds: float, _before: Checkpoint | None) -> None:
        times = f"{{'load': {seconds:.2f}, 'total': {seconds:.2f}}}"
        say("INFO", f"Load model: family=sd time={times} memory={_MEMORY}")

    def not_loaded(self, name: str) -> None:
        say("ERROR", f"Load model: name='{name}' not loaded")

    def failed(self, error: CrashedError, arguments: str) -> None:
        """An exception in sampling, which no reply mentions: what it was called with, then the
        text. The class comes after that, and not of a ValueError; an AssertionError is none."""
        if error.error == "AssertionError":
            say("INFO", error.message)
        elif error.error == "ValueError":
            say("ERROR", f"Processing: args={arguments} {error.message}")
        else:
            say("ERROR", f"Processing: step=base args={arguments} {error.message}")
            say("ERROR", f"Processing: {error.error}")
            traceback(error.last_line())
        say("WARNING", "Processing: no results")

    def not_decoded(self, error: CrashedError) -> None:
        """An exception in the VAE, of any class."""
        say("ERROR", f"VAE decode: {error.message}")
        say("WARNING", "Processing: no results")

    def processed(self) -> None:
        """After each picture, on a CPU."""
        gpu = {
            "error": "Found no NVIDIA driver on your system. Please check that you have an NVIDIA "
            "GPU and installed a driver from http://www.nvidia.com/Download/index.aspx"
        }
        memory = {"ram": {"used": 4.92, "total": 23.54}, "gpu": gpu, "oom": 0}
        say("DEBUG", f"Processed: memory={memory}")

    def extension_raised(self, hook: str, *, stars: bool = True) -> None:
        """Words: source, and adetailer#408; the path is relative, the class stands behind it."""
        del stars
        script = "extensions/sd-webui-injected/scripts/injected.py"
        said = f"Running script {hook.replace('_', ' ')}: {script}"
        if hook.endswith("_callback"):
            said = f"Executing callback: {script} {hook}"
        say("ERROR", f"{said}: ValueError")
        traceback("ValueError: injected: no input image is given")

    def extension_not_loaded(self) -> None:
        say("ERROR", "Load script: injected.py: ModuleNotFoundError")
        traceback("ModuleNotFoundError: No module named 'injected_dependency'")

    def bar(self, total: int, label: str = "") -> console.Bar:
        return NextBar(total, label)

    def missing_weights(self, url: str) -> None:
        """What it says then is not known."""
