"""Check whether a 200 is what was asked for, by the reply, its pictures and the log. Pure.

Facts of Forge dfdcbab6, AUTOMATIC1111 v1.10.1, SD.Next 058a7f0c and stable-diffusion.cpp, all
measured unless a line says otherwise. If a WebUI says nothing, nothing is reported: a false alarm
costs a good picture, a restart and a job.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sdwatch.policy.failure.extensions import broken_extensions
from sdwatch.policy.failure.fallbacks import fallbacks_in
from sdwatch.policy.failure.generation_info import parameters_of
from sdwatch.policy.job.calls.payload import MAX_SEED, hires_size, names_upscaler, restores_faces
from sdwatch.policy.job.stage.file_arguments import bare_name
from sdwatch.policy.job.stage.stage_kinds import STAGES, Makes
from sdwatch.policy.naming import nearest
from sdwatch.policy.privacy.printable import counted, shortened


class BadReply(StrEnum):
    """Why a 200 cannot be checked; the `kind` of its error, like that of a Finding."""

    NO_IMAGE = "no image"
    """It has none, although it describes one."""
    NO_PICTURE = "no picture"
    """One does not decode."""
    NO_FILE = "no file"
    """A file that is not a picture is gone, or not whole."""
    A_PATH = "a path"
    """It names a file in the place of an image."""
    NO_JSON = "no JSON"
    """It cannot be read."""


LISTS = {"model": "sd-models", "sampler": "samplers", "scheduler": "schedulers"}
"""Kinds about a name, each with the WebUI's list of such names."""

Size = tuple[int, int]


@dataclass(frozen=True)
class Finding:
    """Something that differs from the request.

    `words`: for people. `name`: the name in the request that it is about, '' for none. `line`: one
    or more lines that the WebUI wrote, which may echo a prompt. `of_start`: this call did not cause
    it, so it never fails the call. `facts`: what distinguishes it from others of its kind.
    """

    kind: str
    words: str
    name: str = ""
    line: str = ""
    of_start: bool = False
    facts: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, ...]:
        """Return what identifies it."""
        return (self.kind, self.name, self.line, *self.facts)


@dataclass(frozen=True)
class Picture:
    """One picture: its size in pixels, and whether it is all of one colour."""

    size: Size
    one_colour: bool = False


@dataclass(frozen=True)
class ReplyContents:
    """What a reply contains. `pictures`: without grids; `given`: examines the input picture, which
    takes time; `interrupted`: the button that somebody pressed, or ''; `log`: the WebUI's lines
    during the call."""

    pictures: Sequence[Picture]
    info: Mapping[str, Any]
    given: Callable[[], Picture | None] = lambda: None
    interrupted: str = ""
    log: Sequence[str] = ()


def findings(stage: str, payload: Mapping[str, Any], made: ReplyContents) -> tuple[Finding, ...]:
    """Return everything that differs from `payload`. If somebody interrupted the call, only that:
    the rest follows from it."""
    if made.interrupted:
        words = f"somebody pressed {made.interrupted} in the WebUI: the picture is not finished"
        return (Finding("interrupted", words),)
    found = CHECKS[STAGES[stage].makes](payload, made)
    left_out = (
        Finding("fallback", fallback.value, line=line, facts=(fallback.name,))
        for fallback, line in fallbacks_in(made.log, payload).items()
    )
    return (*found, *failed_extensions(made.log, payload), *left_out)


# -- pictures of a prompt


def _generated(payload: Mapping[str, Any], made: ReplyContents) -> list[Finding]:
    if payload.get("script_name"):
        return _colours(made.pictures, "one_colour")  # only the script knows what else it makes
    return [*_pictures(payload, made), *_names(payload, made.info)]


def _pictures(payload: Mapping[str, Any], made: ReplyContents) -> list[Finding]:
    asked = int(payload.get("batch_size") or 1) * int(payload.get("n_iter") or 1)
    if len(made.pictures) < asked:
        words = f"the reply has {counted(len(made.pictures), 'image')} of {asked}"
        return [Finding("count", words)]
    # Any more are extras, such as the maps that a ControlNet adds.
    pictures = made.pictures[:asked]
    found = _colours(pictures, "one_colour")
    if found and (given := made.given()) is not None and given.one_colour:
        found = []
    if not payload.get("alwayson_scripts"):  # a script may change the size, such as MultiDiffusion
        found = [*_sizes(payload, pictures, made.given), *found]
    return found


def _colours(pictures: Iterable[Picture], kind: str) -> list[Finding]:
    plain = sum(picture.one_colour for picture in pictures)
    what = "the picture is" if plain == 1 else f"{plain} pictures are"
    return [Finding(kind, f"{what} all of one colour")] if plain else []


