"""Lists of prompts and tables beside a job: as other programs write them, with their places."""

from __future__ import annotations

import random
import shlex

import pytest

from sdwatch.errors import JobError
from sdwatch.policy.job.calls.payload import counted_on, draw_seeds
from sdwatch.policy.job.job import parse_job
from sdwatch.policy.job.text.document import UnreadableError
from sdwatch.policy.job.text.prompt_lines import fields_of as options_of
from tests.policy.jobs_of import fields_of, job_of, problems_of
from tests.support.tables import table

TABLE = "prompts_from: p.csv\nprompt: ${a} and ${b}\n"


@table(
    "content",
    [
        b"a,b\ncat,owl\n1,2\n",
        b"a;b\r\ncat;owl\r\n1;2",
        b"a\tb\rcat\towl\r1\t2\r",
        b"\xef\xbb\xbfa,b\ncat,owl\n\n,,\n1,2\n\n",
        "a\tb\r\ncat\towl\r\n1\t2\r\n".encode("utf-16"),
        "a;b\ncat;owl\n1;2".encode("utf-16-be").join([b"\xfe\xff", b""]),
        b"sep=;\r\na;b\r\ncat;owl\r\n1;2\r\n",
        b'"a","b"\n "cat" , owl \n"1","2"\n',
        b"a,b,,\ncat,owl,,\n1,2,,\n",
    ],
    ids=["plain", "Excel in Europe", "Mac", "BOM", "UTF-16", "big-endian", "sep", "quotes", "wide"],
)
def test_a_table_is_read_as_programs_write_it(content: bytes) -> None:
    assert fields_of(job_of(TABLE, {"p.csv": content}), "prompt") == ["cat and owl", "1 and 2"]


def test_a_cell_in_quotes_may_have_separators_quotes_and_lines_in_it() -> None:
    files = {"p.csv": b'a;b\n"one; ""two""\r\nthree";x\n'}
    assert fields_of(job_of(TABLE, files), "prompt") == ['one; "two"\nthree and x']


def test_an_empty_cell_leaves_its_name_to_the_job_and_an_empty_text_does_not() -> None:
    files = {"p.csv": b'prompt,negative_prompt\ncat,\nowl,""\n'}
    job = job_of("prompts_from: p.csv\nnegative_prompt: blurry\n", files)
    assert fields_of(job, "negative_prompt") == ["blurry", ""]
    files = {"p.txt": b'cat\n--prompt owl --negative_prompt ""\n'}
    job = job_of("prompts_from: p.txt\nnegative_prompt: blurry\n", files)
    assert fields_of(job, "negative_prompt") == ["blurry", ""]


@table(
    ("content", "says"),
    [
        (b"a,b\n1,2\n3\n", "p.csv:3:1: 1 cell below 2 names"),
        (b'a,b\n1,"2\n', "p.csv:2:3: a quote is opened here and never closed"),
        (b'a,b\n1,"2" x\n', "p.csv:2:3: text follows a closing quote"),
        (b"a,my b\n1,2\n", 'p.csv:1:3: "my b" is not a name'),
        (b"a,a\n1,2\n", "p.csv:1:3: a has values twice, first in line 1 of p.csv"),
        ("a,b\nGrün,2\n".encode("cp1252"), "p.csv:2:3: byte 0xFC is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16") + b"x", "p.csv:1:1: the file ends in the middle"),
        (b"a,b\n", '1:15: "p.csv" has no row below its names'),
        (b"a,b\n\x001,2\n", "p.csv:1:1: this is not a text file"),
    ],
)
def test_a_mistake_in_a_table_has_its_place_there(content: bytes, says: str) -> None:
    assert says in problems_of(TABLE, {"p.csv": content})


def test_a_value_that_does_not_fit_has_its_place_in_the_table_and_its_point() -> None:
    files = {"p.csv": b"a,steps\ncat,20\nowl,many\n"}
    (line,) = problems_of("prompts_from: p.csv\nprompt: ${a}\n", files).splitlines()
    assert line == (
        'p.csv:3:5: steps must be a whole number, not "many", '
        'at point 2 (a = a text of 3 characters, steps = "many")'
    )


def test_a_place_is_named_with_the_folder_of_the_job() -> None:
    with pytest.raises(JobError) as caught:
        parse_job(
            b"prompts_from: p.txt\n",
            "in/castle",
            frozenset({"p.txt"}),
            read=lambda _: b"x\n--steps\n",
            folder="in/castle/",
        )
    assert str(caught.value) == "in/castle/p.txt:2:1: --steps has no value"


