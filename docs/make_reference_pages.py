"""Write docs/job-reference.md, docs/config-reference.md and the tables of fields in docs/jobs.md
from the models of a job and of the config: `python -m docs.make_reference_pages`.

Names and forms are those of the models. What a setting does, and its default as people write it,
is in config/sdwatch.yaml and nowhere else; what a field does, in its description.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sdwatch.config import Config, WebUIConfig
from sdwatch.config_file import default_config_text
from sdwatch.policy.job.stage.stage_kinds import STAGES, StageKind
from sdwatch.policy.job.text.typed_values import ONE_OR_MORE, Reading
from sdwatch.policy.job.written_stages import MAX_STAGES, LongForm

FOLDER = Path(__file__).parent
JOBS = FOLDER / "job-reference.md"
CONFIG = FOLDER / "config-reference.md"
GUIDE = FOLDER / "jobs.md"

_JOB_HEAD = """\
# Every field of a job

Printed from the models that read a job. [jobs.md](jobs.md) explains jobs; `sdwatch schema` prints
the same as a JSON Schema, with which editors complete and check.

A field that is left out has the WebUI's own default. A field without a meaning here is the WebUI's
own: its API describes it (`/docs` of a WebUI that runs with its page).
"""

_CONFIG_HEAD = """\
# Every setting

Printed from the model that reads the config, and from
[config/sdwatch.yaml](../config/sdwatch.yaml), which `sdwatch init` copies to `all-settings.yaml`.
[configuration.md](configuration.md) has the smallest config, and what to change when.

