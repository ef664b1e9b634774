"""What a failure is taken for: one table, with a row for each row of the measured facts.

The facts are those of errors.md, process.md, a1111.md and sdnext.md (measured with Forge dfdcbab6,
AUTOMATIC1111 v1.10.1, SD.Next 058a7f0c and stable-diffusion.cpp 97d29908), and texts from named
public issues. A row starts with the file and the row that it is about.
"""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

import pytest

from sdwatch.errors import (
    FileProblems,
    WebUIError,
    WebUIInterruptedError,
    WebUIReplyError,
    WebUIServerError,
    WebUIStuckError,
    WebUIUnreachableError,
)
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.diagnosis import Explanation, diagnose
from sdwatch.policy.failure.expression import BuiltinExpression
from sdwatch.policy.failure.facts import Diagnosis, FailureFacts, names_checkpoint
from sdwatch.policy.failure.matching import FailedStart, ends_start, match, why_not_started
from sdwatch.policy.failure.signature_file import parse_signatures
from sdwatch.policy.failure.signatures import Signature, Way, fixed_start
from sdwatch.policy.kinds.forge import FORGE
from sdwatch.policy.kinds.forge_neo import FORGE_NEO
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.unknown import UNKNOWN
from sdwatch.policy.workflow.prompt_result import NodeFailure, PromptEnd, PromptResult
from sdwatch.system import resources
from sdwatch.webui.http.prompt_reply import failed
from sdwatch.webui.http.reply import error_for
from tests.policy import causes, shadows
from tests.support.tables import table

BUILTIN = builtin_signatures()

BAD = Diagnosis.BAD_REQUEST
CRASH = Diagnosis.CRASH
SERVER = Diagnosis.SERVER_ERROR
OOM = Diagnosis.OUT_OF_MEMORY
NAN = Diagnosis.NAN
POISONED = Diagnosis.POISONED
STUCK = Diagnosis.STUCK
SILENT = Diagnosis.SILENT
INTERRUPTED = Diagnosis.INTERRUPTED
BUSY = Diagnosis.BUSY
UNUSABLE = Diagnosis.NOT_USABLE
STORAGE = Diagnosis.STORAGE


@dataclass(frozen=True)
class Row:
    """`diagnosis` None: a start that failed. '' for `cause` and `advice`: no signature fits, and
    what is said is what the class of the error says."""

    where: str
    error: WebUIError | None
    diagnosis: Diagnosis | None
    cause: str = ""
    advice: str = ""
    evidence: str = ""
    log: tuple[str, ...] = ()
    gone: bool = False
    exit: int | None = None
    low: bool | None = None
    named: bool = False
    poisons: bool = False
    kind: Kind = UNKNOWN
    printed: tuple[str, ...] = ()

    @property
    def facts(self) -> FailureFacts:
        assert self.error is not None
        return FailureFacts(
            self.error,
            self.gone,
            self.exit,
            self.log,
            self.low,
            self.named,
            kind=self.kind,
            once_lines=self.printed,
        )

    @property
    def found(self) -> FailureFacts | FailedStart:
        """What the signatures are asked about."""
        if self.diagnosis is not None:
            return self.facts
        return FailedStart((self.log,), self.exit, self.low)

    def why(self, signatures: Sequence[Signature] = BUILTIN) -> str:
        """Of a start that failed."""
        found = why_not_started(FailedStart((self.log,), self.exit, self.low), signatures)
        return f"{found.cause}. {found.advice}" if found else ""


def http(status: int, body: Any = b"", stage: str = "txt2img") -> WebUIError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_for(status, data, stage, stage)


def forge(kind: str, message: str) -> WebUIError:
    return http(500, {"error": kind, "detail": "", "body": "", "message": message})


def a1111(kind: str, errors: str) -> WebUIError:
    return http(500, {"error": kind, "detail": "", "body": "", "errors": errors})


def sdnext(code: int, kind: str, errors: str, detail: str = "") -> WebUIError:
    return http(code, {"error": kind, "code": code, "detail": detail, "body": "", "errors": errors})


def detail(status: int, text: str) -> WebUIError:
    return http(status, {"detail": text})


def refused(field: str, msg: str) -> WebUIError:
    return http(422, {"detail": [{"loc": ["body", field], "msg": msg, "input": "x"}]})


def call(where: str, error: WebUIError, diagnosis: Diagnosis, *words: str, **more: Any) -> Row:
    return Row(where, error, diagnosis, *words, **more)


def died(where: str, code: int | None, *words: str, **more: Any) -> Row:
    error = more.pop("error", None) or UNREACHABLE
    return Row(where, error, CRASH, *words, gone=True, exit=code, **more)


def start(where: str, log: str, code: int | None, *words: str, **more: Any) -> Row:
    return Row(where, None, None, *words, log=tuple(log.split("\n")), exit=code, **more)


def of_node(node: str, exception: str, message: str) -> WebUIError:
    """What a node of ComfyUI raised, as prompt_reply.failed has it."""
    return failed(
        PromptResult(PromptEnd.FAILED, failure=NodeFailure("4", node, exception, message))
    )


def silent(kind: str) -> WebUIError:
    said = "the WebUI answered 200, but the picture is not as it should be"
    return WebUIReplyError(said, stage="txt2img", status=200, kind=kind)


def traceback(last: str, code: str = "output = model(x)") -> tuple[str, ...]:
    head, frame = "Traceback (most recent call last):", '  File "a.py", line 1, in f'
    return (head, frame, f"    {code}", last)


UNREACHABLE = WebUIUnreachableError(
    "http://127.0.0.1:7860/sdapi/v1/txt2img: RemoteDisconnected: Remote end closed connection"
)
REFUSED = WebUIUnreachableError(
    "http://127.0.0.1:7860/sdapi/v1/txt2img: ConnectionRefusedError: [Errno 111] Connection refused"
)
NO_IMAGE = WebUIReplyError("the reply has no image", stage="txt2img", status=200)
BLACK = WebUIReplyError("image 1 of the reply is all black", stage="txt2img", status=200)
OPAQUE = http(500, b"Internal Server Error")
INJECTED = "injected failure inside sampling"
CUDA_OOM = "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 8.00 GiB"
NOT_ENOUGH = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 10000000000 bytes. Error code 12 (Cannot allocate memory)"
)
NANS = "A tensor with NaNs was produced in {}. This could be either because there's not enough"
ILLEGAL = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"
ILLEGAL_LINE = "RuntimeError: CUDA error: an illegal memory access was encountered"
SUSPENDED = "RuntimeError: The GPU device instance has been suspended. Use GetDeviceRemovedReason"
ASSERTED = "RuntimeError: CUDA error: device-side assert triggered"
HTML_INFO = "1 validation error for ResProcessImage\nhtml_info\n  Input should be a valid string"
KILLED = 'webui.sh: line 304: 26728 Killed                  "${python_cmd}" -u "${LAUNCH_SCRIPT}"'
BROKEN_JSON = "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)"
NO_KEY = (
    '  File "<webui>/modules/options.py", line 151, in set',
    "    option = self.data_labels[key]",
    "KeyError: 'no_such_setting'",
)
BOUND = (
    "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 7860): address "
    "already in use"
)
NO_PORT = "OSError: Cannot find empty port in range: 7860-7860"
NO_GPU = (
    "RuntimeError: Torch is not able to use GPU; add --skip-torch-cuda-test to COMMANDLINE_ARGS "
    "variable to disable this check"
)
ABORTED = ("08:03:12-123456 ERROR    Aborted: op=process model not loaded",)
SAFETENSOR_NEW = "Error while deserializing header: header too large"
CUDA_MALLOC = (
    "[ERROR] ggml_extend.hpp:83 - ggml_backend_cuda_buffer_type_alloc_buffer: allocating 2024.00 "
    "MiB on device 0: cudaMalloc failed: out of memory"
)
CAST = "processing.py:1003: RuntimeWarning: invalid value encountered in cast"
NO_MODULES = (
    "Traceback (most recent call last):",
    '  File "<webui>/modules/processing.py", line 1405, in sample',
    "    if hasattr(self, 'hr_additional_modules') and 'Use same choices' not in self.hr_additional"
    "_modules:",
    "TypeError: argument of type 'NoneType' is not iterable",
)
NO_WEIGHTS = (
    "*** Unable to load RealESRGAN model https://github.com/xinntao/x/RealESRGAN_x4plus.pth"
)
UNLOADED = ("08:03:12-123456 ERROR    Load model: name='zz-corrupt' not loaded",)
SAFETENSOR = "Error while deserializing header: HeaderTooLarge"
GONE_FILE = "[Errno 2] No such file or directory: 'models/Stable-diffusion/zz-vanished.safetensors'"

