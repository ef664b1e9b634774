"""Wildcards: which line stands for `__animal__`, and which files are refused."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sdwatch.errors import JobError, SpoolError
from sdwatch.policy.job.files.job_files import Outside
from sdwatch.policy.job.files.wildcards import LineFile
from sdwatch.policy.job.job import parse_job
from tests.policy.jobs_of import fields_of, from_outside, job_of, problems_of
from tests.support.tables import table


def files_of(**lines: str) -> Mapping[str, bytes]:
    return {f"wildcards/{name}.txt": text.encode() for name, text in lines.items()}


def test_a_line_may_have_wildcards_of_its_own() -> None:
    files = files_of(place="a __size__ house\na __size__ tree\n", size="big\nsmall\n")
    made = fields_of(job_of("prompt: at __place__\nrepeat: 40\n", files), "prompt")
    assert set(made) == {f"at a {s} {p}" for s in ("big", "small") for p in ("house", "tree")}


def test_names_of_one_letter_beside_each_other_are_two() -> None:
    files = files_of(a="x", b="y")
    assert fields_of(job_of("prompt: __a__ __b__ __a__\n", files), "prompt") == ["x y x"]


def test_wildcards_of_a_value_are_picked_too() -> None:
    files = {**files_of(color="red\n"), "p.txt": b"a __color__ cat\n"}
    assert fields_of(job_of("prompts_from: p.txt\n", files), "prompt") == ["a red cat"]
    text = "prompt: ${x}\nvars: {x: 'a __color__ owl'}\n"
    assert fields_of(job_of(text, files), "prompt") == ["a red owl"]


def test_the_job_folders_own_wildcards_come_before_those_of_the_config() -> None:
    outside = from_outside(wildcards={"color": b"blue", "size": b"big"})
    job = job_of("prompt: __size__ __color__ __other__\n", files_of(color="red"), outside=outside)
    assert fields_of(job, "prompt") == ["big red __other__"]
    single = job_of("prompt: __color__\n", None, outside=outside)
    assert fields_of(single, "prompt") == ["blue"]


def test_points_of_a_matrix_share_their_wildcards_and_lines_do_not() -> None:
    files = files_of(n="\n".join(map(str, range(1000))))
    made = fields_of(job_of("prompt: ${a} __n__\nmatrix: {a: [1, 2]}\n", files), "prompt")
    assert str(made[0])[2:] == str(made[1])[2:]
    made = fields_of(job_of("prompt: __n__\nrepeat: 9\n", files), "prompt")
    assert len(set(made)) > 5


@table(
    ("lines", "says"),
    [
        ({"a": "x\n__a__\n"}, '/a.txt:2:1: the wildcard "a" contains itself: a -> a'),
        ({"a": "__b__", "b": "y\nz __a__\n"}, '/b.txt:2:3: the wildcard "a" contains itself'),
        ({"a": "# no line\n"}, '/a.txt:1:1: the wildcard "a" has no line to pick'),
        ({"a": ""}, "/a.txt:1:1: the file is empty"),
        (
            {"a": "__b__ " * 1000, "b": "__c__ " * 1000, "c": "x" * 90},
            "/a.txt:1:1: this may become a text of",
        ),
        (
            {"abcdefghijklmnopqrst"[i]: f"__{'abcdefghijklmnopqrstu'[i + 1]}__" for i in range(20)},
            "wildcards are nested deeper than 16",
        ),
    ],
    ids=["itself", "a circle", "only comments", "empty", "without an end", "deep"],
)
def test_wildcards_that_lead_nowhere_are_mistakes_with_their_places(
    lines: dict[str, str], says: str
) -> None:
    assert says in problems_of("prompt: __a__\n", files_of(**lines))


def test_a_prompt_of_very_many_wildcards_is_too_long() -> None:
    files = files_of(a="x" * 90_000)
    says = problems_of(f"prompt: '{'__a__ ' * 100}'\n", files)
    assert says.startswith("job.yaml:1:9: with its values the stage has more than 1,000,000")


def test_a_file_that_is_no_utf8_is_named_with_its_place() -> None:
    files = {"wildcards/a.txt": "x\nGrün\n".encode("cp1252")}
    assert "wildcards/a.txt:2:3: byte 0xFC" in problems_of("prompt: __a__\n", files)


def test_utf16_and_any_line_ends_are_read() -> None:
    files = {"wildcards/a.txt": "\r\n# a\r\nGrün\r".encode("utf-16")}
    assert fields_of(job_of("prompt: __a__\n", files), "prompt") == ["Grün"]


@table("name", ["../a", "a/../../b", "a/./b", "con", "a/nul", "a /b", "a//b"])
def test_a_name_that_leads_elsewhere_is_left_to_the_webui(name: str) -> None:
    asked: list[str] = []

    def find(asked_for: str) -> LineFile | None:
        asked.append(asked_for)
        return None

    job = parse_job(f"prompt: 'x __{name}__'\n".encode(), "job.yaml", outside=Outside((), find))
    assert fields_of(job, "prompt") == [f"x __{name}__"]
    assert not any(".." in each or each in ("con", "a/nul") for each in asked)


def test_a_mistake_in_a_file_of_the_config_is_no_fault_of_the_job() -> None:
    def refuse() -> bytes:
        raise SpoolError("leads outside the job's folder")

    outside = Outside((), lambda _: LineFile("/lists/a.txt", refuse, is_outside=True))
    with pytest.raises(JobError) as caught:
        parse_job(b"prompt: __a__\n", "job.yaml", outside=outside)
    assert str(caught.value) == "/lists/a.txt: leads outside the job's folder"
    assert caught.value.outside is not None
    with pytest.raises(JobError) as own:
        job_of("prompt: __a__\n", files_of(a="__a__"))
    assert own.value.outside is None
