"""The points of a job that failed, as the error.json of its run lists them, and those that its run
did not come to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdwatch.policy.failure.earlier_records import renamed_envelope
from sdwatch.policy.failure.ledger import Ledger
from sdwatch.policy.job.calls.payload import point_of
from sdwatch.policy.job.points.points import Points
from sdwatch.policy.page.overview import PointCard
from sdwatch.policy.privacy.printable import printable
from sdwatch.spool.diagnostics import ENVELOPE, read_json

_MOST_BYTES = 16_000_000
"""Of error.json, which lists all of them."""

_LONGEST = 200  # characters


def envelope_of(run: Path) -> Mapping[str, Any]:
    """Return what error.json says, with all points that failed; {} without one."""
    return renamed_envelope(read_json(run, ENVELOPE, _MOST_BYTES))


def failed_points_in(envelope: Mapping[str, Any]) -> list[PointCard]:
    """Return the points that it lists, whatever somebody wrote into it."""
    listed = envelope.get("failed_points")
    found = (
        [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    )
    return [
        PointCard(
            number, *(first_line(each.get(name), _LONGEST) for name in ("values", "diagnosis"))
        )
        for each in found
        if type(number := each.get("number")) is int and number > 0
    ]


def unfinished_points(points: Points, ledger: Ledger, *, cut_short: bool) -> list[int]:
    """Return those points of an ended run that have a call without pictures, or no call at all.
    `cut_short`: it did not end by a point that failed, and the last one that it came to may lack
    more than its journal knows."""
    last: dict[int, dict[str, bool]] = {}  # point -> call -> whether it is finished
    for call_id, call in ledger.calls.items():
        own, _, _ = call_id.partition("-")  # changed calls belong to the one that they replace
        last.setdefault(point_of(call_id), {})[own] = call.images is not None
    reached = max((at for at, number in enumerate(points) if number in last), default=-1)
    return [
        number
        for at, number in enumerate(points)
        if not all(last.get(number, {"": False}).values()) or (at == reached and cut_short)
    ]


def first_line(text: object, most: int) -> str:
    """Return the first line of a text, without what a terminal would act on; '' for anything
    else."""
    first, *_ = (text.splitlines() if isinstance(text, str) else ()) or [""]
    return printable(first)[:most]
