"""The catalogue of one WebUI: its kind, the names in its lists, the fields that it knows. Pure.

Made from the answers to GET /sdapi/v1/… and /openapi.json. How a name is looked up was measured,
or is as in AUTOMATIC1111's code; what differs between kinds is in policy/kinds. Where it is not
known, a name is taken for right rather than refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any

from sdwatch.policy.job.stage.stage_kinds import API, STAGES, StageKind
from sdwatch.policy.kinds.kind import Kind
from sdwatch.policy.kinds.table import kind_by_routes, kind_of_bare_404
from sdwatch.policy.kinds.unknown import UNKNOWN

if TYPE_CHECKING:
    from sdwatch.policy.workflow.node_classes import NodeClasses

LISTS = (
    "sd-models", "samplers", "schedulers", "upscalers", "latent-upscale-modes", "scripts",
    "script-info", "prompt-styles", "loras", "embeddings", "sd-vae", "sd-modules",
)  # fmt: skip
"""Routes, the more important first."""

NODE_CLASSES = "object_info"
"""What a WebUI that queues workflows has instead."""

CHANGING = frozenset((*LISTS, NODE_CLASSES)) - {
    "samplers", "schedulers", "scripts", "script-info", "latent-upscale-modes",
}  # fmt: skip
"""Those that may have another name in them while the WebUI runs: files, and titles of files,
which change with the first load (AUTOMATIC1111, SD.Next)."""

ALWAYS_ON, SELECTABLE = "always-on", "selectable"
"""What scripts are: named in alwayson_scripts, or as script_name."""

_MAY_BE_EMPTY = frozenset({"prompt-styles", "loras", "embeddings", "sd-vae", "sd-modules"})
"""Those of what a person adds. No WebUI is without a sampler or an upscaler: such a list says
nothing, and must not be held against a job."""

_CHECKSUM = re.compile(r"\s{0,8}\[[0-9a-fA-F]{8,64}\]\s*$")  # behind a checkpoint's title
_LONGEST_VERSION = 100
_MOST_NUMBER = 1e300


@dataclass(frozen=True)
class Names:
    """One list. `shown`: as people write them; `known`: every text that is taken for one of them,
    folded where `folds`; `hints`: which of them is meant by every text that is like one, folded;
    `files`: where those that are files lie, with `/` and in lower case."""

    shown: tuple[str, ...]
    known: frozenset[str]
    folds: bool
    hints: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()

    def has_file(self, path: str) -> bool:
        """Return whether one of them is the file at the end of whose path `path` stands."""
        end = path.replace("\\", "/").lower()
        return any(file == end or file.endswith(f"/{end}") for file in self.files)

    def __contains__(self, name: str) -> bool:
        return (fold(name) if self.folds else name) in self.known

    def within(self, part: str) -> bool:
        """Return whether `part` is a part of one of them, as a search for a checkpoint goes."""
        searched = fold(part) if self.folds else part
        return any(searched in name for name in self.known)


def joined(lists: Sequence[Names]) -> Names:
    """Return the names of several lists as one; `folds` as in the first."""
    return Names(
        shown=tuple(name for names in lists for name in names.shown),
        known=frozenset(name for names in lists for name in names.known),
        folds=lists[0].folds,
        hints={hint: name for names in lists for hint, name in names.hints.items()},
    )


@dataclass(frozen=True)
class FieldRule:
    """What a schema says of a field. `types`: JSON Schema's, empty for any."""

    types: frozenset[str] = frozenset()
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    choices: tuple[Any, ...] = ()


JSON_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}
"""Of JSON Schema, and what is one of them here."""

Stages = Mapping[str, Mapping[str, FieldRule] | None]
Refusals = Callable[[str, Mapping[str, Any]], Iterable[tuple[str, str]]]


