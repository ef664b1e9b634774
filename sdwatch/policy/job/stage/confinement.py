"""Find what in a job would reach beyond it: to the WebUI's own files and folders, what it saves,
the network, its code. Pure.

Whoever may drop a job may generate pictures with the WebUI, and nothing else that the WebUI's user
may. So a job names checkpoints, scripts and styles, and never a place. Names of settings are those
of GET /sdapi/v1/options of AUTOMATIC1111 v1.10.1, Forge dfdcbab6 and SD.Next 058a7f0c, and of
modules/ui_definitions.py of SD.Next; words are matched, so that extensions' own are found too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sdwatch.policy.job.stage.file_arguments import files_named_in, is_data, texts_in
from sdwatch.policy.job.stage.scripts import Where, is_name, texts_below
from sdwatch.policy.job.stage.stage_kinds import IMAGE_FIELDS, PROMPTS
from sdwatch.policy.job.text.document import Mapping, Node, Scalar, Sequence
from sdwatch.policy.naming import shown

# A name, or one word of it between underscores, and why no job sets it. Matched with DOTALL: a name
# may contain a line end, and would otherwise pass, and be tried again from each of its underscores.
_SETTINGS = (
    (
        r"(.*_)?(out)?(dirs?|directory|directories|paths?|folders?|subfolder|files?|filename)(_.*)?"
        r"|font|subpath|.*_watermark_image|notification_audio.*",
        "it names a place on the WebUI's disk",
    ),
    (
        r"(.*_)?(save|autosaving|incomplete|export)(_.*)?|profiling_.*",
        "it changes what the WebUI saves",
    ),
    (
        r"(api|server|google|huggingface|civitai|remote)_.*|(.*_)?(token|key|mirror|repo)"
        r"|offline_mode",
        "it changes what the WebUI does on the network",
    ),
    (r"disabled?_.*extensions|custom_diffusers_pipeline", "it changes what code the WebUI runs"),
)

# A script by the beginning of its name.
_SCRIPTS = (
    ("custom code", "it runs code on the WebUI's machine"),
    # Its lines may be `--outpath_samples FOLDER` (AUTOMATIC1111 v1.10.1).
    (
        "prompts from file",
        "its lines may name the folder to save to; n_iter and stages do the rest",
    ),
)

# An argument of a script that says by its name that it is a place; `batch_images` is ControlNet's.
_PLACE = re.compile(
    r"(.*_)?(dirs?|directory|paths?|folder|files?|filename|batch_images)(_.*)?", re.DOTALL
)

_ADDRESS = re.compile(r"\s*([a-z][a-z0-9+.-]*:[/\\]{2}|file[=:])", re.IGNORECASE)
# `C:name` is one in that drive's own folder; a weight, as in `a:1.2`, is none.
_PATH = re.compile(
    r"\s*(/\S|\\|~[\w.-]*([/\\]|$)|[a-z]:([/\\.]|[^\W\d]|\S*\.[a-z])"
    r"|(\$(\w+|\{\w+\})|%[\w()]+%)[/\\])",
    re.IGNORECASE,
)
DEVICE = re.compile(r"(?i)(con|prn|aux|nul|conin\$|conout\$|clock\$|(com|lpt)[0-9¹²³]) *([.:].*)?")
"""What Windows opens as a device, in any folder and with any ending."""
_JPEG = re.compile(r"/9j/[A-Za-z0-9+/\s]{40,}={0,2}")  # as base64, which looks like a path

_NO_TEXT = re.compile(r"(true|false|yes|no|on|off|[-+.0-9e]*)")

HINT = ' (to permit it, name it under "allow" in the config)'

# Free text, or told of elsewhere.
_NOT_NAMES = (
    *PROMPTS, "comments", "name", *IMAGE_FIELDS, "input", "payload", "outputs", "set",
)  # fmt: skip

# Fields that are refused but for these values, and why. `do_not_save_samples: false` is not here:
# it is what a WebUI takes for granted, and `save_images` decides instead of it.
_NO = ("false", "no", "off")
_YES = ("true", "yes", "on")
_FIELDS: dict[str, tuple[tuple[str, ...], str]] = {
    "save_images": (_NO, "it changes what the WebUI saves"),
    "override_settings_restore_afterwards": (
        _YES, "the settings of this job would stay for the jobs after it"
    ),
    "infotext": ((), "it may carry settings of the WebUI; write its fields one by one"),
}  # fmt: skip


MAX_GENERATION = 100_000_000
"""Default for the most pixels of one call: as many as an image that a job brings may have. Larger
ones end in failed allocations, or in the kernel's out-of-memory killer."""


