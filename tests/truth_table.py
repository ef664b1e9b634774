"""What becomes of each fault of a WebUI: the table that tests hold the real monitor against, and
that docs/failures.md is printed from (`python -m tests.truth_table > docs/failures.md`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

KINDS = ("forge", "a1111", "sdnext", "sdcpp")
NAMES = {"forge": "Forge", "a1111": "AUTOMATIC1111", "sdnext": "SD.Next", "sdcpp": "sd.cpp"}


@dataclass(frozen=True)
class Row:
    """A fault that a job meets each time it is sent, and what comes of it. `seen`: in the words of
    who sees it; `cause` and `advice`: parts of what WHY.txt says; `posts`, `restarts`: what it
    costs; `on`: the kinds of WebUI on which it is so. Without `fails` the job is done all the same,
    `diagnosis` tells of the attempts that failed."""

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


_KERNEL = "journalctl"
_TRACEBACK = "traceback"
_STUCK = "raise `stall`"
_MEMORY = "smaller width"
_LOG = "webui_tail.log"

ROWS = (
    Row("opaque-500", "500 that names a class and says nothing", "server error",
        "answered 500", _TRACEBACK),
    Row("opaque-500-text", "500 `Internal Server Error`, no JSON", "server error",
        "Internal Server Error", _TRACEBACK),
    Row("structured-500", "500 with `error` and `message`", "server error",
        "RuntimeError: injected failure", _TRACEBACK),
    Row("structured-500", "500 with `error` and `errors`", "server error",
        "RuntimeError: injected failure", _TRACEBACK, on=("a1111",)),
    Row("structured-500", "200 without images; the log says `ERROR Processing`", "server error",
        "answered 200 without an image", "Processing:", on=("sdnext",)),
    Row("structured-500", "500 `server_error`", "server error",
        "server_error", _TRACEBACK, on=("sdcpp",)),
    Row("oom", "500 `OutOfMemoryError`, `CUDA out of memory`", "out of memory",
        "the GPU ran out of memory", _MEMORY, on=("forge", "a1111", "sdcpp")),
    Row("oom", "200 without images, after the GPU ran out of memory", "out of memory",
        "the GPU ran out of memory", _MEMORY, on=("sdnext",)),
    Row("nan", "500 `NansException`, or NaN in the log of a black picture", "NaN",
        "numbers that are none", "", on=KINDS),
    Row("log-flood", "a 500 whose traceback a flood of lines followed", "server error",
        "after a flood of lines", _TRACEBACK),
    Row("poisoned", "it answers, and every picture fails until it is restarted", "poisoned",
        "", "", restarts=2, on=("forge", "a1111", "sdnext")),
    Row("poisoned", "it answers, and every picture fails until it is restarted", "server error",
        "server_error", "", posts=3, restarts=2, on=("sdcpp",)),
    Row("sigkill-before-reply", "the process is killed before it answers", "crash",
        "killed by signal 9", _KERNEL, restarts=2),
    Row("sigkill-mid-step", "the process is killed in the middle of a picture", "crash",
        "killed by signal 9", _KERNEL, restarts=2, on=KINDS),
    Row("sigkill-mid-reply", "the process is killed in the middle of its reply", "crash",
        "killed by signal 9", _KERNEL, restarts=2),
    Row("segv", "segmentation fault", "crash", "killed by signal 11", "", restarts=2),
    Row("exit-0", "the process ends by itself, with exit code 0", "crash",
        "exit code 0", "See who", restarts=2),
    Row("hang", "no step any more; the API still answers", "stuck",
        "made no progress", _STUCK, restarts=2, on=("forge", "sdcpp")),
    Row("hang-interruptible", "no step any more; an interrupt frees it", "stuck",
        "made no progress", _STUCK, restarts=1),
    Row("hang-spin", "no step any more; a core spins", "stuck",
        "made no progress", _STUCK, restarts=2),
    Row("freeze", "the whole process stands still", "stuck",
        "made no progress", _STUCK, restarts=2),
    Row("truncated-body", "the reply breaks off", "crash", "IncompleteRead", "", restarts=2),
    Row("broken-json", "200, and what comes is no JSON", "silent", "not whole JSON", _LOG),
    Row("empty-images", "200 without an image", "silent", "no image", _LOG, on=KINDS),
    Row("undecodable-image", "200 with a picture that does not decode", "silent",
        "does not decode", _LOG),
    Row("black-image", "200 with a picture of one colour", "silent", "one colour", _LOG, on=KINDS),
    Row("wrong-size", "200 with a picture of another size", "silent", "32x32, not 64x64", _LOG,
        on=KINDS),
    Row("wrong-model", "200, drawn with another model", "silent", "made with the model", _LOG,
        on=KINDS),
    Row("orphan-child", "a child of the WebUI outlives it; it is ended with it", "", "", "",
        posts=1, restarts=0, fails=False),
    Row("ignore-sigterm", "it does not end when asked; it is killed", "", "", "",
        posts=1, restarts=0, fails=False),
    Row("leak", "it takes more memory with each picture; see `max_rss`", "", "", "",
        posts=1, restarts=0, fails=False),
    Row("slow-steps", "it is slow, and moves", "", "", "", posts=1, restarts=0, fails=False),
)  # fmt: skip


@dataclass(frozen=True)
class StartRow:
    """What a start of the WebUI meets each time: the lane is on hold for the reason `hold`, and no
    job is spent. `flags`: more of the simulator's; `limit`: seconds that the start may take."""

    fault: str
    seen: str
    hold: str
    flags: tuple[str, ...] = ()
    limit: float = 60
    on: tuple[str, ...] = ("forge",)


START_ROWS = (
    StartRow("never-ready", "it starts, and its port never opens", "not ready within", limit=1),
    StartRow("exit-on-start", "it ends while it starts", "exit code 1", on=KINDS),
    StartRow("port-taken", "its port is somebody else's", "", limit=3, on=("a1111", "sdnext")),
    StartRow("no-model", "it has no checkpoint", "no checkpoint", flags=("--no-model",),
             on=("forge", "a1111")),
    StartRow("no-api", "it was started without --api", "--api", flags=("--no-api",)),
)  # fmt: skip


def start_cases() -> Iterator[tuple[StartRow, str]]:
    """Each of them on each of its kinds."""
    for row in START_ROWS:
        for kind in row.on:
            yield row, kind


def cases() -> Iterator[tuple[Row, str]]:
    """Each row on each of its kinds."""
    for row in ROWS:
        for kind in row.on:
            yield row, kind
