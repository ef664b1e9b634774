"""Read from a job file what makes several points of it: variables, a matrix, repetitions, a list of
prompts, a folder of images. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Values_
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from math import prod
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from sdwatch.errors import Problem
from sdwatch.policy.job.files.job_files import JobFiles
from sdwatch.policy.job.files.job_images import images_named
from sdwatch.policy.job.points.points import (
    ONE,
    Axis,
    Counted,
    Grid,
    Points,
    TooManyError,
    Values,
)
from sdwatch.policy.job.points.shown_values import may_hold_text, shown_value
from sdwatch.policy.job.text import document
from sdwatch.policy.job.text.document import (
    Mapping,
    MistakeError,
    Node,
    Scalar,
    UnreadableError,
    is_null,
    problem_at,
)
from sdwatch.policy.job.text.editor_forms import MATRIX, MATRIX_PARTS, VARS
from sdwatch.policy.job.text.filling import NAME
from sdwatch.policy.job.text.text_rows import MOST_NAMES, text_beside
from sdwatch.policy.job.text.typed_values import (
    ONE_OR_MORE,
    WHOLE,
    Free,
    Written,
    found,
    read_model,
)
from sdwatch.policy.naming import nearest, shown, some_of

MOST_PLACES = 1_000_000
"""Of a grid, before `exclude` leaves out some of them."""

_LONGEST_PATTERN = 200  # characters

_IMAGE, _STEM, REPEAT = "image", "image.stem", "repeat"
_LISTS = (".txt", ".csv")


class OnFailure(StrEnum):
    """What a run does after a point has failed."""

    CONTINUE = "continue"
    STOP = "stop"


class LineSeeds(StrEnum):
    """The seeds of the lines of a list of prompts: for each one of its own, the same for all, or
    counting up from line to line. The last two are "Use same random seed for all lines" and
    "Iterate seed every line" of AUTOMATIC1111's script."""

    EACH = "each"
    SAME = "same"
    COUNT = "count"


class Expanding(Written):
    """The fields that make several points of one job. Their values are read from the nodes, which
    have the places; the types here are for mistakes and for editors."""

    version: Annotated[int, Field(ge=1, le=1), WHOLE] | None = Field(
        None, description="Of the job language; 1."
    )
    defaults: dict[str, Free] | None = Field(
        None, description="Fields for each stage that has such a field and does not give it."
    )
    vars: Annotated[dict[str, Free], VARS] | None = Field(
        None, description="Values for `${name}`, the same for all points."
    )
    matrix: Annotated[dict[str, Free], MATRIX] | None = Field(
        None,
        description="Lists of values: a point for each combination. `zip` has lists that go "
        "together, `include` adds combinations, `exclude` leaves some out.",
    )
    repeat: Annotated[int, Field(ge=1), WHOLE] | None = Field(
        None, description="How often each point is made, each time with another seed."
    )
    prompts_from: str | None = Field(
        None,
        description="A file beside job.yaml. A text: a point for each line, a prompt or options "
        'such as `--prompt a castle --steps 30` (those of AUTOMATIC1111\'s "Prompts from file"). A '
        "table (.csv): a point for each row, its columns are names.",
    )
    line_seeds: Literal["each", "same", "count"] | None = Field(
        None,
        description="The seeds of the lines of prompts_from: each its own (default), the same for "
        "all, or counting up from line to line.",
    )
    for_each: str | None = Field(
        None,
        description="A pattern such as `poses/*.png`: a point for each image of the job folder "
        "that fits, as `${image}`, its stem as `${image.stem}`. A first stage that needs an image "
        "takes it.",
    )
    on_failure: Literal["continue", "stop"] | None = Field(
        None, description="After a point has failed: continue with the next (default), or stop."
    )
    points: Annotated[list[Annotated[int, Field(ge=1), WHOLE]], ONE_OR_MORE] | None = Field(
        None, description="Numbers of the points to make; default: all."
    )
    random_seed: Annotated[int, Field(ge=0, le=2**32 - 1), WHOLE] | None = Field(
        None, description="Picks seeds and wildcards as an earlier run did; see its run.json."
    )


