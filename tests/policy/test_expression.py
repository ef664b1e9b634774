"""Expressions that may take forever end in a user's file; sdwatch itself uses none of them."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sdwatch
from sdwatch.known_signatures import builtin_signatures
from sdwatch.policy.failure.expression import BuiltinExpression, OwnExpression
from sdwatch.policy.failure.fallbacks import _COMPILED
from tests.support.expression import is_slow
from tests.support.tables import table

RECORDED = Path(__file__).parent.parent

FOR_EVER = (
    r"(a+)+b", r"(a|aa)+$", r"((a+))+$", r"(aa?)+$", r"(\w|\d)+ERROR", r"(?:\w\d|\d\w)+x",
    r"(x|.)+y", r"(.|\n)+x", r"(?:.|\s)*?ERROR", r"(?:a|b|ab)+c", r"(?i)(a|A)+$", r"([a-z]+)*x",
    r"(\w+\s*)+$", r"(?:(?:a+)b?)+$", r"(?=(a+)+b)c", r"(?>(a+)+)b", r"(?:(a+)+b)?x",
    r"(a{1,50}){1,50}",
    r"(a?){200}a{200}", "(.*)" * 6, r"a.*b.*c.*d", r"\d+\d+\d+x", r"\w*\s*\w*\s*\w*x",
    r"[^x]*a[^y]*b[^z]*c", "(x(y" * 20 + "z" + ")*)*" * 20,
)  # fmt: skip
QUICK = (
    r"CUDA error: \d+ at \w+\.py", r"ERROR.*LoRA.*failed", r"(?:\w+\.)*Error", r"(\w+\s)+x",
    r"\d+\.\d+\.\d+ .*x", r"(foo|bar|baz)+", r"[\w_]+x", r"a{3}b?c?d?", r"(ab?c)+", r"(?:-?\w+ )*x",
    r"flux (capacitor|drive) \S+ \S+ \S+ \S+ failed", r"^(INFO|WARN) .*$", r"(\d{1,3}\.){3}\d{1,3}",
    r"((x)*y)*z", r"(?:a++b)+", r"(请按|请勿按)任意键", r"(?:(?:ab|cd)e|f)+", r"",
)  # fmt: skip


@table("text", FOR_EVER)
def test_an_expression_that_may_take_forever_is_slow(text: str) -> None:
    re.compile(text)
    assert is_slow(text)


@table("text", QUICK)
def test_what_cannot_is_not(text: str) -> None:
    assert not is_slow(text)


@pytest.mark.parametrize("text", ["(a+)+$", "(a|aa)+$", r"(\w+\s*)+$"])
def test_a_users_expression_that_would_take_forever_ends_and_is_given_up(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("sdwatch.policy.failure.expression.LIMIT_S", 0.02)
    given_up: list[str] = []
    own = OwnExpression(text, given_up.append)
    evil = "a" * 5000 + "!"
    assert own.search(evil) is None
    assert given_up == [text]
    assert own.search("a") is None, "it is asked again"
    assert given_up == [text]


def test_other_threads_run_while_an_expression_is_searched_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sdwatch.policy.failure.expression.LIMIT_S", 0.1)
    given_up: list[str] = []
    own = OwnExpression("(a+)+$", given_up.append)
    searching = threading.Thread(target=own.search, args=("a" * 5000 + "!",))
    searching.start()
    turns = 0
    while searching.is_alive():
        turns += 1
    assert given_up == ["(a+)+$"]
    assert turns > 1000


@table("text", ["(", "a{5,2}", r"(?P<x>a)(?P=y)", "(" * 4000 + ")" * 4000])
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expression|groups"):
        OwnExpression(text, pytest.fail)


@pytest.mark.slow
def test_the_built_in_expressions_find_the_same_as_a_users() -> None:
    """Whoever copies one into a file of his own gets the same."""
    printed = [path for path in RECORDED.rglob("*") if path.suffix in (".log", ".txt", ".yaml")]
    text = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in printed)
    texts = sorted(set(expressions_of_signatures()))
    assert len(texts) > 400
    for each in texts:
        ours, own = re.compile(each, re.MULTILINE), OwnExpression(each, pytest.fail)
        one, other = ours.search(text), own.search(text)
        assert (one and one.span()) == (other and other.span()), each


# Two repeats in a row that can take the same text; what keeps their work within the text's length.
TWO_IN_A_ROW = {
    r"(\b(?:(?:curl|wget)": "the first is bounded; the last always fits",
    r"(\b(?:negative[ _])?prompts?": "the second takes all, up to the line's end, and always fits",
    r"(.*_)?(dirs?|directory|paths?": "the last takes all that is left, and always fits",
    r"(?P<start>Progress)\s.{0,400}?": "the first is bounded; the last always fits",
    r"(?:INFO:\s+)?\S{1,60} - ": "the first is bounded",
    r"\bERROR\b[ |\w.:-]{0,120}?": "the first is bounded; the last always fits",
    r"(?:\S.*\s)?API (?:\S+ )*?": "it is tried once, from a line's start, which is bounded",
}


_ONLY_ON = {"spool.watch_linux": "linux"} | dict.fromkeys(
    (
        "service.windows_service",
        "service.windows_control",
        "service.windows_host",
        "service.windows_registry",
    ),
    "win32",
)


def own_expressions() -> Iterator[str]:
    """Each that a module keeps, and each of the signatures."""
    for module in pkgutil.walk_packages(sdwatch.__path__, "sdwatch."):
        name = module.name.removeprefix("sdwatch.")
        if sys.platform not in _ONLY_ON.get(name, sys.platform):
            continue  # it cannot be imported here
        if not name.startswith(("simulator", "system", "__main__")):
            yield from expressions_in(list(vars(importlib.import_module(module.name)).values()))
    yield from expressions_of_signatures()


def expressions_of_signatures() -> Iterator[str]:
    for signature in builtin_signatures():
        for way in signature.when:
            yield from expressions_in([way.kind, way.said, way.log, way.also, way.printed])


def expressions_in(values: list[Any] | tuple[Any, ...]) -> Iterator[str]:
    for value in values:
        if isinstance(value, re.Pattern | BuiltinExpression):
            text = value.pattern
            yield text if isinstance(text, str) else text.decode("latin-1")
        elif isinstance(value, tuple):
            yield from expressions_in(value)


@pytest.mark.slow
def test_no_expression_of_sdwatch_has_two_repeats_in_a_row_that_take_the_same_text() -> None:
    texts = sorted(set(own_expressions()))
    assert len(texts) > 150
    slow = [text for text in texts if is_slow(text, 1)]
    assert [text for text in slow if not text.startswith(tuple(TWO_IN_A_ROW))] == []
    for start in TWO_IN_A_ROW:
        assert any(text.startswith(start) for text in slow), f"{start} is none any more"


def test_signs_of_a_fallback_are_looked_for_without_going_back() -> None:
    """No part repeats without an end, so one look along the line is all the work."""
    for _, ways in _COMPILED:
        for parts in ways:
            for part in parts:
                assert not re.search(r"(?<!\\)[*+]|\{\d+,\}", part.pattern), part.pattern
