"""How a node of ComfyUI fails or takes the process along: the errors' words, and the deaths.

Measured with ComfyUI 0.33.0, 783545f6, by a custom node that did each of these.
"""

from __future__ import annotations

import os

from sdwatch.simulator.damage import die, hold_interpreter
from sdwatch.simulator.failures import CrashedError, DeviceLostError, out_of_memory

OUT_OF_MEMORY = "torch.OutOfMemoryError"
TIPS = (
    "This error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked before "
    "you might have accidentally set the batch_size to a large number."
)
_SEGV, _KILL = 11, 9


class InterruptedRunError(Exception):
    """Somebody pressed Interrupt, and the node asked."""


def illegal_access() -> DeviceLostError:
    """Return what CUDA raises from then on."""
    return DeviceLostError("RuntimeError", "CUDA error: an illegal memory access was encountered")


def leave_executor(error: CrashedError) -> None:
    """Raise what ends the worker's thread, for an error that is not an Exception: a SystemExit
    silently, anything else with a traceback."""
    if error.error == "SystemExit":
        raise SystemExit(3)
    if error.error == "KeyboardInterrupt":
        raise KeyboardInterrupt


def raise_kind(kind: str) -> None:
    """Fail or die in one of the ways that were measured."""
    match kind:
        case "raise":
            raise CrashedError("ValueError", "a fault was asked for")
        case "oom":
            raise out_of_memory()
        case "oom_text":
            raise CrashedError("RuntimeError", "CUDA out of memory. Tried to allocate 20.00 GiB")
        case "mm_oom":
            message = "Allocation on device 0 would exceed allowed memory. (out of memory)"
            raise CrashedError("OutOfMemoryError", message, qualified=OUT_OF_MEMORY)
        case "long":
            raise CrashedError("ValueError", f"tensor({'0.1250 a lighthouse, ' * 100_000})")
        case "memoryerror":
            raise CrashedError("MemoryError", "")
        case "cuda_illegal":
            raise illegal_access()
        case "keyboard" | "sys_exit":
            name = "KeyboardInterrupt" if kind == "keyboard" else "SystemExit"
            raise CrashedError(name, "")
    _die(kind)


def _die(kind: str) -> None:
    match kind:
        case "exit_0":
            os._exit(0)
        case "kill":
            die(_KILL)
        case "segv":
            die(_SEGV)
        case "abort":
            os.abort()
        case "gil":
            hold_interpreter()
