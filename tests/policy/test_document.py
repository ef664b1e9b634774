"""Bytes of any kind end in nodes that know their place, or in an error that says where and why."""

from __future__ import annotations

import tracemalloc

import pytest

from sdwatch.errors import FileProblems
from sdwatch.policy.job.text.document import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_NODES,
    Mapping,
    Scalar,
    Sequence,
    parse_document,
    too_large,
    unique,
)
from sdwatch.policy.naming import shown
from tests.support.tables import table


def problems_of(data: bytes) -> list[tuple[int, int, str]]:
    with pytest.raises(FileProblems) as caught:
        parse_document(data, "job.yaml")
    return [(p.line, p.column, p.message) for p in caught.value.problems]


UNREADABLE = {
    "empty": (b"", 1, 1, "the file is empty"),
    "blank": (b" \n\n", 1, 1, "the file is empty"),
    "all zeros": (b"\x00" * 9, 1, 1, "only zero bytes; it was not written completely"),
    "only comments": (b"# nothing\n", 1, 1, "only comments"),
    "PNG": (b"\x89PNG\r\n\x1a\n\x00\x00", 1, 1, "not a text file (looks like a PNG picture)"),
    "JPEG": (b"\xff\xd8\xff\xe0\x00\x10JFIF", 1, 1, "looks like a JPEG picture"),
    "zeros": (b"prompt: a\x00b", 1, 1, "it has zero bytes"),
    "random bytes": (b"a\x01\x02\xfe\xfd", 1, 4, "this is not a text file"),
    "control character": (b"prompt: a\nsteps: \x1b2\n", 2, 8, "control character (U+001B)"),
    "Latin-1": ("prompt: a\nname: café\n".encode("latin-1"), 2, 10, 'in Latin-1 it is "é"'),
    "Latin-1 at the end": (
        b"prompt: Schlo\xdf",
        1,
        14,
        'in Latin-1 it is "ß"',
    ),
    "cut off in a character": (b"prompt: Schlo\xc3", 1, 14, "it may also be cut off here"),
    "Latin-1 after a BOM": (b"\xef\xbb\xbfname: caf\xe9\n", 1, 10, "save the file as UTF-8"),
    "UTF-16": ("prompt: a".encode("utf-16"), 1, 1, "save the file as UTF-8"),
    "UTF-16 without BOM": ("prompt: a".encode("utf-16-le"), 1, 1, "save it as UTF-8"),
    "tab": (b"stages:\n- txt2img:\n\tprompt: a\n", 3, 1, "line 3 starts with a tab"),
    "tab behind spaces": (b"a:\n  \t- b\n  c\n", 2, 3, "line 2 starts with a tab"),
    "colon in text": (b"prompt: a castle: by night\n", 1, 17, "in quotes"),
    "no colon": (b"prompt a castle\nsteps: 3\n", 2, 6, "each with its own colon"),
    "quote left open": (b'prompt: "a\nsteps: 3\n', 1, 9, "opened here and never closed"),
    "quote in quotes": (b"prompt: 'it's a castle'\n", 1, 13, "follows a closing quote"),
    "text that starts with [": (b"prompt: [a:b:0.5], c\n", 1, 18, "starts with [ or {"),
    "text that begins with @": (b"prompt: @artist\n", 1, 9, 'cannot start with "@"'),
    "backslash": (b'prompt: "a \\(b\\)"\n', 1, 12, "backslash"),
    "anchor": (b"prompt: &a castle\n", 1, 9, "starts a YAML anchor"),
    "alias": (b"prompt: *castle*\n", 1, 9, "starts a YAML alias"),
    "tag": (b"prompt: !python/name:os.system x\n", 1, 9, "starts a YAML tag"),
    "two documents": (b"prompt: a\n---\nprompt: b\n", 2, 1, "use two files"),
    "a list as a key": (b"? [a]\n: b\n", 1, 3, "a key must be plain text"),
    "brackets": (b"[" * 100_000, 1, MAX_DEPTH + 1, "nested deeper than 32 levels"),
    "dashes": (b"- " * 100_000, 1, 2 * MAX_DEPTH + 1, "nested deeper than 32 levels"),
    "braces": (b"{" * 100_000, 1, MAX_DEPTH + 1, "nested deeper than 32 levels"),
}


