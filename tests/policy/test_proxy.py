"""Which replies prove that a proxy gives calls up after a fixed time."""

from __future__ import annotations

from sdwatch.policy.failure.recovery import limit_in_words, may_still_generate, time_limit
from tests.support.tables import table


@table(
    ("status", "seconds", "earlier", "limit"),
    [
        (504, 60.0, [], None),
        (504, 60.02, [(504, 60.0)], 60.0),
        (524, 100.4, [(524, 100.1)], 100.1),
        (502, 30.0, [(502, 30.2)], 30.0),
        (503, 30.0, [(503, 30.0)], 30.0),
        (504, 60.0, [(524, 60.5)], 60.0),  # two proxies, or one that changed its mind
        (504, 2.1, [(504, 2.0)], 2.0),
        (504, 310.0, [(504, 300.0)], 300.0),  # 5 %
        (504, 330.0, [(504, 300.0)], None),
        (504, 5.0, [(504, 2.0)], None),
        (504, 60.0, [(504, 5.0), (504, 60.1)], 60.0),  # any two of them
        (504, 60.0, [(500, 60.0)], None),
        (500, 60.0, [(504, 60.0)], None),
        (429, 60.0, [(429, 60.0)], None),
        (None, 60.0, [(None, 60.0)], None),
        (503, 0.01, [(503, 0.01)], None),  # refused at once: a queue that is full
        (502, 0.02, [(502, 0.01)], None),  # nobody listens behind it
    ],
)
def test_two_attempts_that_end_after_equal_times_prove_a_limit(
    status: int | None,
    seconds: float,
    earlier: list[tuple[int | None, float]],
    limit: float | None,
) -> None:
    assert time_limit(status, seconds, earlier) == limit


def test_only_what_took_a_while_may_still_be_generated() -> None:
    assert may_still_generate(504, 60.0)
    assert not may_still_generate(503, 0.01)
    assert not may_still_generate(500, 60.0)
    assert not may_still_generate(None, 60.0)


@table(("seconds", "words"), [(60.02, "60 s"), (100.6, "101 s"), (2.003, "2 s"), (1.52, "1.5 s")])
def test_the_limit_reads_as_in_a_proxys_config(seconds: float, words: str) -> None:
    assert limit_in_words(seconds) == words