@dataclass(frozen=True)
class JobRules:
    """What the config lets jobs do. `allow`: names of settings, scripts and fields that would be
    refused, and of settings that the WebUI does not list; `max_image`: pixels of an image that a
    job brings; `max_points`: points of one job. `wildcards`: a folder with a file of lines for each
    `__name__`; `inbox`: whose `_defaults.yaml` jobs get."""

    allow: tuple[str, ...] = ()
    max_image: int = 100_000_000
    max_points: int = 10_000
    wildcards: Path | None = None
    inbox: Path | None = None

    def allows(self, *names: str) -> bool:
        """Return whether the config names one of them under `allow`."""
        return not {name.lower() for name in names}.isdisjoint(map(str.lower, self.allow))


def beyond(
    stage: Mapping, rules: JobRules, is_own: Callable[[str], bool] = lambda _: False
) -> Iterator[tuple[Node, str]]:
    """Yield what in the fields of a stage reaches beyond the job: where it stands, and why it is
    refused. `is_own`: whether a text names a file of the job."""
    given = {key.text: value for key, value in stage.entries}
    script = given.get("script_name")
    if isinstance(script, Scalar) and rules.allows(script.text):
        given.pop("script_args", None)
    for name, value in given.items():
        if name in _NOT_NAMES or rules.allows(name):
            continue
        if name == "override_settings":
            yield from _settings(value, rules)
        elif name == "alwayson_scripts":
            yield from _scripts(value, rules, is_own)
        elif name == "script_name":
            yield from _script(value, rules)
        elif name == "script_args":
            yield from _places(value, name)
            yield from _files(value, name, is_own)
        elif name in _FIELDS:
            fine, why = _FIELDS[name]
            if isinstance(value, Scalar) and not value.is_null and value.text.lower() not in fine:
                yield value, f'"{name}" is refused: {why}{HINT}'
        else:
            yield from _places(value, name)


def beyond_in(key: Scalar, value: Node, rules: JobRules) -> Iterator[tuple[Node, str]]:
    """Yield the same for a field that sdwatch does not know: what by its name belongs to no job,
    and each place, address and file in it."""
    if rules.allows(key.text):
        return
    why = _why_not_set(key.text)
    if why or place_in(key.text):
        yield key, f"{_named(key.text)} is refused: {why or 'it is a place'}{HINT}"
    elif not key.text.lower().endswith("prompt"):
        yield from _places(value, key.text)
        yield from _files(value, key.text, lambda _: False)


def _why_not_set(name: str) -> str:
    """Return why no job sets this, or ''."""
    rules = (why for rule, why in _SETTINGS if re.fullmatch(rule, name.lower(), re.DOTALL))
    return next(rules, "")


def _settings(node: Node, rules: JobRules) -> Iterator[tuple[Node, str]]:
    for key, value in node.entries if isinstance(node, Mapping) else ():
        if rules.allows(key.text):
            continue
        if why := _why_not_set(key.text):
            yield key, f"{_named(key.text)} is refused: {why}{HINT}"
        else:
            yield from _places(value, key.text)


def _scripts(
    node: Node, rules: JobRules, is_own: Callable[[str], bool]
) -> Iterator[tuple[Node, str]]:
    for key, value in node.entries if isinstance(node, Mapping) else ():
        if not rules.allows(key.text):
            yield from _script(key, rules)
            yield from _places(value, key.text)
            yield from _files(value, key.text, is_own)


