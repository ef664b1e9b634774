r"""A refusal of the disk is shown in plain words: no number, and no `C:\\spool`."""

from __future__ import annotations

import ast
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import sdwatch
from sdwatch.system import disk

PACKAGE = Path(sdwatch.__file__).parent
FULL = os.strerror(errno.ENOSPC)

DISK_ERRORS = {
    name
    for name, kind in vars(__import__("builtins")).items()
    if isinstance(kind, type) and issubclass(kind, OSError)
}
WAYS_OUT = {"str", "repr", "debug", "info", "warning", "error", "exception"}
"""What makes text of an error: a function, or a method of a log."""

EXEMPT = {"simulator"}  # a WebUI of its own, which imports nothing of the rest


def raw_errors(source: str) -> list[tuple[int, str]]:
    """Line and name of each error of a disk that becomes text but by `disk.in_words`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and node.name and _names(node.type) & DISK_ERRORS:
            found |= {(line, node.name) for line in _told(node.body, node.name)}
        elif isinstance(node, ast.FunctionDef):
            for each in [*node.args.args, *node.args.kwonlyargs]:
                if _names(each.annotation) & DISK_ERRORS:
                    found |= {(line, each.arg) for line in _told(node.body, each.arg)}
    return sorted(found)


def _names(node: ast.AST | None) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)} if node else set()


def _told(body: list[ast.stmt], name: str) -> Iterator[int]:
    for statement in body:
        for node in ast.walk(statement):
            said: list[ast.expr] = []
            if isinstance(node, ast.FormattedValue):
                said = [node.value]
            elif isinstance(node, ast.Call) and _called(node) in WAYS_OUT:
                said = node.args
            if any(isinstance(each, ast.Name) and each.id == name for each in said):
                yield node.lineno


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


@pytest.mark.parametrize(
    "source",
    [
        "try: f()\nexcept OSError as error: text = f'{error}'",
        "try: f()\nexcept (ValueError, PermissionError) as e:\n    if x: return str(e)",
        "try: f()\nexcept OSError as error: log.warning('%s: %s', path, error)",
        "def f(path: Path, why: OSError) -> str: return f'{path}: {why}'",
        "def f(path: Path, *, why: OSError | None) -> str: return repr(why)",
    ],
)
def test_the_search_finds_each_way_to_show_an_error_raw(source: str) -> None:
    assert raw_errors(source)


@pytest.mark.parametrize(
    "source",
    [
        "try: f()\nexcept OSError as error: text = f'{disk.in_words(error)}'",
        "try: f()\nexcept OSError as error: raise SpoolError(path) from error",
        "try: f()\nexcept ValueError as error: text = f'{error}'",
        "def f(why: OSError) -> str: return disk.in_words(why)",
    ],
)
def test_the_search_leaves_the_rest_alone(source: str) -> None:
    assert not raw_errors(source)


MODULES = sorted(PACKAGE.rglob("*.py"))


def test_no_module_shows_an_error_of_the_disk_raw() -> None:
    files = {path.relative_to(PACKAGE): path for path in MODULES}
    found = [
        f"sdwatch/{file.as_posix()}:{line}: {name}"
        for file, path in files.items()
        if file.parts[0] not in EXEMPT
        for line, name in raw_errors(path.read_text(encoding="utf-8"))
    ]
    assert not found, "say disk.in_words(error)"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, FULL, "/spool/job.yaml"), f"{FULL}: /spool/job.yaml"),
        (OSError(errno.ENOSPC, FULL), FULL),
        (OSError(errno.ENOSPC, FULL, b"/spool/b"), f"{FULL}: /spool/b"),
        (OSError(errno.ENOSPC, FULL, 7), FULL),
        (OSError(errno.EXDEV, "Cross", "a", None, "b"), "Cross: a -> b"),
        (OSError(errno.EACCES, "Denied", "C:\\spool\\job"), "Denied: C:\\spool\\job"),
        (OSError(errno.EACCES, "Denied", "\\\\?\\C:\\spool"), "Denied: C:\\spool"),
        (OSError(errno.EACCES, "Denied", "\\\\?\\UNC\\nas\\spool"), "Denied: \\\\nas\\spool"),
        (OSError(errno.EACCES, "Denied", "\\\\?\\Volume{1}\\a"), "Denied: \\\\?\\Volume{1}\\a"),
        (OSError("no room"), "no room"),
        (TimeoutError(), "TimeoutError"),
        (ValueError("embedded null byte"), "embedded null byte"),
    ],
)
def test_an_error_in_words_has_no_number_and_the_path_as_people_write_it(
    error: Exception, words: str
) -> None:
    assert disk.in_words(error) == words
