"""The points of a job: one for each combination of the values that its file lists. Pure.

Each axis has one or more names, and at each of its places a value for each of them. Points are
numbered from 1 in the order of the file, the last axis varying fastest, and made one at a time: ten
thousand cost no more memory than ten.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

from sdwatch.policy.job.text.document import Scalar
from sdwatch.policy.job.text.text_rows import Row, Rows, TextRows

Values = Mapping[str, Scalar]
"""What stands for each name at one point."""

_MOST_MARKS = 2_000_000
"""Places that all of `exclude` may leave out, one after the other."""


class TooManyError(ValueError):
    """The combinations of a matrix are too many to go through; the text says of what."""


@dataclass(frozen=True)
class Axis:
    """Names that vary together. `rows`: a value for each name, at each place; `own_chance`: each
    place has seeds and other chances of its own (a repetition, a line, an image), where those of a
    matrix share theirs, so that they can be compared. `line`: its places are lines of a file."""

    names: tuple[str, ...]
    rows: Sequence[Row]
    own_chance: bool = False
    line: bool = False

    def at(self, place: int) -> Values:
        """Return the values at a place, counted from 0."""
        return dict(zip(self.names, self.rows[place], strict=True))

    def covering(self, free: Container[str] = ()) -> Iterator[int]:
        """Yield places, so that each value of each name is at one of them; those of `free` names
        need not be."""
        seen: set[tuple[int, str]] = set()
        wanted = [i for i, name in enumerate(self.names) if name not in free]
        for place, row in enumerate(self.rows if wanted else ()):
            here = {(i, row[i].text) for i in wanted}
            if here - seen:
                yield place
            seen |= here


class Counted(Rows):
    """The rows 1, 2, … of one name, with the place where they are asked for."""

    def __init__(self, count: int, line: int, column: int) -> None:
        self.names = range(1, count + 1)
        self._place = (line, column)

    def __len__(self) -> int:
        return len(self.names)

    def row(self, place: int) -> Row:
        return (Scalar(str(self.names[place]), *self._place),)


class Grid(Rows):
    """The rows of a matrix: all combinations of the places of its axes, without those that have all
    values of one of `excluded`; then the rows of `included`. Raises TooManyError."""

    def __init__(
        self, axes: Sequence[Axis], excluded: Sequence[Values] = (), included: Sequence[Row] = ()
    ) -> None:
        self.names = tuple(name for axis in axes for name in axis.names)
        self._axes = axes
        self._included = included
        self._size = prod(len(axis.rows) for axis in axes)
        self._kept: Sequence[int] = range(self._size)
        if excluded:
            out = self._left_out(excluded)
            self._kept = array("L", (i for i in self._kept if not out[i]))

    def __len__(self) -> int:
        return len(self._kept) + len(self._included)

    def row(self, place: int) -> Row:
        if place >= len(self._kept):
            return self._included[place - len(self._kept)]
        at = _places_of(self._kept[place], self._axes)
        return tuple(value for axis, i in at for value in axis.rows[i])

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Return the names that vary together, list by list."""
        return tuple(axis.names for axis in self._axes if len(axis.rows) > 1 or self._included)

    def parts(self) -> Iterator[Row]:
        """Yield the rows of its axes and those included, which have all its values."""
        for axis in self._axes:
            yield from axis.rows
        yield from self._included

    def _left_out(self, excluded: Sequence[Values]) -> bytearray:
        """Return for each combination whether it is left out."""
        out, marks = bytearray(self._size), 0
        known = [_places_by_value(axis) for axis in self._axes]
        for values in excluded:
            indexes = [0]
            for axis, places in zip(self._axes, known, strict=True):
                given = [name for name in axis.names if name in values]
                fits = [places.get((name, values[name].text), set()) for name in given]
                count = len(axis.rows)
                here = set.intersection(*fits) if fits else range(count)
                marks += len(indexes) * len(here)
                if marks > _MOST_MARKS:
                    raise TooManyError(
                        f"exclude leaves out more than {_MOST_MARKS:,} combinations, one by one; "
                        "leave values out of the lists instead"
                    )
                indexes = [index * count + place for index in indexes for place in here]
            for index in indexes:
                out[index] = True
        return out


