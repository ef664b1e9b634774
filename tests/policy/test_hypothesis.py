"""Job and config files that hypothesis generates: a valid one is read as it was meant, mistakes
are reported at their place."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from annotated_types import Ge, Gt, Le
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sdwatch.config import Config, WebUIConfig
from sdwatch.config_file import parse_config
from sdwatch.errors import ConfigError, FileProblems, JobError
from sdwatch.policy.failure.check_levels import LEVELS
from sdwatch.policy.job.job import Job, Stage, parse_job
from sdwatch.policy.job.stage.fields import ExtraSingleImageFields, Img2ImgFields, Txt2ImgFields
from tests.support.examples import examples
from tests.support.mutations import IMAGES, check_places, check_refusal

BASE = Path("/srv/box").absolute()
STAGES: dict[str, type[BaseModel]] = {
    "txt2img": Txt2ImgFields,
    "img2img": Img2ImgFields,
    "extra-single-image": ExtraSingleImageFields,
}
Fields = dict[str, Any]


# -- anything at all


def job_of(data: bytes) -> Job | JobError:
    try:
        return parse_job(data, "job.yaml", IMAGES, "job")
    except JobError as error:
        return error


def config_of(data: bytes) -> Config | ConfigError:
    try:
        return parse_config(data, "sdwatch.yaml", BASE)
    except ConfigError as error:
        return error


PARSERS: dict[str, Callable[[bytes], object]] = {"job": job_of, "config": config_of}
SIGNS = st.text("ab:#-[]{}'\"&*!|>%@,\n\r\t ?\\.~/0é\u2028\ufeff\x00", max_size=60)
LINES = st.lists(
    st.tuples(
        st.sampled_from(["", "  ", "- ", "  - ", "? "]),
        st.sampled_from(["prompt", "stages", "txt2img", "upscale", "webuis", "spool", "url"]),
        st.sampled_from([": ", ":", ":\n    ", " "]),
        SIGNS,
    ).map("".join),
    max_size=8,
).map("\n".join)


@pytest.mark.slow
@pytest.mark.parametrize("parse", PARSERS.values(), ids=PARSERS)
@examples(150)
@given(data=st.binary(max_size=300) | (st.text(max_size=200) | SIGNS | LINES).map(str.encode))
def test_whatever_is_in_a_file_it_is_read_or_refused_with_its_places(
    parse: Callable[[bytes], object], data: bytes
) -> None:
    result = parse(data)
    if isinstance(result, FileProblems):
        check_refusal(result, data)
    elif isinstance(result, Job):
        check_places(result.warnings, data)
    again = parse(data)
    assert result == again or str(result) == str(again)  # an error has no equal


# -- valid files


# Names of models, samplers, styles. Texts that look like places or addresses are not for jobs.
NAMES = st.text("abcXYZ019 _-+é城🏰'\"#,()[]&*!%@`|", min_size=1, max_size=30)
# U+0085 is left out because PyYAML, told to write it as itself, does not read it again either.
TEXTS = st.characters(codec="utf-8", exclude_characters="\x85")
PROMPTS = st.text(TEXTS, max_size=60)
WHOLE = 10**18 - 1
# What only the WebUI knows has no type but the one that it is written with: what looks like a
# number is a text in quotes, and 1e5 always, since a checkpoint's hash may look like that.
FREE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-WHOLE, WHOLE)
    | st.integers(-(10**9), 10**9).map(lambda n: n / 8)
    | NAMES.map("x{}".format)
    | st.sampled_from(["1", "1.5", "-0", "true", "no", "null", "", "1e5"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES.map("x{}".format), inner),
    max_leaves=6,
)
# sdwatch leaves them out, with a warning; or refuses them, whatever they say.
LEFT_OUT = ("send_images", "force_task_id", "infotext")
# They link stages, so that not every value goes with every stage; see test_graph.py.
LINKS = ("id", "input", "fan_out")
OWN: Mapping[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt"), PROMPTS),
    **dict.fromkeys(("image", "mask"), st.sampled_from(sorted(IMAGES))),
    "init_images": st.lists(st.sampled_from(sorted(IMAGES)), min_size=1, max_size=4),
    "save_images": st.just(False),
    "override_settings_restore_afterwards": st.just(True),
    "alwayson_scripts": st.dictionaries(
        NAMES.map("x{}".format), st.fixed_dictionaries({"args": st.lists(FREE, max_size=3)})
    ),
    "script_args": st.lists(FREE, max_size=3),
    "hr_additional_modules": st.lists(FREE, max_size=3),
}


def kind_of(info: FieldInfo) -> tuple[Any, tuple[Any, ...]]:
    """The type of a field that may be absent, and its bounds."""
    (kind,) = (arg for arg in get_args(info.annotation) if arg is not type(None))
    if hasattr(kind, "__metadata__"):
        fields = [mark for mark in kind.__metadata__ if isinstance(mark, FieldInfo)]
        return kind.__origin__, tuple(bound for field in fields for bound in field.metadata)
    return kind, ()


def values_of(name: str, info: FieldInfo) -> st.SearchStrategy[Any]:
    """Values that a field may have."""
    if name in OWN:
        return OWN[name]
    kind, bounds = kind_of(info)
    low: Any = next((b.ge for b in bounds if isinstance(b, Ge)), None)
    above: Any = next((b.gt for b in bounds if isinstance(b, Gt)), None)
    high: Any = next((b.le for b in bounds if isinstance(b, Le)), None)
    if kind is int:
        return st.integers(-WHOLE if low is None else low, WHOLE if high is None else high)
    if kind is float:
        finite: Any = {"allow_nan": False, "allow_infinity": False}
        least = low if above is None else above
        return st.floats(least, high, exclude_min=above is not None, **finite)
    if kind is bool:
        return st.booleans()
    if get_origin(kind) is dict:
        return st.dictionaries(NAMES.map("x{}".format), FREE, max_size=3)
    return st.lists(NAMES, max_size=3) if get_origin(kind) is list else NAMES


def fields_of(model: type[BaseModel], always: tuple[str, ...] = ()) -> st.SearchStrategy[Fields]:
    """Some fields of a stage, with values."""
    given = {
        name: values_of(name, info)
        for name, info in model.model_fields.items()
        if name not in (*LEFT_OUT, *LINKS)
    }
    needed = {name: given[name] for name in always}
    some = st.lists(st.sampled_from(sorted(given)), unique=True, max_size=8)
    return some.flatmap(
        lambda names: st.fixed_dictionaries({**{n: given[n] for n in names}, **needed})
    )


HEADER = st.fixed_dictionaries(
    {},
    optional={
        "name": st.text(TEXTS, min_size=1, max_size=200),
        "priority": st.integers(-1000, 1000),
    },
)
SHORT = st.tuples(HEADER, fields_of(Txt2ImgFields, ("prompt",))).map(lambda two: two[0] | two[1])
FIRST = st.one_of(
    fields_of(Txt2ImgFields).map(lambda f: {"txt2img": f}),
    fields_of(Img2ImgFields, ("init_images",)).map(lambda f: {"img2img": f}),
    fields_of(ExtraSingleImageFields, ("image",)).map(lambda f: {"upscale": f}),
)
LATER = st.one_of(*(st.fixed_dictionaries({kind: fields_of(STAGES[kind])}) for kind in STAGES))
LONG = st.builds(
    lambda header, first, later: {**header, "stages": [first, *later]},
    HEADER,
    FIRST,
    st.lists(LATER, max_size=3),
)


def as_yaml(value: object, *, flow: bool | None, unicode: bool) -> str:
    return str(
        yaml.safe_dump(value, default_flow_style=flow, allow_unicode=unicode, sort_keys=False)
    )


def as_json(value: object, indent: int | str | None = None) -> str:
    """As json.dumps writes it, but what is beyond U+FFFF as itself: YAML knows no halves of it."""
    text = json.dumps(value, indent=indent)
    return re.sub(r"\\ud[89ab]..\\ud[c-f]..", lambda pair: str(json.loads(f'"{pair[0]}"')), text)


WRITERS: tuple[Callable[[object], str], ...] = (
    lambda value: as_yaml(value, flow=False, unicode=True),
    lambda value: as_yaml(value, flow=False, unicode=False),
    lambda value: as_yaml(value, flow=None, unicode=True),
    lambda value: as_yaml(value, flow=True, unicode=False),
    as_json,
    lambda value: as_json(value, 2),
    lambda value: as_json(value, "\t"),
)
FILES: tuple[Callable[[str], bytes], ...] = (
    str.encode,
    lambda text: text.replace("\n", "\r\n").encode(),
    lambda text: text.encode("utf-8-sig"),
    lambda text: text.replace("\n", "\r\n").encode("utf-8-sig"),
)


def payload_of(stage: Stage) -> Fields:
    """Its payload, as it was written; the empty one is none."""
    return {"payload": dict(stage.links.payload)} if stage.links.payload else {}


def check_job(written: Fields, data: bytes) -> None:
    """It was read as it was meant: each value, and its type."""
    job = parse_job(data, "job.yaml", IMAGES, "no name")
    assert job.warnings == ()
    assert job.name == written.get("name", "no name")
    assert job.priority == written.get("priority", 0)
    kinds = {"upscale": "extra-single-image"}
    stages = written.get("stages")
    if stages is None:
        stages = [{"txt2img": {k: v for k, v in written.items() if k not in ("name", "priority")}}]
    meant = [
        (kinds.get(kind, kind), {k: v for k, v in f.items() if (k, v) != ("payload", {})})
        for stage in stages
        for kind, f in stage.items()
    ]
    found = [(stage.kind, {**stage.fields, **payload_of(stage)}) for stage in job.stages]
    assert repr([(k, sorted(f.items())) for k, f in found]) == repr(
        [(k, sorted(f.items())) for k, f in meant]
    )


@pytest.mark.slow
@examples(100)
@given(SHORT | LONG, st.sampled_from(WRITERS), st.sampled_from(FILES))
def test_a_job_is_read_as_it_was_meant(
    job: Fields, write: Callable[[object], str], save: Callable[[str], bytes]
) -> None:
    check_job(job, save(write(job)))


DURATIONS = st.integers(0, 10**7).map(lambda n: n / 4)
LIMITS = st.integers(1, 10**7).map(lambda n: n / 4)
SIZES = st.integers(0, 10**15)
CAPS = st.integers(10_000, 10**15)
PLACES = st.text("abc019_- é城", max_size=10).map("x{}".format) | st.just("/srv/x y/é")
SWITCHES = st.booleans()
LANE: Fields = {
    "url": st.integers(1, 65535).map("http://127.0.0.1:{}".format),
    **dict.fromkeys(
        ("start_limit", "stall", "load_limit", "call_limit", "self_test_limit"), LIMITS
    ),
    "stop_grace": DURATIONS,
    "log_cap": CAPS,
    "templates": PLACES,
    "tags": st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True), min_size=1, max_size=3),
    **dict.fromkeys(("leave_running", "undo_overrides"), SWITCHES),
    "health": st.fixed_dictionaries(
        {}, optional={"interval": LIMITS, "timeout": LIMITS, "failures": st.integers(1, WHOLE)}
    ),
}
SECRETS = st.fixed_dictionaries({"username": NAMES, "password": PROMPTS})
MANAGED: Fields = {
    "command": st.lists(NAMES, min_size=1, max_size=5),
    "cwd": PLACES,
    "env": st.dictionaries(NAMES, NAMES, max_size=3),
    **dict.fromkeys(("max_rss", "max_calls"), st.integers(1, 10**9)),
}


def some(fields: Fields, *always: str) -> st.SearchStrategy[Fields]:
    """A mapping with some of these, and always with those."""
    optional = {name: values for name, values in fields.items() if name not in always}
    return st.fixed_dictionaries({name: fields[name] for name in always}, optional=optional)


WEBUI = st.builds(
    lambda lane, secrets, more: {**lane, **secrets, **more},
    some(LANE, "url"),
    SECRETS | st.just({}),
    some(MANAGED, "command") | some({"log_file": PLACES}),
)
AGES = st.integers(1, 10_000).map("{} h".format)
RUNS_KEPT = some({"age": AGES, "size": SIZES})
ADDRESSES = st.lists(
    st.from_regex("https?://[a-z]{1,20}/[a-zA-Z0-9]{1,20}", fullmatch=True), max_size=3
)
SETTINGS: Fields = {
    **dict.fromkeys(("spool", "state"), PLACES),
    "watch": st.sampled_from(["events", "poll"]),
    **dict.fromkeys(("settle", "stop_grace"), DURATIONS),
    **dict.fromkeys(
        ("scan_interval", "arrival_timeout", "unfinished_timeout", "affinity_max_wait"), LIMITS
    ),
    **dict.fromkeys(("max_image", "max_generation", "max_points"), st.integers(1, 10**8)),
    "allow": st.lists(NAMES, max_size=3),
    "tags": st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True), min_size=1, max_size=3),
    "min_free": SIZES,
    "recovery": SWITCHES,
    "cooldown": st.lists(DURATIONS, min_size=1, max_size=8),
    "hold_max": AGES,
    "umask": st.sampled_from(["keep", "002", "022", "077"]),
    **dict.fromkeys(("signatures", "wildcards"), PLACES),
    "checks": some(dict.fromkeys(LEVELS, st.sampled_from(["fail", "warn", "off"]))),
    "log_cap": CAPS,
    "notify": some({"webhooks": ADDRESSES, "apprise": ADDRESSES, "prompts": SWITCHES}),
    "retention": some({"done": RUNS_KEPT, "failed": RUNS_KEPT, "logs": CAPS}),
    "outputs": some(
        {
            "folder": st.just("/srv/pictures/é"),
            "name": st.sampled_from(["{date}/{name}-{seed}", "é {number}"]),
            "format": st.sampled_from(["as_sent", "png", "jpeg", "webp"]),
        }
    ),
    "webuis": st.dictionaries(
        st.from_regex("[a-z0-9][a-z0-9_-]{0,39}", fullmatch=True), WEBUI, min_size=1, max_size=3
    ).filter(lambda webuis: len({webui["url"] for webui in webuis.values()}) == len(webuis)),
}
CONFIG = some(SETTINGS, "spool", "state", "webuis")


def check_settings(written: Fields, found: BaseModel) -> None:
    """Each has the value that was written, or its default."""
    for name, info in type(found).model_fields.items():
        default = info.get_default(call_default_factory=True, validated_data={})
        value, meant = getattr(found, name), written.get(name, default)
        if isinstance(value, BaseModel) and name in written:
            check_settings(written[name], value)
        elif name == "webuis":
            assert [webui.name for webui in value] == list(meant)
            for webui in value:
                own = {"name": webui.name, **meant[webui.name]}
                tags = [*written.get("tags", ()), *own.get("tags", ())]
                check_settings({**own, "tags": list(dict.fromkeys(tags))}, webui)
        elif isinstance(value, Path):
            assert value == Path(os.path.normpath(BASE / meant))
        elif name in ("age", "hold_max") and meant is not None:
            assert value == int(meant.removesuffix(" h")) * 3600
        elif name == "umask" and meant is not None:
            assert value == (None if meant == "keep" else int(meant, 8))
        else:
            assert value == (tuple(meant) if isinstance(meant, list) else meant)


@pytest.mark.slow
@examples(75)
@given(CONFIG, st.sampled_from(WRITERS), st.sampled_from(FILES))
def test_a_config_is_read_as_it_was_meant(
    config: Fields, write: Callable[[object], str], save: Callable[[str], bytes]
) -> None:
    check_settings(config, parse_config(save(write(config)), "sdwatch.yaml", BASE))


def test_the_strategies_know_each_setting() -> None:
    named = {*LANE, *MANAGED, "username", "password", "log_file", "name"}
    assert named == {*WebUIConfig.model_fields}
    assert {*SETTINGS} == {*Config.model_fields}


@pytest.mark.slow
@examples(50)
@given(SHORT | LONG | CONFIG)
def test_the_same_bytes_are_always_read_the_same(written: Fields) -> None:
    data = as_json(written).encode()
    for parse in (job_of, config_of):
        assert len({repr(parse(data)) for _ in range(5)}) == 1


# -- what has one mistake


NUMBERS = (int, float)
MAPPINGS = ("env", "health", "retention", "outputs", "notify", "checks", "done", "failed", "webuis")


@st.composite
def misspelt(draw: st.DrawFn, name: str) -> str:
    """One letter left out, doubled or changed with the next. The last ones stay: to a person
    `upscaler_` means neither upscaler_1 nor upscaler_2."""
    n = draw(st.integers(0, max(0, len(name) - 3)))
    before, letter, after, rest = name[:n], name[n], name[n + 1], name[n + 2 :]
    return draw(
        st.sampled_from(
            [
                before + after + rest,
                before + 2 * letter + after + rest,
                before + after + letter + rest,
            ]
        ).filter(lambda wrong: wrong != name)
    )


def wrong_values(name: str, kind: object) -> list[str]:
    """Texts of YAML that this field cannot have."""
    if name in MAPPINGS or get_origin(kind) is dict:
        return ["text", "[a]"]
    if kind == list[Any]:
        return ["{a: b}"]
    return ["{a: b}", "[[a]]", *(["many", "1_0"] if kind in NUMBERS or kind is bool else [])]


SHAPES = {
    "short": ("# a comment\n", "", {**Txt2ImgFields.model_fields}),
    **{
        kind: (f"name: é\nstages:\n- txt2img\n- {kind}:\n", "    ", model.model_fields)
        for kind, model in STAGES.items()
    },
}


@st.composite
def broken_job(draw: st.DrawFn, *, key: bool) -> tuple[str, int, int, str]:
    """A job with one wrong key, or else value: its text, the line and column of what is wrong, and
    the field's right name."""
    lead, indent, known = SHAPES[shape := draw(st.sampled_from(sorted(SHAPES)))]
    model = STAGES.get(shape, Txt2ImgFields)
    job = draw(fields_of(model, ("prompt",) if shape == "short" else ()).filter(bool))
    name = draw(st.sampled_from(sorted(job)))
    shown = draw(misspelt(name)) if key else name
    assume(shown == name or shown not in known)
    values = {field: as_json(value) for field, value in job.items()}
    if not key:
        values[name] = draw(st.sampled_from(wrong_values(name, kind_of(known[name])[0])))
    lines = [f"{indent}{shown if f == name else f}: {value}\n" for f, value in values.items()]
    line = lead.count("\n") + list(job).index(name) + 1
    return lead + "".join(lines), line, len(indent) + (1 if key else len(name) + 3), name


