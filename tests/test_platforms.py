"""Each test that Windows does not run says why, in one way: `@pytest.mark.posix_only("why")`."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SYSTEM_NAMES = ("win32", "linux", "nt", "posix", "darwin")


def sources() -> list[Path]:
    return sorted(TESTS.rglob("*.py"))


def calls(path: Path, name: str) -> Iterator[ast.Call]:
    """The calls of methods of this name."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)) if f".{name}" in text else ():
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == name:
            yield node


def test_each_posix_only_gives_a_reason() -> None:
    found = 0
    for path in sources():
        text = path.read_text(encoding="utf-8")
        reasons = re.findall(r'(?<!@)pytest\.mark\.posix_only\("([^"]{4,})"\)', text)
        reasons += re.findall(r'@pytest\.mark\.posix_only\("([^"]{4,})"\)', text)
        if path != Path(__file__):
            assert len(reasons) == text.count("mark.posix_only"), f"{path}: posix_only, and why?"
            found += len(reasons)
    assert found > 20


@pytest.mark.parametrize("name", ["skipif", "skip", "xfail"])
def test_no_other_mark_is_used_to_skip_an_operating_system(name: str) -> None:
    for path in sources():
        for call in calls(path, name):
            if call.args:
                named = {n.value for n in ast.walk(call.args[0]) if isinstance(n, ast.Constant)}
                only_there = any(isinstance(n, ast.NotEq) for n in ast.walk(call.args[0]))
                is_named = named & set(SYSTEM_NAMES) and not only_there
                assert not is_named, f"{path}, line {call.lineno}: use posix_only"


def test_a_posix_only_mark_without_a_reason_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        (TESTS / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    (tmp_path / "test_one.py").write_text(
        "import pytest\n\n@pytest.mark.posix_only\ndef test_one():\n    pass\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=", "."]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert ended.returncode == 4, ended.stdout
    assert "posix_only needs one text that says why" in ended.stdout + ended.stderr
