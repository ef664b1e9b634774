"""Tracebacks in a log: which are whole, what raised them, and to which failure they belong."""

from __future__ import annotations

from sdwatch.errors import WebUIBusyError, WebUIReplyError, WebUIServerError
from sdwatch.policy.failure.tracebacks import (
    Raised,
    may_follow,
    own,
    raised_by,
    tracebacks,
    without,
)
from sdwatch.webui.http.reply import error_for
from sdwatch.webui.log.log_lines import split_lines
from tests.support.tables import table

FORGE = """\
INFO:     127.0.0.1:5 - "POST /sdapi/v1/txt2img HTTP/1.1" 500 Internal Server Error
ERROR:    Exception in ASGI application
Traceback (most recent call last):
  File "<site-packages>/uvicorn/protocols/http/h11_impl.py", line 411, in run_asgi
    result = await app(  # type: ignore[func-returns-value]
             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "<webui>/modules/processing.py", line 812, in process_images_inner
    assert p.prompt is not None
           ^^^^^^^^^^^^^^^^^^^^
AssertionError
"""
A1111 = """\
*** API error: POST: http://127.0.0.1:1/sdapi/v1/txt2img {'error': 'KeyError', 'errors': "'no'"}
    Traceback (most recent call last):
      File "<site-packages>/anyio/streams/memory.py", line 98, in receive
        return self.receive_nowait()
               ^^^^^^^^^^^^^^^^^^^^^
    anyio.WouldBlock

    During handling of the above exception, another exception occurred:

    Traceback (most recent call last):
      File "<webui>/modules/options.py", line 151, in set
        option = self.data_labels[key]
                 ~~~~~~~~~~~~~~~~^^^^^
    KeyError: 'no'

---
"""
SDNEXT = """\
12:00:00-123456 ERROR    HTTP API: RuntimeError
<webui>/modules/processing_diffusers.py:99 in simulated

    98 │ try:
  ❱ 99 │     output = shared.sd_model(**args)
   100 │ except Exception as e:
RuntimeError: it broke
12:00:00-123456 WARNING  Processing: no results
"""
BOXED = """\
╭───────────────── Traceback (most recent call last) ─────────────────╮
│ /webui/modules/x.py:3 in f                                          │
│                                                                     │
│ ❱ 3     raise ValueError("odd")                                     │
╰─────────────────────────────────────────────────────────────────────╯
ValueError: odd
"""


def lines(text: str) -> list[str]:
    return [line.text for line in split_lines(text)]


def refused(kind: str, said: str) -> WebUIServerError:
    return WebUIServerError(f"500: {kind}: {said}", status=500, kind=kind, said=said)


@table(
    ("text", "exception", "frame"),
    [
        (
            FORGE,
            "AssertionError",
            "<webui>/modules/processing.py, line 812, in process_images_inner: "
            "assert p.prompt is not None",
        ),
        (A1111, "KeyError: 'no'", "options.py, line 151, in set: option = self.data_labels[key]"),
        (SDNEXT, "RuntimeError: it broke", "line 99, in simulated: output = shared.sd_model"),
        (BOXED, "ValueError: odd", "/webui/modules/x.py, line 3, in f"),
    ],
    ids=["Forge", "AUTOMATIC1111", "SD.Next", "a box"],
)
def test_the_exception_and_the_line_that_raised_it_are_found(
    text: str, exception: str, frame: str
) -> None:
    found = tracebacks(lines(text))[-1]
    assert found.is_whole
    assert found.exception == exception
    assert frame in str(found.frame)


@table("text", [FORGE, A1111, SDNEXT, BOXED])
def test_none_is_whole_before_its_last_line_has_its_end(text: str) -> None:
    last = lines(text)
    exception = tracebacks(last)[-1].exception
    end = text.index(exception, text.rindex("❱" if "❱" in text else "Traceback"))
    for whole_lines in {text[:cut].rpartition("\n")[0] for cut in range(end)}:
        assert exception not in [t.exception for t in tracebacks(lines(whole_lines))]


def test_another_threads_line_in_the_middle_of_one_is_no_exception() -> None:
    torn = FORGE.replace("AssertionError\n", 'INFO:     127.0.0.1:5 - "GET /x HTTP/1.1" 200 OK\n')
    assert not any(found.is_whole for found in tracebacks(lines(torn)))


def test_the_reply_names_the_last_exception_of_a_chain() -> None:
    found = own(lines(A1111), refused("KeyError", "'no'"))
    assert found is not None
    assert found.exception == "KeyError: 'no'"
    assert own(lines(A1111[: A1111.index("KeyError: 'no'\n")]), refused("KeyError", "'no'")) is None


def test_the_exception_of_another_reply_is_not_taken_for_this_ones() -> None:
    assert own(lines(FORGE), refused("RuntimeError", "it broke")) is None
    assert own(lines(SDNEXT), refused("RuntimeError", "another")) is None
    assert own(lines(SDNEXT), refused("RuntimeError", "")) is None
    assert own(lines(FORGE), refused("AssertionError", "")) is not None


def test_a_reply_that_names_no_class_is_explained_by_the_last_one() -> None:
    plain = error_for(500, b"Internal Server Error", "txt2img", "txt2img")
    assert own(lines(FORGE), plain) is not None
    assert own(lines(FORGE), WebUIReplyError("no image", status=200)) is not None


def test_it_is_awaited_after_a_500_and_after_a_200_that_is_no_success() -> None:
    assert may_follow(refused("RuntimeError", ""))
    assert may_follow(WebUIReplyError("no image", status=200))
    assert not may_follow(WebUIBusyError("busy", status=503))


def test_the_late_one_of_an_earlier_call_is_left_out_once() -> None:
    late = Raised("AssertionError", "", True)
    kept, owed = without(lines(FORGE + SDNEXT), [late])
    assert kept == (lines(FORGE)[0], *lines(SDNEXT))
    assert not owed
    kept, owed = without(lines(FORGE + FORGE), [late])
    assert [line for line in kept if line == "AssertionError"] == ["AssertionError"]
    assert without(lines(SDNEXT), [late]) == (tuple(lines(SDNEXT)), [late])


def test_the_rest_of_one_that_started_in_an_earlier_calls_log_is_left_out() -> None:
    rest = FORGE[FORGE.index("process_images_inner") :]
    kept, owed = without(lines(rest + SDNEXT), [Raised("AssertionError", "", True)])
    assert kept == tuple(lines(SDNEXT))
    assert not owed


def test_an_earlier_call_without_a_class_is_owed_only_what_the_server_prints() -> None:
    owed = [Raised("", "Internal Server Error", True)]
    assert without(lines(SDNEXT), owed)[1] == owed
    assert not without(lines(FORGE), owed)[1]


def test_a_webuis_own_refusal_is_never_printed_so_none_is_owed_for_it() -> None:
    detail = error_for(500, b'{"detail": "Invalid encoded image"}', "txt2img", "txt2img")
    a1111 = error_for(500, b'{"error": "HTTPException", "detail": "x"}', "txt2img", "txt2img")
    assert not raised_by(detail).is_printed
    assert not raised_by(a1111).is_printed
    assert raised_by(refused("AssertionError", "")).is_printed
