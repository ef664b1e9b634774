"""Check the names and files of a job's stages against the lists of one WebUI. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from sdwatch.errors import Problem
from sdwatch.policy.job.calls.catalogue import (
    ALWAYS_ON,
    SELECTABLE,
    Catalogue,
    Names,
    fold,
    joined,
    script_role,
)
from sdwatch.policy.job.job import Stage
from sdwatch.policy.job.needs import Needs
from sdwatch.policy.job.stage.confinement import JobRules
from sdwatch.policy.job.stage.file_arguments import files_named_in, is_model, texts_in
from sdwatch.policy.job.stage.scripts import Where, is_name, where
from sdwatch.policy.job.text.typed_values import Place, locate
from sdwatch.policy.naming import did_you_mean, nearest, quoted


class CheckReport:
    """Collects the problems of a job, each once: a prompt may name the same LoRA twice. `rules`,
    `max_generation`: what the config allows; `stage`: the one that is being checked. `skipped`:
    what was not checked, and why. `refusing`: the lists that lacked a name."""

    def __init__(self, catalogue: Catalogue, rules: JobRules, max_generation: int) -> None:
        self.catalogue = catalogue
        self.rules = rules
        self.max_generation = max_generation
        self.kind = catalogue.kind
        self.webui = f"this WebUI ({catalogue.kind.title})"
        self.problems: dict[Problem, None] = {}
        self.warnings: dict[Problem, None] = {}
        self.skipped: dict[str, str] = {}
        self.refusing: set[str] = set()
        self.stage: Stage

    def fail(self, place: Place, message: str) -> None:
        self.fail_at(self.where(place), message)

    def warn(self, place: Place, message: str) -> None:
        self.warn_at(self.where(place), message)

    def where(self, place: Place) -> tuple[int, int]:
        node = self.stage.node
        return locate(node, place) if node else (self.stage.line, 1)

    def fail_at(self, where: tuple[int, int], message: str) -> None:
        """Report a problem in this line and column."""
        self.problems[Problem(*where, message)] = None

    def warn_at(self, where: tuple[int, int], message: str) -> None:
        """Report in the same way what does not refuse the job."""
        self.warnings[Problem(*where, message)] = None

    def lacks(self, where: tuple[int, int], what: str, route: str, name: str, names: Names) -> None:
        """Report a name that is not in the list of this route."""
        self.refusing.add(route.partition("/")[0])
        if alike := difflib.get_close_matches(fold(name), names.hints, 1, 0.6):
            near = f'; did you mean "{names.hints[alike[0]]}"?'
        else:
            near = nearest(name, names.shown) if names.shown else "; its list is empty"
        self.fail_at(where, f"{self.webui} has no {what} {quoted(name)}{near}")

    def names(self, route: str) -> Names | None:
        """Return a list; None if the WebUI does not have it, which is noted."""
        if (names := self.catalogue.lists.get(route)) is None:
            list_name = route.partition("/")[0]
            why = self.catalogue.missing.get(list_name, "no such list")
            self.skipped[list_name] = f"{self.webui}: {why}"
        return names


_TYPO = 0.85
_OLD_HASH = re.compile(r"(?:.*\[)?[0-9a-fA-F]{8}\]?")  # AUTOMATIC1111's first, which no list has
_LORA = re.compile(r"<lora:([^:>]+)")
EMBEDDING = re.compile(r"(?i)\bembedding:([\w.-]*\w)")
# What is accepted in addition to the names of a list.
_ALSO: Mapping[str, tuple[str, ...]] = {
    "checkpoint": ("None", "none", "Use same checkpoint"),
    "sampler": ("Use same sampler",),
    "scheduler": ("Use same scheduler",),
    "module": ("None", "Automatic", "Built in", "Use same choices"),
    "VAE": ("None", "Automatic"),
}


def check_names(report: CheckReport) -> None:
    fields = report.stage.fields
    for name, value in fields.items():
        look = _LOOK_UP.get(name)
        used = not name.startswith("hr_") or fields.get("enable_hr")
        if look is not None and value and used:
            look(report, (name,), value)


def _name(report: CheckReport, what: str, route: str, place: Place, name: Any) -> None:
    """Check that a name is in the list of this route."""
    names = report.names(route)
    if names is None or name in _ALSO.get(what, ()) or not isinstance(name, str):
        return
    if name not in names:
        report.lacks(report.where(place), what, route, name, names)
    elif what == "upscaler" and (why := report.catalogue.useless.get(name)):
        report.fail(place, f"{report.webui} cannot enlarge with {quoted(name)}: {why}")


def _sampler(report: CheckReport, place: Place, name: str) -> None:
    names = report.names("samplers")
    taken = name in report.kind.unlisted_samplers
    if names is not None and not taken and not _is_old_style(report, name, names):
        _name(report, "sampler", "samplers", place, name)


def _is_old_style(report: CheckReport, name: str, names: Names) -> bool:
    """Return whether it is like `DPM++ 2M Karras`: sampler and scheduler in one."""
    schedulers = report.catalogue.lists.get("schedulers")
    if schedulers is None or not report.kind.joins_sampler_and_scheduler:
        return False
    words = name.split(" ")
    ways = ((" ".join(words[:n]), " ".join(words[n:])) for n in range(1, len(words)))
    return any(sampler in names and scheduler in schedulers for sampler, scheduler in ways)


def _checkpoint(report: CheckReport, place: Place, name: str) -> None:
    # Only what a refiner or a second pass names is searched for by a part of it.
    searched = not report.kind.exact_names or place[0] != "override_settings"
    names = report.names("sd-models")
    found = names is not None and searched and names.within(name)
    if not found and not _OLD_HASH.fullmatch(name):
        _name(report, "checkpoint", "sd-models", place, name)


def check_needed(report: CheckReport, needs: Needs) -> None:
    """Check the checkpoints that the job itself asks for."""
    for name in needs.checkpoints:
        names = report.names("sd-models")
        if names is not None and name not in names and fold(name) not in names.hints:
            report.lacks(needs.place_of(name), "checkpoint", "sd-models", name, names)


def _hires_upscaler(report: CheckReport, place: Place, name: str) -> None:
    """Check a name that may be in any of several lists."""
    lists: list[Names] = []
    for route in report.kind.hires_lists:
        names = report.names(route)
        if names is None or name in names:
            return
        lists.append(names)
    report.lacks(report.where(place), "upscaler", "upscalers", name, joined(lists))


def _styles(report: CheckReport, place: Place, names: list[str]) -> None:
    for number, name in enumerate(names):
        _name(report, "style", "prompt-styles", (*place, number), name)


def _modules(report: CheckReport, place: Place, names: Any) -> None:
    for number, name in enumerate(names if isinstance(names, list) else [names]):
        if name:
            _name(report, "module", "sd-modules", (*place, number), name)


def _always_on_scripts(report: CheckReport, place: Place, given: Mapping[str, Any]) -> None:
    for name, entry in given.items():
        _script(report, (*place, name), name, ALWAYS_ON, SELECTABLE)
        if not report.rules.allows(name, "alwayson_scripts"):
            args = entry.get("args") if isinstance(entry, Mapping) else None
            _files_in(report, (*place, name, "args"), args)


def _script_args(report: CheckReport, place: Place, args: Any) -> None:
    script = report.stage.fields.get("script_name")
    allowed = ("script_args", script) if isinstance(script, str) else ("script_args",)
    if not report.rules.allows(*allowed):
        _files_in(report, place, args)


def _files_in(
    report: CheckReport, place: Place, value: Any, key: str = "", stands: Where = Where.PERHAPS
) -> None:
    """Check the files in folders that a script's arguments name: one in none of the lists is a
    path on the WebUI's disk. No list has the models of extensions; their key identifies them."""
    if isinstance(value, Mapping):
        for inner, item in value.items():
            if not inner.lower().endswith("prompt"):
                _files_in(report, (*place, inner), item, inner, where(inner))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            _files_in(report, (*place, number), item, key, stands)
    elif isinstance(value, str):
        is_own = stands is Where.IMAGE or value in report.stage.script_images
        if is_own and is_name(value, stands):
            return  # a file of the job
        for text, name in texts_in(value, key):
            for file in files_named_in(text):
                if not is_model(file, name):
                    _file(report, place, file)


