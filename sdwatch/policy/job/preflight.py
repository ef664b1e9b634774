"""Whether one WebUI can do a job, told before anything is sent to it. Pure.

Names are looked up in the lists of this WebUI, fields in its own schema: most of what is wrong
there it would pass over in silence, and draw something else (measured). A list that
it does not have is skipped, and said so. Words of textual inversions cannot be told from other
words; only `embedding:NAME` is looked at.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sdwatch.errors import Problem
from sdwatch.policy.job.catalogue import (
    ALWAYS_ON,
    CHANGING,
    JSON_TYPES,
    SELECTABLE,
    Catalogue,
    FieldRule,
    Kind,
    Names,
    fold,
    script_role,
)
from sdwatch.policy.job.confinement import JobRules
from sdwatch.policy.job.document import shown
from sdwatch.policy.job.job import Job, Size, Stage
from sdwatch.policy.job.payload import (
    DEFAULT_SCALE,
    DEFAULT_SIDE,
    UPSCALE,
    hires_size,
    names_upscaler,
    own_images,
    restores_faces,
    scaled,
)
from sdwatch.policy.job.places import files_named_in, is_model, is_model_key, texts_in
from sdwatch.policy.job.schema import Place, nearest
from sdwatch.policy.job.scripts import Where, is_name, where

MAX_GENERATION = 100_000_000
"""Pixels of what one call makes, if the config says no other bound: as many as an image that a job
brings may have. Larger ones end in failed allocations, or in the kernel's out-of-memory killer."""

_TYPO = 0.85
_MOST_SHOWN = 12  # names in a message
_OLD_HASH = re.compile(r"(?:.*\[)?[0-9a-fA-F]{8}\]?")  # AUTOMATIC1111's first, which no list has
_LORA = re.compile(r"<lora:([^:>]+)")
_EMBEDDING = re.compile(r"(?i)\bembedding:([\w.-]*\w)")
# What is taken beside the names of a list.
_ALSO: Mapping[str, tuple[str, ...]] = {
    "checkpoint": ("None", "none", "Use same checkpoint"),
    "sampler": ("Use same sampler",),
    "scheduler": ("Use same scheduler",),
    "module": ("None", "Automatic", "Built in", "Use same choices"),
    "VAE": ("None", "Automatic"),
}


@dataclass(frozen=True)
class Checked:
    """`problems`: why this WebUI cannot do the job. `notes`: what was not looked up, and why.
    `stale`: lists whose names were not enough, and that may have changed since they were read."""

    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    stale: frozenset[str] = frozenset()


def check_against(
    job: Job,
    catalogue: Catalogue,
    max_generation: int = MAX_GENERATION,
    rules: JobRules = JobRules(),  # noqa: B008 - it is frozen
) -> Checked:
    """What of `job` the WebUI with this catalogue cannot do. `max_generation`: see MAX_GENERATION;
    a call's pixels are those of one picture, after hires or upscaling, times the batch. `rules`:
    what they allow is taken for a setting that the WebUI has, though it does not list it."""
    check = _Check(catalogue, max_generation, job.sizes, rules)
    size: Size | None = None
    for stage in job.stages:
        size = check.stage(stage, size)
    notes = [f"{name}: not checked: {why}" for name, why in check.skipped.items()]
    if catalogue.kind is Kind.SDNEXT and catalogue.rate_limit != 0:
        notes.append(_limited(catalogue.rate_limit))
    return Checked(
        tuple(check.problems),
        tuple(notes),
        frozenset(check.refusing & CHANGING),
    )


