"""What a WebUI prints once in its life is found in its whole output, however long ago that was."""

from __future__ import annotations

import re
from pathlib import Path

from sdwatch.webui.log.tail_capture import first_lines_with

CAST = re.compile("invalid value encountered in cast")
OTHER = re.compile(r"other \d")


def test_the_first_line_of_each_is_found_in_any_of_the_files(tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    out.write_text("other 1\nother 2\n")
    flood = "a line of a flood\n" * 100_000
    err.write_text(f"  a.py:1: RuntimeWarning: {CAST.pattern}\n{flood}")
    found = first_lines_with((out, err), (CAST, OTHER))
    assert set(found) == {"other 1", f"a.py:1: RuntimeWarning: {CAST.pattern}"}
    assert first_lines_with((out,), (CAST,)) == ()


def test_a_file_that_cannot_be_read_has_none(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe" * 10)
    assert first_lines_with((tmp_path / "gone", tmp_path, tmp_path / "binary"), (CAST,)) == ()


def test_a_line_without_an_end_is_read_in_parts(tmp_path: Path) -> None:
    (tmp_path / "bar").write_bytes(b"." * (3 << 20) + b"\nother 3")
    assert first_lines_with((tmp_path / "bar",), (OTHER,)) == ("other 3",)
