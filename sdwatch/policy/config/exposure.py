"""Check whether others on the network can use a WebUI that is started with these words. Pure.

`--nowebui` without `--server-name` listens on all interfaces (measured with Forge dfdcbab6;
AUTOMATIC1111 v1.10.1 has the same code); with its page for browsers a WebUI listens on this machine
only, unless `--listen` says more. ComfyUI's `--listen` takes an address. `--share` and `--ngrok`
open a tunnel from the internet.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

_ADDRESS_FLAGS = ("--server-name", "--host", "--listen-ip")
_AUTH_FLAGS = ("--api-auth", "--auth", "--auth-file")
_TUNNELS = ("--share", "--ngrok")
ADDED = "COMMANDLINE_ARGS"
"""The environment variable whose flags AUTOMATIC1111 and its forks add to their own (source)."""


@dataclass(frozen=True)
class Exposure:
    """Others can use the WebUI. `why`: by which words; `advice`: what to change. Both in words,
    without a full stop."""

    why: str
    advice: str


def exposure(
    command: Sequence[str], env: Mapping[str, str], host: str, *, has_password: bool = False
) -> Exposure | None:
    """Return why others can use this WebUI although nothing asks for that, or None. `host`: of the
    `url` by which sdwatch calls it; `has_password`: the config gives one."""
    flags = flags_of(command, env.get(ADDED, ""))
    has_password = has_password or any(name in flags for name in _AUTH_FLAGS)
    if tunnel := next((name for name in _TUNNELS if name in flags), ""):
        why = f"{tunnel} makes it reachable from the internet"
        return None if has_password else Exposure(why, f"leave {tunnel} out")
    why = _why_open(flags)
    if not why or (has_password and not is_loopback(host)):
        return None
    if not is_loopback(host):
        advice = "give it a password: --api-auth NAME:PASSWORD (SD.Next: --auth) in the command"
        return Exposure(why, f"{advice}, and `username` and `password` in the config")
    if "--nowebui" in flags:
        return Exposure(why, "add --server-name 127.0.0.1 to the command")
    return Exposure(why, "leave that out of the command, since `url` is on this machine")


def is_loopback(host: str) -> bool:
    """Return whether this address or name is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _why_open(flags: Mapping[str, str]) -> str:
    """Return the words by which it listens for others; '' where it does not. An address goes before
    the flags that only say which one it is without."""
    for name in _ADDRESS_FLAGS:
        if address := flags.get(name):
            return "" if is_loopback(address) else f"{name} {address} is not this machine alone"
    listen = flags.get("--listen")
    if listen is not None:
        return "" if listen and is_loopback(listen) else "--listen opens it to the network"
    if "--nowebui" in flags:
        return "--nowebui without --server-name listens on all interfaces"
    return ""


def words_of(text: str) -> list[str]:
    """Return the words of a command line, whose quotes may be wrong."""
    try:
        return shlex.split(text)
    except ValueError:  # a quote without an end
        return text.split()


def flags_of(command: Iterable[str], added: str) -> dict[str, str]:
    """Return each flag of a command with its value, '' for one that has none. `added`: the text of
    the environment variable ADDED."""
    flags = {}
    for word, following in pairwise([*command, *words_of(added), ""]):
        name, is_joined, value = word.partition("=")
        if name.startswith("--"):
            flags[name] = value if is_joined else "" if following.startswith("-") else following
    return flags