class _Check:
    """One walk over a job."""

    def __init__(
        self,
        catalogue: Catalogue,
        max_generation: int,
        sizes: Mapping[str, Size],
        rules: JobRules,
    ) -> None:
        self.problems: list[Problem] = []
        self.skipped: dict[str, str] = {}
        self.refusing: set[str] = set()
        self._catalogue = catalogue
        self._kind = catalogue.kind
        self._who = f"this WebUI ({catalogue.kind.words})"
        self._max_generation = max_generation
        self._sizes = sizes
        self._rules = rules
        self._stage: Stage

    def stage(self, stage: Stage, before: Size | None) -> Size | None:
        """One stage; `before`: the size of what the stage before it made, as far as that is known.
        The size of what this one makes."""
        self._stage = stage
        stages = self._catalogue.stages
        if stages is not None and stage.kind not in stages:
            self.fail((), f"{self._who} has no {stage.kind}")
            return None
        if why := self._catalogue.cannot.get(stage.kind):
            self.fail((), f"{self._who} cannot do {stage.kind}: {why}")
            return None
        self.check_fields((stages or {}).get(stage.kind))
        self.check_names()
        own = own_images(stage)  # of several the first gives the size
        return self.check_size(self._sizes.get(own[0]) if own else before)

    def fail(self, place: Place, message: str) -> None:
        places = self._stage.places
        where = next((places[place[:n]] for n in range(len(place), -1, -1) if place[:n] in places),
                     (self._stage.line, 1))  # fmt: skip
        problem = Problem(*where, message)
        if problem not in self.problems:  # a prompt may name the same LoRA twice
            self.problems.append(problem)

    # -- the fields

    def check_fields(self, rules: Mapping[str, FieldRule] | None) -> None:
        if rules is None:
            if self._catalogue.stages is None:
                self.skipped["fields"] = f"{self._who} gave no /openapi.json"
            return
        for name, value in self._stage.fields.items():
            if name not in rules:
                self.fail((name,), f"{self._who} knows no field {name}{_perhaps(name, rules)}")
            elif why := _misfit(value, rules[name]):
                self.fail((name,), f"{self._who} takes {name} only if it {why}")

    # -- the names

    def check_names(self) -> None:
        fields = self._stage.fields
        for name, value in fields.items():
            look = _LOOK_UP.get(name)
            used = not name.startswith("hr_") or fields.get("enable_hr")
            if look is not None and value and used:
                look(self, (name,), value)

    def name(self, what: str, route: str, place: Place, name: Any) -> None:
        """One name that must be in the list of this route."""
        names = self.names(route)
        if names is None or name in _ALSO.get(what, ()) or not isinstance(name, str):
            return
        if name not in names:
            self.unknown(what, route, place, name, names)
        elif what == "upscaler" and (why := self._catalogue.useless.get(name)):
            self.fail(place, f"{self._who} cannot enlarge with {_quoted(name)}: {why}")

    def names(self, route: str) -> Names | None:
        """A list; None where it is not there, which is noted."""
        if (names := self._catalogue.lists.get(route)) is None:
            list_name = route.partition("/")[0]
            why = self._catalogue.missing.get(list_name, "no such list")
            self.skipped[list_name] = f"{self._who}: {why}"
        return names

    def unknown(self, what: str, route: str, place: Place, name: str, names: Names) -> None:
        self.refusing.add(route.partition("/")[0])
        self.fail(place, f"{self._who} has no {what} {_quoted(name)}{_nearest(name, names)}")

    def sampler(self, place: Place, name: str) -> None:
        names = self.names("samplers")
        default = self._kind is Kind.SDNEXT and name == "Default"
        if names is not None and not default and not self.is_old_style(name, names):
            self.name("sampler", "samplers", place, name)

    def is_old_style(self, name: str, names: Names) -> bool:
        """`DPM++ 2M Karras`: sampler and scheduler in one."""
        schedulers = self._catalogue.lists.get("schedulers")
        if schedulers is None or self._kind in (Kind.SDNEXT, Kind.SDCPP):
            return False
        words = name.split(" ")
        ways = ((" ".join(words[:n]), " ".join(words[n:])) for n in range(1, len(words)))
        return any(sampler in names and scheduler in schedulers for sampler, scheduler in ways)

    def checkpoint(self, place: Place, name: str) -> None:
        # Only what a refiner or a second pass names is searched for by a part of it.
        searched = not self._kind.is_exact or place[0] != "override_settings"
        names = self.names("sd-models")
        found = names is not None and searched and names.within(name)
        if not found and not _OLD_HASH.fullmatch(name):
            self.name("checkpoint", "sd-models", place, name)

    def hires_upscaler(self, place: Place, name: str) -> None:
        """One of two lists, of which SD.Next has only the first, with all in it."""
        images = self.names("upscalers")
        if images is None or name in images:
            return
        if self._kind is Kind.SDNEXT:
            self.unknown("upscaler", "upscalers", place, name, images)
        elif (latent := self.names("latent-upscale-modes")) is not None and name not in latent:
            hints = {**images.hints, **latent.hints}
            known = images.known | latent.known
            both = Names(images.shown + latent.shown, known, images.folds, hints)
            self.unknown("upscaler", "upscalers", place, name, both)

    def styles(self, place: Place, names: list[str]) -> None:
        for number, name in enumerate(names):
            self.name("style", "prompt-styles", (*place, number), name)

    def modules(self, place: Place, names: Any) -> None:
        for number, name in enumerate(names if isinstance(names, list) else [names]):
            if name:
                self.name("module", "sd-modules", (*place, number), name)

    def selectable_script(self, place: Place, name: str) -> None:
        self.script(place, name, SELECTABLE, ALWAYS_ON)

    def always_on_scripts(self, place: Place, given: Mapping[str, Any]) -> None:
        for name, entry in given.items():
            self.script((*place, name), name, ALWAYS_ON, SELECTABLE)
            if not (self._rules.allows(name) or self._rules.allows("alwayson_scripts")):
                args = entry.get("args") if isinstance(entry, Mapping) else None
                self.files_in((*place, name, "args"), args)

    def script_args(self, place: Place, args: Any) -> None:
        script = self._stage.fields.get("script_name")
        allowed = ("script_args", script) if isinstance(script, str) else ("script_args",)
        if not any(map(self._rules.allows, allowed)):
            self.files_in(place, args)

    def files_in(
        self, place: Place, value: Any, key: str = "", stands: Where = Where.PERHAPS
    ) -> None:
        """Files in folders that a script's arguments name: each must be in one of the lists, or is
        a place on the WebUI's disk. No list has the models of extensions: these are told by the key
        that they stand under."""
        if isinstance(value, Mapping):
            for inner, item in value.items():
                if not inner.lower().endswith("prompt"):
                    self.files_in((*place, inner), item, inner, where(inner))
        elif isinstance(value, list):
            for number, item in enumerate(value):
                self.files_in((*place, number), item, key, stands)
        elif isinstance(value, str) and not self.is_own(value, stands):
            for text, name in texts_in(value, key):
                for file in files_named_in(text):
                    if not (is_model(file) and is_model_key(name)):
                        self.file(place, file)

    def is_own(self, text: str, stands: Where) -> bool:
        """Whether a text in a script's arguments is a file of the job."""
        own = stands is Where.IMAGE or text in self._stage.script_images
        return own and is_name(text, stands)

    def file(self, place: Place, path: str) -> None:
        """One that must be in a list. Where a list of models is missing it is let through, and said
        so: it may be one of that."""
        lists = self._catalogue.lists
        if any(path in names or names.has_file(path) for names in lists.values()):
            return
        missing = [name for name in _OF_FILES if name not in lists]
        if not missing:
            self.refusing.update(_OF_FILES)
            self.fail(place, f"{_quoted(path)} is in none of the lists of {self._who}, and names a "
                      f"place on its disk{_ALLOW}")  # fmt: skip
            return
        why = self._catalogue.missing.get(missing[0], "no such list")
        self.skipped["files that scripts name"] = f"{self._who}: {missing[0]}: {why}"

    def script(self, place: Place, name: str, role: str, other: str) -> None:
        """One that must be of this role. /script-info says which are, but not of all scripts."""
        if self._kind is Kind.SDCPP:  # it passes over them (measured)
            self.fail(place, f"{self._who} has no scripts")
            return
        stage, lists = self._stage.kind, self._catalogue.lists
        of_role = lists.get(script_role(stage, role))
        of_other = lists.get(script_role(stage, other))
        if of_role is None or of_other is None:
            self.name("script", f"scripts/{stage}", place, name)
        elif name in of_role:
            return
        elif name in of_other:
            self.fail(place, f"{_quoted(name)} is {_ROLE[other]}: {_NAMED_AS[other]}")
        elif (names := self.names(f"scripts/{stage}")) is not None and name not in names:
            self.unknown(f"{role} script", f"scripts/{stage}", place, name, of_role)

    def settings(self, place: Place, given: Mapping[str, Any]) -> None:
        for name, value in given.items():
            where = (*place, name)
            if name == "sd_model_checkpoint":
                if isinstance(value, str) and value:
                    self.checkpoint(where, value)
            elif self._kind is Kind.SDCPP:  # it passes over them (measured)
                self.fail(where, f"{self._who} has no settings that a job could change")
            elif not self.has_setting(name):
                near = _perhaps(name, self._catalogue.settings)
                self.fail(where, f"{self._who} has no setting {_quoted(name)}{near}{_UNLISTED}")
            elif name == "sd_vae" and value and self._kind is Kind.FORGE_NEO:
                self.fail(where, f"sd_vae has no effect on {self._kind.words}: name the VAE in "
                          "forge_additional_modules")  # fmt: skip
            elif name == "sd_vae" and isinstance(value, str) and value:
                self.name("VAE", "sd-vae", where, value)
            elif name == "forge_additional_modules":
                self.modules(where, value)

    def has_setting(self, name: str) -> bool:
        """As far as is known. AUTOMATIC1111 and Forge answer 500 to one that they do not have;
        SD.Next passes over it, and has some that it does not list (sdnext.md)."""
        known = self._catalogue.settings
        if not known:
            self.skipped["settings"] = f"{self._who}: it does not list them"
        if not known or name in known or self._rules.allows(name):
            return True
        return not (self._kind.is_exact or nearest(name, known, _TYPO).startswith(_DID))

    def prompt(self, place: Place, text: str) -> None:
        for lora in filter(_is_a_name, _LORA.findall(text)):
            self.name("LoRA", "loras", place, lora)
        self.negative_prompt(place, text)

    def negative_prompt(self, place: Place, text: str) -> None:
        """LoRAs are for the other prompt alone."""
        for embedding in filter(_is_a_name, _EMBEDDING.findall(text)):
            self.name("embedding", "embeddings", place, embedding)

    # -- the sizes

    def check_size(self, source: Size | None) -> Size | None:
        """`source`: the size of the picture that the stage is made from, where it is known."""
        if self._stage.kind == UPSCALE:
            return self.check_upscaled(source)
        fields = self._stage.fields
        width, height = fields.get("width"), fields.get("height")
        for name, side in (("width", width), ("height", height)):
            if side and side % 8:
                near = f"{side // 8 * 8} is one, and what would be drawn in silence"
                self.fail((name,), f"{name} must be a multiple of 8, not {side}; {near}")
        if (width, height) == (8, 8) and self._kind in (Kind.FORGE, Kind.SDNEXT):
            self.fail(("width",), f"{self._who} answers 500 to a size of 8x8")
        if width or height or self._stage.kind == "txt2img":
            source = (width or DEFAULT_SIDE, height or DEFAULT_SIDE)
        if source is None:
            return None
        first, made = source, hires_size(source, fields)
        name = "hr_scale" if made != first else "width"
        self.check_area(name, made, fields.get("batch_size", 1))
        return made

    def check_upscaled(self, source: Size | None) -> Size | None:
        fields = self._stage.fields
        whole, made = _upscaled(source, fields)
        if not names_upscaler(fields) and self._kind.is_exact:
            if _asks_for_more(fields, source, made) and not restores_faces(fields):
                self.without_upscaler()
            return source
        if whole:
            name = "upscaling_resize_w" if fields.get("resize_mode") == 1 else "upscaling_resize"
            self.check_area(name, whole, 1)
        return made

    def without_upscaler(self) -> None:
        """Forge and AUTOMATIC1111 give the picture back as it was, with a 200 (measured), whatever
        else is asked for; of SD.Next that was not measured."""
        names = self.names("upscalers")
        others = [name for name in names.shown if name != "None"] if names else []
        named = 'has the upscaler_1 "None"' if "upscaler_1" in self._stage.fields else "names none"
        self.fail(("upscaler_1",), f"{self._who} enlarges nothing without an upscaler, and this "
                  f"stage {named}{_any_of(others)}")  # fmt: skip

    def check_area(self, field: str, made: Size, batch: int) -> None:
        if made[0] * made[1] * batch <= self._max_generation:
            return
        times = f", {batch} of them," if batch > 1 else ""
        area, most = made[0] * made[1] * batch / 1e6, self._max_generation / 1e6
        self.fail((field,), f"{made[0]}x{made[1]}{times} has {area:.4g} megapixels; "
                  f"max_generation in the config allows {most:.4g}")  # fmt: skip


