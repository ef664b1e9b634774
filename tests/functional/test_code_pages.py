"""What is printed into a pipe in an old code page of Windows: each sign that the page has, and `?`
for each other one; no command fails for it."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sdwatch.cli.shared.exit_codes import ExitCode
from tests.functional.cli import LIMIT, ROOT, drop, make_spool
from tests.support import warm

NAMES = ("├─ box │ 50%", "café █ …", "画像 🏰", "Ärger – „quoted“")
WRONG = "sampler_name: ╭─ Straße ─╮\n"


Printed = tuple[int, bytes, bytes]


def environment(encoding: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}


def printed(cwd: Path, encoding: str, *words: str) -> Printed:
    """The exit code of a command and what it prints, with the ends of lines as on POSIX."""
    env = environment(encoding)
    return _seen(warm.run("-m", "sdwatch", *words, cwd=cwd, env=env, limit=LIMIT))


def printed_from_a_start(cwd: Path, encoding: str, *words: str) -> Printed:
    """The same of a Python that was started with this code page."""
    return _seen(
        subprocess.run(
            [sys.executable, "-m", "sdwatch", *words],
            cwd=cwd,
            env=environment(encoding),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
    )


def _seen(ended: subprocess.CompletedProcess[bytes]) -> Printed:
    out, err = (text.replace(b"\r\n", b"\n") for text in (ended.stdout, ended.stderr))
    return ended.returncode, out, err


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With jobs that wait, and one that has failed."""
    cwd = make_spool(tmp_path_factory.mktemp("pages"))
    drop(cwd, f"{NAMES[0]}.yaml", "prompt: a\n" + WRONG)
    code, out, err = printed(cwd, "utf-8", "run", "--once")
    assert code == ExitCode.OK, (out, err)
    for name in NAMES[1:]:
        drop(cwd, f"{name}.yaml")
    drop(cwd, f"{NAMES[0]}.yaml", "prompt: a\n" + WRONG)
    return cwd


COMMANDS = (
    ("list",),
    ("check", *(f"inbox/{name}.yaml" for name in NAMES)),
    ("status",),
    ("retry", "no such ├─ run … 画"),
    ("cancel", "café █ … 城"),
)


@pytest.fixture(scope="module")
def whole_of(spool: Path) -> Callable[..., Printed]:
    """What a command prints in UTF-8, by its words."""
    return functools.cache(lambda *words: printed(spool, "utf-8", *words))


@pytest.mark.parametrize("encoding", ["cp437", "cp1252"])
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_code_page_loses_only_the_signs_that_it_has_not(
    spool: Path, whole_of: Callable[..., Printed], words: tuple[str, ...], encoding: str
) -> None:
    whole = whole_of(*words)
    # Each command once from a start of Python, and each code page.
    turn = COMMANDS.index(words) + (encoding == "cp437")
    narrow = (printed_from_a_start if turn % 2 else printed)(spool, encoding, *words)
    assert whole[1] + whole[2], "it prints something"
    texts = [text.decode("utf-8").encode(encoding, "replace") for text in whole[1:]]
    assert narrow == (whole[0], *texts)
    assert b"Traceback" not in narrow[2]


def test_the_names_have_signs_that_each_page_has_and_has_not() -> None:
    for encoding in ("cp437", "cp1252"):
        signs = {sign for name in NAMES for sign in name if sign > "\x7f"}
        kept = {sign for sign in signs if sign.encode(encoding, "ignore")}
        assert kept
        assert signs - kept


@pytest.mark.timeout(300)
@pytest.mark.parametrize("encoding", ["cp437", "cp1252"])
def test_the_demo_ends_well_in_a_code_page(tmp_path: Path, encoding: str) -> None:
    code, out, err = printed_from_a_start(tmp_path, encoding, "demo", str(tmp_path / "Büro"))
    assert code == ExitCode.OK, (out, err)
    assert "Büro".encode(encoding) in out + err
    assert b"Traceback" not in out + err