def _file(report: CheckReport, place: Place, path: str) -> None:
    """Check that a file is in a list. If a list of models is missing, the file may be in that,
    so it is only noted."""
    lists = report.catalogue.lists
    if any(path in names or names.has_file(path) for names in lists.values()):
        return
    missing = [name for name in _OF_FILES if name not in lists]
    if not missing:
        report.refusing.update(_OF_FILES)
        report.fail(place, f"{quoted(path)} is in none of the WebUI's lists, and names a "
                  f"place on its disk{_ALLOW}")  # fmt: skip
        return
    why = report.catalogue.missing.get(missing[0], "no such list")
    report.skipped["files that scripts name"] = f"{report.webui}: {missing[0]}: {why}"


def _script(report: CheckReport, place: Place, name: str, role: str, other: str) -> None:
    """Check that a script has this role. /script-info lists roles, but not all scripts."""
    if not report.kind.has_scripts:
        report.fail(place, f"{report.webui} has no scripts")
        return
    stage, lists = report.stage.kind, report.catalogue.lists
    of_role = lists.get(script_role(stage, role))
    of_other = lists.get(script_role(stage, other))
    if of_role is None or of_other is None:
        _name(report, "script", f"scripts/{stage}", place, name)
    elif name in of_role:
        return
    elif name in of_other:
        report.fail(place, f"{quoted(name)} is {_ROLE[other]}: {_NAMED_AS[other]}")
    elif (names := report.names(f"scripts/{stage}")) is not None and name not in names:
        report.lacks(report.where(place), f"{role} script", f"scripts/{stage}", name, of_role)


