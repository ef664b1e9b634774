"""What a message says."""

from __future__ import annotations

from sdwatch.policy.notify.message import (
    Counts,
    LaneBack,
    LaneHold,
    Message,
    json_of,
    text_of,
    title_of,
)
from sdwatch.policy.report.notice import Notice, Topic


def failed(number: int, source: str = "castle.yaml") -> Notice:
    run_id = f"run-{number}"
    return Notice(f"{run_id}: failed: {source} (out of memory)", Topic.FAILED, run_id)


NIGHT = Message(
    Counts(done=40, failed=37, cancelled=1),
    failures=35,
    named=tuple(failed(number) for number in range(3)),
    holds=(LaneHold("forge", "forge: on hold: GPU not found", 4),),
    back=(LaneBack("neo", 600.0),),
    emptied=True,
)


def test_a_night_in_one_message() -> None:
    assert title_of(NIGHT, "render1") == (
        "sdwatch on render1: 35 jobs failed, forge on hold, neo back again, "
        "queue empty (40 done, 37 failed, 1 cancelled)"
    )
    assert text_of(NIGHT).splitlines() == [
        "forge: on hold: GPU not found (4 times since the last message)",
        "neo: works again, after 10 min",
        "run-0: failed: castle.yaml (out of memory)",
        "run-1: failed: castle.yaml (out of memory)",
        "run-2: failed: castle.yaml (out of memory)",
        "32 jobs failed besides; `sdwatch list` has them all",
        "the queue is empty: 40 done, 37 failed, 1 cancelled",
    ]


def test_programs_get_values() -> None:
    body = json_of(NIGHT, "render1")
    assert body["about"] == ["failed", "on_hold", "back", "queue_empty"]
    assert (body["new_failures"], body["done"], body["failed"]) == (35, 40, 37)
    assert (body["on_hold"], body["back"]) == (["forge"], ["neo"])


def test_one_failure_is_no_plural() -> None:
    message = Message(Counts(failed=1), failures=1, named=(failed(1),))
    assert title_of(message, "x") == "sdwatch on x: 1 job failed"
    assert text_of(message).splitlines()[-1] == "so far: 0 done, 1 failed"


def test_a_prompt_is_only_there_if_it_is_given() -> None:
    message = Message(Counts(failed=1), failures=1, named=(failed(1),))
    assert "prompt" not in text_of(message)
    text = text_of(message, {"run-1": "a castle\nat " + "dusk " * 500})
    assert "  prompt: a castle at dusk" in text
    assert len(text) < 500


def test_the_name_of_a_job_file_calls_nobody_and_commands_no_terminal() -> None:
    odd = "@everyone <!channel> <@U123>\x1b[2J\u202e.yaml"
    message = Message(Counts(failed=1), failures=1, named=(failed(1, odd),))
    text = text_of(message)
    for bad in ("@everyone", "<!channel>", "<@", "\x1b", "\u202e"):
        assert bad not in text
    assert "everyone" in text


def test_a_very_long_name_is_cut() -> None:
    message = Message(failures=3, named=tuple(failed(n, "x" * 5000) for n in range(3)))
    assert len(text_of(message)) < 1500
