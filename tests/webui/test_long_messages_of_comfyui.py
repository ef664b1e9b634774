"""What a node's exception says may be long: it is bounded before anybody reads it."""

from __future__ import annotations

import json

from sdwatch.policy.privacy.printable import MARK
from sdwatch.policy.workflow.prompt_result import read_entry
from sdwatch.webui.http.prompt_reply import failed
from tests.webui.comfy import HISTORIES


def failed_with(message: str) -> str:
    entry = json.loads(json.dumps(HISTORIES["error_raise"]))
    entry["status"]["messages"][-1][1]["exception_message"] = message
    return failed(read_entry(entry)).said


def test_what_an_exception_says_is_bounded_before_anybody_reads_it() -> None:
    """All that follows takes time for each character: one that shows a tensor had two megabytes,
    which cost half a minute. Of whatever length it is, as many characters are left of it."""
    lengths = {
        len(failed_with("CUDA out of memory" + " 0.125" * numbers + " the end"))
        for numbers in (20_000, 200_000, 1_000_000)
    }
    assert max(lengths) < 21_000
    assert max(lengths) - min(lengths) < 10, "only the number in the mark differs"
    said = failed_with("CUDA out of memory" + " 0.125" * 200_000 + " the end")
    assert said.startswith("CUDA out of memory")
    assert said.endswith("the end")
    assert MARK.search(said), "the redactor takes what touches it away"


def test_tips_are_cut_off_a_long_message_too() -> None:
    assert failed_with("x" * 100_000 + "\n\nTIPS: If the workflow worked before").endswith("x")