@dataclass(frozen=True)
class Catalogue:
    """The catalogue of one incarnation of one WebUI; nothing is known of a new one.

    `lists`: the names by route, those of `scripts` by `scripts/txt2img` and so on, those of
    `script-info` by `script-info/txt2img/always-on` and `…/selectable`. `missing`: the
    routes that gave no list, and why. `stages`: the generations that it has, each with its fields
    where they are known; None: not known. `settings`: names of its settings, empty if not known.
    `cannot`: stages that it has and that fail, each with why; `useless`: upscalers that it lists
    and that do not enlarge, as those whose weights cannot be loaded, each with why. `rate_limit`:
    SD.Next's, in its units a minute (a picture costs 5); 0: none; None: not known. `refuses`:
    returns which of a stage's fields have no counterpart on it, each with why; '' for all of it.
    `classes`: of nodes, of one that queues workflows; None: not known.
    """

    kind: Kind = UNKNOWN
    version: str = ""
    lists: Mapping[str, Names] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    stages: Stages | None = None
    settings: frozenset[str] = frozenset()
    cannot: Mapping[str, str] = field(default_factory=dict)
    useless: Mapping[str, str] = field(default_factory=dict)
    rate_limit: int | None = None
    refuses: Refusals | None = None
    classes: NodeClasses | None = None

    def with_classes(self, classes: NodeClasses, refuses: Refusals) -> Catalogue:
        """Return the catalogue with its WebUI's nodes, and what that cannot do of a stage."""
        return replace(self, classes=classes, refuses=refuses)

    def with_list(self, route: str, body: Any) -> Catalogue:
        """Return the catalogue with what this route answered. Raises ValueError where that is not a
        list as expected."""
        names = _read(route, body, self.kind)
        others = self.without_list(route, "")
        missing = {name: why for name, why in self.missing.items() if name != route}
        return replace(self, lists={**others.lists, **names}, missing=missing)

    def with_version(self, body: Any) -> Catalogue:
        """Return the catalogue with the answer to /sdapi/v1/version; a copy without git knows
        nothing."""
        said = (_at(body, key) for key in ("updated", "commit"))
        words = (word for word in said if isinstance(word, str) and word not in ("", "unknown"))
        return replace(self, version=" ".join(words)[:_LONGEST_VERSION])

    def with_options(self, body: Any) -> Catalogue:
        """Return the catalogue with the answer to /sdapi/v1/options, where a kind has its rate
        limit. SD.Next shows what differs from its default, and not all of that."""
        limit = _at(body, "server_rate_limit")
        is_count = isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0
        return replace(self, rate_limit=limit) if is_count else self

    def without_list(self, route: str, why: str) -> Catalogue:
        """Return the catalogue without a list, since this route did not give it."""
        lists = {
            name: names for name, names in self.lists.items() if name.partition("/")[0] != route
        }
        return replace(self, lists=lists, missing={**self.missing, route: why})


def catalogue_of(openapi: Any, *, bare_404: bool = False) -> Catalogue:
    """Return what a WebUI's /openapi.json says of it (None where it gave none), without lists.
    `bare_404`: it has none, and says so with a 404 without a body."""
    if bare_404:
        kind = kind_of_bare_404()
        return Catalogue(kind, stages=dict.fromkeys(kind.stages_without_schema) or None)
    paths = openapi.get("paths") if isinstance(openapi, dict) else None
    if not isinstance(paths, dict):
        return Catalogue()
    schemas = _at(openapi, "components", "schemas")
    there = (stage for stage in STAGES.values() if stage.route in paths)
    stages = {stage.name: _fields(stage, paths[stage.route], schemas) for stage in there}
    options = _at(schemas, "Options", "properties")
    settings = frozenset(options) if isinstance(options, dict) else frozenset()
    routes = {path.removeprefix(API) for path in paths if path.startswith(API)}
    return Catalogue(kind_by_routes(routes), stages=stages or None, settings=settings)


def fold(name: str) -> str:
    """Return a name without case, spaces, `_` and `-`."""
    return re.sub(r"[\s_-]+", "", name).lower()


# -- the fields


