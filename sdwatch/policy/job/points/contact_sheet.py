"""Where each picture of a job with a matrix lies on its contact sheet. Pure.

The last list of the matrix makes the columns, all that varies besides the rows; of a single list
the pictures follow each other, each with its value below. A page is bounded in pixels: many
pictures are smaller, and of very many there are several pages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from sdwatch.policy.job.points.points import Axis, Grid, Points, Values

TILES = (384, 256, 192, 128, 96)
"""Pixels of a side of the square for one picture, the largest that fits."""

MOST_SIDE = 6000  # pixels of a page
MOST_PIXELS = 12_000_000  # of a page: 36 MB while it is drawn
MARGIN = 8

Group = tuple[str, ...]


@dataclass(frozen=True)
class Label:
    """The values of one or more names, for people. `place`: which of all these it is, from 1, for
    where no font has its letters."""

    text: str
    place: int


@dataclass(frozen=True)
class Page:
    """One page. `columns`, `rows`: their labels, both empty where each picture has its own in
    `below`; `cells`: the image at each row and column, from 0. `tile`: pixels of a side."""

    tile: int
    width: int
    height: int
    columns: tuple[Label, ...]
    rows: tuple[Label, ...]
    cells: Mapping[tuple[int, int], str]
    below: Mapping[tuple[int, int], Label]

    @property
    def left(self) -> int:
        """Return the pixels before the first column."""
        return label_width(self.tile) if self.rows else MARGIN

    @property
    def line(self) -> int:
        """Return the height of a line of text."""
        return _line(self.tile)


def pages_of(points: Points, pictures: Mapping[int, Sequence[str]]) -> list[Page]:
    """Return the pages of a job's contact sheet. `pictures`: the images of each point, by its
    number. Empty for a job without a matrix, or with a single picture."""
    if not points.have_matrix or sum(map(len, pictures.values())) < 2:
        return []
    groups = list(_groups(points.axes))
    if len(groups) < 2:
        return _strips(points, pictures, groups)
    return _tables(points, pictures, groups)


def _groups(axes: Sequence[Axis]) -> Iterator[Group]:
    """Yield the names that vary together; the matrix at last, so that its last list is the last."""
    ordered = sorted(axes, key=lambda axis: isinstance(axis.rows, Grid))
    for axis in ordered:
        if isinstance(axis.rows, Grid):
            yield from axis.rows.groups
        elif len(axis.rows) > 1:
            yield axis.names


def _strips(
    points: Points, pictures: Mapping[int, Sequence[str]], groups: Sequence[Group]
) -> list[Page]:
    """Return pages on which each picture has its value below."""
    found = [
        (image, Label(_text(points.own(number), groups), number))
        for number, images in pictures.items()
        for image in images
    ]
    wide = min(max(1, ceil(len(found) ** 0.5)), MOST_SIDE // (TILES[-1] + MARGIN))
    high = ceil(len(found) / wide)
    tile, most_wide, most_high = _fitting(wide, high, with_labels=False)
    wide = min(wide, most_wide)
    pages = []
    for start in range(0, len(found), wide * most_high):
        part = found[start : start + wide * most_high]
        at = {divmod(i, wide): each for i, each in enumerate(part)}
        cells = {place: image for place, (image, _) in at.items()}
        below = {place: label for place, (_, label) in at.items()}
        size = _size(tile, min(wide, len(part)), ceil(len(part) / wide), with_labels=False)
        pages.append(Page(tile, *size, (), (), cells, below))
    return pages


def _tables(
    points: Points, pictures: Mapping[int, Sequence[str]], groups: Sequence[Group]
) -> list[Page]:
    """Return pages with labels beside the rows and above the columns."""
    *rest, last = groups
    each = max(map(len, pictures.values()))  # pictures of a point: so many rows
    columns: dict[str, int] = {}
    rows: dict[tuple[str, int], int] = {}
    there: Counter[tuple[str, int]] = Counter()  # values that look the same have a row each
    cells: dict[tuple[int, int], str] = {}
    for number, images in pictures.items():
        values = points.own(number)
        column = columns.setdefault(_text(values, [last]), len(columns))
        text = _text(values, rest)
        row = rows.setdefault((text, there[text, column]), len(rows))
        there[text, column] += 1
        cells |= {(row * each + i, column): image for i, image in enumerate(images)}
    above = [Label(text, place + 1) for text, place in columns.items()]
    beside = [
        Label(text if i == 0 else "", place + 1)
        for (text, _), place in rows.items()
        for i in range(each)
    ]
    tile, wide, high = _fitting(len(above), len(beside), with_labels=True)
    return [
        _part(tile, above[x : x + wide], beside[y : y + high], x, y, cells)
        for y in range(0, len(beside), high)
        for x in range(0, len(above), wide)
    ]


def _part(
    tile: int,
    columns: Sequence[Label],
    rows: Sequence[Label],
    x: int,
    y: int,
    cells: Mapping[tuple[int, int], str],
) -> Page:
    here = {
        (row, column): cells[y + row, x + column]
        for row in range(len(rows))
        for column in range(len(columns))
        if (y + row, x + column) in cells
    }
    size = _size(tile, len(columns), len(rows), with_labels=True)
    return Page(tile, *size, tuple(columns), tuple(rows), here, {})


def label_width(tile: int) -> int:
    """Return the pixels for the labels of rows."""
    return max(120, tile // 2)


def _line(tile: int) -> int:
    return max(12, tile // 14)


def _size(tile: int, wide: int, high: int, *, with_labels: bool) -> tuple[int, int]:
    line = _line(tile)
    left = label_width(tile) if with_labels else MARGIN
    each = tile + MARGIN + (0 if with_labels else 2 * line)
    top = MARGIN + (2 * line if with_labels else 0)
    return left + wide * (tile + MARGIN), top + high * each + 2 * line + MARGIN


def _fitting(wide: int, high: int, *, with_labels: bool) -> tuple[int, int, int]:
    """Return the largest tile with which all fits on a page, else the smallest and how many columns
    and rows fit with it."""
    for tile in TILES:
        if _fits(tile, wide, high, with_labels):
            return tile, wide, high
    tile = TILES[-1]
    columns = next(n for n in range(wide, 0, -1) if n == 1 or _fits(tile, n, 1, with_labels))
    rows = next(n for n in range(high, 0, -1) if n == 1 or _fits(tile, columns, n, with_labels))
    return tile, columns, rows


def _fits(tile: int, wide: int, high: int, with_labels: bool) -> bool:
    width, height = _size(tile, wide, high, with_labels=with_labels)
    return max(width, height) <= MOST_SIDE and width * height <= MOST_PIXELS


def _text(values: Values, groups: Sequence[Group]) -> str:
    named = [name for group in groups for name in group if name in values and name != "image.stem"]
    return ", ".join(f"{name}: {' '.join(values[name].text.split())}" for name in named)