ERRORS_MD = [
    call("unknown override key", forge("KeyError", "'no_such_setting'"), BAD, "not have a setting",
         "override_settings|options", "the reply: KeyError, HTTP 500, log line: File", log=NO_KEY),
    call("unknown override key, log not read", forge("KeyError", "'no_such_setting'"), SERVER,
         "looked up a name", "leave it out", "the reply: KeyError: 'no_such_setting', HTTP 500"),
    call("wrong type steps", refused("steps", "Input should be a valid integer"), BAD,
         "refuses a value", "names the field", "HTTP 422"),
    call("steps=2.5", refused("steps", "got a number with a fractional part"), BAD, "steps: got",
         "", "HTTP 422"),
    call("prompt=123", refused("prompt", "Input should be a valid string"), BAD, "prompt: Input"),
    call("cfg_scale", refused("cfg_scale", "Input should be a valid number"), BAD, "cfg_scale: "),
    call("invalid JSON", refused("1", "JSON decode error"), BAD, "JSON decode error"),
    call("no body; GET on txt2img", http(422, {"detail": [{"loc": ["body"], "msg": "Field required"
         }]}), BAD, "the request: Field required"),
    call("JSON list", http(422, {"detail": [{"loc": ["body"], "msg": "Input should be a valid dic"
         }]}), BAD, "the request: Input"),
    call("upscaling_resize=0", refused("upscaling_resize", "should be greater than 0"), BAD,
         "upscaling_resize: should"),
    call("steps=0", forge("ZeroDivisionError", "integer division or modulo by zero"), SERVER),
    call("steps=-1", forge("RuntimeError", "number of steps must be non-negative"), BAD,
         "too small", "64 x 64", "the reply: RuntimeError: number of steps must be non-negative"),
    call("prompt=null", forge("AssertionError", ""), SERVER),
    call("empty body, client gave up", WebUIStuckError("no reply within 3 s"), STUCK),
    call("width=0", forge("RuntimeError", "Calculated padded input size per channel: (10 x 2). Ker"
         "nel size: (3 x 3). Kernel size can't be greater than actual input size"), BAD,
         "too small", "64 x 64", "Kernel size can't be greater"),
    call("width=-64", forge("RuntimeError", "Trying to create tensor with negative dimension -8"),
         BAD, "too small", "64 x 64", "negative dimension"),
    call("width=8", forge("RuntimeError", "Given groups=1, weight of size [320, 4, 3, 3], expected "
         "input[2, 9, 1, 1] to have 4 channels, but got 9 channels instead"), SERVER),
    call("batch_size=0, n_iter=0", forge("IndexError", "list index out of range"), SERVER),
    call("unknown script_name", detail(422, "Script 'no such script' not found"), BAD,
         "not have that script", "GET /sdapi/v1/script-info",
         "the reply: Script 'no such script' not found"),
    call("unknown alwayson script", detail(422, "Script 'no such' not found"), BAD,
         "not have that script", "alwayson_scripts", "not found"),
    call("unknown refiner", forge("Exception", "Could not find checkpoint with name no-such"), BAD,
         "does not have the checkpoint", "Correct the name",
         "Exception: Could not find checkpoint"),
    call("unknown hr_upscaler", forge("Exception", "could not find upscaler named NoSuchUp"), BAD,
         "does not have that upscaler", "GET /sdapi/v1/upscalers",
         "Exception: could not find upsc"),
    call("img2img bad base64, text, file path", detail(500, "Invalid encoded image"), BAD,
         "incomplete or damaged", "as PNG", "the reply: Invalid encoded image, HTTP 500"),
    call("img2img truncated png", forge("OSError", "image file is truncated"), BAD,
         "incomplete or damaged", "as PNG", "OSError: image file is truncated"),
    call("img2img empty list", forge("IndexError", "Dimension out of range (expected to be in rang"
         "e of [-1, 0], but got 1)"), SERVER),
    call("img2img no init_images", detail(404, "Init image not found"), BAD, "needs an image",
         "init_images", "Init image not found"),
    call("img2img [null]", forge("AttributeError", "'NoneType' object has no attribute 'startswit"
         "h'"), SERVER),
    call("img2img http url", detail(500, "Request to local resource not allowed"), BAD,
         "refuses to fetch", "beside the job file", "local resource"),
    call("extra unknown upscaler", forge("AssertionError", "could not find upscaler named NoSuch"),
         BAD, "not have that upscaler", "with its capitals",
         "AssertionError: could not find upscaler"),
    call("extra ESRGAN_4x", forge("AssertionError", "could not find upscaler named ESRGAN_4x"),
         BAD, "ESRGAN_4x", "are files"),
    call("extra bad, empty, missing image; png-info", http(500, {"detail": "Invalid encoded image"},
         "extra-single-image"), BAD, "incomplete or damaged", "as PNG"),
    call("extra upscaling_resize=1000", forge("MemoryError", ""), OOM, "(not the GPU)",
         "upscaling_resize", "the reply: MemoryError, HTTP 500"),
    call("sampling raise", forge("RuntimeError", INJECTED), SERVER),
    call("sampling OOM", forge("OutOfMemoryError", CUDA_OOM), OOM, "the GPU ran out of memory",
         "Lower width", "the reply: OutOfMemoryError, HTTP 500"),
    call("sampling OOM of an older torch", forge("RuntimeError", CUDA_OOM), OOM,
         "the GPU ran out of memory", "--medvram", "the reply: RuntimeError: CUDA out of memory"),
    call("corrupt model (override)", forge("ValueError", "Failed to recognize model type!"), BAD,
         "the job names is of a kind", ".corrupted", "the call names a checkpoint", named=True,
         poisons=True),
    call("default model corrupt", forge("ValueError", "Failed to recognize model type!"), POISONED,
         "selected in the WebUI is of a kind", "another checkpoint in", "ValueError: Failed",
         poisons=True),
    call("after corrupt", forge("AttributeError", "'NoneType' object has no attribute 'sd_checkpoi"
         "nt_info'"), POISONED, "no model since", "was restarted", "sd_checkpoint_info",
         poisons=True),
    call("huge, with a limit", forge("RuntimeError", NOT_ENOUGH), OOM, "(not the GPU)",
         "Lower width", "DefaultCPUAllocator: can't allocate memory"),
    died("32768x32768 without a limit", -9, "machine ran out of memory", "add swap",
         "exit code -9, next to no memory was left", low=True),
    call("cmd-flags", http(500, {"error": "ResponseValidationError", "detail": "", "body": {"a": 1},
         "message": ""}), SERVER),
    call("server-restart without a wrapper", http(501), SERVER),
    call("auth, no header", detail(401, "Not authenticated"), UNUSABLE, "another user name",
         "`username`", "HTTP 401"),
    call("auth, wrong", detail(401, "Incorrect username or password"), UNUSABLE,
         "Incorrect username", "--api-auth", "HTTP 401"),
    died("SIGKILL", -9, "9, SIGKILL): the WebUI was killed with SIGKILL", "journalctl",
         "exit code -9"),
    died("SIGKILL, and memory was left", -9, "memory was not low", "limit of a container",
         "exit code -9, memory was not low just before", low=False),
    died("SIGSEGV", -11, "signal 11, SIGSEGV): a library", "driver", "exit code -11"),
    died("abort()", -6, "aborted the process (abort)", "PyTorch", "exit code -6"),
    died("os._exit(3)", 3),
    died("SIGTERM", -15, "was asked to exit", "what ended it|killed it", "exit code -15"),
    died("SIGINT, /server-kill", 0, "was asked to exit", "its own buttons", "exit code 0"),
    call("connecting while down", REFUSED, CRASH),
    call("process frozen", WebUIStuckError("no reply within 3600 s"), STUCK),
    call("hang in a step", WebUIStuckError("no progress for 300 s"), STUCK),
    call("silent: no image", NO_IMAGE, SILENT),
    call("silent: interrupted", WebUIInterruptedError("interrupted"), INTERRUPTED),
    call("sd.cpp: no such route", http(404, b"", "extra-single-image"), UNUSABLE, "no such route",
         "no upscaling", "HTTP 404"),
    call("sd.cpp: prompt required", http(400, {"error": "prompt required"}), BAD),
    call("sd.cpp: size", http(400, {"error": "width and height must be positive"}), BAD,
         "too small", "64 x 64", "width and height"),
    call("sd.cpp: wrong type", http(500, {"error": "server_error", "message": "[json.exception.typ"
         "e_error.302] type must be string, but is null"}), BAD, "wrong type", "expected"),
]  # fmt: skip

PROCESS_MD = [
    died("webui.sh: python killed", None, "how much memory was free is unknown", "journalctl",
         f"log line: {KILLED}", log=("Total progress:  40%|####", KILLED)),
    died("webui.sh: python killed, memory left", 0, "memory was not low", "what ended it|killed it",
         "memory was not low just before, log line: webui.sh", log=(KILLED,), low=False),
    died("webui.sh: python killed, no memory", 0, "machine ran out of memory", "add swap",
         "next to no memory was left just before, log line: webui.sh: line 304", log=(KILLED,),
         low=True),
    died("webui.sh: segfault", None, "a library", "driver", "Segmentation fault",
         log=("webui.sh: line 304: 26728 Segmentation fault      (core dumped) python",)),
    died("webui.sh: SIGTERM to the child", None, "was asked to exit", "what ended it|killed it",
         "Terminated",
         log=("webui.sh: line 304: 26728 Terminated              python",)),
    died("webui.sh: abort", None, "(abort)", "PyTorch", "Aborted",
         log=("webui.sh: line 304: 26728 Aborted                 (core dumped) python",)),
    died("SIGHUP", -1, "was asked to exit", "what ended it|killed it", "exit code -1"),
    call("404 that stays with / at 200", detail(404, "Not Found"), UNUSABLE, "without --api",
         "Start it with --api", "the reply: Not Found, HTTP 404"),
    call("no checkpoint at all", forge("ValueError", "You do not have any model! Please download "
         "at least one model in [models/Stable-diffusion]."), UNUSABLE, "has no checkpoint",
         "models folder", "ValueError: You do not have any model!"),
    start("unknown flag", "usage: launch.py [-h]\nlaunch.py: error: unrecognized arguments: --nope",
          2, "does not know one of the flags", "Correct `command`"),
    start("unknown flag via webui.sh", "launch.py: error: unrecognized arguments: --nope", 0,
          "does not know one of the flags", "Correct `command`"),
    start("bad value for a flag", "launch.py: error: argument --port: invalid int value: 'x'", 2,
          "one of the flags"),
    start("exit 2, log lost", "", 2, "exit code 2", "sdwatch check"),
    start("torch GPU test fails", f"Traceback (most recent call last):\n{NO_GPU}", 1,
          "finds no GPU", "nvidia-smi"),
    start("webui.sh as root", "ERROR: This script must not be launched as root, aborting...", 1,
          "refuses to run as root", "-f"),
    start("port in use, --nowebui: never exits", f"INFO:     Application startup complete.\n{BOUND}"
          , None, "another program uses", "another port"),
    start("port in use, UI: never exits", f"Traceback\n{NO_PORT}", None, "another program uses"),
    start("killed while it loads", "Loading weights\n" + KILLED, 0, "was killed with SIGKILL"),
    start("killed, memory left", "Loading weights", -9, "memory was not low", low=False),
    start("killed, no memory", "Loading weights", -9, "ran out of memory", low=True),
    start("killed while it loads, direct", "Loading weights", -9, "killed", "journalctl"),
    start("an end that says nothing", "Loading weights", 0),
    start("an end by SIGTERM", "Loading weights", -15, "asked to exit during its startup",
         "what ended it"),
    start("an end by SIGTERM via webui.sh", "Loading\nwebui.sh: line 304: 26728 Terminated  py",
          0, "asked to exit during its startup"),
    start("an end by SIGTERM after an error that it survived", f"{NO_GPU}\n{BOUND}", 143,
         "asked to exit"),
    start("an end by SIGKILL after one", NO_GPU, -9, "SIGKILL", "journalctl"),
]  # fmt: skip