def _script(node: Node, rules: JobRules) -> Iterator[tuple[Node, str]]:
    if not isinstance(node, Scalar) or rules.allows(node.text):
        return
    for name, why in _SCRIPTS:
        if node.text.lower().startswith(name):
            yield node, f'the script "{name}" is refused: {why}{HINT}'
            return
    yield from _places(node, "script_name")


def _places(node: Node, within: str) -> Iterator[tuple[Node, str]]:
    """Yield texts that are a path or an address, in `within` and anywhere below it."""
    if isinstance(node, Sequence):
        for item in node.items:
            yield from _places(item, within)
    elif isinstance(node, Mapping):
        for key, value in node.entries:
            if is_named_as_place(key.text) and _is_text(value):
                yield value, f"{_named(key.text)} names a place on the WebUI's disk{HINT}"
            elif not key.text.lower().endswith("prompt"):
                yield from _places(value, within)
    elif not node.is_null and (what := place_in(node.text)):
        model = _MODEL_FILE.fullmatch(node.text.strip())
        instead = (
            f'write its bare name, "{model[1]}"' if model else "use a name that the WebUI lists"
        )
        yield node, f"{_named(within)} contains {what}; {instead}{HINT}"


def _files(node: Node, within: str, is_own: Callable[[str], bool]) -> Iterator[tuple[Node, str]]:
    """Return texts in a script's arguments that name a file in a folder by a relative path: an
    extension opens it below the WebUI's folder. The WebUI's lists decide what may be a model's name
    (see name_checks.py); what is in the place of an image is a file of the job (see scripts.py)."""
    why = (
        f"{_named(within)} contains a path, and the WebUI would open that file on its own disk; to "
        f"name an image of the job, use an image key such as `image:`{HINT}"
    )
    for scalar, place in texts_below(node, prompts=False):
        text = scalar.text
        is_image = is_name(text, place) and (place is Where.IMAGE or is_own(text))
        if not (scalar.is_null or is_image or place_in(text)) and any(
            is_data(file) for inner, _ in texts_in(text) for file in files_named_in(inner)
        ):
            yield scalar, why


_MODEL_FILE = re.compile(
    r"(?i)(?:.*[/\\])?([\w .()+\[\]-]{1,80}\.(?:safetensors|sft|ckpt|gguf|pth?|bin))"
)


def is_named_as_place(name: str) -> bool:
    """Return whether an argument says by its name that it is a place on the WebUI's disk."""
    return _PLACE.fullmatch(name.lower()) is not None


def _is_text(node: Node) -> bool:
    """Return whether it says anything but yes, no or a number."""
    return (
        isinstance(node, Scalar)
        and not node.is_null
        and _NO_TEXT.fullmatch(node.text.lower()) is None
    )


def _named(name: str) -> str:
    """Return a name for a message: as `shown`, but one long word is a name and not a prompt."""
    return f'"{name}"' if re.fullmatch(r"\w{1,60}", name) else shown(name)


def place_in(text: str) -> str:
    """Return what kind of place a text is, or one that it holds as JSON; else an empty text."""
    return next(filter(None, (_place(inner) for inner, _ in texts_in(text))), "")


def _place(text: str) -> str:
    """Return what kind of place this text is, or an empty text."""
    if _JPEG.fullmatch(text.rstrip()):
        return ""
    for line in map(_visible, text.splitlines()):
        if _ADDRESS.match(line):
            return "an address"
        parts = re.split(r"[/\\]", line)
        if _PATH.match(line) or ".." in parts:
            return "a path"
        if any(DEVICE.fullmatch(part.strip()) for part in parts):
            return "a device of Windows"
    return ""


def _visible(line: str) -> str:
    """Return a line without control and format characters: a path behind a zero-width one is a
    path."""
    if line.isascii() and line.isprintable():
        return line
    return "".join(sign for sign in line if unicodedata.category(sign) not in ("Cc", "Cf"))
