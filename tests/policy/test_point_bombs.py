"""Small files that ask for far too much: each is refused, quickly and within bounds of memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping

import pytest

from sdwatch.errors import JobError, SpoolError
from sdwatch.policy.job.job import parse_job
from tests.policy.jobs_of import from_outside, job_of, problems_of
from tests.support.tables import table

MOST_MEMORY = 60_000_000  # bytes; what is refused has a megabyte at most, and its parts

DIGITS = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"
MANY = ", ".join(map(str, range(2_000)))
BOMBS: Mapping[str, tuple[str, dict[str, bytes] | None, str]] = {
    "a matrix of 10^9 points": (
        "prompt: x\nmatrix: {" + ", ".join(f"n{i}: {DIGITS}" for i in range(9)) + "}\n",
        None,
        "2:9: a matrix has at most 1,000,000 places, not 1,000,000,000",
    ),
    "repeated 10^17 times": (
        "prompt: x\nrepeat: 100000000000000000\n",
        None,
        "2:1: this makes 100,000,000,000,000,000 points; max_points allows 10,000",
    ),
    "repeated 10^18 times": ("prompt: x\nrepeat: 1e18\n", None, "must be a whole number"),
    "a matrix of matrices": (
        f"prompt: ${{a}}${{b}}\nmatrix: {{a: [{MANY}], b: [{MANY}]}}\nrepeat: 1000\n",
        None,
        "a matrix has at most 1,000,000 places",
    ),
    "a megabyte of names": (
        "prompt: '" + "${x}" * 150_000 + "'\nmatrix: {x: [" + "y" * 300_000 + ", z]}\n",
        None,
        "1:9: with its values the stage has more than 1,000,000 characters",
    ),
    "a list of fields of names": (
        "prompt: a\nstyles: [" + "'${x}', " * 15_000 + "]\nvars: {x: " + "y" * 800_000 + "}\n",
        None,
        "with its values the stage has more than 1,000,000 characters",
    ),
    "a megabyte of names without a value": (
        "repeat: 2\nprompt: '" + "${x}${y}" * 110_000 + "'\n",
        None,
        "${x} has no value",
    ),
    "exclusions without end": (
        f"prompt: ${{a}}${{b}}\nmatrix:\n  a: [{', '.join(map(str, range(1000)))}]\n"
        f"  b: [{', '.join(map(str, range(1000)))}]\n"
        "  exclude: [" + ", ".join(f"{{a: {n}}}" for n in range(900)) + "]\n",
        None,
        "this makes 100,000 points; max_points allows 10,000",
    ),
    "exclusions of all": (
        f"prompt: ${{a}}${{b}}\nmatrix:\n  a: [{', '.join(['1'] * 1000)}]\n"
        f"  b: [{', '.join(['1'] * 1000)}]\n  exclude: [" + "{a: 1}, " * 3_000 + "]\n",
        None,
        "exclude leaves out more than 2,000,000 combinations",
    ),
    "thousands of names in a matrix": (
        "prompt: x\nmatrix: {" + ", ".join(f"n{i}: 1" for i in range(5_000)) + "}\n",
        None,
        "a matrix has at most 100 names, not 5,000",
    ),
    "an inclusion for each of thousands of names": (
        "prompt: x\nmatrix: {"
        + ", ".join(f"n{i}: 1" for i in range(90))
        + ", include: ["
        + "{n0: 1}, " * 5_000
        + "]}\n",
        None,
        "include needs a value for n1, n2",
    ),
    "an alias in a list": (
        "prompt: x\nmatrix: {a: &a [1, 2], b: [*a, *a]}\n",
        None,
        '"&" starts a YAML anchor',
    ),
    "a table with a million columns": (
        "prompts_from: p.csv\n",
        {"p.csv": b"c," * 1_000_000},
        "p.csv:1:1: a row has at most 100,000 characters",
    ),
    "a table with a thousand columns": (
        "prompts_from: p.csv\n",
        {"p.csv": b",".join(b"c%d" % i for i in range(1_000)) + b"\n"},
        "p.csv:1:1: a table has at most 100 columns, not 1,000",
    ),
    "a table whose rows never fit": (
        "prompts_from: p.csv\n",
        {"p.csv": b"a,b\n" + b"1\n" * 500_000},
        "p.csv:101:1: 1 cell below 2 names",
    ),
    "options without end": (
        "prompts_from: p.txt\n",
        {"p.txt": b"--steps 1 " * 600_000},
        "p.txt:1:1: a line has at most 100,000 characters",
    ),
    "prompts without end": (
        "prompts_from: p.txt\n",
        {"p.txt": b"x\n" * 3_000_000},
        "p.txt:10001:1: a list has at most 10,000 prompts",
    ),
    "blank lines without end": (
        "prompts_from: p.txt\n",
        {"p.txt": b"--steps\n" + b"\r\n" * 3_000_000 + b"--width\n"},
        "p.txt:1:1: --steps has no value",
    ),
    "a wildcard that becomes a text without end": (
        "prompt: __a__\n",
        {
            f"wildcards/{name}.txt": f"__{inner}__".encode() * 300
            for name, inner in zip("abcdefgh", "bcdefghi", strict=True)
        }
        | {"wildcards/i.txt": b"x" * 1000},
        "this may become a text of",
    ),
    "underscores without end": ("prompt: '" + "__a " * 240_000 + "'\nrepeat: 20000\n", None, "max"),
    "a pattern without end": (
        "for_each: '" + "*a" * 100_000 + "'\n",
        {"a.png": b""},
        "a pattern has at most 200 characters",
    ),
}


@pytest.mark.slow
@table("name", BOMBS)
def test_what_asks_for_too_much_is_refused(name: str) -> None:
    text, files, says = BOMBS[name]
    tracemalloc.start()
    try:
        message = problems_of(text, files)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert says in message
    assert len(message) < 200_000
    assert peak < MOST_MEMORY + 4 * sum(map(len, (files or {}).values()))


def test_a_file_of_gigabytes_is_not_read() -> None:
    def read(_: str) -> bytes:
        raise SpoolError("has more than 8 MB")

    with pytest.raises(JobError, match=r'job\.yaml:1:15: "p\.txt" has more than 8 MB'):
        parse_job(b"prompts_from: p.txt\n", "job.yaml", frozenset({"p.txt"}), read=read)


def test_defaults_of_a_megabyte_in_each_of_many_folders_are_read() -> None:
    outside = from_outside(*["# " + "x" * 900_000 + "\nsteps: 3\n"] * 3)
    assert job_of("prompt: x\n", outside=outside).stages[0].fields["steps"] == 3


def test_a_point_that_is_asked_for_twice_is_made_once() -> None:
    assert list(job_of("prompt: x\nrepeat: 3\npoints: [2, 2, 1]\n").points) == [2, 1]


def test_a_value_is_not_filled_again() -> None:
    says = problems_of("prompt: ${a}\nvars: {a: 'x ${b}', b: y}\n")
    assert says.startswith("job.yaml:2:11: a value is not filled again: write here what ${b}")