A1111_MD = [
    call("HTTPException", http(500, {"error": "HTTPException", "detail": "Invalid encoded image",
         "body": "", "errors": ""}), BAD, "incomplete or damaged", "as PNG",
         "the reply: HTTPException: Invalid encoded image"),
    call("unknown route", detail(404, "Not Found"), UNUSABLE, "without --api", "--api"),
    call("wrong method", detail(405, "Method Not Allowed"), UNUSABLE, "no such route", "--api"),
    call("422, v1", refused("steps", "value is not a valid integer"), BAD, "steps: value is not"),
    call("401", http(401, {"error": "HTTPException", "detail": "Not authenticated"}), UNUSABLE,
         "Not authenticated", "--api-auth", "HTTP 401"),
    call("unknown override key", a1111("KeyError", "'no_such_setting'"), BAD, "not have a setting",
         "options", "options.py", log=NO_KEY),
    call("refiner, hr_upscaler", a1111("Exception", "could not find upscaler named X"), BAD,
         "not have that upscaler"),
    call("img2img init_images=[]", a1111("RuntimeError", "Expected 3D (unbatched) or 4D (batched) "
         "input to conv2d, but got input of size: [0]"), SERVER),
    call("NaN weights", a1111("NansException", NANS.format("Unet")), NAN, "checkpoint produced",
         "--no-half", "the reply: NansException"),
    call("NaN in the VAE", a1111("NansException", NANS.format("VAE")), NAN, "the VAE produced",
         "--no-half-vae", "A tensor with NaNs was produced in VAE|tensor with NaNs"),
    call("NaN of an older version", a1111("Exception", "A tensor with all NaNs was produced in Une"
         "t."), NAN, "checkpoint produced", "--no-half"),
    call("32768x32768 with a limit", a1111("RuntimeError", NOT_ENOUGH), OOM, "(not the GPU)"),
    call("CUDA OOM inside a step", a1111("OutOfMemoryError", CUDA_OOM), OOM, "GPU ran out"),
    call("unreadable checkpoint, override", a1111("SafetensorError", SAFETENSOR), BAD,
         "the job names is damaged", "Download", "the call names a checkpoint", named=True,
         poisons=True),
    call("unreadable checkpoint, other text", a1111("SafetensorError", "Error while deserializing:"
         " incomplete metadata, file not fully covered"), BAD, "damaged", "Download", named=True,
         poisons=True),
    call("vanished checkpoint, override", a1111("FileNotFoundError", GONE_FILE), BAD,
         "its file is gone", "refresh", named=True, poisons=True),
    call("vanished, not named", a1111("FileNotFoundError", GONE_FILE), POISONED, "loads by itself",
         "Put the file back", poisons=True),
    call("every new prompt after that", a1111("AssertionError", "Torch not compiled with CUDA enab"
         "led"), POISONED, "no longer on the right device", "was restarted",
         "AssertionError: Torch",
         poisons=True),
    call("the same with CUDA", a1111("RuntimeError", "Expected all tensors to be on the same device"
         ", but found at least two devices, cpu and cuda:0!"), POISONED,
         "no longer on the right device",
         poisons=True),
    call("default model unreadable", a1111("SafetensorError", SAFETENSOR), POISONED,
         "loads by itself is damaged", "another checkpoint in", poisons=True),
    call("no checkpoint at all", a1111("FileNotFoundError", "No checkpoints found. When searching "
         "for checkpoints, looked at: - file model.ckpt"), UNUSABLE, "has no checkpoint"),
    call("unknown model", a1111("RuntimeError", "model 'nope' not found"), BAD,
         "does not have the checkpoint",
         "Correct the name"),
    call("options with a wrong type: each job", a1111("TypeError", "'<' not supported between inst"
         "ances of 'str' and 'int'"), SERVER),
    died("SIGTERM, old uvicorn", 0, "was asked to exit"),
    start("port in use, --nowebui", f"Model loaded in 12.9s\n{BOUND}", 3, "another program uses"),
    start("port in use, --nowebui, old uvicorn", BOUND, 1, "another program uses"),
    start("port in use, UI", NO_PORT, 1, "another program uses", "End that program"),
    start("unknown flag", "launch.py: error: unrecognized arguments: --x", 2, "one of the flags"),
    start("no GPU", NO_GPU, 1, "finds no GPU", "--skip-torch-cuda-test"),
]  # fmt: skip

SDNEXT_MD = [
    call("429", sdnext(429, "HTTPException", "429: 127.0.0.1:/sdapi/v1/txt2img: rate limit exceede"
         "d", "127.0.0.1:/sdapi/v1/txt2img: rate limit exceeded"), BUSY, "no more requests",
         "server_rate_limit", "HTTP 429"),
    call("401", sdnext(401, "HTTPException", "401: Unauthorized", "Unauthorized"), UNUSABLE,
         "Unauthorized", "--auth", "HTTP 401"),
    call("unknown sampler", sdnext(404, "HTTPException", "404: Sampler not found", "Sampler not fo"
         "und"), BAD, "does not have that sampler", "GET /sdapi/v1/samplers", "Sampler not found"),
    call("sampler_name null", refused("sampler_name", "Input should be a valid string"), BAD,
         "sampler_name: "),
    call("unknown always-on script", sdnext(422, "HTTPException", "422: Script 'no such' not found",
         "Script 'no such' not found"), BAD, "not have that script"),
    call("width 8; batch_size 0; prompt null", sdnext(500, "AssertionError", ""), SERVER),
    call("img2img without init", http(400, {"error": "Init image is none"}), BAD, "needs an image"),
    call("bad base64", sdnext(500, "HTTPException", "500: Invalid encoded image", "Invalid encoded "
         "image"), BAD, "incomplete or damaged"),
    call("truncated PNG", sdnext(500, "OSError", "image file is truncated"), BAD,
         "incomplete or damaged"),
    call("CUDA OOM in sampling", NO_IMAGE, OOM, "the GPU ran out of memory", "smaller",
         "log line: 08:03:12-123456 ERROR    Processing: OutOfMemoryError",
         log=("08:03:12-123456 ERROR    Processing: OutOfMemoryError",)),
    call("RuntimeError, ValueError in sampling", NO_IMAGE, SERVER, "SD.Next raised an exception",
         "about memory", "Processing: RuntimeError",
         log=("08:03:12-123456 ERROR    Processing: RuntimeError",)),
    call("AssertionError in sampling; skip", NO_IMAGE, SILENT,
         log=("08:03:12-123456 WARNING  Processing: no results",)),
    call("other exception in sampling", sdnext(500, "ModuleNotFoundError", "No module named 'trito"
         "n'"), SERVER, "package that this job needs", "venv", "the reply: ModuleNotFoundError"),
    call("32768x32768, capped", NO_IMAGE, OOM, "(not the GPU)", "smaller",
         "DefaultCPUAllocator", log=(f"RuntimeError: {NOT_ENOUGH}",)),
    call("NaN weights", BLACK, NAN, "black because", "full precision", "invalid=12288",
         log=("08:03:12-1 ERROR    Decode: sample=(3, 64, 64) invalid=12288",)),
    call("a sound picture that failed otherwise", BLACK, SILENT,
         log=("08:03:12-1 DEBUG    Decode: sample=(3, 64, 64) invalid=0",)),
    call("corrupt override model", sdnext(500, "TypeError", "'NoneType' object is not callable"),
         BAD, "could not load the checkpoint", "switched back", "Load model:", named=True,
         log=('08:03:12-123456 INFO     Load model: select="zz-corrupt"',)),
    call("the same TypeError of a job that names none", sdnext(500, "TypeError", "'NoneType' objec"
         "t is not callable"), SERVER, log=('08:03:12-1 INFO     Load model: select="a"',)),
    call("unknown override checkpoint", WebUIReplyError("the reply is of another model", status=200
         ), BAD, "used the current one", "Correct the name", "Override not found",
         log=('08:03:12-1 WARNING  Override not found: checkpoint="nope"',)),
    call("no model; load failed; while it loads", NO_IMAGE, UNUSABLE,
         "no model loaded, or is still",
         "choose a checkpoint", "Aborted: op=process model not loaded", log=ABORTED),
    call("corrupt or unloadable model at start", NO_IMAGE, UNUSABLE,
         "cannot load the checkpoint", "another checkpoint in", "not loaded",
         log=("08:03:11-1 ERROR    Load model: name='x' not loaded", *ABORTED)),
    call("first load without network", NO_IMAGE, POISONED, "not in its cache", "offline_mode",
         log=("huggingface_hub.errors.LocalEntryNotFoundError: An error happened", *ABORTED)),
    call("extra-single-image", sdnext(500, "ValidationError", HTML_INFO), BAD,
         "every upscale", "Update SD.Next", "the reply: ValidationError: ResProcessImage"),
    call("unknown upscaler in extras", sdnext(500, "ValidationError", HTML_INFO), BAD,
         "does not have that upscaler", "upscalers", "Could not find upscaler",
         log=("08:03:12-1 ERROR    Could not find upscaler: NoSuch",)),
    call("SystemExit inside a job", OPAQUE, SERVER),
    died("SIGINT while generating", -6, "(abort)", "", "terminate called",
         log=("terminate called without an active exception",)),
    died("/shutdown", 0, "was asked to exit"),
    died("SIGKILL", -9, "killed"),
    start("flags of others", "launch.py: error: unrecognized arguments: --nowebui", 2,
          "one of the flags", "{flags}"),
    start("port in use", NO_PORT, 1, "another program uses"),
    start("broken package", "Please restart the app to fix this issue", 1, "packages is missing",
          "venv"),
]  # fmt: skip