def _fields(stage: StageKind, path: Any, schemas: Any) -> Mapping[str, FieldRule] | None:
    """Return the fields of a POST by its schema; None where that cannot be found, or is not of such
    a stage: without the field that each of its calls has."""
    schema = _at(path, "post", "requestBody", "content", "application/json", "schema")
    reference = _at(schema, "$ref")
    if isinstance(reference, str):
        schema = _at(schemas, reference.rpartition("/")[2])
    properties = _at(schema, "properties")
    if not isinstance(properties, dict) or stage.needed_field not in properties:
        return None
    return {name: _rule(rule) for name, rule in properties.items()}


def _rule(schema: Any) -> FieldRule:
    if not isinstance(schema, dict):
        return FieldRule()
    kinds = schema.get("anyOf")
    kinds = kinds if isinstance(kinds, list) else [schema]
    given = schema.get("enum")
    choices = given if isinstance(given, list) else []
    if not all(isinstance(choice, str | int | None) for choice in choices):
        choices = []  # two of them cannot be distinguished
    return FieldRule(
        _types(kinds),
        _number(schema.get("minimum")),
        _number(schema.get("maximum")),
        _number(schema.get("exclusiveMinimum")),
        tuple(choices),
    )


def _types(kinds: list[Any]) -> frozenset[str]:
    """Return the types; none where one of them is unknown to JSON Schema: nobody knows what that
    takes."""
    types = [_at(kind, "type") for kind in kinds]
    known = frozenset(kind for kind in types if isinstance(kind, str) and kind in JSON_TYPES)
    return known if len(known) == len(set(map(str, types))) else frozenset()


def _number(value: Any) -> float | None:
    """Return a bound, or None for what bounds nothing: JSON has numbers that no float can hold, and
    Python reads NaN and Infinity in it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= _MOST_NUMBER else None


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


# -- the lists


def _read(route: str, body: Any, kind: Kind) -> dict[str, Names]:
    """Return the lists in a route's reply. Raises ValueError where nothing in it can be used."""
    read = _read_any(route, body, kind)
    is_empty = route in _MAY_BE_EMPTY and not (body and isinstance(body, list))
    if not is_empty and not any(names.shown for names in read.values()):
        raise ValueError("it names nothing")
    return read


def _read_any(route: str, body: Any, kind: Kind) -> dict[str, Names]:
    if route == "scripts":
        return _scripts(body)
    if route == "embeddings":
        return {route: _names(((name, [name]) for name in _embeddings(body)), folds=True)}
    if not isinstance(body, list):
        raise ValueError("it is not a list")
    items = [item for item in body if isinstance(item, dict)]
    if route == "script-info":
        return _script_roles(items)
    if route == "samplers":
        return {route: _samplers(items, kind)}
    entries = (_ENTRY.get(route, _plain)(item) for item in items)
    # AUTOMATIC1111 looks styles and modules up in ways that were not measured.
    lenient = route in ("prompt-styles", "sd-modules", "sd-vae") or not kind.exact_names
    paths = [_text(item, key) for item in items for key in ("filename", "path", "model_path")]
    files = tuple(path.replace("\\", "/").lower() for path in paths if path)
    return {route: replace(_names(entries, folds=lenient), files=files)}


def _names(entries: Iterable[tuple[str, list[str]]], *, folds: bool) -> Names:
    """Return the list of these entries: the name that is shown, and all that is taken for it."""
    listed = [(shown, [name for name in names if name]) for shown, names in entries if shown]
    hints: dict[str, str] = {}
    for shown, names in listed:
        for name in names:
            hints.setdefault(fold(name), shown)
    known = frozenset(hints) if folds else frozenset(n for _, names in listed for n in names)
    return Names(tuple(shown for shown, _ in listed), known, folds, hints)