EXPANDING = frozenset(Expanding.model_fields)
_MAKES_POINTS = EXPANDING - {"version", "defaults", "on_failure", "line_seeds"}


@dataclass(frozen=True)
class Expansion:
    """What a job file says about its points. `defaults`: fields for its stages; `names`: those that
    have values, each with the line where it got them; `fills`: whether `${name}` stands for a
    value; `random_seed`: None where nothing was given."""

    points: Points = ONE
    defaults: tuple[tuple[Scalar, Node], ...] = ()
    names: Values_[str, int] = field(default_factory=dict)
    on_failure: OnFailure = OnFailure.CONTINUE
    random_seed: int | None = None
    fills: bool = False


def is_part(key: str) -> bool:
    """Return whether a key of a job file belongs to what is read here."""
    return key in EXPANDING


def read_expansion(root: Mapping, files: JobFiles, most: int) -> tuple[Expansion, list[Problem]]:
    """Return what `root` says about its points, and what is wrong with that. `most`: points."""
    reader = _Reader(files, most)
    expansion = reader.expansion(root)
    points = expansion.points
    if not reader.problems and points.total > most:
        keys = (key for key, _ in root.entries if key.text in _MAKES_POINTS)
        reader.fail(next(keys), f"this makes {points.total:,} points; max_points allows {most:,}")
    if not reader.problems and points.only and max(points.only) > points.total:
        where = next(value for key, value in root.entries if key.text == "points")
        reader.fail(where, f"there is no point {max(points.only)}; the last is {points.total}")
    return expansion, reader.problems