COMFYUI = [
    call("corrupt checkpoint", of_node("CheckpointLoaderSimple", "safetensors._safetensors_rust.Saf"
         "etensorError", "Error while deserializing header: invalid JSON in header: EOF while parsi"
         "ng a value at line 1 column 0"), BAD, "workflow loads is damaged", "Download that file"),
    call("corrupt checkpoint, other text", of_node("UNETLoader", "safetensors_rust.SafetensorError",
         "could not be read"), BAD, "workflow loads is damaged"),
    call("ComfyUI#3225, wrapped", of_node("CheckpointLoaderSimple", "ValueError", "Metadata\n\nFile"
         " path: /x/y.safetensors\n\nThe safetensors file is corrupt/incomplete. Check the file si"
         "ze and make sure you have copied/downloaded it correctly."), BAD, "is damaged"),
    call("GGUF", of_node("UnetLoaderGGUF", "ValueError", "GGUF magic invalid"), BAD, "is damaged"),
    call("ComfyUI#8439", of_node("CheckpointLoaderSimple", "RuntimeError", "ERROR: Could not detect"
         " model type of: D:\\models\\checkpoints\\lumina_2.safetensors"), BAD,
         "a kind that this loader does not know", "UNETLoader"),
    call("no text encoder", of_node("CLIPTextEncode", "RuntimeError", "ERROR: clip input is invalid"
         ": None\n\nIf the clip is from a checkpoint loader node"), BAD, "no text encoder or",
         "DualCLIPLoader"),
    call("model gone", of_node("VAELoader", "FileNotFoundError", "Model in folder 'vae' with filena"
         "me 'ae.safetensors' not found."), BAD, "list, and is gone", "Put the file back"),
    call("image gone", of_node("LoadImage", "FileNotFoundError", "[Errno 2] No such file or directo"
         "ry: '/x/input/a.png'"), BAD, "list, and is gone", "Put the file back"),
    call("a program that a node calls", of_node("VHS_VideoCombine", "FileNotFoundError", "[Errno 2]"
         " No such file or directory: 'ffmpeg'"), SERVER),
    call("out of memory", of_node("KSampler", "torch.OutOfMemoryError", CUDA_OOM), OOM,
         "GPU ran out"),
    call("the context is dead", of_node("KSampler", "RuntimeError", ILLEGAL), POISONED,
         "accessed memory", poisons=True),
    call("its disk is full", of_node("SaveImage", "OSError", "[Errno 28] No space left on device"),
         STORAGE, "is full", "Free space"),
]  # fmt: skip