_ROLE = {ALWAYS_ON: "an always-on script", SELECTABLE: "a selectable script"}
_NAMED_AS = {
    ALWAYS_ON: "name it in alwayson_scripts",
    SELECTABLE: "name it as script_name, with its values in script_args",
}


def _look_up(what: str, route: str) -> Callable[[_Check, Place, Any], None]:
    return lambda check, place, name: check.name(what, route, place, name)


_LOOK_UP: Mapping[str, Callable[[_Check, Place, Any], None]] = {
    "prompt": _Check.prompt,
    "hr_prompt": _Check.prompt,
    "negative_prompt": _Check.negative_prompt,
    "hr_negative_prompt": _Check.negative_prompt,
    "sampler_name": _Check.sampler,
    "sampler_index": _Check.sampler,
    "hr_sampler_name": _Check.sampler,
    "scheduler": _look_up("scheduler", "schedulers"),
    "hr_scheduler": _look_up("scheduler", "schedulers"),
    "refiner_checkpoint": _Check.checkpoint,
    "hr_checkpoint_name": _Check.checkpoint,
    "hr_upscaler": _Check.hires_upscaler,
    "hr_additional_modules": _Check.modules,
    "upscaler_1": _look_up("upscaler", "upscalers"),
    "upscaler_2": _look_up("upscaler", "upscalers"),
    "styles": _Check.styles,
    "script_name": _Check.selectable_script,
    "alwayson_scripts": _Check.always_on_scripts,
    "script_args": _Check.script_args,
    "override_settings": _Check.settings,
}