def _settings(report: CheckReport, place: Place, given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        where = (*place, name)
        if name == "sd_model_checkpoint":
            if isinstance(value, str) and value:
                _checkpoint(report, where, value)
        elif not report.kind.has_settings:
            report.fail(where, f"{report.webui} has no settings that a job could change")
        elif not _has_setting(report, name):
            near = did_you_mean(name, report.catalogue.settings)
            report.fail(where, f"{report.webui} has no setting {quoted(name)}{near}{_UNLISTED}")
        elif name == "sd_vae" and value and report.kind.ignores_sd_vae:
            kind = report.kind.title
            report.fail(where, f"sd_vae has no effect on {kind}: name the VAE in "
                      "forge_additional_modules")  # fmt: skip
        elif name == "sd_vae" and isinstance(value, str) and value:
            _name(report, "VAE", "sd-vae", where, value)
        elif name == "forge_additional_modules":
            _modules(report, where, value)


def _has_setting(report: CheckReport, name: str) -> bool:
    """Return whether the WebUI has a setting, as far as that is known: one that ignores unknown
    ones may have some that it does not list."""
    known = report.catalogue.settings
    if not known:
        report.skipped["settings"] = f"{report.webui} does not list them"
    if not known or name in known or report.rules.allows(name):
        return True
    is_misspelt = did_you_mean(name, known, _TYPO)
    return not (report.kind.refuses_unknown_settings or is_misspelt)


def _prompt(report: CheckReport, place: Place, text: str) -> None:
    for lora in filter(_is_a_name, _LORA.findall(text)):
        _name(report, "LoRA", "loras", place, lora)
    _negative_prompt(report, place, text)


def _negative_prompt(report: CheckReport, place: Place, text: str) -> None:
    """Check the embeddings; LoRAs belong only into the other prompt."""
    for embedding in embeddings_in(text):
        _name(report, "embedding", "embeddings", place, embedding)


def embeddings_in(text: str) -> list[str]:
    """Return the embeddings that a text names as `embedding:NAME`."""
    return list(filter(_is_a_name, EMBEDDING.findall(text)))


_ROLE = {ALWAYS_ON: "an always-on script", SELECTABLE: "a selectable script"}
_NAMED_AS = {
    ALWAYS_ON: "name it in alwayson_scripts",
    SELECTABLE: "name it as script_name, with its values in script_args",
}


Look = Callable[[CheckReport, Place, Any], None]


def _look_up(what: str, route: str) -> Look:
    return lambda report, place, name: _name(report, what, route, place, name)


_LOOK_UP: Mapping[str, Look] = {
    "prompt": _prompt,
    "hr_prompt": _prompt,
    "negative_prompt": _negative_prompt,
    "hr_negative_prompt": _negative_prompt,
    "sampler_name": _sampler,
    "sampler_index": _sampler,
    "hr_sampler_name": _sampler,
    "scheduler": _look_up("scheduler", "schedulers"),
    "hr_scheduler": _look_up("scheduler", "schedulers"),
    "refiner_checkpoint": _checkpoint,
    "hr_checkpoint_name": _checkpoint,
    "hr_upscaler": _hires_upscaler,
    "hr_additional_modules": _modules,
    "upscaler_1": _look_up("upscaler", "upscalers"),
    "upscaler_2": _look_up("upscaler", "upscalers"),
    "styles": _styles,
    "script_name": lambda report, place, name: _script(report, place, name, SELECTABLE, ALWAYS_ON),
    "alwayson_scripts": _always_on_scripts,
    "script_args": _script_args,
    "override_settings": _settings,
}


_ALLOW = ' (to permit it, name its script under "allow" in the config)'
_OF_FILES = ("sd-models", "loras")
"""Lists whose names may be files in folders; each WebUI with scripts has them."""
# An extension that loads AUTOMATIC1111's API early hides the settings of others from its list.
_UNLISTED = ' (if an extension adds it without listing it, name it under "allow" in the config)'


def _is_a_name(text: str) -> bool:
    """Return whether a text is a name, unlike `{detail|sharp}` or `__loras__`, which only Dynamic
    Prompts can resolve."""
    return not any(sign in text for sign in ("{", "|", "__"))
