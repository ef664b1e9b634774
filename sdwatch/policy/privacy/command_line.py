"""A WebUI's command line as others may see it. Pure.

A flag that nobody knows may have a token for its value (`--ngrok`), or a name: shown is what is
known to be harmless.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from sdwatch.policy.privacy.credentials import SECRET, SPEAKS_OF_ONE, looks_like_a_token

HIDDEN = "<hidden>"

_HARMLESS = """
-m -u -X -W -B -s -E -I -O
--port --listen --server-port --timeout-keep-alive --api-server-stop --loglevel --log-level
--device-id --gpu-device-id --device --use-cpu --vram --lowvram --medvram --theme --backend
--precision --attention-split --opt-split-attention --cuda-malloc --always-gpu --reserve-vram
--opt-sub-quad-q-chunk-size --opt-sub-quad-kv-chunk-size --opt-sub-quad-chunk-threshold
--cuda-stream --pin-shared-memory --upcast-sampling --freeze --update-check --threads --type
--rng --sampling-method --schedule --steps --clip-skip --width --height --cfg-scale --seed
--gradio-queue --add-stop-route --subpath --max-batch-count --skip-python-version-check
"""
HARMLESS = frozenset(_HARMLESS.split())
"""Flags of WebUIs and of Python whose values are numbers, modes and modules."""

_PROGRAM = re.compile(r"[\w.\-]+\.(?:py|sh|bat|cmd|exe)|\{\w+\}")
_VARIABLE = re.compile(r"[A-Za-z_]\w*")
_SHORTEST = 6


def command_for_others(words: Iterable[str]) -> list[str]:
    """Its words; in place of a value `<secret>` where its flag speaks of one, else `<hidden>`,
    unless the flag is harmless."""
    return [told for _, _, told in _read(words)]


def secrets_in_command(words: Iterable[str]) -> Iterator[str]:
    """The values that are nobody else's business, and must not be seen elsewhere either. A number
    or a path that only might be one is hidden in the command alone: a log needs them."""
    for flag, value, told in _read(words):
        may_be = len(value) >= _SHORTEST and not re.search(r"[\\/.]", value) and not value.isdigit()
        if not told.endswith((SECRET, HIDDEN)) or not value:
            continue
        if SPEAKS_OF_ONE.search(flag) or looks_like_a_token(value) or may_be:
            yield value


def _read(words: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Return the flag, the value and the form of each word."""
    flag = ""
    for word in words:
        name, is_joined, value = word.partition("=")
        if is_joined and (name.startswith("-") or _VARIABLE.fullmatch(name)):
            yield name, value, f"{name}={_told(name, value)}"
            flag = ""
        elif word.startswith("-"):
            yield word, "", word
            flag = word
        else:
            yield flag, word, _told(flag, word)
            flag = ""


def _told(flag: str, value: str) -> str:
    if flag and SPEAKS_OF_ONE.search(flag):
        return SECRET
    if looks_like_a_token(value):
        return HIDDEN
    if not flag or flag in HARMLESS or _PROGRAM.fullmatch(value):
        return value
    return HIDDEN