_COST = 5
_USUAL_LIMIT = 300


def _limited(limit: int | None) -> str:
    """SD.Next's limit is on by default, and comes after the work; one that it does not tell is the
    default (measured with 058a7f0c)."""
    pictures = (limit if limit is not None else _USUAL_LIMIT) // _COST
    known = "" if limit is not None else " unless its settings say otherwise"
    return (
        f"SD.Next answers 429 to more than {pictures} calls a minute{known}, after it has computed "
        "the picture: set its option server_rate_limit to 0"
    )


_DID = "; did you mean"
_ALLOW = ' ("allow" in the config makes exceptions)'
_OF_FILES = ("sd-models", "loras")
"""Lists whose names may be files in folders, and that each WebUI has that has scripts."""
# An extension that loads AUTOMATIC1111's API early keeps the settings of others out of its list.
_UNLISTED = ' ("allow" in the config makes exceptions, for what an extension adds unlisted)'


def _is_a_name(text: str) -> bool:
    """Not `{detail|sharp}` or `__loras__`: what Dynamic Prompts makes of these, it alone knows."""
    return not any(sign in text for sign in ("{", "|", "__"))


def _perhaps(name: str, names: Iterable[str]) -> str:
    """The nearest of very many, or nothing."""
    near = nearest(name, names)
    return near if near.startswith(_DID) else ""


