"""The ten lines of a WebUI's output that a person should see, and those that speak of errors."""

from __future__ import annotations

import pytest

from sdwatch.policy.failure.error_lines import (
    ERROR_SIGNS,
    MATTER,
    WORST_SIGNS,
    ErrorBlock,
    error_blocks,
    is_error,
    lines_that_matter,
    uncut,
    without_own_failures,
)
from sdwatch.policy.failure.tail_marks import PINNED, no_output
from tests.support.tables import table

FRAMES = [line for n in range(20) for line in (f'  File "f{n}.py", line {n}, in f', f"    g{n}()")]
TRACEBACK = ["Traceback (most recent call last):", *FRAMES, "torch.OutOfMemoryError: no room"]
BEFORE = [f"INFO before {letter}" for letter in "abcdefghi"]
AFTER = [f"INFO after {chr(97 + n) * 2}" for n in range(26)]


def tail(stdout: list[str], stderr: list[str]) -> str:
    return "\n".join(["===== stdout =====", *stdout, "", "===== stderr =====", *stderr, "", ""])


def test_a_traceback_is_shown_by_its_exception_its_innermost_frame_and_what_was_before() -> None:
    chosen = lines_that_matter(tail(AFTER, [*BEFORE, *TRACEBACK, *AFTER]))
    assert chosen == [
        *BEFORE[-3:],
        TRACEBACK[0],
        *FRAMES[-4:],
        TRACEBACK[-1],
        AFTER[-1],
    ]


def test_the_marks_below_a_line_of_code_take_no_place() -> None:
    """Python 3.11 and later underline what failed in a line (ComfyUI 0.33.0: in four frames of
    five)."""
    marked = [
        line
        for n in range(20)
        for line in (f'  File "f{n}.py", line {n}, in f', f"    x = g{n}()", "        ~~^^")
    ]
    chosen = lines_that_matter(tail(AFTER, [*BEFORE, TRACEBACK[0], *marked, TRACEBACK[-1], *AFTER]))
    shown = [line for line in marked if "^" not in line][-4:]
    assert chosen == [*BEFORE[-3:], TRACEBACK[0], *shown, TRACEBACK[-1], AFTER[-1]]


def test_of_the_stack_of_a_crash_the_frames_nearest_to_it_are_shown() -> None:
    """faulthandler prints the last call first (ComfyUI 0.33.0 turns it on): the custom node stands
    at its top, threading.py at its end."""
    frames = [f'  File "/comfyui/f{chr(97 + n)}.py", line {n} in f' for n in range(20)]
    stack = ["Fatal Python error: Segmentation fault", "", "Stack (most recent call first):"]
    chosen = lines_that_matter(tail([], [*BEFORE, *stack, *frames, "", "Extension modules: a, b"]))
    assert chosen == [stack[0], stack[2], *frames[: MATTER - 2]]


def test_the_last_traceback_is_meant() -> None:
    other = [TRACEBACK[0], *FRAMES[:4], "ValueError: earlier"]
    chosen = lines_that_matter(tail([*other, *AFTER], [*BEFORE, *TRACEBACK]))
    assert "torch.OutOfMemoryError: no room" in chosen
    assert "ValueError: earlier" not in chosen


def test_a_traceback_comes_before_any_other_error() -> None:
    chosen = lines_that_matter(tail([], [*TRACEBACK, *AFTER, "ERROR the client went away"]))
    assert TRACEBACK[-1] in chosen


def test_without_a_traceback_the_last_error_and_without_that_the_last_lines() -> None:
    killed = "webui.sh: line 304: 26728 Killed  python launch.py"
    assert lines_that_matter(tail([], [*BEFORE, killed, *AFTER]))[:4] == [*BEFORE[-3:], killed]
    assert lines_that_matter(tail([], AFTER)) == AFTER[-10:]


def test_what_a_flood_pushed_out_gets_half_since_it_may_be_old() -> None:
    pinned = ["(12 access lines of health probes left out)", PINNED, *TRACEBACK]
    chosen = lines_that_matter(tail([], [*pinned, "(the last 30 lines:)", *AFTER]))
    assert chosen[-6:] == AFTER[-6:]
    assert TRACEBACK[-1] in chosen
    assert len(chosen) == 10


@pytest.mark.parametrize("text", ["", "\n\n", f"===== stdout =====\n{no_output('x')}\n"])
def test_where_there_is_nothing_there_is_nothing(text: str) -> None:
    assert lines_that_matter(text) == []


def test_a_long_line_is_cut() -> None:
    (line,) = lines_that_matter("x" * 5000)
    assert len(line) < 400


@table(
    "line",
    [
        TRACEBACK[0],
        "ERROR:    Exception in ASGI application",
        "*** Error completing request",
        "│ /webui/modules/x.py:3 in f │",
        "KeyboardInterrupt",
        "modules.errors.Odd2Exception: why",
        "SystemExit",
        "During handling of the above exception, another exception occurred:",
        "RuntimeError: CUDA error: an illegal memory access",
        "torch.cuda: Out of memory",
        'INFO:  1 - "POST /sdapi/v1/txt2img HTTP/1.1" 500 Internal Server Error',
    ],
)
def test_no_line_is_an_error_without_one_of_the_signs(line: str) -> None:
    assert is_error(line)
    assert any(sign in line for sign in (*WORST_SIGNS, *ERROR_SIGNS))


