"""Files and folders that are closed to the monitor, which runs as another user than root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.as_user import start_as
from tests.support.helpers import wait_until
from tests.support.monitored import EXTERNAL, Monitored, job, monitored

ROOT = Path(__file__).parents[2]
NOBODY = 65534
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

pytestmark = pytest.mark.posix_only("modes and users")


@contextmanager
def as_nobody() -> Iterator[Monitored]:
    """A monitor that belongs to nobody, like its folders; its WebUI is the test's own."""
    folder = Path(tempfile.mkdtemp(prefix="sdwatch-nobody-"))
    folder.chmod(0o755)
    webui: subprocess.Popen[bytes] | None = None
    try:
        settings = {"arrival_timeout": 4}
        with monitored(folder, settings=settings, webui=EXTERNAL) as spool:
            command = [sys.executable, "-m", "sdwatch.simulator", "--port", str(spool.port)]
            command += ["--boot-time", "0", "--load-time", "0", "--step-time", "0.005"]
            with open(folder / "webui.log", "wb") as log:
                webui = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            yield spool
    finally:
        if webui is not None:
            webui.kill()
            webui.wait()
        for path in folder.rglob("*"):
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(folder)


def start(spool: Monitored) -> None:
    for path in (spool.root, *spool.root.rglob("*")):
        if IS_ROOT and path != spool.config_file and "fixed" not in path.parts:
            os.chown(path, NOBODY, NOBODY)
    start_as(spool, NOBODY)


def closed(path: Path) -> Path:
    """A job file that its own user may not read; for a monitor of root, of root."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(job(path.stem))
    path.chmod(0)
    return path


def waiting(spool: Monitored) -> dict[str, str]:
    found: dict[str, str] = spool.status().get("waiting", {})
    return found


def test_an_unreadable_job_is_waited_for_and_fails_only_if_it_can_be_moved(
    tmp_path: Path,
) -> None:
    del tmp_path  # closed to others, as are all folders above it
    with as_nobody() as spool:
        later = closed(spool.inbox / "later.yaml")
        closed(spool.inbox / "never.yaml")
        closed(spool.inbox / "fixed" / "stays.yaml")
        closed(spool.inbox / "shut" / "within.yaml")
        (spool.inbox / "fixed").chmod(0o555)
        (spool.inbox / "good.yaml").write_text(job())
        start(spool)
        (spool.inbox / "shut").chmod(0)
        closed_to_us = dict.fromkeys(
            ("later.yaml", "shut/"), "cannot be read yet: Permission denied"
        )
        wait_until(lambda: closed_to_us.items() <= waiting(spool).items(), 30, "both are told")
        later.chmod(0o644)

        spool.wait_for(done=2, failed=1)
        (failed,) = spool.failed()
        assert "never" in failed.name
        why = (failed / "WHY.txt").read_text(encoding="utf-8")
        assert "never.yaml: cannot be read: Permission denied" in why

        stays = "fixed/stays.yaml"
        wait_until(lambda: "cannot be claimed" in waiting(spool).get(stays, ""), 30)
        assert (spool.inbox / stays).exists()
        assert spool.working() == []
        assert spool.signal(signal.SIGTERM) == 0, spool.monitor_log
