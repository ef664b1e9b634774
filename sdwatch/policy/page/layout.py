"""What the parts of the page are made of: headings, lists that unfold, a state. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from sdwatch.policy.page.headline import Headline
from sdwatch.policy.page.markup import Markup, element, join


def section(title: str, *body: str | Iterable[str], id_: str, note: str = "") -> Markup:
    """Return a part of the page with its heading. `note`: beside it, a count or a time."""
    heading = element("h2", title, element("small", note) if note else "", id=f"{id_}-title")
    return element("section", heading, *body, id=id_, class_=id_, aria_labelledby=f"{id_}-title")


def unfolded(tag: str, rows: list[Markup], first: int, rest: Markup, class_: str = "") -> Markup:
    """Return a list. Its `first` rows are shown, and the others, with `rest` below them, once a
    person unfolds them; one row alone is not folded: its summary would take as much room."""
    if len(rows) <= first + 1:
        return join(element(tag, rows, class_=class_ or None), rest)
    shown, others = (
        element(tag, part, class_=class_ or None) for part in (rows[:first], rows[first:])
    )
    summary = element("summary", f"Show {len(rows) - first:,} more")
    return join(shown, element("details", summary, others, rest, class_="others"))


def state_of(headline: Headline) -> Markup:
    """Return a state, by its colour and its word."""
    return element("span", headline.word, class_=f"state {headline.tone}")


# -- counts
