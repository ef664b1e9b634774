"""Boxes as they show themselves, as people see them, and what people hear of them."""

from __future__ import annotations

import json
import zlib

import pytest

from sdwatch.policy.cluster.cards import BoxShown, LaneShown, card_of, shown_in
from sdwatch.policy.cluster.lists import lists_in, lists_to_bytes
from sdwatch.policy.job.calls.catalogue import Catalogue
from sdwatch.policy.job.calls.preflight import check_against
from sdwatch.policy.job.job import parse_job
from sdwatch.policy.kinds.forge import FORGE
from sdwatch.policy.page.from_status import box_cards, broker_down
from sdwatch.policy.page.headline import headline
from sdwatch.policy.page.overview import MonitorCard, Overview, Presence
from sdwatch.policy.page.page import main
from sdwatch.policy.report.status_line import box_lines

LANE = LaneShown("forge", "forge", True, "", ("24gb",), 2, "b", 3, "0" * 64)
BOX = BoxShown((LANE,), 1, "", 4)
SILENT = {
    "answers": False, "seconds_ago": 340.0, "drained": False, "held": False, "paused": "",
    "places": 2, "runs": ["r1"],
    "lanes": [
        {
            "name": "forge", "kind": "forge", "ready": True, "hold": "", "tags": ["24gb"],
            "places": 2, "loaded": "<b>", "checkpoints": ["a", "b"], "checkpoint_count": 9,
        }
    ],
}  # fmt: skip
STATUS = {"cluster": {"broker": "", "boxes": {"render1": SILENT}}}


def test_a_card_comes_back_as_it_was_shown() -> None:
    assert shown_in(json.loads(json.dumps(card_of(BOX)))) == BOX
    assert BOX.places == 2
    assert BoxShown((LANE,), paused="held").places == 0


@pytest.mark.parametrize(
    "card", [{}, {"lanes": 3, "held": -1}, {"lanes": [None, {"places": "many", "tags": 7}]}]
)
def test_a_foreign_card_offers_nothing(card: dict[str, object]) -> None:
    assert shown_in(card).places == 0


def test_a_job_is_checked_against_lists_of_another_machine_as_against_those_here() -> None:
    here = Catalogue(FORGE).with_list("sd-models", [{"title": "b.ckpt [bd773b1ec0]"}])
    here = here.with_list("loras", [{"name": "ink"}])
    there = lists_in(lists_to_bytes(here))
    assert lists_to_bytes(there) == lists_to_bytes(here), "the same lists have the same name"
    text = "prompt: <lora:inc:1> a\noverride_settings: {sd_model_checkpoint: b.ckptt}\n"
    job = parse_job(text.encode(), "x")
    assert check_against(job, there).problems == check_against(job, here).problems != ()


@pytest.mark.parametrize("data", [b"", b"{}", zlib.compress(b"{}"), zlib.compress(b"[1]")])
def test_what_is_no_list_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        lists_in(data)


def test_a_silent_box_is_seen_everywhere() -> None:
    boxes = box_cards(STATUS)
    assert not boxes[0].serves
    overview = Overview("night", 0.0, MonitorCard(Presence.RUNNING), boxes=boxes)
    assert headline(overview).word == "No box"
    page = main(overview)
    assert "does not answer" in page
    assert "#24gb" in page
    assert "&lt;b&gt; is loaded" in page
    lines = list(box_lines("render1", SILENT))
    assert lines[0] == "render1: gone: has not shown itself for 6 min, 1 of 2 places taken"
    assert lines[1].endswith("tags: 24gb; loaded: <b>; checkpoints: a, b and 7 more")


def test_a_broker_that_is_gone_is_the_headline() -> None:
    status = {"cluster": {"broker": "connection refused", "boxes": {}}}
    assert broker_down({"cluster": {"box": "a", "broker": "gone"}}) == "", "it is a box itself"
    overview = Overview(
        "night", 0.0, MonitorCard(Presence.RUNNING), broker_down=broker_down(status)
    )
    assert headline(overview).word == "No broker"
    assert "connection refused" in main(overview)


def test_a_box_of_another_version_gets_no_job() -> None:
    shown = shown_in({**card_of(BOX), "protocol": 2})
    assert shown.places == 0
    assert "another version" in shown.paused
