"""How a request fails: the two ways there are, and the words of the errors."""

from __future__ import annotations

from typing import Any

from sdwatch.simulator.faults import TRACEBACK_DELAY


class RefusedError(Exception):
    """An HTTPException (`detail` is text) or a failed validation (a list): no traceback."""

    def __init__(self, status: int, detail: str | list[dict[str, Any]]) -> None:
        self.status = status
        self.detail = detail
        super().__init__(str(detail))


class CrashedError(Exception):
    """Any other exception of the WebUI: 500 with its class and message, and a traceback.

    Its Site says what body each kind of WebUI makes of it.

    `error` is the class's bare name as in the body; `qualified` is the name in the traceback.
    `text_only` gives a text/plain body, `plain`: that of a server that hides the error;
    `answered` is what stands under "body" (only a reply that its own schema refuses has it).
    `code` is the line that raised it. `prints_first`: its traceback is printed before the reply,
    also where the kind prints after it; else `delay` seconds after it, with `pause` seconds between
    its halves. `says_before`: a line of the log before all that. `ends_after`: seconds from the
    reply to the end of the process.
    """

    delay = TRACEBACK_DELAY
    pause = 0.0
    ends_after: float | None = None
    plain = "Internal Server Error"

    def __init__(
        self,
        error: str,
        message: str,
        *,
        qualified: str = "",
        text_only: bool = False,
        answered: Any = "",
        code: str = "raise",
        prints_first: bool = False,
        says_before: str = "",
    ) -> None:
        self.error = error
        self.message = message
        self.qualified = qualified or error
        self.text_only = text_only
        self.answered = answered
        self.code = code
        self.prints_first = prints_first
        self.says_before = says_before
        super().__init__(f"{error}: {message}")

    def last_line(self) -> str:
        """Return the traceback's last line."""
        return f"{self.qualified}: {self.message}" if self.message else self.qualified


def out_of_memory() -> CrashedError:
    """Return what CUDA raises when a picture does not fit."""
    message = (
        "CUDA out of memory. Tried to allocate 20.00 GiB. "
        "GPU 0 has a total capacity of 8.00 GiB (injected)"
    )
    return CrashedError("OutOfMemoryError", message, qualified="torch.OutOfMemoryError")


class MemoryStaysTakenError(CrashedError):
    """A picture did not fit, and its memory is not given back: from now on only tiny pictures fit
    (reported of long-running WebUIs: agent-scheduler#16, #158, #262; sdnext#4012). `fails`: this
    picture fails, too."""

    fails = True


def memory_stays_taken(*, opaque: bool) -> MemoryStaysTakenError:
    """Return what such a WebUI raises. `opaque`: the body names what followed from it, and only
    the log has the cause (A1111#14623, amdgpu#355, reForge#292)."""
    if not opaque:
        first = out_of_memory()
        return MemoryStaysTakenError(first.error, first.message, qualified=first.qualified)
    cause = "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 2.00 GiB (injected)"
    return MemoryStaysTakenError(
        "TypeError", "'NoneType' object is not iterable", says_before=cause
    )


def not_a_number() -> CrashedError:
    """Return what AUTOMATIC1111 raises when the model gives NaNs."""
    message = (
        "A tensor with NaNs was produced in Unet. This could be either because there's not "
        "enough precision to represent the picture, or because your video card does not support "
        'half type. Try setting the "Upcast cross attention layer to float32" option in '
        "Settings > Stable Diffusion or using the --no-half commandline argument to fix this. "
        "Use --disable-nan-check commandline argument to disable this check."
    )
    return CrashedError("NansException", message, qualified="modules.devices.NansException")


def not_recognised() -> CrashedError:
    """Return what Forge raises for a checkpoint that it cannot read."""
    return CrashedError("ValueError", "Failed to recognize model type!")


def poisoned() -> CrashedError:
    """Return what every job gets after a checkpoint that could not be loaded, until it is cured."""
    return CrashedError("AttributeError", "'NoneType' object has no attribute 'sd_checkpoint_info'")


class DeviceLostError(CrashedError):
    """The GPU is gone for this process, or what else it needs: all that it does fails so from now
    on."""


def device_suspended(*, text_only: bool) -> DeviceLostError:
    """Return what DirectML raises then (stable-diffusion-webui-amdgpu#22)."""
    message = (
        "The GPU device instance has been suspended. "
        "Use GetDeviceRemovedReason to determine the appropriate action."
    )
    return DeviceLostError("RuntimeError", message, text_only=text_only)


_LOST = "Native API failed. Native API returns: 20 (UR_RESULT_ERROR_DEVICE_LOST)"
_TOO_MANY = "[Errno 24] Too many open files: '<webui>/outputs/x.png'"
_NO_NAME = "<urlopen error [Errno -3] Temporary failure in name resolution>"


def reported(fault: str) -> CrashedError | None:
    """Return what was reported in public trackers, one of each class of cause; None for another
    fault."""
    match fault:
        case "xpu-oom":  # intel-extension-for-pytorch#854
            text = (
                "Native API failed. Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"
            )
            return CrashedError("RuntimeError", text)
        case "xpu-device-lost":  # stable-diffusion-webui-reForge#460
            return DeviceLostError("RuntimeError", _LOST)
        case "wrong-dtype":  # AUTOMATIC1111#1247
            return CrashedError("RuntimeError", "expected scalar type Half but found Float")
        case "no-network":  # AUTOMATIC1111#14529
            return CrashedError("URLError", _NO_NAME, qualified="urllib.error.URLError")
        case "disk-full":  # diffusers#4957
            return CrashedError("OSError", "[Errno 28] No space left on device")
        case "too-many-files":  # AUTOMATIC1111#3366
            return DeviceLostError("OSError", _TOO_MANY)
        case "oom-behind-none":  # AUTOMATIC1111#14623, amdgpu#355
            return CrashedError("TypeError", "'NoneType' object is not iterable")
    return None


OOM_OF_ROCM = "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 896.00 MiB. GPU 0 has"


def no_model() -> CrashedError:
    """Return what the first job gets where there is no checkpoint at all."""
    message = (
        "You do not have any model! "
        "Please download at least one model in [models/Stable-diffusion]."
    )
    return CrashedError("ValueError", message)


def too_large(byte_count: int) -> CrashedError:
    """Return what the CPU allocator raises for a picture of absurd size."""
    message = (
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
        f"memory: you tried to allocate {byte_count} bytes. "
        "Error code 12 (Cannot allocate memory)"
    )
    return CrashedError("RuntimeError", message)
