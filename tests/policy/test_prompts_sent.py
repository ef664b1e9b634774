from __future__ import annotations

from typing import Any

from sdwatch.policy.failure.prompts_sent import SentPrompt, unseen_prompts
from tests.support.tables import table

Records = list[dict[str, Any]]


def started(prompt: str, call: str = "1.1") -> dict[str, Any]:
    return {"event": "call_started", "call": call, "prompt_id": prompt}


def failed(error: str, call: str = "1.1") -> dict[str, Any]:
    return {"event": "call_failed", "call": call, "error": error}


GIVEN_UP = {"event": "call_given_up", "call": "1.1"}
OPEN, SEEN_END = SentPrompt("a"), SentPrompt("a", is_open=False)


@table(
    ("records", "unseen"),
    [
        ([], ()),
        ([{"event": "call_started", "call": "1.1"}], ()),
        ([started("a")], (OPEN,)),
        ([started("a", "1.2")], ()),
        ([started("a"), GIVEN_UP], (SEEN_END,)),
        ([started("a"), failed("WebUIUnreachableError")], (SEEN_END,)),
        ([started("a"), failed("WebUIStuckError")], (SEEN_END,)),
        ([started("a"), failed("WebUIServerError")], ()),
        ([started("a"), failed("WebUIReplyError")], ()),
        ([started("a"), failed("WebUIReplyError", "1.2")], (OPEN,)),
        ([started("a"), started("b")], (SentPrompt("b"), OPEN)),
        ([started("b"), failed("WebUIServerError"), started("a")], (OPEN,)),
        ([started("b"), {"event": "job_changed"}, started("a")], (OPEN,)),
        ([started("a"), GIVEN_UP, failed("WebUIServerError")], (SEEN_END,)),
    ],
)
def test_a_prompt_is_looked_for_until_somebody_has_seen_its_result(
    records: Records, unseen: tuple[SentPrompt, ...]
) -> None:
    assert unseen_prompts(records, "1.1") == unseen
