"""Forge Neo wraps its log lines at the terminal's width; they are read unwrapped."""

from __future__ import annotations

import pytest

from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.diagnosis import diagnose
from sdwatch.policy.failure.facts import Diagnosis, FailureFacts
from sdwatch.simulator.forge_neo import drawn
from sdwatch.webui.http.reply import error_for
from sdwatch.webui.log.log_lines import split_lines

MEMORY = "Encountered Out of Memory during Sampling; Unloading all Models..."
LONG = f"{'x' * 300} is a word that no terminal holds; {MEMORY}"
WIDTHS = range(36, 251)
BARE = error_for(500, b"Internal Server Error", "txt2img", "txt2img")
AFTER = 'INFO:     127.0.0.1:5 - "POST /sdapi/v1/txt2img HTTP/1.1" 500 Internal Server Error'


def lines(text: str) -> list[str]:
    return [line.text for line in split_lines(text)]


@pytest.mark.parametrize("message", [MEMORY, LONG], ids=["words", "a torn word"])
def test_a_message_is_one_line_at_any_width_and_what_follows_is_its_own(message: str) -> None:
    for width in WIDTHS[8:]:  # in a column that holds the longest of its words
        text = f"before\n{drawn(message, 'main_thread.py', 'ERROR', width)}\n{AFTER}\n"
        read = lines(text)
        assert read == ["before", f"{message} main_thread.py :: ERROR", AFTER], width


def test_two_messages_one_after_the_other_stay_two() -> None:
    for width in WIDTHS:
        one, two = (drawn(MEMORY, "a.py", level, width) for level in ("ERROR", "INFO"))
        assert lines(f"{one}\n{two}\n") == [f"{MEMORY} a.py :: ERROR", f"{MEMORY} a.py :: INFO"]


def test_its_word_for_no_memory_is_known_at_any_width() -> None:
    for width in WIDTHS:
        log = tuple(lines(drawn(MEMORY, "main_thread.py", "ERROR", width) + "\n"))
        explanation = diagnose(FailureFacts(BARE, log=log), builtin_signatures())
        assert explanation.diagnosis is Diagnosis.OUT_OF_MEMORY, width
