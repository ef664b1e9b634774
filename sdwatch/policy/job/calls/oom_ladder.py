"""What a call is changed to after it ran out of memory, as far as its job permits. Pure.

A ladder is the list of its rungs, each with the changes of those above it. It follows from the call
and from what its WebUI can do, so it is the same after every restart; a rung that was reached is
recorded all the same, because the run may resume on a WebUI of another kind.

The pictures stay what they are: picture i of a batch has the seed of the batch plus i (its subseed,
where `subseed_strength` is above 0), so smaller batches continue with the seed of the first picture
that is still to be made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.job.calls.payload import DEFAULT_SIDE, Call, Changed
from sdwatch.policy.job.conduct import OomStep
from sdwatch.policy.job.stage.stage_kinds import STAGES

T = TypeVar("T")

GRAIN = 64  # pixels: sides are multiples of it
SMALLEST = 256  # pixels: no side gets smaller
SIZE_STEPS = 2
"""Each makes a side three quarters of what it was: 1024, 768, 576."""

_SIDES = ("width", "height")
_RESIZED = ("hr_resize_x", "hr_resize_y")
_ENLARGED = ("upscaling_resize_w", "upscaling_resize_h")


@dataclass(frozen=True)
class Rung:
    """One way to make the pictures of a call. `name`: in the ids of its calls; `changes`: fields
    of the payload, those of earlier rungs included; `words`: what they mean, for people; `skipped`:
    why it cannot be done, '' where it can."""

    step: OomStep
    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    words: str = ""
    skipped: str = ""

    def as_record(self) -> dict[str, Any]:
        """Return it as the journal has it."""
        return {
            "step": str(self.step),
            "name": self.name,
            "changes": dict(self.changes),
            "words": self.words,
            "skipped": self.skipped,
        }


def rung_of(record: Mapping[str, Any]) -> Rung:
    """Return the rung of a record in the journal. Raises KeyError, ValueError."""
    return Rung(
        OomStep(record["step"]),
        str(record["name"]),
        dict(record["changes"]),
        str(record["words"]),
        str(record["skipped"]),
    )


def ladder(
    steps: Iterable[OomStep], call: Call, payload: Mapping[str, Any], catalogue: Catalogue | None
) -> Iterator[Rung]:
    """Yield the rungs below a call, in the order of `steps`. `payload`: as it was sent;
    `catalogue`: of its WebUI, None where that is not known."""
    if STAGES[call.kind].runs_workflow:
        yield from (_skipped(step, "a workflow is run as it is") for step in steps)
        return
    changes: dict[str, Any] = {}
    words: dict[OomStep, str] = {}
    for step in steps:
        for rung in _RUNGS[step](call, payload, catalogue):
            if not rung.skipped:
                changes = {**changes, **rung.changes}
                words[step] = rung.words
            yield replace(rung, changes=changes, words=", ".join(words.values()))


def _batches(call: Call, payload: Mapping[str, Any], _: Catalogue | None) -> Iterator[Rung]:
    batch = batch_of(payload)
    if len(call.images) > 1:
        yield _skipped(OomStep.BATCH, "it works on several images at once")
    elif batch == 1:
        yield _skipped(OomStep.BATCH, "it makes one picture at a time")
    while batch > 1 and len(call.images) <= 1:
        batch = (batch + 1) // 2
        what = "one picture at a time" if batch == 1 else f"in batches of {batch}"
        yield Rung(OomStep.BATCH, f"batch{batch}", {"batch_size": batch}, what)


def _tiled(call: Call, payload: Mapping[str, Any], catalogue: Catalogue | None) -> Iterator[Rung]:
    step = OomStep.TILED_VAE
    if not STAGES[call.kind].has_steps:
        yield _skipped(step, "an upscale has none")
        return
    way = catalogue.kind.tiled_vae if catalogue else None
    title = catalogue.kind.title if catalogue else "this WebUI"
    if catalogue is None or way is None:
        yield _skipped(step, f"{title} cannot be asked for it")
        return
    if way.setting:
        if catalogue.settings and way.setting not in catalogue.settings:
            yield _skipped(step, f"this {title} has no setting {way.setting}")
            return
        changes: dict[str, Any] = {"override_settings": {way.setting: True}}
    else:
        names = catalogue.lists.get(f"scripts/{call.kind}")
        given = payload.get("alwayson_scripts") or {}
        if names is None or way.script not in names:
            yield _skipped(step, f"this {title} has no script {way.script}")
            return
        if way.script in map(str.lower, given):
            yield _skipped(step, f"the job sets the script {way.script} itself")
            return
        changes = {"alwayson_scripts": {way.script: {"args": list(way.args)}}}
    yield Rung(step, "tiled", changes, "with a tiled VAE")


def _sizes(call: Call, payload: Mapping[str, Any], _: Catalogue | None) -> Iterator[Rung]:
    if not STAGES[call.kind].has_steps:
        yield from _factors(payload)
        return
    first = [int(payload.get(side) or DEFAULT_SIDE) for side in _SIDES]
    sides, share = first, 1.0
    for _number in range(SIZE_STEPS):
        share *= 0.75
        smaller = [_smaller(side, share) for side in first]
        if smaller == sides or min(smaller) < SMALLEST:
            break
        sides = smaller
        resized = {
            name: _smaller(int(payload[name]), share) for name in _RESIZED if payload.get(name)
        }
        yield Rung(
            OomStep.SIZE,
            _by(sides),
            {**dict(zip(_SIDES, sides, strict=True)), **resized},
            f"generated at {_by(sides)} instead of {_by(first)}",
        )
    if sides == first:
        yield _skipped(OomStep.SIZE, f"no side of {_by(first)} may get smaller than {SMALLEST}")


def _factors(payload: Mapping[str, Any]) -> Iterator[Rung]:
    """Yield the rungs of an upscale: it enlarges less."""
    given = {name: int(payload[name]) for name in _ENLARGED if payload.get(name)}
    factor = float(payload.get("upscaling_resize") or 0)
    share = 1.0
    for _number in range(SIZE_STEPS):
        share *= 0.75
        if payload.get("resize_mode") == 1 and given:
            sides = {name: _smaller(side, share) for name, side in given.items()}
            what = f"enlarged to {_by(list(sides.values()))} instead of {_by(list(given.values()))}"
            yield Rung(OomStep.SIZE, _by(list(sides.values())), sides, what)
        elif factor * share > 1:
            made = round(factor * share, 2)
            what = f"enlarged {made:g} times instead of {factor:g}"
            yield Rung(
                OomStep.SIZE, f"{made:g}x".replace(".", "_"), {"upscaling_resize": made}, what
            )
    if factor * 0.75 <= 1 and not (payload.get("resize_mode") == 1 and given):
        yield _skipped(OomStep.SIZE, "it cannot enlarge less")


def _smaller(side: int, share: float) -> int:
    return max(GRAIN, int(side * share) // GRAIN * GRAIN)


def _by(sides: Sequence[int]) -> str:
    return "x".join(map(str, sides))


def _skipped(step: OomStep, why: str) -> Rung:
    return Rung(step, str(step), skipped=why)


_RUNGS: dict[OomStep, Callable[[Call, Mapping[str, Any], Catalogue | None], Iterator[Rung]]] = {
    OomStep.BATCH: _batches,
    OomStep.TILED_VAE: _tiled,
    OomStep.SIZE: _sizes,
}


# -- the calls of a rung


def batch_of(fields: Mapping[str, Any]) -> int:
    """Return how many pictures a call makes at once."""
    return max(1, int(fields.get("batch_size") or 1))


def parts_of(call: Call, rung: Rung, made: int) -> Iterator[tuple[Call, int]]:
    """Yield the calls that make the pictures of `call` on this rung, without the first `made` ones,
    and how many there are after each."""
    total = batch_of(call.fields)
    changed = dict(call.fields)
    for name, value in rung.changes.items():
        # Scripts and settings are added to those of the job.
        is_added = isinstance(value, Mapping)
        changed[name] = {**(changed.get(name) or {}), **value} if is_added else value
    size = batch_of(changed)
    chance = "subseed" if (call.fields.get("subseed_strength") or 0) > 0 else "seed"
    while made < total:
        batch = min(size, total - made)
        fields = dict(changed)
        if chance in call.fields:
            fields[chance] = call.fields[chance] + made
        if "batch_size" in fields or batch > 1:
            fields["batch_size"] = batch
        part = Changed(call.id, rung.step, rung.words, made + 1)
        call_id = f"{call.id}-{rung.name}-{made + 1}"
        made += batch
        yield replace(call, id=call_id, fields=fields, changed=part), made


def known_parts(
    call: Call, rungs: Iterable[Rung], images: Callable[[str], T | None]
) -> Iterator[tuple[Call, T | None]]:
    """Yield the calls that were made, or started, instead of `call`, and what `images` returns for
    each: None for one that is not finished. `rungs`: those that were reached."""
    made = 0
    for rung in rungs:
        if rung.skipped:
            continue
        for part, after in parts_of(call, rung, made):
            found = images(part.id)
            yield part, found
            if found is None:
                break
            made = after
