"""A table that is one test finds what a test for each row finds, and names the rows."""

from __future__ import annotations

import pytest

from tests.support.tables import table


def of_rows(*rows: object, **more: object) -> object:
    def test(number: int, at_most: int = 2) -> None:
        assert number <= at_most

    return table("number", rows, **more)(test)  # type: ignore[arg-type]


def test_each_row_that_fails_is_named_and_the_others_are_run() -> None:
    whole = of_rows(3, 1, pytest.param(5, id="five"), ids=["three", "one", "other"])
    with pytest.raises(AssertionError) as caught:
        whole()  # type: ignore[operator]
    assert str(caught.value).splitlines()[0] == "2 of 3 rows fail; above is the first one"
    assert [line.split(":")[0] for line in str(caught.value).splitlines()[1:]] == [
        "  three",
        "  five",
    ]
    assert isinstance(caught.value.__cause__, AssertionError), "with the traceback of its assert"


def test_rows_that_hold_pass_and_fixtures_are_passed_on() -> None:
    of_rows(1, 2)()  # type: ignore[operator]
    of_rows(3)(at_most=3)  # type: ignore[operator]


@pytest.mark.parametrize("rows", [(), (pytest.param(1, marks=pytest.mark.slow),)])
def test_a_table_of_nothing_or_with_a_marker_is_refused(rows: tuple[object, ...]) -> None:
    with pytest.raises(AssertionError):
        of_rows(*rows)


@table(("low", "high"), [(1, 2), (3, 4)])
@table("step", [1, 0])
def test_two_tables_are_each_row_with_each(low: int, high: int, step: int) -> None:
    assert low + step <= high
