from __future__ import annotations

from sdwatch.policy.failure.sdnext_exceptions import LoggedException, asserted, logged_exception
from tests.support.tables import table

ARGS = str(
    {
        "prompt_embeds": "cpu:torch.float32:torch.Size([1, 77, 768])",
        "prompt": "it's a {cat} }} \" and a 'dog'",
        "callback_on_step_end": "<function diffusers_callback at 0x7f3c51d0a2a0>",
        "nested": {"a": {"b": "}"}},
        "filler": "x" * 2000,
    }
)
STAMP = "08:17:46-123456"
OOM = "CUDA out of memory. Tried to allocate 20.00 GiB. " + "See documentation. " * 20


@table(
    ("log", "broke"),
    [
        (["ERROR    Processing: RuntimeError"], LoggedException("RuntimeError")),
        ([f"ERROR    Processing: step=base args={ARGS} it broke", "ERROR    Processing: OSError"],
         LoggedException("OSError", "it broke")),
        ([f"ERROR    Processing: step=hires args={ARGS} {OOM.strip()}",
          "ERROR    Processing: OutOfMemoryError"],
         LoggedException("OutOfMemoryError", OOM.strip())),
        ([f"ERROR    Processing: args={ARGS} a value"], LoggedException("", "a value")),
        ([f"ERROR    Processing: args={ARGS} needs {{'a': 1}} here"],
         LoggedException("", "needs {'a': 1} here")),
        (["ERROR    VAE decode: no such layer"], LoggedException("", "no such layer")),
        (["ERROR    VAE decode: Sizes"], LoggedException("", "Sizes")),
        (["ERROR    Processing: step=base args={'a': 'b (… 900 characters left out …) c'} it broke",
          "ERROR    Processing: RuntimeError"], LoggedException("RuntimeError", "it broke")),
        (["ERROR    Processing: step=base args={'a': 'b (… 9 characters left out …) c, 'd': 1} it"],
         LoggedException("", "it")),
        (["ERROR    Processing: step=base args={'a': 1}", "ERROR    Processing: RuntimeError",
          "  ❱ 99 │     output = shared.sd_model(**args)", "torch.x.RuntimeError: from the end"],
         LoggedException("RuntimeError", "from the end")),
    ],
)  # fmt: skip
def test_the_class_and_the_text_of_an_exception_are_read_from_the_end(
    log: list[str], broke: LoggedException
) -> None:
    stamped = [f"{STAMP} {line}" if line.startswith("ERROR") else line for line in log]
    lines = ["INFO     before", *stamped, "WARNING  Processing: no results"]
    assert logged_exception(lines) == broke


def test_the_log_file_of_sdnext_says_the_same() -> None:
    lines = ["2026-11-28 | host | sd | ERROR | processing_diffusers | Processing: args={} no"]
    assert logged_exception(lines) == LoggedException("", "no")


@table(
    "log",
    [
        [],
        [f"{STAMP} WARNING  Processing: no results"],
        [f"{STAMP} ERROR    Decode: sample=[1, 3, 64, 64] invalid=12288"],
        [f"{STAMP} DEBUG    Processing: RuntimeError"],
        [f"{STAMP} ERROR    API: script=x available=[] not found"],
    ],
)
def test_other_lines_are_no_exception(log: list[str]) -> None:
    assert logged_exception(log) is None


def test_an_assertion_is_the_line_before_the_word_that_nothing_came_of_it() -> None:
    none = f"{STAMP} WARNING  Processing: no results"
    assert asserted([f"{STAMP} INFO     shapes differ", none]) == "shapes differ"
    assert asserted([f"{STAMP} INFO     shapes differ"]) == ""
    assert asserted([f"{STAMP} INFO     Base: pipeline=x", none]) == ""
    assert asserted([f"{STAMP} INFO     API user=None code=200", none]) == ""
    assert asserted(["2026 | host | sd | INFO | processing | shapes differ", none]) != ""


def test_a_text_that_is_too_long_is_not_shown_in_halves() -> None:
    broke = logged_exception([f"{STAMP} ERROR    VAE decode: {'word ' * 1000}"])
    assert broke is not None
    assert broke.words == "a text of 4,999 characters"
