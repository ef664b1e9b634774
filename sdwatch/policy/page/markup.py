"""HTML as a type of its own: what is not Markup is text, and is escaped. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from sdwatch.policy.page.headline import Headline
from sdwatch.policy.privacy.printable import printable_text

_VOID = frozenset(("br", "hr", "img", "input", "link", "meta"))
_SAFE_IN_A_PATH = "/"


class Markup(str):
    """HTML that needs no escaping."""

    __slots__ = ()


def text(value: str) -> Markup:
    """Return what others wrote as HTML: escaped, and with no sign that turns the line around."""
    return Markup(escape(printable_text(value)))


def element(
    tag: str, *children: str | Iterable[str], **attributes: str | float | bool | None
) -> Markup:
    """Return an element. `children`: texts, Markup, or iterables of them; `attributes`: None and
    False leave one out, True has no value; `class_` is class, and `aria_label` is aria-label."""
    inner = join(*children)
    opening = f"<{tag}{''.join(_attribute(n, v) for n, v in attributes.items())}>"
    return Markup(opening if tag in _VOID else f"{opening}{inner}</{tag}>")


def join(*children: str | Iterable[str]) -> Markup:
    """Return texts and elements one after the other."""
    return Markup("".join(_as_markup(child) for child in children))


def _as_markup(child: str | Iterable[str]) -> Markup:
    if isinstance(child, Markup):
        return child
    return text(child) if isinstance(child, str) else join(*child)


def _attribute(name: str, value: str | float | bool | None) -> str:
    name = name.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{text(str(value))}"'


def name_of(path: str, class_: str = "name") -> Markup:
    """Return a file's name, or its path: whatever it is made of, it does not turn around what
    stands beside it."""
    return element("bdi", path, class_=class_)


def prose(words: str) -> Markup:
    """Return one of our sentences: what stands in `backticks` is a name or a command."""
    parts = words.split("`")
    if len(parts) % 2 == 0:  # a lone one
        return text(words)
    return join(*(element("code", part) if n % 2 else part for n, part in enumerate(parts)))


def link_to(path: str) -> str:
    """Return the link to a path that is relative to the spool."""
    return quote(path, safe=_SAFE_IN_A_PATH, errors="surrogateescape")


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