def test_a_line_that_is_no_options_is_a_prompt_as_in_automatic1111() -> None:
    lines = "a cat -- an oil painting\nsemi--colon\n--prompt two words --steps 7\n"
    job = job_of("prompts_from: p.txt\n", {"p.txt": lines.encode()})
    assert fields_of(job, "prompt") == ["a cat -- an oil painting", "semi--colon", "two words"]


def test_each_option_of_automatic1111_is_read_or_refused_with_a_reason() -> None:
    """The names are those of `prompt_tags` in scripts/prompts_from_file.py of v1.10.1."""
    given = {
        "prompt": "x", "negative_prompt": "x", "styles": "oil", "seed": "5",
        "subseed_strength": "0.5", "subseed": "6", "seed_resize_from_h": "64",
        "seed_resize_from_w": "64", "sampler_name": "Euler", "batch_size": "2", "n_iter": "2",
        "steps": "3", "cfg_scale": "4.5", "width": "64", "height": "64", "restore_faces": "true",
        "tiling": "false", "do_not_save_samples": "true", "do_not_save_grid": "true",
    }  # fmt: skip
    line = " ".join(f"--{name} {value}" for name, value in given.items())
    fields = job_of("prompts_from: p.txt\n", {"p.txt": line.encode()}).stages_of(1, 0)[0].fields
    assert given.keys() == fields.keys()
    assert (fields["styles"], fields["tiling"], fields["cfg_scale"]) == (["oil"], False, 4.5)
    for name in (
        "sd_model", "outpath_samples", "outpath_grids", "prompt_for_display", "sampler_index"
    ):  # fmt: skip
        says = problems_of("prompts_from: p.txt\n", {"p.txt": f"--{name} 1".encode()})
        assert says.startswith(f"p.txt:1:1: --{name}: ")


@table(
    ("line", "says"),
    [
        ("--steps", "1: --steps has no value"),
        ("--steps 3 4", "11: --steps takes one value"),
        ("a castle --steps 3", "10: --steps follows a prompt"),
        ("--prompt a cat's dream", "15: a quote is opened here and never closed"),
        ("--prompt a\\", "11: nothing follows this backslash"),
        ("--stepz 3", '1: unknown option --stepz; did you mean "steps"?'),
    ],
)
def test_a_line_that_automatic1111_would_send_as_a_whole_is_a_mistake(line: str, says: str) -> None:
    assert problems_of("prompts_from: p.txt\n", {"p.txt": line.encode()}).startswith(
        f"p.txt:1:{says}"
    )


def test_words_are_split_as_shlex_does() -> None:
    rng = random.Random(7)
    for _ in range(2_000):
        value = "".join(rng.choice("ab\"'\\ \tä\u00a0") for _ in range(rng.randint(1, 9)))
        try:
            words = shlex.split(value)
        except ValueError:
            with pytest.raises(UnreadableError):
                options_of(f"--prompt {value}")
            continue
        if words:
            ((_, text, _),) = options_of(f"--prompt {value}")
            assert text == " ".join(words), value


def test_seeds_of_lines_are_their_own_or_the_same_or_count_up() -> None:
    lines = b"a\n--prompt b --seed 7\nc\n"
    text = "prompts_from: p.txt\nbatch_size: 2\nseed: 100\nrepeat: 2\nline_seeds: {}\n"
    made = {}
    for rule in ("each", "same", "count"):
        job = job_of(text.format(rule), {"p.txt": lines})
        made[rule] = [
            counted_on(draw_seeds(stage, lambda: 0), stage, job.points.seed_steps(point))
            for point in job.points
            for stage in job.stages_of(point, 0)
        ]
        chances = [job.points.chance(point) for point in job.points]
        assert len(set(chances)) == (6 if rule == "each" else 2)
    assert [s and s.seed for s in made["same"]] == [100, 100, 7, 7, 100, 100]
    assert [s and s.seed for s in made["count"]] == [100, 100, 7, 7, 104, 104]


@pytest.mark.slow
def test_ten_thousand_lines_are_a_job_and_one_more_is_too_many() -> None:
    lines = b"a castle\n" * 10_000
    job = job_of("prompts_from: p.txt\n", {"p.txt": lines})
    assert len(job.points) == 10_000
    says = problems_of("prompts_from: p.txt\n", {"p.txt": lines + b"one more\n"})
    assert (
        says == "p.txt:10001:1: a list has at most 10,000 prompts here: max_points allows no more"
    )
