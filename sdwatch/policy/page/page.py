"""The page as HTML, from an Overview. Pure.

It is readable without a script and without a server: opened from a share by a double-click, or in
the file viewer of a phone. Links are relative to the spool. Everything that comes from outside is
escaped in one place, see markup.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from sdwatch.policy.page import ended_sections, sections
from sdwatch.policy.page.buttons import Forms
from sdwatch.policy.page.headline import headline
from sdwatch.policy.page.markup import Markup, element, join, prose
from sdwatch.policy.page.overview import Overview, Presence
from sdwatch.policy.page.times import clock_time, iso, zone
from sdwatch.policy.privacy.printable import counted
from sdwatch.policy.report.notice import config_edited

_OLD_AFTER = 3.0
"""A page that is so many times as old as `again_in` is no longer replaced."""

_SHORT_QUEUE = 3
"""Beside a queue of so few jobs a list of failed runs would leave half of a wide page empty."""

_AGE = """
(function () {
  var made = document.querySelector("[data-made]");
  var old = document.getElementById("old");
  if (!made) { return; }
  function show() {
    var age = Math.round(Date.now() / 1000 - Number(made.dataset.made));
    if (age < Number(made.dataset.old)) { return; }
    var minutes = Math.round(age / 60);
    var hours = Math.round(minutes / 60);
    var words = minutes < 120 ? minutes + " minutes" : hours + " hours";
    if (hours >= 48) { words = Math.round(hours / 24) + " days"; }
    old.querySelector("strong").textContent = "This page is " + words + " old.";
    old.hidden = false;
    document.body.classList.add("is-old");
  }
  show();
  setInterval(show, 5000);
})();
"""
"""The one script of the file: where it does not run, the time in the header is all there is."""

_LINKED = join(
    element("link", rel="stylesheet", href="/static/style.css"),
    element("link", rel="icon", href="/static/icon.svg"),
    element("script", src="/static/live.js", defer=True),
)
_READ_ONLY = (
    "This browser may only look. To press buttons and drop jobs, open the link that sdwatch web "
    "printed on its terminal."
)


def whole(
    overview: Overview, *, style: str = "", live: bool = False, token: str = "", said: str = ""
) -> str:
    """Return the whole page. `style`: the style sheet, for the page that is one file; `live`: for
    the server, which has style and script at /static/; `token`: for its forms; `said`: what the
    form that led here has done."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="same-origin"),
        element("title", _title(overview)),
        _LINKED if live else _inline_head(overview, style),
    )
    body = element(
        "body",
        element("a", "Skip to what runs now", class_="skip", href="#main"),
        element("p", said, id="said", class_="notice good", role="status") if said else "",
        element("main", main(overview, live=live, token=token), id="main", tabindex="-1"),
        Markup("" if live else f"<script>{_AGE}</script>"),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _inline_head(overview: Overview, style: str) -> Markup:
    again = element("meta", http_equiv="refresh", content=f"{max(5, overview.again_in):.0f}")
    stays = overview.monitor.presence is Presence.STOPPED
    return Markup(f"{'' if stays else again}<style>{style}</style>")


def _title(overview: Overview) -> str:
    waiting = f" · {overview.totals.queued:,} queued" if overview.totals.queued else ""
    return f"{headline(overview).word}{waiting} · sdwatch"


def main(overview: Overview, *, live: bool = False, token: str = "") -> Markup:
    """Return what is between the page's <main> tags, which the live page replaces. With `live` and
    a `token` it has forms, each with `token` as a hidden input."""
    forms = Forms(live and bool(token), token)
    totals = overview.totals
    failed = ended_sections.failed(overview, forms)
    is_beside = len(overview.queue) > _SHORT_QUEUE
    near = overview.near_misses, totals.near_misses, "near-misses"
    return join(
        _header(overview, forms),
        "" if live else _old(overview),
        element("p", prose(_READ_ONLY), class_="notice waits") if live and not token else "",
        _notices(overview),
        sections.counts(overview),
        element(
            "div",
            element(
                "div",
                sections.active(overview, forms),
                sections.lanes(overview),
                sections.boxes(overview),
                failed if is_beside else "",
                class_="column",
            ),
            element("div", "" if is_beside else failed, class_="below"),
            element(
                "div",
                sections.queue(overview, forms),
                sections.remarks("Not ready", overview.waiting, totals.waiting, "waiting"),
                sections.remarks("Looks like a job, and is not", *near),
                class_="column",
            ),
            class_="columns",
        ),
        ended_sections.done(overview, forms),
        _footer(overview),
    )


def _header(overview: Overview, forms: Forms) -> Markup:
    now = headline(overview)
    held = bool(overview.hold_file)
    is_running = overview.monitor.presence in (Presence.RUNNING, Presence.NOT_KNOWN)
    buttons = join(forms.drop(), forms.hold_or_resume(held) if is_running or held else "")
    return element(
        "header",
        element("p", element("b", "sdwatch"), *_where(overview), class_="brand"),
        element("h1", element("span", now.word, class_=f"state {now.tone}")),
        element("p", prose(now.sentence), class_="lead") if now.sentence else "",
        element("div", buttons, class_="actions") if forms.live else "",
        class_=f"top {now.tone}",
    )


def _where(overview: Overview) -> Iterator[Markup | str]:
    if overview.monitor.host:
        yield " on "
        yield element("span", overview.monitor.host)
    yield element("time", _made(overview), datetime=iso(overview.made_at), class_="made")


def _made(overview: Overview) -> str:
    made = clock_time(overview.made_at, overview.utc_offset, overview.made_at, seconds=True)
    return f"{made} {zone(overview.utc_offset)}"


def _old(overview: Overview) -> Markup:
    """Return what says that the page is no longer replaced. A stopped monitor says so itself."""
    if overview.monitor.presence is Presence.STOPPED:
        return Markup()
    return element(
        "p",
        element("strong", "This page is old."),
        " The monitor, its machine or the share is gone: what stands here was true then.",
        id="old",
        class_="notice bad",
        role="alert",
        hidden=True,
        data_made=f"{overview.made_at:.0f}",
        data_old=f"{_OLD_AFTER * max(60.0, overview.again_in):.0f}",
    )


def _notices(overview: Overview) -> Iterator[Markup]:
    monitor = overview.monitor
    if monitor.config_edited:
        yield element("p", config_edited(monitor.config_edited), class_="notice waits")
    for name in monitor.stop_ignored:
        text = f"The file {name} in the spool is older than the monitor's start, and is ignored."
        yield element("p", f"{text} Remove it.", class_="notice waits")
    for each in monitor.unreached:
        yield element(
            "p",
            f"Notifications: {each.target} gets no messages: {each.why}. ",
            prose("`sdwatch notify test` tries it now."),
            class_="notice waits",
        )
    for other in overview.left_behind:
        yield element(
            "p",
            f"Worker {other.worker}{f' on {other.host}' if other.host else ''} is gone and left "
            f"{counted(other.runs, 'run')}. They resume when sdwatch starts there again, "
            "or here with ",
            element("code", f"sdwatch run --take-over {other.worker}"),
            class_="notice waits",
        )
    for problem in overview.problems:
        yield element("p", problem, class_="notice waits")


def _footer(overview: Overview) -> Markup:
    seen = overview.monitor.seen_at
    presence = overview.monitor.presence
    words = [f"Spool {overview.spool}"] if overview.spool else []
    if presence is Presence.RUNNING:
        words.append(
            f"Written at {_made(overview)}, and again at least every "
            f"{overview.again_in:.0f} s while the monitor runs: if that is long ago, the monitor, "
            "its machine or the share is gone"
        )
    elif presence is Presence.STOPPED:
        words.append(f"Written at {_made(overview)}; this page changes when a monitor starts")
    elif seen is not None:
        shown = clock_time(seen, overview.utc_offset, overview.made_at)
        words.append(f"The monitor was last seen at {shown} {zone(overview.utc_offset)}")
    words.append(f"Times are {zone(overview.utc_offset)}")
    if overview.version:
        words.append(f"sdwatch {overview.version}")
    return element("footer", element("p", ". ".join(words), "."))
