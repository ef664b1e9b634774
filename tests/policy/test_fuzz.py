"""A thousand of the files that benchmarks/fuzz.py reads a hundred thousand of, and of arguments."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from pathlib import Path
from random import Random
from string import ascii_letters

import pytest
import yaml

from sdwatch.config_file import parse_config
from sdwatch.errors import ConfigError, JobError
from sdwatch.policy.job.job import parse_job
from sdwatch.policy.job.text import document, typed_values
from sdwatch.policy.privacy.redaction import Redactor
from tests.support.hostile_arguments import argument, judge_argument
from tests.support.mutations import (
    MUTATIONS,
    Mutation,
    beside,
    check_refusal,
    configs,
    corpus,
    images_of,
    mutated,
    outside,
    parses_safely,
)
from tests.support.tables import table

SEED = 20
FILES = 1_000


def read_all(files: range) -> list[bool]:
    return [
        parses_safely(
            mutated(SEED, number), images_of(number), beside(SEED, number), outside(SEED, number)
        )
        for number in files
    ]


@pytest.mark.slow
@pytest.mark.parametrize("loader", ["CSafeLoader", "SafeLoader"])
def test_each_mutated_file_is_a_job_or_is_refused_with_its_places(
    loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "_LOADER", getattr(yaml, loader, yaml.SafeLoader))
    accepted = read_all(range(FILES if loader == "CSafeLoader" else FILES // 4))
    assert set(accepted) == {True, False}  # else the mutations are too mild, or too wild


@pytest.mark.slow
def test_each_mutated_config_is_a_config_or_is_refused_with_its_places() -> None:
    accepted = [read_config(mutated(SEED, number, configs())) for number in range(FILES // 4)]
    assert set(accepted) == {True, False}


def read_config(data: bytes) -> bool:
    try:
        parse_config(data, "sdwatch.yaml", Path("/srv/box").absolute())
    except ConfigError as error:
        check_refusal(error, data)
        return False
    return True


def test_the_same_seed_gives_the_same_files_and_another_one_others() -> None:
    first = [mutated(SEED, number) for number in range(100)]
    assert first == [mutated(SEED, number) for number in range(100)]
    others = [mutated(SEED + 1, number) for number in range(100)]
    assert sum(one == other for one, other in zip(first, others, strict=True)) < 10


def test_the_first_files_are_jobs_that_are_accepted() -> None:
    accepted = [parses_safely(data, images_of(1)) for data in corpus()]
    assert sum(accepted) >= 10


@table("mutation", dict.fromkeys(MUTATIONS))
def test_each_mutation_changes_some_file(mutation: Mutation) -> None:
    rng = Random(SEED)
    assert any(mutation(rng, data) != data for data in corpus() for _ in range(10))


@pytest.mark.slow
def test_an_argument_that_names_a_place_is_refused_and_a_name_is_not() -> None:
    accepted = [judge_argument(SEED, number) for number in range(FILES)]
    assert 0.3 * FILES < sum(accepted) < 0.7 * FILES
    assert argument(SEED, 1) == argument(SEED, 1)
    assert argument(SEED, 1) != argument(SEED + 1, 1)


@pytest.mark.slow
def test_nothing_is_kept_of_the_files_that_were_read() -> None:
    files = range(100)
    read_all(files)  # fills what is kept on purpose: compiled patterns
    tracemalloc.start()
    try:
        read_all(files)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        read_all(files)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 10_000


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('override_settings:\n  ? "{}\\n"\n  : 1\n', 3),
        ('alwayson_scripts:\n  x:\n    args:\n      - ? "{}\\n"\n        : text\n', 6),
    ],
    ids=["setting", "argument"],
)
def test_a_name_with_a_line_end_in_it_is_refused_like_any_other_and_as_quickly(
    text: str, line: int
) -> None:
    # Tried again from each underscore, this length would take a quarter of an hour.
    for length in (1, 20_000):
        with pytest.raises(JobError) as caught:
            parse_job(("prompt: a\n" + text.format("file_" * length)).encode(), "job.yaml")
        assert [p.line for p in caught.value.problems] == [line]


@table("number", ["9{}x", "-.9{}x", "9{0}.9{0}x", "9{}e", "9{}e9{}x"])
def test_what_is_nearly_a_number_is_refused_as_quickly(number: str) -> None:
    # Once its digits were shared out between two repetitions in all ways: hours, at this length.
    text = "prompt: a\ncfg_scale: " + number.replace("{}", "{0}").format("9" * 40_000)
    with pytest.raises(JobError) as caught:
        parse_job(text.encode(), "job.yaml")
    assert [(p.line, p.column) for p in caught.value.problems] == [(2, 12)]


@pytest.mark.slow
def test_what_is_hidden_of_a_prompt_that_never_closes_its_bracket_is_learnt_as_quickly() -> None:
    # Of each text 50,000 characters are learnt, which once took some ten seconds.
    redactor = Redactor()
    for letter in ascii_letters:
        redactor.learn({"prompt": "<lora:" + letter * 50_000})
    redactor.learn({"prompt": "a castle <lora:cuteStyle:0.8>"})
    assert "cuteStyle" not in redactor.redact("cannot load cuteStyle")


def test_at_most_a_hundred_anchors_are_reported() -> None:
    with pytest.raises(JobError) as caught:
        parse_job(b"styles: [" + b"&a b, " * 1_000 + b"]", "job.yaml")
    assert [p.message for p in caught.value.problems][-1] == "900 more problems from here on"
    assert len(caught.value.problems) == 101


def test_a_mapping_with_thousands_of_mistakes_is_looked_through_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each mistake once looked through all of them for its place: ten seconds for 5,000.
    looked: list[object] = []
    unique = typed_values.unique
    monkeypatch.setattr(
        typed_values,
        "unique",
        lambda node, problems: (looked.append(node), unique(node, problems))[1],
    )
    env = "{" + ", ".join(f"k{number}: []" for number in range(1_000)) + "}"
    config = CONFIG.format(spool="a", url="http://h:80", env=env)
    with pytest.raises(ConfigError) as caught:
        parse_config(config.encode(), "c.yaml", Path("/srv/box").absolute())
    assert caught.value.problems[-1].message == "900 more problems from here on"
    assert len(looked) < 10


ODD = {
    "an end of the file behind no line end": (b"{prompt: a", "1:11: brackets do not match"),
    "a document of nothing": (b"---", "1:4: a job is a mapping of `field: value`, not nothing"),
    "a key of nothing": (
        b"? stages",
        "1:9: stages must be a list such as `- txt2img:`, not nothing",
    ),
    "a byte that shows as nothing": (
        b"prompt: \xa0",
        "1:9: byte 0xA0 is not UTF-8 (in Latin-1 it is '\\x",
    ),
    "a line end in a key": (b'"a\\nb": 1', "1:1: unknown field 'a\\nb' in txt2img"),
    "a colour in a key": (b'"\\e[2J": 1', "1:1: unknown field '\\x1b[2J' in txt2img"),
    "a turn of the text": (
        "steps: \u202e3".encode(),
        "1:8: steps must be a whole number, not '\\u202e3'",
    ),
    "half a character": (b'prompt: "\\ud83d"', "1:12: this escape is not a complete character"),
}


@table(("data", "says"), ODD.values(), ids=ODD)
def test_each_message_is_one_readable_line(data: bytes, says: str) -> None:
    assert parses_safely(data, None) is False
    with pytest.raises(JobError) as caught:
        parse_job(data, "job.yaml")
    assert any(line.startswith(f"job.yaml:{says}") for line in str(caught.value).splitlines())


CONFIG = (
    "spool: {spool}\nstate: b\nwebuis:\n  one:\n    url: {url}\n    command: [a]\n    env: {env}\n"
)
ODD_CONFIGS = {
    "nobody's home": ({"spool": "~no-such-user/a"}, "1:8: spool: starts with the home of"),
    "a zero byte": ({"spool": '"a\\0"'}, "1:8: spool: contains a zero byte"),
    "half an address": ({"url": "http://[::1:]:80"}, "5:10: webuis.url: has no IPv6 address"),
    "a line end in a key": ({"env": '{"a\\nb": []}'}, "7:19: env.'a\\nb' must be text"),
    "a long key": (
        {"env": "{" + "a" * 500 + ": []}"},
        "7:513: env.a text of 500 characters must be",
    ),
}


if sys.platform == "win32":
    del ODD_CONFIGS["nobody's home"]  # Python guesses the home of another user there


@table(("odd", "says"), ODD_CONFIGS.values(), ids=ODD_CONFIGS)
def test_each_message_about_a_config_is_one_readable_line(odd: dict[str, str], says: str) -> None:
    text = CONFIG.format(**{"spool": "a", "url": "http://h:80", "env": "{}", **odd})
    assert read_config(text.encode()) is False
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode(), "c.yaml", Path("/srv/box").absolute())
    assert [line[: 7 + len(says)] for line in str(caught.value).splitlines()] == [f"c.yaml:{says}"]


HUGE = {
    "half a character": b'prompt: "\\ud83d"',
    "no character": b'prompt: "\\UFFFFFFFF"',
    "a version": b"%YAML 1." + b"9" * 5_000 + b"\n---\nprompt: a",
}


@pytest.mark.parametrize("data", HUGE.values(), ids=HUGE)
def test_without_libyaml_the_same_is_refused(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "_LOADER", yaml.SafeLoader)
    assert parses_safely(data, None) is False