@pytest.mark.slow
@examples(75)
@given(broken_job(key=True))
def test_a_misspelt_field_of_a_job_is_reported_at_its_place_with_the_right_name(
    broken: tuple[str, int, int, str],
) -> None:
    text, line, column, name = broken
    with pytest.raises(JobError) as caught:
        parse_job(text.encode(), "job.yaml", IMAGES)
    problems = caught.value.problems
    assert {p.line for p in problems} == {line}
    there = [p.message for p in problems if p.column == column]
    assert any(message.endswith(f'; did you mean "{name}"?') for message in there)


@pytest.mark.slow
@examples(75)
@given(broken_job(key=False))
def test_a_wrong_type_in_a_job_is_reported_at_its_place(
    broken: tuple[str, int, int, str],
) -> None:
    text, line, column, name = broken
    with pytest.raises(JobError) as caught:
        parse_job(text.encode(), "job.yaml", IMAGES)
    assert {p.line for p in caught.value.problems} == {line}
    problem = next(p for p in caught.value.problems if p.message.startswith(f"{name} must be"))
    assert problem.column >= column  # within a list it is that of the entry


Line = tuple[str, str, str]
"""Of a config: its indentation, its key, and its value, empty where a mapping starts."""


def lines_of(settings: Fields, indent: str = "") -> Iterator[Line]:
    """A config in lines, each setting in its own."""
    for name, value in settings.items():
        if isinstance(value, dict) and value and name != "env":
            yield indent, name, ""
            yield from lines_of(value, indent + "  ")
        else:
            yield indent, name, as_json(value)