def _places_by_value(axis: Axis) -> dict[tuple[str, str], set[int]]:
    """Return the places of an axis that have a value, by name and value."""
    found: dict[tuple[str, str], set[int]] = {}
    for place, row in enumerate(axis.rows):
        for name, value in zip(axis.names, row, strict=True):
            found.setdefault((name, value.text), set()).add(place)
    return found


@dataclass(frozen=True)
class Points:
    """All points of a job. `fixed`: what is the same for all; `only`: the numbers of those to make,
    empty for all. A number stays the same whatever `only` says. `count_seeds`: seeds count up from
    line to line."""

    fixed: Values = field(default_factory=dict)
    axes: tuple[Axis, ...] = ()
    only: tuple[int, ...] = ()
    count_seeds: bool = False

    @property
    def total(self) -> int:
        """Return how many points there are, whatever `only` says."""
        return prod(len(axis.rows) for axis in self.axes)

    def values_with(self, sign: str) -> Iterator[Scalar]:
        """Yield the values of all names that have this sign in them, some of them more than once,
        and perhaps others."""
        yield from self.fixed.values()
        for axis in self.axes:
            if isinstance(axis.rows, TextRows) and sign not in axis.rows.text:
                continue
            rows = axis.rows.parts() if isinstance(axis.rows, Grid) else axis.rows
            yield from (value for row in rows for value in row)

    def __len__(self) -> int:
        return len(self.only) or self.total

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers of the points to make."""
        return iter(self.only or range(1, self.total + 1))

    @property
    def are_several(self) -> bool:
        """Return whether the job was written as points; one of them may be left."""
        return bool(self.axes)

    @property
    def have_matrix(self) -> bool:
        """Return whether some are the combinations of a matrix, as a contact sheet shows them."""
        return any(isinstance(axis.rows, Grid) for axis in self.axes)

    def values(self, number: int) -> Values:
        """Return the values of a point."""
        values = dict(self.fixed)
        for axis, place in self._places(number):
            values |= axis.at(place)
        return values

    def own(self, number: int) -> Values:
        """Return the values by which a point differs from others, for people."""
        return {
            name: value
            for axis, place in self._places(number)
            if len(axis.rows) > 1
            for name, value in axis.at(place).items()
        }

    def chance(self, number: int) -> str:
        """Return what sets the chances of a point apart from those of others: the same for all
        points that differ only in their place in the matrix."""
        return ",".join(str(place) for axis, place in self._places(number) if axis.own_chance)

    def seed_steps(self, number: int) -> int:
        """Return by how many calls the seeds of a point are further than those of the first line; 0
        where the line gives its own seed."""
        steps = 0
        for axis, place in self._places(number):
            if self.count_seeds and axis.line:
                seed = axis.at(place).get("seed")
                steps = 0 if seed is not None and not seed.is_null else place
        return steps

    def repetition(self, number: int) -> int:
        """Return which repetition a point is, from 0."""
        repeated = (each for each in self._places(number) if isinstance(each[0].rows, Counted))
        return sum(place for _, place in repeated)

    def covering(self, free: Container[str] = ()) -> Iterator[tuple[int, Axis | None]]:
        """Yield numbers of points, so that each value of each axis is in one of them, and the axis
        whose value that is; None for the first point. `free`: see Axis."""
        if self.total:
            yield 1, None
        stride = self.total
        for axis in self.axes:
            stride //= len(axis.rows) or 1
            yield from ((place * stride + 1, axis) for place in axis.covering(free) if place)

    def _places(self, number: int) -> list[tuple[Axis, int]]:
        return _places_of(number - 1, self.axes)


def _places_of(index: int, axes: Sequence[Axis]) -> list[tuple[Axis, int]]:
    """Return the axes, each with its place in the combination with this index, both from 0."""
    places = []
    for axis in reversed(axes):
        index, place = divmod(index, len(axis.rows))
        places.append((axis, place))
    return places[::-1]


ONE = Points()
"""Those of a job that lists no values: one, without a value."""