def _sizes(
    payload: Mapping[str, Any], pictures: Iterable[Picture], given: Callable[[], Picture | None]
) -> list[Finding]:
    """Return the first picture of another size. Forge's info.width is only the requested width."""
    asked = _asked_sizes(payload)
    for picture in pictures:
        if any(_is_near(picture.size, size) for size in asked):
            continue
        source = given()
        if source is not None and _is_near(picture.size, source.size):
            continue  # SD.Next's img2img, and an inpainted spot that is put back into its picture
        width, height = asked[0]
        words = f"the picture is {_shown(picture.size)}, not {_shown((width, height))}"
        return [Finding("size", words, facts=(_shown(picture.size), _shown((width, height))))]
    return []


def _asked_sizes(payload: Mapping[str, Any]) -> list[Size]:
    """Return the sizes that are right; 0 for a side that the request leaves open."""
    first = int(payload.get("width") or 0), int(payload.get("height") or 0)
    larger = hires_size(first, payload)
    if payload.get("enable_hr") and payload.get("hr_upscaler") in (None, "None"):
        return [larger, first]  # then SD.Next enlarges nothing (source)
    return [larger]


def made_size(payload: Mapping[str, Any]) -> Size:
    """Return the size of the pictures of a call with steps, after hires. A side that is not given
    is 512, the WebUIs' default."""
    sides = {side: payload.get(side) or 512 for side in ("width", "height")}
    return _asked_sizes({**payload, **sides})[0]


def _is_near(size: Size, asked: Size) -> bool:
    """Return whether a WebUI makes `size` from `asked`: 65 becomes 64, with stable-diffusion.cpp
    128; some models need multiples of 16 or 32 (source)."""
    return all(_fits(got, want) for got, want in zip(size, asked, strict=True))