Only `spool`, `state` and `webuis` must be there. Relative paths start from the config's folder.
"""


# -- the forms of values

_ANY = "any value"


def form_of(info: FieldInfo) -> str:
    """Return what a field takes, in words."""
    facts = [*info.metadata, *_facts(info.annotation)]
    allowed = next((fact.allowed for fact in facts if isinstance(fact, Reading)), "")
    words = allowed or _form_of_type(info.annotation)
    bounds = ", ".join(_bounds(facts))
    several = any(fact is ONE_OR_MORE for fact in facts)
    if several:
        items = allowed or _form_of_items(info.annotation)
        words = f"one or more: {items}" if items != _ANY else "one or more values"
    return f"{words}; {bounds}" if bounds else words


def _facts(annotation: Any) -> Iterator[Any]:
    """Yield the annotations within a type."""
    if get_origin(annotation) is Annotated:
        for fact in annotation.__metadata__:
            yield from fact.metadata if isinstance(fact, FieldInfo) else [fact]
    for part in get_args(annotation):
        if not isinstance(part, str | int):
            yield from _facts(part)


def _bounds(facts: list[Any]) -> Iterator[str]:
    for name, words in (
        ("ge", "at least"),
        ("gt", "more than"),
        ("le", "at most"),
        ("min_length", "length at least"),
        ("max_length", "length at most"),
    ):
        found = [value for fact in facts if (value := getattr(fact, name, None)) is not None]
        if found:
            yield f"{words} {found[0]:,}"


def _form_of_type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _form_of_type(parts[0])
    if origin in (Union, UnionType):
        return " or ".join(_form_of_type(part) for part in parts if part is not NoneType)
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin in (list, tuple):
        return "a list"
    if origin is dict:
        return "a mapping"
    known = {
        bool: "on or off",
        str: "text",
        int: "a whole number",
        float: "a number",
        Path: "a path",
    }
    return known.get(annotation, _ANY)


def _form_of_items(annotation: Any) -> str:
    """Return what the entries of a list are, which may be below None and annotations; '' without
    a list."""
    parts = get_args(annotation)
    if get_origin(annotation) in (list, tuple):
        return _form_of_type(parts[0])
    return next(filter(None, map(_form_of_items, parts)), "")


def _table(rows: Iterator[tuple[str, ...]], *head: str) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


# -- the job


def job_page() -> str:
    """docs/job-reference.md."""
    lines = [_JOB_HEAD, "## The job", ""]
    lines += _table(_job_rows(), "field", "takes", "meaning")
    for kind in dict.fromkeys(STAGES.values()):
        lines += ["", f"## {kind.short_name}", "", *_stage(kind)]
    return "\n".join(lines).rstrip() + "\n"


def _job_rows() -> Iterator[tuple[str, ...]]:
    yield from _fields(LongForm)
    stages = ", ".join(f"`{kind.short_name}`" for kind in dict.fromkeys(STAGES.values()))
    what = f"a list of at most {MAX_STAGES} stages, each one of {stages}"
    yield "`stages`", what, "Without it the job is one `txt2img`, with its fields beside `name`."


def _stage(kind: StageKind) -> Iterator[str]:
    other = f", also written `{kind.name}`" if kind.short_name != kind.name else ""
    image = f" Without `{kind.image_field}` it uses the images of the stage before."
    yield f"POST {kind.route}{other}.{image if kind.needs_image else ''}"
    yield ""
    yield from _table(_fields(kind.fields), "field", "takes", "meaning")


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    for name, info in model.model_fields.items():
        yield f"`{name}`", form_of(info), info.description or ""


_PRINTED = re.compile(r"(<!-- printed: ([a-z_ ]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)


def guide_page(text: str) -> str:
    """docs/jobs.md with its tables of fields, which comments in it name. Raises KeyError for a
    field that does not exist."""
    return _PRINTED.sub(lambda found: found[1] + _table_of(found[2].split()), text)


def _table_of(names: list[str]) -> str:
    models = (LongForm, *(kind.fields for kind in STAGES.values()))
    about: dict[str, str] = {}
    for model in models:
        for name, info in model.model_fields.items():
            about.setdefault(name, info.description or "")
    rows = ((f"`{name}`", about[name]) for name in names)
    return "\n".join(_table(rows, "field", "what it does")) + "\n"


# -- the config


@dataclass
class _Written:
    """A key of config/sdwatch.yaml. `value`: its default as people write it, '' for a section;
    `is_off`: the line is commented out; `parts`: the keys below it."""

    value: str = ""
    about: list[str] = field(default_factory=list)
    is_off: bool = False
    parts: dict[str, _Written] = field(default_factory=dict)


_KEY = re.compile(r"( *)(# )?([a-z_0-9]+):(?: +(?!#)(.*?))?(?: +# ?(.*))?")
_COMMENT = re.compile(r"( *)# ?(.*)")


def written(text: str) -> dict[str, _Written]:
    """Return the keys of a config with their comments. What is beside and below a value, or above
    it in lines of their own, is about that key."""
    known = set(_names(Config))
    top: dict[str, _Written] = {}
    open_keys: list[tuple[int, _Written]] = []
    last, above = -1, list[str]()
    for line in text.splitlines():
        key, comment = _KEY.fullmatch(line), _COMMENT.fullmatch(line)
        if comment and not (key and key[3] in known):
            if last >= 0 and len(comment[1]) > last:
                open_keys[-1][1].about.append(comment[2])
            else:
                above.append(comment[2])
            continue
        if key is None:
            last, above = -1, []
            continue
        indent, off, name, value, beside = key.groups()
        made = _Written(value or "", [*above, *filter(None, [beside])], bool(off))
        last, above = len(indent), []
        while open_keys and open_keys[-1][0] >= last:
            open_keys.pop()
        (open_keys[-1][1].parts if open_keys else top)[name] = made
        open_keys.append((last, made))
    return top


def _names(model: type[BaseModel]) -> Iterator[str]:
    """Yield the keys of a config, at any depth."""
    for name, info in model.model_fields.items():
        yield name
        if (inner := _model_in(info.annotation)) is not None:
            yield from _names(inner)


def config_page() -> str:
    """docs/config-reference.md. Raises KeyError for a setting that config/sdwatch.yaml lacks."""
    keys = written(default_config_text())
    lines = [_CONFIG_HEAD, "## At the top", "", *_settings(Config, keys)]
    for name, model, parts, about in _sections(Config, keys, ""):
        lines += ["", f"## {name}", "", *([_sentence(about), ""] if about else [])]
        lines += _settings(model, parts)
    return "\n".join(lines).rstrip() + "\n"


def _sections(
    model: type[BaseModel], keys: Mapping[str, _Written], above: str
) -> Iterator[tuple[str, type[BaseModel], dict[str, _Written], list[str]]]:
    for name, info in model.model_fields.items():
        key = keys.get(name)
        inner = _model_in(info.annotation)
        if inner is None or key is None or not key.parts:
            continue
        path, parts, about = f"{above}{name}", key.parts, key.about
        if inner is WebUIConfig:
            path, named = f"{path}.NAME", next(iter(parts.values()))
            parts, about = (
                named.parts,
                [f"NAME: {'; '.join(named.about).removeprefix('the name: ')}"],
            )
        yield path, inner, parts, about
        yield from _sections(inner, parts, f"{path}.")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)


def _settings(model: type[BaseModel], keys: Mapping[str, _Written]) -> Iterator[str]:
    yield from _table(_setting_rows(model, keys), "key", "default", "takes", "what it does")


def _setting_rows(
    model: type[BaseModel], keys: Mapping[str, _Written]
) -> Iterator[tuple[str, ...]]:
    for name, info in model.model_fields.items():
        if name == getattr(model, "named_by_key", ""):
            continue
        key = keys[name]
        if key.parts:
            yield f"`{name}`", "", "a section, see below", _joined(key.about)
            continue
        inner = _model_in(info.annotation)
        takes = form_of(info) if inner is None else "keys " + ", ".join(inner.model_fields)
        default = "" if key.is_off or info.is_required() else f"`{key.value}`"
        yield f"`{name}`", default, takes, _joined(key.about)


def _sentence(about: list[str]) -> str:
    text = _joined(about)
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _joined(about: list[str]) -> str:
    return " ".join(" ".join(about).split())


if __name__ == "__main__":
    guide = guide_page(GUIDE.read_text(encoding="utf-8"))
    for file, text in ((JOBS, job_page()), (CONFIG, config_page()), (GUIDE, guide)):
        file.write_text(text, encoding="utf-8", newline="\n")
