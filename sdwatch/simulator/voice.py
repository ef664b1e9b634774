"""What a WebUI says in its log. The words are Forge dfdcbab6's (--nowebui --api)."""

from __future__ import annotations

import os
import platform
import sys
from http import HTTPStatus

from sdwatch.simulator import checkpoints, console
from sdwatch.simulator.checkpoints import Checkpoint
from sdwatch.simulator.failures import CrashedError

SIMULATED = "SIMULATED WebUI: pictures are drawn, not generated"

NO_DRIVER = (
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed "
    "a driver from http://www.nvidia.com/Download/index.aspx"
)

HOOKS = ("process", "postprocess_image", "cfg_denoiser_callback")
"""Where an extension can raise: before the steps, after them, in each of them."""

_EXTENSION = "<webui>/extensions/sd-webui-injected"


class Voice:
    """Forge's; another kind overrides what it says differently."""

    version = ""
    commit = ""

    # -- at the start

    def boot(self, port: int) -> None:
        """Print what is printed before the server starts."""
        self.introduction(port)
        console.out("Total VRAM 8192 MB, total RAM 24106 MB")
        console.out("Device: simulated")
        self.no_memory_monitor()
        console.out(f"Model selected: {_selected(checkpoints.CHECKPOINTS[0])}")
        console.out("Using online LoRAs in FP16: False")

    def introduction(self, port: int) -> None:
        """The first lines, which Forge and A1111 share. They print what they were started with,
        passwords too (recorded with both)."""
        console.out(f"Python {platform.python_version()} ({platform.python_implementation()})")
        console.out(f"Version: {self.version}")
        console.out(f"Commit hash: {self.commit}")
        more = [*_without_port(sys.argv[1:]), os.environ.get("COMMANDLINE_ARGS", "")]
        given = " ".join(["--nowebui --api", f"--port {port}", *filter(None, more)])
        console.out(f"Launching API server with arguments: {given}")
        console.out(SIMULATED)

    def no_memory_monitor(self) -> None:
        """Every start on a CPU prints it, and nothing is wrong (measured with Forge dfdcbab6)."""
        console.out(f"Warning: caught exception '{NO_DRIVER}', memory monitor disabled")

    def broken_start(self) -> None:
        """Print what a crash at the start leaves."""
        console.err(
            'Traceback (most recent call last):\n  File "<webui>/launch.py", line 54, in <module>\n'
            "    main()\nRuntimeError: injected failure while starting"
        )

    def booted(self, seconds: float) -> None:
        console.out(f"Startup time: {seconds:.1f}s (launcher: {seconds:.1f}s).")

    def starting(self) -> None:
        """Print what is printed just before the port is bound, also where that fails."""
        console.err(f"INFO:     Started server process [{os.getpid()}]")
        console.err("INFO:     Waiting for application startup.")
        console.err("INFO:     Application startup complete.")

    def listening(self, host: str, port: int) -> None:
        console.err(f"INFO:     Uvicorn running on http://{host}:{port} (Press CTRL+C to quit)")

    def bind_failed(self, host: str, port: int, error: OSError) -> None:
        reason = (error.strerror or str(error)).lower()
        console.err(
            f"ERROR:    [Errno {error.errno}] error while attempting to bind on address "
            f"('{host}', {port}): {reason}"
        )

    # -- requests

    def access(
        self, client: tuple[str, int], method: str, path: str, status: int, _seconds: float
    ) -> None:
        """Print that a request was answered. `path` is with its query."""
        console.out(
            f'INFO:     {client[0]}:{client[1]} - "{method} {path} HTTP/1.1" '
            f"{status} {HTTPStatus(status).phrase}"
        )

    prints_before_reply = False
    """Whether what it says of a 500 comes before its access line and the reply. In Forge Starlette
    answers and raises the exception again, and uvicorn prints it then (measured)."""

    def crash(self, _method: str, _url: str, error: CrashedError) -> str:
        """Return what it says of a request that is answered with 500."""
        return (
            "ERROR:    Exception in ASGI application\n"
            "Traceback (most recent call last):\n"
            '  File "<site-packages>/uvicorn/protocols/http/h11_impl.py", line 411, in run_asgi\n'
            "    result = await app(\n"
            '  File "<site-packages>/starlette/concurrency.py", line 41, in run_in_threadpool\n'
            "    return await anyio.to_thread.run_sync(func, *args)\n"
            '  File "<webui>/modules/processing.py", line 1, in simulated\n'
            f"    {error.code}\n"
            f"{error.last_line()}\n"
        )

    # -- jobs

    def loading(self, checkpoint: Checkpoint, _before: Checkpoint | None) -> None:
        """Print that a checkpoint is about to be loaded in the place of another, or of none."""
        console.out(f"Loading Model: {_selected(checkpoint)}")

    def loaded(self, seconds: float, _before: Checkpoint | None) -> None:
        console.out(f"Model loaded in {seconds:.1f}s (forge model load: {seconds:.1f}s).")

    def bar(self, total: int, label: str = "") -> console.Bar:
        return console.Bar(total, label)

    def cast_warning(self) -> None:
        """The first picture of NaNs became bytes: numpy warns once in the life of a process."""
        console.err(
            "<webui>/modules/processing.py:1003: RuntimeWarning: invalid value encountered in "
            "cast\n  x_sample = x_sample.astype(np.uint8)"
        )

    def extension_raised(self, hook: str, *, stars: bool = True) -> None:
        """An exception in an extension, which is passed over: the reply is a 200. Words: source of
        Forge dfdcbab6; without stars as controlnet#1368."""
        script = f"{_EXTENSION}/scripts/injected.py"
        said = f"running {hook}: {script}"
        if hook.endswith("_callback"):
            said = f"executing callback {hook} for {script}"
        lines = [
            "Traceback (most recent call last):",
            f'  File "<webui>/modules/scripts.py", line 846, in {hook}',
            f"    script.{hook}(p, *script_args)",
            f'  File "{script}", line 12, in {hook}',
            '    raise ValueError("injected: no input image is given")',
            "ValueError: injected: no input image is given",
        ]
        if stars:
            lines = [f"    {line}" for line in lines] + ["", "---"]
        console.err("\n".join([f"{'*** ' if stars else ''}Error {said}", *lines]))

    def extension_not_loaded(self) -> None:
        """An extension whose script cannot be imported: the start continues without it."""
        console.err(
            "*** Error loading script: injected.py\n"
            "    Traceback (most recent call last):\n"
            '      File "<webui>/modules/scripts.py", line 525, in load_scripts\n'
            "        script_module = script_loading.load_module(scriptfile.path)\n"
            f'      File "{_EXTENSION}/scripts/injected.py", line 3, in <module>\n'
            "        import injected_dependency\n"
            "    ModuleNotFoundError: No module named 'injected_dependency'\n\n---"
        )

    def missing_weights(self, url: str) -> None:
        """An upscaler was used whose weights are not here: measured for RealESRGAN only."""
        kind = "RealESRGAN" if "RealESRGAN" in url else url.rsplit("/", 1)[-1].split("_")[0]
        console.err(f"*** Unable to load {kind} model {url}")


def _without_port(words: list[str]) -> list[str]:
    at = words.index("--port") if "--port" in words else len(words)
    return [*words[:at], *words[at + 2 :]]


def _selected(checkpoint: Checkpoint) -> dict[str, object]:
    info = {"filename": checkpoint.filename, "hash": checkpoint.hash[:8]}
    return {"checkpoint_info": info, "additional_modules": [], "unet_storage_dtype": None}
