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
    """Collects the problems of a job. `stage`: the one that is being checked. `skipped`: what was
    not checked, and why. `refusing`: the lists that lacked a name."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.kind = catalogue.kind
        self.webui = f"this WebUI ({catalogue.kind.title})"
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.skipped: dict[str, str] = {}
        self.refusing: set[str] = set()
        self.stage: Stage

    def fail(self, place: Place, message: str) -> None:
        self.fail_at(self._where(place), message)

    def warn(self, place: Place, message: str) -> None:
        self.warn_at(self._where(place), message)

    def _where(self, place: Place) -> tuple[int, int]:
        node = self.stage.node
        return locate(node, place) if node else (self.stage.line, 1)

    def fail_at(self, where: tuple[int, int], message: str) -> None:
        """Report a problem in this line and column."""
        problem = Problem(*where, message)
        if problem not in self.problems:  # a prompt may name the same LoRA twice
            self.problems.append(problem)

    def warn_at(self, where: tuple[int, int], message: str) -> None:
        """Report in the same way what is no reason to refuse the job."""
        warning = Problem(*where, message)
        if warning not in self.warnings:
            self.warnings.append(warning)

    def names(self, route: str) -> Names | None:
        """Return a list; None if the WebUI does not have it, which is noted."""
        if (names := self.catalogue.lists.get(route)) is None:
            list_name = route.partition("/")[0]
            why = self.catalogue.missing.get(list_name, "no such list")
            self.skipped[list_name] = f"{self.webui}: {why}"
        return names


def nearest_name(name: str, names: Names) -> str:
    near = difflib.get_close_matches(fold(name), names.hints, 1, 0.6)
    if near:
        return f'; did you mean "{names.hints[near[0]]}"?'
    return nearest(name, names.shown) if names.shown else "; its list is empty"


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


class NameChecks:
    """Checks the names in one stage after the other."""

    def __init__(self, report: CheckReport, rules: JobRules) -> None:
        self._report = report
        self._rules = rules

    def check_names(self) -> None:
        fields = self._report.stage.fields
        for name, value in fields.items():
            look = _LOOK_UP.get(name)
            used = not name.startswith("hr_") or fields.get("enable_hr")
            if look is not None and value and used:
                look(self, (name,), value)

    def name(self, what: str, route: str, place: Place, name: Any) -> None:
        """Check that a name is in the list of this route."""
        names = self._report.names(route)
        if names is None or name in _ALSO.get(what, ()) or not isinstance(name, str):
            return
        if name not in names:
            self.unknown(what, route, place, name, names)
        elif what == "upscaler" and (why := self._report.catalogue.useless.get(name)):
            self._report.fail(
                place, f"{self._report.webui} cannot enlarge with {quoted(name)}: {why}"
            )

    def unknown(self, what: str, route: str, place: Place, name: str, names: Names) -> None:
        self._report.refusing.add(route.partition("/")[0])
        self._report.fail(
            place, f"{self._report.webui} has no {what} {quoted(name)}{nearest_name(name, names)}"
        )

    def sampler(self, place: Place, name: str) -> None:
        names = self._report.names("samplers")
        taken = name in self._report.kind.unlisted_samplers
        if names is not None and not taken and not self.is_old_style(name, names):
            self.name("sampler", "samplers", place, name)

    def is_old_style(self, name: str, names: Names) -> bool:
        """Return whether it is like `DPM++ 2M Karras`: sampler and scheduler in one."""
        schedulers = self._report.catalogue.lists.get("schedulers")
        if schedulers is None or not self._report.kind.joins_sampler_and_scheduler:
            return False
        words = name.split(" ")
        ways = ((" ".join(words[:n]), " ".join(words[n:])) for n in range(1, len(words)))
        return any(sampler in names and scheduler in schedulers for sampler, scheduler in ways)

    def checkpoint(self, place: Place, name: str) -> None:
        # Only what a refiner or a second pass names is searched for by a part of it.
        searched = not self._report.kind.exact_names or place[0] != "override_settings"
        names = self._report.names("sd-models")
        found = names is not None and searched and names.within(name)
        if not found and not _OLD_HASH.fullmatch(name):
            self.name("checkpoint", "sd-models", place, name)

    def needed(self, needs: Needs) -> None:
        """Check the checkpoints that the job itself asks for."""
        for name in needs.checkpoints:
            names = self._report.names("sd-models")
            if names is not None and name not in names and fold(name) not in names.hints:
                self._report.refusing.add("sd-models")
                near = nearest_name(name, names)
                why = f"{self._report.webui} has no checkpoint {quoted(name)}{near}"
                self._report.fail_at(needs.place_of(name), why)

    def hires_upscaler(self, place: Place, name: str) -> None:
        """Check a name that may be in any of several lists."""
        lists: list[Names] = []
        for route in self._report.kind.hires_lists:
            names = self._report.names(route)
            if names is None or name in names:
                return
            lists.append(names)
        self.unknown("upscaler", "upscalers", place, name, joined(lists))

    def styles(self, place: Place, names: list[str]) -> None:
        for number, name in enumerate(names):
            self.name("style", "prompt-styles", (*place, number), name)

    def modules(self, place: Place, names: Any) -> None:
        for number, name in enumerate(names if isinstance(names, list) else [names]):
            if name:
                self.name("module", "sd-modules", (*place, number), name)

    def always_on_scripts(self, place: Place, given: Mapping[str, Any]) -> None:
        for name, entry in given.items():
            self.script((*place, name), name, ALWAYS_ON, SELECTABLE)
            if not (self._rules.allows(name) or self._rules.allows("alwayson_scripts")):
                args = entry.get("args") if isinstance(entry, Mapping) else None
                self.files_in((*place, name, "args"), args)

    def script_args(self, place: Place, args: Any) -> None:
        script = self._report.stage.fields.get("script_name")
        allowed = ("script_args", script) if isinstance(script, str) else ("script_args",)
        if not any(map(self._rules.allows, allowed)):
            self.files_in(place, args)

    def files_in(
        self, place: Place, value: Any, key: str = "", stands: Where = Where.PERHAPS
    ) -> None:
        """Check the files in folders that a script's arguments name: one in none of the lists is a
        path on the WebUI's disk. No list has the models of extensions; their key identifies them.
        """
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
                    if not is_model(file, name):
                        self.file(place, file)

    def is_own(self, text: str, stands: Where) -> bool:
        """Return whether a text in a script's arguments is a file of the job."""
        own = stands is Where.IMAGE or text in self._report.stage.script_images
        return own and is_name(text, stands)

    def file(self, place: Place, path: str) -> None:
        """Check that a file is in a list. If a list of models is missing, the file may be in that,
        so it is only noted."""
        lists = self._report.catalogue.lists
        if any(path in names or names.has_file(path) for names in lists.values()):
            return
        missing = [name for name in _OF_FILES if name not in lists]
        if not missing:
            self._report.refusing.update(_OF_FILES)
            self._report.fail(place, f"{quoted(path)} is in none of the WebUI's lists, and names a "
                      f"place on its disk{_ALLOW}")  # fmt: skip
            return
        why = self._report.catalogue.missing.get(missing[0], "no such list")
        self._report.skipped["files that scripts name"] = (
            f"{self._report.webui}: {missing[0]}: {why}"
        )

    def script(self, place: Place, name: str, role: str, other: str) -> None:
        """Check that a script has this role. /script-info lists roles, but not all scripts."""
        if not self._report.kind.has_scripts:
            self._report.fail(place, f"{self._report.webui} has no scripts")
            return
        stage, lists = self._report.stage.kind, self._report.catalogue.lists
        of_role = lists.get(script_role(stage, role))
        of_other = lists.get(script_role(stage, other))
        if of_role is None or of_other is None:
            self.name("script", f"scripts/{stage}", place, name)
        elif name in of_role:
            return
        elif name in of_other:
            self._report.fail(place, f"{quoted(name)} is {_ROLE[other]}: {_NAMED_AS[other]}")
        elif (names := self._report.names(f"scripts/{stage}")) is not None and name not in names:
            self.unknown(f"{role} script", f"scripts/{stage}", place, name, of_role)

    def settings(self, place: Place, given: Mapping[str, Any]) -> None:
        for name, value in given.items():
            where = (*place, name)
            if name == "sd_model_checkpoint":
                if isinstance(value, str) and value:
                    self.checkpoint(where, value)
            elif not self._report.kind.has_settings:
                self._report.fail(
                    where, f"{self._report.webui} has no settings that a job could change"
                )
            elif not self.has_setting(name):
                near = did_you_mean(name, self._report.catalogue.settings)
                self._report.fail(
                    where, f"{self._report.webui} has no setting {quoted(name)}{near}{_UNLISTED}"
                )
            elif name == "sd_vae" and value and self._report.kind.ignores_sd_vae:
                kind = self._report.kind.title
                self._report.fail(where, f"sd_vae has no effect on {kind}: name the VAE in "
                          "forge_additional_modules")  # fmt: skip
            elif name == "sd_vae" and isinstance(value, str) and value:
                self.name("VAE", "sd-vae", where, value)
            elif name == "forge_additional_modules":
                self.modules(where, value)

    def has_setting(self, name: str) -> bool:
        """Return whether the WebUI has a setting, as far as that is known: one that ignores unknown
        ones may have some that it does not list."""
        known = self._report.catalogue.settings
        if not known:
            self._report.skipped["settings"] = f"{self._report.webui} does not list them"
        if not known or name in known or self._rules.allows(name):
            return True
        is_misspelt = did_you_mean(name, known, _TYPO)
        return not (self._report.kind.refuses_unknown_settings or is_misspelt)

    def prompt(self, place: Place, text: str) -> None:
        for lora in filter(_is_a_name, _LORA.findall(text)):
            self.name("LoRA", "loras", place, lora)
        self.negative_prompt(place, text)

    def negative_prompt(self, place: Place, text: str) -> None:
        """Check the embeddings; LoRAs belong only into the other prompt."""
        for embedding in embeddings_in(text):
            self.name("embedding", "embeddings", place, embedding)


