"""What the faults do to a generation, and to this process."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from sdwatch.simulator import console, failures
from sdwatch.simulator.echo import echoed
from sdwatch.simulator.failures import CrashedError
from sdwatch.simulator.faults import Fault
from sdwatch.simulator.voice import HOOKS

_leaked: list[bytes] = []
_SEGV = 11
_KILL = 9
_TAKEN_WITHIN_S = 5.0
_FOREVER_S = 1_000_000
_NO_IMAGES: dict[str, Any] = {"images": []}
_NO_IMAGE: dict[str, Any] = {"image": None}


def die(number: int) -> None:
    """End this process by a signal; Windows has only TerminateProcess, the number is its code."""
    os.kill(os.getpid(), number)
    threading.Event().wait()  # until the signal has arrived


def freeze() -> None:
    """Stop every thread of this process."""
    if sys.platform == "win32":
        import ctypes

        ctypes.windll.ntdll.NtSuspendProcess(ctypes.c_void_p(-1))
    else:
        os.kill(os.getpid(), signal.SIGSTOP)
        # Another thread may take the signal, a moment later on a busy machine.
        threading.Event().wait(_TAKEN_WITHIN_S)


def hold_interpreter() -> None:
    """Call C code that never comes back and holds the interpreter's lock: no thread runs again."""
    import ctypes  # here, because most runs start without it, and sooner

    if sys.platform == "win32":
        ctypes.PyDLL("kernel32").Sleep(_FOREVER_S * 1000)
    else:
        ctypes.PyDLL(None).sleep(_FOREVER_S)


def _spin() -> None:
    while True:
        pass


def _repeat(every: float) -> None:
    """Do nothing more, and print the same every so many seconds: with another timestamp, count and
    request id, between bars that a timer redraws and the access lines of another client."""
    import uuid

    pause, count = threading.Event(), 0
    while True:
        count += 1
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        console.write(
            sys.stderr, f"\r 50%|█████     | 10/20 [00:{count % 60:02}<?, {count:5.2f}s/it]"
        )
        console.err("")
        console.out(f"{stamp},{count:03} WARNING: device is busy, request {uuid.uuid4()} ({count})")
        console.out(f'INFO:     10.0.0.7:{40000 + count} - "GET /file={count} HTTP/1.1" 200 OK')
        pause.wait(every)


def _exit_0() -> None:
    os._exit(0)


def _flood(lines: int) -> None:
    for i in range(lines):
        console.out(f"*** simulated warning {i}: tensor on the wrong device, moving it")


def _leave_child(seconds: float) -> None:
    """A child in its own session that outlives us; it keeps our environment and our output."""
    import subprocess  # here, because most runs start without it, and sooner

    code = f"import time; time.sleep({seconds})"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    console.out(f"SIMULATED fault: left a child, pid {child.pid}")


