"""What becomes of each fault of a WebUI: the table that tests hold the real monitor against, and
that docs/failures.md shows (failures_page.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdwatch.policy.kinds import table
from sdwatch.policy.kinds.kind import Dialect

KINDS = ("forge", "a1111", "sdnext", "sdcpp", "comfyui")
OF_SDAPI = tuple(name for name in KINDS if table.KINDS[name].dialect is Dialect.SDAPI)
NAMES = {
    "forge": "Forge",
    "forge-neo": "Forge Neo",
    "a1111": "AUTOMATIC1111",
    "sdnext": "SD.Next",
    "sdcpp": "sd.cpp",
    "comfyui": "ComfyUI",
}


@dataclass(frozen=True)
class Row:
    """A fault that a job meets each time it is sent, and what comes of it. `seen`: in the words of
    who sees it; `cause` and `advice`: parts of what WHY.txt says; `posts`, `restarts`: what it
    costs; `on`: the kinds of WebUI on which it is so. Without `fails` the job is done all the same,
    `diagnosis` is that of the attempts that failed.

    `options` and `when`: of the fault in the simulator's plan; `flags`: of the simulator; `webui`:
    of its config; `unlisted`: a list of it that cannot be read; `fields`: of the job; `upscaler`:
    of its second stage. `somebody` presses a button of the WebUI meanwhile (interrupt, skip),
    or chose a bad checkpoint there before (options). `recycled`: so many of the restarts were none
    of a fault."""

    fault: str
    seen: str
    diagnosis: str
    cause: str
    advice: str
    posts: int = 2
    restarts: int = 1
    blame: str = "job"
    fails: bool = True
    on: tuple[str, ...] = ("forge",)
    options: str = ""
    when: str = "{prompt: cursed}"
    flags: tuple[str, ...] = ()
    webui: Mapping[str, Any] = field(default_factory=dict)
    unlisted: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    upscaler: str = ""
    somebody: str = ""
    recycled: int = 0


def _with_checkpoint(name: str) -> dict[str, Any]:
    return {"override_settings": {"sd_model_checkpoint": name}}


_KERNEL = "journalctl"
_TRACEBACK = "failed inside"
_STUCK = "raise `stall`"
_MEMORY = "Lower width"

ROWS = (
    Row("opaque-500", "500 that names an exception class, without its text", "server error",
        "answered 500", _TRACEBACK),
    Row("opaque-500-text", "500 `Internal Server Error`, no JSON", "server error",
        "Internal Server Error", _TRACEBACK, on=("forge", "comfyui")),
    Row("structured-500", "a node raised an exception: `execution_error` in /history",
        "server error", "node sample-1 of class KSampler failed: RuntimeError: injected",
        _TRACEBACK, on=("comfyui",)),
    Row("opaque-500", "`execution_error` without a text", "server error",
        "RuntimeError, raised in <comfyui>/nodes.py", _TRACEBACK, on=("comfyui",)),
    Row("value-error", "`execution_error` of type `ValueError`", "server error",
        "ValueError: injected failure of a value", _TRACEBACK, on=("comfyui",)),
    Row("assertion-error", "`execution_error` of type `AssertionError`", "server error",
        "AssertionError: injected assertion", _TRACEBACK, on=("comfyui",)),
    Row("key-error", "`execution_error` of type `KeyError`", "server error", "looked up a name",
        "leave it out", on=("comfyui",)),
    Row("vae-decode", "`execution_error` in a VAEDecode", "server error",
        "node decode-1 of class VAEDecode failed", _TRACEBACK, on=("comfyui",)),
    Row("structured-500", "500 with `error` and `message`", "server error",
        "RuntimeError: injected failure", _TRACEBACK),
    Row("structured-500", "500 with `error` and `errors`", "server error",
        "RuntimeError: injected failure", _TRACEBACK, on=("a1111",)),
    Row("structured-500", "200 with a preview and `interrupted` (no images in step 1); the log "
        "says `ERROR Processing: step=base args=…`, `ERROR Processing: RuntimeError`",
        "server error", "RuntimeError: injected failure inside sampling", _TRACEBACK,
        on=("sdnext",)),
    Row("value-error", "200 with a preview and `interrupted`; the log says `ERROR Processing: "
        "args=…` and no class", "server error", "injected failure of a value", _TRACEBACK,
        on=("sdnext",)),
    Row("assertion-error", "200 without images; the log has its text in an INFO line, and "
        "`Processing: no results`", "server error", "without an image: injected assertion",
        _TRACEBACK, on=("sdnext",)),
    Row("key-error", "500 `KeyError`", "server error", "looked up a name", "leave it out",
        on=("forge", "sdnext")),
    Row("vae-decode", "200 without images; the log says `ERROR VAE decode`", "server error",
        "without an image: injected failure in the VAE", _TRACEBACK, on=("sdnext",)),
    Row("structured-500", "500 `server_error`", "server error",
        "server_error", _TRACEBACK, on=("sdcpp",)),
    Row("assertion-500", "500 `AssertionError` without a message", "server error",
        "AssertionError, raised in <webui>/modules/processing.py", _TRACEBACK,
        on=("forge", "a1111")),
    Row("echo-500", "500 with a text that is not JSON and repeats the prompt", "server error",
        "answered 500", _TRACEBACK),
    Row("system-exit-500", "500 `Internal Server Error`, after a SystemExit", "server error",
        "its log: SystemExit: 3", _TRACEBACK),
    Row("exit-after-500", "a 500, after which the process ends", "crash",
        "exit code 1", "", restarts=2, options=", delay: 5"),
    Row("oom", "500 `OutOfMemoryError`, `CUDA out of memory`", "out of memory",
        "the GPU ran out of memory", _MEMORY, on=("forge", "a1111", "sdcpp")),
    Row("oom", "`execution_error` of type `torch.OutOfMemoryError`", "out of memory",
        "the GPU ran out of memory", "--lowvram", on=("comfyui",)),
    Row("oom-text", "`execution_error` of type RuntimeError, `CUDA out of memory`, which ComfyUI "
        "itself does not take for one", "out of memory", "the GPU ran out of memory", _MEMORY,
        on=("comfyui",)),
    Row("oom", "500 `Internal Server Error`; the log says `Encountered Out of Memory`, wrapped",
        "out of memory", "the GPU ran out of memory", "--lowvram", on=("forge-neo",)),
    Row("video", "200 with the path of a file in the place of an image", "bad request",
        "is the path of a file (.mp4)", "Ask for pictures", posts=1, restarts=0,
        on=("forge-neo",)),
    Row("oom", "200 with a preview and `interrupted`, after the GPU ran out of memory (without "
        "images in step 1)", "out of memory",
        "the GPU ran out of memory", _MEMORY, on=("sdnext",)),
    Row("nan", "500 `NansException`: `A tensor with NaNs was produced`", "NaN",
        "NaNs", "--no-half", on=("a1111",)),
    Row("nan", "200 with a black picture; the log says `invalid=`", "NaN",
        "NaNs", "VAE", on=("sdnext",)),
    Row("nan", "200 with a black picture; the log has `invalid value encountered in cast`, once in "
        "the life of the process", "NaN", "NaNs", "--vae-in-fp32"),
    Row("nan", "success, with a black picture; the log has `invalid value encountered in cast`, "
        "once in the life of the process", "NaN", "NaNs", "--fp32-vae", on=("comfyui",)),
    Row("log-flood", "a 500 whose traceback a flood of lines followed", "server error",
        "after a flood of lines", _TRACEBACK),
    Row("poisoned", "it answers, and every picture fails until it is restarted", "poisoned",
        "", "", restarts=2, on=("forge", "a1111", "comfyui")),
    Row("poisoned", "it answers, and every picture fails until it is restarted", "server error",
        "server_error", "", restarts=2, on=("sdcpp",)),
    Row("memory-stays-taken", "out of memory, and its memory stays taken: all but tiny pictures "
        "fail until it is restarted", "out of memory", "the GPU ran out of memory",
        "this size works", restarts=2, on=("forge", "a1111", "sdnext", "sdcpp")),
    Row("memory-stays-taken", "500 `'NoneType' object is not iterable`; the log has `HIP out of "
        "memory` before it", "out of memory", "the GPU ran out of memory", _MEMORY, restarts=2,
        options=", opaque: 1"),
    Row("device-suspended", "the GPU is taken away: every picture fails until it is restarted",
        "poisoned", "", "", restarts=2, on=("forge", "a1111", "sdnext", "comfyui")),
    Row("xpu-oom", "500 `UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY`", "out of memory",
        "the GPU ran out of memory", _MEMORY, on=("forge", "a1111", "sdnext", "comfyui")),
    Row("oom-behind-none", "500 `'NoneType' object is not iterable`; the log says `HIP out of "
        "memory`", "out of memory", "the GPU ran out of memory", _MEMORY, on=("forge", "a1111")),
    Row("xpu-device-lost", "`UR_RESULT_ERROR_DEVICE_LOST`, until it is restarted", "poisoned",
        "", "", restarts=2, on=("forge", "a1111", "sdnext", "comfyui")),
    Row("too-many-files", "`[Errno 24] Too many open files`, until it is restarted", "poisoned",
        "", "", restarts=2, on=("forge", "comfyui")),
    Row("wrong-dtype", "500 `expected scalar type Half but found Float`", "server error",
        "different number formats", "one by one", on=("forge", "a1111", "sdnext", "comfyui")),
    Row("no-network", "500 `<urlopen error [Errno -3]`: it wants to download something",
        "server error", "but the network fails", "https_proxy",
        on=("forge", "a1111")),
    Row("sigkill-before-reply", "the process is killed before it answers", "crash",
        "killed by signal 9", _KERNEL, restarts=2),
    Row("sigkill-mid-step", "the process is killed in the middle of a picture", "crash",
        "killed by signal 9", _KERNEL, restarts=2, on=KINDS),
    Row("sigkill-mid-reply", "the process is killed in the middle of its reply", "crash",
        "killed by signal 9", _KERNEL, restarts=2),
    Row("segv", "segmentation fault", "crash", "killed by signal 11", "", restarts=2,
        on=("forge", "comfyui")),
    Row("abort", "a library ends the process", "crash", "killed by signal 6", "", restarts=2,
        on=("comfyui",)),
    Row("sigkill-mid-save", "the process is killed while it writes a picture, which stays cut off",
        "crash", "killed by signal 9", _KERNEL, restarts=2, on=("comfyui",)),
    Row("exit-0", "the process ends by itself, with exit code 0", "crash",
        "exit code 0", "Find out what ended it", restarts=2, on=("forge", "comfyui")),
    Row("hang", "no more steps; the API still answers", "stuck",
        "made no progress", _STUCK, restarts=2, on=KINDS),
    Row("hang-interruptible", "no more steps; an interrupt frees it", "stuck",
        "made no progress", _STUCK, restarts=1, on=("forge", "comfyui")),
    Row("worker-dies", "the thread that runs prompts has ended; HTTP answers, and the prompt runs "
        "forever", "stuck", "the thread that generates has ended", _STUCK, restarts=2,
        on=("comfyui",)),
    Row("holds-gil", "C code of a node holds the interpreter: nothing answers", "stuck",
        "made no progress", _STUCK, restarts=2, on=("comfyui",)),
    Row("hang-spin", "no more steps; one core is busy", "stuck",
        "made no progress", _STUCK, restarts=2),
    Row("hang-repeating", "no more steps; the log repeats itself", "stuck",
        "made no progress", _STUCK, restarts=2),
    Row("freeze", "the whole process is frozen", "stuck",
        "made no progress", _STUCK, restarts=2, on=("forge", "comfyui")),
    Row("truncated-body", "the reply breaks off", "crash", "IncompleteRead", "", restarts=2),
    Row("truncated-body", "the reply breaks off, and the prompt is in the queue", "", "", "",
        posts=1, restarts=0, fails=False, on=("comfyui",)),
    Row("websocket-closes", "its websockets close in the middle of a prompt", "", "", "",
        posts=1, restarts=0, fails=False, on=("comfyui",)),
    Row("broken-json", "200, but the reply is not JSON", "silent", "not complete JSON",
        "cuts replies short"),
    Row("empty-images", "200 without an image", "silent", "no image", "sent no picture", on=KINDS),
    Row("undecodable-image", "200 with a picture that does not decode", "silent",
        "does not decode", "try png", on=("forge", "comfyui")),
    Row("black-image", "200 with a picture of one colour", "silent", "one colour", "one_colour",
        on=KINDS),
    Row("wrong-size", "200 with a picture of another size", "silent", "32x32, not 64x64",
        "An extension", on=KINDS),
    Row("wrong-model", "200, made with another model", "silent", "made with the model", "by hand",
        fields=_with_checkpoint("simulated-a"), on=OF_SDAPI),
    Row("", "500 `Failed to recognize model type!`: the job's checkpoint is damaged", "bad request",
        "the job names is of a kind", ".corrupted", posts=1,
        fields=_with_checkpoint("simulated-corrupt")),
    Row("", "500 `HeaderTooSmall`: the job's checkpoint is damaged", "bad request",
        "the job names is damaged", "Download", posts=1,
        fields=_with_checkpoint("simulated-corrupt"), on=("a1111",)),
    Row("", "`execution_error` of type `SafetensorError`: the job's checkpoint is damaged",
        "bad request", "workflow loads is damaged", "Download", posts=1, restarts=0,
        fields=_with_checkpoint("simulated-corrupt"), on=("comfyui",)),
    Row("model-gone", "`execution_error` of type `FileNotFoundError`: a model file that is listed "
        "is gone", "bad request", "loads was in ComfyUI's list, and is gone", "Put the file back",
        posts=1, restarts=0, on=("comfyui",)),
    Row("", "a checkpoint must be named: it has several, and loads none by itself", "bad request",
        "loads none by itself", "Correct it", posts=0, restarts=0,
        fields={"override_settings": {}}, on=("comfyui",)),
    Row("", "a field that its built-in workflow has nothing for", "bad request", "no second pass",
        "Correct it", posts=0, restarts=0, fields={"enable_hr": True}, on=("comfyui",)),
    Row("", "500 `'NoneType' object is not callable`: the job's checkpoint is damaged",
        "bad request", "could not load the checkpoint that the job names", "download", posts=1,
        restarts=0, fields=_with_checkpoint("simulated-corrupt"), on=("sdnext",)),
    Row("", "somebody chose a damaged checkpoint: `Torch not compiled with CUDA enabled`",
        "poisoned", "", "", somebody="options", fails=False, on=("a1111",)),
    Row("", "a sampler that it does not have (it would answer 404, or generate with another)",
        "bad request", "no sampler", "Correct it", posts=0, restarts=0,
        fields={"sampler_name": "No Such"}, on=KINDS),
    Row("", "404 `Sampler not found`, of a WebUI whose samplers could not be read before",
        "bad request", "does not have that sampler", "GET /sdapi/v1/samplers", posts=1, restarts=0,
        unlisted="samplers", fields={"sampler_name": "No Such"}, on=("sdnext",)),
    Row("", "500 to every upscaling: `validation error for ResProcessImage`; tried before any job",
        "bad request", "cannot do extra-single-image", "Correct it", posts=0, restarts=0,
        upscaler="Resize Lanczos", on=("sdnext",)),
    Row("", "it has no such route: upscaling", "bad request", "has no extra-single-image",
        "Correct it", posts=0, restarts=0, upscaler="Lanczos", on=("sdcpp",)),
    Row("", "somebody pressed Interrupt: 200 with a picture that is not finished", "interrupted",
        "", "", restarts=0, fails=False, somebody="interrupt", on=("forge", "a1111", "sdnext")),
    Row("", "somebody pressed Skip: 200 with a picture that is not finished", "interrupted",
        "", "", restarts=0, fails=False, somebody="skip", on=("forge", "a1111")),
    Row("", "somebody pressed Skip: 200 without images", "interrupted",
        "", "", restarts=0, fails=False, somebody="skip", on=("sdnext",)),
    Row("orphan-child", "a child process outlives the WebUI; it is stopped with it", "", "", "",
        posts=1, restarts=0, fails=False),
    Row("ignore-sigterm", "it does not exit when asked; it is killed", "", "", "",
        posts=1, restarts=0, fails=False),
    Row("leak", "it uses more memory with each picture, more than `max_rss`: it is recycled",
        "", "", "", posts=1, recycled=1, fails=False, options=", mb: 300",
        webui={"max_rss": "250 MB"}),
    Row("slow-steps", "it is slow, but progresses", "", "", "", posts=1, restarts=0, fails=False,
        on=("forge", "comfyui")),
    Row("slow-start", "it starts slowly", "", "", "", posts=1, restarts=0, fails=False,
        options=", delay: 1", when="{start: 1}", on=("forge", "comfyui")),
    Row("late-routes", "its port opens before its routes are there: 404, and a schema that is a "
        "500", "", "", "", posts=1, restarts=0, fails=False, when="{start: 1}",
        on=("forge", "a1111", "sdnext")),
    Row("", "it loads its checkpoint after its API is up, and generates nothing until then",
        "", "", "", posts=1, restarts=0, fails=False, flags=("--load-time", "0.5"),
        on=("sdnext",)),
)  # fmt: skip


@dataclass(frozen=True)
class HoldRow:
    """What puts the lane on hold, each time: `hold` is part of the reason, and the job waits in the
    inbox, or in working/ where it was sent. `fault`: of each start, or of a job; `flags`: more of
    the simulator's; `limit`: seconds that a start may take. `external`: the WebUI is not ours;
    `foreign`: another of its kind has its port; `chosen`: somebody chose a bad checkpoint there;
    `crash`: it counts as one."""

    fault: str
    seen: str
    hold: str
    posts: int = 0
    flags: tuple[str, ...] = ()
    limit: float = 60
    external: bool = False
    foreign: bool = False
    crash: bool = False
    chosen: bool = False
    on: tuple[str, ...] = ("forge",)


_PASSWORD = ("--auth", "me:secret")

HOLD_ROWS = (
    HoldRow("never-ready", "it starts, and its port never opens", "not ready within", limit=1,
            crash=True),
    HoldRow("exit-on-start", "its process ends at its start", "exit code 1", on=KINDS, crash=True),
    HoldRow("port-taken", "another process has its port, and it runs on without: `address already "
            "in use`", "another program uses"),
    HoldRow("port-taken", "another process has its port, and it exits: `address already in use`, "
            "`Cannot find empty port in range`", "another program uses", on=("a1111", "sdnext")),
    HoldRow("port-taken", "another process has its port, and it exits when everything is loaded: "
            "`Port 8188 is already in use on address`", "another program uses", on=("comfyui",)),
    HoldRow("port-forbidden", "the system refuses it its port: `[Errno 13] error while "
            "attempting to bind on address`", "may not use it", on=("forge", "a1111")),
    HoldRow("server-thread-dies", "its server ends with an exception, its process keeps running: "
            "`Exception in thread Thread-22 (webui_worker)`", "has stopped its server"),
    HoldRow("wrong-folder", "there is no launch.py where it is started: `can't open file`",
            "not in the folder"),
    HoldRow("repository-gone", "`Couldn't clone Stable Diffusion`", "gone since December 2025",
            on=("a1111",)),
    HoldRow("damaged-settings", "`JSONDecodeError` while it starts", "config.json", on=("a1111",)),
    HoldRow("no-gpu", "`Your device does not support the current version of Torch/CUDA`",
            "finds no GPU"),
    HoldRow("no-gpu", "`Found no NVIDIA driver on your system`", "finds no GPU", on=("comfyui",)),
    HoldRow("wrong-folder", "there is no main.py where it is started: `can't open file`",
            "not in the folder", on=("comfyui",)),
    HoldRow("sigterm-on-start", "somebody stops it during its startup", "was asked to exit",
            crash=True),
    HoldRow("sigkill-on-start", "it is killed during its startup, although memory was free",
            "memory was not low", crash=True),
    HoldRow("", "another process has its port, and it would share it", "is taken by pid",
            foreign=True, on=("sdcpp",)),
    HoldRow("", "it has no checkpoint", "no checkpoint", flags=("--no-model",),
            on=("forge", "a1111", "sdnext")),
    HoldRow("", "it was started without --api", "--api", flags=("--no-api",),
            on=("forge", "a1111")),
    HoldRow("", "401 `Not authenticated`", "user name and password", flags=_PASSWORD,
            on=("forge", "a1111", "sdnext")),
    HoldRow("", "429 `rate limit exceeded`, after the picture was generated", "429", posts=1,
            flags=("--rate-limit", "4"), on=("sdnext",)),
    HoldRow("", "somebody chose a damaged checkpoint, and it keeps that setting: 200 without "
            "images, `Load model: name=… not loaded`", "checkpoint in its settings", posts=1,
            chosen=True, on=("sdnext",)),
    HoldRow("disk-full", "500 `[Errno 28] No space left on device`", "is full", posts=1,
            on=("forge", "a1111", "comfyui")),
    HoldRow("sigkill-mid-step", "it dies, and is external", "Connection refused", posts=1,
            limit=1, external=True, crash=True),
    HoldRow("poisoned", "it answers but no longer generates, and is external",
            "the canary", posts=2, external=True, crash=True),
)  # fmt: skip


NOT_OF_COMFYUI = {
    "assertion-500": "an exception without a text is opaque-500 there",
    "echo-500": "its answer to the POST comes before a node runs; see structured-500",
    "system-exit-500": "a SystemExit in a node ends the worker's thread: worker-dies",
    "exit-after-500": "an end of the process, as exit-0",
    "video": "a video is a file that is fetched: test_comfyui_templates.py",
    "log-flood": "the exception is in /history, and is not looked for in the log",
    "memory-stays-taken": "it unloads all its models after out of memory (comfyui.md)",
    "oom-behind-none": "/history has the exception itself, not what followed from it",
    "no-network": "it downloads nothing by itself",
    "sigkill-before-reply": "its picture is taken from the folder of the call: test_comfyui.py",
    "sigkill-mid-reply": "the prompt is in the queue by then: truncated-body",
    "hang-spin": "for the stall rule the same as hang",
    "hang-repeating": "for the stall rule the same as hang",
    "broken-json": "the prompt is in the queue by then: truncated-body",
    "wrong-model": "it never substitutes a name (comfyui.md)",
    "orphan-child": "the tree of a process is the same for all kinds",
    "ignore-sigterm": "the tree of a process is the same for all kinds",
    "leak": "recycling is the same for all kinds",
    "late-routes": "nothing listens before it is ready (comfyui.md)",
    "never-ready": "a start is judged alike for all kinds",
    "port-forbidden": "its words are those of the same library: port-taken",
    "server-thread-dies": "its server is the main thread, and ends the process",
    "repository-gone": "it clones no repository",
    "damaged-settings": "it has no settings that a start reads",
    "sigterm-on-start": "a start is judged alike for all kinds",
    "sigkill-on-start": "a start is judged alike for all kinds",
    "Failed to recognize model type": "`SafetensorError` and `Could not detect model type` there",
    "HeaderTooSmall": "`SafetensorError` there",
    "'NoneType' object is not callable`: the job's": "`SafetensorError` there",
    "Torch not compiled with CUDA": "it has no checkpoint that somebody chose",
    "`Sampler not found`": "it refuses an unknown name before anything runs",
    "ResProcessImage": "an upscale is a workflow like any other",
    "no such route: upscaling": "an upscale is a workflow like any other",
    "pressed Interrupt": "test_comfyui.py: an interrupt is in /history",
    "pressed Skip": "it has no such button",
    "loads its checkpoint after its API": "a checkpoint is loaded by the first prompt",
    "and it would share it": "a port in use is exit 1",
    "it has no checkpoint": "a job that names one is refused: test_prompt_result.py",
    "without --api": "its API cannot be left out",
    "401": "it has no password; a proxy in front of it is the same for all kinds",
    "429": "it has no limit of requests",
    "chose a damaged checkpoint, and it keeps": "it has no checkpoint that somebody chose",
}
"""Why a row is not tried on a ComfyUI: by its fault, or by a part of what is seen."""


def cases() -> list[tuple[Row, str]]:
    """Each row on each of its kinds."""
    return [(row, kind) for row in ROWS for kind in row.on]


def hold_cases() -> list[tuple[HoldRow, str]]:
    """Each of them on each of its kinds."""
    return [(row, kind) for row in HOLD_ROWS for kind in row.on]
