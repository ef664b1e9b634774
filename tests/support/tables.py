"""Tests over a table: one test that checks each row, and names the rows that fail.

pytest makes a test of each row of `parametrize`, which costs a millisecond and more; thousands of
rows that only compute take less than that. So a long table is one test. Where each row needs a
fixture of its own, a marker, or a name that somebody types, `parametrize` it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any

import pytest

_MOST_SHOWN = 20
_LONGEST_NAME = 100


def table(
    names: str | Sequence[str],
    rows: Iterable[Any],
    ids: Iterable[object] | Callable[[Any], object] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run the test for each row, with the arguments that pytest.mark.parametrize takes. All rows
    are run; then the test fails as the first one that failed, and names each of them."""
    arguments = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
    named = list(_named(rows, len(arguments), ids))
    assert named, "a table without rows tests nothing"

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @wraps(test)
        def whole(**fixtures: object) -> None:
            failed: list[tuple[str, BaseException]] = []
            for name, row in named:
                try:
                    test(**dict(zip(arguments, row, strict=True)), **fixtures)
                except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001
                    failed.append((name, error))
            if failed:
                raise AssertionError(_told(failed, len(named))) from failed[0][1]

        signature = inspect.signature(test)
        left = [p for name, p in signature.parameters.items() if name not in arguments]
        whole.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        del whole.__wrapped__  # type: ignore[attr-defined]  # pytest would look for fixtures there
        return whole

    return decorate


def _named(
    rows: Iterable[Any], width: int, ids: Iterable[object] | Callable[[Any], object] | None
) -> Iterator[tuple[str, Sequence[Any]]]:
    given = [] if ids is None or callable(ids) else list(ids)
    for number, row in enumerate(rows):
        name: object = given[number] if given else None
        if isinstance(row, type(pytest.param())):
            assert not row.marks, "a row with a marker is a test of its own"
            name, row = row.id, row.values
        elif width == 1:
            row = (row,)
        if callable(ids):
            name = "-".join(str(ids(value)) for value in row)
        yield str(name or "-".join(map(repr, row)))[:_LONGEST_NAME], row


def _told(failed: Sequence[tuple[str, BaseException]], rows: int) -> str:
    lines = [f"{len(failed)} of {rows} rows fail; above is the first one"]
    for name, error in failed[:_MOST_SHOWN]:
        said = str(error).strip() or type(error).__name__
        lines.append(f"  {name}: {said.splitlines()[0][:200]}")
    return "\n".join(lines + ["  …"] * (len(failed) > _MOST_SHOWN))
