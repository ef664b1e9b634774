"""What a lane of a box can do, as the dispatcher checks jobs against it: its lists, small. Pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from sdwatch.policy.job.calls.catalogue import Catalogue, Names
from sdwatch.policy.job.stage.stage_kinds import STAGES
from sdwatch.policy.kinds.table import kind_named

ROUTES = (
    "sd-models", "loras", "samplers", "schedulers", "upscalers", "latent-upscale-modes", "sd-vae",
    "sd-modules", "prompt-styles",
)  # fmt: skip
"""Those whose names jobs use most. What else a WebUI lacks is found by the box."""

MOST_NAMES = 5000
"""A longer list is left out: the box checks it."""

_MOST_BYTES = 20_000_000


def lists_to_bytes(catalogue: Catalogue) -> bytes:
    """Return what is stored of a lane's catalogue; the same for the same lists."""
    said = {
        "kind": str(catalogue.kind),
        "stages": sorted(catalogue.stages) if catalogue.stages is not None else None,
        "cannot": dict(catalogue.cannot),
        "useless": dict(catalogue.useless),
        "lists": {
            route: _said_of(names)
            for route in ROUTES
            if (names := catalogue.lists.get(route)) and len(names.known) <= 10 * MOST_NAMES
            and len(names.shown) <= MOST_NAMES
        },
    }  # fmt: skip
    return zlib.compress(json.dumps(said, sort_keys=True).encode())


def lists_in(data: bytes) -> Catalogue:
    """Return the catalogue. Raises ValueError for what no box stores."""
    try:
        unpacking = zlib.decompressobj()
        text = unpacking.decompress(data, _MOST_BYTES)
        if unpacking.unconsumed_tail:
            raise ValueError("lists of more than 20 MB")
        said = json.loads(text)
        stages = said["stages"]
        return Catalogue(
            kind_named(said["kind"]),
            lists={str(route): _names_in(names) for route, names in said["lists"].items()},
            stages=None if stages is None else {s: None for s in stages if s in STAGES},
            cannot=_texts(said["cannot"]),
            useless=_texts(said["useless"]),
        )
    except (zlib.error, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no lists of a lane: {error!r}") from error


def _said_of(names: Names) -> dict[str, Any]:
    return {
        "shown": list(names.shown),
        "known": sorted(names.known),
        "folds": names.folds,
        "hints": dict(names.hints),
    }


def _names_in(given: Mapping[str, Any]) -> Names:
    return Names(
        tuple(map(str, given["shown"])),
        frozenset(map(str, given["known"])),
        given["folds"] is True,
        _texts(given["hints"]),
    )


def _texts(given: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in given.items()}
