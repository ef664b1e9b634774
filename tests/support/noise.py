"""sdwatch with noise in place of every text for people: `python -m tests.support.noise MODE` takes
the same decisions as always, and prints them as JSON.

An import hook rewrites sdwatch as it is loaded: each literal that reads like words for people is
replaced, with line ends, placeholders and blanks left as they are. MODE is `plain` (as it is),
`same` (all texts are alike) or `different` (no two are): a text that is compared with another, or
searched for a third, decides otherwise in one of them.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import itertools
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import sdwatch

PACKAGE = Path(sdwatch.__file__).parent
MODES = ("plain", "same", "different")

WORDS = re.compile(r"[A-Za-z'`][A-Za-z'`.,;:-]* +[A-Za-z'`(]")
"""Two words with a blank between them read like a text for people."""

_WORD = re.compile(r"\{[^{}]*\}|%[A-Za-z]|[A-Za-z]+")

WRITTEN_BY_OTHERS = {
    "policy/failure/sdnext_exceptions.py": "SD.Next's log",
    "policy/job/text/document.py": "PyYAML's and libyaml's errors",
    "policy/failure/extensions.py": "what WebUIs print of their extensions",
    "policy/failure/observation.py": "what WebUIs print",
    "policy/failure/tail_marks.py": "sdwatch's own marks in a tail, which it finds again",
    "policy/failure/noise.py": "what WebUIs print and does not matter",
    "policy/privacy/redaction.py": "what stands in place of prompts, and is found again",
    "policy/failure/tracebacks.py": "Python's tracebacks",
    "policy/privacy/common_words.py": "words of WebUIs' logs",
    "policy/failure/earlier_records.py": "journals of earlier versions",
    "simulator": "a WebUI of its own",
}
"""Modules, or folders, whose literals are held against what others wrote."""

TABLES_OF_OTHERS = {
    "policy/failure/error_lines.py": {
        "ERROR_SIGNS",
        "TRACEBACK",
        "WORST_SIGNS",
        "_FATAL",
        "_STACK",
    },
    "policy/failure/exits.py": {"_NAMES"},
    "policy/failure/fallbacks.py": {"_FALLBACKS", "_EMBEDDING"},
    "webui/http/reply.py": {"_NO_SUCH_ROUTE"},
}
"""The same of single tables."""


class Noise(ast.NodeTransformer):
    """Replaces the texts of one module; `kept`: names of tables that are left as they are."""

    def __init__(self, mode: str, kept: set[str], numbers: Iterator[int]) -> None:
        self._mode = mode
        self._kept = kept
        self._numbers = numbers

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
        if "StrEnum" in bases:  # its values are codes, on disk and in data
            return node
        mode = self._mode
        if "Enum" in bases:  # two members with one value would be one
            self._mode = "different"
        found = self.generic_visit(node)
        self._mode = mode
        return found

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        return node if names & self._kept else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        is_kept = isinstance(node.target, ast.Name) and node.target.id in self._kept
        return node if is_kept else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        is_pattern = isinstance(node.func, ast.Attribute) and (
            isinstance(node.func.value, ast.Name) and node.func.value.id == "re"
        )
        return node if is_pattern else self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
        if any(WORDS.search(part) for part in parts) or any(" " in part for part in parts):
            for part in node.values:
                if isinstance(part, ast.Constant):
                    part.value = self._noise(part.value)
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                part.value = self.visit(part.value)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, str) and WORDS.search(node.value):
            return ast.copy_location(ast.Constant(self._noise(node.value)), node)
        return node

    def _noise(self, text: str) -> str:
        word = f"zq{next(self._numbers)}" if self._mode == "different" else "zq"
        return _WORD.sub(lambda m: m[0] if m[0][0] in "{%" else word, text)


class Loader(importlib.machinery.SourceFileLoader):
    """Loads one module of sdwatch with noise in it."""

    mode = "plain"
    numbers = itertools.count(1)

    def source_to_code(self, data: Any, path: Any, *, _optimize: int = -1) -> CodeType:
        tree = ast.parse(data)
        file = Path(path).relative_to(PACKAGE).as_posix()
        if not {file, file.partition("/")[0]} & WRITTEN_BY_OTHERS.keys():
            kept = TABLES_OF_OTHERS.get(file, set())
            tree = Noise(self.mode, kept, self.numbers).visit(tree)
        code: CodeType = compile(tree, path, "exec", dont_inherit=True, optimize=_optimize)
        return code

    def get_code(self, fullname: str) -> CodeType | None:
        """Never from a cache."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of sdwatch, before all other finders."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if not fullname.startswith("sdwatch."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = Loader(fullname, spec.loader.path)
        return spec


def install(mode: str) -> None:
    """From here on sdwatch is loaded with noise; nothing of it may be loaded yet."""
    assert not [name for name in sys.modules if name.startswith("sdwatch.")]
    if mode == "plain":
        return
    Loader.mode = mode
    sys.meta_path.insert(0, Finder())
    from sdwatch.policy.failure import signature_file

    parse = signature_file.parse_signatures

    def noisy(*args: Any, **more: Any) -> Any:
        """Signatures with other words and the same patterns."""
        numbers = itertools.count(1)
        return tuple(
            each.model_copy(update={"cause": f"zq{n}", "advice": f"zq{n}"})
            if mode == "different"
            else each.model_copy(update={"cause": "zq", "advice": "zq"})
            for each, n in zip(parse(*args, **more), numbers, strict=False)
        )

    signature_file.parse_signatures = noisy


if __name__ == "__main__":
    install(sys.argv[1])
    from tests.support.decisions import decisions

    print(json.dumps(decisions(), indent=1, default=str))