ISSUES = [
    call("os error 1455", forge("OSError", "The paging file is too small for this operation to com"
         "plete. (os error 1455)"), OOM, "page file is too small", "page file", "os error 1455"),
    call("os error 1455 in another language", forge("OSError", "El archivo de paginación es demasi"
         "ado pequeño. (os error 1455)"), OOM, "page file"),
    call("DirectML", forge("RuntimeError", "Could not allocate tensor with 234881024 bytes. There "
         "is not enough GPU video memory available!"), OOM, "GPU ran out"),
    call("ROCm", forge("OutOfMemoryError", "HIP out of memory. Tried to allocate"), OOM, "GPU"),
    call("Apple", forge("RuntimeError", "MPS backend out of memory (MPS allocated: 5 GB)"), OOM,
         "GPU"),
    call("disk full", forge("OSError", "[Errno 28] No space left on device"), STORAGE, "is full",
         "Free space"),
    call("illegal memory access", a1111("RuntimeError", ILLEGAL), POISONED, "accessed memory",
         "driver", "an illegal memory access", poisons=True),
    call("device-side assert", a1111("RuntimeError", "CUDA error: device-side assert triggered"),
         POISONED, "an assertion in", "embedding", "device-side assert", poisons=True),
    call("launch failure", a1111("RuntimeError", "CUDA error: unspecified launch failure"),
         POISONED, "aborted a kernel", "TdrDelay", "unspecified launch failure", poisons=True),
    call("device suspended", a1111("RuntimeError", SUSPENDED), POISONED, "suspended the GPU",
         "ower the size", "GPU device instance", poisons=True),
    call("launch timed out", a1111("RuntimeError", "CUDA error: the launch timed out and was termi"
         "nated"), POISONED, "in time", poisons=True),
    call("cuDNN status", a1111("RuntimeError", "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
         POISONED, "cuDNN", "ower the size", "cuDNN error", poisons=True),
    call("cuBLAS status", a1111("RuntimeError", "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when c"
         "alling `cublasSgemm`"), POISONED, "cuBLAS", poisons=True),
    call("another CUDA error", a1111("RuntimeError", "CUDA error: invalid device ordinal"),
         POISONED, "reported an error", "driver", "CUDA error: ", poisons=True),
    call("CUDA error: out of memory", a1111("RuntimeError", "CUDA error: out of memory"), OOM,
         "GPU ran out"),
    call("GPU gone", a1111("RuntimeError", "No CUDA GPUs are available"), POISONED,
         "no longer finds the GPU", "nvidia-smi", poisons=True),
    call("PyTorch too old", a1111("RuntimeError", "CUDA error: no kernel image is available for ex"
         "ecution on the device"), POISONED, "not built for this GPU", "12.8"),
    call("mat1 and mat2", a1111("RuntimeError", "mat1 and mat2 shapes cannot be multiplied (77x204"
         "8 and 768x320)"), SERVER, "do not fit each other", "one kind", "mat1 and mat2"),
    call("no CLIP, named", forge("AssertionError", "You do not have CLIP state dict!"), BAD,
         "no text encoder", "forge_additional_modules", "CLIP state dict", named=True,
         poisons=True),
    call("no T5", forge("AssertionError", "You do not have T5 state dict!"), POISONED,
         "no text encoder", "Select them", poisons=True),
    call("header too large of a job's own", forge("SafetensorError", SAFETENSOR), BAD,
         "damaged or no checkpoint", "Download", named=True, poisons=True),
    call("lowvram of None", a1111("AttributeError", "'NoneType' object has no attribute 'lowvram'"),
         POISONED, "no model since", poisons=True),
    call("header too large of a newer safetensors", a1111("SafetensorError", SAFETENSOR_NEW),
         POISONED, "is damaged", "another checkpoint in", poisons=True),
    call("the same of another class", a1111("RuntimeError", SAFETENSOR_NEW), BAD, "damaged",
         named=True, poisons=True),
    call("always on script", detail(422, "always on script no such not found"), BAD,
         "not have that script",
         "alwayson_scripts", "always on script no such not found"),
    call("always on script, A1111's shape", http(422, {"error": "HTTPException", "detail": "always "
         "on script ControlNet not found", "body": "", "errors": ""}), BAD, "not have that script"),
    call("a script that is not always on", detail(422, "Cannot have a selectable script in the alwa"
         "ys on scripts params"), BAD, "not always on", "script_name"),
    call("the same in other words", detail(422, "Selectable script cannot be in always on params: x"
         ), BAD, "not always on", "script_args"),
    call("invalid upscaler", detail(400, "Invalid upscaler, needs to be one of these: None , Lanczo"
         "s"), BAD, "does not have that upscaler", "GET /sdapi/v1/upscalers", "Invalid upscaler"),
    call("invalid scheduler", detail(400, "Invalid scheduler: nope"), BAD,
         "does not have that scheduler"),
    call("sd.cpp: out of memory", http(500, {"error": "server_error", "message": CUDA_MALLOC}), OOM,
         "GPU ran out", "smaller", "cudaMalloc failed"),
    call("sd.cpp: out of memory, in the log", http(500, {"error": "generate_image returned no re"
         "sults"}), OOM, "GPU ran out", "", "log line", log=(CUDA_MALLOC,)),
    call("sd.cpp: out of memory, and no words", OPAQUE, OOM, "GPU ran out", log=(CUDA_MALLOC,)),
    died("sd.cpp: out of memory, then abort", -6, "SIGABRT): the GPU ran out", "smaller",
         "cudaMalloc failed", log=(CUDA_MALLOC, "ggml_gallocr_reserve_n: failed to allocate")),
    died("sd.cpp: out of memory in short", -6, "SIGABRT): the GPU ran out",
         log=("ggml_backend_cuda_buffer_type_alloc_buffer: allocating 2 MiB on device 0: failed",)),
    died("sd.cpp: no memory for another reason", -6, "SIGABRT): a GPU kernel", poisons=True,
         log=("alloc_buffer: allocating 2 MiB on device 0: cudaMalloc failed: " + ILLEGAL_LINE,)),
    call("scheduler not found", detail(404, "Scheduler nope not found"), BAD,
         "not have that scheduler",
         "schedulers"),
    call("too large a request", http(413, b"<html><h1>413 Request Entity Too Large</h1>"), BAD,
         "larger than", "limit", "HTTP 413"),
    call("a proxy", http(502, b"<html>Bad Gateway</html>"), BUSY, "got no answer", "address"),
    call("a redirect", http(302), UNUSABLE, "another address", "`url` in the config", "HTTP 302"),
    died("Windows: commit limit", 0xC000012D, "ran out of memory", "page file", "3221225773"),
    died("Windows: access violation", 0xC0000005, "a library", "driver", "exit code 3221225477"),
    died("Windows: Ctrl+C", 0xC000013A, "was asked to exit"),
    died("ROCm: memory access fault", -6, "accessed memory", "", "Memory access fault",
         log=("Memory access fault by GPU node-1 on address 0x7f",), poisons=True),
    start("press any key", "RuntimeError: nobody knows this\nPress any key to continue . . .",
          None, "waits for a key press", "launch.py"),
    start("press any key, in German", "Drücken Sie eine beliebige Taste . . .", None, "a key"),
    start("os error 1455 at a start", "OSError: The paging file is too small (os error 1455)", 1,
          "page file", "Let Windows manage"),
    start("port taken, ComfyUI", "[ERROR] Port 8188 is already in use on address 127.0.0.1. Please "
          "close the other application or use a different port with --port.", 1, "another program"),
    start("the database of another ComfyUI", "[ERROR] Failed to initialize database. Could not "
          "acquire lock on database /x/user/comfyui.db", 1, "another ComfyUI"),
    start("port taken on Windows", "[Errno 10048] error while attempting to bind on address ('127."
          "0.0.1', 7860): only one usage of each socket address", 1, "another program uses"),
    start("no driver", "RuntimeError: Found no NVIDIA driver on your system.", 1, "finds no GPU"),
    start("missing package", "ModuleNotFoundError: No module named 'torch'", 1, "packages"),
    start("GPU out of memory at a start", f"torch.OutOfMemoryError: {CUDA_OOM}", 1, "GPU ran out"),
]  # fmt: skip

# The same texts where only the log has them: the line, what it is taken for, a part of the cause.
LOG_LINES = [
    call("log", OPAQUE, diagnosis, cause, evidence=f"log line: {line}", log=("Traceback", line),
         poisons=diagnosis is POISONED and "not built" not in cause)
    for line, diagnosis, cause in (
        ("OSError: [WinError 1455] The paging file is too small", OOM, "page file"),
        ("OSError: The paging file is too small (os error 1455)", OOM, "page file"),
        ("RuntimeError: HIP out of memory. Tried to allocate", OOM, "GPU ran out"),
        ("RuntimeError: XPU out of memory", OOM, "GPU ran out"),
        ("RuntimeError: MPS backend out of memory", OOM, "GPU ran out"),
        ("RuntimeError: CUDA error: out of memory", OOM, "GPU ran out"),
        ("RuntimeError: There is not enough GPU video memory available!", OOM, "GPU ran out"),
        ("MemoryError", OOM, "(not the GPU)"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", OOM, "(not the GPU)"),
        ("OSError: [Errno 28] No space left on device", STORAGE, "is full"),
        ("OSError: [WinError 112] There is not enough space on the disk", STORAGE, "is full"),
        ("RuntimeError: No CUDA GPUs are available", POISONED, "no longer finds the GPU"),
        ("RuntimeError: Found no NVIDIA driver on your system.", POISONED,
         "no longer finds the GPU"),
        ("RuntimeError: CUDA error: GPU is lost", POISONED, "no longer finds the GPU"),
        ("CUDA error: no kernel image is available for execution on the device", POISONED,
         "not built"),
        ("Memory access fault by GPU node-1", POISONED, "accessed memory"),
        ("RuntimeError: CUDA error: device-side assert triggered", POISONED, "an assertion in"),
        ("RuntimeError: CUDA error: unspecified launch failure", POISONED, "aborted a kernel"),
        ("RuntimeError: CUDA error: unknown error", POISONED, "aborted a kernel"),
        (SUSPENDED, POISONED, "suspended the GPU"),
        ("RuntimeError: The GPU will not respond to more commands", POISONED, "suspended the GPU"),
        ("RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", POISONED, "cuDNN"),
        ("RuntimeError: CUBLAS_STATUS_NOT_INITIALIZED", POISONED, "cuBLAS"),
        ("RuntimeError: CUDA error: invalid argument", POISONED, "reported an error"),
        ("RuntimeError: HIP error: invalid argument", POISONED, "reported an error"),
        ("AttributeError: 'NoneType' object has no attribute 'lowvram'", POISONED, "no model"),
        ("AssertionError: Torch not compiled with CUDA enabled", POISONED,
         "no longer on the right device"),
        ("ValueError: You do not have any model! Please download", UNUSABLE, "no checkpoint"),
        ("FileNotFoundError: No checkpoints found. When searching", UNUSABLE, "no checkpoint"),
        ("AssertionError: You do not have CLIP state dict!", POISONED, "no text encoder"),
        ("Error while deserializing header: HeaderTooLarge", POISONED, "is damaged"),
        ("Error while deserializing header: HeaderTooSmall", POISONED, "is damaged"),
        ("Error while deserializing header: InvalidHeader", POISONED, "is damaged"),
        ("Error while deserializing header: MetadataIncompleteBuffer", POISONED, "is damaged"),
        ("safetensors_rust.SafetensorError: " + SAFETENSOR_NEW, POISONED, "is damaged"),
        ("ValueError: Failed to recognize model type!", POISONED, "is of a kind"),
        ("NansException: " + NANS.format("VAE"), NAN, "the VAE produced"),
        ("NansException: " + NANS.format("Unet"), NAN, "checkpoint produced"),
        ("Exception: A tensor with all NaNs was produced in Unet.", NAN, "checkpoint produced"),
        ("RuntimeError: mat1 and mat2 shapes cannot be multiplied", SERVER, "do not fit"),
    )
] + [
    call("class alone", a1111("AcceleratorError", "an error"), POISONED, "reported an error",
         poisons=True),
    died("log", 1, "a library", log=("Windows fatal exception: access violation",)),
] + [
    start(f"log: {line}", line, 1, cause)
    for line, cause in (
        ("RuntimeError: No CUDA GPUs are available", "finds no GPU"),
        ("RuntimeError: CUDA error: CUDA driver version is insufficient for CUDA runtime version",
         "finds no GPU"),
        ("RuntimeError: The NVIDIA driver on your system is too old (found 11040)", "finds no GPU"),
        ("RuntimeError: Your device does not support the current version of Torch/CUDA! Consider",
         "finds no GPU"),
        ("AssertionError: Torch not compiled with CUDA enabled", "built for the CPU"),
        ("/venv/bin/python: can't open file '/srv/launch.py': [Errno 2] No such file", "cwd"),
        ("python: can't find '__main__' module in '/srv/webui'", "cwd"),
        ("ERROR:    [Errno 13] error while attempting to bind on address ('0.0.0.0', 80): [winerror"
         " 10013] un tentativo", "refuses the WebUI its port"),
        ("OSError: [WinError 10013] 以一种访问权限不允许的方式", "refuses a port"),
        ("OSError: [Errno 10013] verboten", "refuses a port"),
        ("OSError: [Errno 99] Cannot assign requested address", "this machine does not have"),
        ("socket.gaierror: [Errno -2] Name or service not known", "this machine does not have"),
        ("/srv/venv/bin/python: No module named launch", "cwd"),
        ("'git' is not recognized as an internal or external command,", "does not find git"),
        ("RuntimeError: Couldn't clone Stable Diffusion XL.", "could not download a repository"),
        ("ValueError: numpy.dtype size changed, may indicate binary", "does not fit the others"),
        ("SyntaxError: invalid syntax", "packages"),
        ("ERROR:    [Errno 99] error while attempting to bind on address ('10.0.0.9', 7860): x",
         "this machine does not have"),
        ("OSError: could not bind on any address out of [('10.0.0.9', 7860)]",
         "this machine does not have"),
        ("OSError: [WinError 10049] Die angeforderte Adresse", "this machine does not have"),
        ("ERROR:    [Errno -2] Name or service not known", "this machine does not have"),
        ("ERROR:    [Errno 105] error while attempting to bind on address ('::', 1): no", "listen"),
        ("OSError: [Errno 98] Die Adresse wird bereits verwendet", "another program uses a port"),
        ("OSError: [WinError 10048] Normalerweise darf jede Socketadresse",
         "another program uses a port"),
        ("OSError: Only one usage of each socket address", "another program uses a port"),
        ("ValueError: When localhost is not accessible, a shareable link must be", "proxy"),
        ("Exception in thread Thread-22 (webui_worker):", "is still running"),
        ("ERROR:    Application startup failed. Exiting.", "server failed during startup"),
        ("RuntimeError: Couldn't fetch Stable Diffusion.", "STABLE_DIFFUSION_REPO"),
        ("fatal: repository 'https://github.com/Stability-AI/stablediffusion.git/' not found",
         "STABLE_DIFFUSION_REPO"),
        ("ERROR    Incompatible Python version: 3.13.1 required 3.[9, 10]", "version of Python"),
        ("ERROR    Python version incompatible: 3.12.7 required 3.12.3 or lower", "version of Pyt"),
        ("ERROR: No matching distribution found for torch==2.1.2", "version of Python"),
        ("ImportError: Bad git executable.", "does not find git"),
        ("/bin/sh: 1: git: not found", "does not find git"),
        ("ERROR: git is not installed, aborting...", "does not find git"),
        ("No Python at 'C:/Python310/python.exe'", "venv is missing or broken"),
        ("did not find executable at 'C:/x/python.exe': El sistema", "venv is missing or broken"),
        ("Couldn't launch python", "venv is missing or broken"),
        ("webui.sh: line 9: python3.10: command not found", "venv is missing or broken"),
        ("\x1b[1m\x1b[31mERROR: python3-venv is not installed, aborting...", "python3-venv"),
        ('Unable to create venv in directory "D:/ai/venv"', "venv is missing or broken"),
        ("ERROR: Cannot activate python venv, aborting...", "venv is missing or broken"),
        ('OSError: [WinError 126] Nie można. Error loading "fbgemm.dll"', "Redistributable"),
        ("ImportError: libGL.so.1: cannot open shared object file: No such file", "a library"),
        ("PermissionError: [WinError 5] Zugriff verweigert: 'x'", "may not read"),
        ("python: can't open file '/srv/launch.py': [Errno 13] Permission denied", "may not read"),
        ("bash: ./webui.sh: Permission denied", "may not read"),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/mnt/models'", "is missing"),
        ("NotADirectoryError: [Errno 20] Not a directory: '/mnt/models'", "is missing"),
        ("ModuleNotFoundError: No module named 'torch'", "packages"),
        ("OSError: [Errno 98] Address: address already in use", "another program uses"),
        ("ImportError: cannot import name 'x' from 'y'", "packages"),
        ("RuntimeError: Couldn't install torch.", "packages"),
        ("ImportError: DLL load failed while importing _C", "a library"),
        ("Appuyez sur une touche pour continuer...", "key press"),
        ("Presione una tecla para continuar . . .", "key press"),
        ("Для продолжения нажмите любую клавишу . . .", "key press"),
        ("请按任意键继续. . .", "key press"),
        ("続行するには何かキーを押してください . . .", "key press"),
    )
]  # fmt: skip

# Where two disagree, the earlier cause wins.
DISAGREEING = [
    died("refused is downstream of a death", -9, "killed", "journalctl", "exit code -9",
         error=REFUSED),
    died("the log knows what ended it", -6, "signal 6, SIGABRT): a GPU kernel", "attention",
         "log line: RuntimeError: CUDA error: an illegal", error=REFUSED, poisons=True,
         log=(f"RuntimeError: {ILLEGAL}".split("\n")[0], "terminate called after throwing")),
    died("killed for memory, after the GPU's was short, too", -9, "machine ran out of memory", "",
         "exit code -9", low=True, log=(f"torch.OutOfMemoryError: {CUDA_OOM}",)),
    died("a GPU short of memory, then an exit", 1, "(exit code 1): the GPU ran out", "--medvram",
         "log line: torch.OutOfMemoryError", log=(f"torch.OutOfMemoryError: {CUDA_OOM}",)),
    died("its last reply said why", -11, "SIGSEGV): the GPU ran out", "", "the reply: OutOfMemory",
         error=forge("OutOfMemoryError", CUDA_OOM)),
    died("a name that is not found ends no process", -11, "a library", "", "exit code -11",
         error=forge("Exception", "could not find upscaler named X")),
    call("refused, with the wrapper's line in the log", REFUSED, CRASH, "killed with SIGKILL",
         "journalctl", "log line: webui.sh", log=(KILLED,)),
    died("the first line says what ended it", -6, "SIGABRT): a GPU kernel", "", "illegal memory",
         log=(ILLEGAL_LINE, f"torch.OutOfMemoryError: {CUDA_OOM}", "terminate called"),
         poisons=True),
    died("and so where memory was short first", -6, "SIGABRT): the GPU ran out", "", "OutOfMemory",
         log=(f"torch.OutOfMemoryError: {CUDA_OOM}", ILLEGAL_LINE)),
    died("what a C++ library says in its second line", -6, "SIGABRT): a GPU kernel", "", "what():",
         log=("terminate called after throwing an instance of 'c10::Error'",
              "  what():  CUDA error: an illegal memory access was encountered"), poisons=True),
    died("killed, whatever came first", -9, "killed with SIGKILL", "", "exit code -9",
         log=(ILLEGAL_LINE,)),
    died("a reply that came after the first line", -6, "an assertion in", "", "device-side",
         error=forge("OutOfMemoryError", CUDA_OOM), log=(ASSERTED, CUDA_OOM), poisons=True),
    call("the first line of two", OPAQUE, POISONED, "an assertion in", "", "log line: RuntimeError",
         log=(ASSERTED, "INFO", f"torch.OutOfMemoryError: {CUDA_OOM}"), poisons=True),
    call("the first traceback of two", OPAQUE, NAN, "the checkpoint produced", "--no-half",
         log=(*traceback("modules.devices.NansException: " + NANS.format("Unet")),
              "During handling of the above exception, another exception occurred:",
              *traceback("MemoryError"))),
    call("an exception without its words", OPAQUE, NAN, "the checkpoint produced",
         log=("NansException", "MemoryError")),
    call("the VAE is tried again in 32 bits", OPAQUE, OOM, "GPU ran out",
         log=("A tensor with all NaNs was produced in VAE.", f"OutOfMemoryError: {CUDA_OOM}")),
    call("two in one traceback", OPAQUE, POISONED, "accessed memory", "", "an illegal memory",
         log=traceback(ILLEGAL_LINE, "raise CudaError(\"CUDA error: 700\")"),
         poisons=True),
    call("two tracebacks, the vague one first", OPAQUE, POISONED, "reported an error",
         log=(*traceback("RuntimeError: CUDA error: invalid argument"), *traceback(CUDA_OOM)),
         poisons=True),
    call("a warning that a healthy call prints, too", OPAQUE, OOM, "GPU ran out",
         log=("UserWarning: Plan failed with a cudnnException: CUDNN_STATUS_NOT_SUPPORTED", CUDA_OOM
              )),
    call("that something failed, and then what", NO_IMAGE, OOM, "GPU ran out",
         log=("08:03:12-1 ERROR    Processing: RuntimeError", "  ❱ 99 output = x()",
              f"RuntimeError: {CUDA_OOM}")),
    call("a 200 whose words are of the log", WebUIServerError("x", status=200, said=NOT_ENOUGH),
         OOM, "(not the GPU)", log=(f"1 ERROR Processing: args={{}} {NOT_ENOUGH}",)),
    call("a 200 whose words are of the log, and another line", WebUIServerError(
         "x", status=200, said="it broke"), SERVER, log=(CUDA_OOM,)),
    call("an exception far behind in its line", NO_IMAGE, OOM, "GPU ran out",
         log=(f"1 ERROR Processing: step=base args={{{'x' * 9000}}} {CUDA_OOM}",)),
    call("a body that names a switch for others", a1111("RuntimeError", "CUDA error: unspecified la"
         "unch failure\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."),
         POISONED, "aborted a kernel", poisons=True),
    call("a body that is clear, and another's log line", forge("RuntimeError", INJECTED), SERVER,
         log=(f"torch.OutOfMemoryError: {CUDA_OOM}",)),
    call("a body that is known, and another's log line", detail(500, "Invalid encoded image"), BAD,
         "incomplete or damaged", "", "the reply", log=(f"torch.OutOfMemoryError: {CUDA_OOM}",
         KILLED)),
    call("two in the body", forge("OutOfMemoryError", "CUDA error: out of memory"), OOM, "GPU ran"),
    call("an empty text, and the log", a1111("AssertionError", ""), POISONED, "accessed memory",
         "", "log line: RuntimeError: CUDA error", log=(f"RuntimeError: {ILLEGAL}".split("\n")[0],),
         poisons=True),
    call("no JSON, and the log", OPAQUE, OOM, "GPU ran out", "", "log line: torch.OutOfMemoryError",
         log=("Traceback", f"torch.OutOfMemoryError: {CUDA_OOM}")),
    call("a page, and the log", http(500, b"<html><body>Internal Server Error</body></html>"), OOM,
         "GPU ran out", log=(f"torch.OutOfMemoryError: {CUDA_OOM}",)),
    call("no JSON, and a log without a cause", OPAQUE, SERVER, log=("Traceback", "KeyError: 'x'")),
    call("a status that is clear, and the log", detail(401, "Not authenticated"), UNUSABLE,
         "user name", "", "HTTP 401", log=(f"torch.OutOfMemoryError: {CUDA_OOM}",)),
    call("stuck is not explained away", WebUIStuckError("no progress for 300 s"), STUCK,
         log=(f"torch.OutOfMemoryError: {CUDA_OOM}",)),
    call("an exit code of a process that lives", http(500, b""), SERVER, exit=-9, low=True),
    start("no module, and the log of 127", "sh: 1: x: not found", 127, "is missing"),
    start("126", "", 126, "may not read"),
    start("a DLL is missing", "", 0xC0000135, "a library"),
    start("no AVX", "", -4, "another processor"),
    start("damaged ui-config.json", "\n".join(traceback(BROKEN_JSON, "ui_settings = read()")), 1,
          "ui-config.json in the WebUI's folder is damaged", "Move ui-config.json"),
    start("damaged config.json", "\n".join(traceback(BROKEN_JSON, "opts.load(config_filename)")), 1,
          "config.json in the WebUI's folder is damaged", "Move config.json"),
    start("damaged JSON", "\n".join(traceback(BROKEN_JSON)), 1, "one of the WebUI's JSON files"),
    start("asks for a password", "fatal: could not read Username for 'https://github.com'\nRuntimeE"
          "rror: Couldn't determine Stable Diffusion's hash", 1, "STABLE_DIFFUSION_REPO"),
    start("another's folder", "fatal: detected dubious ownership in repository at '/s'\nRuntimeErr"
          "or: Couldn't determine assets's hash: 6f7", 1, "another user", "safe.directory"),
    start("a bind that is not allowed", "    self.socket.bind(a)\nPermissionError: [Errno 13]", 1,
           "refuses a port to this user"),
    start("no network, and not the repository", "Could not resolve host: github.com\nRuntimeError"
          ": Couldn't clone Stable Diffusion.", 1, "but the network fails"),
    start("no network", "Could not resolve host: github.com\nRuntimeError: Couldn't clone a.", 1,
          "but the network fails"),
    start("a key is asked for after the port was taken", f"{NO_PORT}\nPress any key to continue",
          1, "another program uses"),
    start("exit 2 for another reason", f"{BOUND}\n{KILLED}", 2, "killed"),
]  # fmt: skip

FORGE_AGAIN = [
    call("black after the warning that is printed once", silent("one_colour"), NAN,
         "consists of NaNs", "--vae-in-fp32", "printed since its start: invalid value",
         kind=FORGE, printed=(CAST,)),
    call("black, and nothing was printed", silent("one_colour"), SILENT, kind=FORGE),
    call("another finding after that warning", silent("size"), SILENT, printed=(CAST,)),
    call("R-ESRGAN without weights", silent("upscale_unchanged"), BAD, "weights are missing",
         "Lanczos", "Unable to load RealESRGAN model", log=(NO_WEIGHTS,)),
    call("not enlarged, for another reason", silent("upscale_unchanged"), SILENT),
    call("hires without modules", forge("TypeError", "argument of type 'NoneType' is not iterable"),
         BAD, "needs hr_additional_modules", "Use same choices", "hr_additional_modules",
         log=NO_MODULES),
    call("hires without modules, a bare 500", OPAQUE, BAD, "needs hr_additional_modules",
         log=NO_MODULES),
    call("the same TypeError of something else", forge("TypeError", "argument of type 'NoneType' i"
         "s not iterable"), SERVER, log=("Traceback", "TypeError: x")),
    call("Neo out of memory", OPAQUE, OOM, "GPU ran out of memory", "--lowvram", "Out of Memory",
         kind=FORGE_NEO, log=("Encountered Out of Memory during Sampling; Unloading all "
         "Models... main_thread.py :: ERROR",)),
    call("Neo decodes in tiles, and goes on", OPAQUE, SERVER, kind=FORGE_NEO, log=(
         "Encountered Out of Memory during VAE decoding; Retrying with Tiled VAE Decoding... "
         "patcher/vae.py :: WARNING",)),
    call("Neo does not know the checkpoint that the job names", OPAQUE, BAD, "is of a kind",
         named=True, poisons=True,
         log=("Failed to recognize diffusion model... main_thread.py :: ERROR",)),
    call("Neo does not know the checkpoint", OPAQUE, POISONED, "is of a kind", poisons=True,
         log=("Failed to recognize diffusion model... main_thread.py :: ERROR",)),
]  # fmt: skip

# See causes.py; what a reply with a class of its own has of them is tested in test_causes.py, too.
BY_CLASS = [
    call(where, error, each.diagnosis, each.cause, log=log, poisons=each.poisons)
    for each in causes.SAMPLES
    for where, error, log in (
        (f"log: {each.text}", OPAQUE, ("Total progress: 8/20", each.text)),
        (f"reply: {each.text}", detail(500, each.text), ()),
    )
] + [
    call(f"damaged: {text}", detail(500, text), BAD, "the job names is damaged", named=True,
         poisons=True)
    for text in causes.DAMAGED.strip().split("\n")
] + [
    died(f"exit {code}", code, cause) for code, cause in causes.EXITS
] + [
    start(f"exit {code}", "Loading weights", code, cause)
    for code, cause in causes.EXITS_OF_STARTS
] + [
    died(f"line: {line}", 1, cause, low=low, log=(line,))
    for line, cause in causes.ENDS
    for low in ((None, False) if "SIGKILL" in line else (None,))
] + [
    died("line of a wrapper, no memory", 1, "ran out of memory", low=True, log=(causes.ENDS[0][0],))
] + [
    start(f"line: {line}", line, 1, cause) for line, cause in causes.STARTS
]  # fmt: skip

LISTS = (
    ("errors.md", "ERRORS_MD", ERRORS_MD),
    ("process.md", "PROCESS_MD", PROCESS_MD),
    ("a1111.md", "A1111_MD", A1111_MD),
    ("sdnext.md", "SDNEXT_MD", SDNEXT_MD),
    ("Forge again", "FORGE_AGAIN", FORGE_AGAIN),
    ("comfyui.md", "COMFYUI", COMFYUI),
    ("issues", "ISSUES", ISSUES),
    ("issues, in the log", "LOG_LINES", LOG_LINES),
    ("two disagree", "DISAGREEING", DISAGREEING),
    ("by class", "BY_CLASS, made from tests/policy/causes.py,", BY_CLASS),
)
TABLE = [(f"{file}: {row.where}", row) for file, _, rows in LISTS for row in rows]


def description_of(row: Row) -> str:
    """What a failure of this row says: its list, who decided, what to type."""
    listed = next(name for _, name, rows in LISTS if row in rows)
    test = "test_each_failure_is_taken_for_what_it_is"
    return shadows.failure("tests/policy/test_signatures.py", listed, row.where, row.found, test)


@cache
def explanations() -> dict[int, Explanation]:
    """What each row that is a failed call is taken for, by its number in the table."""
    calls = [(n, row) for n, (_, row) in enumerate(TABLE) if row.diagnosis is not None]
    return {n: diagnose(row.facts, BUILTIN) for n, row in calls}


def fits(words: str, text: str) -> bool:
    return any(part in text for part in words.split("|"))


@table(
    ("number", "row"),
    [(n, row) for n, (_, row) in enumerate(TABLE)],
    ids=[name for name, _ in TABLE],
)
def test_each_failure_is_taken_for_what_it_is(number: int, row: Row) -> None:
    if row.diagnosis is None:
        why = row.why()
        assert bool(why) == bool(row.cause), description_of(row)
        assert fits(row.cause, why), description_of(row)
        assert fits(row.advice, why), description_of(row)
        return
    explanation = explanations()[number]
    assert explanation.diagnosis is row.diagnosis, description_of(row)
    assert fits(row.cause, explanation.cause), description_of(row)
    assert fits(row.advice, explanation.advice), description_of(row)
    assert fits(row.evidence, explanation.evidence), description_of(row)
    assert explanation.poisons is row.poisons, description_of(row)
    if not row.cause:
        assert not explanation.is_known, description_of(row)
        assert explanation.advice == diagnose(row.facts).advice, description_of(row)
    elif row.diagnosis is not CRASH:
        assert str(row.error) in explanation.cause, description_of(
            row
        )  # what was said is never lost


@cache
def decided() -> dict[str, list[Row]]:
    """The rows of the table, by the name of the signature that is taken for them, of all."""
    said = {f"{signature.cause}. {signature.advice}": signature.name for signature in BUILTIN}
    rows: dict[str, list[Row]] = defaultdict(list)
    for n, (_, row) in enumerate(TABLE):
        if row.diagnosis is None:
            rows[said.get(row.why(), "")].append(row)
        else:
            rows[explanations()[n].key.signature].append(row)
    return rows


def test_each_signature_decides_a_row_of_the_table() -> None:
    rows = [(name, row.found) for name, row in TABLE]
    undecided = [s for s in BUILTIN if s.name not in decided()]
    assert not undecided, "".join(shadows.undecided(each, rows) for each in undecided)


def fits_a_row(signature: Signature, way: Way) -> bool:
    only = (signature.model_copy(update={"when": (way,)}),)
    likely = decided().get(signature.name, [])  # looked at first: the table is long
    return any(
        match(row.facts, only) if row.diagnosis is not None else row.why(only)
        for row in chain(likely, (row for _, row in TABLE))
    )


@pytest.mark.slow
def test_each_way_fits_a_row_of_the_table() -> None:
    idle = [
        f"{shadows.place(signature)}: way {n} fits no row of TABLE"
        for signature in BUILTIN
        for n, way in enumerate(signature.when, 1)
        if not fits_a_row(signature, way)
    ]
    assert not idle


def test_no_two_signatures_say_the_same() -> None:
    said = [(s.cause, s.advice) for s in BUILTIN]
    twice = [shadows.place(s) for s in BUILTIN if said.count((s.cause, s.advice)) > 1]
    assert not twice


@table("signature", BUILTIN, ids=lambda s: s.name)
def test_each_signature_is_written_for_people(signature: Signature) -> None:
    assert signature.cause[-1] != "."
    assert signature.cause[0].islower() or signature.cause.split()[0] in (
        "SD.Next",
        "NVIDIA's",
        "Windows",
        "img2img",
    )
    assert signature.advice.endswith(".")
    assert signature.source


def matched_by(signature: Signature, text: str) -> bool:
    """Whether this signature would know the text: in a reply (whose log may have to say more), in
    the log of a call, of a process that ended, or of a start."""
    only, said = (signature,), text.partition(": ")
    statuses = [status for way in signature.when for status in way.status] or [500]
    bodies = [{"detail": text}, {"error": said[0].rpartition(".")[2], "message": said[2]}]
    facts = [
        FailureFacts(
            http(status, body), log=(*NO_KEY, *UNLOADED, *NO_MODULES), names_checkpoint=True
        )
        for status in statuses
        for body in bodies
    ]
    facts += [FailureFacts(OPAQUE, log=(text,), names_checkpoint=named) for named in (False, True)]
    facts += [FailureFacts(of_node("LoadImage", said[0].rpartition(" ")[2], text))]
    facts += [FailureFacts(REFUSED, True, None, (text,), True)]
    facts += [FailureFacts(silent("upscale_unchanged"), log=(text,))]
    facts += [FailureFacts(silent("one_colour"), once_lines=(text,))]
    # What stands on two lines of one traceback has ... between them.
    started = why_not_started(FailedStart((text.split(" ... "),)), only)
    return started is not None or any(match(fact, only) for fact in facts)


@table("signature", BUILTIN, ids=lambda s: s.name)
def test_each_signature_says_what_people_search_for_and_knows_it(signature: Signature) -> None:
    """What it says is in docs/failures.md; only an exit code has no text."""
    missing = f"{shadows.place(signature)} needs `says`; then {shadows.REPRINT}"
    assert signature.says or all(way.by_end for way in signature.when), missing
    unknown = [text for text in signature.says if not matched_by(signature, text)]
    assert not unknown, f"{shadows.place(signature)} has texts under `says` that it does not fit"


# --- the user's own file


OWN = """
signatures:
  - name: mine
    when: [{said: 'flux capacitor'}, {log: 'flux capacitor'}]
    diagnosis: not usable
    cause: the capacitor is empty
    advice: Fill it.
    source: my own log
"""


def own(text: str) -> tuple[Signature, ...]:
    return parse_signatures(text.encode(), "own.yaml")


def test_the_users_own_come_first_and_the_package_stays() -> None:
    both = own(OWN.replace("flux capacitor", "CUDA out of memory")) + BUILTIN
    assert diagnose(FailureFacts(forge("OutOfMemoryError", CUDA_OOM)), both).cause.startswith(
        "the capacitor"
    )
    assert diagnose(FailureFacts(detail(500, "Invalid encoded image")), both).diagnosis is BAD
    later = own(OWN) + BUILTIN
    log = (CUDA_OOM, "the flux capacitor is empty")
    assert diagnose(FailureFacts(OPAQUE, log=log), later).cause.startswith("the capacitor")


@table(
    ("old", "new", "told"),
    [
        ("diagnosis: not usable", "diagnosis: broken", "own.yaml:5:16: diagnosis must be one of"),
        ("name: mine", "nam: mine", 'own.yaml:3:5: unknown field "nam"'),
        ("name: mine", "nam: mine", "own.yaml:3:5: signatures.name is missing"),
        ("said: 'flux", "say: 'flux", 'own.yaml:4:13: unknown field "say"'),
        ("'flux capacitor'}, ", "'flux (capacitor'}, ", "own.yaml:4:19: signatures.when.said: is"),
        ("'flux capacitor'}, ", "'" + "(" * 4000 + ")" * 4000 + "'}, ",
         "own.yaml:4:19: signatures.when.said: has too many groups"),
        ("{log: 'flux capacitor'}", "{log: '.*'}", "signatures.when.log: would fit every line"),
        ("{said: 'flux capacitor'}", "{}", "own.yaml:4:12: signatures.when: names nothing"),
        ("[{said: 'flux capacitor'}, {log: 'flux capacitor'}]", "[]", "own.yaml:4:11: signatures."),
        ("{said: 'flux capacitor'}", "{exit: nine}", "own.yaml:4:19: exit must be a whole number"),
        ("{said: 'flux capacitor'}", "{memory_low: 3}", "own.yaml:4:25: memory_low must be true"),
        ("source: my own log", "blames: moon", "own.yaml:8:13: blames must be one of job, WebUI"),
        ("source: my own log", "", "signatures.source is missing"),
        ("source: my own log", "source: x\n    poisons: true",
         "own.yaml:3:5: signatures: `poisons` needs another diagnosis: a restart does not fix not "
         "usable"),
        ("signatures:", "signature:", 'own.yaml:2:1: unknown field "signature" in the file'),
        ("signatures:", "signatures: [", "own.yaml:3:"),
        ("source: my own log", "source: my own log\n" + OWN.partition(":")[2].lstrip("\n").rstrip(),
         '"mine" is there twice'),
    ],
)  # fmt: skip
def test_mistakes_are_reported_with_their_place(old: str, new: str, told: str) -> None:
    with pytest.raises(FileProblems) as caught:
        own(OWN.replace(old, new, 1))
    assert told in str(caught.value)


# --- lines that end a start


@table(
    ("line", "self_test"),
    [
        (BOUND, True),
        (NO_PORT, True),
        ("Press any key to continue . . . ", True),
        ("Drücken Sie eine beliebige Taste . . .", True),
        # what starts survive, and what is not of a start
        ("OSError: [Errno 98] Address already in use", False),
        ("ERROR: address already in use", False),
        ("ModuleNotFoundError: No module named 'xformers'", False),
        (f"torch.OutOfMemoryError: {CUDA_OOM}", False),
        ("INFO:     Application startup complete.", False),
        ("ERROR:    [Errno 13] error while attempting to bind on address ('::', 80): x", True),
        ("ERROR:    [Errno 99] error while attempting to bind on address ('::', 80): x", True),
        ("Exception in thread Thread-22 (webui_worker):", True),
        ("Exception in thread Thread-22 (api_only_worker):", True),
        ("Exception in thread Thread-22 (watch_folder):", False),
        ("ERROR:    Application startup failed. Exiting.", True),
        ("OSError: [WinError 10013] a firewall stops an extension", False),
        ("OSError: [WinError 10049] an extension connects to 0.0.0.0", False),
        ("json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)", False),
        (f"Warning: caught exception '{NO_PORT}', memory monitor disabled", False),
    ],
)
def test_a_line_that_proves_that_a_start_has_failed(line: str, self_test: bool) -> None:
    assert ends_start(line, BUILTIN) is self_test


def test_a_signature_for_calls_alone_ends_no_start() -> None:
    text = OWN.replace("source: my own log", "source: my own log\n    ends_start: true")
    (mine,) = own(text)
    assert ends_start("a flux capacitor", (mine,))
    assert not ends_start("a flux capacitor", (mine.model_copy(update={"during": "call"}),))


# --- bounds


def of_lines() -> list[tuple[str, BuiltinExpression]]:
    return [
        (pattern.pattern, pattern)
        for s in BUILTIN
        for way in s.when
        for pattern in (way.log, way.also, way.printed)
        if pattern is not None
    ]


def patterns() -> list[tuple[str, BuiltinExpression]]:
    return [
        (f"{s.name}: {pattern.pattern}", pattern)
        for s in BUILTIN
        for way in s.when
        for pattern in (way.kind, way.said, way.log)
        if pattern is not None
    ]


HOSTILE = ("a", " ", "0", "'", ".sh: line 1", "Script '", "scheduler ", "tensor with all ",
           "Load model: ", "ERROR  ", "You do not have -", "model '", "[json.exception",
           "alloc_buffer: allocating ", "<")  # fmt: skip


@pytest.mark.slow
@table("piece", HOSTILE)
def test_no_line_however_long_takes_long(piece: str) -> None:
    line = piece * (1_000_000 // len(piece))
    error = WebUIServerError("x", status=500)
    began = time.thread_time()
    match(FailureFacts(error, log=(line,) * 3), BUILTIN)
    match(FailureFacts(UNREACHABLE, True, -5, (line,) * 3), BUILTIN)
    assert time.thread_time() - began < 1


@pytest.mark.slow
@table("piece", HOSTILE)
def test_no_text_of_a_body_takes_long(piece: str) -> None:
    error = http(500, {"error": "X", "message": piece * (19_999 // len(piece))})
    began = time.thread_time()
    match(FailureFacts(error), BUILTIN)
    assert time.thread_time() - began < 2


def test_no_expression_that_came_with_sdwatch_fits_every_line() -> None:
    """A user's own is checked when it is read. These are compiled only when they are used."""
    compiled = [re.compile(text, re.MULTILINE) for text in {text for text, _ in of_lines()}]
    assert len(compiled) > 100
    assert not [pattern.pattern for pattern in compiled if pattern.search("")]
    assert all(pattern.search("") is None for _, pattern in of_lines())


def test_a_search_of_a_log_starts_with_a_letter() -> None:
    """With plain text in front, a search runs at the speed of memory: 147 of them over 2,000 lines
    take 4 ms, and each that starts otherwise 1 to 5 ms more."""
    slow = [
        way.log.pattern
        for signature in BUILTIN
        for way in signature.when
        if signature.during != "start"
        and way.log is not None
        and not re.match(r"\\?[.\w'][\w .:]", way.log.pattern)
    ]
    assert slow == []
    assert not [p for _, p in patterns() if p.pattern.startswith(r"\b")]


def test_a_whole_log_is_looked_through_in_no_time() -> None:
    lines = tuple(
        f'INFO: 127.0.0.1:{n} - "GET /file={n}.png HTTP/1.1" 200 OK' * 2 for n in range(2000)
    )
    facts = FailureFacts(WebUIServerError("x", status=500), log=lines)
    best = min(_seconds(lambda: diagnose(facts, BUILTIN)) for _ in range(3))
    assert best < 0.05  # ten times what it takes


def _seconds(act: Any) -> float:
    """Of the processor, so that a busy machine is no failure."""
    began = time.thread_time()
    act()
    return time.thread_time() - began


def test_only_what_fits_of_a_long_line_is_shown_and_never_half_a_prompt() -> None:
    line = "torch.OutOfMemoryError: CUDA out of memory " + "x" * 5000
    explanation = diagnose(FailureFacts(OPAQUE, log=("before", line, "behind")), BUILTIN)
    assert explanation.evidence == "log line: CUDA out of memory"


def test_a_long_text_of_a_body_is_not_shown_in_half() -> None:
    error = detail(422, f"Script '{'castle ' * 100}' not found")
    found = diagnose(FailureFacts(error), BUILTIN)
    assert found.evidence == "the reply: a text of 719 characters, HTTP 422"


# --- the parts


@table(
    ("payload", "named"),
    [
        ({"prompt": "a cat"}, False),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2}}, False),
        ({"override_settings": {"sd_model_checkpoint": "a"}}, True),
        ({"override_settings": {"sd_model_checkpoint": ""}}, False),
        ({"override_settings": {"forge_additional_modules": ["ae.safetensors"]}}, True),
        ({"override_settings": {"sd_vae": "a"}}, True),
        ({"override_settings": None, "refiner_checkpoint": "a"}, True),
    ],
)
def test_whether_a_call_names_what_is_to_be_loaded(payload: dict[str, Any], named: bool) -> None:
    assert names_checkpoint(payload) is named


@table(
    ("pattern", "plain"),
    [
        ("CUDA out of memory", "CUDA out of memory"),
        ("ERROR +Processing: \\w+", "ERROR "),
        ("ab?c", "a"),
        ("ab*c", "a"),
        ("ab{0,2}c", "a"),
        ("ab(c|d)", "ab"),
        ("ab[|]", "ab"),
        ("ab\\|c", "ab"),
        ("ab|cd", ""),
        ("a((b|c)|d)|e", ""),
        ("(?i)abc", ""),
        ("^abc", ""),
        ("\\.sh: line", ""),
    ],
)
def test_the_fixed_start_of_every_match_is_known(pattern: str, plain: str) -> None:
    assert fixed_start(pattern) == plain


def test_all_that_a_way_names_must_hold() -> None:
    way = Way(status=(500,), kind=re.compile("^A$"), said=re.compile("b"), log=re.compile("cc"))
    signature = Signature(
        name="x", when=(way,), diagnosis=SERVER, cause="cause", advice="Advice.", source="here"
    )
    fitting = http(500, {"error": "A", "message": "a b"})
    assert match(FailureFacts(fitting, log=("dd", "a cc")), (signature,)) == (
        signature,
        "the reply: A: b, HTTP 500, log line: a cc",
    )
    for error, log in (
        (http(501, {"error": "A", "message": "a b"}), ("cc",)),
        (http(500, {"error": "B", "message": "a b"}), ("cc",)),
        (http(500, {"error": "A", "message": "a"}), ("cc",)),
        (fitting, ("c", "c")),
    ):
        assert match(FailureFacts(error, log=log), (signature,)) is None


def test_the_file_lies_beside_the_code() -> None:
    assert resources.signatures_file().parent.name == "failure"


LOST = http(500, {"error": "AttributeError", "detail": "", "errors":
                  "'NoneType' object has no attribute 'lowvram'"})  # fmt: skip


def test_the_consequence_of_an_earlier_fault_yields_to_the_log() -> None:
    loading = (
        "loading stable diffusion model: OutOfMemoryError",
        "Traceback (most recent call last):",
        '  File "modules/sd_models.py", line 1, in load_model',
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB",
        "Stable diffusion model failed to load",
    )
    explanation = diagnose(FailureFacts(LOST, log=loading), BUILTIN)
    assert (explanation.diagnosis, explanation.poisons) == (Diagnosis.OUT_OF_MEMORY, True)
    assert diagnose(FailureFacts(LOST), BUILTIN).diagnosis is Diagnosis.POISONED
