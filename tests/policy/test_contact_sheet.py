"""Where pictures lie on a contact sheet."""

from __future__ import annotations

import pytest

from sdwatch.policy.job.job import parse_job
from sdwatch.policy.job.points.contact_sheet import (
    MOST_PIXELS,
    MOST_SIDE,
    TILES,
    Page,
    pages_of,
)
from tests.support.tables import table


def pages(text: str, each: int = 1, without: tuple[int, ...] = ()) -> list[Page]:
    points = parse_job(f"prompt: x\n{text}".encode(), "job.yaml").points
    images = {
        n: [f"{n}-{i}" for i in range(1, each + 1)]
        for n in range(1, points.total + 1)
        if n not in without
    }
    return pages_of(points, images)


def labels(found: tuple[object, ...]) -> list[str]:
    return [str(getattr(label, "text", "")) for label in found]


def test_the_last_list_makes_the_columns_and_the_others_the_rows() -> None:
    (page,) = pages("repeat: 2\nmatrix: {steps: [1, 2], cfg_scale: [5, 6, 7]}\n")
    assert labels(page.columns) == ["cfg_scale: 5", "cfg_scale: 6", "cfg_scale: 7"]
    assert labels(page.rows) == [
        "repeat: 1, steps: 1", "repeat: 1, steps: 2", "repeat: 2, steps: 1", "repeat: 2, steps: 2",
    ]  # fmt: skip
    assert page.cells[0, 0] == "1-1"
    assert page.cells[3, 2] == "12-1"


def test_lists_in_zip_are_one_side() -> None:
    (page,) = pages("matrix: {steps: [1, 2], zip: {width: [64, 128], height: [8, 16]}}\n")
    assert labels(page.columns) == ["width: 64, height: 8", "width: 128, height: 16"]


def test_points_whose_values_look_the_same_have_rows_of_their_own() -> None:
    (page,) = pages("matrix: {steps: [7, 7], cfg_scale: [5, 6]}\n")
    assert labels(page.rows) == ["steps: 7", "steps: 7"]
    assert sorted(page.cells.values()) == ["1-1", "2-1", "3-1", "4-1"]
    (page,) = pages("matrix: {steps: [7, 8], cfg_scale: [5, 5]}\n")
    assert sorted(page.cells.values()) == ["1-1", "2-1", "3-1", "4-1"]


def test_several_pictures_of_a_point_are_below_each_other() -> None:
    (page,) = pages("matrix: {steps: [1, 2], cfg_scale: [5, 6]}\n", each=2)
    assert labels(page.rows) == ["steps: 1", "", "steps: 2", ""]
    assert [page.cells[row, 1] for row in range(4)] == ["2-1", "2-2", "4-1", "4-2"]


def test_a_single_list_has_each_value_below_its_picture() -> None:
    (page,) = pages("matrix: {steps: [1, 2, 3, 4, 5]}\n")
    assert not page.columns
    assert not page.rows
    assert [page.below[at].text for at in page.cells] == [f"steps: {n}" for n in range(1, 6)]
    assert page.cells[1, 1] == "5-1"


def test_a_point_that_failed_leaves_its_cell_empty() -> None:
    (page,) = pages("matrix: {steps: [1, 2], cfg_scale: [5, 6]}\n", without=(2,))
    assert sorted(page.cells) == [(0, 0), (1, 0), (1, 1)]


@pytest.mark.parametrize("text", ["repeat: 5\n", "steps: 3\n", "matrix: {steps: [1]}\n"])
def test_without_a_matrix_of_several_points_there_is_no_sheet(text: str) -> None:
    assert pages(text) == []


@table(("rows", "columns"), [(2, 2), (9, 9), (3, 100), (40, 50), (1, 300)])
def test_a_page_is_bounded_and_no_picture_is_left_out(rows: int, columns: int) -> None:
    steps, scales = (", ".join(map(str, range(1, n + 1))) for n in (rows, columns))
    found = pages(f"matrix: {{steps: [{steps}], cfg_scale: [{scales}]}}\n")
    assert all(page.width * page.height <= MOST_PIXELS for page in found)
    assert all(max(page.width, page.height) <= MOST_SIDE for page in found)
    drawn = [image for page in found for image in page.cells.values()]
    assert len(drawn) == len(set(drawn)) == rows * columns
    assert found[0].tile == TILES[0] or rows * columns > 4
    for page in found:
        high = max(row for row, _ in page.cells) + 1
        bottom = high * (page.tile + 8) + (0 if page.rows else 2 * page.line * high)
        assert bottom < page.height