class Damage:
    """The faults of one generation, asked at each point where a fault can strike.

    `ignore_sigterm` runs on the main thread, where alone handlers can be set; `interrupted` returns
    whether /interrupt has come.
    """

    def __init__(
        self,
        faults: list[Fault],
        ignore_sigterm: Callable[[], None],
        interrupted: Callable[[], bool],
        prompt: str = "",
    ) -> None:
        self.tiled = False  # the VAE works in tiles
        self._prompt = prompt
        self._faults = {f.name: f for f in faults}
        self._ignore_sigterm = ignore_sigterm
        self._interrupted = interrupted

    def has(self, name: str) -> bool:
        return name in self._faults

    def take(self, name: str) -> bool:
        """Return whether it has this fault, which from now on strikes no more: its kind does
        otherwise."""
        return self._faults.pop(name, None) is not None

    def of_extension(self, hooks: Sequence[str]) -> tuple[str, bool] | None:
        """In which of these hooks an extension raises, and whether its line has stars."""
        if (fault := self._faults.get("extension-raises")) is None:
            return None
        hook = HOOKS[int(fault.option("hook"))]
        return (hook, bool(fault.option("stars"))) if hook in hooks else None

    def announce(self) -> None:
        """Say in the log what is about to go wrong, and let happen what breaks no reply."""
        for fault in self._faults.values():
            console.out(f"SIMULATED fault: {fault.name}")
        if orphan := self._faults.get("orphan-child"):
            _leave_child(orphan.option("seconds"))
        if self.has("ignore-sigterm"):
            self._ignore_sigterm()
        if leak := self._faults.get("leak"):
            # Not zeros: only pages that were written count as memory in use.
            _leaked.append(b"\x01" * int(leak.option("mb") * 1024 * 1024))

    @property
    def slowness(self) -> float:
        fault = self._faults.get("slow-steps")
        return fault.option("factor") if fault else 1.0

    def before_step(self, step: int, total: int, pixels: int) -> None:
        """Strike when `step` (from 0) is the first that lies at or past the fault's share; where it
        depends on `pixels` (at once), only above them."""
        for fault in self._faults.values():
            fits = fault.options.get("above", 0) * (fault.options.get("tiled", 1) ** self.tiled)
            if fits and pixels <= fits:
                continue
            if "at" in fault.options and step == min(int(fault.option("at") * total), total - 1):
                self._strike(fault)

    def before_decode(self) -> None:
        """Strike when the steps are done and the picture is to be decoded."""
        if self.has("vae-decode"):
            raise CrashedError("RuntimeError", "injected failure in the VAE")

    def _strike(self, fault: Fault) -> None:
        try:
            self._break(fault)
        except CrashedError as error:
            error.delay = fault.options.get("delay", error.delay)
            error.pause = fault.options.get("pause", error.pause)
            if fault.name == "exit-after-500":
                error.ends_after = fault.option("seconds")
            raise

    def _break(self, fault: Fault) -> None:
        """Raise what the fault makes of the generation, or end or stop this process."""
        if fault.name == "oom-behind-none":
            console.out(f"*** Error: {failures.OOM_OF_ROCM}")
        if (error := failures.reported(fault.name)) is not None:
            raise error
        match fault.name:
            case "opaque-500":
                raise CrashedError("RuntimeError", "")
            case "opaque-500-text":
                raise CrashedError("RuntimeError", "", text_only=True)
            case "assertion-500":
                raise CrashedError("AssertionError", "", code="assert p.prompt is not None")
            case "system-exit-500":
                # Not an Exception, so no handler answers it: text, and told first (measured).
                raise CrashedError("SystemExit", "3", text_only=True, prints_first=True)
            case "structured-500" | "exit-after-500":
                raise CrashedError("RuntimeError", "injected failure inside sampling")
            case "echo-500":
                raise echoed(self._prompt, int(fault.option("way")))
            case "device-suspended":
                raise failures.device_suspended(text_only=bool(fault.option("opaque")))
            case "value-error":
                raise CrashedError("ValueError", "injected failure of a value")
            case "assertion-error":
                raise CrashedError("AssertionError", "injected assertion")
            case "key-error":
                raise CrashedError("KeyError", "'injected_key'")
            case "log-flood":
                _flood(int(fault.option("lines")))
                raise CrashedError("RuntimeError", "injected failure after a flood of lines")
            case "worker-dies":
                raise CrashedError("KeyboardInterrupt", "")
            case "oom":
                raise failures.out_of_memory()
            case "oom-text":
                raise CrashedError("RuntimeError", failures.out_of_memory().message)
            case "memory-stays-taken":
                error = failures.memory_stays_taken(opaque=bool(fault.option("opaque")))
                error.fails = bool(fault.option("fails"))
                raise error
            case "nan":
                raise failures.not_a_number()
        self._end_or_hang(fault)

    def _end_or_hang(self, fault: Fault) -> None:
        """Strike with what gives no reply; return where somebody may interrupt it."""
        match fault.name:
            case "sigkill-mid-step":
                die(_KILL)
            case "segv":
                die(_SEGV)
            case "abort":
                os.abort()
            case "holds-gil":
                hold_interpreter()
            case "exit-0":
                _exit_0()
            case "freeze":
                freeze()
            case "hang-spin":
                _spin()
            case "hang-repeating":
                _repeat(fault.option("every"))
            case "hang":
                threading.Event().wait()
            case "hang-interruptible":
                pause = threading.Event()
                while not self._interrupted():
                    pause.wait(0.01)

    def end_by(self, name: str) -> None:
        """End this process, if it has this fault."""
        if self.has(name):
            die(_KILL)

    def reply(self, body: dict[str, Any]) -> bytes:
        """Return the reply's bytes: as they should be, or spoiled. Asked when all steps are
        done."""
        self.end_by("sigkill-before-reply")
        if self.has("empty-images"):
            body.update(_NO_IMAGES if "images" in body else _NO_IMAGE)
        if self.has("undecodable-image"):
            _cut_images(body)
        return self.broken(json.dumps(body, separators=(",", ":")).encode())

    def broken(self, raw: bytes) -> bytes:
        """Return a body as it should be, or a part of it that ends like a whole one."""
        if fault := self._faults.get("broken-json"):
            raw = raw[: int(len(raw) * fault.option("at"))]
        return raw

    def cut_reply(self, length: int) -> int | None:
        """Return how many bytes of the body are sent before the connection ends; None for all."""
        for name in ("truncated-body", "sigkill-mid-reply"):
            if fault := self._faults.get(name):
                return int(length * fault.option("at"))
        return None

    def after_cut(self) -> None:
        if self.has("sigkill-mid-reply"):
            die(_KILL)


def _cut_images(body: dict[str, Any]) -> None:
    """Half a picture is still good base64, but no picture."""
    if "images" in body:
        body["images"] = [_half(i) for i in body["images"]]
    else:
        body["image"] = _half(body["image"])


def _half(image: str) -> str:
    return image[: len(image) // 8 * 4]