def _plain(item: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return `name`, and where there is one also `label`, which is the one that people know."""
    names = [_text(item, "name"), _text(item, "label")]
    return names[1] or names[0], [*names, *_aliases(item)]


def _samplers(items: list[dict[str, Any]], kind: Kind) -> Names:
    """Return the samplers. Aliases only suggest what was meant where the WebUI does not take
    them."""
    taken = not kind.exact_names
    entries = ((n, [n, *_aliases(i)] if taken else [n]) for i in items if (n := _text(i, "name")))
    made = _names(entries, folds=taken)
    named = ((name, item) for item in items if (name := _text(item, "name")))
    aliases = {fold(alias): name for name, item in named for alias in _aliases(item)}
    return replace(made, hints={**aliases, **made.hints})


def _checkpoint(item: Mapping[str, Any]) -> tuple[str, list[str]]:
    title, name = _text(item, "title"), _text(item, "model_name")
    short, file = _text(item, "hash"), _CHECKSUM.sub("", title)
    names = [title, file, name, short, _text(item, "sha256"), *_file_names(item, "filename")]
    if short:
        names += [f"{known} [{short}]" for known in (file, name)]
    return title or name, names


def _in_a_folder(item: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return a LoRA or a style, which may be named without its folder."""
    name = _text(item, "name")
    return name, [name, _text(item, "alias"), *_file_names(item, "path"), name.rpartition("/")[2]]


def _module(item: Mapping[str, Any]) -> tuple[str, list[str]]:
    name = _text(item, "model_name")
    return name, [name, *_file_names(item, "filename")]


_ENTRY = {
    "sd-models": _checkpoint,
    "loras": _in_a_folder,
    "prompt-styles": _in_a_folder,
    "sd-vae": _module,
    "sd-modules": _module,
}


def _scripts(body: Any) -> dict[str, Names]:
    """Return the scripts, which are looked up in lower case, whatever the kind."""
    found = {}
    for stage, titles in body.items() if isinstance(body, dict) else ():
        if isinstance(titles, list):
            names = [title for title in titles if isinstance(title, str)]
            found[f"scripts/{stage}"] = _names(((n, [n]) for n in names), folds=True)
    if not found:
        raise ValueError("it has no scripts in it")
    return found


def _script_roles(items: list[dict[str, Any]]) -> dict[str, Names]:
    """Return which scripts of /scripts run always and which are selected; not all of them are
    here."""
    found: dict[str, Names] = {}
    for stage in STAGES.values():
        if not stage.has_steps or stage.runs_workflow:
            continue  # no script can be part of it
        here = [item for item in items if item.get("is_img2img") is stage.needs_image]
        for role, always in ((ALWAYS_ON, True), (SELECTABLE, False)):
            names = [_text(item, "name") for item in here if item.get("is_alwayson") is always]
            found[script_role(stage.name, role)] = _names(((n, [n]) for n in names), folds=True)
    return found


def script_role(stage: str, role: str) -> str:
    """Return the name of the list of a stage's scripts of this role."""
    return f"script-info/{stage}/{role}"


def _embeddings(body: Any) -> list[str]:
    """Return the embeddings of the model that is loaded: names and what they are; with SD.Next
    names alone, and none without a model (its schema; its source)."""
    parts = [_at(body, key) for key in ("loaded", "skipped")]
    if not isinstance(parts[0], dict | list):
        raise ValueError("it has no embeddings in it")
    if isinstance(parts[0], list) and not any(parts):
        raise ValueError("it is empty, as it also is without a model")
    names = [name for part in parts if isinstance(part, dict | list) for name in part]
    return [name for name in names if isinstance(name, str)]


def _text(item: Mapping[str, Any], key: str) -> str:
    value = item.get(key)
    return value if isinstance(value, str) else ""


def _aliases(item: Mapping[str, Any]) -> list[str]:
    aliases = item.get("aliases")
    return [a for a in aliases if isinstance(a, str)] if isinstance(aliases, list) else []


def _file_names(item: Mapping[str, Any], key: str) -> Iterator[str]:
    """Yield a file's name with and without its ending; the WebUI may run on either system."""
    if path := _text(item, key):
        yield PureWindowsPath(path).name
        yield PureWindowsPath(path).stem
