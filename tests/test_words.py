"""The words of docs/words.txt are in no text that people read, and in no name that we give."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path

import pytest

from tests.test_structure import ROOT, files_of_the_repository

WORDS = ROOT / "docs/words.txt"

# Where a word is not a choice of ours: a list of words, the history, what the simulator does.
EXEMPT = {
    # Names of tests and the history of decisions may be short: a_refusal_is_no_crash.
    "tests/": r"is\|are\|was|draw",
    "tests/facts/": ".",
    "tests/recorded/": ".",
    "docs/decisions/": r"is\|are\|was|draw",
    "CHANGELOG.md": "draw",
    "docs/words.txt": ".",
    "tests/test_words.py": ".",
    "sdwatch/policy/privacy/common_words.py": ".",
    "sdwatch/simulator/": "draw|echoes",
    "benchmarks/": "draw",  # of the simulator
    # Bars and boxes in a log, diagrams, and pages of small pictures.
    "sdwatch/webui/log/": "draw",
    "sdwatch/policy/failure/progress.py": "draw",
    "sdwatch/policy/failure/error_lines.py": "draw",
    "sdwatch/spool/contact_sheets.py": "draw",
    "sdwatch/policy/job/points/contact_sheet.py": "draw",
    "docs/make_picture.py": "draw",
    # Keys of the heartbeat and the journal, which earlier versions wrote.
    "sdwatch/spool/heartbeat.py": "begins",
    "sdwatch/policy/failure/earlier_records.py": "unwell",
}
_PARTS = 8
READ = {
    ".md", ".yaml", ".yml", ".py", ".txt", ".toml", ".json", ".js", ".svg", ".css", ".sh",
    "justfile", "run", "Dockerfile",
}  # fmt: skip
"""Files that people read, by the ends of their names, or the names."""


@cache
def avoided(*, in_names: bool = False) -> list[tuple[re.Pattern[str], str]]:
    """Each expression with what to write instead. `in_names`: those for names in code. Two words
    may stand on two lines."""
    lines = WORDS.read_text("utf-8").splitlines()
    pairs = [line.split(" => ") for line in lines if line and not line.startswith("#")]
    return [
        (re.compile(word.removeprefix("name: ").replace(" ", r"\s"), re.IGNORECASE), instead)
        for word, instead in pairs
        if word.startswith("name: ") is in_names
    ]


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """What people read of a file, each with its first line. Of tests the names, docstrings and
    comments: their strings are what WebUIs and people wrote."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        yield from _comments(text)
        yield from _strings(_tree(path), only_docstrings="tests" in path.parts)
    else:
        if path.suffix == ".md":
            text = re.sub(r"^```.*?^```", _blank, text, flags=re.DOTALL | re.MULTILINE)
        yield 1, _without_margins(text)


@lru_cache(maxsize=1)
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def _blank(found: re.Match[str]) -> str:
    return "\n" * found[0].count("\n")


def _without_margins(text: str) -> str:
    """The text with nothing between the last word of a line and the first of the next."""
    return re.sub(r"[ \t]*\n[ \t]*(?:(?:#+|//|>|\*)[ \t]+)?", "\n", text)


def _comments(text: str) -> Iterator[tuple[int, str]]:
    """Those on lines below each other are one text."""
    first, lines = 0, list[str]()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != first + len(lines):
                yield first, "\n".join(lines)
                first, lines = token.start[0], []
            lines.append(token.string.lstrip("# "))
    yield first, "\n".join(lines)


def _strings(tree: ast.Module, *, only_docstrings: bool) -> Iterator[tuple[int, str]]:
    for node in _statements(tree) if only_docstrings else ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.lineno, node.name.replace("_", " ")
        if only_docstrings and isinstance(node, ast.Expr):
            node = node.value
        elif only_docstrings:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, _without_margins(node.value)


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Without what they consist of, which is nearly all of a tree."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        yield (node := waiting.pop())
        for part in ("body", "handlers", "orelse", "finalbody", "cases"):
            waiting += getattr(node, part, ())


def names_of(path: Path) -> Iterator[tuple[int, str]]:
    """What the package calls its modules, classes, functions, arguments and variables: `NotBegun`
    and `not_begun` are both `not begun`."""
    if path.suffix != ".py" or path.parts[len(ROOT.parts)] != "sdwatch":
        return
    yield 1, _as_words(path.stem)
    for node in ast.walk(_tree(path)):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, _as_words(name)
            case ast.arg(arg=name):
                yield node.lineno, _as_words(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield node.lineno, _as_words(name)


def _as_words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ")


def found_in(path: Path) -> list[str]:
    """Each avoided word of a file, with its place and what to write instead."""
    texts = ((line, re.sub(r"`[^`\n]*`", "", text)) for line, text in texts_of(path))
    return [
        *_found_in(path, texts, avoided()),
        *_found_in(path, names_of(path), avoided(in_names=True)),
    ]


def _found_in(
    path: Path, texts: Iterable[tuple[int, str]], words: list[tuple[re.Pattern[str], str]]
) -> Iterator[str]:
    name = path.relative_to(ROOT).as_posix()
    exempt = [words for start, words in EXEMPT.items() if name.startswith(start)]
    texts = list(texts)
    whole = "\n".join(text for _, text in texts)
    for word, instead in words:
        if any(re.search(each, word.pattern) for each in exempt):
            continue
        if word.search(whole):  # once for nearly all files, and not once for each line
            for line, text in texts:
                for hit in word.finditer(text):
                    at = line + text.count("\n", 0, hit.start())
                    yield f'{name}:{at}: "{" ".join(hit[0].split())}" => {instead}'


def files() -> list[Path]:
    return [p for p in files_of_the_repository() if {p.suffix, p.name} & READ and p.is_file()]


def in_parts(paths: list[Path]) -> list[list[Path]]:
    """Tests that each read many files: one for each file would take longer to collect and to
    report than to run, and a single one would be at its limit of time on a busy machine."""
    return [part for first in range(_PARTS) if (part := paths[first::_PARTS])]


@pytest.mark.parametrize(
    "paths", in_parts(files()), ids=lambda paths: f"{paths[0].name} and others"
)
def test_no_text_has_a_word_that_we_avoid(paths: list[Path]) -> None:
    found = [each for path in paths for each in found_in(path)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        '"""It goes on by and by."""\n',
        'def f() -> None:\n    """It stops in\n    order."""\n',
        "# It stops in\n# order.\n",
        "# The keeper draws.\n",
        'def test_a_run_goes_on():\n    """."""\n',
    ],
)
def test_an_avoided_word_is_found(text: str, tmp_path: Path) -> None:
    found_words_in(tmp_path / "x.py", text)


@pytest.mark.parametrize("text", ["It stops in\norder.\n", "key: 1  # it stops\n     # in order\n"])
def test_an_avoided_word_is_found_over_the_end_of_a_line(text: str, tmp_path: Path) -> None:
    found_words_in(tmp_path / "x.yaml", text)
    found_words_in(tmp_path / "justfile", text)


def found_words_in(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    read = [line for _, line in texts_of(path)]
    assert any(word.search(line) for word, _ in avoided() for line in read)


@pytest.mark.parametrize("name", ["doubted_jobs", "NOT_BEGUN", "_told", "Verdict"])
def test_an_avoided_name_is_found(name: str) -> None:
    assert any(word.search(_as_words(name)) for word, _ in avoided(in_names=True))