def _fits(got: int, want: int) -> bool:
    less = (want // grain * grain for grain in (1, 8, 16))
    more = (-(-want // grain) * grain for grain in (8, 16, 32, 64))
    return not want or got in (*less, *more)


def _shown(size: Size) -> str:
    return "x".join(str(side or "?") for side in size)


# -- a picture that was enlarged


def _enlarged(payload: Mapping[str, Any], made: ReplyContents) -> list[Finding]:
    if not made.pictures:
        return []
    picture, given = made.pictures[0], made.given()
    found = [] if given is not None and given.one_colour else [picture]
    colours = _colours(found, "one_colour_upscale")
    if given is None:
        return colours
    return [*_larger(payload, picture.size, given.size), *colours]


def _larger(payload: Mapping[str, Any], size: Size, given: Size) -> list[Finding]:
    has_upscaler, wanted = names_upscaler(payload), _wanted(payload, given)
    if any(_is_near(size, want) for want in wanted):
        return []
    if not has_upscaler and restores_faces(payload) and not any(map(payload.get, _RESIZES)):
        return []  # the job only restores faces
    if not _is_near(size, given):
        words = f"the picture is {_shown(size)}, not {_shown(wanted[0])}"
        return [Finding("size", words, facts=(_shown(size), _shown(wanted[0])))]
    if not has_upscaler:
        why = "the job names no upscaler_1, so the picture came back unchanged"
        return [Finding("upscale_unchanged", why, name="upscaler_1")]
    words = f"the picture is still {_shown(size)}"
    return [Finding("upscale_unchanged", words, facts=(_shown(size),))]


_RESIZES = ("upscaling_resize", "upscaling_resize_w", "upscaling_resize_h")


def _wanted(payload: Mapping[str, Any], given: Size) -> list[Size]:
    """Return the sizes that this upscale may give. Without a crop the picture keeps its shape."""
    if payload.get("resize_mode") != 1:
        times = float(payload.get("upscaling_resize") or 2)
        return [(int(given[0] * times), int(given[1] * times))]
    width = int(payload.get("upscaling_resize_w") or 512)
    height = int(payload.get("upscaling_resize_h") or 512)
    times = max(width / given[0], height / given[1])
    whole = (int(given[0] * times), int(given[1] * times))
    return [(width, height)] if payload.get("upscaling_crop", True) else [(width, height), whole]


# -- what a workflow of the job's own saved


def _saved(_: Mapping[str, Any], made: ReplyContents) -> list[Finding]:
    """Only the workflow knows what else it makes; NaNs come out as a black picture (measured)."""
    return _colours(made.pictures, "one_colour")


# -- names and seed: what the WebUI says it used


def _names(payload: Mapping[str, Any], info: Mapping[str, Any]) -> list[Finding]:
    parameters = parameters_of(info)
    found = (
        _model(payload, info, parameters),
        _sampler(payload, info, parameters),
        _scheduler(payload, parameters),
        _seed(payload, info),
    )
    return [finding for finding in found if finding is not None]


_LONGEST_NAME = 1000


def _text(value: object) -> str:
    return shortened(value, _LONGEST_NAME) if isinstance(value, str) else ""


def _model(
    payload: Mapping[str, Any], info: Mapping[str, Any], parameters: Mapping[str, str]
) -> Finding | None:
    overrides = payload.get("override_settings")
    settings = overrides if isinstance(overrides, Mapping) else {}
    asked = _text(settings.get("sd_model_checkpoint") or payload.get("sd_model_checkpoint"))
    if not asked or payload.get("refiner_checkpoint") or payload.get("hr_checkpoint_name"):
        return None  # WebUIs differ in which of two models they name
    used = _text(info.get("sd_model_name")) or parameters.get("Model", "")
    digest = _text(info.get("sd_model_hash")) or parameters.get("Model hash", "")
    if not used or _is_model(asked, used, digest):
        return None
    words = f"made with the model {used!r}, not with {asked!r}"
    return Finding("model", words, name=asked, facts=(used,))


_HEX = re.compile(r"[0-9a-f]{8,64}")
_IN_BRACKETS = re.compile(r"\s{0,8}\[([0-9a-f]*)\]\s*$")


def _is_model(asked: str, used: str, digest: str) -> bool:
    """Return whether `asked` names the checkpoint: by title, file name, bare name, a part of it
    (source: AUTOMATIC1111 takes the nearest) or hash."""
    bare = bare_name(_IN_BRACKETS.sub("", asked))
    if bare and bare in bare_name(used):
        return True
    if not _HEX.fullmatch(asked.lower()):
        return False
    # 8 digits are a hash of the old kind, which cannot be compared.
    return len(asked) == 8 or not digest or asked.lower().startswith(digest.lower())


_OPEN = ("", "default", "automatic", "sameasprimary")  # no choice, or one that is not reported


def _sampler(
    payload: Mapping[str, Any], info: Mapping[str, Any], parameters: Mapping[str, str]
) -> Finding | None:
    asked = _text(payload.get("sampler_name") or payload.get("sampler_index"))
    used = _text(info.get("sampler_name")) or parameters.get("Sampler", "")
    if _plain(asked) in _OPEN or _plain(used) in _OPEN:
        return None
    rest = _plain(asked).removeprefix(_plain(used))
    # "DPM++ 2M Karras", the old style, is a sampler and a schedule in one name.
    if not rest or (rest != _plain(asked) and rest == _plain(parameters.get("Schedule type", ""))):
        return None
    words = f"made with the sampler {used!r}, not with {asked!r}"
    return Finding("sampler", words, name=asked, facts=(used,))


def _scheduler(payload: Mapping[str, Any], parameters: Mapping[str, str]) -> Finding | None:
    """Check the scheduler; SD.Next and stable-diffusion.cpp do not report theirs."""
    asked, used = _text(payload.get("scheduler")), parameters.get("Schedule type", "")
    if _plain(asked) in _OPEN or not used or _plain(asked) == _plain(used):
        return None
    sampler = _text(payload.get("sampler_name") or payload.get("sampler_index"))
    if _plain(sampler).endswith(_plain(used)):  # the old style again: it wins (source)
        return None
    words = f"made with the schedule {used!r}, not with {asked!r}"
    return Finding("scheduler", words, name=asked, facts=(used,))


def _plain(name: str) -> str:
    """Return a name without case, blanks and signs; `k_dpmpp_2m` equals `DPM++ 2M`."""
    text = name.lower().removeprefix("k_").replace("dpmpp", "dpm++").replace("ancestral", "a")
    return re.sub(r"[^a-z0-9+]", "", text)


def _seed(payload: Mapping[str, Any], info: Mapping[str, Any]) -> Finding | None:
    asked, used = payload.get("seed"), info.get("seed")
    if not (isinstance(asked, int) and isinstance(used, int) and 0 <= asked <= MAX_SEED):
        return None
    return None if asked == used else Finding("seed", f"made with the seed {used}, not {asked}")


def unknown_name(finding: Finding, listed: Iterable[Any]) -> str:
    """Return why no restart can help: `; this WebUI knows no sampler "Eulr"; did you mean
    "Euler"?`. '' if the WebUI lists the name, or lists nothing. `listed`: the WebUI's list, see
    LISTS."""
    items = [item for item in listed if isinstance(item, Mapping)]
    names = {str(item[key]) for item in items for key in _NAME_KEYS if item.get(key)}
    asked = finding.name
    if not names or asked in names:
        return ""
    if finding.kind == "model" and any(_is_model(asked, name, name) for name in names):
        return ""
    main = [str(item.get("name") or item.get("model_name") or "") for item in items]
    return f"; this WebUI knows no {finding.kind} {asked!r}{nearest(asked, filter(None, main))}"


_NAME_KEYS = ("name", "label", "title", "model_name", "hash", "sha256", "filename")


# -- the log


def failed_extensions(log: Sequence[str], payload: Mapping[str, Any]) -> list[Finding]:
    """Return the extensions that failed in a generation or at the WebUI's start, by its log."""
    return [
        Finding("extension", broken.words, line="\n".join(broken.lines), of_start=broken.of_start)
        for broken in broken_extensions(log, payload)
    ]


CHECKS: Mapping[Makes, Callable[[Mapping[str, Any], ReplyContents], list[Finding]]] = {
    Makes.GENERATED: _generated,
    Makes.ENLARGED: _enlarged,
    Makes.SAVED: _saved,
}
