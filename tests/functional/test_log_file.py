"""The monitor's log on a disk that refuses it: said once, in words, and written again later."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdwatch.cli.shared.log_files import set_up_logging
from sdwatch.policy.report.notice import Notice
from sdwatch.system import patience

log = logging.getLogger("sdwatch.test")

# With a limit on the size of a file, which refuses as a full disk does.
_FULL = """
import logging, resource, sys
from pathlib import Path
from sdwatch.cli.shared.log_files import set_up_logging

log = logging.getLogger("sdwatch.test")
set_up_logging(Path("sdwatch.log"), 2000, lambda notice: print(notice, flush=True))
log.info("before")
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10, most))
for number in range(100):
    log.info("lost %d", number)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
for number in range(100):
    log.info("kept %d", number)
"""


@pytest.fixture
def restored() -> Iterator[None]:
    """The loggers as they were before."""
    logger = logging.getLogger("sdwatch")
    before, level = list(logger.handlers), logger.level
    yield
    for handler in set(logger.handlers) - set(before):
        handler.close()
    logger.handlers[:] = before
    logger.setLevel(level)


@pytest.mark.usefixtures("restored")
def test_a_log_that_cannot_be_opened_is_named_once_and_written_once_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(patience, "HELD_FOR", 0.0)
    path, notices = tmp_path / "sdwatch.log", list[Notice]()
    path.mkdir()
    set_up_logging(path, 10_000, notices.append)
    for number in range(5):
        log.info("lost %d", number)
    (notice,) = notices
    assert notice.text.startswith(f"the log {path} cannot be written: ")
    assert "Errno" not in notice.text
    path.rmdir()
    log.info("kept")
    assert path.read_text(encoding="utf-8").endswith("kept\n")
    assert len(notices) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.posix_only("a limit on the size of a file")
def test_a_log_that_the_disk_refused_is_written_again_once_there_is_room(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _FULL], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stderr == ""
    (line,) = ended.stdout.splitlines()
    assert line == f"the log {tmp_path / 'sdwatch.log'} cannot be written: File too large"
    assert "kept 99" in (tmp_path / "sdwatch.log").read_text()