@table(("data", "line", "column", "says"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_syntax_error_is_reported_with_its_place(
    data: bytes, line: int, column: int, says: str
) -> None:
    (first, *_) = problems_of(data)
    if "nested" not in says:  # PyYAML from 6.0.4 on reads ahead, and has a limit of its own
        assert first[:2] == (line, column)
    assert first[:2] >= (line, column)
    assert says in first[2]


@pytest.mark.slow
def test_too_many_values_are_refused_where_they_become_too_many() -> None:
    ((line, _, message),) = problems_of(b"- a\n" * (MAX_NODES + 5))
    assert line == MAX_NODES  # the list is a value too
    assert "more than 20,000 values" in message


def test_a_file_of_200_mb_is_refused_by_its_size_alone() -> None:
    problem = too_large(200_000_000)
    assert problem is not None
    assert "200,000,000 bytes" in problem.message
    assert too_large(MAX_BYTES) is None
    assert "at most 1,000,000" in problems_of(b"a" * (MAX_BYTES + 1))[0][2]


def test_all_anchors_and_aliases_are_reported_at_once() -> None:
    found = problems_of(b"a: &x [1]\nb: *x\nc: !!int 3\n")
    assert [place[:2] for place in found] == [(1, 4), (2, 4), (3, 4)]


def alias_bomb() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    return "\n".join(lines).encode()


@pytest.mark.slow
@table(
    "data",
    [
        b"[" * 900_000,
        b"{a: " * 200_000,
        b"- " * 450_000,
        alias_bomb(),
        b"[" + b"[]," * 300_000,
        b"? " * 450_000,
        b"prompt: " + b"a " * 490_000,
    ],
    ids=["brackets", "braces", "dashes", "aliases", "many", "questions", "long"],
)
def test_memory_stays_flat_whatever_is_parsed(data: bytes) -> None:
    tracemalloc.start()
    try:
        parse_document(data, "bomb.yaml")
    except FileProblems:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 20_000_000


@table(
    "data",
    [
        "prompt: é\nsteps: 3\n".encode(),
        "\ufeffprompt: é\nsteps: 3\n".encode(),
        "prompt: é\r\nsteps: 3\r\n".encode(),
        "\ufeffprompt: é\r\nsteps: 3".encode(),
    ],
    ids=["plain", "BOM", "CRLF", "BOM and CRLF"],
)
def test_bom_and_crlf_change_nothing(data: bytes) -> None:
    assert parse_document(data, "job.yaml") == Mapping(
        (
            (Scalar("prompt", 1, 1), Scalar("é", 1, 9)),
            (Scalar("steps", 2, 1), Scalar("3", 2, 8)),
        ),
        1,
        1,
    )


@table("text", ["no", "0123", "3:2", "1e3", "2026-11-23", "0x10", "yes", ".5"])
def test_scalars_stay_text(text: str) -> None:
    assert parse_document(text.encode(), "job.yaml") == Scalar(text, 1, 1)


def test_nothing_null_and_a_tilde_are_null_unless_quoted() -> None:
    node = parse_document(b"[null, ~, '', \"null\", nothing]", "job.yaml")
    assert isinstance(node, Sequence)
    assert [isinstance(n, Scalar) and n.is_null for n in node.items] == [
        *(True, True),
        *(False, False, False),
    ]


def test_what_a_comment_cuts_off_is_kept_beside_the_text() -> None:
    node = parse_document(b"a: 1girl, #tag\nb: '1girl, #tag'\nc: a#b\n", "job.yaml")
    assert isinstance(node, Mapping)
    assert [
        (value.text, value.comment) for _, value in node.entries if isinstance(value, Scalar)
    ] == [("1girl,", "#tag"), ("1girl, #tag", ""), ("a#b", "")]


@table(
    ("text", "expected"),
    [
        ("", '""'),
        ("promt", '"promt"'),
        ("a castle here", '"a castle here"'),
        ("x" * 24, f'"{"x" * 24}"'),
        ("x" * 25, "a text of 25 characters"),
        ("a castle by night", "a text of 17 characters"),
        ("x" * 5_000, "a text of 5,000 characters"),
    ],
)
def test_a_message_quotes_a_word_but_never_what_may_be_a_prompt(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_a_duplicate_key_is_reported_with_both_places() -> None:
    node = parse_document(b"a: 1\nb: 2\n'a': 3\n", "job.yaml")
    assert isinstance(node, Mapping)
    problems: list = []
    assert list(unique(node, problems)) == ["a", "b"]
    assert [p.located("f") for p in problems] == [
        'f:3:1: "a" is there twice, first in line 1; keep one'
    ]
