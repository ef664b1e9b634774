"""Repeated lines are no progress; what differs in substance, or comes further, is."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from sdwatch.policy.failure.progress import News
from tests.support.tables import table

Line = Callable[[int], str]


def _uuid(n: int) -> str:
    of = random.Random(n)
    return "-".join("".join(of.choices("0123456789abcdef", k=k)) for k in (8, 4, 4, 4, 12))


def _id(n: int) -> str:
    return "".join(part for k in range(4) for part in (chr(97 + (n * 7 + k) % 26), str(n % 10)))


def _seconds(n: int) -> str:
    return f"{n // 60:02}:{n % 60:02}"


REPEATS: dict[str, Line] = {
    "the same line": lambda _: "waiting for the device",
    "another timestamp": lambda n: f"2026-11-28 01:{_seconds(n)},{n:03} WARNING: queue is full",
    "a heartbeat with a count": lambda n: f"heartbeat {n}",
    "a time in words": lambda n: f"still waiting after {n} s",
    "another date": lambda n: f"[11/28/2026 1:{_seconds(n)} PM] device not ready",
    "a retry": lambda n: f"Connection broken. Retrying {n}/1000 …",
    "an attempt out of many": lambda n: f"attempt {n} of 100000 failed",
    "another uuid": lambda n: f"polling task {_uuid(n)}",
    "another address in memory": lambda n: f"<Future at 0x{n * 7919 + 2**36:x} pending>",
    "another random id": lambda n: f"task({_id(n)}) is queued",
    "dots that grow": lambda n: "waiting" + "." * (n % 60),
    "a spinner": lambda n: "|/-\\"[n % 4] + " waiting",
    "two lines in turns": lambda n: f"tick {n}" if n % 2 else f"tock {n}",
    "memory that goes up and down": lambda n: f"GPU memory: {3000 + n % 5} MB in use",
    "a load that goes up and down": lambda n: f"GPU utilisation {90 + n % 7} %",
    "speed alone": lambda n: f"still downloading, {n / 7:.1f} MB/s",
}


@table("how", REPEATS)
def test_lines_that_repeat_each_other_are_no_news(how: str) -> None:
    news = News()
    for n in range(20):
        news.is_in_line(REPEATS[how](n))
    assert not any(news.is_in_line(REPEATS[how](n)) for n in range(20, 200))


NEWS: dict[str, Line] = {
    "bytes that grow": lambda n: f"Downloading: {n} MB",
    "bytes with decimals": lambda n: f"fetched {n / 10 + 1:.1f} GiB so far",
    "per cent": lambda n: f"loading weights: {n / 10 + 0.1:.1f} %",
    "n of m": lambda n: f"loading shard {n + 1} of 1000",
    "n/m": lambda n: f"tile {n + 1}/1000",
    "files by number of all": lambda n: f"model-{n + 1:05}-of-01000.safetensors",
    "other names": lambda n: "loading " + "".join(chr(97 + int(digit)) for digit in str(n)),
}


@table("how", NEWS)
def test_lines_that_come_further_or_differ_in_words_are_news(how: str) -> None:
    news = News()
    assert all(news.is_in_line(NEWS[how](n)) for n in range(200))


def test_a_bar_is_news_only_where_it_moves() -> None:
    news = News()
    assert [news.is_in_bar("", at) for at in ("0/20", "1/20", "1/20", "2/20")] == [
        True, True, False, True,
    ]  # fmt: skip
    assert news.is_in_bar("", "0/20"), "the next picture's"


def test_two_bars_that_a_timer_redraws_in_turns_do_not_move() -> None:
    news = News()
    news.is_in_bar("", "10/20")
    news.is_in_bar("", "1/4")
    assert not any(news.is_in_bar("", at) for _ in range(5) for at in ("10/20", "1/4"))


def test_what_is_drawn_over_moves_by_how_far_it_says_and_not_by_a_clock() -> None:
    news = News()
    assert all(news.is_in_drawn(f"{n}% [=====>   ] eta {400 - n} s") for n in range(50))
    assert news.is_in_drawn("0% [>   ] eta 400 s"), "the next file"
    news.is_in_drawn("waiting 1 s")
    assert not any(news.is_in_drawn(f"waiting {n} s") for n in range(50))


@pytest.mark.slow
def test_what_is_remembered_is_bounded() -> None:
    news = News()
    letters = "abcdefghijklmnopqrstuvwxyz"
    for a in letters:
        for b in letters:
            for c in letters:
                news.is_in_line(f"{a}{b}{c}")
    assert len(news._furthest) <= 2000
    assert not news.is_in_line("zzz")
