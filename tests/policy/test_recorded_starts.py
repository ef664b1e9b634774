"""What a WebUI prints while it starts well explains no failure, neither of a start nor of a call.

The logs were recorded with Forge dfdcbab6, AUTOMATIC1111 v1.10.1 and SD.Next 058a7f0c, all without
a GPU: they are full of errors that mean nothing.
"""

from __future__ import annotations

from pathlib import Path

from sdwatch.errors import WebUIServerError
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.facts import FailureFacts
from sdwatch.policy.failure.matching import FailedStart, ends_start, match, why_not_started
from sdwatch.policy.failure.noise import decisive, without_noise
from tests.support.tables import table

BUILTIN = builtin_signatures()
FACTS = Path(__file__).parents[1] / "facts"
RECORDED = sorted(FACTS.glob("*/startup*.log"))
DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"
HARMLESS = [
    # Forge dfdcbab6 with a PyTorch for CUDA
    [f"Warning: caught exception '{DRIVER}', memory monitor disabled"],
    # SD.Next, in each call; in one line, and wrapped at 80 columns
    [f"08:03:12-1 DEBUG    Processed: memory={{'gpu': {{'error': '{DRIVER}', 'swap': 0}}"],
    [
        "08:03:12-123456 INFO     Processed: images=1 its=2.30 time=0.87 memory={'ram':",
        "                         {'total': 23.54}, 'gpu': {'total': 0, 'error':        ",
        f"                         '{DRIVER}'",
    ],
    # PyTorch, when it is asked whether there is a GPU
    [f"torch/cuda/__init__.py:107: UserWarning: CUDA initialization: {DRIVER}"],
    # AUTOMATIC1111 with Python 3.11, and with an extension that it does without
    ["INCOMPATIBLE PYTHON VERSION", "This program is tested with 3.10.6 Python, but ..."],
    [
        "*** Error loading script: wd14.py",
        "    Traceback (most recent call last):",
        '      File "/srv/webui/modules/scripts.py", line 515, in load_scripts',
        "    ModuleNotFoundError: No module named 'onnxruntime'",
        "",
        "---",
    ],
    # AUTOMATIC1111 v1.8 and later: it continues with default settings
    [
        "*** Could not load settings",
        '*** The config file "/srv/webui/config.json" is likely corrupted',
        '*** It has been moved to the "tmp/config.json"',
        "    Traceback (most recent call last):",
        "    json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    ],
]  # fmt: skip


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def named(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def test_there_are_recorded_starts_of_the_usual_kinds() -> None:
    assert {path.parent.name for path in RECORDED} >= {"forge", "a1111", "sdnext"}


@table("path", RECORDED, ids=named)
def test_no_line_of_a_good_start_ends_one(path: Path) -> None:
    assert [line for line in lines_of(path) if ends_start(line, BUILTIN)] == []


@table("path", RECORDED, ids=named)
def test_a_good_start_that_ends_after_any_of_its_lines_has_no_known_cause(path: Path) -> None:
    lines, codes = lines_of(path), (1, 0, 3, None)
    found = {
        number: why.name
        for number in range(0, len(lines) + 1, 3)
        if (why := why_not_started(FailedStart((lines[:number],), codes[number % 4]), BUILTIN))
    }
    assert found == {}


@table("path", RECORDED, ids=named)
def test_no_line_of_a_good_start_explains_a_call(path: Path) -> None:
    error = WebUIServerError("x", status=500)
    assert match(FailureFacts(error, log=tuple(lines_of(path))), BUILTIN) is None


@table("lines", HARMLESS, ids=lambda lines: lines[0][:40])
@table("code", [1, None])
def test_a_harmless_line_explains_no_start(lines: list[str], code: int | None) -> None:
    assert not any(ends_start(line, BUILTIN) for line in lines)
    assert why_not_started(FailedStart((["Python 3.10", *lines, "x"],), code), BUILTIN) is None


@table("lines", HARMLESS[:4], ids=lambda lines: lines[0][:40])
def test_a_harmless_line_explains_no_call(lines: list[str]) -> None:
    error = WebUIServerError("x", status=500)
    assert match(FailureFacts(error, log=tuple(lines)), BUILTIN) is None
    died = FailureFacts(error, process_gone=True, exit_code=1, log=tuple(lines))
    assert match(died, BUILTIN) is None


TRACEBACK = [
    "Traceback (most recent call last):",
    '  File "/srv/webui/launch.py", line 48, in <module>',
    "    main()",
]


def test_a_traceback_that_the_start_survived_is_no_cause() -> None:
    caught = [*TRACEBACK, "ModuleNotFoundError: No module named 'xformers'"]
    went_on = [f"step {number}" for number in range(7)]
    assert why_not_started(FailedStart(([*caught, *went_on],), 1), BUILTIN) is None
    known = why_not_started(FailedStart(([*went_on, *caught],), 1), BUILTIN)
    assert known is not None
    assert known.name == "broken package"


def test_the_last_traceback_is_the_cause_and_not_one_before_it() -> None:
    caught = [*TRACEBACK, "ModuleNotFoundError: No module named 'xformers'"]
    last = [*TRACEBACK, "RuntimeError: nobody knows this one"]
    assert why_not_started(FailedStart(([*caught, "x", *last],), 1), BUILTIN) is None


def test_a_traceback_that_another_led_to_counts_with_it() -> None:
    first = [*TRACEBACK, "ImportError: Bad git executable."]
    chain = "The above exception was the direct cause of the following exception:"
    last = [*TRACEBACK, "RuntimeError: it cannot go on"]
    known = why_not_started(FailedStart(([*first, "", chain, "", *last],), 1), BUILTIN)
    assert known is not None
    assert known.name == "git not found"


def test_the_long_output_of_a_command_that_failed_belongs_to_its_error() -> None:
    shown = [f"Collecting package-{number}" for number in range(60)]
    failed = [*TRACEBACK, "RuntimeError: Couldn't install torch.", "Command: pip", "Error code: 1"]
    known = why_not_started(FailedStart(([*failed, *shown],), 1), BUILTIN)
    assert known is not None
    assert known.name == "broken package"


def test_what_is_left_out_leaves_the_numbers_of_lines_as_they_are() -> None:
    lines = ["a", *HARMLESS[2], "b"]
    assert without_noise(lines) == ["a", lines[1], "", "", "b"]


def test_only_the_end_of_a_start_without_a_traceback_counts() -> None:
    assert decisive(["address already in use", *map(str, range(40))]) == list(map(str, range(40)))