@dataclass
class _Reader:
    files: JobFiles
    most: int
    seeds: LineSeeds = LineSeeds.EACH
    problems: list[Problem] = field(default_factory=list)
    named: dict[str, int] = field(default_factory=dict)  # each name -> the line of its value

    def fail(self, node: Node, message: str, *, unfinished: bool = False) -> None:
        self.problems.append(problem_at(node, message, unfinished=unfinished))

    def expansion(self, root: Mapping) -> Expansion:
        mine = tuple((key, value) for key, value in root.entries if is_part(key.text))
        made, problems = read_model(replace(root, entries=mine), Expanding, "job")
        self.problems += problems
        given = {key.text: value for key, value in mine if not is_null(value)}
        if made is None:
            return Expansion()
        defaults = given.get("defaults")
        on_failure = OnFailure(made.on_failure or OnFailure.CONTINUE)
        self.seeds = LineSeeds(made.line_seeds or LineSeeds.EACH)
        common = Expansion(
            defaults=defaults.entries if isinstance(defaults, Mapping) else (),
            on_failure=on_failure,
            random_seed=made.random_seed,
        )
        if not given.keys() & _MAKES_POINTS:
            return common
        points = self.points(made, given)
        return replace(common, points=points, names=self.named, fills=True)

    def points(self, made: Expanding, given: dict[str, Node]) -> Points:
        """Read the axes in the order of the file."""
        axes: list[Axis] = []
        for key, node in given.items():
            try:
                if key == "matrix" and isinstance(node, Mapping):
                    axes += self.matrix(node)
                elif key == "repeat":
                    rows = Counted(made.repeat or 1, node.line, node.column)
                    axes.append(self.axis((REPEAT,), rows, node))
                elif key == "prompts_from" and isinstance(node, Scalar):
                    axes += self.prompts(node)
                elif key == "for_each" and isinstance(node, Scalar):
                    axes.append(self.images(node))
            except UnreadableError as error:
                self.problems.append(error.problem)
        fixed = self.fixed(given.get("vars"))
        only = tuple(dict.fromkeys(made.points or ()))
        return Points(fixed, tuple(axes), only, count_seeds=self.seeds is LineSeeds.COUNT)

    def fixed(self, node: Node | None) -> Values:
        if not isinstance(node, Mapping):
            return {}
        for key, _ in node.entries:
            self.name(key)
        return {key.text: self.value(key, value) for key, value in node.entries}

    def matrix(self, node: Mapping) -> Iterator[Axis]:
        axes = list(self.matrix_axes(node))
        places = prod(len(axis.rows) for axis in axes)
        if places > MOST_PLACES:
            message = f"a matrix has at most {MOST_PLACES:,} places, not {places:,}"
            raise MistakeError(node, message)
        names = [name for axis in axes for name in axis.names]
        if len(names) > MOST_NAMES:
            message = f"a matrix has at most {MOST_NAMES} names, not {len(names):,}"
            raise MistakeError(node, message)
        if self.problems:
            return
        parts = {key.text: value for key, value in node.entries}
        excluded = self.combinations(parts.get("exclude"), "exclude", names)
        included = self.combinations(parts.get("include"), "include", names)
        if self.problems:
            return
        self.check_excluded(axes, excluded)
        if self.problems:
            return
        rows = [tuple(values[name] for name in names) for values in included]
        try:
            grid = Grid(axes, excluded, rows)
        except TooManyError as error:
            raise MistakeError(node, str(error)) from None
        if not len(grid):
            raise MistakeError(node, "exclude leaves nothing of the matrix")
        yield Axis(grid.names, grid)

    def matrix_axes(self, node: Mapping) -> Iterator[Axis]:
        """Read the lists of a matrix; together those in zip."""
        for key, value in node.entries:
            if key.text == "zip":
                groups = value.items if isinstance(value, document.Sequence) else (value,)
                for group in groups:
                    yield from self.zipped(group)
            elif key.text not in MATRIX_PARTS:
                rows = tuple((each,) for each in self.listed(key, value))
                self.name(key)
                yield Axis((key.text,), rows)

    def zipped(self, node: Node) -> Iterator[Axis]:
        if not isinstance(node, Mapping) or not node.entries:
            self.fail(node, "zip takes a mapping of names to lists of the same length")
            return
        columns = [self.listed(key, value) for key, value in node.entries]
        for key, _ in node.entries:
            self.name(key)
        if len({len(column) for column in columns}) > 1:
            lengths = [
                f"{_called(key)} has {len(column)}"
                for (key, _), column in zip(node.entries, columns, strict=True)
            ]
            self.fail(node, f"the lists in zip must have the same length: {some_of(lengths)}")
            return
        names = tuple(key.text for key, _ in node.entries)
        yield Axis(names, tuple(zip(*columns, strict=True)))

    def listed(self, key: Scalar, node: Node) -> tuple[Scalar, ...]:
        """Return the values of a name; one value stands for a list of one."""
        items = node.items if isinstance(node, document.Sequence) else (node,)
        if not items:
            self.fail(node, f"{_called(key)} has no values")
        return tuple(self.value(key, item) for item in items)

    def value(self, key: Scalar, node: Node) -> Scalar:
        if isinstance(node, Scalar):
            return node
        self.fail(node, f"{_called(key)} must be a text or a number, not {found(node)}")
        return Scalar("", node.line, node.column)

    def combinations(
        self, node: Node | None, part: str, names: Sequence[str]
    ) -> tuple[Values, ...]:
        """Read `include` or `exclude`: mappings of the matrix's names to values."""
        if node is None:
            return ()
        items = node.items if isinstance(node, document.Sequence) else (node,)
        return tuple(filter(None, map(partial(self.combination, part, names), items)))

    def check_excluded(self, axes: Sequence[Axis], excluded: Sequence[Values]) -> None:
        """Find values that leave out nothing, because no list has them: a slip of the pen would
        make all the pictures that were not wanted."""
        there = {
            name: dict.fromkeys(row[i].text for row in axis.rows)
            for axis in axes
            for i, name in enumerate(axis.names)
        }
        for values in excluded:
            for name, value in values.items():
                if value.text not in there[name]:
                    has = some_of([shown_value(v, may_hold_text(name)) for v in there[name]])
                    never = shown_value(value.text, may_hold_text(name))
                    self.fail(value, f"{name} is never {never}, its list has {has}")

    def combination(self, part: str, names: Sequence[str], node: Node) -> Values:
        if not isinstance(node, Mapping) or not node.entries:
            self.fail(node, f"{part} takes a list of mappings of names to values")
            return {}
        for key, _ in node.entries:
            if key.text not in names:
                near = nearest(key.text, names)
                self.fail(key, f"{part} names {found(key)}, which is not in the matrix{near}")
        values = {key.text: self.value(key, value) for key, value in node.entries}
        missing = [name for name in names if name not in values]
        if missing and part == "include":
            self.fail(node, f"include needs a value for {some_of(missing)}, too")
        return values

    def prompts(self, node: Scalar) -> Iterator[Axis]:
        """Read a file of prompts: a text with a prompt in each line, or a table."""
        from sdwatch.policy.job.text.csv_table import Table
        from sdwatch.policy.job.text.prompt_lines import PromptLines

        text = self.text(node)
        self.files.sources.kept += len(text)
        kind = Table if node.text.lower().endswith(".csv") else PromptLines
        listed = kind(text, self.most, self.files.sources.add(self.files.shown(node.text)))
        self.problems += listed.problems
        if listed:
            for name in listed.names:
                self.name(name)
            names = tuple(name.text for name in listed.names)
            yield Axis(names, listed, own_chance=self.seeds is LineSeeds.EACH, line=True)
        elif not self.problems:
            what = "row below its names" if kind is Table else "prompt in it"
            raise MistakeError(node, f"{shown(node.text)} has no {what}", unfinished=True)

    def text(self, node: Scalar) -> str:
        if self.files.names is None:
            message = "a single job file cannot use the file {}; put it as job.yaml into a folder"
            raise MistakeError(node, message.format(shown(node.text)) + " together with that file")
        if node.text not in self.files.names:
            there = sorted(name for name in self.files.names if name.lower().endswith(_LISTS))
            near = (
                nearest(node.text, there) if there else f"; there is no {' or '.join(_LISTS)} in it"
            )
            message = f"{shown(node.text)} is not in the job folder{near}"
            raise MistakeError(node, message, unfinished=True)
        return self.files.made_of(node, node.text, text_beside)

    def images(self, node: Scalar) -> Axis:
        """Find the images of the job folder that fit a pattern, in natural order."""
        if self.files.names is not None and len(node.text) > _LONGEST_PATTERN:
            raise MistakeError(node, f"a pattern has at most {_LONGEST_PATTERN} characters")
        names = images_named(node, self.files.names)
        rows = tuple((_given(name, node), _given(PurePosixPath(name).stem, node)) for name in names)
        return self.axis((_IMAGE, _STEM), rows, node)

    def axis(self, names: tuple[str, ...], rows: Sequence[tuple[Scalar, ...]], node: Node) -> Axis:
        for name in names:
            self.name(Scalar(name, node.line, node.column))
        return Axis(names, rows, own_chance=True)

    def name(self, key: Scalar) -> None:
        """Note a name that has a value; each has one only."""
        if not NAME.fullmatch(key.text) or key.text in MATRIX_PARTS:
            message = (
                f"{found(key)} is not a name: use up to 40 letters, digits and _, as ${{my_name}}"
            )
            self.fail(key, message)
        elif key.text in self.named:
            first = self.files.sources.words(self.named[key.text])
            self.fail(key, f"{_called(key)} has values twice, first in {first}; keep one")
        else:
            self.named[key.text] = key.line


def _given(text: str, node: Scalar) -> Scalar:
    """Return a value that a file beside the job gives: like text in quotes where it looks like
    one, and typed by the field that takes it."""
    return Scalar(text, node.line, node.column, quoted=bool(text))


def _called(key: Scalar) -> str:
    """Return a name for the start of a message."""
    return key.text if NAME.fullmatch(key.text) else shown(key.text)