def embeddings_in(text: str) -> list[str]:
    """Return the embeddings that a text names as `embedding:NAME`."""
    return list(filter(_is_a_name, EMBEDDING.findall(text)))


_ROLE = {ALWAYS_ON: "an always-on script", SELECTABLE: "a selectable script"}
_NAMED_AS = {
    ALWAYS_ON: "name it in alwayson_scripts",
    SELECTABLE: "name it as script_name, with its values in script_args",
}


def _look_up(what: str, route: str) -> Callable[[NameChecks, Place, Any], None]:
    return lambda check, place, name: check.name(what, route, place, name)


_LOOK_UP: Mapping[str, Callable[[NameChecks, Place, Any], None]] = {
    "prompt": NameChecks.prompt,
    "hr_prompt": NameChecks.prompt,
    "negative_prompt": NameChecks.negative_prompt,
    "hr_negative_prompt": NameChecks.negative_prompt,
    "sampler_name": NameChecks.sampler,
    "sampler_index": NameChecks.sampler,
    "hr_sampler_name": NameChecks.sampler,
    "scheduler": _look_up("scheduler", "schedulers"),
    "hr_scheduler": _look_up("scheduler", "schedulers"),
    "refiner_checkpoint": NameChecks.checkpoint,
    "hr_checkpoint_name": NameChecks.checkpoint,
    "hr_upscaler": NameChecks.hires_upscaler,
    "hr_additional_modules": NameChecks.modules,
    "upscaler_1": _look_up("upscaler", "upscalers"),
    "upscaler_2": _look_up("upscaler", "upscalers"),
    "styles": NameChecks.styles,
    "script_name": lambda check, place, name: check.script(place, name, SELECTABLE, ALWAYS_ON),
    "alwayson_scripts": NameChecks.always_on_scripts,
    "script_args": NameChecks.script_args,
    "override_settings": NameChecks.settings,
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
