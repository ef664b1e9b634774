"""The parts of the page about runs that ended, done or failed. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sdwatch.policy.page.buttons import Forms
from sdwatch.policy.page.headline import Headline, Tone
from sdwatch.policy.page.markup import (
    Markup,
    element,
    link_to,
    name_of,
    section,
    state_of,
    unfolded,
)
from sdwatch.policy.page.overview import EndedCard, Overview, PointCard, Thumbnail
from sdwatch.policy.page.times import clock_time, iso
from sdwatch.policy.privacy.printable import counted

_THUMBNAILS = 4
"""Of each run; a run of fifty pictures would fill the page."""

_FILES = 4
"""So many other files of a run are linked; the page of the run has all of them."""

_FIRST_FAILED = 4
_FIRST_POINTS = 3
"""So many are shown at once; the others unfold, so that the pictures are not far down."""

_FAULTS = {
    "job": "Fault: the job",
    "WebUI": "Fault: the WebUI; the job is probably fine",
    "machine": "Fault: this machine",
    "sdwatch": "Fault: sdwatch",
}
"""By the value of Blamed."""


def failed(overview: Overview, forms: Forms) -> Markup:
    """Return the last failed runs, each with why."""
    if not overview.failed:
        return Markup()
    cards = [_failed(run, overview, forms) for run in overview.failed]
    more = overview.totals.failed - len(cards)
    rest = element("p", f"and {more:,} more in ", element("code", "failed/"), class_="quiet more")
    note = f"{overview.totals.failed:,} in failed/"
    listed = unfolded("ul", cards, _FIRST_FAILED, rest if more > 0 else Markup())
    return section("Failed", listed, id_="failed", note=note)


def _failed(run: EndedCard, overview: Overview, forms: Forms) -> Markup:
    is_cancelled = run.outcome == "cancelled"
    tone = Tone.OFF if is_cancelled else Tone.BAD
    word = state_of(Headline(tone, "cancelled" if is_cancelled else "failed"))
    whose = "" if is_cancelled else _FAULTS.get(run.blame, "")
    return element(
        "li",
        element("div", element("strong", _linked(run)), word, class_="row"),
        element("p", run.why, class_="reason") if run.why and not is_cancelled else "",
        _failed_points(run),
        element("p", *_ended_facts(run, overview, whose), class_="quiet"),
        _thumbnails(run) if run.thumbnails else "",
        element(
            "div",
            _documents(run),
            forms.again(run.run_id, run.source, run.points_failed),
            class_="actions",
        ),
        class_=f"card {tone}",
    )


def _failed_points(run: EndedCard) -> Markup:
    """Return the points that failed, by their values; if there are many, folded."""
    if not run.failed_points:
        return Markup()
    rows = [element("li", _failed_point(point)) for point in run.failed_points]
    more = run.points_failed - len(rows)
    rest = element("p", f"and {more:,} more, see WHY.txt", class_="quiet more")
    return unfolded("ul", rows, _FIRST_POINTS, rest if more > 0 else Markup(), "points")


def _failed_point(point: PointCard) -> Iterator[Markup | str]:
    yield f"point {point.number}"
    if point.values:
        yield from (": ", element("bdi", point.values))
    if point.diagnosis:
        yield element("span", f" · {point.diagnosis}", class_="quiet")


def _linked(run: EndedCard) -> Markup:
    name = name_of(run.source or run.run_id)
    return element("a", name, href=f"{link_to(run.folder)}/")


def _documents(run: EndedCard) -> Iterator[Markup]:
    for path in run.files[:_FILES]:
        name = path.rpartition("/")[2].rpartition("-")[2]  # without what all of the run share
        label = f"{name} of {run.source or run.run_id}"
        yield element("a", name_of(name), href=link_to(path), aria_label=label)
    for there, name in ((run.explained, "WHY.txt"), (run.documented, "run.json")):
        if there:
            label = f"{name} of {run.source or run.run_id}"
            yield element("a", name, href=f"{link_to(run.folder)}/{name}", aria_label=label)


def _ended_facts(run: EndedCard, overview: Overview, *more: str) -> Iterator[Markup | str]:
    if run.ended_at is not None:
        shown = clock_time(run.ended_at, overview.utc_offset, overview.made_at)
        yield element("time", shown, datetime=iso(run.ended_at))
    facts = [counted(run.points, "point") if run.points > 1 and not run.points_failed else ""]
    facts += [counted(run.images, "image") if run.images else "", *more]
    facts.append(counted(len(run.files), "other file") if run.files else "")
    facts.append(counted(run.warnings, "warning") if run.warnings else "")
    yield "".join(f" · {fact}" for fact in facts if fact)


def done(overview: Overview, forms: Forms) -> Markup:
    """Return the last finished runs with their thumbnails."""
    if not overview.done:
        text = "Nothing is done yet. Finished pictures appear here."
        return section("Done", element("p", text, class_="empty"), id_="done")
    tiles = [_done(run, overview, forms) for run in overview.done]
    more = overview.totals.done - len(tiles)
    rest = element("p", f"and {more:,} more in ", element("code", "done/"), class_="quiet more")
    note = f"{overview.totals.done:,} in done/"
    gallery = element("ul", tiles, class_="gallery")
    return section("Done", gallery, rest if more > 0 else "", id_="done", note=note)


def _done(run: EndedCard, overview: Overview, forms: Forms) -> Markup:
    links = [(" · ", link) for link in _documents(run)]
    buttons = forms.again(run.run_id, run.source, run.points_failed)
    again = element("summary", "Again"), element("div", buttons, class_="actions")
    return element(
        "li",
        _thumbnails(run) if run.thumbnails else _no_thumbnail(run),
        element("div", _linked(run), class_="caption"),
        element("p", *_ended_facts(run, overview), *links, class_="quiet"),
        element("details", *again, class_="quiet") if forms.live else "",
    )


def _thumbnails(run: EndedCard) -> Markup:
    shown = run.thumbnails[:_THUMBNAILS]
    if len(shown) == 3:
        shown = shown[:2]
    pictures = [_thumbnail(each, run, number) for number, each in enumerate(shown, 1)]
    more = run.images - len(shown)
    badge = element("span", f"+{more:,}", class_="badge", aria_hidden="true") if more > 0 else ""
    return element("div", pictures, badge, class_=f"thumbs n{len(shown)}")


def _thumbnail(each: Thumbnail, run: EndedCard, number: int) -> Markup:
    label = f"{run.source or run.run_id}, image {number}"
    picture = element("img", src=link_to(each.path), alt=label, loading="lazy", decoding="async")
    return element("a", picture, href=link_to(each.image))


def _no_thumbnail(run: EndedCard) -> Markup:
    words = counted(run.images, "image") if run.images else "no image"
    if run.files and not run.images:
        words = counted(len(run.files), "file")
    return element("a", words, class_="thumbs none", href=f"{link_to(run.folder)}/")
