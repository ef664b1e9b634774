"""What ComfyUI says in its log: on stderr, each line with its level, coloured into files too.

Measured with ComfyUI 0.33.0, 783545f6.
"""

from __future__ import annotations

import errno
import platform
import sys
from pathlib import Path

from sdwatch.simulator import console
from sdwatch.simulator.checkpoints import Checkpoint
from sdwatch.simulator.failures import CrashedError
from sdwatch.simulator.start_failures import StartFailure
from sdwatch.simulator.voice import NO_DRIVER, SIMULATED, Voice

_GREEN, _RESET = "\033[32m", "\033[0m"
_LEVELS = {"INFO": _GREEN, "WARNING": "\033[1m\033[33m", "ERROR": "\033[1m\033[31m"}
_BROKEN_NODE = "<base>/custom_nodes/injected"


def say(text: str, level: str = "INFO", *, coloured: bool = False) -> None:
    """Print a line with its level. `coloured`: its text is green, too."""
    text = f"{_GREEN}{text}{_RESET}" if coloured else text
    console.err(f"{_LEVELS[level]}[{level}]{_RESET} {text}")


class ComfyVoice(Voice):
    version = "0.33.0"

    def boot(self, _port: int) -> None:
        say(SIMULATED)
        say("Total VRAM 24106 MB, total RAM 24106 MB")
        say("pytorch version: 2.13.0+cpu")
        say("Set vram state to: DISABLED")
        say("Device: cpu")
        say(f"Python version: {platform.python_version()} ({platform.python_implementation()})")
        say(f"ComfyUI version: {self.version}")
        say("[Prompt Server] web root: <comfyui>/web")

    def broken_start(self) -> None:
        console.err(
            'Traceback (most recent call last):\n  File "<comfyui>/main.py", line 600, in '
            "<module>\nRuntimeError: injected failure while starting"
        )

    def extension_not_loaded(self) -> None:
        """A custom node that cannot be imported: the start continues without it."""
        say(
            "Traceback (most recent call last):\n"
            '  File "<comfyui>/nodes.py", line 2292, in load_custom_node\n'
            "    module_spec.loader.exec_module(module)\n"
            f'  File "{_BROKEN_NODE}/__init__.py", line 3, in <module>\n'
            "    import injected_dependency\n"
            "ModuleNotFoundError: No module named 'injected_dependency'\n",
            "WARNING",
        )
        cause = "No module named 'injected_dependency'"
        say(f"Cannot import {_BROKEN_NODE} module for custom nodes: {cause}", "WARNING")
        self.import_times(f"   0.0 seconds (IMPORT FAILED): {_BROKEN_NODE}")

    def import_times(self, *lines: str) -> None:
        say("\nImport times for custom nodes:")
        for line in (*lines, ""):
            say(line)

    def no_custom_nodes(self, folder: Path) -> None:
        console.err(
            'Traceback (most recent call last):\n  File "<comfyui>/main.py", line 620, in '
            "<module>\n    event_loop, _, start_all_func = start_comfyui()\n"
            '  File "<comfyui>/nodes.py", line 2349, in init_external_custom_nodes\n'
            "    possible_modules = os.listdir(os.path.realpath(custom_node_path))\n"
            f"FileNotFoundError: [Errno 2] No such file or directory: '{folder}'"
        )

    def database_locked(self, path: Path) -> None:
        """Another process has the same user folder: it starts all the same."""
        say(
            "Failed to initialize database. Please ensure you have installed the latest "
            "requirements. If the error persists, please report this as in future the database "
            f"will be required: Could not acquire lock on database '{path}'. Another ComfyUI "
            "process may already be using it. Use --database-url to specify a separate database "
            "file.",
            "ERROR",
        )

    def booted(self, seconds: float) -> None:
        """Print nothing."""

    def starting(self) -> None:
        say("Starting server\n")

    def listening(self, host: str, port: int) -> None:
        say(f"To see the GUI go to: http://{host}:{port}")

    def bind_failed(self, host: str, port: int, error: OSError) -> None:
        if error.errno != errno.EADDRINUSE:
            reason = (error.strerror or str(error)).lower()
            console.err(
                'Traceback (most recent call last):\n  File "<comfyui>/server.py", line 1434, in '
                "start_multi_address\n    await site.start()\n"
                f"{type(error).__name__}: [Errno {error.errno}] error while attempting to bind on "
                f"address ('{host}', {port}): {reason}"
            )
            return
        say(
            f"Port {port} is already in use on address {host}. Please close the other application "
            "or use a different port with --port.",
            "ERROR",
        )

    def stopped(self) -> None:
        say("\nStopped server")

    # -- requests

    def access(
        self, client: tuple[str, int], method: str, path: str, status: int, _seconds: float
    ) -> None:
        """Print nothing: it keeps no access log."""

    prints_before_reply = True

    def crash(self, _method: str, _url: str, error: CrashedError) -> str:
        return (
            f"{_LEVELS['ERROR']}[ERROR]{_RESET} Error handling request from 127.0.0.1\n"
            "Traceback (most recent call last):\n"
            '  File "<site-packages>/aiohttp/web_protocol.py", line 510, in _handle_request\n'
            "    resp = await request_handler(request)\n"
            '  File "<comfyui>/server.py", line 1075, in post_prompt\n'
            f"    {error.code}\n"
            f"{error.last_line()}\n"
        )

    def got_prompt(self) -> None:
        say("got prompt")

    def invalid_prompt(self, error: object) -> None:
        say(f"invalid prompt: {error}", "WARNING")

    def not_valid(self, lines: list[str]) -> None:
        """Print what is wrong with the parts of a workflow that will not run."""
        for line in lines:
            say(line, "ERROR")

    def cancelling(self, state: str, prompt_id: str) -> None:
        """Print each request to cancel a prompt, however often it is asked."""
        say(f"Cancelling {state} prompt {prompt_id}")

    def interrupting(self, prompt_id: str, *, runs: bool) -> None:
        if runs:
            say(f"Interrupting prompt {prompt_id}")
        else:
            say(f"Prompt {prompt_id} is not currently running, skipping interrupt")

    def interrupting_whatever_runs(self) -> None:
        say("Global interrupt (no prompt_id specified)")

    def foreign_origin(self, host: str, origin: str) -> None:
        say(
            f"WARNING: request with non matching host and origin {host} != {origin}, returning 403",
            "WARNING",
        )

    # -- jobs

    def loading(self, checkpoint: Checkpoint, _before: Checkpoint | None) -> None:
        say(f"model weight dtype torch.float32, manual cast: None ({checkpoint.file})")

    def loaded(self, _seconds: float, _before: Checkpoint | None) -> None:
        """Print nothing: a model is moved to the device when a sampler wants it."""

    def moved_to_device(self) -> None:
        say("Requested to load BaseModel")
        say("loaded completely;  479.00 MB loaded, full load: True")

    def cast_warning(self) -> None:
        console.err(
            "<comfyui>/nodes.py:1698: RuntimeWarning: invalid value encountered in cast\n"
            "  img = Image.fromarray(np.clip(i, 0, 255).astype(np.uint8))"
        )

    def interrupted(self) -> None:
        say("Processing interrupted")

    def failed(self, error: CrashedError, frames: list[str], *, out_of_memory: bool) -> None:
        """Print what an exception in a node leaves."""
        say(f"!!! Exception during processing !!! {error.message}", "ERROR")
        whole = "".join(["Traceback (most recent call last):\n", *frames, error.last_line(), "\n"])
        say(whole, "ERROR")
        if out_of_memory:
            say("Memory summary:\n(simulated)")
            say("Got an OOM, unloading all loaded models.", "ERROR")

    def executed(self, seconds: float) -> None:
        say(f"Prompt executed in {seconds:.2f} seconds", coloured=True)

    def extension_raised(self, hook: str, *, stars: bool = True) -> None:
        """Print nothing: a custom node raises in its own node."""


# ComfyUI without a driver: model_management.py asks for the device at its import.
START_FAILURES = {
    "no-gpu": StartFailure(
        "Traceback (most recent call last):\n"
        '  File "<comfyui>/main.py", line 240, in <module>\n'
        "    import execution\n"
        '  File "<comfyui>/comfy/model_management.py", line 361, in <module>\n'
        "    total_vram = get_total_memory(get_torch_device()) / (1024 * 1024)\n"
        '  File "<site-packages>/torch/cuda/__init__.py", line 412, in _lazy_init\n'
        "    torch._C._cuda_init()\n"
        f"RuntimeError: {NO_DRIVER}"
    ),
    "wrong-folder": StartFailure(
        f"{sys.executable}: can't open file '<comfyui>/main.py': [Errno 2] No such file or "
        "directory",
        2,
    ),
}
