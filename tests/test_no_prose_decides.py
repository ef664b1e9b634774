"""No code compares, searches or matches the words that sdwatch itself makes for people."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sdwatch

PACKAGE = Path(sdwatch.__file__).parent

TEXTS = {"message", "reason", "cause", "why", "advice", "told"}
"""How attributes and variables are called that hold words for people."""

SEARCHES = {
    "count", "endswith", "find", "findall", "finditer", "fullmatch", "get", "index", "match",
    "partition", "removeprefix", "removesuffix", "rfind", "rindex", "rpartition", "rsplit",
    "search", "split", "startswith",
}  # fmt: skip
"""What looks into a text. Of these, what has a text of TEXTS as its object or its argument."""

EXEMPT = {
    # The words of versions that wrote no codes; this is their reader.
    "policy/failure/earlier_records.py": {"why", "message"},
    "simulator": TEXTS,  # a WebUI of its own, which imports nothing of the rest
}


def prose_that_decides(source: str) -> list[tuple[int, str]]:
    """Line and name of each text for people that `source` compares, searches or matches."""
    found = {
        (node.lineno, name)
        for node in ast.walk(ast.parse(source))
        for looked_at in _looked_at(node)
        for name in _names_in(looked_at)
        if name in TEXTS
    }
    return sorted(found)


def _looked_at(node: ast.AST) -> Iterator[ast.AST]:
    """The expressions whose text decides in this one. Whether there is a text at all, as `if why`
    or `why is None`, says nothing of its words."""
    if isinstance(node, ast.Compare) and not _asks_for_none(node):
        yield from (node.left, *node.comparators)
    elif isinstance(node, ast.Match):
        yield node.subject
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in SEARCHES:
            yield from (node.func.value, *node.args)
    elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Store):
        yield node.slice  # a table that is asked by a text


def _asks_for_none(node: ast.Compare) -> bool:
    is_identity = all(isinstance(op, ast.Is | ast.IsNot) for op in node.ops)
    return is_identity and all(
        isinstance(each, ast.Constant) and each.value is None for each in node.comparators
    )


def _names_in(node: ast.AST) -> Iterator[str]:
    """The names in an expression that are the text itself, or a part of it: not those whose
    attribute is asked, as `why.code`, nor what a function is called with."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute):  # a text in other letters: why.lower()
            yield from _names_in(node.func.value)
        elif isinstance(node.func, ast.Name) and node.func.id in ("str", "repr", "set", "sorted"):
            yield from (name for each in node.args for name in _names_in(each))
    elif isinstance(node, ast.Subscript):
        yield from _names_in(node.value)
    elif not isinstance(node, ast.Lambda):
        for each in ast.iter_child_nodes(node):
            yield from _names_in(each)


def sources() -> list[str]:
    return [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]


def exempt(file: str) -> set[str]:
    return EXEMPT.get(file, EXEMPT.get(file.partition("/")[0], set()))


def test_no_text_for_people_is_compared_searched_or_matched() -> None:
    found = [
        f"sdwatch/{file}:{line}: {name}"
        for file in sources()
        for line, name in prose_that_decides((PACKAGE / file).read_text(encoding="utf-8"))
        if name not in exempt(file)
    ]
    assert found == []


@pytest.mark.parametrize("file", [file for file in EXEMPT if file.endswith(".py")])
def test_every_exemption_is_still_needed(file: str) -> None:
    found = prose_that_decides((PACKAGE / file).read_text(encoding="utf-8"))
    assert {name for _, name in found} == EXEMPT[file]


BAD = (
    "if trouble.cause != self.reason: pass",
    "if NO_ROOM in reason: pass",
    'if "is taken by" in str(reason): pass',
    "if reason not in (A, B): pass",
    'why, _, advice = reason.partition(". ")',
    'if error.message.lower().startswith("port"): pass',
    'WebUIStuckError(unwell.reason.removeprefix(f"{what}: "))',
    'if re.search("api", probe.reason): pass',
    "if _PATTERN.fullmatch(verdict.advice): pass",
    'match told:\n    case "x": pass',
    'match trouble.cause:\n    case "x": pass',
    'if told == ": done: ": pass',
    "x = _PASSING[found.reason]",
    'x = _PASSING.get(found.reason, "")',
    "if attempt.message != why[0]: pass",
    "if sorted(cause) == sorted(other): pass",
    "if [each for each in all if each.why == why]: pass",
    'if f"{name}: {reason}" == line: pass',
)
GOOD = (
    "if why: pass",
    "if why := look(): pass",
    "if reason is None or not cause: pass",
    "if trouble.key != held.trouble.key: pass",
    "if why.code is HoldCode.NO_ROOM: pass",
    "if len(told) > 3: pass",
    "told[-1]",
    'print(f"{name}: {reason}")',
    "message = Replied(post, result)\nif isinstance(message, Replied): pass",
)


@pytest.mark.parametrize("snippet", BAD)
def test_a_text_that_decides_is_found(snippet: str) -> None:
    assert prose_that_decides(snippet)


@pytest.mark.parametrize("snippet", GOOD)
def test_what_asks_for_a_value_or_whether_there_is_a_text_is_not_found(snippet: str) -> None:
    assert prose_that_decides(snippet) == []
