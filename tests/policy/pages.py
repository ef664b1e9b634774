"""Overviews for tests of the page, and a reader of its HTML that accepts no loose ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from sdwatch.policy.page.overview import (
    ActiveCard,
    Because,
    CallProgress,
    EndedCard,
    LaneCard,
    MonitorCard,
    NightCounts,
    Overview,
    Presence,
    QueuedJob,
    Remark,
    Thumbnail,
    Totals,
)

NOW = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC
RUN = "20260921-131500.123-castle-3f2a"

_VOID = {"br", "hr", "img", "input", "link", "meta"}


def overview(**fields: Any) -> Overview:
    """A monitor that runs, and nothing else."""
    running = MonitorCard(Presence.RUNNING, "box-1", "render-7", 42, NOW)
    return replace(Overview("night", NOW, running, utc_offset=3600), **fields)


def busy(**fields: Any) -> Overview:
    """A night with something in each part."""
    return (
        overview(
            lanes=(lane(busy=True), lane("neo", hold="no checkpoint", advice="Put one there.")),
            active=(
                active(calling=True, progress=CallProgress(12, 20, 60, 42)),
                active(
                    "20260921-131500.124-tower-3f2b", source="tower.yaml", lane="", doing="waits"
                ),
            ),
            queue=(
                QueuedJob("a.yaml", 5, NOW - 60, 4, Because.PRIORITY, 40.0),
                QueuedJob("b.yaml", 0, NOW - 90, None, None, 200.0),
            ),
            queue_ends_in=4000.0,
            has_history=True,
            waiting=(Remark("slow.yaml", "still arriving"),),
            done=(
                ended(
                    "done", thumbnails=(Thumbnail("done/R/thumbnails/x.png.jpg", "done/R/x.png"),)
                ),
            ),
            failed=(ended("failed", why="The GPU is on fire.", blame="job", explained=True),),
            near_misses=(Remark("castle.yaml.txt", "rename it to castle.yaml"),),
            counts=NightCounts(done=132, failed=3, images=487, crashes=4, lost=754.0),
            totals=Totals(queued=2, waiting=1, suspended=1, done=132, failed=3, near_misses=1),
        )
        if not fields
        else replace(busy(), **fields)
    )


def lane(name: str = "forge", **fields: Any) -> LaneCard:
    return replace(LaneCard(name, version="Forge", state="ready"), **fields)


def active(run_id: str = RUN, **fields: Any) -> ActiveCard:
    made = ActiveCard(run_id, f"working/box-1/{run_id}", "castle.yaml", "forge", "stage 1 of 1")
    return replace(made, **fields)


def ended(outcome: str, **fields: Any) -> EndedCard:
    folder = "done" if outcome == "done" else "failed"
    made = EndedCard(RUN, f"{folder}/{RUN}", outcome, "castle.yaml", NOW - 60, 40.0, 1)
    return replace(made, documented=True, **fields)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes nothing"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "script" not in self.open:
            self.texts.append(data)


class ReadPage:
    """A page as a browser sees it: its tags with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        reader = _Reader()
        reader.feed(html)
        reader.close()
        assert not reader.open, f"never closed: {reader.open}"
        self.tags = reader.tags
        self.text = " ".join(" ".join(reader.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.tags if found == tag]

    def links(self) -> Iterator[str]:
        for _, attributes in self.tags:
            for name in ("href", "src", "action"):
                if (value := attributes.get(name)) is not None:
                    yield value
