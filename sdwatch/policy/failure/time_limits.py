"""Which replies prove that a proxy gives calls up after a fixed time. Pure.

nginx, HAProxy, gradio.live and Cloudflare abort a call after a fixed time, while the WebUI behind
them keeps generating for nobody (A1111#9722, #10301). A test picture is too short to show that.
"""

from __future__ import annotations

from collections.abc import Iterable

GIVEN_UP_BY_PROXIES = frozenset({408, 502, 503, 504, 522, 524, 598, 599})
"""HTTP statuses of a proxy that waited in vain: 504 is the standard's; 502 and 503 are what some
load balancers answer; 522 and 524 are Cloudflare's; 598 and 599 are in use without a standard."""

SHORTEST = 0.5
"""Seconds: whoever refuses a call outright (503 of a queue that is full, 502 of a WebUI that is
down) does so at once, and no proxy's limit is that short."""

_TOLERANCE = 1.0
_SHARE = 0.05
"""Two durations are equal within a second, or 5 % of the longer. A proxy counts from the request it
has read or the last byte it sent, some in ticks of a second, and the network and a loaded machine
add less than that; generations that differ by so little are one length for the purpose."""


def may_still_generate(status: int | None, seconds: float) -> bool:
    """Return whether the WebUI may still work on a call after this status and so many seconds."""
    return status in GIVEN_UP_BY_PROXIES and seconds >= SHORTEST


def time_limit(
    status: int | None, seconds: float, earlier: Iterable[tuple[int | None, float]]
) -> float | None:
    """Return the limit in seconds that two attempts of one call prove; None where they do not.

    `status` and `seconds` of the attempt that has just failed, and of each of the `earlier` ones.
    The WebUI was idle and answered probes through the same proxy before each, so that neither a
    queue nor a dead WebUI explains equal durations.
    """
    if not may_still_generate(status, seconds):
        return None
    same = [
        before
        for answered, before in earlier
        if may_still_generate(answered, before)
        and abs(before - seconds) <= max(_TOLERANCE, _SHARE * max(before, seconds))
    ]
    return min(*same, seconds) if same else None


def in_words(seconds: float) -> str:
    """Return a limit as a proxy's config has it, as far as can be measured: `60 s`, `1.5 s`."""
    rounded = f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"
    return f"{rounded.removesuffix('.0')} s"
