"""The words of docs/words.txt are in no text that people read.

`python -m tests.test_words` writes tests/words_not_yet.txt again: the files that still have some.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.test_structure import ROOT, files_of_the_repository

WORDS = ROOT / "docs/words.txt"
NOT_YET = ROOT / "tests/words_not_yet.txt"

# Where a word is not a choice of ours: a list of words, the history, what the simulator does.
EXEMPT = {
    "docs/words.txt": ".",
    "tests/test_words.py": ".",
    "tests/words_not_yet.txt": ".",
    "sdwatch/policy/privacy/common_words.py": ".",
    "sdwatch/simulator/": "draws",
    # Keys of the heartbeat and the journal, which earlier versions wrote.
    "sdwatch/spool/heartbeat.py": "begins",
    "sdwatch/spool/recorder.py": "unwell",
    "tests/webui/test_simulator": "draws",
}
READ = {".md", ".yaml", ".yml", ".py", ".txt", ".toml"}


@cache
def avoided() -> list[tuple[re.Pattern[str], str]]:
    """Each expression with what to write instead."""
    lines = WORDS.read_text("utf-8").splitlines()
    pairs = [line.split(" => ") for line in lines if line and not line.startswith("#")]
    return [(re.compile(word, re.IGNORECASE), instead) for word, instead in pairs]


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """What people read of a file, with its line. Of tests the names, docstrings and comments: their
    strings are what WebUIs and people wrote."""
    text = path.read_text("utf-8")
    if path.suffix == ".py":
        yield from _comments(text)
        yield from _strings(ast.parse(text), only_docstrings="tests" in path.parts)
    else:
        if path.suffix == ".md":
            text = re.sub(r"^```.*?^```", _blank, text, flags=re.DOTALL | re.MULTILINE)
        yield from enumerate(text.splitlines(), 1)


def _blank(found: re.Match[str]) -> str:
    return "\n" * found[0].count("\n")


def _comments(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def _strings(tree: ast.Module, *, only_docstrings: bool) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.lineno, node.name.replace("_", " ")
        if only_docstrings and isinstance(node, ast.Expr):
            node = node.value
        elif only_docstrings:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for offset, line in enumerate(node.value.splitlines()):
                yield node.lineno + offset, line


def found_in(path: Path) -> list[str]:
    """Each avoided word of a file, with its place and what to write instead."""
    name = path.relative_to(ROOT).as_posix()
    exempt = [words for start, words in EXEMPT.items() if name.startswith(start)]
    found = []
    for line, text in texts_of(path):
        read = re.sub(r"`[^`]*`", "", text)
        for word, instead in avoided():
            if any(re.search(words, word.pattern) for words in exempt):
                continue
            found += [f'{name}:{line}: "{hit[0]}" => {instead}' for hit in word.finditer(read)]
    return found


def files() -> list[Path]:
    return [p for p in files_of_the_repository() if p.suffix in READ and p.is_file()]


def not_yet() -> set[str]:
    lines = NOT_YET.read_text("utf-8").splitlines() if NOT_YET.is_file() else []
    return {line for line in lines if line and not line.startswith("#")}


@pytest.mark.parametrize("path", files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_text_has_a_word_that_we_avoid(path: Path) -> None:
    found, name = found_in(path), path.relative_to(ROOT).as_posix()
    if name in not_yet():
        assert found, f"{name} is clean: take its line out of tests/words_not_yet.txt"
    else:
        assert not found, "\n" + "\n".join(found)


def test_the_files_that_are_not_rewritten_yet_exist() -> None:
    gone = sorted(name for name in not_yet() if not (ROOT / name).is_file())
    assert not gone, "take these lines out of tests/words_not_yet.txt, or name where they are now"


@pytest.mark.parametrize(
    "text",
    [
        '"""It goes on by and by."""\n',
        "# The keeper draws.\n",
        'def test_a_run_goes_on():\n    """."""\n',
    ],
)
def test_an_avoided_word_is_found(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(text, encoding="utf-8")
    read = [line for _, line in texts_of(path)]
    assert any(word.search(line) for word, _ in avoided() for line in read)


def main() -> None:
    """Write the list of files that still have words which we avoid."""
    left = sorted(p.relative_to(ROOT).as_posix() for p in files() if found_in(p))
    head = "# Files that still have words of docs/words.txt. Only ever shorter.\n"
    NOT_YET.write_text(head + "".join(f"{name}\n" for name in left), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