def _nearest(name: str, names: Names) -> str:
    near = difflib.get_close_matches(fold(name), names.hints, 1, 0.6)
    if near:
        return f'{_DID} "{names.hints[near[0]]}"?'
    return nearest(name, names.shown) if names.shown else "; its list is empty"


def _any_of(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return f"; there are {', '.join(names[:_MOST_SHOWN])}{more}" if names else ""


def _quoted(name: str) -> str:
    """One long word is a name, and so are a few short ones; anything else may be a prompt, of which
    messages only tell (see `shown`)."""
    is_name = re.fullmatch(r"[^\s<>]{1,80}|[^<>\n]{1,48}", name) and len(name.split()) <= 5
    return f'"{name}"' if is_name else shown(name)


def _upscaled(source: Size | None, fields: Mapping[str, Any]) -> tuple[Size | None, Size | None]:
    """What an upscale computes, and what of that it gives: one to a size enlarges the picture until
    both sides are as long, and cuts off the rest."""
    if fields.get("resize_mode") != 1:
        made = source and scaled(source, fields.get("upscaling_resize", DEFAULT_SCALE))
        return made, made
    width = fields.get("upscaling_resize_w", DEFAULT_SIDE)
    height = fields.get("upscaling_resize_h", DEFAULT_SIDE)
    if source is None:
        return (width, height), (width, height)
    whole = scaled(source, max(width / source[0], height / source[1]))
    return whole, (width, height) if fields.get("upscaling_crop", True) else whole


def _asks_for_more(fields: Mapping[str, Any], source: Size | None, made: Size | None) -> bool:
    """Whether an upscale is to give another size than it is given, as far as that is known."""
    if source is not None:
        return made != source
    times = fields.get("upscaling_resize", DEFAULT_SCALE)
    return bool(fields.get("resize_mode") != 1 and times != 1)


def _misfit(value: Any, rule: FieldRule) -> str:
    """What a schema wants of a value that it does not take, or ''."""
    if rule.types and not any(_is_a(value, kind) for kind in rule.types):
        return "is of type " + " or ".join(sorted(rule.types - {"null"}))
    if rule.choices and value not in rule.choices:
        return "is one of " + ", ".join(map(str, rule.choices))
    if not isinstance(value, int | float):
        return ""
    if rule.minimum is not None and value < rule.minimum:
        return f"is at least {rule.minimum:g}, not {value:g}"
    if rule.maximum is not None and value > rule.maximum:
        return f"is at most {rule.maximum:g}, not {value:g}"
    if rule.above is not None and value <= rule.above:
        return f"is more than {rule.above:g}, not {value:g}"
    return ""


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, JSON_TYPES[kind])
