"""A lane's hold and news, in words for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sdwatch.policy.failure.hold_reason import Held, HoldReason
from sdwatch.policy.lane.effects import GpuGiven, Notify, Ready, Recycled, SelfTestFailed
from sdwatch.policy.lane.lane_hold import CrashSeen, HoldState
from sdwatch.policy.privacy.printable import shortened
from sdwatch.system.clock import iso

Redact = Callable[[str], str]

_LONGEST_WHY = 300
"""Characters of what was seen of a crash, in the log; WHY.txt has more."""


def held_of(hold: HoldState, shown: HoldReason | None, redact: Redact) -> Held | None:
    """Return the hold with all that people should know of it, or None. `shown`: its reason with
    what the WebUI printed."""
    if hold.reason is None or shown is None:
        return None
    tried = tuple((iso(each.at), tried_words(each.what, redact)) for each in hold.tried)
    return Held(shown, iso(hold.since), tried, hold.before)


def tried_words(what: HoldReason | CrashSeen, redact: Redact) -> str:
    """Return one entry of a hold's history."""
    if isinstance(what, HoldReason):
        return redact(what.cause)
    because = shortened(redact(what.why).partition("\n")[0], _LONGEST_WHY)
    where = f"{what.run}: " if what.run else ""
    return f"{what.diagnosis}, cooling down for {what.wait:g} s: {where}{because}"


def news_words(notify: Notify, redact: Redact, *, managed: bool) -> str:
    """Return what happened to the WebUI, in one line."""
    what = notify.what
    if isinstance(what, CrashSeen):
        return tried_words(what, redact)
    if isinstance(what, Recycled):
        return f"recycled: {what.due}"
    if isinstance(what, SelfTestFailed):
        return (
            f"failed its self-test, cooling down for {what.wait:g} s: {redact(what.reason.cause)}"
        )
    if isinstance(what, GpuGiven):
        return _GPU[what.stopped]
    assert isinstance(what, Ready)
    if not managed:  # neither adopted nor numbered
        return "ready"
    how = "adopted" if what.adopted else ""
    return ", ".join(filter(None, ("ready", how, f"incarnation {what.incarnation}")))


_GPU = {
    False: "its GPU is free: the checkpoint is unloaded",
    True: "its GPU is being freed: the WebUI is stopped, and started again later",
    None: "its GPU cannot be freed: it cannot unload its checkpoint, and sdwatch did not start it",
}


def without_prompts(reason: HoldReason, redact: Redact) -> HoldReason:
    """Return the reason, free of prompts."""
    return replace(reason, cause=redact(reason.cause))