DRAWN = [
    "12:13:14-123456 ERROR    Processing: RuntimeError",
    "╭──── Traceback (most recent call last) ────╮",
    "│ /webui/modules/processing.py:400 in inner │",
    "│   399 │   samples = None                  │",
    '│ ❱ 400 │   raise RuntimeError("boom")      │',
    "╰───────────────────────────────────────────╯",
    "RuntimeError: boom",
]
BARE = [
    "ERROR    HTTP API: RuntimeError",
    "/webui/modules/processing.py:99 in process",
    "    98 │ try:",
    "  ❱ 99 │     output = shared.sd_model(**args)",
    "   100 │ except Exception as e:",
    "RuntimeError: boom",
]


@pytest.mark.parametrize("drawn", [DRAWN, BARE])
def test_a_traceback_that_is_drawn_is_one_block_with_its_message(drawn: list[str]) -> None:
    (block,) = error_blocks([*BEFORE, *drawn, *AFTER])
    assert block == ErrorBlock(len(BEFORE), len(BEFORE) + len(drawn), traceback=True)
    chosen = lines_that_matter(tail([], [*BEFORE, *drawn, *AFTER]))
    for expected in (drawn[0], "❱", "processing.py", drawn[-1]):
        assert any(expected in line for line in chosen)


def test_a_pinned_traceback_matters_more_than_a_flood_of_minor_errors() -> None:
    flood = [f"ERROR: minor thing {n}" for n in range(100)]
    chosen = lines_that_matter(tail([], [PINNED, *TRACEBACK, "(the last 100 lines:)", *flood]))
    assert chosen[-2:] == [TRACEBACK[-1], f"{flood[-1]}  (100 such lines, but for numbers)"]


def test_lines_that_differ_only_in_numbers_are_shown_as_one() -> None:
    lines = [f"{what} {n}" for n in range(20) for what in ("ERROR: this", "ERROR: that")]
    assert lines_that_matter(tail([], lines))[-2:] == ["ERROR: this 19", "ERROR: that 19"]


DRAWN = [
    "<webui>/modules/api.py:99 in get_schedulers",
    "    98 │ try:",
    "  ❱ 99 │     return serialize(rows)",
    "   100 │ except Exception as e:",
    "ResponseValidationError: 8 validation errors:",
    "  {'type': 'string_type', 'loc': ('response', 1, 'cls')}",
]
OWN = [
    "08:17:46-1 ERROR    API error: GET: /sdapi/v1/schedulers ResponseValidationError: 8 errors",
    "08:17:46-1 ERROR    HTTP API: ResponseValidationError",
    *DRAWN,
]
FAILED = [
    "08:17:47-1 ERROR    Processing: step=base args={} it broke",
    "08:17:47-1 ERROR    Processing: RuntimeError",
    *DRAWN[:4],
    "RuntimeError: it broke",
]
ASGI = [
    'INFO:     127.0.0.1:1 - "GET /sdapi/v1/cmd-flags HTTP/1.1" 500 Internal Server Error',
    "ERROR:    Exception in ASGI application",
    "Traceback (most recent call last):",
    '  File "<site-packages>/starlette/concurrency.py", line 41, in run',
    "    raise",
    "fastapi.exceptions.ResponseValidationError: 1 validation errors:",
]
UPSCALE = ["08:17:46-1 ERROR    API error: POST: http://127.0.0.1:7860/sdapi/v1/extra-single-image "
           "ValidationError: 1 validation error for ResProcessImage", *DRAWN]  # fmt: skip


@table("own", [OWN, ASGI, UPSCALE, OWN + ASGI], ids=range(4))
def test_the_failure_of_our_own_question_is_not_of_the_call(own: list[str]) -> None:
    before, after = ["INFO     before"], ["08:18:00-1 INFO     after"]
    assert without_own_failures([*before, *own, *FAILED, *after]) == [*before, *FAILED, *after]
    assert without_own_failures([*before, *FAILED, *own]) == [*before, *FAILED]
    shown = lines_that_matter("\n".join([*FAILED, *own, *after]))
    assert not any("ValidationError" in line for line in shown)
    assert "RuntimeError: it broke" in shown


def test_the_failure_of_a_call_is_kept() -> None:
    call = [OWN[0].replace("GET: /sdapi/v1/schedulers", "POST: /sdapi/v1/txt2img"), *OWN[1:]]
    other = [OWN[0].replace("/sdapi/v1/schedulers", "/sdapi/v1/schedulers-of-another"), *OWN[1:]]
    asgi = [ASGI[0].replace("GET /sdapi/v1/cmd-flags", "POST /sdapi/v1/txt2img"), *ASGI[1:]]
    for lines in (call, other, asgi, FAILED):
        assert without_own_failures(lines) == lines


def test_the_start_and_the_end_of_a_long_line_are_shown() -> None:
    (line,) = lines_that_matter("1 ERROR Processing: step=base args={" + "x" * 2000 + "} it broke")
    assert line.startswith("1 ERROR Processing: step=base args={")
    assert line.endswith("} it broke")
    assert len(line) < 310


def test_a_line_that_was_shown_cut_is_found_again_by_its_start() -> None:
    long = "torch.OutOfMemoryError: CUDA out of memory. " + "Tried to allocate 2.00 GiB. " * 20
    shown = lines_that_matter(tail([], [*TRACEBACK[:-1], long]))[-1]
    assert shown != long
    assert len(uncut(shown)) > 50
    assert long.startswith(uncut(shown))
    assert uncut(TRACEBACK[-1]) == TRACEBACK[-1]