@st.composite
def broken_config(draw: st.DrawFn, *, key: bool) -> tuple[str, int, int, str]:
    """As `broken_job`, a config."""
    config = draw(CONFIG)
    lines = list(lines_of(config))
    names = {*config["webuis"]}
    which = [n for n, line in enumerate(lines) if line[1] not in names and (key or line[2])]
    n = draw(st.sampled_from(which))
    indent, name, value = lines[n]
    wrong = draw(misspelt(name)) if key else name
    if not key:
        value = draw(st.sampled_from(wrong_values(name, str)))
    lines[n] = (indent, wrong, value)
    text = "".join(f"{indent}{name}: {value}\n" for indent, name, value in lines)
    return text, n + 1, len(indent) + (1 if key else len(name) + 3), name


@pytest.mark.slow
@examples(50)
@given(broken_config(key=True))
def test_a_misspelt_setting_is_reported_at_its_place_with_the_right_name(
    broken: tuple[str, int, int, str],
) -> None:
    text, line, column, name = broken
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode(), "sdwatch.yaml", BASE)
    there = [p.message for p in caught.value.problems if (p.line, p.column) == (line, column)]
    # What is missing because of that is reported, too.
    assert any(message.endswith(f'; did you mean "{name}"?') for message in there)


@pytest.mark.slow
@examples(50)
@given(broken_config(key=False))
def test_a_setting_of_a_wrong_type_is_reported_at_its_place(
    broken: tuple[str, int, int, str],
) -> None:
    text, line, column, name = broken
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode(), "sdwatch.yaml", BASE)
    there = [p for p in caught.value.problems if p.line == line and p.column >= column]
    # Of what has names of its own, the entry is named.
    wrong = re.compile(rf"(\S+\.)?{name}(\.\S+)?:? must be")
    assert any(wrong.match(problem.message) for problem in there)
