"""All kinds of WebUI, and how the kind of one is found. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from sdwatch.policy.kinds.a1111 import A1111
from sdwatch.policy.kinds.comfyui import COMFYUI
from sdwatch.policy.kinds.forge import FORGE
from sdwatch.policy.kinds.forge_neo import FORGE_NEO
from sdwatch.policy.kinds.kind import Dialect, Kind
from sdwatch.policy.kinds.sdcpp import SDCPP
from sdwatch.policy.kinds.sdnext import SDNEXT
from sdwatch.policy.kinds.unknown import UNKNOWN

KINDS: dict[str, Kind] = {
    kind.name: kind for kind in (FORGE, FORGE_NEO, A1111, SDNEXT, SDCPP, COMFYUI, UNKNOWN)
}
"""Of those whose signs fit a WebUI, the last is its kind. So a new one goes to the end: it grew out
of another, and has routes of its own."""

OFFERED = [kind for kind in KINDS.values() if kind.examples]
"""Those that `sdwatch init` has a config for."""

PLAYED = FORGE
"""The kind that the simulator plays by default."""


def kind_named(name: str) -> Kind:
    """Return the kind with this name, as files have it. Raises ValueError if there is none."""
    if name not in KINDS:
        raise ValueError(f"there is no kind of WebUI {name!r}")
    return KINDS[name]


def title_of(name: str) -> str:
    """Return the title of a kind that another machine names, or the name itself."""
    return KINDS[name].title if name in KINDS else name


def kind_by_routes(routes: Collection[str]) -> Kind:
    """Return the kind of a WebUI with these routes below /sdapi/v1/."""
    return next((kind for kind in reversed(KINDS.values()) if kind.signs.fit(routes)), UNKNOWN)


def kind_of_bare_404() -> Kind:
    """Return the kind that has no /openapi.json and answers 404 without a body."""
    return next((kind for kind in reversed(KINDS.values()) if kind.signs.bare_404), UNKNOWN)


def kind_by_stats(system: Mapping[str, Any]) -> Kind:
    """Return the kind of a WebUI by the `system` of its /system_stats."""
    signs = ((kind, kind.signs.version_in) for kind in KINDS.values())
    return next((kind for kind, field in signs if field and system.get(field)), UNKNOWN)


def kind_of_dialect(dialect: Dialect) -> Kind:
    """Return the first kind that speaks this dialect."""
    return next(kind for kind in KINDS.values() if kind.dialect is dialect)


def kind_by_files(is_there: Callable[[str], bool]) -> Kind:
    """Return the kind of a WebUI by the files in its folder; `is_there` looks for one. A fork has
    the files of what it grew out of, and more: of those that fit, the one with the most counts."""
    marked = (kind for kind in KINDS.values() if kind.signs.files)
    fit = [kind for kind in marked if all(map(is_there, kind.signs.files))]
    return max(fit, key=lambda kind: len(kind.signs.files), default=UNKNOWN)
