"""Arguments of scripts that name a place on the WebUI's disk, in many shapes, and such that look
like it and name none; made by seed.

A place is refused, by the parser or against the lists of a WebUI, unless it is a file of the job or
the config allows the script. Names of models in folders, networks, wildcards and prompts are let
through.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from sdwatch.errors import JobError
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.job.calls.preflight import check_against
from sdwatch.policy.job.job import parse_job
from sdwatch.policy.job.stage.confinement import JobRules
from tests.facts.catalogues import catalogue
from tests.support.mutations import check_refusal

IMAGES = frozenset({"sketch.png", "poses/run.png", "masks/old/hand.webp"})


class Kind(enum.Enum):
    """What an argument is."""

    PLACE = "a place on the WebUI's disk, or an address"
    OWN = "a file of the job"
    NAME = "a name, or a text"


@dataclass(frozen=True)
class Argument:
    """One job: `text`, and what it gives to the script `title`. `names_image`: under a key that
    says image, where a text is always the name of a file of the job, whatever is allowed."""

    kind: Kind
    title: str
    text: str
    names_image: bool


_ROOTS = (
    "/", "/etc/", "//host/share/", "~/", "~root/", "C:\\", "c:/", "C:", "\\\\host\\share\\",
    "\\\\?\\C:\\", "\\", "file:///", "file:/", "file=", "http://box/", "https://box:80/a/",
    "ftp://box/", "$HOME/", "${HOME}/", "%TEMP%\\", "../", "..\\", "../../", "./../",
)  # fmt: skip
_FOLDERS = (
    "etc/", "outputs/", "outputs/txt2img-images/2026-01-01/", "log\\images\\", "models/x/",
    "./outputs/", ".\\outputs\\", "a//b/", "a/./b/", "a/../b/", "extensions/x/", ".cache/",
    "my outputs/", "аб/", "出力/", "a-b_c/", "a'b/", "[a]/", "(a)/", "a,b/", "{a}/", "a=b/",
)  # fmt: skip
_FILES = (
    "x.png", "x.PNG", "old.Jpeg", "y.webp", "passwd.txt", "webui.log", "config.json", "ui.yaml",
    "a.pkl", "x.py", "users.db", "id.pem", "a b.png", "x.tar.gz", "x.png.bak", "x.mp4", "x.3gp",
    "x.7z", "x.mp3", "x.heic", "x.html", "x.safetensors", "x.pt", "x.ckpt", "x.unheardof",
    "日本.png", "x.png ", "x.png.",
)  # fmt: skip

_DATA = ("png", "PNG", "Jpeg", "webp", "txt", "log", "json", "yaml", "py", "db", "pem", "mp4")

_SENTENCES = (
    "a castle and/or a river, photo.png", "1/2 view, by night", "f/1.8, 35mm", "half/half.",
    "black/white, 8k.", "{red/blue|a/b} castle", "a (castle:1.2)/river, v1.5",
    "24/7 neon sign, high-res", "rock'n'roll, w/o people", "[day:night:0.5], km/h",
)  # fmt: skip
_NAMES = (
    "sd15/control_v11p_sd15_openpose", "sdxl/canny [d14c016b]", "xl\\canny [d14c016b]", "v1.5/ink",
    "__colors/warm__", "wildcards/__animal__", "__a/*__", "<lora:styles/ink:0.8>",
    "<lora:styles/ink.safetensors:0.8>", "<lyco:a/b:1>", "<hypernet:a/b:1>", "1/2", "8/1.5", "/",
    "a/b/c", "openpose_full", "Balanced", "a / b", "16:9", "0/1/2", "None", "Resize/Crop", "a:1.2",
    "styles/ink.safetensors", "Lora/styles/ink.safetensors", "",
)  # fmt: skip
_MODELS = (
    "sdxl/control_canny.safetensors", "a/b/face_yolov8n.pt", "ipadapter\\plus.bin", "x/y.pth",
    "buffalo/inswapper_128.onnx",
)  # fmt: skip
_MODEL_KEYS = ("model", "ad_model", "controlnet_model", "lora_1", "vae_name", "swap_model")
_PROMPT_KEYS = ("prompt", "ad_prompt", "ad_negative_prompt", "Negative_Prompt")
_IMAGE_KEYS = ("image", "mask", "input_image", "mask_image", "images", "ref_image")
_OTHER_KEYS = ("x", "value", "source", "text", "data", "settings", "face", "weird key")


def argument(seed: int, number: int) -> Argument:
    """Job `number` of those that `seed` makes."""
    rng = Random(f"arguments.{seed}.{number}")
    kind = rng.choice((Kind.PLACE, Kind.PLACE, Kind.OWN, Kind.NAME))
    args = {Kind.PLACE: _place, Kind.OWN: _own, Kind.NAME: _name}[kind](rng)
    names_image = any(f'"{key}": ' in json.dumps(args) for key in _IMAGE_KEYS)
    title = rng.choice(_titles())
    if rng.random() < 0.3:
        given = {"script_name": rng.choice(_selectable()), "script_args": args}
        title = given["script_name"]
    else:
        given = {"alwayson_scripts": {title: {"args": args}}}
    return Argument(kind, title, json.dumps({"prompt": "a castle", **given}), names_image)


def judge_argument(seed: int, number: int) -> bool:
    """Read job `number` and check it against a WebUI; whether it was let through. Raises
    AssertionError where that is not as it should be, and whatever the code lets out."""
    made = argument(seed, number)
    accepted = _is_accepted(made.text, JobRules())
    assert accepted == (made.kind is not Kind.PLACE), (
        f"{'let through' if accepted else 'refused'}: {made.kind.value}: {made.text}"
    )
    allowed = made.names_image or _is_accepted(made.text, JobRules((made.title,)))
    assert allowed, f"refused though the config allows it: {made.text}"
    return accepted


def _is_accepted(text: str, rules: JobRules) -> bool:
    data = text.encode()
    try:
        job = parse_job(data, "job.yaml", IMAGES, rules=rules)
    except JobError as error:
        check_refusal(error, data)
        return False
    return not check_against(job, _webui(), rules=rules).problems


@cache
def _webui() -> Catalogue:
    lora = {"name": "ink", "alias": "ink", "path": "/sd/models/Lora/styles/ink.safetensors"}
    return catalogue("forge").with_list("loras", [lora])


@cache
def _selectable() -> tuple[str, ...]:
    """Those that a job may run at all."""
    names = _webui().lists["scripts/txt2img"].shown
    given = {n: {"prompt": "a", "script_name": n, "script_args": [1]} for n in names}
    return tuple(name for name in names if _is_accepted(json.dumps(given[name]), JobRules()))


@cache
def _titles() -> tuple[str, ...]:
    names = _webui().lists["scripts/txt2img"].shown
    given = {n: {"prompt": "a", "alwayson_scripts": {n: {"args": [1]}}} for n in names}
    return tuple(name for name in names if _is_accepted(json.dumps(given[name]), JobRules()))


# -- what is given


def _place(rng: Random) -> list[Any]:
    """A file in a folder, or below a root, however it is written."""
    if rng.random() < 0.4:
        path = rng.choice(_ROOTS) + rng.choice(("", *_FOLDERS)) + rng.choice(_FILES)
    else:
        path = rng.choice(_FOLDERS) + rng.choice(_FILES)
    if " " in path and (path.rpartition(".")[2].strip() not in _DATA or "," in path):
        path = path.strip().replace(" ", "_")  # with blanks it reads as a prompt
    if rng.random() < 0.2:
        path = path.replace("/", "\\") if rng.random() < 0.5 else path.replace("\\", "/")
    path = rng.choice(_WRITTEN)(path)
    key = rng.choice((*_OTHER_KEYS, *_IMAGE_KEYS))
    return _within(rng, path, key)


_WRITTEN = (
    str,
    str,
    str,
    lambda path: f" {path}",
    lambda path: f"{path} ",
    lambda path: f"a castle\n{path}",
    lambda path: f"{path}\n",
    lambda path: f"\u200b{path}",
    lambda path: f"\ufeff{path}",
    lambda path: f'"{path}"',
    lambda path: json.dumps({"image": path}),
    lambda path: json.dumps([path]),
)


def _own(rng: Random) -> list[Any]:
    """Where an image stands, and so is sent as data."""
    image = {rng.choice(("image", "mask", "input_image")): rng.choice(sorted(IMAGES))}
    return rng.choice(([image], [rng.choice(sorted(IMAGES))], [1, [{"deep": [image]}]]))


def _name(rng: Random) -> list[Any]:
    which = rng.randrange(4)
    if which == 0:
        return [{rng.choice(_MODEL_KEYS): rng.choice(_MODELS)}]
    if which == 1:  # a prompt may say anything
        text = rng.choice(_FOLDERS) + rng.choice(_FILES)
        return [{rng.choice(_PROMPT_KEYS): rng.choice((text, f"/imagine ../{text}"))}]
    text = rng.choice(_SENTENCES if which == 2 else _NAMES)
    return _within(rng, text, rng.choice(("x", "value", "text", "module", "weird key")))


def _within(rng: Random, value: Any, key: str) -> list[Any]:
    """Somewhere in a list of arguments."""
    for _ in range(rng.randint(0, 3)):
        value = rng.choice(([value], [1, value], {"x": value}, {"n": 0.5, "deep": [value]}))
    if rng.random() < 0.5 or not isinstance(value, str):
        value = {key: value} if isinstance(value, str) else value
    return [*rng.choice(([], [True], [None, 0.5], ["a"])), value]
